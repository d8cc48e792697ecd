//! How long many Services take to load, and one endpoint's change with them there.

use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::{Ground, finish};
use crate::compare::passes::Passes;
use crate::compare::report::ScenarioReport;
use crate::compare::scenario::{Goal, Scenario};
use crate::compare::summary::{self, Spread};
use crate::compare::trial::{Detail, Trial};
use crate::lab::l4::{BACKEND, Path4, Services, Station, until};

/// Changes of one endpoint in a pass.
const CHANGES: usize = 10;
/// In a quick run.
const QUICK_CHANGES: usize = 2;
/// A quick run has this share of the Services.
const QUICK_SHARE: u16 = 10;
/// Time for a change to take effect.
const EFFECT: Duration = Duration::from_secs(30);
/// For one attempt to connect.
const ATTEMPT: Duration = Duration::from_millis(200);
/// Where nobody is, and the edge has no route to.
const NOBODY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
/// The gateway's figure: how long its last change of the kernel's rules took, in seconds.
const APPLY: &str = "tidegate_l4_apply_duration_seconds";

/// A figure of each pass, as a scenario of its own.
struct Figure {
    suffix: &'static str,
    title: &'static str,
    unit: &'static str,
    /// Milliseconds, at most.
    goal: Option<f64>,
    of: fn(&Figures) -> &[f64],
}

const FIGURES: [Figure; 4] = [
    Figure {
        suffix: "load",
        title: "the kernel's rules loaded",
        unit: "ms",
        goal: Some(1500.0),
        of: |figures| &figures.load,
    },
    Figure {
        suffix: "start",
        title: "from the start until a client is served",
        unit: "ms",
        goal: None,
        of: |figures| &figures.start,
    },
    Figure {
        suffix: "change",
        title: "the kernel's rules changed by one endpoint",
        unit: "ms",
        goal: Some(20.0),
        of: |figures| &figures.change,
    },
    Figure {
        suffix: "effect",
        title: "from an endpoint written until a client is served by it",
        unit: "ms",
        goal: None,
        of: |figures| &figures.effect,
    },
];

/// What one pass showed, in milliseconds.
#[derive(Debug, Default)]
struct Figures {
    load: Vec<f64>,
    start: Vec<f64>,
    change: Vec<f64>,
    effect: Vec<f64>,
}

pub(super) fn measure(
    ground: &mut Ground<'_>,
    scenario: &'static Scenario,
    services: u16,
    endpoints: u8,
    passes: &mut Passes,
) -> anyhow::Result<Vec<ScenarioReport>> {
    let quick = ground.settings.quick;
    let count = if quick { services / QUICK_SHARE } else { services };
    let changes = if quick { QUICK_CHANGES } else { CHANGES };
    let mut measured = Vec::new();
    let all = ground.settings.few_passes();
    for pass in 0..all {
        passes.next("pass", pass, all, "gateway");
        let mut figures = Figures::default();
        let started = Instant::now();
        let estate = Services { name: "gateway", services: count, endpoints, path: Path4::Kernel };
        let station = ground.gateway(estate)?;
        figures.start.push(milliseconds(started.elapsed()));
        figures.load.push(station.metric(APPLY, "")? * 1e3);
        for _ in 0..changes {
            change(ground, &station, &mut figures)?;
        }
        finish(vec![station])?;
        measured.push((pass, figures));
    }
    let notes = match quick {
        true => vec![format!("{count} Services only: a quick run")],
        false => Vec::new(),
    };
    Ok(FIGURES.iter().map(|figure| report(scenario, figure, &measured, &notes, quick)).collect())
}

/// Takes the backend away from the first Service, and gives it back.
fn change(ground: &Ground<'_>, station: &Station, figures: &mut Figures) -> anyhow::Result<()> {
    let connects = || {
        let _inside = ground.network.client.enter().ok()?;
        TcpStream::connect_timeout(&station.address, ATTEMPT).ok()
    };
    station.set_endpoints(1, &[NOBODY])?;
    until(EFFECT, || connects().is_none()).context("the endpoint is gone")?;
    figures.change.push(station.metric(APPLY, "")? * 1e3);
    station.set_endpoints(1, &[station.edge.backend(BACKEND).ip()])?;
    let effect = until(EFFECT, || connects().is_some()).context("the endpoint is back")?;
    figures.effect.push(milliseconds(effect));
    figures.change.push(station.metric(APPLY, "")? * 1e3);
    Ok(())
}

fn report(
    scenario: &'static Scenario,
    wanted: &Figure,
    measured: &[(u32, Figures)],
    notes: &[String],
    quick: bool,
) -> ScenarioReport {
    let labels = ["gateway".to_owned()];
    let trials: Vec<_> = measured
        .iter()
        .map(|(pass, figures)| {
            let each = (wanted.of)(figures).to_vec();
            let median = Spread::of(each.iter().copied()).map_or(f64::NAN, |all| all.median);
            Trial {
                target: "gateway".to_owned(),
                pass: *pass,
                cost: median,
                operations: each.len() as u64,
                all_requests: 0,
                detail: Detail::Control { each, clients: None },
            }
        })
        .collect();
    let summaries = summary::summaries(&labels, &trials);
    let goal = wanted.goal.filter(|_| !quick).map(Goal::Milliseconds);
    let verdicts =
        goal.and_then(|goal| summary::cost_verdict(goal, &summaries, &[])).into_iter().collect();
    ScenarioReport {
        id: format!("{}-{}", scenario.id, wanted.suffix),
        suite: scenario.suite.name(),
        title: format!("{}: {}", scenario.title, wanted.title),
        unit: wanted.unit,
        summaries,
        ratios: Vec::new(),
        verdicts,
        notes: notes.to_vec(),
        trials,
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
