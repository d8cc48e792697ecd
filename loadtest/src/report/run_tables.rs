//! A run's figures as tables, for the terminal and for HTML alike.

use super::impact::impacts;
use super::table::{bytes, count, figure, latency, percent};
use crate::faults::FAILED;
use crate::load::outcome::{Distribution, Named, RunReport, Tally};

/// The quantiles of latency that tables show.
pub(crate) const QUANTILES: [(f64, &str); 5] =
    [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99")];

/// A quantile that the distribution holds; nothing if it does not, or if there were too few
/// operations to tell it from the greatest.
pub(crate) fn quantile(distribution: &Distribution, wanted: f64) -> Option<f64> {
    if (1.0 - wanted) * (distribution.count as f64) < 1.0 {
        return None;
    }
    let is_it = |[quantile, _]: &&[f64; 2]| (quantile - wanted).abs() < 1e-9;
    distribution.quantiles.iter().find(is_it).map(|[_, us]| *us)
}

/// Operations that succeeded, a second.
pub(crate) fn rate(tally: &Tally) -> f64 {
    each_second(tally.succeeded as f64, tally.seconds)
}

/// So much a second; 0 where there was no time, or the report says none that can be.
fn each_second(amount: f64, seconds: f64) -> f64 {
    if seconds > 0.0 && seconds.is_finite() { amount / seconds } else { 0.0 }
}

/// A table whose first column names things.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Table {
    /// What it is about.
    pub(crate) title: &'static str,
    /// The columns.
    pub(crate) head: Vec<String>,
    /// The rows.
    pub(crate) rows: Vec<Vec<String>>,
    /// A line below it.
    pub(crate) note: Option<String>,
}

impl Table {
    fn new(title: &'static str, head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Self {
        let head = head.iter().map(|cell| (*cell).to_owned()).collect();
        Self { title, head, rows: rows.collect(), note: None }
    }
}

/// All that have something to say.
pub(crate) fn all(report: &RunReport) -> Vec<Table> {
    let tables = [
        totals(report),
        tallies(report),
        failures(report),
        processes(report),
        backends(report),
        faults(report),
        settings(report),
    ];
    tables.into_iter().filter(|table| !table.rows.is_empty()).collect()
}

/// What was run. A long value is cut; the JSON has it whole.
fn settings(report: &RunReport) -> Table {
    const MOST: usize = 300;
    let rows = report.settings.iter().map(|(key, value)| {
        let shown: String = value.chars().take(MOST).collect();
        let is_cut = shown.len() < value.len();
        vec![key.clone(), if is_cut { format!("{shown}…") } else { shown }]
    });
    Table::new("Settings", &["", ""], rows)
}

fn totals(report: &RunReport) -> Table {
    let total = &report.total;
    let mut rows = vec![
        vec!["succeeded".to_owned(), count(total.succeeded), format!("{}/s", figure(rate(total)))],
        vec![
            "failed".to_owned(),
            count(total.failed),
            percent(
                total.failed as f64 / total.failed.saturating_add(total.succeeded).max(1) as f64,
            ),
        ],
    ];
    if total.retried > 0 {
        rows.push(vec!["retried".to_owned(), count(total.retried), String::new()]);
    }
    let each_second = each_second(total.content_bytes as f64, total.seconds);
    rows.push(vec![
        "content".to_owned(),
        bytes(total.content_bytes as f64),
        format!("{}/s", bytes(each_second)),
    ]);
    rows.push(vec![
        "connections".to_owned(),
        count(report.connections),
        match report.tls.is_empty() {
            true => String::new(),
            false => format!("{} resumed", count(report.resumed)),
        },
    ]);
    for (parameters, handshakes) in &report.tls {
        rows.push(vec![parameters.clone(), count(*handshakes), "handshakes".to_owned()]);
    }
    rows.push(vec!["time".to_owned(), format!("{} s", figure(report.seconds)), String::new()]);
    Table::new("Totals", &["", "", ""], rows.into_iter())
}

