//! The nftables table of an edge, and that of a node: `inet tidegate-overlay`.
//!
//! Syntax: nft(8), of version 1.0.6 or later. Priorities: connection tracking is at -200, others'
//! translation of destinations at -100, and of sources at 100.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{TABLE, TABLE_NODE};
use crate::vpn::table::{chain, counter, set};

/// Packets that claimed to come from a pod, and came by another way.
pub const SPOOFED: &str = "overlay_spoofed";
/// Bit of the packet mark: an edge's packet for a node's own address goes through its tunnel.
pub const MARK_HOST: u32 = 0x0800_0000;

/// The text that takes a table away, whether or not it is there.
pub fn removal(table: &str) -> String {
    format!("add table {table}\ndelete table {table}\n")
}

/// What an edge's table depends on.
#[derive(Debug, Default)]
pub(super) struct EdgeTable {
    /// Tunnels, with their MTUs.
    pub(super) tunnels: BTreeMap<String, u16>,
    /// The VPN plane's interface.
    pub(super) vpn: Option<String>,
    /// Pod networks that are reached in a known way.
    pub(super) pods: Vec<IpNet>,
    /// Those of them that are reached in the clear, by interface.
    pub(super) direct: BTreeMap<String, Vec<IpNet>>,
    /// Addresses of nodes that are reached through tunnels.
    pub(super) hosts: Vec<IpNet>,
    /// Addresses of all other nodes.
    pub(super) nodes: Vec<IpNet>,
    /// UDP ports of the overlay's own.
    pub(super) ports: BTreeSet<u16>,
    /// Interfaces that face the internet.
    pub(super) outside: Vec<String>,
    /// Service networks.
    pub(super) services: Vec<IpNet>,
    /// What pods reach with the edge's address.
    pub(super) masqueraded: Vec<IpNet>,
    /// What within that they reach with their own.
    pub(super) inside: Vec<IpNet>,
}

impl EdgeTable {
    pub(super) fn text(&self) -> String {
        if self.tunnels.is_empty() && self.pods.is_empty() {
            return String::new();
        }
        let mut text = removal(TABLE);
        let _ = writeln!(text, "table {TABLE} {{");
        text.push_str(&counter(SPOOFED));
        set(&mut text, "pods", &self.pods);
        for (index, networks) in self.direct.values().enumerate() {
            set(&mut text, &format!("link{index}_"), networks);
        }
        if !self.hosts.is_empty() {
            set(&mut text, "hosts", &self.hosts);
        }
        if !self.masqueraded.is_empty() {
            set(&mut text, "egress", &self.masqueraded);
            set(&mut text, "inside", &self.inside);
        }
        self.sources(&mut text);
        self.strangers(&mut text);
        self.to_hosts(&mut text);
        clamp(&mut text, &self.tunnels);
        if !self.masqueraded.is_empty() {
            let others: Vec<&str> =
                self.tunnels.keys().chain(&self.vpn).map(String::as_str).collect();
            let elsewhere = match others.is_empty() {
                true => String::new(),
                false => format!("oifname != {} ", names(others)),
            };
            let rules = ["ip", "ip6"].map(|ip| {
                let n = if ip == "ip" { "4" } else { "6" };
                format!(
                    "{elsewhere}{ip} saddr @pods{n} {ip} daddr @egress{n} {ip} daddr != @inside{n} \
                     masquerade"
                )
            });
            // Before the L4 plane's, which has other addresses for what is marked.
            let hook = "type nat hook postrouting priority 90; policy accept;";
            chain(&mut text, "egress", hook, &rules);
        }
        text.push_str("}\n");
        text
    }

    /// Packets that say that they come from a pod come from its node: through a tunnel its key
    /// proves it.
    fn sources(&self, text: &mut String) {
        let known = std::iter::once("lo").chain(self.tunnels.keys().map(String::as_str));
        let mut rules = vec![format!("iifname {} return", names(known))];
        for (index, interface) in self.direct.keys().enumerate() {
            for (ip, n) in [("ip", 4), ("ip6", 6)] {
                rules.push(format!("iifname \"{interface}\" {ip} saddr @link{index}_{n} return"));
            }
        }
        rules.push(format!("ip saddr @pods4 counter name {SPOOFED} drop"));
        rules.push(format!("ip6 saddr @pods6 counter name {SPOOFED} drop"));
        chain(text, "sources", "type filter hook prerouting priority -300; policy accept;", &rules);
    }

