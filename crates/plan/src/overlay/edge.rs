//! An edge's plan.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use model::snapshot::overlay::{Node, OverlayMode};
use model::snapshot::vpn::nat::outermost;
use model::{Diagnostic, HostAddress, ObjectRef, OverlaySettings, PublicKey, Snapshot};

use super::slices;
use super::table::{EdgeTable, MARK_HOST};
use super::tunnel::{addresses, alone, edge_interface, mtu};
use super::way::{Neighbour, agreed};
use super::{OverlayPlan, Path, Peer, Route, Rule, Selector, Target, Tunnel};

/// The table of routes to pods and Services over nodes.
pub(super) const TABLE_PODS: u32 = 0x5450;
/// What refuses packets that none of those leads anywhere.
pub(super) const TABLE_GUARD: u32 = 0x5451;
/// Routes to nodes' own addresses, through tunnels.
pub(super) const TABLE_HOSTS: u32 = 0x5452;
/// Routes to nodes' overlay addresses: a table for each of the edge's keys.
pub(super) const TABLE_KEYS: u32 = 0x5454;
/// The first of the rules' places: before the VPN plane's (5447).
const PRIORITY: u32 = 5440;
/// Seconds between keepalives to those behind a NAT.
const KEEPALIVE: u16 = 25;

/// What an edge's plan depends on besides objects and settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EdgeInput {
    /// The edge's own keys with their UDP ports, the one in use first; at most two.
    pub keys: Vec<(PublicKey, u16)>,
    /// The machine's addresses.
    pub host: Vec<HostAddress>,
    /// The largest packet on the underlay, where that is known.
    pub underlay_mtu: Option<u16>,
    /// What is heard of nodes, by name.
    pub nodes: BTreeMap<String, Heard>,
    /// The VPN plane's interface, where it is enabled.
    pub vpn_interface: Option<String>,
    /// Addresses of the edge towards the nodes, the preferred one first.
    pub underlay: Vec<IpAddr>,
    /// Interfaces that face the internet: from there the cluster is reached by VIPs, NodePorts
    /// and ALBs alone.
    pub outside: Vec<String>,
}

/// What an edge hears of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Whether its probes come.
    pub live: bool,
    /// The way that they came last, the newest one of several; none before the first.
    pub path: Option<Path>,
    /// Whether it is behind a NAT that has to be kept open: they come from an address that isn't
    /// the Node's.
    pub nat: bool,
}

/// How a node is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    Direct(Neighbour),
    /// Through the tunnel of this own key, as the peer of that one.
    Tunnel(PublicKey, PublicKey),
    /// Not at all, and not in the clear either.
    Missing,
    /// By whatever routes there are: the overlay has nothing to do with it.
    Foreign,
}

/// Plans an edge's end of the overlay. Pure: the same input always gives the same plan, byte for
/// byte. What ingest has told already is not told again.
pub fn edge(
    snapshot: &Snapshot,
    settings: &OverlaySettings,
    input: &EdgeInput,
) -> (OverlayPlan, Vec<Diagnostic>) {
    let mut planner = Planner { settings, input, ways: Vec::new(), diagnostics: Vec::new() };
    for (name, node) in &snapshot.nodes {
        if planner.is_own(name, node) {
            continue;
        }
        let way = planner.way(name, node);
        planner.ways.push((name, node, way));
    }
    let plan = planner.plan(snapshot);
    let mut diagnostics = planner.diagnostics;
    diagnostics.sort();
    (plan, diagnostics)
}

struct Planner<'a> {
    settings: &'a OverlaySettings,
    input: &'a EdgeInput,
    ways: Vec<(&'a str, &'a Node, Way)>,
    diagnostics: Vec<Diagnostic>,
}

impl<'a> Planner<'a> {
    /// Whether a Node is the edge's own machine.
    fn is_own(&self, name: &str, node: &Node) -> bool {
        let host = || self.input.host.iter().map(|own| own.network.addr());
        name == self.settings.name || host().any(|own| node.addresses.contains(&own))
    }

    fn is_tunnel(&self, interface: &str) -> bool {
        let own = self.input.keys.iter().map(|(_, port)| edge_interface(self.settings, *port));
        interface == self.settings.interface
            || self.input.vpn_interface.as_deref() == Some(interface)
            || own.into_iter().any(|own| own == interface)
    }

