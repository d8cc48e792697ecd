//! The comparison on the terminal and as JSON.

use std::fmt::Write;

use serde::Serialize;

use super::Settings;
use super::choice::LeftOut;
use super::scenario::{L4, Measure, Scenario};
use super::summary::{Figure, Ratio, Spread, Summary, TunnelSummary, Verdict};
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
        // Each of their figures has its own.
        Measure::Vpn(_) | Measure::Cluster(_) | Measure::Control { .. } => "",
    }
}

impl ScenarioReport {
    /// The block on the terminal.
    pub(crate) fn table(&self) -> String {
        let rows = match self.summaries.iter().any(|summary| summary.tunnel.is_some()) {
            true => self.tunnel_rows(),
            false => self.request_rows(),
        };
        let mut text = format!("{} [{}]\n{}", self.title, self.id, aligned(&rows));
        for ratio in &self.ratios {
            let Ratio { subject, against, cost, p50, p99, throughput } = ratio;
            let median = figure(cost.median);
            let _ = write!(text, "  {subject} / {against}: {median} {}", range(*cost));
            let more = [("p50", p50), ("p99", p99), ("Gb a CPU second", throughput)];
            for (name, ratio) in more {
                if let Some(ratio) = ratio {
                    let _ = write!(text, ", {name} {} {}", figure(ratio.median), range(*ratio));
                }
            }
            text.push('\n');
        }
        for verdict in &self.verdicts {
            let _ = writeln!(text, "  goal: {}", in_words(verdict));
        }
        for note in &self.notes {
            let _ = writeln!(text, "  note: {note}");
        }
        text
    }

    /// What packets through tunnels showed.
    fn tunnel_rows(&self) -> Vec<Vec<String>> {
        let head =
            ["", self.unit, "(range)", "packets/s", "Gb/s", "Gb/CPU s", "A µs", "B µs", "hosts µs"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for summary in &self.summaries {
            let mut row =
                vec![summary.target.clone(), figure(summary.cost.median), range(summary.cost)];
            if let Some(tunnel) = &summary.tunnel {
                let TunnelSummary { packets_per_second, gigabits_per_second, .. } = tunnel;
                let for_cpu = tunnel.gigabits_per_cpu_second;
                row.extend([
                    format!("{:.0}", packets_per_second.median),
                    figure(gigabits_per_second.median),
                    for_cpu.map_or_else(|| "–".to_owned(), |spread| figure(spread.median)),
                ]);
                row.extend(tunnel.parts_us.iter().map(|part| figure(part.median)));
            }
            rows.push(row);
        }
        rows
    }

    /// What requests and all else showed.
    fn request_rows(&self) -> Vec<Vec<String>> {
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
        rows
    }
}

/// A goal, and whether it was reached: once for text and page.
pub(super) fn in_words(verdict: &Verdict) -> String {
    let Verdict { of, against, goal, figure, met } = verdict;
    let of = match of {
        Figure::Cost => "cost",
        Figure::P50 => "p50",
        Figure::P99 => "p99",
        Figure::Throughput => "throughput",
    };
    let (kind, limit) = goal.parts();
    let words = goal_text(of, kind, limit, against.as_deref());
    let met = if *met { "met" } else { "missed" };
    format!("{words}: {met} ({})", beside(*figure, limit))
}

/// A goal in words, by the names that it has in JSON.
pub(crate) fn goal_text(of: &str, kind: &str, limit: f64, against: Option<&str>) -> String {
    let of = if ["cost", "throughput"].contains(&of) { String::new() } else { format!("{of} ") };
    let better = against.unwrap_or("the better");
    let goal = match kind {
        "ratio" => format!("at most {limit:.2} times {better}"),
        "kibibytes" => format!("at most {limit} KiB"),
        "mebibytes" => format!("at most {limit} MiB"),
        "microseconds" => format!("at most {limit} µs"),
        "milliseconds" => format!("at most {limit} ms"),
        "seconds" => format!("at most {limit} s"),
        "times" => format!("at least {limit} times {better}'s throughput for a CPU second"),
        kind => format!("{kind} at most {limit}"),
    };
    format!("{of}{goal}")
}

fn range(spread: Spread) -> String {
    format!("({}–{})", figure(spread.min), figure(spread.max))
}
