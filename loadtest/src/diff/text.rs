//! A difference on the terminal, or as JSON.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::Context;

use super::{Difference, Line, Verdict};
use crate::report::compared::Kind;
use crate::report::table::{aligned, bytes, change, figure, percent, plain};

/// Prints it.
pub(super) fn print(difference: &Difference, as_json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if as_json {
        serde_json::to_writer_pretty(&mut out, difference).context("standard output")?;
        writeln!(out).context("standard output")
    } else {
        write!(out, "{}", text(difference)).context("standard output")
    }
}

/// The table, with what got worse last, where a reader of a long output looks.
pub(super) fn text(difference: &Difference) -> String {
    let head = ["", "figure", "before", "after", "change", "interval", ""];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(difference.lines.iter().map(row));
    let mut text = aligned(&rows);
    for reason in &difference.not_compared {
        let _ = writeln!(text, "  not compared: {reason}");
    }
    for note in &difference.notes {
        let _ = writeln!(text, "  note: {note}");
    }
    text.push('\n');
    for (verdict, word) in [(Verdict::Better, "better"), (Verdict::Worse, "worse")] {
        for line in difference.lines.iter().filter(|line| line.verdict == verdict) {
            let Line { of, figure, .. } = line;
            let _ = writeln!(
                text,
                "{word}: {of}: {} {} {}, {}",
                figure.name(),
                moved(line),
                between(line),
                in_unit(line)
            );
        }
    }
    let count = |verdict| difference.lines.iter().filter(|line| line.verdict == verdict).count();
    let [better, worse, same, unclear] =
        [Verdict::Better, Verdict::Worse, Verdict::Same, Verdict::Unclear].map(count);
    let _ = writeln!(
        text,
        "{better} better, {worse} worse, {same} the same, {unclear} too noisy to tell a tenth, \
         {} not compared",
        difference.not_compared.len()
    );
    plain(&text)
}

fn row(line: &Line) -> Vec<String> {
    vec![
        line.of.clone(),
        line.figure.name().to_owned(),
        shown(line, line.before),
        shown(line, line.after),
        moved(line),
        between(line),
        match line.verdict {
            Verdict::Better => "better",
            Verdict::Worse => "WORSE",
            Verdict::Same => "same",
            Verdict::Unclear => "unclear",
        }
        .to_owned(),
    ]
}

fn moved(line: &Line) -> String {
    match line.figure {
        Kind::Failures => change(line.change).replace('%', "points"),
        _ => change(line.change),
    }
}

fn between(line: &Line) -> String {
    line.interval.map_or_else(
        || "(noise unknown)".to_owned(),
        |[low, high]| format!("({} … {})", change(low), change(high)),
    )
}

fn shown(line: &Line, value: f64) -> String {
    match (line.figure, line.unit.as_str()) {
        (Kind::Failures, _) => percent(value),
        (_, "bytes") => bytes(value),
        (_, unit) if unit.starts_with("of ") => format!("{value:.3} ×"),
        _ => figure(value),
    }
}

fn in_unit(line: &Line) -> String {
    match line.unit.as_str() {
        unit if unit.starts_with("of ") => format!("as a share {unit}"),
        unit => format!("in {unit}"),
    }
}
