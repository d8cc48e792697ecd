//! `loadtest compare`: the same load on several targets in turn, and what each costs.
//!
//! All targets of a scenario run at once, on one core; only one has load at a time. The passes
//! over them go forwards and backwards in turn (A B C, C B A, …), so that a drift of the machine
//! falls on all alike, and ratios are taken within a pass.

mod choice;
mod cluster;
pub(crate) mod control;
mod l4;
mod latency;
mod passes;
pub(crate) mod report;
pub(crate) mod scenario;
pub(crate) mod summary;
pub(crate) mod trial;
mod vpn;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Serialize;

use crate::cli;
use crate::lab::site::Site;
use crate::lab::{Cores, Instance, Key, Lab, Order, Product};
use crate::report::compared::Compared;
use crate::report::html;
use crate::system::{self, interrupt};
use passes::{Passes, there_and_back};
use report::{Report, ScenarioReport};
use scenario::{Capacity, Measure, Scenario, Tls, Traffic};
use summary::Ratio;
use trial::Trial;

/// The share of failed requests above which a measurement counts for nothing.
pub(crate) const FAILURES_ALLOWED: f64 = 0.001;
/// Client connections that targets are set up for, above what a scenario opens.
const HEADROOM: usize = 600;
/// Connections of the route scenarios.
const ROUTES_CONNECTIONS: usize = 64;
/// Idle connections of a quick run.
const QUICK_IDLE: usize = 500;

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
    fn new(arguments: &cli::Compare, cores: Cores) -> Self {
        let quick = arguments.quick;
        if quick {
            let (window, warm_up) = (Duration::from_millis(400), Duration::from_millis(200));
            return Self { passes: 2, window, warm_up, idle: QUICK_IDLE, quick, cores };
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

    /// Passes where two tell enough: whether a figure repeats that hardly varies, or about how much
    /// a target can take.
    fn few_passes(&self) -> u32 {
        if self.quick { 1 } else { 2 }
    }

    /// Connections that a scenario holds, which may have a number of its own.
    fn idle_connections(&self, own: Option<usize>) -> usize {
        own.filter(|_| !self.quick).unwrap_or(self.idle)
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
    let cores = choice::cores(arguments)?;
    let settings = Settings::new(arguments, cores);
    let (scenarios, left_out) = choice::scenarios(arguments, &settings)?;
    for choice::LeftOut { id, reason } in &left_out {
        eprintln!("loadtest: going on without {id}: {reason}");
    }
    let products = choice::products(arguments)?;
    let mut targets = Vec::new();
    for product in &products {
        targets.push((product.name().to_owned(), product.version()?));
    }
    targets.extend(vpn::peers(&scenarios)?);
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
        targets,
        settings,
        scenarios: Vec::new(),
        left_out,
    };
    head(&report).context("standard output")?;

    // A goal that was not measured was not reached.
    let mut whole = !arguments.strict || report.left_out.is_empty();
    let mut passes = Passes::planned(&scenarios, &products, &report.settings);
    for scenario in scenarios {
        passes.begin(scenario);
        let measured = measure(&mut lab, scenario, &products, &report.settings, &mut passes);
        passes.end();
        match measured {
            Ok((done, text)) => {
                writeln!(io::stdout(), "{text}").context("standard output")?;
                let mut verdicts = done.iter().flat_map(|report| &report.verdicts);
                whole &= !(arguments.strict && verdicts.any(|verdict| !verdict.met));
                report.scenarios.extend(done);
            }
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
    if let Some(path) = &arguments.html {
        let page = html::compare(&Compared::of(&report)?);
        std::fs::write(path, page).with_context(|| format!("{}", path.display()))?;
    }
    Ok(whole)
}

/// Measures one scenario: what comes of it, and the text for the terminal. Nothing if it has no
/// target here.
fn measure(
    lab: &mut Lab,
    scenario: &'static Scenario,
    products: &[Box<dyn Product>],
    settings: &Settings,
    passes: &mut Passes,
) -> anyhow::Result<(Vec<ScenarioReport>, String)> {
    if let Measure::Control { apps } = scenario.measure {
        let measured = control::measure(lab, scenario, apps, products, settings, passes)?;
        return Ok(measured.unwrap_or_default());
    }
    if let Measure::L4(what) = scenario.measure {
        return l4::measure(lab, scenario, what, products, settings, passes);
    }
    if let Measure::Vpn(what) = scenario.measure {
        return vpn::measure(lab, scenario, what, products, settings, passes);
    }
    if let Measure::Cluster(estate) = scenario.measure {
        return cluster::measure(lab, scenario, estate, products, settings, passes);
    }
    let entrants = entrants(scenario, products);
    if entrants.is_empty() {
        return Ok(Default::default());
    }
    let report = measure_requests(lab, scenario, &entrants, settings, passes)?;
    let text = report.table();
    Ok((vec![report], text))
}

/// The same for all that is requests and connections.
fn measure_requests(
    lab: &mut Lab,
    scenario: &'static Scenario,
    entrants: &[Entrant<'_>],
    settings: &Settings,
    passes: &mut Passes,
) -> anyhow::Result<ScenarioReport> {
    let mut notes = Vec::new();
    let over = |traffic, capacity| Course { traffic, capacity, settings };
    let trials = match scenario.measure {
        Measure::Traffic(traffic) => {
            measure_traffic(lab, entrants, over(traffic, None), passes, &mut notes)?
        }
        Measure::Latency { traffic, of } => {
            measure_traffic(lab, entrants, over(traffic, Some(of)), passes, &mut notes)?
        }
        Measure::Routes { .. } => {
            let traffic = Traffic {
                tls: Tls::Off,
                key: Key::Ecdsa,
                connections: ROUTES_CONNECTIONS,
                reuse: crate::load::Reuse::KeepAlive,
                body: crate::lab::ANSWER,
            };
            measure_traffic(lab, entrants, over(traffic, None), passes, &mut notes)?
        }
        Measure::Idle { tls, connections } => {
            let held = settings.idle_connections(connections);
            if connections.is_some_and(|wanted| wanted != held) {
                notes.push(format!("{held} connections only: a quick run"));
            }
            measure_idle(lab, entrants, tls, held, settings, passes)?
        }
        Measure::Control { .. } | Measure::L4(_) | Measure::Vpn(_) | Measure::Cluster(_) => {
            bail!("{}: is not made of requests", scenario.id)
        }
    };
    let labels: Vec<_> = entrants.iter().map(|entrant| entrant.label.clone()).collect();
    let summaries = summary::summaries(&labels, &trials);
    let ratios = summary::ratios(&labels, &trials);
    let mut verdicts = Vec::new();
    // The figures of a quick run mean nothing, and so would a goal that they meet or miss.
    let is_judged = !settings.quick;
    if is_judged && entrants.first().is_some_and(|first| first.product.name() == "gateway") {
        let judged = judged(scenario, entrants, &ratios);
        let cost = |goal| summary::cost_verdict(goal, &summaries, &judged);
        verdicts.extend(scenario.goal.and_then(cost));
        if let Measure::Latency { of: Capacity::Least, .. } = scenario.measure {
            verdicts.extend(summary::latency_verdicts(&summaries, &judged));
        }
    }
    if trials.iter().filter_map(Trial::traffic).any(|traffic| traffic.is_disturbed()) {
        let open = matches!(scenario.measure, Measure::Latency { .. });
        let sign = if open { "requests began late" } else { "neither core was full" };
        notes.push(format!("{sign}: something else runs on this machine"));
    }
    notes.extend(overflowing_pools(&labels, &trials));
    if summaries.iter().any(|s| s.traffic.as_ref().is_some_and(|t| t.limited_by_load)) {
        let note = match scenario.measure {
            Measure::Latency { .. } => "* the generator began requests late: latencies are its own",
            _ => {
                "* the load's core was full before the target's: rate and latency are not the \
                 target's limit"
            }
        };
        notes.push(note.to_owned());
    }
    Ok(ScenarioReport {
        id: scenario.id.to_owned(),
        suite: scenario.suite.name(),
        title: scenario.title.to_owned(),
        unit: report::unit(scenario),
        summaries,
        ratios,
        verdicts,
        notes,
        trials,
    })
}

/// The ratios that goals are about: those to nginx and HAProxy, or to the gateway itself.
fn judged(scenario: &Scenario, entrants: &[Entrant<'_>], ratios: &[Ratio]) -> Vec<Ratio> {
    let itself = matches!(scenario.measure, Measure::Routes { .. });
    let counts = |label: &str| {
        let is_it = |entrant: &&Entrant<'_>| entrant.label == label;
        itself || entrants.iter().find(is_it).is_some_and(|entrant| entrant.product.sets_goals())
    };
    ratios.iter().filter(|ratio| counts(&ratio.against)).cloned().collect()
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

/// Which traffic, and how fast.
struct Course<'a> {
    traffic: Traffic,
    /// What the rates follow from; as fast as the targets answer if there is nothing.
    capacity: Option<Capacity>,
    settings: &'a Settings,
}

/// Traffic on all entrants in turn: as fast as they answer, or at rates that follow from a
/// capacity.
fn measure_traffic(
    lab: &mut Lab,
    entrants: &[Entrant<'_>],
    course: Course<'_>,
    progress: &mut Passes,
    notes: &mut Vec<String>,
) -> anyhow::Result<Vec<Trial>> {
    let Course { traffic, capacity, settings } = course;
    let connections = traffic.connections + HEADROOM;
    let mut instances = Vec::new();
    for entrant in entrants {
        instances.push(start(lab, entrant, connections, traffic.key)?);
    }
    let mut sent: BTreeMap<String, u64> = BTreeMap::new();
    let mut passes = |passes: u32,
                      rates: Option<&BTreeMap<String, f64>>|
     -> anyhow::Result<Vec<Trial>> {
        let mut trials = Vec::new();
        for pass in 0..passes {
            for (entrant, instance) in there_and_back(entrants.iter().zip(&instances), pass) {
                let label = &entrant.label;
                let what = if capacity.is_some() && rates.is_none() { "capacity" } else { "pass" };
                progress.next(what, pass, passes, label);
                let rate = match rates {
                    None => None,
                    Some(rates) => match rates.get(label) {
                        None => continue,
                        rate => rate.copied(),
                    },
                };
                let trial = trial::traffic(lab, instance, &entrant.site, &traffic, rate, settings)?;
                *sent.entry(trial.target.clone()).or_default() += trial.all_requests;
                trials.push(Trial { pass, ..trial });
            }
        }
        Ok(trials)
    };
    let trials = match capacity {
        None => passes(settings.passes, None)?,
        Some(of) => {
            let closed = passes(settings.few_passes(), None)?;
            let rates = latency::rates(of, entrants, &closed, notes)?;
            let trials = passes(settings.passes, Some(&rates))?;
            notes.extend(latency::behind(&trials));
            trials
        }
    };
    for instance in instances {
        let name = instance.name.clone();
        let sent = sent.get(&name).copied().unwrap_or(0);
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
    entrants: &[Entrant<'_>],
    tls: bool,
    connections: usize,
    settings: &Settings,
    passes: &mut Passes,
) -> anyhow::Result<Vec<Trial>> {
    let mut trials = Vec::new();
    for pass in 0..settings.few_passes() {
        for entrant in there_and_back(entrants.iter(), pass) {
            passes.next("pass", pass, settings.few_passes(), &entrant.label);
            let instance = start(lab, entrant, connections + HEADROOM, Key::Ecdsa)?;
            let trial = trial::idle(&instance, &entrant.site, tls, connections)?;
            instance.finish()?;
            trials.push(Trial { pass, ..trial });
        }
    }
    Ok(trials)
}

fn start(
    lab: &mut Lab,
    entrant: &Entrant<'_>,
    connections: usize,
    key: Key,
) -> anyhow::Result<Instance> {
    let order = Order { site: &entrant.site, connections, key };
    let mut instance = lab.start(entrant.product, order)?;
    instance.name.clone_from(&entrant.label);
    Ok(instance)
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
        "targets on core {}, load on core {}, backend on core {}; \
         {passes} passes of {:.1} s; medians (ranges)",
        cores.target,
        cores.load,
        cores.backend,
        window.as_secs_f64()
    )?;
    if quick {
        writeln!(out, "a quick run: it shows that everything works, its figures mean nothing")?;
    }
    writeln!(out)
}

fn as_seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}
