//! `loadtest compare`: the same load on several targets in turn, and what each costs.
//!
//! All targets of a scenario run at once, on one core; only one has load at a time. The passes
//! over them go forwards and backwards in turn (A B C, C B A, …), so that a drift of the machine
//! falls on all alike, and ratios are taken within a pass.

pub(crate) mod report;
pub(crate) mod scenario;
pub(crate) mod summary;
pub(crate) mod trial;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Serialize;

use crate::cli::{self, Peer, Suite};
use crate::lab::site::Site;
use crate::lab::{Cores, Gateway, Haproxy, Instance, Lab, Log, Nginx, Product};
use crate::system::{self, interrupt};
use report::{Report, ScenarioReport};
use scenario::{Measure, SCENARIOS, Scenario, Tls, Traffic};
use trial::Trial;

/// The share of failed requests above which a measurement counts for nothing.
pub(crate) const FAILURES_ALLOWED: f64 = 0.001;
/// Client connections that targets are set up for, above what a scenario opens.
const HEADROOM: usize = 600;

/// How it is measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Settings {
    /// Passes over all targets.
    pub(crate) passes: u32,
    /// Length of one measurement.
    #[serde(serialize_with = "as_seconds")]
    pub(crate) window: Duration,
    /// Load before it that is not counted.
    #[serde(serialize_with = "as_seconds")]
    pub(crate) warm_up: Duration,
    /// Connections held idle.
    pub(crate) idle: usize,
    /// Whether this was a run for its own sake.
    pub(crate) quick: bool,
    /// Who ran where.
    pub(crate) cores: Cores,
}

impl Settings {
    fn new(arguments: &cli::Compare) -> Self {
        let quick = arguments.quick;
        let cores = Cores { target: arguments.target_core, load: arguments.load_core };
        if quick {
            let (window, warm_up) = (Duration::from_millis(400), Duration::from_millis(200));
            return Self { passes: 2, window, warm_up, idle: 500, quick, cores };
        }
        let window = Duration::from_secs_f64(arguments.seconds);
        Self {
            passes: arguments.rounds * 2,
            window,
            warm_up: window.div_f64(4.0).max(Duration::from_millis(500)),
            idle: arguments.idle as usize,
            quick,
            cores,
        }
    }

    /// Time allowed for opening all idle connections.
    pub(crate) fn idle_limit(&self) -> Duration {
        Duration::from_secs(20)
            + Duration::from_millis(4) * u32::try_from(self.idle).unwrap_or(u32::MAX)
    }
}

/// A target of one scenario.
struct Entrant<'a> {
    label: String,
    product: &'a dyn Product,
    site: Site,
}

/// Runs the comparison; false if something failed, or a goal was missed where that matters.
pub(crate) fn compare(arguments: &cli::Compare) -> anyhow::Result<bool> {
    let settings = Settings::new(arguments);
    let scenarios = chosen(arguments)?;
    let products = products(arguments)?;
    if system::cores() < 2 && settings.cores.target != settings.cores.load {
        bail!("two cores are needed; to share one, say --target-core 0 --load-core 0");
    }
    system::require_open_files(settings.idle as u64 * 2 + 2_000)?;
    let machine = system::machine();
    system::pin(settings.cores.load)?;

    let temporary =
        tempfile::Builder::new().prefix("loadtest-").tempdir().context("a folder for the lab")?;
    let folder = match &arguments.keep {
        Some(folder) => {
            std::fs::create_dir(folder).with_context(|| format!("{}", folder.display()))?;
            std::path::absolute(folder).with_context(|| format!("{}", folder.display()))?
        }
        None => temporary.path().to_owned(),
    };
    interrupt::install()?;
    let mut lab = Lab::set_up(&folder, settings.cores, arguments.keep.is_some())?;
    let mut report = Report {
        format: crate::report::FORMAT,
        kind: report::KIND,
        machine,
        targets: products
            .iter()
            .map(|product| Ok((product.name().to_owned(), product.version()?)))
            .collect::<anyhow::Result<_>>()?,
        settings,
        scenarios: Vec::new(),
    };
    head(&report).context("standard output")?;

    let mut whole = true;
    for scenario in scenarios {
        match measure(&mut lab, scenario, &products, &report.settings) {
            Ok(Some(done)) => {
                writeln!(io::stdout(), "{}", done.table()).context("standard output")?;
                let missed = done.verdicts.iter().any(|verdict| !verdict.met);
                whole &= !(arguments.strict && missed);
                report.scenarios.push(done);
            }
            Ok(None) => {}
            Err(error) if interrupt::is_asked() => return Err(error),
            Err(error) => {
                eprintln!("loadtest: {}: {error:#}", scenario.id);
                whole = false;
            }
        }
    }
    if let Some(path) = &arguments.json {
        let json = serde_json::to_vec_pretty(&report).context("JSON")?;
        std::fs::write(path, json).with_context(|| format!("{}", path.display()))?;
    }
    Ok(whole)
}

