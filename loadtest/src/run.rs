//! `loadtest run`: load on one URL, or as a scenario says.

mod output;
mod resources;
mod summary;
mod watch;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::cli;
use crate::faults::Stage;
use crate::load::outcome::{RunReport, TimedEvent};
use crate::load::{Generator, Reuse, udp};
use crate::report::progress::Progress;
use crate::report::{html, terminal};
use crate::scenario::{self, Job, Overrides};
use crate::system;
use crate::system::interrupt::{self, Interrupted};
use output::Output;
use summary::Noted;
use watch::Watched;

/// Seconds of load on a URL, if the command line says nothing.
const SECONDS: f64 = 10.0;
/// Connections to a URL, if the command line says nothing.
const CONNECTIONS: u32 = 64;

/// Runs the load and prints what came of it; false if it has not kept to its limits.
///
/// # Errors
///
/// What can't be read, started or written, and a target that answers nothing.
pub(crate) fn run(arguments: &cli::Run) -> anyhow::Result<bool> {
    let output = |option, path: &Option<PathBuf>| {
        path.as_deref().map(|path| Output::check(option, path)).transpose()
    };
    let (json, page) = (output("--json", &arguments.json)?, output("--html", &arguments.html)?);
    let job = job(arguments)?;
    resources::require(&job.plan)?;
    if let Some(core) = job.core {
        system::pin(core)?;
    }
    // From here on processes are started and stopped, which an end has to undo.
    interrupt::install()?;
    let (report, broken) = perform(job)?;
    let mut out = std::io::stdout().lock();
    let printed = out.write_all(terminal::run(&report).as_bytes()).and_then(|()| out.flush());
    for what in &broken {
        eprintln!("loadtest: {what}");
    }
    // Each is tried, whatever has come of those before it.
    let as_json =
        json.map_or(Ok(()), |file| file.write(&serde_json::to_vec(&report).context("JSON")?));
    let as_page = page.map_or(Ok(()), |file| file.write(html::run(&report).as_bytes()));
    for error in
        [&as_json, &as_page].into_iter().filter_map(|written| written.as_ref().err()).skip(1)
    {
        eprintln!("loadtest: {error:#}");
    }
    as_json.and(as_page)?;
    printed.context("standard output")?;
    Ok(broken.is_empty() && !interrupt::is_asked())
}

/// The job that the command line asks for.
fn job(arguments: &cli::Run) -> anyhow::Result<Job> {
    let overrides = Overrides {
        seconds: arguments.seconds,
        rate: arguments.rate,
        connections: arguments.connections.map(|connections| connections as usize),
        connect: arguments.connect,
        core: arguments.core,
    };
    if arguments.target.contains("://") {
        return of_url(arguments, overrides);
    }
    for (flag, is_given) in [
        ("--no-keepalive", arguments.no_keepalive),
        ("--resume", arguments.resume),
        ("--ca", arguments.ca.is_some()),
        ("--insecure", arguments.insecure),
        ("--status", arguments.status.is_some()),
        ("--length", arguments.length.is_some()),
    ] {
        if is_given {
            bail!("{flag} is for a URL; a scenario says that itself: change it there");
        }
    }
    scenario::read(Path::new(&arguments.target), &overrides)
}

