//! The vpn suite and the overlay's: what a tunnel between two gateways, or between a node and an
//! edge, costs, in network namespaces.
//!
//! The gateways are pinned to a core each, and the hosts behind them each to the core of the other
//! site's gateway, so that none of the four waits for its neighbour in the path. The figure is the
//! CPU time of the two gateways' processes, with what the kernel does on their account (it has no
//! clock of its own for interrupts here): a packet costs each of them half of it, "a packet and
//! side". What the hosts and the kernel's own threads take is counted, too, and stands beside it.

mod echo;
mod overlay;
mod small;
mod stream;
mod tunnels;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::unistd::Pid;

use super::Settings;
use super::l4::kernel_threads;
use super::passes::{Passes, there_and_back};
use super::report::ScenarioReport;
use super::scenario::{Goal, Measure, Scenario, Vpn};
use super::summary::{self, Figure, Ratio, Summary, Verdict};
use super::trial::{Detail, Trial, TunnelDetail};
use crate::cli::Suite;
use crate::lab::vpn::{Kind, Offloads, Party, Site, Workshop, wireguard_go};
use crate::lab::{Lab, Product};
use crate::system::{self, interrupt};

/// What is compared with what.
const GATEWAY: &str = "gateway";
const PLAIN: &str = "gateway-plain";
const LIBIPSEC: &str = "libipsec";
const BORINGTUN: &str = "boringtun";
const ROUTING: &str = "routing";

/// How often a window looks whether it is to be broken off.
const LOOK: Duration = Duration::from_millis(20);

/// Measures a scenario of the suite.
pub(super) fn measure(
    lab: &Lab,
    scenario: &'static Scenario,
    what: Vpn,
    products: &[Box<dyn Product>],
    settings: &Settings,
    passes: &mut Passes,
) -> anyhow::Result<(Vec<ScenarioReport>, String)> {
    let folder = lab.folder().join(scenario.id);
    fs::create_dir(&folder).with_context(|| format!("{}", folder.display()))?;
    let gateway = gateway(products)?;
    let workshop = Workshop { gateway: gateway.as_deref(), folder: &folder, cores: settings.cores };
    let kinds = kinds(scenario.suite, what, products);
    let reports = match what {
        Vpn::Tunnels { connections } if gateway.is_some() => {
            tunnels::measure(&workshop, scenario, connections, settings, passes)?
        }
        Vpn::Tunnels { .. } => return Ok(Default::default()),
        Vpn::Bulk | Vpn::Small | Vpn::Latency => {
            let parties = kinds.iter().map(|kind| workshop.start(*kind));
            let parties = parties.collect::<anyhow::Result<Vec<_>>>()?;
            let all = windows(&parties, what, settings, passes)?;
            for party in parties {
                party.finish()?;
            }
            reports(scenario, what, &all, settings)
        }
    };
    let text = reports.iter().map(ScenarioReport::table).collect::<Vec<_>>().join("\n");
    Ok((reports, text))
}

fn gateway(products: &[Box<dyn Product>]) -> anyhow::Result<Option<PathBuf>> {
    products.iter().find(|product| product.name() == GATEWAY).map(|own| own.locate()).transpose()
}

/// Who takes part.
pub(super) fn kinds(suite: Suite, what: Vpn, products: &[Box<dyn Product>]) -> Vec<Kind> {
    let mut all = Vec::new();
    let with_gateway = products.iter().any(|product| product.name() == GATEWAY);
    if suite == Suite::Overlay {
        if with_gateway {
            all.extend([Kind::Overlay(Offloads::On), Kind::Overlay(Offloads::Off)]);
        }
        all.push(Kind::Boringtun);
        all.extend(wireguard_go::is_there().then_some(Kind::WireguardGo));
        all.push(Kind::Routing);
        return all;
    }
    if with_gateway {
        all.push(Kind::Gateway(Offloads::On));
    }
    if let Vpn::Tunnels { .. } = what {
        return all;
    }
    if with_gateway {
        all.push(Kind::Gateway(Offloads::Off));
    }
    all.extend([Kind::Libipsec, Kind::Boringtun, Kind::Routing]);
    all
}

