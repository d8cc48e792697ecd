//! The cluster suite: a large cluster's objects from its API, and its EndpointSlices changing.
//!
//! In each pass a gateway starts beside an API that has all objects, in network namespaces; then
//! EndpointSlices change at a constant rate. A change is in force when a client is answered by the
//! backend that it names: through an Ingress, or through a VIP. The gateway's side of it is on one
//! core; the API, the clients and the backends are on the other.

mod changes;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context;

use super::Settings;
use super::passes::Passes;
use super::report::{self, ScenarioReport};
use super::scenario::{Estate, Goal, Scenario};
use super::summary::{self, Spread};
use super::trial::{Detail, Trial};
use crate::lab::cluster::Cluster;
use crate::lab::{Lab, Product};
use crate::report::table::{aligned, figure};
use crate::system;
use changes::Course;

/// Gateways that are started, one after the other: two tell whether a figure repeats, and `diff` wants
/// as many.
pub(super) const PASSES: u32 = 2;
/// A quick run has this share of the objects.
const QUICK_SHARE: u16 = 10;
const MEBIBYTE: f64 = 1_048_576.0;

/// A figure of each pass, as a scenario of its own.
struct Figure {
    suffix: &'static str,
    title: &'static str,
    unit: &'static str,
    goal: Option<Goal>,
    /// The figure itself, and what it was found in.
    of: fn(&Figures) -> (f64, &[f64]),
}

const FIGURES: [Figure; 10] = [
    Figure {
        suffix: "ready",
        title: "from the lists' last octet until /readyz",
        unit: "s",
        goal: Some(Goal::Seconds(3.0)),
        of: |figures| (figures.ready, &[]),
    },
    Figure {
        suffix: "start",
        title: "from the start until /readyz",
        unit: "s",
        goal: None,
        of: |figures| (figures.start, &[]),
    },
    Figure {
        suffix: "start-cpu",
        title: "CPU time until /readyz",
        unit: "CPU s",
        goal: None,
        of: |figures| (figures.start_cpu, &[]),
    },
    Figure {
        suffix: "memory",
        title: "resident memory after the start",
        unit: "MiB",
        goal: Some(Goal::Mebibytes(400.0)),
        of: |figures| (figures.memory, &[]),
    },
    Figure {
        suffix: "memory-peak",
        title: "the most memory resident, start and changes",
        unit: "MiB",
        goal: Some(Goal::Mebibytes(400.0)),
        of: |figures| (figures.memory_peak, &[]),
    },
    Figure {
        suffix: "ingress",
        title: "from a changed endpoint to its effect through an Ingress, the median",
        unit: "ms",
        goal: None,
        of: |figures| (quantile(&figures.ingress, 0.5), &figures.ingress),
    },
    Figure {
        suffix: "ingress-p99",
        title: "from a changed endpoint to its effect through an Ingress, the 99th percentile",
        unit: "ms",
        goal: Some(Goal::Milliseconds(100.0)),
        of: |figures| (quantile(&figures.ingress, 0.99), &figures.ingress),
    },
    Figure {
        suffix: "vip",
        title: "from a changed endpoint to its effect through a VIP, the median",
        unit: "ms",
        goal: None,
        of: |figures| (quantile(&figures.vip, 0.5), &figures.vip),
    },
    Figure {
        suffix: "vip-p99",
        title: "from a changed endpoint to its effect through a VIP, the 99th percentile",
        unit: "ms",
        goal: Some(Goal::Milliseconds(100.0)),
        of: |figures| (quantile(&figures.vip, 0.99), &figures.vip),
    },
    Figure {
        suffix: "changes-cpu",
        title: "CPU time of the gateway for a change",
        unit: "CPU ms",
        goal: None,
        of: |figures| (figures.changes_cpu, &[]),
    },
];

/// What one pass showed.
#[derive(Debug, Default)]
struct Figures {
    /// Seconds.
    ready: f64,
    start: f64,
    start_cpu: f64,
    /// MiB.
    memory: f64,
    memory_peak: f64,
    /// Milliseconds.
    ingress: Vec<f64>,
    vip: Vec<f64>,
    changes_cpu: f64,
    notes: Vec<String>,
}

