//! Brings routes, rules, nftables table and kernel settings to what an overlay plan says.
//!
//! Each look compares with what the kernel really holds, so that it may be done again at any time:
//! nothing is done then, or what others did is mended. Only what is the overlay's own is ever
//! changed: routes and rules that this program made (they bear its protocol number) in the tables
//! and at the priorities of a [`Scope`], and its nftables table.
//!
//! Behind every route there is one that refuses its packets and comes last. So where an interface
//! goes away, with its routes, packets are refused rather than leave another way. These come
//! first, then tunnels, routes, rules and marks; what is no more goes in the opposite order.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use ipnet::IpNet;
use netdev::address;
use netdev::nft::{self, Nft};
use netdev::route::monitor::Monitor;
use netdev::route::table::{self, Route, Target};
use netdev::rule::{self, Rule};
use netdev::sysctl::{self, Family, Key};
use plan::overlay::{self, OverlayPlan, Selector, Tunnel};
use thiserror::Error;

use crate::{Interfaces, Keys};

/// Of routes that lead somewhere.
const METRIC: u32 = 10;
/// Of those that refuse, which come last.
const LAST: u32 = u32::MAX - 1;

/// Which tables and priorities are the overlay's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Routing tables.
    pub tables: RangeInclusive<u32>,
    /// Priorities of rules.
    pub priorities: RangeInclusive<u32>,
    /// The nftables table's family and name.
    pub table: &'static str,
}

impl Scope {
    /// What an edge's plans have.
    pub fn edge() -> Self {
        Self { tables: overlay::TABLES, priorities: overlay::PRIORITIES, table: overlay::TABLE }
    }

    /// What a node's plans have. An edge may run beside it.
    pub fn node() -> Self {
        Self {
            tables: overlay::TABLES_NODE,
            priorities: overlay::PRIORITIES_NODE,
            table: overlay::TABLE_NODE,
        }
    }
}

