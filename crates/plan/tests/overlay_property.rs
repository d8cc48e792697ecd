//! Nodes, edges, keys and probes at random; what must hold of every overlay plan is checked.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use model::snapshot::overlay::{Connection, Edge, Node, NodeAgent, OverlayMode};
use model::{HostAddress, ObjectKey, OverlaySettings, PublicKey, Snapshot};
use plan::overlay::{self, EdgeInput, Heard, NodeInput, OverlayPlan, Path, Probed, Target};

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    fn one_in(&mut self, limit: u64) -> bool {
        self.below(limit) == 0
    }

    fn mode(&mut self) -> OverlayMode {
        [OverlayMode::Auto, OverlayMode::Direct, OverlayMode::Wireguard][self.below(3) as usize]
    }

    fn key(&mut self) -> PublicKey {
        PublicKey([1 + self.below(40) as u8; 32])
    }

    fn address(&mut self) -> IpAddr {
        match self.below(3) {
            0 => IpAddr::from([192, 0, 2, self.below(40) as u8]),
            1 => IpAddr::from([198, 51, 100, self.below(40) as u8]),
            _ => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, self.below(40) as u16]),
        }
    }

    fn network(&mut self) -> IpNet {
        let length = [8, 12, 16, 24][self.below(4) as usize];
        let v4 = IpAddr::from([10, self.below(4) as u8 * 64, self.below(2) as u8 * 128, 0]);
        let v6 = IpAddr::from([0xfd00, self.below(4) as u16, 0, 0, 0, 0, 0, 0]);
        let of = |address, length| IpNet::new(address, length).unwrap().trunc();
        if self.one_in(4) { of(v6, 32 + length) } else { of(v4, length) }
    }

    fn path(&mut self) -> Option<Path> {
        match self.below(3) {
            0 => None,
            1 => Some(Path::Direct),
            _ => Some(Path::Tunnel { edge: self.key(), node: self.key() }),
        }
    }

    fn host(&mut self) -> Vec<HostAddress> {
        let one = |random: &mut Self, interface: &str| {
            let address = random.address();
            let length = if address.is_ipv4() { 24 } else { 64 };
            let length = if random.one_in(4) { IpNet::from(address).prefix_len() } else { length };
            let network = IpNet::new(address, length).unwrap();
            HostAddress { interface: interface.to_owned(), network }
        };
        vec![one(self, "eth0"), one(self, "eth1"), one(self, "tidegate-wg")]
    }

    fn snapshot(&mut self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        let mut pods: Vec<IpNet> = Vec::new();
        for number in 0..self.below(6) {
            let own = (0..self.below(3)).map(|_| self.network()).collect::<Vec<_>>();
            let is_free = |one: &&IpNet| !pods.iter().any(|other| overlap(one, other));
            let own: Vec<IpNet> = own.iter().filter(is_free).copied().take(1).collect();
            pods.extend(&own);
            let keys = (0..1 + self.below(2)).map(|_| self.key()).collect();
            let mode = Some(self.mode()).filter(|mode| *mode != OverlayMode::Auto);
            let agent = (!self.one_in(4)).then_some(NodeAgent { keys, mode });
            let addresses = (0..self.below(3)).map(|_| self.address()).collect();
            let zone = self.one_in(2).then(|| "east".to_owned());
            let node = Node { addresses, pods: own, zone, ready: !self.one_in(4), agent };
            snapshot.nodes.insert(format!("n{number}"), node);
        }
        for number in 0..self.below(5) {
            let keys = (0..self.below(3)).map(|at| (self.key(), 51821 + at as u16)).collect();
            let edge = Edge {
                addresses: (0..self.below(3)).map(|_| self.address()).collect(),
                keys,
                probe_port: 51820,
                mode: self.mode(),
                services: (0..self.below(2)).map(|_| self.network()).collect(),
                egress: (0..self.below(2)).map(|_| self.network()).collect(),
                drain: self.one_in(4),
                ..Edge::default()
            };
            snapshot.edges.insert(format!("e{number}"), edge);
        }
        for number in 0..self.below(4) {
            let connection = Connection {
                remote: (0..self.below(3)).map(|_| self.network()).collect(),
                local: (0..self.below(2)).map(|_| self.network()).collect(),
                zone: self.one_in(3).then(|| "east".to_owned()),
                created: self.one_in(2).then(|| self.below(9) as i64),
            };
            snapshot.connections.insert(ObjectKey::new("vpn", format!("c{number}")), connection);
        }
        snapshot
    }
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

