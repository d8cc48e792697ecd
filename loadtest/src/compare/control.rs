//! The control suite: what many objects cost, and how soon a change is seen by clients.
//!
//! For each product and pass: a start with all apps; changes without load, for their time and CPU
//! time; then changes while clients go on, for what those see. A change's effect is looked for with
//! a request on a connection of its own every two milliseconds, which costs the target a few per
//! cent of its core until it is seen, the same for all.

mod clients;

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::Settings;
use super::passes::{Passes, there_and_back};
use super::report::ScenarioReport;
use super::scenario::Scenario;
use super::summary::{self, Spread};
use super::trial::{Detail, Trial};
use crate::lab::estate::{App, Estate, Steered, Steering, steered};
use crate::lab::{Lab, Product, get};
use crate::report::table::{aligned, figure};
use crate::system::{self, interrupt};
use clients::Clients;
pub(crate) use clients::Seen;

/// Changes of each kind without load, and with it, in a pass.
const CHANGES: usize = 5;
/// In a quick run.
const QUICK_CHANGES: usize = 2;
/// A quick run has this share of the objects.
const QUICK_SHARE: usize = 10;
/// How often the effect of a change is looked for.
const LOOK: Duration = Duration::from_millis(2);
/// Time for a change to take effect.
const EFFECT: Duration = Duration::from_secs(60);
/// A process is at rest when it used so little CPU time …
const REST: Duration = Duration::from_millis(2);
/// … in so much time,
const REST_FOR: Duration = Duration::from_millis(300);
/// for which so long is waited.
const REST_WITHIN: Duration = Duration::from_secs(40);
/// Apps that the clients go on asking for; they are never changed.
const ASKED: usize = 50;

/// What one product showed in one pass.
#[derive(Debug, Default)]
struct Figures {
    start_ms: f64,
    start_cpu_ms: f64,
    memory_mib: f64,
    endpoint: Changes,
    ingress: Changes,
}

/// Changes of one kind.
#[derive(Debug, Default)]
struct Changes {
    /// From the change to its effect without load, ms each.
    effect_ms: Vec<f64>,
    /// CPU time of each, ms.
    cpu_ms: Vec<f64>,
    /// What clients saw meanwhile, where there were any.
    seen: Seen,
    /// From the change to its effect beside clients, ms each.
    loaded_ms: Vec<f64>,
}

/// A kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// An app's endpoint is another.
    Endpoint,
    /// An app comes.
    Ingress,
}

/// One figure of the many, as a scenario of its own in the report.
struct Figure {
    /// What stands behind the scenario's id.
    suffix: &'static str,
    title: &'static str,
    unit: &'static str,
    of: fn(&Figures) -> Shown<'_>,
}

/// A figure of one product in one pass.
struct Shown<'a> {
    cost: f64,
    /// The changes behind it.
    each: &'a [f64],
    seen: Option<&'a Seen>,
}

const FIGURES: &[Figure] = &[
    Figure {
        suffix: "start",
        title: "from the start until the last app is served",
        unit: "ms",
        of: |figures| once(figures.start_ms),
    },
    Figure {
        suffix: "start-cpu",
        title: "CPU time of the start",
        unit: "CPU ms",
        of: |figures| once(figures.start_cpu_ms),
    },
    Figure {
        suffix: "memory",
        title: "memory after the start",
        unit: "MiB",
        of: |figures| once(figures.memory_mib),
    },
    Figure {
        suffix: "endpoint",
        title: "from a changed endpoint to its effect",
        unit: "ms",
        of: |figures| of_changes(&figures.endpoint.effect_ms, None),
    },
    Figure {
        suffix: "endpoint-cpu",
        title: "CPU time of a changed endpoint",
        unit: "CPU ms",
        of: |figures| of_changes(&figures.endpoint.cpu_ms, None),
    },
    Figure {
        suffix: "endpoint-loaded",
        title: "from a changed endpoint to its effect, beside clients",
        unit: "ms",
        of: |figures| of_changes(&figures.endpoint.loaded_ms, Some(&figures.endpoint.seen)),
    },
    Figure {
        suffix: "ingress",
        title: "from an added app to its first answer",
        unit: "ms",
        of: |figures| of_changes(&figures.ingress.effect_ms, None),
    },
    Figure {
        suffix: "ingress-cpu",
        title: "CPU time of an added app",
        unit: "CPU ms",
        of: |figures| of_changes(&figures.ingress.cpu_ms, None),
    },
    Figure {
        suffix: "ingress-loaded",
        title: "from an added app to its first answer, beside clients",
        unit: "ms",
        of: |figures| of_changes(&figures.ingress.loaded_ms, Some(&figures.ingress.seen)),
    },
];

fn once(cost: f64) -> Shown<'static> {
    Shown { cost, each: &[], seen: None }
}

