//! Policies, endpoints and packets by chance, the same ones for the same seed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use model::snapshot::policy::{
    Action, Family, HostEndpoint, Icmp, Interface, NamedPort, NetworkSet, Order, Peer, Policies,
    Policy, Port, Reach, Rule, Selector,
};
use model::{PortRange, Protocol};
use plan::policy::{Packet, Path, State, Translated};

use super::lab::{INTERFACES, LOCAL, TRANSLATED};

/// xorshift64*
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    /// True once in so many times.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    fn maybe<T>(&mut self, times: usize, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.once_in(times).then(|| make(self))
    }

    fn some<T>(&mut self, most: usize, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..=self.below(most)).map(|_| make(self)).collect()
    }
}

const SOURCES: [&str; 6] = [
    "198.51.100.7",
    "198.51.100.200",
    "203.0.113.9",
    "2001:db8:f::7",
    "2001:db8:f::1:9",
    "2001:db8:e::9",
];
const BEHIND: [&str; 6] =
    ["10.1.0.7", "10.1.0.8", "10.2.3.4", "2001:db8:1::7", "2001:db8:1::8", "2001:db8:2::4"];
const NETS: [&str; 18] = [
    "192.0.2.10/32",
    "2001:db8::10/128",
    "198.51.100.0/24",
    "198.51.100.0/25",
    "203.0.113.9/32",
    "203.0.0.0/8",
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.1.0.8/32",
    "192.0.2.1/32",
    "2001:db8:f::/48",
    "2001:db8:f::7/128",
    "2001:db8::/32",
    "::/0",
    "2001:db8:1::/48",
    "2001:db8::1/128",
    "10.1.0.0/29",
    "2001:db8:e::/47",
];
const PORTS: [u16; 8] = [22, 53, 80, 443, 8080, 30000, 30080, 32767];
const NAMES: [&str; 3] = ["web", "dns", "missing"];

/// A set of policies with at least one endpoint of `edge-1`.
pub(crate) fn policies(chance: &mut Chance) -> Policies {
    let mut policies = Policies::default();
    for index in 0..3 {
        let nets = chance.some(4, net);
        policies.sets.insert(format!("set-{index}"), NetworkSet { labels: labels(chance), nets });
    }
    let mut endpoint = |chance: &mut Chance, name: &str, node: &str, interface| {
        let mut expected_ips: Vec<IpAddr> =
            chance.some(2, |chance| chance.one(&[&SOURCES[..], &BEHIND].concat()).parse().unwrap());
        if interface == Interface::ByAddress {
            expected_ips.push(LOCAL[0].parse().unwrap());
        }
        let ports = chance.some(2, |chance| NamedPort {
            name: chance.one(&NAMES[..2]).into(),
            protocol: chance.one(&Protocol::ALL),
            port: chance.one(&PORTS),
        });
        let (labels, default_allow) = (labels(chance), chance.once_in(2));
        let node = node.to_owned();
        let endpoint = HostEndpoint {
            node,
            interface,
            expected_ips,
            labels,
            default_allow,
            ports,
            location: None,
        };
        policies.endpoints.insert(name.to_owned(), endpoint);
    };
    endpoint(chance, "other", "edge-2", Interface::All);
    let first =
        if chance.once_in(3) { Interface::ByAddress } else { Interface::Name("eth0".into()) };
    endpoint(chance, "first", "edge-1", first);
    if chance.once_in(2) {
        endpoint(chance, "second", "edge-1", Interface::Name("eth1".into()));
    }
    if chance.once_in(2) {
        endpoint(chance, "rest", "edge-1", Interface::All);
    }
    for index in 0..=chance.below(7) {
        let reach = chance.one(&[
            Reach::PreDnat,
            Reach::Local,
            Reach::LocalAndForward,
            Reach::LocalAndForward,
        ]);
        let ingress = (reach == Reach::PreDnat || !chance.once_in(4)).then(|| rules(chance));
        let egress = (reach != Reach::PreDnat && chance.once_in(2)).then(|| rules(chance));
        let policy = Policy {
            order: Order::new(chance.maybe(2, |chance| chance.below(3) as f64)),
            selector: selector(chance, 2),
            reach,
            ingress,
            egress,
            end_connections: chance.once_in(3),
            location: None,
        };
        policies.policies.insert(format!("p{}.x-{index}", chance.below(10)), policy);
    }
    policies
}

fn labels(chance: &mut Chance) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([("role".to_owned(), chance.one(&["a", "b", "c"]).to_owned())]);
    if chance.once_in(2) {
        labels.insert("zone".to_owned(), chance.one(&["x", "y"]).to_owned());
    }
    labels
}

fn selector(chance: &mut Chance, depth: usize) -> Selector {
    let value = |chance: &mut Chance| chance.one(&["a", "b", "c"]).to_owned();
    match chance.below(if depth == 0 { 6 } else { 9 }) {
        0 | 1 => Selector::All,
        2 => Selector::Has("zone".into()),
        3 => Selector::Equal("role".into(), value(chance)),
        4 => Selector::NotEqual("role".into(), value(chance)),
        5 => Selector::In("role".into(), BTreeSet::from([value(chance), value(chance)])),
        6 => Selector::Not(Box::new(selector(chance, depth - 1))),
        7 => Selector::And(vec![selector(chance, depth - 1), selector(chance, depth - 1)]),
        _ => Selector::Or(vec![selector(chance, depth - 1), selector(chance, depth - 1)]),
    }
}

fn rules(chance: &mut Chance) -> Vec<Rule> {
    (0..chance.below(5)).map(|index| rule(chance, index)).collect()
}

