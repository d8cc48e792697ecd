//! From what was counted to a report.

use std::time::Duration;

use crate::compare::FAILURES_ALLOWED;
use crate::load::Generator;
use crate::load::accounts::Accounts;
use crate::load::outcome::{Distribution, Named, Process, RunReport, Slice, Tally, TimedEvent};
use crate::load::plan::Pace;
use crate::load::stats::Stats;
use crate::load::udp::Counts;
use crate::report::impact::failed_faults;
use crate::scenario::{Job, Limits};
use crate::system;

/// The share of its core from which on the generator sets the pace.
const SATURATED: f64 = 0.95;
/// The share of operations that may be taken up late by the generator.
const LATE: f64 = 0.01;

/// What a run's loop noted beside the generator's own counts.
#[derive(Debug, Default)]
pub(super) struct Noted {
    /// Time of the counted load.
    pub(super) counted: Duration,
    /// Time in it in which the generator ran, or waited for a core.
    pub(super) wanted_core: Duration,
    /// When the load was broken off, counted from its beginning, if it was.
    pub(super) broken_off: Option<Duration>,
    /// What happened when.
    pub(super) events: Vec<TimedEvent>,
    /// What a reader has to know.
    pub(super) notes: Vec<String>,
}

impl Noted {
    /// What a reader has to know before all else, if the load was broken off.
    fn broken_off_note(&self) -> Option<String> {
        self.broken_off.map(|after| {
            format!(
                "broken off after {:.1} s: what was not over by then is not counted",
                after.as_secs_f64()
            )
        })
    }
}

/// What limited a run other than the target.
fn limited(generator: &Generator, noted: &Noted, processes: &[Process]) -> Option<String> {
    let seconds = noted.counted.as_secs_f64().max(1e-9);
    let wanted = noted.wanted_core.as_secs_f64() / seconds;
    let used = processes.first().map_or(0.0, |own| own.cpu_seconds) / seconds;
    if wanted >= SATURATED {
        return Some(format!(
            "limited by the generator: it ran for {:.0} % of the time and waited for a core for \
             {:.0} %, so rates and latencies are its own and not the target's; give it a core of \
             its own, or a lighter load",
            used * 100.0,
            (wanted - used).max(0.0) * 100.0
        ));
    }
    let punctuality = &generator.punctuality;
    let late = punctuality.late as f64 / punctuality.operations.max(1) as f64;
    (late > LATE).then(|| {
        format!(
            "limited by the generator: it took up {:.1} % of the operations over a millisecond \
             after they were due, the latest after {:.1} ms, so latencies are in part its own; \
             give it a core of its own, or a lower rate",
            late * 100.0,
            punctuality.worst.as_secs_f64() * 1e3
        )
    })
}

/// The report of a load of datagrams that is over.
pub(super) fn of_datagrams(
    job: &Job,
    counts: &Counts,
    is_echoed: bool,
    noted: Noted,
    processes: Vec<Process>,
) -> RunReport {
    /// How late a packet may leave before the generator counts as the limit.
    const LATE_NS: u64 = 1_000_000;
    let seconds = noted.counted.as_secs_f64();
    let (succeeded, failed) =
        if is_echoed { (counts.received, counts.lost()) } else { (counts.sent, 0) };
    let mut notes: Vec<String> = noted.broken_off_note().into_iter().collect();
    if seconds > 0.0 && noted.wanted_core.as_secs_f64() / seconds >= SATURATED {
        notes
            .push("limited by the generator: its core was full; give it one of its own".to_owned());
    } else if counts.lateness.value_at_quantile(1.0 - LATE) > LATE_NS {
        notes.push(format!(
            "limited by the generator: one packet in a hundred left over {:.1} ms late",
            counts.lateness.value_at_quantile(1.0 - LATE) as f64 / 1e6
        ));
    }
    notes.extend(noted.notes);
    for (count, what) in [
        (counts.duplicated, "came back twice"),
        (counts.reordered, "came back behind one that was sent later"),
        (counts.stale, "came back too late to be told from duplicates, and count as lost"),
        (counts.foreign, "came that were nobody's answer"),
        (counts.refused, "were refused: nobody listened"),
    ] {
        if count > 0 {
            notes.push(format!("{count} datagrams {what}"));
        }
    }
    notes.push("over time, datagrams have counts and the greatest latency only".to_owned());
    let name = job.plan.entries.first().map_or_else(String::new, |entry| entry.name.clone());
    let total = Tally {
        succeeded,
        failed,
        failures: (failed > 0).then(|| ("lost".to_owned(), failed)).into_iter().collect(),
        first_failure: None,
        retried: 0,
        content_bytes: succeeded * (counts.sent_bytes / counts.sent.max(1)),
        seconds,
        latency: Distribution::of(&counts.latency),
    };
    let slice = job.plan.slice.unwrap_or(Duration::from_secs(1)).as_secs_f64();
    let series = counts.slices.iter().enumerate().map(|(index, counted)| Slice {
        at: index as f64 * slice,
        seconds: slice,
        due: counted.sent,
        succeeded: if is_echoed { counted.received } else { counted.sent },
        failed: if is_echoed { counted.sent.saturating_sub(counted.received) } else { 0 },
        max_us: counted.latency_max as f64 / 1e3,
        ..Slice::default()
    });
    RunReport {
        format: crate::report::FORMAT,
        kind: "run".to_owned(),
        name: job.name.clone(),
        description: job.description.clone(),
        machine: system::machine(),
        settings: job.settings.clone(),
        seconds,
        series: series.collect(),
        mix: vec![Named { name, value: total.clone() }],
        phases: vec![Named { name: "all".to_owned(), value: total.clone() }],
        total,
        events: noted.events,
        processes,
        notes,
        ..RunReport::default()
    }
}