/// Names and versions of the other programs that take part in any of these.
///
/// # Errors
/// One is not there; it says how to get it.
pub(super) fn peers(scenarios: &[&Scenario]) -> anyhow::Result<Vec<(String, String)>> {
    let mut all: Vec<Kind> = Vec::new();
    for scenario in scenarios {
        let Measure::Vpn(what) = scenario.measure else { continue };
        for kind in kinds(scenario.suite, what, &[]) {
            if !all.contains(&kind) {
                all.push(kind);
            }
        }
        if scenario.suite == Suite::Overlay && !wireguard_go::is_there() {
            eprintln!(
                "loadtest: {} goes on without wireguard-go: {}",
                scenario.id,
                wireguard_go::REMEDY
            );
        }
    }
    let named = all.iter().filter_map(|kind| match kind.version() {
        Ok(version) => version.map(|version| Ok((kind.name().to_owned(), version))),
        Err(error) => Some(Err(error)),
    });
    named.collect()
}

/// What a window of one party showed.
struct Window {
    kind: Kind,
    pass: u32,
    /// Packets that went from one host to the other, either way.
    packets: f64,
    /// Bits that the hosts sent each other in them.
    bits: f64,
    /// Octets of each.
    packet: u32,
    spent: Spent,
    /// What each answer took, ns.
    latency: Option<hdrhistogram::Histogram<u64>>,
}

/// All parties in turn.
fn windows(
    parties: &[Party],
    what: Vpn,
    settings: &Settings,
    passes: &mut Passes,
) -> anyhow::Result<Vec<Window>> {
    let mut all = Vec::new();
    for pass in 0..settings.passes {
        for party in there_and_back(parties.iter(), pass) {
            let name = party.kind.name();
            passes.next("pass", pass, settings.passes, name);
            let window = match what {
                Vpn::Bulk => stream::window(party, settings),
                Vpn::Small => small::window(party, settings),
                Vpn::Latency | Vpn::Tunnels { .. } => echo::window(party, settings),
            };
            all.push(Window { pass, ..window.with_context(|| name)? });
        }
    }
    Ok(all)
}

/// The clocks of all who take part in a window.
struct Meter {
    sides: [Vec<Pid>; 2],
    kernel: Vec<Pid>,
}

/// Their time at one moment.
struct Clocks {
    at: Instant,
    sides: [Duration; 2],
    hosts: Duration,
    kernel: Duration,
}

/// Seconds between two moments.
#[derive(Clone, Copy, Debug)]
struct Spent {
    elapsed: f64,
    /// CPU time of A's gateway, and of B's.
    sides: [f64; 2],
    hosts: f64,
    kernel: f64,
}

impl Meter {
    fn of(party: &Party) -> anyhow::Result<Self> {
        let sides = [party.processes(Site::A)?, party.processes(Site::B)?];
        Ok(Self { sides, kernel: kernel_threads()? })
    }

    fn read(&self) -> anyhow::Result<Clocks> {
        let [a, b] = &self.sides;
        Ok(Clocks {
            at: Instant::now(),
            sides: [system::cpu_time(a)?, system::cpu_time(b)?],
            hosts: system::own_cpu_time()?,
            kernel: system::cpu_time(&self.kernel)?,
        })
    }

    /// What the time between two readings was spent with.
    fn spent(before: &Clocks, after: &Clocks) -> Spent {
        let seconds = |after: Duration, before| after.saturating_sub(before).as_secs_f64();
        let ([a, b], [a_before, b_before]) = (after.sides, before.sides);
        Spent {
            elapsed: (after.at - before.at).as_secs_f64(),
            sides: [seconds(a, a_before), seconds(b, b_before)],
            hosts: seconds(after.hosts, before.hosts),
            kernel: seconds(after.kernel, before.kernel),
        }
    }
}

impl Spent {
    fn gateways(&self) -> f64 {
        self.sides.iter().sum()
    }

    fn all(&self) -> f64 {
        self.gateways() + self.hosts + self.kernel
    }
}

/// Lets time pass, unless the end is asked for.
fn pass_time(time: Duration) -> anyhow::Result<()> {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        interrupt::check()?;
        std::thread::sleep(left.min(LOOK));
    }
    Ok(())
}