fn rule(chance: &mut Chance, index: usize) -> Rule {
    use Action::{Allow, Deny, Log, Pass};
    let mut rule =
        Rule::new(index, chance.one(&[Allow, Allow, Allow, Deny, Deny, Deny, Log, Pass]));
    rule.family = chance.maybe(6, |chance| chance.one(&Family::ALL));
    rule.source = peer(chance, false);
    rule.destination = peer(chance, false);
    match chance.below(6) {
        0 => {}
        1 => rule.not_protocol = Some(chance.one(&[6, 17, 1, 58, 89])),
        2 => {
            rule.protocols = vec![chance.one(&[1, 58])];
            let icmp = |chance: &mut Chance| Icmp {
                kind: chance.one(&[8, 13, 128, 135]),
                code: chance.maybe(2, |chance| chance.one(&[0, 1])),
            };
            rule.icmp = chance.maybe(2, icmp);
            rule.not_icmp = chance.maybe(3, icmp);
        }
        3 => rule.protocols = vec![chance.one(&[6, 17, 132, 136, 89])],
        _ => {
            rule.protocols = chance.one(&[vec![6], vec![17], vec![132], vec![6], vec![6, 17, 132]]);
            let with_ports = peer(chance, true);
            rule.destination = with_ports;
            if chance.once_in(4) {
                rule.source = peer(chance, true);
            }
        }
    }
    rule
}

fn peer(chance: &mut Chance, ports: bool) -> Peer {
    Peer {
        nets: chance.maybe(4, |chance| chance.some(4, net)),
        not_nets: chance.maybe(8, |chance| chance.some(2, net)).unwrap_or_default(),
        ports: chance.maybe(2, |chance| chance.some(3, port)).filter(|_| ports),
        not_ports: chance
            .maybe(6, |chance| chance.some(2, port))
            .filter(|_| ports)
            .unwrap_or_default(),
        selector: chance.maybe(6, |chance| selector(chance, 1)),
        not_selector: chance.maybe(10, |chance| selector(chance, 1)),
    }
}

fn net(chance: &mut Chance) -> IpNet {
    chance.one(&NETS).parse().unwrap()
}

fn port(chance: &mut Chance) -> Port {
    let first = chance.one(&PORTS);
    match chance.below(4) {
        0 => Port::Name(chance.one(&NAMES).into()),
        1 => Port::Numbers(PortRange { first, last: chance.one(&PORTS).max(first) }),
        _ => Port::Numbers(PortRange { first, last: first }),
    }
}

/// A packet. `number` makes it another one than all before: its source port, or else its source.
pub(crate) fn packet(chance: &mut Chance, number: u16) -> Packet {
    let v6 = chance.once_in(2);
    let half = if v6 { 3..6 } else { 0..3 };
    let source: IpAddr = chance.one(&SOURCES[half.clone()]).parse().unwrap();
    let behind = chance.one(&BEHIND[half]);
    let out = if behind.starts_with("10.1.") || behind.starts_with("2001:db8:1:") {
        "eth1"
    } else {
        "eth2"
    };
    let (from, to) = (chance.one(&INTERFACES).to_owned(), out.to_owned());
    let (path, destination) = match chance.below(5) {
        0 | 1 => (Path::Input { from }, LOCAL[usize::from(v6)]),
        2 => (Path::Output { to }, behind),
        _ => (Path::Forward { from, to }, behind),
    };
    let mut protocol = chance.one(&[6, 6, 6, 17, 17, 17, 132, 136, 89, 1]);
    if protocol == 1 && v6 {
        protocol = 58;
    }
    let icmp = match protocol {
        1 => Some(chance.one(&[(8, 0), (8, 1), (13, 0)])),
        // Solicitations of neighbours are never forwarded.
        58 if matches!(path, Path::Input { .. }) => {
            Some(chance.one(&[(128, 0), (128, 1), (135, 0)]))
        }
        58 => Some(chance.one(&[(128, 0), (128, 1)])),
        _ => None,
    };
    let ports = [6, 17, 132, 136].contains(&protocol);
    let source_port = if chance.once_in(4) { chance.one(&PORTS) } else { 33000 + number };
    let state = match path {
        Path::Input { .. } | Path::Forward { .. } if protocol == 6 && chance.once_in(10) => {
            State::Invalid
        }
        Path::Forward { .. } if protocol == 17 && !chance.once_in(3) => {
            chance.one(&[State::Established, State::Established, State::Reply])
        }
        _ => State::New,
    };
    let under_way = matches!(state, State::Established | State::Reply);
    let mut packet = Packet {
        path,
        protocol,
        source,
        destination: destination.parse().unwrap(),
        // One connection each.
        source_port: ports.then_some(if under_way { 33000 + number } else { source_port }),
        destination_port: ports.then(|| chance.one(&PORTS)),
        icmp,
        state,
        translated: None,
    };
    if !matches!(packet.path, Path::Input { .. })
        && [6, 17, 132].contains(&protocol)
        && ![State::Reply, State::Invalid].contains(&state)
        && chance.once_in(3)
    {
        let [before, after] = TRANSLATED[usize::from(v6)];
        let port = packet.destination_port;
        packet.translated = Some(Translated { address: after.parse().unwrap(), port });
        packet.destination = before.parse().unwrap();
        packet.source_port = Some(33000 + number);
        if matches!(packet.path, Path::Output { .. }) {
            packet.source = LOCAL[usize::from(v6)].parse().unwrap();
        }
        if let Path::Forward { to, .. } | Path::Output { to } = &mut packet.path {
            *to = "eth1".to_owned();
        }
    }
    packet
}