/// The report of a run that is over.
///
/// # Errors
///
/// Accounts that can't be added up.
pub(super) fn report(
    job: &Job,
    generator: &mut Generator,
    noted: Noted,
    processes: Vec<Process>,
) -> anyhow::Result<RunReport> {
    let mut report = RunReport {
        format: crate::report::FORMAT,
        kind: "run".to_owned(),
        name: job.name.clone(),
        description: job.description.clone(),
        machine: system::machine(),
        settings: job.settings.clone(),
        connections: generator.stats.connections,
        resumed: generator.stats.resumed,
        tls: generator.tls_seen().clone(),
        ..RunReport::default()
    };
    report.notes.extend(noted.broken_off_note());
    report.notes.extend(limited(generator, &noted, &processes));
    report.notes.extend(noted.notes);
    if generator.lost_connections > 0 {
        report.notes.push(format!(
            "{} connections were refused or lost while no operation was theirs",
            generator.lost_connections
        ));
    }
    if generator.starved > 0 && matches!(job.plan.pace, Pace::Open { .. }) {
        report.notes.push(format!(
            "all {} connections that the load may have were in use at times, and operations \
             waited for one; that is part of their latency (load.open.maxConnections)",
            job.plan.most_connections()
        ));
    }
    let profile = job.plan.profile();
    let broken_off = noted.broken_off.map(crate::load::nanoseconds);
    let end = broken_off.unwrap_or_else(|| generator.now().max(profile.end()));
    if let Some(accounts) = &mut generator.accounts {
        let phases: Vec<_> = profile
            .phases()
            .filter(|(_, start, _)| *start < end)
            .map(|(phase, start, planned)| (phase, start, planned.min(end)))
            .collect();
        let seconds = |start: u64, end: u64| (end - start) as f64 / 1e9;
        report.seconds =
            phases.iter().filter(|(p, ..)| p.counted).map(|(_, s, e)| seconds(*s, *e)).sum();
        report.total = tally(&accounts.total()?, report.seconds);
        report.mix = named(&job.plan, accounts, report.seconds);
        report.phases = phases
            .iter()
            .zip(&accounts.phases)
            .map(|((phase, start, end), stats)| Named {
                name: phase.name.clone(),
                value: tally(stats, seconds(*start, *end)),
            })
            .collect();
        report.series = accounts.series(end);
        report.backends = std::mem::take(&mut accounts.backends);
    }
    report.events = noted.events;
    report.processes = processes;
    Ok(report)
}

fn named(plan: &crate::load::plan::Plan, accounts: &Accounts, seconds: f64) -> Vec<Named<Tally>> {
    plan.entries
        .iter()
        .zip(&accounts.entries)
        .map(|(entry, stats)| Named { name: entry.name.clone(), value: tally(stats, seconds) })
        .collect()
}

fn tally(stats: &Stats, seconds: f64) -> Tally {
    let failures = stats.failures.iter();
    Tally {
        succeeded: stats.requests,
        failed: stats.failure_count(),
        failures: failures.map(|(kind, count)| (kind.name().to_owned(), *count)).collect(),
        first_failure: stats.first_failure.clone(),
        retried: stats.retried,
        content_bytes: stats.body_bytes,
        seconds,
        latency: Distribution::of(&stats.latency),
    }
}

/// What a run has not kept to. Connections that are `held` need not be asked anything while it is
/// counted.
pub(super) fn broken(limits: &Limits, report: &RunReport, held: bool) -> Vec<String> {
    let mut broken: Vec<String> = failed_faults(report).collect();
    let total = &report.total;
    let all = total.succeeded + total.failed;
    let share = total.failed as f64 / all.max(1) as f64;
    let allowed = limits.failures.unwrap_or(FAILURES_ALLOWED);
    if share > allowed {
        broken.push(format!(
            "{:.3} % of the operations failed; {:.3} % are allowed",
            share * 100.0,
            allowed * 100.0
        ));
    }
    if total.succeeded == 0 && !(held && total.failed == 0) {
        broken.push("no operation was answered as expected".to_owned());
    }
    for (quantile, name, most) in limits.latency {
        let Some(most) = most else { continue };
        let is = quantile_us(&total.latency, quantile);
        if is > most.as_secs_f64() * 1e6 {
            broken.push(format!("{name} is {:.3} ms; {most:?} are allowed", is / 1e3));
        }
    }
    if let Some(least) = limits.rate {
        let rate = total.succeeded as f64 / report.seconds.max(1e-9);
        if rate < least {
            broken.push(format!("{rate:.1} operations a second; {least} are wanted at least"));
        }
    }
    broken
}

/// A quantile of a distribution, µs.
pub(super) fn quantile_us(latency: &Distribution, quantile: f64) -> f64 {
    let found = latency.quantiles.iter().find(|[q, _]| *q >= quantile);
    found.map_or(latency.max_us, |[_, us]| *us)
}
