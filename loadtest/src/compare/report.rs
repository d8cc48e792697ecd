//! The comparison on the terminal and as JSON.

use std::fmt::Write;

use serde::Serialize;

use super::Settings;
use super::choice::LeftOut;
use super::scenario::{Goal, L4, Measure, Scenario};
use super::summary::{Figure, Ratio, Spread, Summary, Verdict};
use super::trial::Trial;
use crate::report::table::{aligned, beside, figure};

/// What tells this form of JSON from a run's.
pub(crate) const KIND: &str = "compare";

/// A whole comparison.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The version of this form.
    pub(crate) format: u32,
    /// [`KIND`].
    pub(crate) kind: &'static str,
    /// Processor, cores, kernel.
    pub(crate) machine: String,
    /// How it was measured.
    pub(crate) settings: Settings,
    /// Names and versions of the targets.
    pub(crate) targets: Vec<(String, String)>,
    /// What was measured.
    pub(crate) scenarios: Vec<ScenarioReport>,
    /// What could not be measured here.
    pub(crate) left_out: Vec<LeftOut>,
}

/// One scenario's part of it.
#[derive(Debug, Serialize)]
pub(crate) struct ScenarioReport {
    /// The scenario's id.
    pub(crate) id: String,
    /// Its suite.
    pub(crate) suite: &'static str,
    /// Its title.
    pub(crate) title: String,
    /// What `cost` is counted in.
    pub(crate) unit: &'static str,
    /// One a target.
    pub(crate) summaries: Vec<Summary>,
    /// The first target beside each other one.
    pub(crate) ratios: Vec<Ratio>,
    /// The goals, where the gateway took part.
    pub(crate) verdicts: Vec<Verdict>,
    /// What a reader should know before believing the figures.
    pub(crate) notes: Vec<String>,
    /// Every measurement.
    pub(crate) trials: Vec<Trial>,
}

/// What a scenario's cost is counted in.
pub(crate) fn unit(scenario: &Scenario) -> &'static str {
    match scenario.measure {
        Measure::Traffic(_) | Measure::Latency { .. } | Measure::Routes { .. } => "CPU µs/request",
        Measure::Idle { .. } => "KiB/connection",
        Measure::L4(L4::Connection { .. }) => "CPU µs/connection",
        Measure::L4(L4::Services { .. }) => "µs/connect",
        Measure::L4(L4::Changes { .. }) => "ms",
        Measure::L4(L4::Bulk) => "CPU ms/GB",
        // Each of its figures has its own.
        Measure::Control { .. } => "",
    }
}

impl ScenarioReport {
    /// The block on the terminal.
    pub(crate) fn table(&self) -> String {
        let mut rows = vec![vec![
            String::new(),
            self.unit.to_owned(),
            "(range)".to_owned(),
            "requests/s".to_owned(),
            "p50 µs".to_owned(),
            "p99 µs".to_owned(),
            "core busy".to_owned(),
        ]];
        for summary in &self.summaries {
            let mut row =
                vec![summary.target.clone(), figure(summary.cost.median), range(summary.cost)];
            if let Some(traffic) = &summary.traffic {
                row.extend([
                    format!("{:.0}", traffic.requests_per_second.median),
                    format!("{:.0}", traffic.p50_us.median),
                    format!("{:.0}", traffic.p99_us.median),
                    format!(
                        "{:.0} %{}",
                        traffic.target_busy.median * 100.0,
                        if traffic.limited_by_load { "*" } else { "" }
                    ),
                ]);
            }
            rows.push(row);
        }
        if self.summaries.iter().all(|summary| summary.traffic.is_none()) {
            rows.iter_mut().for_each(|row| row.truncate(3));
        }
        let mut text = format!("{} [{}]\n{}", self.title, self.id, aligned(&rows));
        for ratio in &self.ratios {
            let Ratio { subject, against, cost, p50, p99 } = ratio;
            let median = figure(cost.median);
            let _ = write!(text, "  {subject} / {against}: {median} {}", range(*cost));
            if let Some(p50) = p50 {
                let _ = write!(text, ", p50 {} {}", figure(p50.median), range(*p50));
            }
            if let Some(p99) = p99 {
                let _ = write!(text, ", p99 {} {}", figure(p99.median), range(*p99));
            }
            text.push('\n');
        }
        for Verdict { of, goal, figure: reached, met } in &self.verdicts {
            let of = match of {
                Figure::Cost => "",
                Figure::P50 => "p50 ",
                Figure::P99 => "p99 ",
            };
            let limit = match goal {
                Goal::Ratio(limit) | Goal::Kibibytes(limit) | Goal::Milliseconds(limit) => *limit,
            };
            let goal = match goal {
                Goal::Ratio(limit) => format!("at most {limit:.2} times the better"),
                Goal::Kibibytes(limit) => format!("at most {limit} KiB"),
                Goal::Milliseconds(limit) => format!("at most {limit} ms"),
            };
            let met = if *met { "met" } else { "missed" };
            let _ = writeln!(text, "  goal: {of}{goal}: {met} ({})", beside(*reached, limit));
        }
        for note in &self.notes {
            let _ = writeln!(text, "  note: {note}");
        }
        text
    }
}

fn range(spread: Spread) -> String {
    format!("({}–{})", figure(spread.min), figure(spread.max))
}