    fn warn(&mut self, name: &str, field: &str, reason: &str, remedy: &str) {
        let object = ObjectRef::cluster("Node", name);
        self.diagnostics.push(Diagnostic::warning(object, field, reason).remedy(remedy));
    }

    fn way(&mut self, name: &str, node: &Node) -> Way {
        let insists = node.agent.as_ref().and_then(|agent| agent.mode).unwrap_or_default();
        let mode = agreed(self.settings.mode, insists);
        let link = Neighbour::find(&self.input.host, &node.addresses, |name| self.is_tunnel(name));
        let heard = self.input.nodes.get(name).copied().unwrap_or_default();
        let tunnel = self.pair(node, heard.path);
        let missing = "has no agent that tells a key, so packets to its pods are refused";
        let install = "run tidegate's edge-agent on it (the chart's DaemonSet does)";
        match mode {
            OverlayMode::Wireguard => match tunnel {
                Some((own, key)) => Way::Tunnel(own, key),
                None => {
                    self.warn(name, "metadata.annotations", missing, install);
                    Way::Missing
                }
            },
            OverlayMode::Direct => match link {
                Some(link) => self.direct(name, node, link),
                None => {
                    let reason = "is on no link of this edge, so plain routes don't reach its \
                                  pods, and packets to them are refused";
                    let remedy = "write overlay.mode: auto, or put edge and node on one link";
                    self.warn(name, "status.addresses", reason, remedy);
                    Way::Missing
                }
            },
            OverlayMode::Auto => match (heard.path, link, tunnel) {
                (None | Some(Path::Direct), Some(link), _) => self.direct(name, node, link),
                (path, _, Some((own, key))) => {
                    if path == Some(Path::Direct) {
                        let reason = "takes this edge for a neighbour on its link, which it isn't";
                        let remedy = "write overlay.mode: wireguard in the edge's configuration, \
                                      or the same network on both ends' interfaces";
                        self.warn(name, "status.addresses", reason, remedy);
                    }
                    Way::Tunnel(own, key)
                }
                (_, Some(link), None) => self.direct(name, node, link),
                (_, None, None) => {
                    let reason = "has no agent that tells a key and is on no link of this edge, so \
                                  the overlay doesn't reach its pods";
                    self.warn(name, "metadata.annotations", reason, install);
                    Way::Foreign
                }
            },
        }
    }

    fn direct(&mut self, name: &str, node: &Node, link: Neighbour) -> Way {
        if node.agent.is_none() {
            let reason = "has no agent, so replies of its pods to clients' addresses don't come \
                          back over this edge";
            let remedy = "run tidegate's edge-agent on it (the chart's DaemonSet does), or write \
                          l4.snat: true";
            self.warn(name, "metadata.annotations", reason, remedy);
        }
        Way::Direct(link)
    }

    /// The own key and the node's that are in use: those that its probes came with, or else the
    /// ones that were there first.
    fn pair(&self, node: &Node, heard: Option<Path>) -> Option<(PublicKey, PublicKey)> {
        let keys = &node.agent.as_ref()?.keys;
        let (first, oldest) = (self.input.keys.first()?.0, *keys.last()?);
        match heard {
            Some(Path::Tunnel { edge, node }) => {
                let own = self.input.keys.iter().map(|(key, _)| *key).find(|key| *key == edge);
                Some((own.unwrap_or(first), if keys.contains(&node) { node } else { oldest }))
            }
            _ => Some((first, oldest)),
        }
    }

