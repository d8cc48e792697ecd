//! The l4 suite: what the gateway's L4 plane costs, in network namespaces.
//!
//! Packets cost time wherever they are handled: in the process that sends them, the one that waits
//! for them, and in the kernel's own threads. So where the kernel does the work, the figure is the
//! CPU time of all parties: load, target and backend with what the kernel does on their account
//! (this one has no clock of its own for interrupts), and `ksoftirqd`.

mod changes;
mod connects;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::unistd::Pid;

use super::passes::{Passes, there_and_back};
use super::report::{self, ScenarioReport};
use super::scenario::{L4, Scenario};
use super::summary;
use super::trial::{Detail, TrafficDetail, Trial};
use super::{FAILURES_ALLOWED, Settings};
use crate::lab::l4::{Path4, Services, Station, start_backend};
use crate::lab::network::Network;
use crate::lab::{ANSWER, Lab, Product};
use crate::load::outcome::Distribution;
use crate::load::plan::Plan;
use crate::load::{Generator, Load, Request, Reuse};
use crate::system::child::Supervised;
use crate::system::{self, Memory};

/// Time allowed for a request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Time allowed for every connection to have carried a request.
const WARM_WITHIN: Duration = Duration::from_secs(30);
/// Connections at once, where each carries large answers.
const BULK_CONNECTIONS: usize = 16;
/// Bytes of a large answer.
const BULK: u64 = 1 << 20;

/// What measuring takes.
struct Ground<'a> {
    network: Network,
    backend: Supervised,
    gateway: PathBuf,
    folder: &'a Path,
    settings: &'a Settings,
}

/// Measures a scenario of the suite; nothing if the gateway takes no part.
pub(super) fn measure(
    lab: &Lab,
    scenario: &'static Scenario,
    what: L4,
    products: &[Box<dyn Product>],
    settings: &Settings,
    passes: &mut Passes,
) -> anyhow::Result<(Vec<ScenarioReport>, String)> {
    let Some(gateway) = products.iter().find(|product| product.name() == "gateway") else {
        return Ok(Default::default());
    };
    let network = Network::set_up()?;
    let folder = lab.folder().join(scenario.id);
    fs::create_dir(&folder).with_context(|| format!("{}", folder.display()))?;
    let backend = start_backend(&network, &folder, settings.cores.backend)?;
    let gateway = gateway.locate()?;
    let mut ground = Ground { network, backend, gateway, folder: &folder, settings };
    let reports = match what {
        L4::Connection { beside_routing, at_once } => {
            vec![connection(&mut ground, scenario, beside_routing, at_once, passes)?]
        }
        L4::Services { many, few } => {
            vec![connects::measure(&mut ground, scenario, many, few, passes)?]
        }
        L4::Changes { services, endpoints } => {
            changes::measure(&mut ground, scenario, services, endpoints, passes)?
        }
        L4::Bulk => vec![bulk(&mut ground, scenario, passes)?],
    };
    let text = reports.iter().map(ScenarioReport::table).collect::<Vec<_>>().join("\n");
    Ok((reports, text))
}

impl Ground<'_> {
    fn gateway(&mut self, services: Services) -> anyhow::Result<Station> {
        let core = self.settings.cores.target;
        Station::gateway(&mut self.network, self.folder, core, &self.gateway, services)
    }

    fn haproxy(&mut self, splice: bool) -> anyhow::Result<Station> {
        Station::haproxy(&mut self.network, self.folder, self.settings.cores.target, splice)
    }
}

/// One Service, served so.
fn one(path: Path4) -> Services {
    Services { name: "gateway", services: 1, endpoints: 1, path }
}

/// Connections with a request each, through a VIP and otherwise.
fn connection(
    ground: &mut Ground<'_>,
    scenario: &'static Scenario,
    beside_routing: bool,
    connections: usize,
    passes: &mut Passes,
) -> anyhow::Result<ScenarioReport> {
    let other = match beside_routing {
        true => Station::routing(&mut ground.network)?,
        false => ground.haproxy(false)?,
    };
    let stations = vec![ground.gateway(one(Path4::Kernel))?, other];
    let traffic = Traffic { connections, reuse: Reuse::Never, body: ANSWER };
    let trials = traffic_on(ground, &stations, traffic, passes, |figures| {
        figures.all.as_secs_f64() * 1e6 / figures.requests
    })?;
    let mut report = reported(scenario, &stations, trials, ground.settings);
    report.notes.push("CPU time of load, target, backend and ksoftirqd together".to_owned());
    finish(stations)?;
    Ok(report)
}

/// Large answers through user space.
fn bulk(
    ground: &mut Ground<'_>,
    scenario: &'static Scenario,
    passes: &mut Passes,
) -> anyhow::Result<ScenarioReport> {
    let gateway = ground.gateway(one(Path4::UserSpace))?;
    let stations = vec![gateway, ground.haproxy(false)?, ground.haproxy(true)?];
    let traffic = Traffic { connections: BULK_CONNECTIONS, reuse: Reuse::KeepAlive, body: BULK };
    let trials = traffic_on(ground, &stations, traffic, passes, |figures| {
        figures.target.as_secs_f64() * 1e3 / (figures.bytes / 1e9)
    })?;
    let report = reported(scenario, &stations, trials, ground.settings);
    finish(stations)?;
    Ok(report)
}

/// What is asked for.
#[derive(Clone, Copy)]
struct Traffic {
    connections: usize,
    reuse: Reuse,
    body: u64,
}

