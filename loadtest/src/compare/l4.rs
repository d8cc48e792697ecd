//! The L4 suite: what connections through the edge cost, and how many Services it bears.
//!
//! Packets are forwarded in the kernel, on behalf of whichever process sent them, so a connection's
//! cost is the CPU time of all parties: load, backend, the target's process if it has one, and the
//! kernel's softirq threads. Plain routing over an edge without any rule is what the rest is held
//! against.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

use super::passes::{Passes, there_and_back};
use super::report::ScenarioReport;
use super::scenario::{Goal, Scenario};
use super::summary::{self, Figure, Ratio, Verdict};
use super::trial::{Detail, TrafficDetail, Trial};
use super::{FAILURES_ALLOWED, Settings};
use crate::lab::edges::{self, Edges, Serving};
use crate::lab::{ANSWER, Product, get};
use crate::load::outcome::Distribution;
use crate::load::plan::Plan;
use crate::load::{Generator, Load, Request, Reuse};
use crate::system;

/// Time allowed for a request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Connections at once where their cost is measured.
const CONNECTIONS: usize = 16;
/// Bytes of an answer of the bulk.
const BULK: u64 = 64 << 20;
/// Connections of the bulk.
const BULK_CONNECTIONS: usize = 4;
/// Services, and endpoints of each, where many are measured.
const MANY: usize = 10_000;
const FEW: usize = 10;
const ENDPOINTS: usize = 10;
/// In a quick run.
const QUICK_MANY: usize = 500;
/// Services of one address.
const PER_ADDRESS: usize = 250;
/// Changes of one endpoint.
const CHANGES: usize = 7;
/// Time for a change to be in force.
const EFFECT: Duration = Duration::from_secs(20);

/// What of L4 is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// CPU time of all parties for a connection.
    Connect,
    /// Latency of a connection beside many Services.
    Services,
    /// Time to load many Services, and to change one.
    Load,
    /// CPU time of a process that passes bytes on.
    Bulk,
}

/// Someone who takes part.
struct Party {
    label: &'static str,
    serving: Serving,
}

/// Measures a scenario of this suite; nothing if there is no gateway to measure.
pub(super) fn measure(
    folder: &Path,
    scenario: &'static Scenario,
    kind: Kind,
    products: &[Box<dyn Product>],
    settings: &Settings,
    progress: &mut Passes,
) -> anyhow::Result<Option<(Vec<ScenarioReport>, String)>> {
    let Some(gateway) = products.iter().find(|product| product.name() == "gateway") else {
        return Ok(None);
    };
    let path = gateway.locate()?;
    let edges = Edges::set_up(folder, settings.cores, 3)?;
    let mut reports = match kind {
        Kind::Connect => vec![connect(&edges, scenario, &path, settings, progress)?],
        Kind::Services => vec![services(&edges, scenario, &path, settings, progress)?],
        Kind::Bulk => vec![bulk(&edges, scenario, &path, settings, progress)?],
        Kind::Load => load(&edges, scenario, &path, settings, progress)?,
    };
    if settings.quick {
        reports.iter_mut().for_each(|report| report.verdicts.clear());
    }
    let text = reports.iter().map(ScenarioReport::table).collect::<Vec<_>>().join("\n");
    Ok(Some((reports, text)))
}

fn connect(
    edges: &Edges,
    scenario: &'static Scenario,
    path: &Path,
    settings: &Settings,
    progress: &mut Passes,
) -> anyhow::Result<ScenarioReport> {
    let vip = Edges::vip(1, 1);
    let objects = objects(1, edges::service("web", vip, 80, &[], &[edges.backend_address(1)]));
    let parties = [
        Party { label: "gateway", serving: edges.gateway(path, 1, (vip, 80).into(), &objects)? },
        Party { label: "routing", serving: edges.routed(2) },
        Party { label: "haproxy", serving: edges.haproxy(3)? },
    ];
    let traffic = Traffic { connections: CONNECTIONS, reuse: Reuse::Never, body: ANSWER };
    let trials = passes(edges, &parties, traffic, Count::AllParties, settings, progress)?;
    let verdicts = |ratios: &[Ratio]| {
        let against =
            |label, limit| ratio_verdict(ratios, label, limit, |ratio| Some(ratio.cost.median));
        [against("routing", 1.3), against("haproxy", 0.55)].into_iter().flatten().collect()
    };
    Ok(report(
        scenario,
        scenario.id,
        scenario.title,
        "CPU µs/connection",
        &parties,
        trials,
        verdicts,
    ))
}