/// A report of some of the parties, the first of which is the one that is compared.
struct Table {
    /// What stands behind the scenario's id.
    suffix: &'static str,
    /// What stands behind its title.
    title: &'static str,
    unit: &'static str,
    parties: &'static [&'static str],
    /// The figure that is compared.
    cost: fn(&Window) -> f64,
    /// What the first one has to reach: its own figure, and against others.
    own_goal: Option<Goal>,
    goals: &'static [(&'static str, f64)],
    note: Option<&'static str>,
}

/// CPU µs of a gateway for a packet.
fn a_side(window: &Window) -> f64 {
    window.spent.gateways() / 2.0 / window.packets * 1e6
}

/// CPU µs of everybody for a packet.
fn everybody(window: &Window) -> f64 {
    window.spent.all() / window.packets * 1e6
}

fn median_latency(window: &Window) -> f64 {
    let median = window.latency.as_ref().map(|all| all.value_at_quantile(0.5));
    median.map_or(f64::NAN, |nanoseconds| nanoseconds as f64 / 1e3)
}

const A_SIDE: &str = "CPU µs/packet and side";
const ALL: &[&str] = &[GATEWAY, PLAIN, LIBIPSEC, BORINGTUN, ROUTING];
/// Tables in which the CPU time of everybody counts.
const OF_ALL: &str = "-all";
const EVERYBODY: &str = "CPU time of gateways, hosts and ksoftirqd together";

const BULK: &[Table] = &[
    Table {
        suffix: "",
        title: "",
        unit: A_SIDE,
        parties: &[GATEWAY, LIBIPSEC, BORINGTUN],
        cost: a_side,
        own_goal: Some(Goal::Microseconds(1.5)),
        goals: &[(LIBIPSEC, 8.0), (BORINGTUN, 4.0)],
        note: None,
    },
    Table {
        suffix: "-plain",
        title: ", without offloads",
        unit: A_SIDE,
        parties: &[PLAIN, LIBIPSEC, BORINGTUN],
        cost: a_side,
        own_goal: Some(Goal::Microseconds(7.0)),
        goals: &[(LIBIPSEC, 1.7)],
        note: None,
    },
    Table {
        suffix: OF_ALL,
        title: ", everybody's CPU time",
        unit: "CPU µs/packet",
        parties: ALL,
        cost: everybody,
        own_goal: None,
        goals: &[],
        note: Some(EVERYBODY),
    },
];

const SMALL: &[Table] = &[
    Table {
        suffix: "",
        title: "",
        unit: A_SIDE,
        parties: &[GATEWAY, PLAIN, LIBIPSEC, BORINGTUN],
        cost: a_side,
        own_goal: None,
        goals: &[],
        note: None,
    },
    Table {
        suffix: OF_ALL,
        title: ", everybody's CPU time",
        unit: "CPU µs/packet",
        parties: ALL,
        cost: everybody,
        own_goal: None,
        goals: &[],
        note: Some(EVERYBODY),
    },
];

const LATENCY: &[Table] = &[Table {
    suffix: "",
    title: "",
    unit: "µs",
    parties: ALL,
    cost: median_latency,
    own_goal: None,
    goals: &[],
    note: None,
}];

fn reports(
    scenario: &'static Scenario,
    what: Vpn,
    windows: &[Window],
    settings: &Settings,
) -> Vec<ScenarioReport> {
    let is_overlay = scenario.suite == Suite::Overlay;
    let tables = match what {
        Vpn::Bulk if is_overlay => overlay::BULK,
        Vpn::Small if is_overlay => overlay::SMALL,
        Vpn::Latency if is_overlay => overlay::LATENCY,
        Vpn::Bulk => BULK,
        Vpn::Small => SMALL,
        Vpn::Latency | Vpn::Tunnels { .. } => LATENCY,
    };
    let of_table = |table: &Table| report(scenario, what, table, windows, settings);
    tables.iter().filter_map(of_table).collect()
}

