//! A node's plan.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use model::snapshot::overlay::{Edge, Node, OverlayMode};
use model::{Diagnostic, HostAddress, ObjectKey, ObjectRef, OverlaySettings, PublicKey, Snapshot};

use super::marks::{self, numbers};
use super::table::NodeTable;
use super::tunnel::{addresses, alone, everything, mtu, node_interface};
use super::way::{Neighbour, agreed};
use super::{OverlayPlan, Path, Peer, ProbeTarget, Route, Rule, Selector, Target, Tunnel};

mod remote;

/// The table of routes to VpnConnections' networks.
pub(super) const TABLE_REMOTE: u32 = 0x5470;
/// What refuses packets to them that none of those leads anywhere.
pub(super) const TABLE_REMOTE_GUARD: u32 = 0x5471;
/// The table of routes to egress networks, for pods.
pub(super) const TABLE_EGRESS: u32 = 0x5472;
/// The same as for the remote ones.
pub(super) const TABLE_EGRESS_GUARD: u32 = 0x5473;
/// What refuses replies that don't find back to their edge.
pub(super) const TABLE_REPLY_GUARD: u32 = 0x5474;
/// Routes to edges' overlay addresses: a table for each of the node's keys.
pub(super) const TABLE_KEYS: u32 = 0x5476;
/// The edges' tables, each at its number after this.
pub(super) const TABLE_EDGES: u32 = 0x5480;
/// The first of the rules' places.
const PRIORITY: u32 = 5430;

/// What a node's plan depends on besides objects and settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeInput {
    /// The node's own keys, the newest first; at most two.
    pub keys: Vec<PublicKey>,
    /// The machine's addresses.
    pub host: Vec<HostAddress>,
    /// MAC addresses of neighbours: those of edges in direct mode count.
    pub neighbours: BTreeMap<IpAddr, [u8; 6]>,
    /// Networks that the machine's main table leads to, default routes excepted: pods reach them
    /// that way even where egress networks hold them.
    pub routed: Vec<IpNet>,
    /// The largest packet on the underlay, where that is known.
    pub underlay_mtu: Option<u16>,
    /// What [`numbers`] gave before: connections keep their edge.
    pub numbers: BTreeMap<String, u32>,
    /// What probes tell of edges, by name.
    pub edges: BTreeMap<String, Probed>,
}

/// What probes tell of an edge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probed {
    /// Whether it answers.
    pub live: bool,
    /// Whether it is only beginning to be asked, so that nothing is to be said of its silence yet.
    pub new: bool,
    /// The way that it answers on, the newest one of several; none before the first answer.
    pub path: Option<Path>,
    /// Whether it wants nothing new.
    pub drain: bool,
    /// The VpnConnections that it holds.
    pub vpn: BTreeSet<ObjectKey>,
}

/// How an edge is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    Direct(Neighbour),
    /// Through this interface.
    Tunnel(String),
    /// Not at all.
    Missing,
}

impl Way {
    fn target(&self, v4: bool) -> Option<Target> {
        match self {
            Self::Direct(link) => link.target(v4),
            Self::Tunnel(interface) => Some(Target::Device(interface.clone())),
            Self::Missing => None,
        }
    }
}

/// An edge and what the node makes of it.
struct Known<'a> {
    name: &'a String,
    edge: &'a Edge,
    number: u32,
    probed: Probed,
    way: Way,
}

impl Known<'_> {
    fn is_usable(&self) -> bool {
        self.probed.live && self.way != Way::Missing
    }
}

/// Plans a node's end of the overlay: `settings.name` is its name. Pure: the same input always
/// gives the same plan, byte for byte.
pub fn node(
    snapshot: &Snapshot,
    settings: &OverlaySettings,
    input: &NodeInput,
) -> (OverlayPlan, Vec<Diagnostic>) {
    let mut planner = Planner {
        own: snapshot.nodes.get(&settings.name),
        snapshot,
        settings,
        input,
        tunnels: Vec::new(),
        edges: Vec::new(),
        diagnostics: Vec::new(),
    };
    planner.edges();
    let plan = planner.plan();
    let mut diagnostics = planner.diagnostics;
    diagnostics.sort();
    (plan, diagnostics)
}