fn chosen(arguments: &cli::Compare) -> anyhow::Result<Vec<&'static Scenario>> {
    for id in &arguments.only {
        if !SCENARIOS.iter().any(|scenario| scenario.id == id) {
            let known: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.id).collect();
            bail!("--only {id}: no such scenario; there are {}", known.join(", "));
        }
    }
    let suites = match arguments.suites.as_slice() {
        [] => &[Suite::L7, Suite::Tls],
        suites => suites,
    };
    let chosen: Vec<_> = SCENARIOS
        .iter()
        .filter(|scenario| suites.contains(&scenario.suite))
        .filter(|scenario| {
            arguments.only.is_empty() || arguments.only.iter().any(|id| id == scenario.id)
        })
        .collect();
    if chosen.is_empty() {
        bail!("none of the scenarios in --only is in the suites named");
    }
    Ok(chosen)
}

/// The gateway first, then the peers.
fn products(arguments: &cli::Compare) -> anyhow::Result<Vec<Box<dyn Product>>> {
    let mut products: Vec<Box<dyn Product>> = Vec::new();
    if !arguments.without_gateway {
        let gateway = Gateway { path: PathBuf::from(&arguments.gateway) };
        gateway.locate()?;
        products.push(Box::new(gateway));
    }
    let peers = arguments.peers.as_deref().unwrap_or(&[Peer::Nginx, Peer::Haproxy]);
    for peer in peers {
        let peer: Box<dyn Product> = match peer {
            Peer::Nginx => Box::new(Nginx),
            Peer::Haproxy => Box::new(Haproxy { log: Log::File }),
            Peer::HaproxyRing => Box::new(Haproxy { log: Log::Memory }),
        };
        match peer.locate() {
            Ok(_) => products.push(peer),
            Err(error) if arguments.peers.is_some() => return Err(error),
            Err(error) => eprintln!("loadtest: going on without {}: {error:#}", peer.name()),
        }
    }
    if products.is_empty() {
        bail!("there is nothing to compare");
    }
    Ok(products)
}

/// Measures one scenario; nothing if it has no target here.
fn measure(
    lab: &mut Lab,
    scenario: &'static Scenario,
    products: &[Box<dyn Product>],
    settings: &Settings,
) -> anyhow::Result<Option<ScenarioReport>> {
    let entrants = entrants(scenario, products);
    if entrants.is_empty() {
        return Ok(None);
    }
    let mut notes = Vec::new();
    let trials = match scenario.measure {
        Measure::Traffic(traffic) => {
            measure_traffic(lab, scenario.id, &entrants, &traffic, settings, &mut notes)?
        }
        Measure::Routes { .. } => {
            let connections = 64;
            let reuse = crate::load::Reuse::KeepAlive;
            let traffic = Traffic { tls: Tls::Off, connections, reuse, body: crate::lab::ANSWER };
            measure_traffic(lab, scenario.id, &entrants, &traffic, settings, &mut notes)?
        }
        Measure::Idle { tls } => measure_idle(lab, scenario.id, &entrants, tls, settings)?,
    };
    let labels: Vec<_> = entrants.iter().map(|entrant| entrant.label.clone()).collect();
    let summaries = summary::summaries(&labels, &trials);
    let ratios = summary::ratios(&labels, &trials);
    let ours = entrants.first().is_some_and(|entrant| entrant.product.name() == "gateway");
    let mut verdicts = Vec::new();
    if ours {
        verdicts.extend(summary::cost_verdict(scenario.goal, &summaries, &ratios));
        if matches!(scenario.measure, Measure::Traffic(_)) {
            verdicts.extend(summary::p99_verdict(&summaries, &ratios));
        }
    }
    if trials.iter().filter_map(Trial::traffic).any(|traffic| traffic.is_disturbed()) {
        notes.push("neither core was full: something else runs on this machine".to_owned());
    }
    notes.extend(overflowing_pools(&labels, &trials));
    if summaries.iter().any(|s| s.traffic.as_ref().is_some_and(|t| t.limited_by_load)) {
        let note = "* the load's core was full before the target's: rate and latency are not the \
                    target's limit";
        notes.push(note.to_owned());
    }
    Ok(Some(ScenarioReport {
        id: scenario.id,
        suite: scenario.suite.name(),
        title: scenario.title,
        unit: report::unit(scenario),
        summaries,
        ratios,
        verdicts,
        notes,
        trials,
    }))
}

