//! Which networks go over which edge: those of VpnConnections, and egress.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use model::ObjectKey;
use model::snapshot::overlay::Connection;

use super::TABLE_REMOTE_GUARD;
use super::{Known, PRIORITY, Planner, TABLE_EGRESS, TABLE_EGRESS_GUARD, TABLE_REMOTE};
use crate::l4::hash::fnv;
use crate::overlay::tunnel::alone;
use crate::overlay::{Active, Route, Rule, Selector, Target};

/// Link-local addresses, and those of groups.
const LINKS: [&str; 4] = ["169.254.0.0/16", "224.0.0.0/4", "fe80::/10", "ff00::/8"];

/// Where networks go; unreachable without a target.
type Targets = BTreeMap<IpNet, Option<Target>>;

impl Planner<'_> {
    /// Adds routes and rules. Returns who carries what.
    pub(super) fn remote(
        &self,
        routes: &mut BTreeSet<Route>,
        rules: &mut BTreeSet<Rule>,
    ) -> Active {
        let mut active = Active::default();
        let connections = self.connections(&mut active);
        let own = self.own_networks();
        install(&connections, &own, (TABLE_REMOTE, TABLE_REMOTE_GUARD), routes);
        // A remote network that is written as large as a link of the node's own, or as an edge or
        // another node, would cut it off.
        let never = self.links().chain(self.machines());
        for own in never.filter(|own| connections.contains_key(own)) {
            for table in [TABLE_REMOTE, TABLE_REMOTE_GUARD] {
                routes.retain(|route| route.table != table || route.network != own);
                routes.insert(Route { table, network: own, target: Target::Throw });
            }
        }
        let egress = self.egress(&mut active);
        let own: Vec<IpNet> = own.into_iter().chain(self.elsewhere()).collect();
        install(&egress, &own, (TABLE_EGRESS, TABLE_EGRESS_GUARD), routes);
        for v6 in [false, true] {
            let mut add = |step: u32, selector: &Selector, table: u32| {
                let selector = selector.clone();
                rules.insert(Rule { priority: PRIORITY + step, v6, selector, table });
            };
            add(4, &Selector::All, TABLE_REMOTE);
            add(5, &Selector::All, TABLE_REMOTE_GUARD);
            let pods = self.own.iter().flat_map(|own| &own.pods);
            for network in pods.filter(|network| network.addr().is_ipv6() == v6) {
                add(6, &Selector::From(*network), TABLE_EGRESS);
                add(7, &Selector::From(*network), TABLE_EGRESS_GUARD);
            }
        }
        active
    }

    /// The networks of VpnConnections. The oldest that this node may use has a network; those
    /// that only others may use are unreachable from here.
    fn connections(&self, active: &mut Active) -> Targets {
        let mut all: Vec<(&ObjectKey, &Connection)> = self.snapshot.connections.iter().collect();
        let zone = self.own.and_then(|own| own.zone.as_ref());
        let is_ours =
            |connection: &Connection| connection.zone.is_none() || connection.zone.as_ref() == zone;
        all.sort_by_key(|(key, connection)| {
            (!is_ours(connection), connection.created.is_none(), connection.created, *key)
        });
        let mut targets = Targets::new();
        for (key, connection) in all {
            let holder = self.holder(key).filter(|_| is_ours(connection));
            if let Some(holder) = holder {
                active.vpn.insert(key.clone(), holder.name.clone());
            }
            for network in &connection.remote {
                let target = || holder.and_then(|one| one.way.target(network.addr().is_ipv4()));
                targets.entry(network.trunc()).or_insert_with(target);
            }
        }
        targets
    }

    /// The edge that says that it holds a connection: one that isn't about to give it up, if two
    /// say so for a moment.
    fn holder(&self, key: &ObjectKey) -> Option<&Known<'_>> {
        let holders = self.edges.iter().filter(|known| known.is_usable());
        let holders = holders.filter(|known| known.probed.vpn.contains(key));
        holders.min_by_key(|known| (known.probed.drain, known.name))
    }

    /// Egress networks, each over one of the edges that offer it: the same one for as long as it
    /// lives, and not the same for all nodes.
    fn egress(&self, active: &mut Active) -> Targets {
        let mut targets = Targets::new();
        let networks: BTreeSet<IpNet> =
            self.edges.iter().flat_map(|known| &known.edge.egress).map(IpNet::trunc).collect();
        for network in networks {
            let v4 = network.addr().is_ipv4();
            let offered = self.edges.iter().filter(|known| {
                known.edge.egress.contains(&network)
                    && known.is_usable()
                    && known.way.target(v4).is_some()
            });
            let weight = |name: &str| fnv(format!("{} {name}", self.settings.name).as_bytes(), 1);
            let best = offered.max_by_key(|known| {
                let drains = known.probed.drain || known.edge.drain;
                (!drains, weight(known.name), known.name)
            });
            if let Some(best) = best {
                active.egress.get_or_insert_with(|| best.name.clone());
            }
            targets.insert(network, best.and_then(|best| best.way.target(v4)));
        }
        targets
    }

    /// Networks of this side: never remote, even where a remote network holds them.
    fn own_networks(&self) -> Vec<IpNet> {
        let host = self.links();
        let edges = self.snapshot.edges.values().flat_map(|edge| edge.services.iter().copied());
        let nodes = self.snapshot.nodes.values().flat_map(|node| node.pods.iter().copied());
        let local = self.snapshot.connections.values().flat_map(|one| one.local.iter().copied());
        let others = self.machines().chain(edges).chain(nodes).chain(local);
        host.chain(others).map(|network| network.trunc()).collect()
    }

    /// The addresses of edges and nodes.
    fn machines(&self) -> impl Iterator<Item = IpNet> + '_ {
        let edges = self.snapshot.edges.values().flat_map(|edge| &edge.addresses);
        let nodes = self.snapshot.nodes.values().flat_map(|node| &node.addresses);
        edges.chain(nodes).map(|address| alone(*address))
    }

    /// Networks that the node itself is on.
    fn links(&self) -> impl Iterator<Item = IpNet> + '_ {
        let host = self.input.host.iter().filter(|own| own.interface != "lo");
        let host = host.filter(|own| !self.is_tunnel(&own.interface));
        host.map(|own| own.network.trunc())
    }

    /// What pods reach without an edge, besides: also what never leaves a link.
    fn elsewhere(&self) -> impl Iterator<Item = IpNet> + '_ {
        let links = LINKS.iter().filter_map(|text| text.parse::<IpNet>().ok());
        let routed = self.input.routed.iter().map(IpNet::trunc);
        routed.filter(|network| network.prefix_len() > 0).chain(links)
    }
}

/// Adds the routes, those that refuse packets in their place, and exceptions to both.
fn install(
    targets: &Targets,
    own: &[IpNet],
    (table, guard): (u32, u32),
    routes: &mut BTreeSet<Route>,
) {
    for (network, target) in targets {
        let target = target.clone().unwrap_or(Target::Unreachable);
        routes.insert(Route { table, network: *network, target });
        routes.insert(Route { table: guard, network: *network, target: Target::Unreachable });
    }
    for network in own {
        let is_inside = targets.keys().any(|wider| wider.contains(network));
        if is_inside && !targets.contains_key(network) {
            for table in [table, guard] {
                routes.insert(Route { table, network: *network, target: Target::Throw });
            }
        }
    }
}