fn check(
    plan: &OverlayPlan,
    (tables, priorities): (RangeInclusive<u32>, RangeInclusive<u32>),
    at: &str,
) {
    let interfaces: BTreeSet<&str> =
        plan.tunnels.iter().map(|one| one.interface.as_str()).collect();
    assert_eq!(interfaces.len(), plan.tunnels.len(), "{at}: two tunnels have one name");
    assert!(plan.tunnels.is_sorted() && plan.routes.is_sorted() && plan.rules.is_sorted(), "{at}");
    for tunnel in &plan.tunnels {
        assert!(tunnel.interface.len() <= 15 && tunnel.mtu >= 1280, "{at}: {tunnel:?}");
        // Without one the kernel refuses IPv4 packets that come in.
        assert!(tunnel.addresses.iter().any(IpAddr::is_ipv4), "{at}: {tunnel:?}");
        let mut allowed = BTreeMap::new();
        for peer in &tunnel.peers {
            for network in &peer.allowed {
                let before = allowed.insert(*network, peer.key);
                assert_eq!(before, None, "{at}: {network} is two peers' in {}", tunnel.interface);
            }
        }
    }
    let mut places = BTreeSet::new();
    for route in &plan.routes {
        assert!(places.insert((route.table, route.network)), "{at}: two ways: {route:?}");
        assert_eq!(route.network, route.network.trunc(), "{at}");
        assert!(tables.contains(&route.table), "{at}: {route:?}");
        match &route.target {
            Target::Device(name) => {
                assert!(interfaces.contains(name.as_str()), "{at}: {route:?}");
            }
            Target::Via { address, interface } => {
                assert!(["eth0", "eth1"].contains(&interface.as_str()), "{at}: {route:?}");
                assert_eq!(address.is_ipv4(), route.network.addr().is_ipv4(), "{at}");
            }
            Target::Unreachable | Target::Throw => {}
        }
    }
    for rule in &plan.rules {
        assert!(priorities.contains(&rule.priority), "{at}: {rule:?}");
        let of = |route: &&overlay::Route| {
            route.table == rule.table && route.network.addr().is_ipv6() == rule.v6
        };
        assert!(plan.routes.iter().any(|route| of(&route)), "{at}: {rule:?} leads nowhere");
    }
    for probe in &plan.probes {
        assert!(probe.interface.iter().all(|name| interfaces.contains(name.as_str())), "{at}");
    }
}

#[test]
fn every_plan_holds_together_and_is_the_same_again() {
    let (mut peers, mut routes) = (0, 0);
    for seed in 1..1000_u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let snapshot = random.snapshot();
        let mut settings = OverlaySettings {
            name: if random.one_in(2) { "e0" } else { "n0" }.to_owned(),
            mode: random.mode(),
            services: (0..random.below(3)).map(|_| random.network()).collect(),
            egress: (0..random.below(2)).map(|_| random.network()).collect(),
            ..OverlaySettings::default()
        };
        let mut edge = EdgeInput {
            host: random.host(),
            vpn_interface: Some("v".into()),
            ..EdgeInput::default()
        };
        edge.keys = (0..random.below(3)).map(|at| (random.key(), 51821 + at as u16)).collect();
        edge.keys.dedup_by_key(|(key, _)| *key);
        for name in snapshot.nodes.keys() {
            let heard =
                Heard { live: random.one_in(2), path: random.path(), nat: random.one_in(3) };
            edge.nodes.insert(name.clone(), heard);
        }
        let (plan, told) = overlay::edge(&snapshot, &settings, &edge);
        let own = (overlay::TABLES, overlay::PRIORITIES);
        check(&plan, own, &format!("edge, seed {seed}"));
        assert_eq!(overlay::edge(&snapshot, &settings, &edge), (plan.clone(), told));
        peers += plan.tunnels.iter().map(|tunnel| tunnel.peers.len()).sum::<usize>();

        settings.name = "n0".to_owned();
        let mut node = NodeInput { host: random.host(), ..NodeInput::default() };
        node.keys = (0..random.below(3)).map(|_| random.key()).collect();
        node.keys.dedup();
        node.routed = (0..random.below(2)).map(|_| random.network()).collect();
        for (name, edge) in &snapshot.edges {
            let vpn = snapshot.connections.keys().filter(|_| random.one_in(2)).cloned().collect();
            let (live, drain) = (random.one_in(2), random.one_in(4));
            let new = random.one_in(4);
            node.edges.insert(name.clone(), Probed { live, new, path: random.path(), drain, vpn });
            node.numbers.insert(name.clone(), random.below(9) as u32);
            for address in edge.addresses.iter().filter(|_| !random.one_in(4)) {
                node.neighbours.insert(*address, [2, 0, 0, 0, 0, 1]);
            }
        }
        let (plan, told) = overlay::node(&snapshot, &settings, &node);
        let own = (overlay::TABLES_NODE, overlay::PRIORITIES_NODE);
        check(&plan, own, &format!("node, seed {seed}"));
        assert_eq!(overlay::node(&snapshot, &settings, &node), (plan.clone(), told));
        routes += plan.routes.len();
        for (key, edge) in &plan.active.vpn {
            assert!(node.edges[edge].live && node.edges[edge].vpn.contains(key), "seed {seed}");
        }
        for (key, connection) in &snapshot.connections {
            for network in &connection.remote {
                let is_there = plan.routes.iter().any(|route| route.network == *network);
                assert!(is_there, "seed {seed}: {key}'s {network} may leave another way");
            }
        }
    }
    assert!(peers > 1000 && routes > 1000, "hardly anything was planned: {peers} {routes}");
}