/// Names the targets that kept too few connections to the backend: what is compared then is their
/// pools and not their proxying.
fn overflowing_pools(labels: &[String], trials: &[Trial]) -> Vec<String> {
    const NOTEWORTHY: f64 = 0.05;
    let overflows = |label: &&String| {
        let own = trials.iter().filter(|trial| trial.target == **label);
        own.filter_map(Trial::traffic).any(|traffic| traffic.upstream_connections > NOTEWORTHY)
    };
    let note =
        |label| format!("{label} kept connecting anew to the backend: is its pool too small?");
    labels.iter().filter(overflows).map(note).collect()
}

fn entrants<'a>(scenario: &Scenario, products: &'a [Box<dyn Product>]) -> Vec<Entrant<'a>> {
    let entrant = |product: &'a dyn Product, label: String, site| Entrant { label, product, site };
    match scenario.measure {
        Measure::Routes { many, few } => products
            .iter()
            .filter(|product| product.name() == "gateway")
            .flat_map(|product| {
                [many, few].map(|routes| {
                    entrant(&**product, format!("{routes} routes"), Site::with_routes(routes))
                })
            })
            .collect(),
        _ => products
            .iter()
            .map(|product| entrant(&**product, product.name().to_owned(), Site::hundred_hosts()))
            .collect(),
    }
}

fn measure_traffic(
    lab: &mut Lab,
    id: &str,
    entrants: &[Entrant<'_>],
    traffic: &Traffic,
    settings: &Settings,
    notes: &mut Vec<String>,
) -> anyhow::Result<Vec<Trial>> {
    let connections = traffic.connections + HEADROOM;
    let mut instances = Vec::new();
    for entrant in entrants {
        instances.push(start(lab, entrant, connections)?);
    }
    let mut trials: Vec<Trial> = Vec::new();
    for pass in 0..settings.passes {
        for (entrant, instance) in there_and_back(entrants.iter().zip(&instances), pass) {
            progress(id, pass, settings, &entrant.label);
            let trial = trial::traffic(lab, instance, &entrant.site, traffic, settings)?;
            trials.push(Trial { pass, ..trial });
        }
    }
    let mut sent: BTreeMap<&str, u64> = BTreeMap::new();
    for trial in &trials {
        *sent.entry(&trial.target).or_default() += trial.all_requests;
    }
    for instance in instances {
        let (name, sent) = (instance.name.clone(), sent.get(&*instance.name).copied());
        let sent = sent.unwrap_or(0);
        if let Some(logged) = instance.finish()?
            && logged < sent
        {
            notes.push(format!("{name} logged {logged} of {sent} requests"));
        }
    }
    Ok(trials)
}

fn measure_idle(
    lab: &mut Lab,
    id: &str,
    entrants: &[Entrant<'_>],
    tls: bool,
    settings: &Settings,
) -> anyhow::Result<Vec<Trial>> {
    let mut trials = Vec::new();
    // Two passes tell whether a figure repeats: memory hardly varies.
    for pass in 0..2 {
        for entrant in there_and_back(entrants.iter(), pass) {
            progress(id, pass, settings, &entrant.label);
            let instance = start(lab, entrant, settings.idle + HEADROOM)?;
            let trial = trial::idle(lab, &instance, &entrant.site, tls, settings)?;
            instance.finish()?;
            trials.push(Trial { pass, ..trial });
        }
    }
    Ok(trials)
}

fn start(lab: &mut Lab, entrant: &Entrant<'_>, connections: usize) -> anyhow::Result<Instance> {
    let mut instance = lab.start(entrant.product, &entrant.site, connections)?;
    instance.name.clone_from(&entrant.label);
    Ok(instance)
}

/// Forwards in even passes, backwards in odd ones.
fn there_and_back<T>(items: impl DoubleEndedIterator<Item = T>, pass: u32) -> Vec<T> {
    if pass.is_multiple_of(2) { items.collect() } else { items.rev().collect() }
}

fn head(report: &Report) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let Settings { passes, window, quick, cores, .. } = report.settings;
    writeln!(out, "{}", report.machine)?;
    for (name, version) in &report.targets {
        writeln!(out, "  {name}: {version}")?;
    }
    writeln!(
        out,
        "targets on core {}, load and backend on core {}; \
         {passes} passes of {:.1} s; medians (ranges)",
        cores.target,
        cores.load,
        window.as_secs_f64()
    )?;
    if quick {
        writeln!(out, "a quick run: it shows that everything works, its figures mean nothing")?;
    }
    writeln!(out)
}

fn progress(id: &str, pass: u32, settings: &Settings, label: &str) {
    eprintln!("{id}: pass {} of {}: {label}", pass + 1, settings.passes);
}

fn as_seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_go_there_and_back() {
        assert_eq!(there_and_back([1, 2, 3].iter(), 0), [&1, &2, &3]);
        assert_eq!(there_and_back([1, 2, 3].iter(), 1), [&3, &2, &1]);
    }

    #[test]
    fn scenario_ids_are_unique() {
        let mut ids: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), SCENARIOS.len());
    }
}