struct Planner<'a> {
    own: Option<&'a Node>,
    snapshot: &'a Snapshot,
    settings: &'a OverlaySettings,
    input: &'a NodeInput,
    tunnels: Vec<Tunnel>,
    edges: Vec<Known<'a>>,
    diagnostics: Vec<Diagnostic>,
}

impl Planner<'_> {
    fn warn(&mut self, edge: &str, field: &str, reason: &str, remedy: &str) {
        let object = ObjectRef::cluster("EdgeGateway", edge);
        self.diagnostics.push(Diagnostic::warning(object, field, reason).remedy(remedy));
    }

    fn is_tunnel(&self, interface: &str) -> bool {
        let longest = self.settings.interface.len().min(11);
        interface.starts_with(self.settings.interface.get(..longest).unwrap_or_default())
    }

    /// Whether an edge runs on this machine.
    fn is_own(&self, name: &str, edge: &Edge) -> bool {
        let host = || self.input.host.iter().map(|own| own.network.addr());
        name == self.settings.name || host().any(|own| edge.addresses.contains(&own))
    }

    fn edges(&mut self) {
        let snapshot = self.snapshot;
        let others = snapshot.edges.iter().filter(|(name, edge)| !self.is_own(name, edge));
        let others: Vec<_> = others.collect();
        let names = others.iter().map(|(name, _)| (*name).clone());
        let numbers = numbers(&self.input.numbers, names, self.settings.mark_mask);
        for (name, edge) in others {
            // The agent tells of those that find no room: it knows who has a turn.
            let Some(number) = numbers.get(name).copied() else { continue };
            let probed = self.input.edges.get(name).cloned().unwrap_or_default();
            let way = self.way(name, edge, &probed);
            self.edges.push(Known { name, edge, number, probed, way });
        }
        self.tunnels.sort();
        self.tell_who_is_lost();
    }

    fn way(&mut self, name: &str, edge: &Edge, probed: &Probed) -> Way {
        let mode = agreed(edge.mode, self.settings.mode);
        let link = Neighbour::find(&self.input.host, &edge.addresses, |name| self.is_tunnel(name));
        match (mode, link) {
            (OverlayMode::Direct | OverlayMode::Auto, Some(link)) => Way::Direct(link),
            (OverlayMode::Direct, None) => {
                let reason = "is on no link of this node, so plain routes don't lead to it";
                let remedy = "write mode: auto for edge and agent, or put both on one link";
                self.warn(name, "status.underlayAddresses", reason, remedy);
                Way::Missing
            }
            (OverlayMode::Auto | OverlayMode::Wireguard, _) => self.tunnel(name, edge, probed),
        }
    }

    /// Adds the tunnels to an edge, one for each pair of keys. The one in use is the one that
    /// probes are answered through, or else that of the keys that were there first.
    fn tunnel(&mut self, name: &str, edge: &Edge, probed: &Probed) -> Way {
        let own: Vec<PublicKey> = self.input.keys.iter().take(2).copied().collect();
        let (Some((first, _)), Some(oldest), false) =
            (edge.keys.first(), own.last(), edge.addresses.is_empty())
        else {
            let reason = "tells no key or no address yet, so there is no tunnel to it";
            let remedy = "see whether the edge runs, with overlay.enabled: true, and may write \
                          its status";
            self.warn(name, "status", reason, remedy);
            return Way::Missing;
        };
        let both = self.own.iter().flat_map(|own| &own.addresses).chain(&edge.addresses);
        let mtu = mtu(self.settings, self.input.underlay_mtu, both.copied());
        let endpoint = self.endpoint(edge);
        for (key, port) in &edge.keys {
            for own in &own {
                let interface = node_interface(self.settings, key, own);
                if self.tunnels.iter().any(|tunnel| tunnel.interface == interface) {
                    continue; // One in millions; the other one is in use until keys change.
                }
                let peer = Peer {
                    key: *key,
                    name: name.to_owned(),
                    endpoint: endpoint.map(|address| SocketAddr::new(address, *port)),
                    allowed: vec![everything(true), everything(false)],
                    keepalive: None,
                };
                self.tunnels.push(Tunnel {
                    interface,
                    key: *own,
                    port: 0,
                    mtu,
                    addresses: addresses(own, self.own.map_or(&[][..], |own| &own.addresses)),
                    peers: vec![peer],
                });
            }
        }
        let pair = match probed.path {
            Some(Path::Tunnel { edge: theirs, node })
                if own.contains(&node) && edge.keys.iter().any(|(key, _)| *key == theirs) =>
            {
                (theirs, node)
            }
            _ => (*first, *oldest),
        };
        Way::Tunnel(node_interface(self.settings, &pair.0, &pair.1))
    }

    /// The first of an edge's addresses that is of a family that this node has on the underlay.
    fn endpoint(&self, edge: &Edge) -> Option<IpAddr> {
        let own = self.own.map_or(&[][..], |own| own.addresses.as_slice());
        let fits = |address: &&IpAddr| {
            own.is_empty() || own.iter().any(|own| own.is_ipv4() == address.is_ipv4())
        };
        edge.addresses.iter().find(fits).or(edge.addresses.first()).copied()
    }

    fn plan(&mut self) -> OverlayPlan {
        let mut routes = BTreeSet::new();
        let mut rules = BTreeSet::new();
        let mask = self.settings.mark_mask;
        for known in &self.edges {
            let value = marks::value(known.number, mask);
            for v6 in [false, true] {
                let network = everything(!v6);
                let table = TABLE_EDGES + known.number;
                if let Some(target) = known.way.target(!v6) {
                    routes.insert(Route { table, network, target });
                }
                let target = Target::Unreachable;
                routes.insert(Route { table: TABLE_REPLY_GUARD, network, target });
                for (step, table) in [(1, table), (2, TABLE_REPLY_GUARD)] {
                    let selector = Selector::Mark { value, mask };
                    rules.insert(Rule { priority: PRIORITY + step, v6, selector, table });
                }
            }
        }
        self.key_routes(&mut routes, &mut rules);
        let active = self.remote(&mut routes, &mut rules);
        // Only tables that have routes of a family are asked.
        rules.retain(|rule| {
            let of = |route: &&Route| {
                route.table == rule.table && route.network.addr().is_ipv6() == rule.v6
            };
            routes.iter().any(|route| of(&route))
        });
        let table = self.table();
        let links = table.links.iter().map(|(interface, _)| interface);
        let names = table.tunnels.keys().chain(links);
        OverlayPlan {
            sysctls: names.map(|name| (format!("net.ipv4.conf.{name}.rp_filter"), 2)).collect(),
            table: table.text(),
            routes: routes.into_iter().collect(),
            rules: rules.into_iter().collect(),
            probes: self.probes(),
            tunnels: std::mem::take(&mut self.tunnels),
            active,
        }
    }

    /// Routes to edges' overlay addresses, by the own address that a probe has as its source.
    fn key_routes(&self, routes: &mut BTreeSet<Route>, rules: &mut BTreeSet<Rule>) {
        for (index, own) in (0..).zip(self.input.keys.iter().take(2)) {
            let table = TABLE_KEYS + index;
            for tunnel in self.tunnels.iter().filter(|tunnel| tunnel.key == *own) {
                for peer in &tunnel.peers {
                    let target = Target::Device(tunnel.interface.clone());
                    let network = alone(peer.key.overlay_address());
                    routes.insert(Route { table, network, target });
                }
            }
            let selector = Selector::From(alone(own.overlay_address()));
            rules.insert(Rule { priority: PRIORITY, v6: true, selector, table });
        }
    }

    fn probes(&self) -> Vec<ProbeTarget> {
        let mut probes = Vec::new();
        for known in &self.edges {
            let port = known.edge.probe_port;
            match &known.way {
                Way::Missing => {}
                Way::Direct(link) => {
                    let first = known.edge.keys.first().zip(link.addresses.first());
                    probes.extend(first.map(|((key, _), (address, _))| ProbeTarget {
                        edge: known.name.clone(),
                        key: *key,
                        address: SocketAddr::new(*address, port),
                        interface: None,
                    }));
                }
                Way::Tunnel(_) => {
                    for tunnel in &self.tunnels {
                        let peers = tunnel.peers.iter().filter(|peer| peer.name == *known.name);
                        probes.extend(peers.map(|peer| ProbeTarget {
                            edge: known.name.clone(),
                            key: peer.key,
                            address: SocketAddr::new(peer.key.overlay_address().into(), port),
                            interface: Some(tunnel.interface.clone()),
                        }));
                    }
                }
            }
        }
        probes.sort();
        probes
    }

    fn table(&mut self) -> NodeTable {
        let mut table = NodeTable {
            mask: self.settings.mark_mask,
            pods: self.own.map(|own| own.pods.clone()).unwrap_or_default(),
            tunnels: self.tunnels.iter().map(|one| (one.interface.clone(), one.mtu)).collect(),
            ..NodeTable::default()
        };
        let mut unknown = Vec::new();
        for known in &self.edges {
            let value = marks::value(known.number, self.settings.mark_mask);
            table.services.extend(&known.edge.services);
            match &known.way {
                Way::Missing => {}
                Way::Tunnel(_) => {
                    let own =
                        |tunnel: &&Tunnel| tunnel.peers.iter().any(|peer| peer.name == *known.name);
                    let own = self.tunnels.iter().filter(own);
                    let which = own.map(|tunnel| format!("iifname \"{}\"", tunnel.interface));
                    table.edges.extend(which.map(|which| (which, value)));
                }
                Way::Direct(link) => {
                    for (address, interface) in &link.addresses {
                        table.links.push((interface.clone(), *address));
                        match self.input.neighbours.get(address) {
                            Some(mac) => {
                                let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
                                let which = format!("iifname \"{interface}\" ether saddr {mac}");
                                table.edges.push((which, value));
                            }
                            None => unknown.push((known.name.clone(), *address)),
                        }
                    }
                }
            }
        }
        for (name, address) in unknown {
            let reason = format!(
                "its MAC address behind {address} isn't known here yet, so replies to what it \
                 sends don't find back to it"
            );
            let remedy = "see that both are on one link, and that the edge answers ARP there";
            self.warn(&name, "status.underlayAddresses", &reason, remedy);
        }
        table.edges.sort();
        table.edges.dedup();
        table.links.sort();
        table.links.dedup();
        table
    }

    fn tell_who_is_lost(&mut self) {
        let object = ObjectRef::cluster("Node", &self.settings.name);
        if self.own.is_none() {
            let reason = "there is no such Node, so its networks aren't known";
            let remedy = "write the Node's name as nodeName in the agent's configuration";
            self.diagnostics.push(Diagnostic::error(object.clone(), "", reason).remedy(remedy));
        }
        let none = self.edges.iter().all(|known| !known.is_usable());
        if none && self.edges.iter().any(|known| known.probed.new && known.way != Way::Missing) {
            return;
        }
        let mut lost = Vec::new();
        for known in self.edges.iter().filter(|known| !known.probed.live && !known.probed.new) {
            lost.push((known.name.clone(), known.edge.addresses.first().copied()));
        }
        if none {
            let all = lost.iter().map(|(name, at)| match at {
                Some(at) => format!("{name} ({at})"),
                None => name.clone(),
            });
            let all: Vec<String> = all.collect();
            let (reason, remedy) = match all.is_empty() {
                true => (
                    "there is no EdgeGateway, so there is no way to any edge".to_owned(),
                    "run a gateway with overlay.enabled: true that may write its EdgeGateway",
                ),
                false => (
                    format!("no edge can be reached from it: {}", all.join(", ")),
                    "see that the edges run, and that the UDP ports in their EdgeGateways' status \
                     are open from this node to them",
                ),
            };
            self.diagnostics.push(Diagnostic::error(object, "", reason).remedy(remedy));
            return;
        }
        for (name, at) in lost {
            // What lacks an address is told of already.
            let Some(at) = at else { continue };
            let reason = format!("doesn't answer probes of Node {} at {at}", self.settings.name);
            let remedy = "see that it runs, and that its UDP ports are open to the node";
            self.warn(&name, "", &reason, remedy);
        }
    }
}
