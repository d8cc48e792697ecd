//! The elements and chains that a plan's parts have.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use model::net::Protocol;
use model::settings::L4Settings;
use model::snapshot::Algorithm;

use super::super::affinity::endpoint_id;
use super::super::slots::slots;
use super::super::{Frontend, L4Plan, Path, PortPlan, ServicePlan};
use super::{AlbPorts, SEED, numbered, rules};
use crate::nft::{Chain, FlatBuilder, Key, Table, Value};

/// Up to how many slots a port's chain is there before it is needed.
const USUAL_SLOTS: usize = 16;

/// A set's name: the word, the family and the protocol. As text it would be made for each element.
pub(super) type SetName = (&'static str, Option<bool>, Option<Protocol>);

pub(super) fn text_of((word, v6, protocol): SetName) -> String {
    let mut name = word.to_owned();
    name.extend(v6.map(rules::digit));
    if let Some(protocol) = protocol {
        name = format!("{name}_{}", protocol.lower());
    }
    name
}

/// The random chains for all usual counts of slots of one family and protocol.
pub(super) type Usual = (bool, Protocol);

/// Where connections come in, as the kernel tells it.
pub(super) type Entrance = (Frontend, Protocol);

/// A chain, and how many ports have asked for it.
pub(super) struct Wanted {
    pub(super) chain: Chain,
    pub(super) times: usize,
    /// It is there anyway while these are.
    pub(super) usual: Option<Usual>,
}

/// The table's sets and chains while they are collected. What it is told of one port doesn't
/// depend on others, so that the parts of a table that Services have can be made apart; what
/// several have in common counts how often it was asked for.
#[derive(Default)]
pub(super) struct Builder {
    pub(super) sets: BTreeMap<SetName, FlatBuilder>,
    pub(super) chains: BTreeMap<String, Wanted>,
    pub(super) usual: BTreeMap<Usual, usize>,
    /// Of a whole plan, the numbers of the ports, and the frontends that several of them have.
    pub(super) numbers: Vec<u32>,
    pub(super) crowded: BTreeSet<Entrance>,
    verdicts: BTreeMap<String, Arc<str>>,
}

impl Builder {
    /// All that a plan has.
    pub(super) fn plan(&mut self, plan: &L4Plan, alb_ports: &AlbPorts) {
        for vip in plan.vips.iter() {
            self.add("vips", vip.address, Key::Address(vip.address), Value::None);
        }
        for (kind, addresses) in &plan.albs {
            for (address, port) in addresses.iter().flat_map(|address| {
                alb_ports.get(kind).into_iter().flatten().map(move |p| (*address, *p))
            }) {
                let key = Key::Frontend(address, Protocol::Tcp, port);
                self.add("open", address, key, Value::None);
            }
        }
        for one in &plan.vpn {
            for port in one.ports {
                let key = Key::Frontend(one.address, Protocol::Udp, port);
                self.add("open", one.address, key, Value::None);
            }
        }
        for (service, port, number) in numbered(plan) {
            self.port(service, port, number);
            self.numbers.push(number);
        }
        let fates = fates(plan.services.iter().flat_map(|service| &service.ports));
        let crowded = fates.iter().filter(|(_, fate)| fate.ports > 1);
        self.crowded = crowded.map(|(entrance, _)| *entrance).collect();
        self.refuse(fates);
    }

    /// One port of a Service, but for its lack of endpoints.
    pub(super) fn port(&mut self, service: &ServicePlan, port: &PortPlan, number: u32) {
        match port.path {
            Path::Kernel => self.translated(service, port, number),
            Path::UserSpace(_) => self.open(port),
        }
        self.restrict(service, port);
    }

    /// Adds to the set of the address's family.
    fn add(&mut self, set: &'static str, family: IpAddr, key: Key, value: Value) {
        self.put((set, Some(family.is_ipv6()), None), key, value);
    }

    fn put(&mut self, set: SetName, key: Key, value: Value) {
        self.sets.entry(set).or_default().add(key, value);
    }

    fn verdict(&mut self, text: String) -> Value {
        let shared = self.verdicts.entry(text.clone()).or_insert_with(|| text.into());
        Value::Verdict(shared.clone())
    }

    /// A port whose connections the kernel translates.
    fn translated(&mut self, service: &ServicePlan, port: &PortPlan, number: u32) {
        let mut families = [false; 2];
        for v6 in [false, true] {
            let slots = slots(port, v6);
            if slots.is_empty() {
                continue;
            }
            families[usize::from(v6)] = true;
            self.choose(service, port, number, v6, slots);
        }
        for frontend in &port.frontends {
            match frontend {
                Frontend::Vip(at) | Frontend::External(at) => {
                    if families[usize::from(at.is_ipv6())] {
                        self.frontend(service, *at, port.protocol, number);
                    }
                }
                Frontend::NodePort(at) if families.contains(&true) => {
                    let key = Key::Port(port.protocol, *at);
                    self.put(("node_ports", None, None), key.clone(), Value::Id(number));
                    self.put(("traffic_ports", None, None), key.clone(), Value::None);
                    if service.affinity.is_some() {
                        self.put(("sticky_ports", None, None), key.clone(), Value::Id(number));
                    }
                    if service.snat {
                        self.put(("snat_ports", None, None), key, Value::None);
                    }
                }
                Frontend::NodePort(_) => {}
            }
        }
    }

    fn frontend(&mut self, service: &ServicePlan, at: SocketAddr, protocol: Protocol, number: u32) {
        let key = Key::Frontend(at.ip(), protocol, at.port());
        self.add("frontends", at.ip(), key.clone(), Value::Id(number));
        self.add("traffic", at.ip(), key.clone(), Value::None);
        self.add("served", at.ip(), Key::Address(at.ip()), Value::None);
        if service.affinity.is_some() {
            self.add("sticky", at.ip(), key.clone(), Value::Id(number));
        }
        if service.snat {
            self.add("snat", at.ip(), key, Value::None);
        }
    }

    /// How an endpoint of one family is chosen.
    fn choose(
        &mut self,
        service: &ServicePlan,
        port: &PortPlan,
        number: u32,
        v6: bool,
        slots: Vec<SocketAddr>,
    ) {
        let (digit, protocol) = (rules::digit(v6), port.protocol.lower());
        let family = (v6, port.protocol);
        let count = slots.len();
        let (name, draw) = match port.algorithm {
            Algorithm::Random | Algorithm::LeastConnections => {
                (format!("random{digit}_{protocol}_{count}"), format!("numgen random mod {count}"))
            }
            // The counter is the rule's, so it can't be shared.
            Algorithm::RoundRobin => {
                (format!("turn{digit}_{protocol}_{number:x}"), format!("numgen inc mod {count}"))
            }
            Algorithm::SourceHash => (
                format!("source{digit}_{protocol}_{count}"),
                format!("jhash {} saddr mod {count} seed {SEED:#x}", rules::ip(v6)),
            ),
            Algorithm::Maglev => (
                format!("maglev{digit}_{protocol}_{count}"),
                format!("jhash {} saddr . th sport mod {count} seed {SEED:#x}", rules::ip(v6)),
            ),
        };
        let usual = (name.starts_with("random") && count <= USUAL_SLOTS).then_some(family);
        let translate = rules::chain([rules::translate(port.protocol, v6, &draw)]);
        self.ask(name.clone(), translate, usual);
        if name.starts_with("random") {
            *self.usual.entry(family).or_default() += 1;
        }
        let name = match service.affinity {
            None => name,
            Some(seconds) => {
                let name = self.stick(port.protocol, v6, name);
                self.remember(number, v6, seconds);
                let endpoints: BTreeSet<&SocketAddr> = slots.iter().collect();
                for endpoint in endpoints {
                    let key = Key::Id(endpoint_id(number, *endpoint));
                    let map = ("endpoints", Some(v6), Some(port.protocol));
                    self.put(map, key, Value::Endpoint(*endpoint));
                }
                name
            }
        };
        let verdict = self.verdict(format!("goto {name}"));
        self.put(("services", Some(v6), None), Key::Id(number), verdict);
        let mut last = None;
        for network in slots.iter().map(|slot| pod_network(slot.ip())) {
            // Neighbours are next to each other.
            if last.replace(network) != Some(network) {
                self.add("endpoint_nets", network, Key::Address(network), Value::None);
            }
        }
        let map = ("slots", Some(v6), Some(port.protocol));
        self.put(map, Key::Id(number), Value::Slots(slots.into()));
    }

    fn ask(&mut self, name: String, chain: Chain, usual: Option<Usual>) {
        self.chains.entry(name).or_insert(Wanted { chain, times: 0, usual }).times += 1;
    }

    /// The chain that first looks where the client went before.
    fn stick(&mut self, protocol: Protocol, v6: bool, otherwise: String) -> String {
        let name = format!("sticky_{otherwise}");
        self.ask(name.clone(), rules::stick(protocol, v6, &otherwise), None);
        name
    }

    /// The chain that remembers where the client goes.
    fn remember(&mut self, number: u32, v6: bool, seconds: u32) {
        let name = format!("remember{}_{seconds}", rules::digit(v6));
        let verdict = self.verdict(format!("jump {name}"));
        self.put(("remember", Some(v6), None), Key::Id(number), verdict);
        self.ask(name, rules::remember(v6, seconds), None);
    }

    /// A port whose connections a process takes.
    fn open(&mut self, port: &PortPlan) {
        for frontend in &port.frontends {
            if let Frontend::Vip(at) | Frontend::External(at) = frontend {
                let key = Key::Frontend(at.ip(), port.protocol, at.port());
                self.add("open", at.ip(), key, Value::None);
            }
        }
    }

    /// Who may reach the VIPs of a port.
    fn restrict(&mut self, service: &ServicePlan, port: &PortPlan) {
        if service.source_ranges.is_empty() {
            return;
        }
        // Elements must not overlap.
        let ranges = IpNet::aggregate(&service.source_ranges);
        for frontend in &port.frontends {
            let Frontend::Vip(at) = frontend else { continue };
            let (ip, number) = (at.ip(), at.port());
            let mut ours =
                ranges.iter().filter(|net| net.addr().is_ipv6() == ip.is_ipv6()).peekable();
            if ours.peek().is_some_and(|net| net.prefix_len() == 0) {
                continue;
            }
            self.add("restricted", ip, Key::Frontend(ip, port.protocol, number), Value::None);
            for range in ours {
                let key = Key::Source(ip, port.protocol, number, *range);
                self.add("sources", ip, key, Value::None);
            }
        }
    }

    /// Frontends without an endpoint.
    pub(super) fn refuse(&mut self, fates: BTreeMap<Entrance, Fate>) {
        for ((frontend, protocol), fate) in fates {
            let Some(silent) = fate.refused else { continue };
            let verdict = self.verdict(if silent { "drop" } else { "goto refuse" }.to_owned());
            match frontend {
                Frontend::Vip(at) | Frontend::External(at) => {
                    let key = Key::Frontend(at.ip(), protocol, at.port());
                    self.add("refused", at.ip(), key, verdict);
                }
                Frontend::NodePort(port) => {
                    self.put(("refused_ports", None, None), Key::Port(protocol, port), verdict);
                }
            }
        }
    }

    /// The table, with the rules that are always there.
    pub(super) fn finish(self, settings: &L4Settings) -> Table {
        let mut table = rules::fixed(settings.node_ports);
        let mut sets: BTreeMap<String, FlatBuilder> =
            self.sets.into_iter().map(|(name, builder)| (text_of(name), builder)).collect();
        for (name, head) in rules::heads() {
            let builder = sets.remove(&name).unwrap_or_default();
            table.flat.insert(name, builder.build(head.is_map, head.text));
        }
        // Those that only chains refer to that are there when elements are.
        for (name, builder) in sets {
            let head = rules::head_of_endpoints(&name);
            table.flat.insert(name, builder.build(true, head));
        }
        for &(v6, protocol) in self.usual.keys() {
            table.chains.extend(usual(protocol, v6));
        }
        table.chains.extend(self.chains.into_iter().map(|(name, asked)| (name, asked.chain)));
        table
    }
}

/// Chains for all usual counts of slots, once one is needed: a new rule takes nft longer than all
/// elements of a change.
fn usual(protocol: Protocol, v6: bool) -> impl Iterator<Item = (String, Chain)> {
    (1..=USUAL_SLOTS).map(move |count| {
        let name = format!("random{}_{}_{count}", rules::digit(v6), protocol.lower());
        let draw = format!("numgen random mod {count}");
        (name, rules::chain([rules::translate(protocol, v6, &draw)]))
    })
}

/// What becomes of connections to a frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fate {
    /// They are refused, and whether silently; none if something serves them.
    pub(super) refused: Option<bool>,
    /// How many ports have the frontend.
    pub(super) ports: usize,
}

