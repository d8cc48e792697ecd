//! The nftables table of the L4 plane.
//!
//! Laid out flat, so that a Service costs elements and no rules: a connection's destination leads
//! to the number of a Service's port (`frontends*`, `node_ports`), that to a chain that draws a
//! slot's number (`services*`), and both numbers to an endpoint (`slots*`). Chains are shared by
//! all ports that draw alike. The number is kept in the packet's priority between these steps;
//! forwarding sets that anew, and nothing is read from it later.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use model::AlbKind;
use model::net::Protocol;
use model::settings::L4Settings;
use model::snapshot::Algorithm;

use crate::nft::{Chain, FlatBuilder, Key, Table, Value};

use super::affinity::endpoint_id;
use super::hash::fnv;
use super::slots::slots;
use super::{Frontend, L4Plan, Path, PortPlan, ServicePlan};

mod rules;
#[cfg(test)]
mod tests;

/// The TCP ports that each ALB serves on its addresses out of pools.
pub type AlbPorts = BTreeMap<AlbKind, Vec<u16>>;

/// The seed of all hashes in the kernel: the same everywhere, so that every edge chooses alike.
pub const SEED: u32 = 0x7469_6465;

/// Up to how many slots a port's chain is there before it is needed.
const USUAL_SLOTS: usize = 16;

/// The table that does what the plan says.
pub fn table(plan: &L4Plan, settings: &L4Settings, alb_ports: &AlbPorts) -> Table {
    let mut table = rules::fixed(settings.node_ports);
    let mut builder = Builder::default();
    for vip in &plan.vips {
        builder.add("vips", vip.address, Key::Address(vip.address), Value::None);
    }
    for (kind, addresses) in &plan.albs {
        for (address, port) in addresses.iter().flat_map(|address| {
            alb_ports.get(kind).into_iter().flatten().map(move |p| (*address, *p))
        }) {
            let key = Key::Frontend(address, Protocol::Tcp, port);
            builder.add("open", address, key, Value::None);
        }
    }
    for one in &plan.vpn {
        for port in one.ports {
            let key = Key::Frontend(one.address, Protocol::Udp, port);
            builder.add("open", one.address, key, Value::None);
        }
    }
    for (service, port, number) in numbered(plan) {
        match port.path {
            Path::Kernel => builder.translated(service, port, number),
            Path::UserSpace(_) => builder.open(port),
        }
        builder.restrict(service, port);
    }
    builder.refuse(plan);
    builder.finish(&mut table);
    table
}

/// Every port of every Service with its number: stable as long as the port exists, and not below
/// 2³¹, where no program sets a packet's priority.
pub fn numbered(plan: &L4Plan) -> impl Iterator<Item = (&ServicePlan, &PortPlan, u32)> {
    let mut taken = BTreeSet::new();
    let ports =
        plan.services.iter().flat_map(|service| service.ports.iter().map(move |p| (service, p)));
    ports.map(move |(service, port)| {
        let name = format!("{}/{}/{}", service.service, port.protocol.lower(), port.number);
        let mut number = fnv(name.as_bytes(), 0) as u32 | 0x8000_0000;
        // The last has a name of its own for nft.
        while number == u32::MAX || !taken.insert(number) {
            number = number.wrapping_add(1) | 0x8000_0000;
        }
        (service, port, number)
    })
}

/// A set's name: the word, the family and the protocol. As text it would be made for each element.
type SetName = (&'static str, Option<bool>, Option<Protocol>);

fn text_of((word, v6, protocol): SetName) -> String {
    let mut name = word.to_owned();
    name.extend(v6.map(rules::digit));
    if let Some(protocol) = protocol {
        name = format!("{name}_{}", protocol.lower());
    }
    name
}

/// The table's sets and chains while they are collected.
#[derive(Default)]
struct Builder {
    sets: BTreeMap<SetName, FlatBuilder>,
    chains: BTreeMap<String, Chain>,
    verdicts: BTreeMap<String, Arc<str>>,
}

impl Builder {
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
        let shared = name.starts_with("random");
        if self
            .chains
            .insert(name.clone(), rules::chain([rules::translate(port.protocol, v6, &draw)]))
            .is_none()
            && shared
        {
            self.usual(port.protocol, v6);
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

    /// Chains for all usual counts of slots, once one is needed: a new rule takes nft longer than
    /// all elements of a change.
    fn usual(&mut self, protocol: Protocol, v6: bool) {
        for count in 1..=USUAL_SLOTS {
            let name = format!("random{}_{}_{count}", rules::digit(v6), protocol.lower());
            let draw = format!("numgen random mod {count}");
            self.chains
                .entry(name)
                .or_insert_with(|| rules::chain([rules::translate(protocol, v6, &draw)]));
        }
    }

    /// The chain that first looks where the client went before.
    fn stick(&mut self, protocol: Protocol, v6: bool, otherwise: String) -> String {
        let name = format!("sticky_{otherwise}");
        self.chains.entry(name.clone()).or_insert_with(|| rules::stick(protocol, v6, &otherwise));
        name
    }

    /// The chain that remembers where the client goes.
    fn remember(&mut self, number: u32, v6: bool, seconds: u32) {
        let name = format!("remember{}_{seconds}", rules::digit(v6));
        let verdict = self.verdict(format!("jump {name}"));
        self.put(("remember", Some(v6), None), Key::Id(number), verdict);
        self.chains.entry(name).or_insert_with(|| rules::remember(v6, seconds));
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

    /// Frontends without an endpoint. Where several Services share one, all must be without.
    fn refuse(&mut self, plan: &L4Plan) {
        let mut refused: BTreeMap<(Frontend, Protocol), Option<bool>> = BTreeMap::new();
        for port in plan.services.iter().flat_map(|service| &service.ports) {
            for frontend in &port.frontends {
                let at = match frontend {
                    Frontend::Vip(at) | Frontend::External(at) => Some(at),
                    Frontend::NodePort(_) => None,
                };
                // A process connects to endpoints of either family.
                let any = at.is_none() || port.path != Path::Kernel;
                let serves = port.endpoints.iter().any(|endpoint| {
                    any || at.is_some_and(|at| at.is_ipv6() == endpoint.address.is_ipv6())
                });
                let fate = (!serves).then_some(port.only_remote);
                refused
                    .entry((*frontend, port.protocol))
                    .and_modify(|known| *known = known.zip(fate).map(|(a, b)| a && b))
                    .or_insert(fate);
            }
        }
        for ((frontend, protocol), fate) in refused {
            let Some(silent) = fate else { continue };
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

    fn finish(self, table: &mut Table) {
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
        table.chains.extend(self.chains);
    }
}

/// The network that a pod's neighbours may share: of it only, clients are looked at closer,
/// because one of them may be sent to itself.
fn pod_network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & !0xff).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}