/// Measures the scenario; nothing if the gateway takes no part.
pub(super) fn measure(
    lab: &Lab,
    scenario: &'static Scenario,
    estate: Estate,
    products: &[Box<dyn Product>],
    settings: &Settings,
    passes: &mut Passes,
) -> anyhow::Result<(Vec<ScenarioReport>, String)> {
    let Some(gateway) = products.iter().find(|product| product.name() == "gateway") else {
        return Ok(Default::default());
    };
    let gateway = gateway.locate()?;
    let (estate, course) = match settings.quick {
        true => (estate.share(QUICK_SHARE), Course::QUICK),
        false => (estate, Course::WHOLE),
    };
    let mut notes = Vec::new();
    if settings.quick {
        let Estate { services, ingresses, secrets, .. } = estate;
        notes.push(format!(
            "{services} Services, {ingresses} Ingresses, {secrets} Secrets and {} changes only: a \
             quick run",
            course.changes
        ));
    }
    let all = PASSES;
    let mut measured = Vec::new();
    for pass in 0..all {
        passes.next("pass", pass, all, "gateway");
        let folder = lab.folder().join(format!("{}-{pass}", scenario.id));
        fs::create_dir(&folder).with_context(|| format!("{}", folder.display()))?;
        let cluster = Cluster::set_up(&folder, settings.cores, estate, course.looks_each_way())?;
        let figures = one(&cluster, &gateway, course).context("gateway")?;
        for note in &figures.notes {
            notes.push(format!("pass {}: {note}", pass + 1));
        }
        measured.push((pass, figures));
    }
    let reports: Vec<_> = FIGURES
        .iter()
        .map(|figure| reported(scenario, figure, &measured, &notes, settings.quick))
        .collect();
    let text = table(scenario, &reports, &notes);
    Ok((reports, text))
}

/// One gateway from its start on.
fn one(cluster: &Cluster, gateway: &Path, course: Course) -> anyhow::Result<Figures> {
    let mut started = cluster.start(gateway)?;
    let start_cpu = started.process.cpu_time_of_all()?;
    let mut figures = Figures {
        ready: started.after_lists.as_secs_f64(),
        start: started.after_start.as_secs_f64(),
        start_cpu: start_cpu.as_secs_f64(),
        ..Figures::default()
    };
    if !cluster.wait_until_written()? {
        figures.notes.push("it was still writing back when the changes began".to_owned());
    }
    let processes = started.process.processes()?;
    figures.memory = system::memory(&processes)?.rss as f64 / MEBIBYTE;
    let before = started.process.cpu_time_of_all()?;
    let outcome = changes::run(cluster, course)?;
    let spent = started.process.cpu_time_of_all()?.saturating_sub(before).as_secs_f64();
    figures.changes_cpu = spent * 1e3 / f64::from(course.changes);
    figures.notes.push(format!(
        "{:.0} changes a second, {:.0} % of the gateway's core until all were in force",
        outcome.rate,
        spent / outcome.elapsed * 100.0
    ));
    (figures.ingress, figures.vip) = (outcome.ingress, outcome.vip);
    let pid = processes.first().copied().context("the gateway's process")?;
    figures.memory_peak = system::peak_memory(pid)? as f64 / MEBIBYTE;
    started.process.stop()?;
    Ok(figures)
}

impl Estate {
    /// One in so many objects.
    fn share(self, of: u16) -> Self {
        Self {
            services: self.services / of,
            vips: self.vips / of,
            ingresses: self.ingresses / of,
            secrets: self.secrets / of,
            ..self
        }
    }
}

fn reported(
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
            let (cost, each) = (wanted.of)(figures);
            Trial {
                target: "gateway".to_owned(),
                pass: *pass,
                cost,
                operations: each.len().max(1) as u64,
                all_requests: 0,
                detail: Detail::Control { each: each.to_vec(), clients: None },
            }
        })
        .collect();
    let summaries = summary::summaries(&labels, &trials);
    // The figures of a quick run mean nothing, and so would a goal that they meet or miss.
    let goal = wanted.goal.filter(|_| !quick);
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

/// One table for all figures, a row each.
fn table(scenario: &Scenario, reports: &[ScenarioReport], notes: &[String]) -> String {
    let mut rows = vec![["", "gateway", "(range)", "goal"].map(str::to_owned).to_vec()];
    for (report, wanted) in reports.iter().zip(&FIGURES) {
        let cost = report.summaries.first().map(|summary| summary.cost);
        let cells = cost.map(|cost| {
            [figure(cost.median), format!("({}–{})", figure(cost.min), figure(cost.max))]
        });
        let goals: Vec<_> = report.verdicts.iter().map(report::in_words).collect();
        let mut row = vec![format!("{}, {}", wanted.title, wanted.unit)];
        row.extend(cells.into_iter().flatten());
        row.push(goals.join("; "));
        rows.push(row);
    }
    let mut text = format!("{} [{}]\n{}", scenario.title, scenario.id, aligned(&rows));
    for note in notes {
        let _ = writeln!(text, "  note: {note}");
    }
    text
}

/// The least figure that this share of all is not above.
fn quantile(all: &[f64], share: f64) -> f64 {
    if share == 0.5 {
        return Spread::of(all.iter().copied()).map_or(f64::NAN, |spread| spread.median);
    }
    let mut sorted = all.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_99th_percentile_of_a_hundred_is_the_second_greatest() {
        let all: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(quantile(&all, 0.99), 99.0);
        assert_eq!(quantile(&all, 0.5), 50.5);
        assert!(quantile(&[], 0.99).is_nan());
    }
}