    fn plan(&mut self, snapshot: &Snapshot) -> OverlayPlan {
        let mut draft = Draft { tunnels: self.tunnels(), routes: BTreeMap::new() };
        let mut table = EdgeTable {
            vpn: self.input.vpn_interface.clone(),
            outside: self.input.outside.clone(),
            ports: self.ports(),
            services: self.settings.services.iter().map(IpNet::trunc).collect(),
            ..EdgeTable::default()
        };
        let mut guarded: BTreeSet<IpNet> =
            self.settings.services.iter().map(IpNet::trunc).collect();
        let addresses = self.ways.iter().flat_map(|(_, node, _)| &node.addresses);
        table.nodes = outermost(addresses.map(|address| alone(*address)).collect());
        for (_, node, way) in self.ways.iter().filter(|(.., way)| *way != Way::Foreign) {
            for network in &node.pods {
                match draft.lead(way, TABLE_PODS, *network) {
                    Some(Target::Via { interface, .. }) => {
                        table.direct.entry(interface).or_default().push(*network);
                        table.pods.push(*network);
                    }
                    None if matches!(way, Way::Direct(_)) => {}
                    _ => {
                        guarded.insert(*network);
                        table.pods.push(*network);
                    }
                }
            }
            if let Way::Tunnel(..) = way {
                for address in &node.addresses {
                    draft.lead(way, TABLE_HOSTS, alone(*address));
                    table.hosts.push(alone(*address));
                }
            }
        }
        // Behind the pods: those are sure.
        for (name, networks) in self.services() {
            let way = self.ways.iter().find(|(node, ..)| *node == name).map(|(.., way)| way);
            for network in networks {
                way.and_then(|way| draft.lead(way, TABLE_PODS, network));
            }
        }
        let Draft { tunnels, routes } = draft;
        let route = |((table, network), target)| Route { table, network, target };
        let mut routes: BTreeSet<Route> = routes.into_iter().map(route).collect();
        for (index, tunnel) in tunnels.iter().enumerate() {
            for peer in &tunnel.peers {
                let target = Target::Device(tunnel.interface.clone());
                let network = alone(peer.key.overlay_address());
                let table = TABLE_KEYS + u32::try_from(index).unwrap_or_default();
                routes.insert(Route { table, network, target });
            }
        }
        let refused = |network| Route { table: TABLE_GUARD, network, target: Target::Unreachable };
        routes.extend(guarded.into_iter().map(refused));
        table.tunnels = tunnels.iter().map(|one| (one.interface.clone(), one.mtu)).collect();
        if self.settings.masquerade {
            table.masqueraded = outermost(self.settings.egress.clone());
            let remote = snapshot.connections.values().flat_map(|one| &one.remote);
            let pods = snapshot.nodes.values().flat_map(|node| &node.pods);
            let inside = pods.chain(remote).chain(&self.settings.services).copied();
            table.inside = outermost(inside.collect());
        }
        self.told_nobody_lives();
        let rules = rules(&routes, &tunnels);
        OverlayPlan {
            sysctls: self.sysctls(&tunnels),
            table: table.text(),
            routes: routes.into_iter().collect(),
            rules,
            tunnels: sorted(tunnels),
            ..OverlayPlan::default()
        }
    }

    fn ports(&self) -> BTreeSet<u16> {
        let of_keys = self.input.keys.iter().map(|(_, port)| *port);
        of_keys.chain([self.settings.probe_port]).collect()
    }

    fn sysctls(&self, tunnels: &[Tunnel]) -> BTreeMap<String, u32> {
        let tunnels = tunnels.iter();
        let loose = tunnels.map(|one| (format!("net.ipv4.conf.{}.rp_filter", one.interface), 2));
        // Who carries other things sees to it himself.
        let forwarding = self.settings.egress.iter().map(|network| {
            let v4 = network.addr().is_ipv4();
            let key = if v4 { "net.ipv4.ip_forward" } else { "net.ipv6.conf.all.forwarding" };
            (key.to_owned(), 1)
        });
        loose.chain(forwarding).collect()
    }

    /// Service networks, over the nodes that live; over those that aren't ready only if no other
    /// one lives.
    fn services(&self) -> Vec<(&'a str, Vec<IpNet>)> {
        let usable = self.ways.iter().filter(|(name, _, way)| {
            let lives = self.input.nodes.get(*name).is_some_and(|heard| heard.live);
            lives && matches!(way, Way::Direct(_) | Way::Tunnel(..))
        });
        let usable: Vec<_> = usable.map(|(name, node, _)| (*name, node.ready)).collect();
        let all_unready = usable.iter().all(|(_, ready)| !ready);
        let chosen = usable.iter().filter(|(_, ready)| *ready || all_unready);
        let names: Vec<&str> = chosen.map(|(name, _)| *name).collect();
        slices::spread(&self.settings.services, &names)
    }