/// A URL is a scenario of one entry.
fn of_url(arguments: &cli::Run, overrides: Overrides) -> anyhow::Result<Job> {
    let url = &arguments.target;
    let is_tls = url.starts_with("https://");
    if !is_tls && !url.starts_with("http://") {
        bail!("{url}: begin it with http:// or https://");
    }
    if !is_tls && arguments.ca.is_some() {
        bail!("{url}: --ca is for https://; remove it, or write https://");
    }
    if is_tls && arguments.ca.is_none() && !arguments.insecure {
        bail!("{url}: say whom to believe: --ca FILE, or --insecure for anybody");
    }
    let keep_alive = Some(!arguments.no_keepalive);
    let load = match arguments.rate {
        Some(rate) => scenario::LoadForm {
            open: Some(scenario::OpenForm {
                rate,
                connections: None,
                max_connections: None,
                streams: None,
                keep_alive,
            }),
            ..scenario::LoadForm::default()
        },
        None => scenario::LoadForm {
            closed: Some(scenario::ClosedForm {
                connections: CONNECTIONS,
                streams: None,
                keep_alive,
            }),
            ..scenario::LoadForm::default()
        },
    };
    let form = scenario::Form {
        target: scenario::TargetForm {
            url: Some(url.clone()),
            tls: is_tls.then(|| scenario::TlsForm {
                ca: arguments.ca.clone(),
                insecure: arguments.insecure,
                resume: arguments.resume,
                versions: Vec::new(),
            }),
            ..scenario::TargetForm::default()
        },
        load,
        mix: vec![scenario::EntryForm {
            expect: scenario::ExpectForm {
                status: arguments.status,
                length: arguments.length.map(scenario::Size),
                ..scenario::ExpectForm::default()
            },
            ..scenario::EntryForm::default()
        }],
        ..scenario::Form::default()
    };
    let seconds = Some(overrides.seconds.unwrap_or(SECONDS));
    scenario::of_form(form, url, &Overrides { seconds, ..overrides })
}

/// Runs a job; what it found, and what it has not kept to.
fn perform(mut job: Job) -> anyhow::Result<(RunReport, Vec<String>)> {
    let logs = tempfile::tempdir().context("a folder for the parties' output")?;
    let faults = std::mem::take(&mut job.faults);
    let mut stage = Stage::start(faults, logs.path())?;
    if let Some(config) = &job.datagrams {
        return datagrams(&job, config, stage);
    }
    let mut generator = Generator::new(job.plan.clone())?;
    let mut watched = Watched::begin(&job.processes, Some(&stage))?;
    let mut noted = Noted::default();
    let outcome = drive(&job, &mut generator, &mut stage, &mut watched, &mut noted);
    let ended = unless_interrupted(outcome, generator.began());
    let undone = stage.finish();
    noted.broken_off = ended?;
    noted.notes.extend(undone?);
    let counted = generator.accounts.as_ref().map_or(Ok(0), |a| a.total().map(|t| t.requests))?;
    let processes = watched.finish(counted);
    let report = summary::report(&job, &mut generator, noted, processes)?;
    let held = job.plan.reuse == Reuse::Hold;
    let broken = summary::broken(&job.limits, &report, held);
    Ok((report, broken))
}

/// Runs a load of datagrams.
fn datagrams(
    job: &Job,
    config: &udp::Config,
    mut stage: Stage,
) -> anyhow::Result<(RunReport, Vec<String>)> {
    let mut driver = udp::Driver::new(config.clone())?;
    let mut watched = Watched::begin(&job.processes, Some(&stage))?;
    let mut noted = Noted::default();
    let mut progress = Progress::new();
    let length = Duration::from_nanos(job.plan.profile().end());
    let began = Instant::now();
    let mut now = Duration::ZERO;
    while now < length {
        noted.events.extend(stage.tick(now));
        let due = stage.next_due().unwrap_or(length).max(now + Duration::from_millis(1));
        let stop = (now + watch::EVERY).min(length).min(due);
        let waited = system::wanted_core();
        let driven = driver.drive((began + stop).saturating_duration_since(Instant::now()));
        noted.broken_off = unless_interrupted(driven, began)?;
        now = noted.broken_off.unwrap_or_else(|| began.elapsed().max(stop));
        if let (Some(before), Some(after)) = (waited, system::wanted_core()) {
            noted.wanted_core += after.saturating_sub(before);
        }
        watched.sample(now, true, Some(&stage));
        let figure = format!("{} sent, {} back", driver.counts.sent, driver.counts.received);
        progress.show(now.as_secs_f64() / length.as_secs_f64(), &job.name, &figure);
        if noted.broken_off.is_some() {
            break;
        }
    }
    noted.counted = now;
    if noted.broken_off.is_none() {
        noted.broken_off = unless_interrupted(driver.drain(job.plan.timeout), began)?;
    }
    noted.notes.extend(stage.finish()?);
    let operations = if config.echo { driver.counts.received } else { driver.counts.sent };
    let processes = watched.finish(operations);
    let report = summary::of_datagrams(job, &driver.counts, config.echo, noted, processes);
    let broken = summary::broken(&job.limits, &report, false);
    Ok((report, broken))
}

