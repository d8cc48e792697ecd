//! A comparison's JSON as it is read back, of this version and of those before it.
//!
//! It is the form of `compare::report` with everything owned, and lenient: a key that is not known
//! is skipped, and one that older versions did not write may be missing. Medians, ranges and ratios
//! are taken from the trials again.

use std::collections::BTreeMap;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::table::{beside, figure};
use crate::compare::report::goal_text;
use crate::compare::summary::Spread;
use crate::load::outcome::Distribution;

/// A whole comparison.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Compared {
    /// Processor, cores, kernel.
    pub(crate) machine: String,
    /// How it was measured.
    pub(crate) settings: Settings,
    /// Names and versions of the targets, the one that matters first.
    pub(crate) targets: Vec<(String, String)>,
    /// What was measured.
    pub(crate) scenarios: Vec<Scenario>,
    /// What could not be measured.
    #[serde(default)]
    pub(crate) left_out: Vec<LeftOut>,
}

/// How it was measured.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(crate) struct Settings {
    /// Passes over all targets.
    pub(crate) passes: u32,
    /// Length of one measurement, seconds.
    pub(crate) window: f64,
    /// Load before it that is not counted, seconds.
    #[serde(default)]
    pub(crate) warm_up: f64,
    /// Connections held idle.
    #[serde(default)]
    pub(crate) idle: u64,
    /// Whether the figures mean nothing.
    #[serde(default)]
    pub(crate) quick: bool,
    /// Who ran on which core.
    #[serde(default)]
    pub(crate) cores: BTreeMap<String, u64>,
}

/// A scenario that was left out.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct LeftOut {
    /// Its id.
    pub(crate) id: String,
    /// What was lacking.
    pub(crate) reason: String,
}

/// One scenario's part.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Scenario {
    /// Its id.
    pub(crate) id: String,
    /// Its suite.
    #[serde(default)]
    pub(crate) suite: String,
    /// Its title.
    pub(crate) title: String,
    /// What `cost` is counted in.
    pub(crate) unit: String,
    /// Goals, and whether they were met.
    #[serde(default)]
    pub(crate) verdicts: Vec<Verdict>,
    /// What a reader should know before believing the figures.
    #[serde(default)]
    pub(crate) notes: Vec<String>,
    /// Every measurement.
    pub(crate) trials: Vec<Trial>,
}

/// A goal, and whether it was met.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Verdict {
    /// The figure: `cost`, `p99`.
    pub(crate) of: String,
    /// Who it is held against, where that is one of several.
    #[serde(default)]
    pub(crate) against: Option<String>,
    /// `ratio`, `kibibytes`, `milliseconds`, …, with the most that is allowed; `times` with the
    /// least.
    pub(crate) goal: BTreeMap<String, f64>,
    /// What was reached.
    pub(crate) figure: f64,
    /// Whether that is within the goal.
    pub(crate) met: bool,
}

impl Verdict {
    /// The goal in words.
    pub(crate) fn goal_text(&self) -> String {
        let goals = self.goal.iter();
        let words =
            goals.map(|(kind, limit)| goal_text(&self.of, kind, *limit, self.against.as_deref()));
        words.collect::<Vec<_>>().join(", ")
    }

    /// What was reached, so that it is told from the goal.
    pub(crate) fn figure_text(&self) -> String {
        let limit = self.goal.values().next();
        limit.map_or_else(|| figure(self.figure), |limit| beside(self.figure, *limit))
    }
}

/// One measurement of one target.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Trial {
    /// The target.
    pub(crate) target: String,
    /// In which pass over all targets.
    pub(crate) pass: u32,
    /// The figure that is compared, in the scenario's unit.
    pub(crate) cost: f64,
    /// Requests or connections behind it.
    #[serde(default)]
    pub(crate) operations: u64,
    /// Requests a second.
    pub(crate) requests_per_second: Option<f64>,
    /// Median latency, µs.
    pub(crate) p50_us: Option<f64>,
    /// The 99th percentile, µs.
    pub(crate) p99_us: Option<f64>,
    /// The share of its core that the target used.
    pub(crate) target_busy: Option<f64>,
    /// Whether the load set the pace.
    #[serde(default)]
    pub(crate) limited_by_load: bool,
    /// The whole distribution of latency.
    pub(crate) latency: Option<Distribution>,
    /// Memory of the target under load.
    pub(crate) memory: Option<Memory>,
    /// Memory with all idle connections.
    pub(crate) after: Option<Memory>,
}