fn services(
    edges: &Edges,
    scenario: &'static Scenario,
    path: &Path,
    settings: &Settings,
    progress: &mut Passes,
) -> anyhow::Result<ScenarioReport> {
    let many = if settings.quick { QUICK_MANY } else { MANY };
    let serve = |edge: u8, count: usize| {
        let vip = Edges::vip(edge, 250);
        let mut files = many_services(edge, count);
        files.push((
            "web.json".to_owned(),
            edges::service("web", vip, 80, &[], &[edges.backend_address(edge)]),
        ));
        edges.gateway(path, edge, (vip, 80).into(), &files)
    };
    let parties = [
        Party { label: "10,000 services", serving: serve(1, many)? },
        Party { label: "10 services", serving: serve(2, FEW)? },
    ];
    let traffic = Traffic { connections: 1, reuse: Reuse::Never, body: ANSWER };
    let trials = passes(edges, &parties, traffic, Count::AllParties, settings, progress)?;
    let verdicts = |ratios: &[Ratio]| {
        let median = |ratio: &Ratio| ratio.p50.map(|p50| p50.median);
        ratio_verdict(ratios, "10 services", 1.03, median)
            .map(|verdict| Verdict { of: Figure::P50, ..verdict })
            .into_iter()
            .collect()
    };
    let mut report = report(
        scenario,
        scenario.id,
        scenario.title,
        "CPU µs/connection",
        &parties,
        trials,
        verdicts,
    );
    if many != MANY {
        report.notes.push(format!("{many} services only: a quick run"));
    }
    Ok(report)
}

fn bulk(
    edges: &Edges,
    scenario: &'static Scenario,
    path: &Path,
    settings: &Settings,
    progress: &mut Passes,
) -> anyhow::Result<ScenarioReport> {
    let vip = Edges::vip(1, 1);
    let through = [("tidegate.io/user-space", "true")];
    let objects = objects(1, edges::service("web", vip, 80, &through, &[edges.backend_address(1)]));
    let parties = [
        Party { label: "gateway", serving: edges.gateway(path, 1, (vip, 80).into(), &objects)? },
        Party { label: "haproxy", serving: edges.haproxy(3)? },
    ];
    let traffic = Traffic { connections: BULK_CONNECTIONS, reuse: Reuse::KeepAlive, body: BULK };
    let trials = passes(edges, &parties, traffic, Count::Target, settings, progress)?;
    let verdicts = |ratios: &[Ratio]| {
        ratio_verdict(ratios, "haproxy", 1.0, |ratio| Some(ratio.cost.median)).into_iter().collect()
    };
    Ok(report(scenario, scenario.id, scenario.title, "CPU µs/64 MiB", &parties, trials, verdicts))
}