/// What becomes of connections to each frontend. Where several Services share one, all must be
/// without an endpoint for it to be refused.
pub(super) fn fates<'a>(ports: impl Iterator<Item = &'a PortPlan>) -> BTreeMap<Entrance, Fate> {
    let mut fates = BTreeMap::new();
    for port in ports {
        for frontend in &port.frontends {
            let refused = refused(port, frontend);
            fates
                .entry((*frontend, port.protocol))
                .and_modify(|known: &mut Fate| {
                    known.refused = known.refused.zip(refused).map(|(a, b)| a && b);
                    known.ports += 1;
                })
                .or_insert(Fate { refused, ports: 1 });
        }
    }
    fates
}

fn refused(port: &PortPlan, frontend: &Frontend) -> Option<bool> {
    let at = match frontend {
        Frontend::Vip(at) | Frontend::External(at) => Some(at),
        Frontend::NodePort(_) => None,
    };
    // A process connects to endpoints of either family.
    let any = at.is_none() || port.path != Path::Kernel;
    let serves = port
        .endpoints
        .iter()
        .any(|endpoint| any || at.is_some_and(|at| at.is_ipv6() == endpoint.address.is_ipv6()));
    (!serves).then_some(port.only_remote)
}

/// The network that a pod's neighbours may share: of it only, clients are looked at closer,
/// because one of them may be sent to itself.
fn pod_network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & !0xff).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}