/// Nothing if there is nobody to compare: the gateway takes no part.
fn report(
    scenario: &'static Scenario,
    what: Vpn,
    table: &Table,
    windows: &[Window],
    settings: &Settings,
) -> Option<ScenarioReport> {
    let is_there = |party: &&&str| windows.iter().any(|window| window.kind.name() == **party);
    let labels: Vec<String> =
        table.parties.iter().filter(is_there).map(|party| (*party).to_owned()).collect();
    let own: Vec<&Window> = windows
        .iter()
        .filter(|window| labels.iter().any(|label| label == window.kind.name()))
        .collect();
    let is_first = labels.first().map(String::as_str) == table.parties.first().copied();
    // Without the gateway, a further table of the others says nothing new.
    if own.is_empty() || (!is_first && !table.suffix.is_empty() && table.suffix != OF_ALL) {
        return None;
    }
    let trials: Vec<Trial> = own.iter().map(|window| trial(window, what, table)).collect();
    let summaries = summary::summaries(&labels, &trials);
    let ratios = summary::ratios(&labels, &trials);
    let mut notes: Vec<String> = table.note.map(str::to_owned).into_iter().collect();
    notes.extend(sizes(&own, what));
    notes.extend(added(&summaries, what));
    // The figures of a quick run mean nothing, and so would a goal that they meet or miss.
    let is_judged = is_first && !settings.quick;
    let verdicts = if is_judged { verdicts(table, &summaries, &ratios) } else { Vec::new() };
    Some(ScenarioReport {
        id: format!("{}{}", scenario.id, table.suffix),
        suite: scenario.suite.name(),
        title: format!("{}{}", scenario.title, table.title),
        unit: table.unit,
        summaries,
        ratios,
        verdicts,
        notes,
        trials,
    })
}

fn verdicts(table: &Table, summaries: &[Summary], ratios: &[Ratio]) -> Vec<Verdict> {
    let own = table.own_goal.and_then(|goal| summary::cost_verdict(goal, summaries, ratios));
    let against = table.goals.iter().filter_map(|(other, limit)| {
        let figure = ratios.iter().find(|ratio| ratio.against == *other)?.throughput?.median;
        Some(Verdict {
            of: Figure::Throughput,
            against: Some((*other).to_owned()),
            goal: Goal::Times(*limit),
            figure,
            met: figure >= *limit,
        })
    });
    own.into_iter().chain(against).collect()
}

fn trial(window: &Window, what: Vpn, table: &Table) -> Trial {
    let Spent { elapsed, sides, hosts, kernel } = window.spent;
    let each = |seconds: f64| seconds / window.packets * 1e6;
    let gateways = window.spent.gateways();
    let gigabits = window.bits / 1e9;
    Trial {
        target: window.kind.name().to_owned(),
        pass: window.pass,
        cost: (table.cost)(window),
        operations: window.packets as u64,
        all_requests: 0,
        detail: match (what, &window.latency) {
            (Vpn::Latency, Some(latency)) => Detail::Traffic(echo::detail(window, latency)),
            _ => Detail::Tunnel(TunnelDetail {
                requests_per_second: window.packets / elapsed,
                gigabits_per_second: gigabits / elapsed,
                gigabits_per_cpu_second: (gateways > 0.0).then(|| gigabits / gateways),
                packet: window.packet,
                sides_us: sides.map(each),
                hosts_us: each(hosts),
                kernel_us: each(kernel),
                target_busy: gateways / elapsed,
            }),
        },
    }
}

/// Whether packets were of the size that they should have.
fn sizes(windows: &[&Window], what: Vpn) -> Option<String> {
    let wanted = u32::from(crate::lab::vpn::PACKET);
    let other = windows.iter().find(|window| what == Vpn::Bulk && window.packet != wanted)?;
    Some(format!(
        "{}: packets of {} octets in place of {wanted}: figures for a packet are no match",
        other.kind.name(),
        other.packet
    ))
}

/// How much the tunnels add to what the path takes anyway.
fn added(summaries: &[Summary], what: Vpn) -> Option<String> {
    let floor = summaries.iter().find(|one| what == Vpn::Latency && one.target == ROUTING)?;
    let others = summaries.iter().filter(|one| one.target != ROUTING);
    let each: Vec<_> = others
        .map(|one| {
            let added = one.cost.median - floor.cost.median;
            format!("{} {} µs", one.target, crate::report::table::figure(added))
        })
        .collect();
    Some(format!("added to plain routing there and back: {}", each.join(", ")))
}