/// How long it takes until many Services are in force, and until one changed endpoint is.
fn load(
    edges: &Edges,
    scenario: &'static Scenario,
    path: &Path,
    settings: &Settings,
    progress: &mut Passes,
) -> anyhow::Result<Vec<ScenarioReport>> {
    let many = if settings.quick { QUICK_MANY } else { MANY };
    let passes = settings.few_passes();
    let mut figures: BTreeMap<&str, Vec<Trial>> = BTreeMap::new();
    for pass in 0..passes {
        progress.next("pass", pass, passes, "gateway");
        let start = Instant::now();
        let files = many_services(1, many);
        let vip: SocketAddr = (Edges::vip(1, 1), 1_000).into();
        let serving = edges.gateway(path, 1, vip, &files)?;
        let mut note = |what, cost, each: Vec<f64>| {
            figures.entry(what).or_default().push(Trial {
                target: "gateway".to_owned(),
                pass,
                cost,
                operations: each.len().max(1) as u64,
                all_requests: 0,
                detail: Detail::Control { each, clients: None },
            });
        };
        note("start", start.elapsed().as_secs_f64() * 1e3, Vec::new());
        let admin = Edges::admin(serving.edge);
        note("apply", metric(admin, "tidegate_l4_apply_duration_seconds")? * 1e3, Vec::new());
        let (mut applied, mut seen) = (Vec::new(), Vec::new());
        for change in 0..CHANGES {
            // One service's file, one of its endpoints another.
            let before = metric(admin, "tidegate_l4_generation_applied")?;
            let begun = Instant::now();
            edges.replace(1, "one.json", &one_service(1, change as u8 + 1))?;
            while metric(admin, "tidegate_l4_generation_applied")? <= before {
                if begun.elapsed() > EFFECT {
                    bail!("a changed endpoint was not in force within {EFFECT:?}");
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            seen.push(begun.elapsed().as_secs_f64() * 1e3);
            applied.push(metric(admin, "tidegate_l4_apply_duration_seconds")? * 1e3);
            std::thread::sleep(Duration::from_millis(200));
        }
        let median = |each: &[f64]| {
            summary::Spread::of(each.iter().copied()).map_or(f64::NAN, |spread| spread.median)
        };
        note("change", median(&applied), applied);
        note("change-seen", median(&seen), seen);
    }
    let titles = [
        ("start", "from the start until ready", None),
        ("apply", "loading them into the kernel", Some(1_500.0)),
        ("change", "one endpoint's change, in the kernel", Some(20.0)),
        ("change-seen", "one endpoint's change, from its file", None),
    ];
    let reports = titles.into_iter().filter_map(|(what, title, limit)| {
        let trials = figures.remove(what)?;
        let labels = ["gateway".to_owned()];
        let summaries = summary::summaries(&labels, &trials);
        let verdict = |limit| {
            let goal = Goal::Milliseconds(limit);
            summary::cost_verdict(goal, &summaries, &[])
        };
        Some(ScenarioReport {
            id: format!("{}-{what}", scenario.id),
            suite: scenario.suite.name(),
            title: format!("{many} services of {ENDPOINTS} endpoints: {title}"),
            unit: "ms",
            verdicts: limit.and_then(verdict).into_iter().collect(),
            summaries,
            ratios: Vec::new(),
            notes: Vec::new(),
            trials,
        })
    });
    Ok(reports.collect())
}

/// A kind of load.
#[derive(Clone, Copy)]
struct Traffic {
    connections: usize,
    reuse: Reuse,
    body: u64,
}

/// Whose CPU time is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Count {
    /// Of everybody who takes part, and the kernel's softirq threads.
    AllParties,
    /// Of the target's process.
    Target,
}

fn passes(
    edges: &Edges,
    parties: &[Party],
    traffic: Traffic,
    count: Count,
    settings: &Settings,
    progress: &mut Passes,
) -> anyhow::Result<Vec<Trial>> {
    let mut trials = Vec::new();
    for pass in 0..settings.passes {
        for party in there_and_back(parties.iter(), pass) {
            progress.next("pass", pass, settings.passes, party.label);
            let trial = one(edges, party, traffic, count, settings)
                .with_context(|| party.label.to_owned())?;
            trials.push(Trial { pass, ..trial });
        }
    }
    Ok(trials)
}

/// One measurement of one party.
fn one(
    edges: &Edges,
    party: &Party,
    traffic: Traffic,
    count: Count,
    settings: &Settings,
) -> anyhow::Result<Trial> {
    let path =
        if traffic.body == ANSWER { "/".to_owned() } else { format!("/bytes/{}", traffic.body) };
    let mut plan = Plan::from(Load {
        address: party.serving.address,
        tls: None,
        requests: vec![Request::get("lab", &path, Some(traffic.body))?],
        connections: traffic.connections,
        reuse: traffic.reuse,
        timeout: TIMEOUT,
    });
    plan.sources.clone_from(&party.serving.sources);
    let mut generator = Generator::new(plan)?;
    let target = match &party.serving.process {
        Some(process) => process.processes()?,
        None => Vec::new(),
    };
    let backend = edges.backend().processes()?;
    let kernel = system::softirq_threads()?;
    let clocks = || -> anyhow::Result<[Duration; 4]> {
        Ok([
            system::cpu_time(&target)?,
            system::own_cpu_time()?,
            system::cpu_time(&backend)?,
            system::cpu_time(&kernel)?,
        ])
    };
    generator.drive(settings.warm_up)?;
    generator.stats.reset();
    let (before, begun) = (clocks()?, Instant::now());
    generator.drive(settings.window)?;
    let (elapsed, after) = (begun.elapsed().as_secs_f64(), clocks()?);
    let stats = &generator.stats;
    if stats.failure_share() > FAILURES_ALLOWED {
        bail!("too many failures: {}", stats.failure_text());
    }
    if stats.requests == 0 {
        bail!("no request was answered within {:?}", settings.window);
    }
    let [target_time, generator_time, backend_time, kernel_time] =
        std::array::from_fn(|party| after[party].saturating_sub(before[party]));
    let each = |time: Duration| time.as_secs_f64() * 1e6 / stats.requests as f64;
    let cost = match count {
        Count::Target => target_time,
        Count::AllParties => target_time + generator_time + backend_time + kernel_time,
    };
    Ok(Trial {
        target: party.label.to_owned(),
        pass: 0,
        cost: each(cost),
        operations: stats.requests,
        all_requests: stats.requests,
        detail: Detail::Traffic(TrafficDetail {
            requests_per_second: stats.requests as f64 / elapsed,
            p50_us: stats.latency_us(0.5),
            p99_us: stats.latency_us(0.99),
            latency: Distribution::of(&stats.latency),
            target_busy: target_time.as_secs_f64() / elapsed,
            load_busy: (generator_time + backend_time).as_secs_f64() / elapsed,
            generator_us: each(generator_time),
            backend_us: each(backend_time),
            failures: stats.failures.iter().map(|(kind, count)| (kind.name(), *count)).collect(),
            ..TrafficDetail::default()
        }),
    })
}

fn report(
    scenario: &Scenario,
    id: &str,
    title: &str,
    unit: &'static str,
    parties: &[Party],
    trials: Vec<Trial>,
    verdicts: impl Fn(&[Ratio]) -> Vec<Verdict>,
) -> ScenarioReport {
    let labels: Vec<_> = parties.iter().map(|party| party.label.to_owned()).collect();
    let ratios = summary::ratios(&labels, &trials);
    ScenarioReport {
        id: id.to_owned(),
        suite: scenario.suite.name(),
        title: title.to_owned(),
        unit,
        summaries: summary::summaries(&labels, &trials),
        verdicts: verdicts(&ratios),
        ratios,
        notes: Vec::new(),
        trials,
    }
}

/// Whether the ratio to one of the others is at most a limit.
fn ratio_verdict(
    ratios: &[Ratio],
    against: &str,
    limit: f64,
    of: impl Fn(&Ratio) -> Option<f64>,
) -> Option<Verdict> {
    let figure = of(ratios.iter().find(|ratio| ratio.against == against)?)?;
    let goal = Goal::RatioTo(limit);
    Some(Verdict { of: Figure::Cost, goal, figure, met: figure <= limit })
}

/// The pool and one Service.
fn objects(edge: u8, service: Vec<Value>) -> Vec<(String, Vec<Value>)> {
    vec![("pool.json".to_owned(), vec![edges::pool(edge)]), ("web.json".to_owned(), service)]
}

/// The pool and many Services with endpoints that nobody asks for, a hundred in a file, and one in a
/// file of its own.
fn many_services(edge: u8, count: usize) -> Vec<(String, Vec<Value>)> {
    let all: Vec<usize> = (0..count.saturating_sub(1)).collect();
    let mut files: Vec<_> = all
        .chunks(100)
        .enumerate()
        .map(|(index, chunk)| {
            let objects = chunk.iter().flat_map(|number| numbered(edge, *number, 0)).collect();
            (format!("services-{index:03}.json"), objects)
        })
        .collect();
    files.push(("one.json".to_owned(), one_service(edge, 0)));
    files.push(("pool.json".to_owned(), vec![edges::pool(edge)]));
    files
}

/// The one Service that is changed.
fn one_service(edge: u8, turn: u8) -> Vec<Value> {
    numbered(edge, MANY - 1, turn)
}

fn numbered(edge: u8, number: usize, turn: u8) -> Vec<Value> {
    let address = Edges::vip(edge, 1 + (number / PER_ADDRESS) as u8);
    let port = 1_000 + (number % PER_ADDRESS) as u16;
    let endpoints: Vec<SocketAddr> = (0..ENDPOINTS)
        .map(|endpoint| {
            let place = number * ENDPOINTS + endpoint;
            let turned = if endpoint == 0 { turn } else { 0 };
            let [_, high, middle, low] = (place as u32).to_be_bytes();
            let ip = Ipv4Addr::new(10, 64 + high + turned, middle, low);
            (ip, 8080).into()
        })
        .collect();
    edges::service(&format!("s{number}"), address, port, &[], &endpoints)
}

/// A metric without labels.
fn metric(admin: SocketAddr, name: &str) -> anyhow::Result<f64> {
    let answer = get(admin, "lab", "/metrics")?;
    let line = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.trim().parse().ok()).with_context(|| format!("no metric {name}"))
}
