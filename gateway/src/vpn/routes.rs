//! The routes that lead packets for remote networks into the tunnel interface, in a table of
//! their own, with a blackhole behind each for as long as the interface isn't there.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use netdev::route::table::{Route, Target};
use netdev::rule::Rule;
use netdev::sysctl::Family;
use plan::vpn::table::{MARK, MARK_MASK};
use plan::vpn::{Policy, VpnPlan};

use super::kernel::Kernel;
use crate::l4::kernel::Fault;
use crate::l4::retry::Retry;

/// The table's number.
pub(super) const TABLE: u32 = 0x5447;
/// The rule's place: before the main table (32766).
const PRIORITY: u32 = 5447;
/// Of the routes into the interface, and of exceptions.
pub(super) const METRIC: u32 = 10;
/// Of the blackholes, which come last.
const LAST: u32 = u32::MAX - 1;
/// How often others' changes are looked for.
const LOOK: Duration = Duration::from_secs(5);

/// What is in force.
#[derive(Debug, Default)]
pub(super) struct Routes {
    wanted: BTreeSet<Route>,
    /// When the kernel was looked at last.
    looked: Option<Instant>,
    fault: Option<Fault>,
    retry: Retry,
}

impl Routes {
    /// Brings the kernel's routes to what a plan says: without an interface, blackholes. Returns whether somebody else had changed
    /// them.
    pub(super) fn apply(
        &mut self,
        now: Instant,
        plan: &VpnPlan,
        interface: Option<&str>,
        links: bool,
        kernel: &mut impl Kernel,
    ) -> bool {
        let wanted = wanted(plan, interface, kernel);
        let same = wanted == self.wanted && self.fault.is_none();
        let is_fresh =
            self.looked.is_some_and(|looked| now.saturating_duration_since(looked) < LOOK);
        if same && is_fresh && !links || !self.retry.is_due(now) {
            return false;
        }
        match bring(&wanted, kernel) {
            Ok(changed) => {
                (self.fault, self.retry) = (None, Retry::default());
                self.looked = Some(now);
                let mended = changed && same && !links;
                self.wanted = wanted;
                mended
            }
            Err(fault) => {
                self.retry.failed(now);
                self.fault = Some(fault);
                false
            }
        }
    }

    /// Takes them all away.
    pub(super) fn remove(kernel: &mut impl Kernel) -> Result<(), Fault> {
        bring(&BTreeSet::new(), kernel).map(drop)
    }

    /// When something is to be done next.
    pub(super) fn next(&self) -> Option<Instant> {
        match self.fault {
            Some(_) => self.retry.next(),
            None if self.wanted.is_empty() => None,
            None => self.looked.map(|looked| looked + LOOK),
        }
    }

    /// Why the wanted routes aren't there.
    pub(super) fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }
}

fn wanted(plan: &VpnPlan, interface: Option<&str>, kernel: &mut impl Kernel) -> BTreeSet<Route> {
    let mut routes = BTreeSet::new();
    if plan.routes.is_empty() {
        return routes;
    }
    let index = interface.and_then(|interface| kernel.interface(interface));
    let own = kernel.addresses().unwrap_or_default();
    for network in &plan.routes {
        let blackhole = Route { network: *network, metric: LAST, target: Target::Blackhole };
        routes.insert(blackhole);
        // What is exempt is thrown, also where it is as large.
        if let Some(index) = index.filter(|_| !plan.exempt.contains(network)) {
            let policies = plan.connections.values().flat_map(|connection| &connection.policies);
            let source = source(policies, network, &own);
            let target = Target::Interface { index, mtu: None, source };
            routes.insert(Route { network: *network, metric: METRIC, target });
        }
    }
    let exempt = plan.exempt.iter();
    routes.extend(exempt.map(|network| Route {
        network: *network,
        metric: METRIC,
        target: Target::Throw,
    }));
    routes
}

/// An address of the machine's own that may speak to a remote network.
fn source<'a>(
    policies: impl Iterator<Item = &'a Policy>,
    network: &IpNet,
    own: &[IpNet],
) -> Option<IpAddr> {
    let v4 = network.addr().is_ipv4();
    let mut usable = policies
        .filter(|policy| policy.remote.iter().any(|remote| network.contains(remote)))
        .flat_map(|policy| &policy.local)
        .filter(|local| local.addr().is_ipv4() == v4);
    usable.find_map(|local| {
        let own = own.iter().map(IpNet::addr);
        own.filter(|address| address.is_ipv4() == network.addr().is_ipv4())
            .filter(|address| !address.is_loopback())
            .find(|address| local.contains(address))
    })
}

/// Brings rules and routes to what is wanted; whether anything had to be changed.
fn bring(wanted: &BTreeSet<Route>, kernel: &mut impl Kernel) -> Result<bool, Fault> {
    let there: BTreeSet<Route> = kernel.routes(TABLE)?.into_iter().collect();
    let missing: Vec<Route> = wanted.difference(&there).copied().collect();
    let key = |route: &Route| (route.network, route.metric);
    let kept: BTreeSet<_> = wanted.iter().map(key).collect();
    // One for the same network with the same metric is replaced, not removed.
    let surplus: Vec<Route> =
        there.difference(wanted).filter(|route| !kept.contains(&key(route))).copied().collect();
    let rules = rules(wanted);
    let present: Vec<Rule> = kernel.rules()?.into_iter().filter(is_ours).collect();
    let mut faults = kernel.add_routes(TABLE, &missing);
    let mut changed = !missing.is_empty() || !surplus.is_empty();
    for rule in rules.iter().filter(|rule| !present.contains(rule)) {
        changed = true;
        faults.extend(kernel.add_rule(rule).err());
    }
    for rule in present.iter().filter(|rule| !rules.contains(rule)) {
        changed = true;
        faults.extend(kernel.remove_rule(rule).err());
    }
    faults.extend(kernel.remove_routes(TABLE, &surplus));
    match faults.into_iter().next() {
        Some(fault) => Err(fault),
        None => Ok(changed),
    }
}

fn is_ours(rule: &Rule) -> bool {
    rule.table == TABLE
}

/// A rule for each family that has routes: all packets but the tunnels' own look into the table.
fn rules(wanted: &BTreeSet<Route>) -> Vec<Rule> {
    let has = |v4: bool| wanted.iter().any(|route| route.network.addr().is_ipv4() == v4);
    let rule = |family| Rule {
        family,
        priority: PRIORITY,
        not: true,
        mark: MARK,
        mask: MARK_MASK,
        from: None,
        incoming: None,
        table: TABLE,
    };
    let families = [(Family::V4, has(true)), (Family::V6, has(false))];
    families.into_iter().filter(|(_, has)| *has).map(|(family, _)| rule(family)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_packets_leave_from_an_address_of_the_same_family_that_may_speak() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let policy = Policy {
            child: "site".to_owned(),
            local: vec![net("10.1.0.0/24"), net("fd01::/64")],
            remote: vec![net("10.2.0.0/24"), net("fd02::/64")],
            local_nat: Vec::new(),
            remote_nat: Vec::new(),
            sources: None,
            local_selectors: Vec::new(),
            remote_selectors: Vec::new(),
        };
        let own = [net("192.0.2.1/24"), net("10.1.0.1/24"), net("fd01::1/64")];
        let of = |network: &str| {
            source(std::iter::once(&policy), &net(network), &own).map(|ip| ip.to_string())
        };
        assert_eq!(of("10.2.0.0/24").unwrap(), "10.1.0.1");
        assert_eq!(of("fd02::/64").unwrap(), "fd01::1");
        assert_eq!(of("10.9.0.0/24"), None);
    }
}