/// The median of some changes stands for them.
fn of_changes<'a>(each: &'a [f64], seen: Option<&'a Seen>) -> Shown<'a> {
    let median = Spread::of(each.iter().copied()).map_or(f64::NAN, |spread| spread.median);
    Shown { cost: median, each, seen }
}

/// Measures a control scenario: a report for each figure, and the text for the terminal. Nothing if
/// no product here can be told of changes.
pub(super) fn measure(
    lab: &mut Lab,
    scenario: &'static Scenario,
    objects: usize,
    products: &[Box<dyn Product>],
    settings: &Settings,
    progress: &mut Passes,
) -> anyhow::Result<Option<(Vec<ScenarioReport>, String)>> {
    let mut steered_products = Vec::new();
    let mut notes = Vec::new();
    for product in products {
        match steered(product.name(), product.locate()?) {
            Some(product) => steered_products.push(product),
            None => notes.push(format!(
                "{} takes no part: changes are made to the gateway, nginx and HAProxy",
                product.name()
            )),
        }
    }
    if steered_products.is_empty() {
        return Ok(None);
    }
    let (apps, changes) = match settings.quick {
        true => (objects / QUICK_SHARE, QUICK_CHANGES),
        false => (objects, CHANGES),
    };
    if apps != objects {
        notes.push(format!("{apps} apps only: a quick run"));
    }
    let mut measured: Vec<(u32, &str, Figures)> = Vec::new();
    let passes = settings.few_passes();
    for pass in 0..passes {
        for product in there_and_back(steered_products.iter(), pass) {
            progress.next("pass", pass, passes, product.name());
            let figures =
                one(lab, &**product, apps, changes).with_context(|| product.name().to_owned())?;
            measured.push((pass, product.name(), figures));
        }
    }
    for (pass, name, figures) in &measured {
        for (what, changes) in
            [("changed endpoints", &figures.endpoint), ("added apps", &figures.ingress)]
        {
            let Seen { requests, failed, first_failure, .. } = &changes.seen;
            if let Some(first) = first_failure {
                notes.push(format!(
                    "{name}, pass {}: {failed} of {requests} requests failed beside {what} \
                     (the first: {first})",
                    pass + 1
                ));
            }
        }
    }
    let labels: Vec<_> = steered_products.iter().map(|p| p.name().to_owned()).collect();
    let reports: Vec<_> =
        FIGURES.iter().map(|figure| report(scenario, figure, &labels, &measured, &notes)).collect();
    let text = table(scenario, &labels, &reports, &measured, &notes);
    Ok(Some((reports, text)))
}

/// One product in one pass.
fn one(
    lab: &mut Lab,
    product: &dyn Steered,
    apps: usize,
    changes: usize,
) -> anyhow::Result<Figures> {
    let home = lab.backend_address();
    let (_other, other) = lab.another_backend("other")?;
    let mut estate = Estate::of(apps, home);
    let steering = lab.steer(product, &estate)?;
    let start_cpu = steering.process.cpu_time_of_all()?;
    rest(&steering)?;
    let memory = system::memory(&steering.process.processes()?)?;
    let mut run = Run { product, steering, estate: &mut estate, other, changed: ASKED };
    let mut figures = Figures {
        start_ms: milliseconds(run.steering.ready_after),
        start_cpu_ms: milliseconds(start_cpu),
        memory_mib: memory.pss as f64 / f64::from(1 << 20),
        ..Figures::default()
    };
    for (kind, all) in
        [(Kind::Endpoint, &mut figures.endpoint), (Kind::Ingress, &mut figures.ingress)]
    {
        for _ in 0..changes {
            let before = run.steering.process.cpu_time_of_all()?;
            all.effect_ms.push(milliseconds(run.change(kind)?));
            rest(&run.steering)?;
            let after = run.steering.process.cpu_time_of_all()?;
            all.cpu_ms.push(milliseconds(after - before));
        }
    }
    let hosts: Vec<_> = run.estate.apps().iter().take(ASKED).map(App::host).collect();
    for (kind, all) in
        [(Kind::Endpoint, &mut figures.endpoint), (Kind::Ingress, &mut figures.ingress)]
    {
        let clients = Clients::start(run.steering.ground.http, hosts.clone())?;
        for _ in 0..changes {
            all.loaded_ms.push(milliseconds(run.change(kind)?));
            // What was started before still ends, and its clients with it.
            let until = Instant::now() + REST_FOR;
            while Instant::now() < until {
                interrupt::check()?;
                std::thread::sleep(LOOK);
            }
        }
        all.seen = clients.finish()?;
        rest(&run.steering)?;
    }
    run.steering.process.stop()?;
    std::fs::remove_dir_all(&run.steering.ground.folder).context("the product's folder")?;
    Ok(figures)
}

/// A product in the middle of its changes.
struct Run<'a> {
    product: &'a dyn Steered,
    steering: Steering,
    estate: &'a mut Estate,
    other: std::net::SocketAddr,
    /// The next app to be moved.
    changed: usize,
}