/// What a window of traffic took.
struct Figures {
    /// CPU time of all parties.
    all: Duration,
    /// CPU time of the target's processes.
    target: Duration,
    requests: f64,
    bytes: f64,
}

/// The same traffic on all stations in turn.
fn traffic_on(
    ground: &Ground<'_>,
    stations: &[Station],
    traffic: Traffic,
    passes: &mut Passes,
    cost: impl Fn(&Figures) -> f64,
) -> anyhow::Result<Vec<Trial>> {
    let mut trials = Vec::new();
    for pass in 0..ground.settings.passes {
        for station in there_and_back(stations.iter(), pass) {
            passes.next("pass", pass, ground.settings.passes, &station.name);
            trials.push(Trial { pass, ..one_window(ground, station, traffic, &cost)? });
        }
    }
    Ok(trials)
}

fn one_window(
    ground: &Ground<'_>,
    station: &Station,
    traffic: Traffic,
    cost: impl Fn(&Figures) -> f64,
) -> anyhow::Result<Trial> {
    let settings = ground.settings;
    let path =
        if traffic.body == ANSWER { "/".to_owned() } else { format!("/bytes/{}", traffic.body) };
    let mut plan = Plan::from(Load {
        address: station.address,
        tls: None,
        requests: vec![Request::get("bench.test", &path, Some(traffic.body))?],
        connections: traffic.connections,
        reuse: traffic.reuse,
        timeout: TIMEOUT,
    });
    plan.sources = station.edge.sources();
    plan.ends_in_order = true;
    let target = match &station.process {
        Some(process) => process.processes()?,
        None => Vec::new(),
    };
    let backend = ground.backend.processes()?;
    let kernel = kernel_threads()?;
    let clocks = || -> anyhow::Result<[Duration; 4]> {
        Ok([
            system::cpu_time(&target)?,
            system::cpu_time(&backend)?,
            system::own_cpu_time()?,
            system::cpu_time(&kernel)?,
        ])
    };
    // Connections are made as they are needed: where this thread is then.
    let _inside = ground.network.client.enter()?;
    let mut generator = Generator::new(plan)?;
    generator.drive_until_warm(WARM_WITHIN)?;
    generator.drive(settings.warm_up)?;
    let warm_up = generator.stats.requests;
    generator.stats.reset();
    let (start, before) = (Instant::now(), clocks()?);
    generator.drive(settings.window)?;
    let (elapsed, after) = (start.elapsed().as_secs_f64(), clocks()?);

    let stats = &generator.stats;
    if stats.failure_share() > FAILURES_ALLOWED {
        bail!("{}: too many failures: {}", station.name, stats.failure_text());
    }
    if stats.requests == 0 {
        bail!("{}: no request was answered within {:?}", station.name, settings.window);
    }
    let [target, backend, load, kernel] =
        std::array::from_fn(|party| match (after.get(party), before.get(party)) {
            (Some(after), Some(before)) => after.saturating_sub(*before),
            _ => Duration::ZERO,
        });
    let figures = Figures {
        all: target + backend + load + kernel,
        target,
        requests: stats.requests as f64,
        bytes: stats.body_bytes as f64,
    };
    let each = |time: Duration| time.as_secs_f64() * 1e6 / figures.requests;
    Ok(Trial {
        target: station.name.clone(),
        pass: 0,
        cost: cost(&figures),
        operations: stats.requests,
        all_requests: warm_up + stats.requests,
        detail: Detail::Traffic(TrafficDetail {
            requests_per_second: figures.requests / elapsed,
            p50_us: stats.latency_us(0.5),
            p99_us: stats.latency_us(0.99),
            target_busy: target.as_secs_f64() / elapsed,
            load_busy: (load + backend).as_secs_f64() / elapsed,
            generator_us: each(load),
            backend_us: each(backend),
            latency: Distribution::of(&stats.latency),
            memory: Memory::default(),
            failures: stats.failures.iter().map(|(kind, count)| (kind.name(), *count)).collect(),
            ..TrafficDetail::default()
        }),
    })
}

/// The kernel's threads that handle packets when there are too many.
pub(super) fn kernel_threads() -> anyhow::Result<Vec<Pid>> {
    let mut threads = Vec::new();
    for entry in fs::read_dir("/proc").context("/proc")? {
        let entry = entry.context("/proc")?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // A process may have ended since.
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if name.starts_with("ksoftirqd/") {
            threads.push(Pid::from_raw(pid));
        }
    }
    Ok(threads)
}

/// The report of trials on stations, the first of which is the gateway.
fn reported(
    scenario: &'static Scenario,
    stations: &[Station],
    trials: Vec<Trial>,
    settings: &Settings,
) -> ScenarioReport {
    let labels: Vec<_> = stations.iter().map(|station| station.name.clone()).collect();
    let summaries = summary::summaries(&labels, &trials);
    let ratios = summary::ratios(&labels, &trials);
    // The figures of a quick run mean nothing, and so would a goal that they meet or miss.
    let goal = scenario.goal.filter(|_| !settings.quick);
    let verdicts = goal
        .and_then(|goal| summary::cost_verdict(goal, &summaries, &ratios))
        .into_iter()
        .collect();
    ScenarioReport {
        id: scenario.id.to_owned(),
        suite: scenario.suite.name(),
        title: scenario.title.to_owned(),
        unit: report::unit(scenario),
        summaries,
        ratios,
        verdicts,
        notes: Vec::new(),
        trials,
    }
}

fn finish(stations: Vec<Station>) -> anyhow::Result<()> {
    stations.into_iter().try_for_each(Station::finish)
}