    /// Who is outside reaches pods, Services and nodes by what is translated alone: the edge is no
    /// router into the cluster.
    fn strangers(&self, text: &mut String) {
        if self.outside.is_empty() {
            return;
        }
        set(text, "services", &self.services);
        set(text, "nodes", &self.nodes);
        let outside = names(self.outside.iter().map(String::as_str));
        self.forged(text, &outside);
        let mut rules = vec![
            format!("iifname != {outside} return"),
            "ct state != new return".to_owned(),
            "ct status dnat return".to_owned(),
        ];
        // Of these nodes only what comes through a tunnel is surely theirs.
        if !self.hosts.is_empty() {
            for (ip, n) in [("ip", 4), ("ip6", 6)] {
                rules.push(format!("{ip} saddr @hosts{n} counter name {SPOOFED} drop"));
            }
        }
        let hosts = (!self.hosts.is_empty()).then_some("hosts");
        for of in ["pods", "services"].into_iter().chain(hosts) {
            rules.push(format!("ip daddr @{of}4 counter drop"));
            rules.push(format!("ip6 daddr @{of}6 counter drop"));
        }
        chain(text, "outside", "type filter hook forward priority -160; policy accept;", &rules);
    }

    /// Nobody outside has an address of the cluster: Services' and the overlay's own never come
    /// from there (but the answers of a Service on a node that shares that link), and a node's only
    /// where the way back to it leads. The overlay's own packets prove whose they are.
    fn forged(&self, text: &mut String, outside: &str) {
        let ports: Vec<String> = self.ports.iter().map(u16::to_string).collect();
        let overlay = model::key::OVERLAY_NETWORK;
        let mut rules = vec![
            format!("iifname != {outside} return"),
            "ct state established,related return".to_owned(),
            format!("udp dport {{ {} }} fib daddr type local return", ports.join(", ")),
            format!("ip6 saddr {overlay}/64 counter name {SPOOFED} drop"),
        ];
        for (ip, n) in [("ip", 4), ("ip6", 6)] {
            rules.push(format!("{ip} saddr @services{n} counter name {SPOOFED} drop"));
            rules.push(format!(
                "{ip} saddr @nodes{n} fib saddr . iif oif missing counter name {SPOOFED} drop"
            ));
        }
        chain(text, "forged", "type filter hook prerouting priority -190; policy accept;", &rules);
    }

    /// What the edge forwards to endpoints with their node's own address goes through the tunnel,
    /// too; what the underlay itself carries (the tunnel's packets among it) does not.
    fn to_hosts(&self, text: &mut String) {
        if self.hosts.is_empty() {
            return;
        }
        let mut rules = Vec::new();
        let vpn = self.vpn.iter().map(|vpn| format!("iifname \"{vpn}\""));
        for which in vpn.chain(["ct status dnat".to_owned()]) {
            for (ip, n) in [("ip", 4), ("ip6", 6)] {
                rules.push(format!(
                    "{which} {ip} daddr @hosts{n} meta mark set meta mark | {MARK_HOST:#010x}"
                ));
            }
        }
        // Behind the translation of destinations.
        chain(text, "hosts", "type filter hook prerouting priority -90; policy accept;", &rules);
    }
}

/// What a node's table depends on.
#[derive(Debug, Default)]
pub(super) struct NodeTable {
    /// Tunnels, with their MTUs.
    pub(super) tunnels: BTreeMap<String, u16>,
    /// How packets of edges are known, with the value of their mark: `iifname …`.
    pub(super) edges: Vec<(String, u32)>,
    /// Which bits of a mark are used.
    pub(super) mask: u32,
    /// The node's own pod networks.
    pub(super) pods: Vec<IpNet>,
    /// Edges that are reached in the clear: over which interface, at which address.
    pub(super) links: Vec<(String, IpAddr)>,
    /// Networks of Services that edges send here.
    pub(super) services: Vec<IpNet>,
}