/// What came of a stretch of load: when it was broken off, counted from its beginning, if the user
/// or the system has asked for that.
fn unless_interrupted(
    outcome: anyhow::Result<()>,
    began: Instant,
) -> anyhow::Result<Option<Duration>> {
    match outcome {
        Ok(()) => Ok(None),
        Err(error) if error.is::<Interrupted>() => Ok(Some(began.elapsed())),
        Err(error) => Err(error),
    }
}

/// Drives the load from stop to stop: at each, clocks are read and faults happen.
fn drive(
    job: &Job,
    generator: &mut Generator,
    stage: &mut Stage,
    watched: &mut Watched,
    noted: &mut Noted,
) -> anyhow::Result<()> {
    let profile = job.plan.profile();
    let phases: Vec<_> = profile
        .phases()
        .map(|(phase, start, end)| (phase, Duration::from_nanos(start), Duration::from_nanos(end)))
        .collect();
    let mut progress = Progress::new();
    generator.begin();
    let began = generator.began();
    let mut now = Duration::ZERO;
    for (phase, start, end) in phases {
        if profile.phases().count() > 1 {
            let what = format!("phase: {}", phase.name);
            noted.events.push(TimedEvent { at: start.as_secs_f64(), what });
        }
        while now < end {
            noted.events.extend(stage.tick(now));
            let mut stop = (now + watch::EVERY).min(end);
            if let Some(due) = stage.next_due() {
                stop = stop.min(due.max(now + Duration::from_millis(1)));
            }
            let waited = system::wanted_core();
            let driven = generator.drive_to(began + stop);
            let before = now;
            now = if driven.is_ok() { began.elapsed().max(stop) } else { began.elapsed() };
            let latest = generator.accounts.as_ref().and_then(|accounts| accounts.latest());
            let figure = latest.map_or(String::new(), |slice| {
                let rate = slice.succeeded as f64 / job.plan.slice.map_or(1.0, |s| s.as_secs_f64());
                format!("{rate:.0}/s, p99 {:.2} ms, {} failed", slice.p99_us / 1e3, slice.failed)
            });
            let done = now.as_secs_f64() / (profile.end() as f64 / 1e9);
            progress.show(done, &phase.name, &figure);
            watched.sample(now, phase.counted, Some(stage));
            if phase.counted {
                noted.counted += now - before;
                if let (Some(before), Some(after)) = (waited, system::wanted_core()) {
                    noted.wanted_core += after.saturating_sub(before);
                }
            }
            driven?;
        }
    }
    drain(job, generator, stage, noted, began)
}

/// Waits for what is under way, while faults go on.
fn drain(
    job: &Job,
    generator: &mut Generator,
    stage: &mut Stage,
    noted: &mut Noted,
    began: Instant,
) -> anyhow::Result<()> {
    generator.begin_drain();
    let end = Instant::now() + job.plan.timeout + Duration::from_secs(1);
    while Instant::now() < end {
        noted.events.extend(stage.tick(began.elapsed()));
        let due = stage.next_due().map_or(end, |due| began + due);
        let stop = due.max(Instant::now() + Duration::from_millis(1)).min(end);
        if generator.drain_to(stop)? {
            break;
        }
    }
    generator.end_drain(job.plan.timeout);
    Ok(())
}