/// Rates and latencies of all together, of each entry of the mix and of each phase.
fn tallies(report: &RunReport) -> Table {
    let named = |kind: &str, parts: &[Named<Tally>]| -> Vec<(String, Tally)> {
        // One part is the whole again.
        let parts = if parts.len() > 1 { parts } else { &[] };
        parts.iter().map(|part| (format!("{kind}{}", part.name), part.value.clone())).collect()
    };
    let all = vec![("all".to_owned(), report.total.clone())];
    let parts = [all, named("mix: ", &report.mix), named("phase: ", &report.phases)].concat();
    let mut head = vec!["latency", "succeeded", "/s", "failed", "mean"];
    head.extend(QUANTILES.map(|(_, name)| name));
    head.push("max");
    let rows = parts.iter().map(|(name, tally)| {
        let mut row = vec![
            name.clone(),
            count(tally.succeeded),
            figure(rate(tally)),
            count(tally.failed),
            latency(tally.latency.mean_us),
        ];
        row.extend(QUANTILES.map(|(wanted, _)| {
            quantile(&tally.latency, wanted).map_or_else(|| "–".to_owned(), latency)
        }));
        row.push(latency(tally.latency.max_us));
        row
    });
    Table::new("Rates and latencies", &head, rows)
}

fn failures(report: &RunReport) -> Table {
    let parts = report.mix.iter().filter(|_| report.mix.len() > 1);
    let parts: Vec<_> = parts.filter(|part| part.value.failed > 0).collect();
    let mut head = vec!["failure", "all"];
    head.extend(parts.iter().map(|part| part.name.as_str()));
    let rows = report.total.failures.iter().map(|(kind, all)| {
        let of = |part: &&Named<Tally>| count(part.value.failures.get(kind).copied().unwrap_or(0));
        [kind.clone(), count(*all)].into_iter().chain(parts.iter().map(of)).collect()
    });
    let first = report.total.first_failure.as_ref();
    Table {
        note: first.map(|first| format!("the first: {first}")),
        ..Table::new("Failures", &head, rows)
    }
}

fn processes(report: &RunReport) -> Table {
    let rows = report.processes.iter().map(|process| {
        vec![
            process.name.clone(),
            format!("{} µs", figure(process.cpu_us_per_operation)),
            percent(each_second(process.cpu_seconds, report.seconds)),
            bytes(process.peak_pss as f64),
        ]
    });
    Table::new("Processes", &["process", "CPU/operation", "of a core", "peak memory"], rows)
}

fn backends(report: &RunReport) -> Table {
    let all = report.backends.values().fold(0_u64, |sum, count| sum.saturating_add(*count));
    let rows = report.backends.iter().map(|(name, answers)| {
        vec![name.clone(), count(*answers), percent(*answers as f64 / all.max(1) as f64)]
    });
    Table::new("Backends", &["backend", "answers", "share"], rows)
}

fn faults(report: &RunReport) -> Table {
    let none = || "–".to_owned();
    let seen = impacts(report).into_iter().map(|impact| {
        let over = impact.over.map_or_else(none, |over| format!("{over:.1} s"));
        let row = vec![
            impact.what.clone(),
            format!("{:.1} s", impact.at),
            over,
            count(impact.failed),
            latency(impact.slowest_us),
            impact.back.text(),
        ];
        (impact.at, row)
    });
    let failed = report.events.iter().filter_map(|event| {
        let what = event.what.strip_prefix(FAILED)?.to_owned();
        let at = format!("{:.1} s", event.at);
        Some((event.at, vec![what, at, none(), none(), none(), "not carried out".to_owned()]))
    });
    let mut rows: Vec<_> = seen.chain(failed).collect();
    rows.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let retried = report.total.retried;
    let head = ["fault", "at", "over at", "failed", "slowest", "as clients saw it"];
    Table {
        note: (retried > 0)
            .then(|| format!("{} operations of the run were tried again", count(retried))),
        ..Table::new("Faults", &head, rows.into_iter().map(|(_, row)| row))
    }
}
