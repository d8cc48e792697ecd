//! Many connections between two gateways: how soon all are up, and what each holds.

use std::time::Duration;

use crate::compare::Settings;
use crate::compare::passes::Passes;
use crate::compare::report::ScenarioReport;
use crate::compare::scenario::{Goal, Scenario};
use crate::compare::summary;
use crate::compare::trial::{Detail, Trial};
use crate::lab::vpn::{Tunnels, Workshop, tunnels_up};

use super::GATEWAY;

/// A quick run has this share of the connections.
const QUICK_SHARE: u16 = 20;
/// Time for all to come up.
const WITHIN: Duration = Duration::from_secs(120);
/// Time that memory is left to settle before it is read.
const SETTLE: Duration = Duration::from_millis(1500);

/// What one pass showed.
struct Pass {
    /// With one connection.
    one: Tunnels,
    /// With all.
    all: Tunnels,
    connections: u16,
}

struct Figure {
    suffix: &'static str,
    title: &'static str,
    unit: &'static str,
    goal: Option<Goal>,
    of: fn(&Pass) -> f64,
}

const FIGURES: [Figure; 3] = [
    Figure {
        suffix: "up",
        title: "from the start of both gateways until all are up",
        unit: "s",
        goal: Some(Goal::Seconds(30.0)),
        of: |pass| pass.all.took.as_secs_f64(),
    },
    Figure {
        suffix: "memory",
        title: "resident memory of each, beyond a gateway with one",
        unit: "KiB/tunnel",
        goal: Some(Goal::Kibibytes(64.0)),
        of: |pass| {
            // That of the gateway where it is more.
            let sides = pass.all.memory.iter().zip(&pass.one.memory);
            let more = sides.map(|(all, one)| all.rss.saturating_sub(one.rss)).max();
            more.unwrap_or(0) as f64 / 1024.0 / f64::from(pass.connections.max(2) - 1)
        },
    },
    Figure {
        suffix: "cpu",
        title: "CPU time of both gateways until all are up",
        unit: "CPU ms/tunnel",
        goal: None,
        of: |pass| pass.all.cpu.as_secs_f64() * 1e3 / f64::from(pass.connections),
    },
];

pub(super) fn measure(
    workshop: &Workshop<'_>,
    scenario: &'static Scenario,
    connections: u16,
    settings: &Settings,
    passes: &mut Passes,
) -> anyhow::Result<Vec<ScenarioReport>> {
    let count = if settings.quick { connections / QUICK_SHARE } else { connections };
    let mut measured = Vec::new();
    let of = settings.few_passes();
    for pass in 0..of {
        passes.next("pass", pass, of, GATEWAY);
        let up = |connections| tunnels_up(workshop, connections, WITHIN, SETTLE);
        measured.push(Pass { one: up(1)?, all: up(count)?, connections: count });
    }
    let notes: Vec<String> = match settings.quick {
        true => vec![format!("{count} connections only: a quick run")],
        false => Vec::new(),
    };
    let judged = !settings.quick;
    Ok(FIGURES.iter().map(|figure| report(scenario, figure, &measured, &notes, judged)).collect())
}

fn report(
    scenario: &'static Scenario,
    wanted: &Figure,
    measured: &[Pass],
    notes: &[String],
    judged: bool,
) -> ScenarioReport {
    let labels = [GATEWAY.to_owned()];
    let trials: Vec<_> = (0..)
        .zip(measured)
        .map(|(pass, figures)| Trial {
            target: GATEWAY.to_owned(),
            pass,
            cost: (wanted.of)(figures),
            operations: u64::from(figures.connections),
            all_requests: 0,
            detail: Detail::Control { each: Vec::new(), clients: None },
        })
        .collect();
    let summaries = summary::summaries(&labels, &trials);
    let goal = wanted.goal.filter(|_| judged);
    let verdict = goal.and_then(|goal| summary::cost_verdict(goal, &summaries, &[]));
    ScenarioReport {
        id: format!("{}-{}", scenario.id, wanted.suffix),
        suite: scenario.suite.name(),
        title: format!("{}: {}", scenario.title, wanted.title),
        unit: wanted.unit,
        summaries,
        ratios: Vec::new(),
        verdicts: verdict.into_iter().collect(),
        notes: notes.to_vec(),
        trials,
    }
}