/// What of a plan is not in force.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// nftables can't be changed.
    #[error("nftables: {0}")]
    Table(#[from] nft::NftError),
    /// A route.
    #[error("{0}")]
    Route(#[from] table::TableError),
    /// A rule.
    #[error("{0}")]
    Rule(#[from] rule::RuleError),
    /// A route's interface isn't there.
    #[error(
        "route {network} in table {table}: there is no interface `{interface}`; its packets are \
         refused until it is back"
    )]
    NoInterface {
        /// The network.
        network: IpNet,
        /// The table.
        table: u32,
        /// The interface's name.
        interface: String,
    },
    /// A route or rule of a plan that is not in the [`Scope`]: it isn't made, since it would not be
    /// known as the overlay's.
    #[error("{what} is outside of the overlay's own tables and priorities; please report this")]
    Scope {
        /// Which one.
        what: String,
    },
    /// A kernel setting.
    #[error("{0}")]
    Sysctl(#[from] sysctl::SysctlError),
    /// A kernel setting that is no number.
    #[error("{key} is `{value}`, no number; it has to be at least {wanted}")]
    NoNumber {
        /// Its name.
        key: String,
        /// What it is.
        value: String,
        /// What it has to be.
        wanted: u32,
    },
    /// Interfaces can't be listed.
    #[error("{0}")]
    Interfaces(#[from] address::AddressError),
    /// A WireGuard interface.
    #[error("{0}")]
    Tunnel(crate::Fault),
    /// Changes that others make can't be seen.
    #[error("{0}")]
    Watch(#[from] netdev::NetlinkError),
}

/// What was done.
#[derive(Debug, Default)]
pub struct Report {
    /// How many routes, rules, settings and tables had to be changed.
    pub changes: usize,
    /// Whether that was so though the plan was the same as before and had been in force: others
    /// had changed something.
    pub mended: bool,
    /// What is not in force.
    pub faults: Vec<ApplyError>,
}

/// Applies plans. It leaves everything standing when it is dropped.
#[derive(Debug)]
pub struct Applier {
    scope: Scope,
    nft: Nft,
    monitor: nft::Monitor,
    routes: Monitor,
    /// The text of the table that is in force; none for not known.
    loaded: Option<String>,
    /// What was in force whole.
    done: Option<OverlayPlan>,
    /// What was applied last, whole or not.
    last: OverlayPlan,
}

impl Applier {
    /// In the network namespace of the calling thread. Changes nothing.
    ///
    /// # Errors
    /// There is no `nft`, or it may not be used.
    pub fn open(scope: Scope) -> Result<Self, ApplyError> {
        let nft = Nft::find()?;
        nft.probe()?;
        let monitor = nft.monitor(scope.table)?;
        Ok(Self {
            scope,
            nft,
            monitor,
            routes: Monitor::open()?,
            loaded: None,
            done: None,
            last: OverlayPlan::default(),
        })
    }

    /// Whether there are rules of the overlay, as an earlier run leaves them.
    pub fn has_rules(&self) -> bool {
        rule::list().is_ok_and(|rules| rules.iter().any(|rule| self.is_ours(rule)))
    }

    /// Brings the machine to a plan, or back to it, tunnels included.
    pub fn apply(&mut self, plan: &OverlayPlan, tunnels: &mut Interfaces, keys: &Keys) -> Report {
        let mut report = Report::default();
        self.guard(plan, &mut report);
        // Former tunnels go once nothing leads into them.
        let mut all: BTreeMap<&str, &Tunnel> = BTreeMap::new();
        for tunnel in self.last.tunnels.iter().chain(&plan.tunnels) {
            all.insert(&tunnel.interface, tunnel);
        }
        let former = all.len() > plan.tunnels.len();
        let all: Vec<Tunnel> = all.into_values().cloned().collect();
        let mut faults = tunnels.apply(&all, keys);
        self.routes(plan, &mut report);
        if former {
            faults = tunnels.apply(&plan.tunnels, keys);
        }
        report.faults.extend(faults.into_iter().map(ApplyError::Tunnel));
        self.finish(plan, &mut report);
        report
    }

    /// The same without tunnels, for a machine that has none.
    pub fn apply_routes(&mut self, plan: &OverlayPlan) -> Report {
        let mut report = Report::default();
        self.guard(plan, &mut report);
        self.routes(plan, &mut report);
        self.finish(plan, &mut report);
        report
    }

    /// Takes away all that is the overlay's own, also what another run has left, but for tunnels:
    /// those go after it. Kernel settings stay as they are.
    pub fn remove_all(&mut self) -> Report {
        let mut report = Report::default();
        let nothing = OverlayPlan::default();
        self.loaded = None;
        self.routes(&nothing, &mut report);
        self.finish(&nothing, &mut report);
        report
    }

    /// Readable when others may have changed something: [`Applier::changed`] says so.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.monitor.as_fd(), self.routes.as_fd()]
    }

    /// Whether something changed that the overlay depends on, since this was asked last; own
    /// changes may be among it.
    pub fn changed(&mut self) -> bool {
        let table = self.table_touched();
        // A socket that fails is as good as news: the look at the kernel costs little.
        self.routes.wait(Duration::ZERO).unwrap_or(true) || table
    }

    fn finish(&mut self, plan: &OverlayPlan, report: &mut Report) {
        let same = self.done.as_ref() == Some(plan);
        report.mended = same && report.changes > 0;
        if report.faults.is_empty() {
            if !same {
                self.done = Some(plan.clone());
            }
        } else {
            self.done = None;
        }
        if self.last != *plan {
            self.last.clone_from(plan);
        }
    }

    /// Sees to it that no packet leaves another way: the routes that refuse.
    fn guard(&self, plan: &OverlayPlan, report: &mut Report) {
        let there = self.present(report);
        let refusing = wanted_refusals(plan, &self.scope);
        self.add(&refusing.difference(&there).copied().collect::<Vec<_>>(), report);
    }

    /// All but tunnels.
    fn routes(&mut self, plan: &OverlayPlan, report: &mut Report) {
        settings(&plan.sysctls, report);
        let there = self.present(report);
        let mut wanted = wanted_refusals(plan, &self.scope);
        wanted.extend(self.wanted_routes(plan, report));
        let missing: Vec<_> = wanted.difference(&there).copied().collect();
        self.add(&missing, report);

        let rules = self.wanted_rules(plan, report);
        let present = match rule::list() {
            Ok(found) => found.into_iter().filter(|rule| self.is_ours(rule)).collect(),
            Err(error) => {
                report.faults.push(error.into());
                Vec::new()
            }
        };
        for rule in rules.iter().filter(|rule| !present.contains(rule)) {
            report.take(rule::add(rule));
        }
        self.table(&plan.table, report);
        // One that stands there twice was added by hand; the second goes, too.
        for (at, rule) in present.iter().enumerate() {
            if !rules.contains(rule) || present.iter().take(at).any(|before| before == rule) {
                report.take(rule::remove(rule));
            }
        }
        // One for the same network with the same metric has been replaced.
        let key = |(table, route): &(u32, Route)| (*table, route.network, route.metric);
        let kept: BTreeSet<_> = wanted.iter().map(key).collect();
        let surplus = there.difference(&wanted).filter(|route| !kept.contains(&key(route)));
        let (refusing, leading): (Vec<_>, Vec<_>) =
            surplus.copied().partition(|(_, route)| route.metric == LAST);
        for surplus in [leading, refusing] {
            for (table, routes) in by_table(&surplus) {
                table::remove(table, &routes).into_iter().for_each(|result| report.take(result));
            }
        }
    }

    fn add(&self, missing: &[(u32, Route)], report: &mut Report) {
        for (table, routes) in by_table(missing) {
            table::add(table, &routes).into_iter().for_each(|result| report.take(result));
        }
    }

    /// Our routes, as the kernel has them.
    fn present(&self, report: &mut Report) -> BTreeSet<(u32, Route)> {
        match table::list_all() {
            Ok(found) => {
                found.into_iter().filter(|(table, _)| self.scope.tables.contains(table)).collect()
            }
            Err(error) => {
                report.faults.push(error.into());
                BTreeSet::new()
            }
        }
    }

    /// Routes that lead somewhere, by way of the interfaces that there are.
    fn wanted_routes(&self, plan: &OverlayPlan, report: &mut Report) -> BTreeSet<(u32, Route)> {
        let indices: BTreeMap<String, u32> = match address::interfaces() {
            Ok(found) => found.into_iter().map(|found| (found.name, found.index)).collect(),
            Err(error) => {
                report.faults.push(error.into());
                return BTreeSet::new();
            }
        };
        let mut wanted = BTreeSet::new();
        for route in &plan.routes {
            if !self.scope.tables.contains(&route.table) {
                let what = format!("route {} in table {}", route.network, route.table);
                report.faults.push(ApplyError::Scope { what });
                continue;
            }
            let (interface, gateway) = match &route.target {
                overlay::Target::Unreachable => continue,
                overlay::Target::Throw => {
                    wanted.insert((route.table, leading(route.network, Target::Throw)));
                    continue;
                }
                overlay::Target::Device(interface) => (interface, None),
                overlay::Target::Via { address, interface } => (interface, Some(*address)),
            };
            let Some(&index) = indices.get(interface) else {
                report.faults.push(ApplyError::NoInterface {
                    network: route.network,
                    table: route.table,
                    interface: interface.clone(),
                });
                continue;
            };
            let target = match gateway {
                None => Target::Interface { index, mtu: None, source: None },
                Some(gateway) => Target::Neighbour { index, gateway },
            };
            wanted.insert((route.table, leading(route.network, target)));
        }
        wanted
    }

    fn wanted_rules(&self, plan: &OverlayPlan, report: &mut Report) -> Vec<Rule> {
        let mut rules = Vec::new();
        for rule in &plan.rules {
            let rule = kernel_rule(rule);
            if self.is_ours(&rule) {
                rules.push(rule);
            } else {
                let what = format!("rule {} to table {}", rule.priority, rule.table);
                report.faults.push(ApplyError::Scope { what });
            }
        }
        rules
    }

    fn is_ours(&self, rule: &Rule) -> bool {
        self.scope.priorities.contains(&rule.priority) && self.scope.tables.contains(&rule.table)
    }

    fn table(&mut self, text: &str, report: &mut Report) {
        self.table_touched();
        if self.loaded.as_deref() == Some(text) {
            return;
        }
        if text.is_empty() {
            let (family, name) =
                self.scope.table.split_once(' ').unwrap_or(("inet", self.scope.table));
            match self.nft.list_rules(family, name) {
                Err(error) if error.is_not_there() => {
                    self.loaded = Some(String::new());
                    return;
                }
                Err(error) => return report.faults.push(error.into()),
                Ok(_) => {}
            }
        }
        let transaction = match text {
            "" => format!("delete table {}\n", self.scope.table),
            text => text.to_owned(),
        };
        match self.nft.apply(&transaction) {
            Ok(()) => {
                self.loaded = Some(text.to_owned());
                report.changes += 1;
            }
            Err(error) => {
                self.loaded = None;
                report.faults.push(error.into());
            }
        }
    }

    /// Whether others changed the table; it is loaded anew then.
    fn table_touched(&mut self) -> bool {
        let mut touched = false;
        loop {
            match self.monitor.wait(Duration::ZERO) {
                Ok(None) => break,
                Ok(Some(event)) => {
                    if let nft::Event::Changed { by_pid, by_name, .. } = event {
                        let table = self.scope.table;
                        tracing::warn!(table, by_pid, by_name, "somebody changed this table");
                    }
                    touched = true;
                }
                Err(error) => {
                    tracing::error!(%error, "changes of nftables can't be seen");
                    break;
                }
            }
        }
        if touched {
            self.loaded = None;
        }
        touched
    }
}

impl Report {
    fn take<E: Into<ApplyError>>(&mut self, result: Result<(), E>) {
        match result {
            Ok(()) => self.changes += 1,
            Err(error) => self.faults.push(error.into()),
        }
    }
}

fn leading(network: IpNet, target: Target) -> Route {
    Route { network: network.trunc(), metric: METRIC, target }
}

/// A route that refuses behind each that leads somewhere.
fn wanted_refusals(plan: &OverlayPlan, scope: &Scope) -> BTreeSet<(u32, Route)> {
    let routes = plan.routes.iter().filter(|route| scope.tables.contains(&route.table));
    let refused = routes.filter(|route| route.target != overlay::Target::Throw);
    refused
        .map(|route| {
            let network = route.network.trunc();
            (route.table, Route { network, metric: LAST, target: Target::Unreachable })
        })
        .collect()
}

fn kernel_rule(rule: &overlay::Rule) -> Rule {
    let mut found = Rule {
        family: if rule.v6 { Family::V6 } else { Family::V4 },
        priority: rule.priority,
        not: false,
        mark: 0,
        mask: 0,
        from: None,
        incoming: None,
        table: rule.table,
    };
    match &rule.selector {
        Selector::All => {}
        Selector::Mark { value, mask } => (found.mark, found.mask) = (*value, *mask),
        Selector::From(network) => found.from = Some(network.trunc()),
        Selector::Incoming(interface) => found.incoming = Some(interface.clone()),
    }
    found
}

fn by_table(routes: &[(u32, Route)]) -> BTreeMap<u32, Vec<Route>> {
    let mut tables: BTreeMap<u32, Vec<Route>> = BTreeMap::new();
    for (table, route) in routes {
        tables.entry(*table).or_default().push(*route);
    }
    tables
}

/// Raises settings that are too low.
fn settings(wanted: &BTreeMap<String, u32>, report: &mut Report) {
    for (name, least) in wanted {
        let key = key(name);
        let value = match sysctl::read(&key) {
            Ok(value) => value,
            Err(error) => {
                report.faults.push(error.into());
                continue;
            }
        };
        match value.parse::<i64>() {
            Ok(number) if number >= i64::from(*least) => {}
            Ok(_) => {
                let set = sysctl::set(&key, &least.to_string());
                if let Ok(before) = &set {
                    tracing::info!(setting = %key, before, now = least, "kernel setting raised");
                }
                report.take(set.map(drop));
            }
            Err(_) => report.faults.push(ApplyError::NoNumber {
                key: key.to_string(),
                value,
                wanted: *least,
            }),
        }
    }
}

/// `net.ipv4.conf.eth0.100.rp_filter`: an interface's name may have dots.
fn key(name: &str) -> Key {
    for (prefix, family) in [("net.ipv4.conf.", Family::V4), ("net.ipv6.conf.", Family::V6)] {
        if let Some((interface, last)) =
            name.strip_prefix(prefix).and_then(|rest| rest.rsplit_once('.'))
        {
            return Key::of_interface(family, interface, last);
        }
    }
    Key::new(name)
}