impl NodeTable {
    pub(super) fn text(&self) -> String {
        if self.edges.is_empty() {
            return String::new();
        }
        let mut text = removal(TABLE_NODE);
        let _ = writeln!(text, "table {TABLE_NODE} {{");
        set(&mut text, "pods", &self.pods);
        set(&mut text, "services", &self.services);
        let (mask, keep) = (self.mask, !self.mask);
        let mut rules = Vec::new();
        for (which, value) in &self.edges {
            rules.push(format!(
                "{which} ct direction original ct mark set ct mark & {keep:#010x} | {value:#010x}"
            ));
        }
        rules.extend(self.edges.iter().map(|(which, _)| format!("{which} return")));
        rules.push("ct direction reply goto replies".to_owned());
        let mut values: Vec<u32> = self.edges.iter().map(|(_, value)| *value).collect();
        values.sort_unstable();
        values.dedup();
        let restore: Vec<String> = values
            .iter()
            .map(|value| {
                format!(
                    "ct mark & {mask:#010x} == {value:#010x} meta mark set meta mark & {keep:#010x} \
                     | {value:#010x}"
                )
            })
            .collect();
        chain(&mut text, "replies", "", &restore);
        chain(
            &mut text,
            "arriving",
            "type filter hook prerouting priority -150; policy accept;",
            &rules,
        );
        chain(
            &mut text,
            "local",
            "type route hook output priority -150; policy accept;",
            &["ct direction reply goto replies".to_owned()],
        );
        clamp(&mut text, &self.tunnels);
        self.translation(&mut text);
        text.push_str("}\n");
        text
    }

    /// Pods' packets keep their source on the way to an edge, whatever the network plugin does
    /// with what leaves the cluster (the first to decide has decided: a translation to the same
    /// address counts as one); and what this node hands on to another node's pod comes back.
    fn translation(&self, text: &mut String) {
        let mut rules = Vec::new();
        let mask = self.mask;
        for (ip, n) in [("ip", 4), ("ip6", 6)] {
            let kept = format!("{ip} saddr @pods{n} snat {ip} to {ip} saddr");
            if !self.tunnels.is_empty() {
                let tunnels = names(self.tunnels.keys().map(String::as_str));
                rules.push(format!("oifname {tunnels} {kept}"));
            }
            let links = self.links.iter().filter(|(_, address)| address.is_ipv4() == (n == 4));
            rules.extend(links.map(|(interface, address)| {
                format!("oifname \"{interface}\" rt {ip} nexthop {address} {kept}")
            }));
            rules.push(format!(
                "ct mark & {mask:#010x} != 0 ct status dnat ct original {ip} daddr @services{n} \
                 {ip} daddr != @pods{n} masquerade"
            ));
        }
        chain(text, "sources", "type nat hook postrouting priority 90; policy accept;", &rules);
    }
}

/// TCP's segments fit into tunnels both ways, wherever the ends are that agree on them.
fn clamp(text: &mut String, tunnels: &BTreeMap<String, u16>) {
    if tunnels.is_empty() {
        return;
    }
    let mut rules = vec!["tcp flags & (syn | rst) != syn return".to_owned()];
    let all = names(tunnels.keys().map(String::as_str));
    rules.push(format!("oifname {all} tcp option maxseg size set rt mtu"));
    for (name, mtu) in tunnels {
        for (ip, headers) in [("ipv4", 40), ("ipv6", 60)] {
            let size = mtu.saturating_sub(headers);
            rules.push(format!(
                "iifname \"{name}\" meta nfproto {ip} tcp option maxseg size set {size}"
            ));
        }
    }
    chain(text, "segments", "type filter hook forward priority -150; policy accept;", &rules);
}

/// Interfaces as nft's text has them.
fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let all: Vec<String> = names.into_iter().map(|name| format!("\"{name}\"")).collect();
    match all.as_slice() {
        [one] => one.clone(),
        all => format!("{{ {} }}", all.join(", ")),
    }
}