    /// The tunnels with all peers, who have but their overlay addresses yet.
    fn tunnels(&self) -> Vec<Tunnel> {
        let others = self.ways.iter().flat_map(|(_, node, _)| &node.addresses);
        let mtu = mtu(
            self.settings,
            self.input.underlay_mtu,
            others.chain(&self.input.underlay).copied(),
        );
        let keys = self.input.keys.iter().take(2);
        keys.map(|(key, port)| {
            let peers = self.ways.iter().flat_map(|(name, node, _)| {
                let keys = node.agent.iter().flat_map(|agent| &agent.keys);
                keys.map(|key| {
                    let nat = self.input.nodes.get(*name).is_some_and(|heard| heard.nat);
                    Peer {
                        key: *key,
                        name: (*name).to_owned(),
                        // It begins: its port is of its own choice.
                        endpoint: None,
                        allowed: vec![alone(key.overlay_address())],
                        keepalive: nat.then_some(KEEPALIVE),
                    }
                })
            });
            let mut peers: Vec<Peer> = peers.filter(|peer| !self.is_own_key(&peer.key)).collect();
            peers.sort();
            peers.dedup_by_key(|peer| peer.key);
            Tunnel {
                interface: edge_interface(self.settings, *port),
                key: *key,
                port: *port,
                mtu,
                addresses: addresses(key, &self.input.underlay),
                peers,
            }
        })
        .collect()
    }

    fn is_own_key(&self, key: &PublicKey) -> bool {
        self.input.keys.iter().any(|(own, _)| own == key)
    }

    fn told_nobody_lives(&mut self) {
        let lives = |name: &str| self.input.nodes.get(name).is_some_and(|heard| heard.live);
        if self.ways.is_empty() || self.ways.iter().any(|(name, ..)| lives(name)) {
            return;
        }
        let object = ObjectRef::cluster("EdgeGateway", &self.settings.name);
        let what = match self.settings.services.is_empty() {
            true => "",
            false => ", and Services' networks are unreachable",
        };
        let reason = format!("no node's agent is heard{what}");
        let remedy = format!(
            "see that agents run, and that UDP ports {} and {} of this edge are open to the nodes",
            self.settings.port, self.settings.probe_port
        );
        self.diagnostics.push(Diagnostic::warning(object, "", reason).remedy(remedy));
    }
}

/// What is planned so far.
struct Draft {
    tunnels: Vec<Tunnel>,
    routes: BTreeMap<(u32, IpNet), Target>,
}

impl Draft {
    /// Leads a network a way, unless it goes another one already. Returns where it goes then.
    fn lead(&mut self, way: &Way, table: u32, network: IpNet) -> Option<Target> {
        if self.routes.contains_key(&(table, network)) {
            return None;
        }
        let target = match way {
            Way::Direct(link) => link.target(network.addr().is_ipv4())?,
            Way::Tunnel(own, key) => {
                let used = self.tunnels.iter().find(|tunnel| tunnel.key == *own)?;
                let target = Target::Device(used.interface.clone());
                // The node changes over to another of the edge's keys when it likes.
                let tunnels = self.tunnels.iter_mut();
                let refused = tunnels.filter_map(|one| allow(one, key, network).err()).count();
                (refused == 0).then_some(target)?
            }
            Way::Missing | Way::Foreign => return None,
        };
        self.routes.insert((table, network), target.clone());
        Some(target)
    }
}

/// Another peer has the network, or there is no such peer.
struct Refused;

/// Lets a network go to a peer, unless another one has it.
fn allow(tunnel: &mut Tunnel, key: &PublicKey, network: IpNet) -> Result<(), Refused> {
    if tunnel.peers.iter().any(|peer| peer.allowed.contains(&network)) {
        return Err(Refused);
    }
    let peer = tunnel.peers.iter_mut().find(|peer| peer.key == *key).ok_or(Refused)?;
    peer.allowed.push(network);
    peer.allowed.sort_unstable();
    Ok(())
}

fn sorted(mut tunnels: Vec<Tunnel>) -> Vec<Tunnel> {
    tunnels.sort();
    tunnels
}

/// Rules for the tables and families that there are routes for.
fn rules(routes: &BTreeSet<Route>, tunnels: &[Tunnel]) -> Vec<Rule> {
    let mut rules = Vec::new();
    for v6 in [false, true] {
        let has = |table: u32| {
            routes.iter().any(|route| route.table == table && route.network.addr().is_ipv6() == v6)
        };
        let mut add = |step: u32, selector: Selector, table: u32| {
            if has(table) {
                rules.push(Rule { priority: PRIORITY + step, v6, selector, table });
            }
        };
        for (index, tunnel) in (0..).zip(tunnels) {
            let own = alone(tunnel.key.overlay_address());
            add(0, Selector::From(own), TABLE_KEYS + index);
        }
        add(1, Selector::Mark { value: MARK_HOST, mask: MARK_HOST }, TABLE_HOSTS);
        add(2, Selector::All, TABLE_PODS);
        add(3, Selector::All, TABLE_GUARD);
    }
    rules.sort();
    rules
}