impl Run<'_> {
    /// Makes a change; returns the time until a client sees it.
    fn change(&mut self, kind: Kind) -> anyhow::Result<Duration> {
        let app = match kind {
            Kind::Endpoint => {
                let number = self.changed;
                self.changed += 1;
                self.estate.move_app(number, self.other).context("there is no app left to move")?
            }
            Kind::Ingress => self.estate.add(self.other),
        };
        let Steering { process, ground, .. } = &mut self.steering;
        self.product.stage(ground, self.estate, &app)?;
        let host = app.host();
        // The other backend's name is its own.
        let is_seen = || {
            get(ground.http, &host, "/").is_ok_and(|answer| {
                answer.starts_with("HTTP/1.1 200 ")
                    && answer.to_ascii_lowercase().contains("\r\nx-backend: other\r\n")
            })
        };
        if is_seen() {
            bail!("{host}: served by the other backend before the change");
        }
        let start = Instant::now();
        self.product.apply(ground, process)?;
        process.wait_until_every(LOOK, "effect of the change", EFFECT, is_seen)?;
        Ok(start.elapsed())
    }
}

/// Waits until a product has nothing more to do.
fn rest(steering: &Steering) -> anyhow::Result<()> {
    let end = Instant::now() + REST_WITHIN;
    let mut before = steering.process.cpu_time_of_all()?;
    let mut since = Instant::now();
    while since.elapsed() < REST_FOR {
        interrupt::check()?;
        if Instant::now() >= end {
            bail!("still at work {REST_WITHIN:?} after a change");
        }
        std::thread::sleep(REST_FOR / 10);
        let now = steering.process.cpu_time_of_all()?;
        if now.saturating_sub(before) > REST {
            (before, since) = (now, Instant::now());
        }
    }
    Ok(())
}

fn report(
    scenario: &'static Scenario,
    wanted: &Figure,
    labels: &[String],
    measured: &[(u32, &str, Figures)],
    notes: &[String],
) -> ScenarioReport {
    let trials: Vec<_> = measured
        .iter()
        .map(|(pass, name, figures)| {
            let Shown { cost, each, seen } = (wanted.of)(figures);
            Trial {
                target: (*name).to_owned(),
                pass: *pass,
                cost,
                operations: each.len().max(1) as u64,
                all_requests: 0,
                detail: Detail::Control { each: each.to_vec(), clients: seen.cloned() },
            }
        })
        .collect();
    ScenarioReport {
        id: format!("{}-{}", scenario.id, wanted.suffix),
        suite: scenario.suite.name(),
        title: format!("{}: {}", scenario.title, wanted.title),
        unit: wanted.unit,
        summaries: summary::summaries(labels, &trials),
        ratios: summary::ratios(labels, &trials),
        verdicts: Vec::new(),
        notes: notes.to_vec(),
        trials,
    }
}

/// One table for all figures: a row each, a column for each product, and the ratios behind.
fn table(
    scenario: &Scenario,
    labels: &[String],
    reports: &[ScenarioReport],
    measured: &[(u32, &str, Figures)],
    notes: &[String],
) -> String {
    let mut rows = vec![vec![String::new()]];
    if let Some(head) = rows.first_mut() {
        head.extend(labels.iter().cloned());
        head.extend(labels.iter().skip(1).map(|label| format!("/ {label}")));
    }
    for report in reports {
        let what = report.title.split_once(": ").map_or(&*report.title, |(_, what)| what);
        let mut row = vec![format!("{what}, {}", report.unit)];
        let cost = |cost: Spread| figure(cost.median);
        row.extend(report.summaries.iter().map(|summary| cost(summary.cost)));
        row.extend(report.ratios.iter().map(|ratio| cost(ratio.cost)));
        rows.push(row);
    }
    let clients = |name: &str, figure: fn(&Seen) -> String| {
        let seen = measured.iter().filter(|(_, target, _)| *target == name);
        let all = seen.fold(Seen::default(), |mut all, (_, _, figures)| {
            for seen in [&figures.endpoint.seen, &figures.ingress.seen] {
                all.requests += seen.requests;
                all.failed += seen.failed;
                all.slowest_ms = all.slowest_ms.max(seen.slowest_ms);
            }
            all
        });
        figure(&all)
    };
    let row = |what: &str, figure: fn(&Seen) -> String| {
        let cells = labels.iter().map(|label| clients(label, figure));
        std::iter::once(what.to_owned()).chain(cells).collect::<Vec<_>>()
    };
    rows.push(row("clients' requests beside changes", |seen| seen.requests.to_string()));
    rows.push(row("failed among them", |seen| seen.failed.to_string()));
    rows.push(row("slowest among them, ms", |seen| figure(seen.slowest_ms)));
    let table = aligned(&rows);
    let mut text = format!("{} [{}]\n{table}", scenario.title, scenario.id);
    for note in notes {
        let _ = writeln!(text, "  note: {note}");
    }
    text
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
