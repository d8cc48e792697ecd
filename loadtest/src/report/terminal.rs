//! Reports as text.

use std::fmt::Write;

use super::compared::{Compared, Kind, Scenario};
use super::impact::failed_faults;
use super::run_tables::{self, Table};
use super::table::{aligned, bytes, figure, latency, plain, range};
use crate::compare::summary::Spread;
use crate::load::outcome::RunReport;

/// A run, what limits the belief in its figures first.
pub(crate) fn run(report: &RunReport) -> String {
    let mut text = format!("{}\n", report.name);
    for line in [report.description.trim_end(), &report.machine] {
        if !line.is_empty() {
            let _ = writeln!(text, "{line}");
        }
    }
    text.push('\n');
    let notes: Vec<_> = report.notes.iter().cloned().chain(failed_faults(report)).collect();
    for note in &notes {
        let _ = writeln!(text, "note: {note}");
    }
    if !notes.is_empty() {
        text.push('\n');
    }
    for Table { title, head, mut rows, note } in run_tables::all(report) {
        if title == "Settings" {
            // Words, which stand to the left.
            text.push_str("Settings\n");
            for row in &rows {
                let _ = writeln!(text, "  {}", row.join(": "));
            }
            text.push('\n');
            continue;
        }
        if head.iter().any(|cell| !cell.is_empty()) {
            rows.insert(0, head);
        }
        text.push_str(&aligned(&rows));
        if let Some(note) = note {
            let _ = writeln!(text, "  {note}");
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    plain(&text)
}

/// A comparison that was read back.
pub(crate) fn compare(report: &Compared) -> String {
    let mut text = format!("{}\n", report.machine);
    for (name, version) in &report.targets {
        let _ = writeln!(text, "  {name}: {version}");
    }
    let settings = &report.settings;
    let _ = writeln!(
        text,
        "{} passes of {:.1} s; medians (ranges)\n",
        settings.passes, settings.window
    );
    if settings.quick {
        text.push_str("a quick run: its figures mean nothing\n\n");
    }
    for scenario in &report.scenarios {
        let _ = writeln!(text, "{}", self::scenario(scenario));
    }
    for left_out in &report.left_out {
        let _ = writeln!(text, "not measured: {}: {}", left_out.id, left_out.reason);
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    plain(&text)
}

fn scenario(scenario: &Scenario) -> String {
    let targets = scenario.targets();
    let there = |kind: &Kind| targets.iter().any(|target| scenario.spread(target, *kind).is_some());
    let kinds: Vec<Kind> = Kind::OF_TRIALS.into_iter().filter(there).collect();
    let head = std::iter::once(String::new()).chain(kinds.iter().map(|kind| match kind {
        Kind::Cost => scenario.unit.clone(),
        Kind::Rate if scenario.unit.contains("/packet") => "packets/s".to_owned(),
        Kind::Rate => "requests/s".to_owned(),
        kind => kind.name().to_owned(),
    }));
    let mut rows = vec![head.collect::<Vec<_>>()];
    for target in &targets {
        let cell = |kind: &Kind| {
            let spread = scenario.spread(target, *kind);
            spread.map_or_else(|| "–".to_owned(), |spread| shown(*kind, spread))
        };
        rows.push(std::iter::once((*target).to_owned()).chain(kinds.iter().map(cell)).collect());
    }
    let mut text = format!("{} [{}]\n{}", scenario.title, scenario.id, aligned(&rows));
    if let Some((subject, others)) = targets.split_first() {
        for against in others {
            let of = |kind: &Kind| {
                let ratio = scenario.ratio(subject, against, *kind)?;
                Some(format!("{} {}", kind.name(), ranged(ratio, figure)))
            };
            let ratios: Vec<_> = kinds.iter().filter_map(of).collect();
            let _ = writeln!(text, "  {subject} / {against}: {}", ratios.join(", "));
        }
    }
    for verdict in &scenario.verdicts {
        let met = if verdict.met { "met" } else { "missed" };
        let _ =
            writeln!(text, "  goal: {}: {met} ({})", verdict.goal_text(), verdict.figure_text());
    }
    for note in &scenario.notes {
        let _ = writeln!(text, "  note: {note}");
    }
    text
}

/// A median with its range, in a figure's own unit.
pub(crate) fn shown(kind: Kind, spread: Spread) -> String {
    match kind {
        Kind::P50 | Kind::P99 => ranged(spread, latency),
        Kind::Memory => ranged(spread, bytes),
        _ => ranged(spread, figure),
    }
}

fn ranged(spread: Spread, figure: fn(f64) -> String) -> String {
    format!("{} ({})", figure(spread.median), range(&figure(spread.min), &figure(spread.max)))
}
