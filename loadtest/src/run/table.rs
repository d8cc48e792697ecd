//! A run's report as plain lines.

use std::io::{self, Write};

use super::summary::quantile_us;
use crate::load::outcome::RunReport;

/// Writes the report.
///
/// # Errors
///
/// Those of the output.
pub(super) fn write(out: &mut impl Write, report: &RunReport) -> io::Result<()> {
    let total = &report.total;
    let limited = report.notes.iter().any(|note| note.starts_with("limited by the generator"));
    let seconds = report.seconds.max(1e-9);
    for note in &report.notes {
        writeln!(out, "note         {note}")?;
    }
    let rate = total.succeeded as f64 / seconds;
    let whose = if limited { ", the generator's limit and not the target's" } else { "" };
    writeln!(out, "requests     {} ({rate:.0}/s{whose})", total.succeeded)?;
    writeln!(out, "content      {:.1} MiB/s", total.content_bytes as f64 / seconds / 1_048_576.0)?;
    let latency = |latency| {
        let [p50, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map(|q| quantile_us(latency, q));
        format!(
            "p50 {p50:.0}  p90 {p90:.0}  p99 {p99:.0}  p99.9 {p999:.0}  max {:.0}",
            latency.max_us
        )
    };
    writeln!(out, "latency µs   {}", latency(&total.latency))?;
    for (what, all) in [("mix", &report.mix), ("phase", &report.phases)] {
        for named in all.iter().filter(|_| all.len() > 1) {
            let (name, tally) = (&named.name, &named.value);
            let rate = tally.succeeded as f64 / tally.seconds.max(1e-9);
            let (good, bad) = (tally.succeeded, tally.failed);
            writeln!(
                out,
                "{what:<12} {name}: {good} ({rate:.0}/s), {bad} failed, {}",
                latency(&tally.latency)
            )?;
        }
    }
    for (backend, count) in &report.backends {
        writeln!(out, "backend      {backend}: {count}")?;
    }
    writeln!(out, "connections  {} made, {} resumed", report.connections, report.resumed)?;
    for (parameters, count) in &report.tls {
        writeln!(out, "tls          {parameters} ({count} handshakes)")?;
    }
    let kinds: Vec<_> =
        total.failures.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    match &total.first_failure {
        Some(first) => writeln!(out, "failures     {} (the first: {first})", kinds.join(", "))?,
        None => writeln!(out, "failures     none")?,
    }
    if total.retried > 0 {
        writeln!(out, "retried      {}", total.retried)?;
    }
    for event in &report.events {
        writeln!(out, "at {:>8.3}  {}", event.at, event.what)?;
    }
    for process in &report.processes {
        writeln!(
            out,
            "{:<12} {:.2} µs CPU a request, {:.0} % of a core, {:.1} MiB",
            process.name,
            process.cpu_us_per_operation,
            process.cpu_seconds / seconds * 100.0,
            process.peak_pss as f64 / 1_048_576.0
        )?;
    }
    Ok(())
}