/// Memory of processes, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
pub(crate) struct Memory {
    /// Shared pages counted in part.
    #[serde(default)]
    pub(crate) pss: u64,
}

/// A figure that a trial may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// CPU time of an operation, or memory of a connection.
    Cost,
    /// Operations a second.
    Rate,
    /// Median latency.
    P50,
    /// 99th percentile.
    P99,
    /// Memory.
    Memory,
    /// The share of operations that failed.
    Failures,
}

impl Kind {
    /// The figures of trials.
    pub(crate) const OF_TRIALS: [Self; 5] =
        [Self::Cost, Self::Rate, Self::P50, Self::P99, Self::Memory];

    /// The name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cost => "cost",
            Self::Rate => "rate",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::Memory => "memory",
            Self::Failures => "failures",
        }
    }

    /// Whether more of it is better.
    pub(crate) fn more_is_better(self) -> bool {
        self == Self::Rate
    }
}

impl Trial {
    /// A figure of this trial, if it has it: cost in the scenario's unit, a second, µs, bytes.
    pub(crate) fn figure(&self, kind: Kind) -> Option<f64> {
        let figure = match kind {
            Kind::Cost => Some(self.cost),
            Kind::Rate => self.requests_per_second,
            Kind::P50 => self.p50_us,
            Kind::P99 => self.p99_us,
            Kind::Memory => self.memory.or(self.after).map(|memory| memory.pss as f64),
            Kind::Failures => None,
        };
        figure.filter(|figure| figure.is_finite())
    }
}

impl Compared {
    /// The same as read back from the JSON that a report makes.
    ///
    /// # Errors
    ///
    /// The two forms have drifted apart, which the tests watch over.
    pub(crate) fn of(report: &impl Serialize) -> anyhow::Result<Self> {
        let value = serde_json::to_value(report).context("the comparison as JSON")?;
        serde_json::from_value(value).context("the comparison read back")
    }
}

impl Scenario {
    /// The targets in the order in which they were measured first.
    pub(crate) fn targets(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for trial in &self.trials {
            if !names.contains(&trial.target.as_str()) {
                names.push(&trial.target);
            }
        }
        names
    }

    /// A target's figures, pass by pass.
    pub(crate) fn by_pass(&self, target: &str, kind: Kind) -> BTreeMap<u32, f64> {
        let own = self.trials.iter().filter(|trial| trial.target == target);
        own.filter_map(|trial| Some((trial.pass, trial.figure(kind)?))).collect()
    }

    /// Median and range of a target's figures.
    pub(crate) fn spread(&self, target: &str, kind: Kind) -> Option<Spread> {
        Spread::of(self.by_pass(target, kind).into_values())
    }

    /// Median and range of the ratios of two targets, pass by pass.
    pub(crate) fn ratio(&self, subject: &str, against: &str, kind: Kind) -> Option<Spread> {
        let other = self.by_pass(against, kind);
        let own = self.by_pass(subject, kind);
        let ratio = |(pass, figure): (&u32, &f64)| Some(figure / other.get(pass)?);
        Spread::of(own.iter().filter_map(ratio).filter(|ratio| ratio.is_finite()))
    }

    /// The median, quantile by quantile, of a target's distributions of latency.
    pub(crate) fn latency(&self, target: &str) -> Option<Distribution> {
        let own = self.trials.iter().filter(|trial| trial.target == target);
        let all: Vec<&Distribution> = own.filter_map(|trial| trial.latency.as_ref()).collect();
        let first = all.first()?;
        let middle = |figure: &dyn Fn(&Distribution) -> Option<f64>| {
            Spread::of(all.iter().filter_map(|distribution| figure(distribution)))
                .map_or(0.0, |spread| spread.median)
        };
        let quantiles = first.quantiles.iter().enumerate().map(|(place, [quantile, _])| {
            let at = |other: &Distribution| {
                other.quantiles.get(place).filter(|[q, _]| q == quantile).map(|[_, us]| *us)
            };
            [*quantile, middle(&at)]
        });
        Some(Distribution {
            count: all.iter().map(|distribution| distribution.count).sum(),
            mean_us: middle(&|distribution| Some(distribution.mean_us)),
            max_us: middle(&|distribution| Some(distribution.max_us)),
            quantiles: quantiles.collect(),
        })
    }
}
