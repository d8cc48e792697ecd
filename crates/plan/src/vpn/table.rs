//! The nftables table that keeps remote networks from leaving in the clear: `inet tidegate-vpn`.
//!
//! It stands for as long as there is a connection, whether or not the tunnel does, or the gateway.
//! Hooks: what leaves is looked at behind all routing and translation of destinations, what comes
//! before any of it. Syntax: nft(8), of version 1.0.6 or later.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ipnet::IpNet;
use model::VpnSettings;
use model::snapshot::vpn::nat::outermost;

use super::{ConnectionPlan, VpnPlan};
use crate::nft::{MARK_ACCEPTED, MARK_MASQUERADE};

/// The table's family and name.
pub const TABLE: &str = "inet tidegate-vpn";
/// The packet mark of IKE and ESP that the edge itself sends: those may leave for a remote network
/// that the other end's own address lies in. Has none of the bits that the L4 plane sets.
pub const MARK: u32 = 0x0456_504e;
/// The bits of a packet mark in which [`MARK`] is looked for.
pub const MARK_MASK: u32 = !(MARK_ACCEPTED | MARK_MASQUERADE);

/// Packets to a remote network that would have left in the clear.
pub const GUARD_OUT: &str = "guard_out";
/// Packets that claimed to come from a remote network, and came by another way.
pub const GUARD_IN: &str = "guard_in";
/// Packets out of a tunnel for nobody whom the other end may reach, or from this side's addresses.
pub const GUARD_LOCAL: &str = "guard_local";
/// New flows out of a tunnel to a single source address.
pub const GUARD_SINGLE: &str = "guard_single";
/// All counters of the table.
pub const COUNTERS: [&str; 4] = [GUARD_OUT, GUARD_IN, GUARD_LOCAL, GUARD_SINGLE];

/// Where the guard looks at what leaves.
const OUTBOUND: &str = "type filter hook postrouting priority -300; policy accept;";

/// The text that takes the table away, whether or not it is there.
pub fn removal() -> String {
    format!("add table {TABLE}\ndelete table {TABLE}\n")
}

/// A plan's table whose counters go on from these values (packets and bytes, by name).
pub fn with_counters(text: &str, counted: &BTreeMap<String, (u64, u64)>) -> String {
    let mut text = text.to_owned();
    for (name, (packets, bytes)) in counted {
        let counted = format!("\t\tpackets {packets} bytes {bytes}\n");
        text = text.replace(&counter(name), &format!("\tcounter {name} {{\n{counted}\t}}\n"));
    }
    text
}

/// A plan's table for tunnels that the kernel itself is the data path of: there packets pass the
/// guard once more on their way from the tunnel interface to the SA that seals them, when they are
/// bound to be sealed already.
pub fn with_kernel_ipsec(text: &str) -> String {
    text.replace(OUTBOUND, &format!("{OUTBOUND}\n\t\trt ipsec exists return"))
}

/// The text that brings the table up whole, in the place of one that may be there already; empty
/// if nothing is to be guarded.
pub(super) fn text(
    plan: &VpnPlan,
    settings: &VpnSettings,
    zones: &BTreeMap<String, Vec<IpNet>>,
) -> String {
    if plan.routes.is_empty() {
        return String::new();
    }
    let mut text = removal();
    let _ = writeln!(text, "table {TABLE} {{");
    COUNTERS.iter().for_each(|name| text.push_str(&counter(name)));
    let local = plan.connections.values().flat_map(|plan| &plan.policies);
    let local = outermost(local.flat_map(|policy| &policy.local).copied().collect());
    for (name, networks) in [("remote", &plan.routes), ("exempt", &plan.exempt), ("local", &local)]
    {
        set(&mut text, name, networks);
    }
    let tunnel = format!("\"{}\"", settings.interface);
    let (ike, nat) = (settings.port, settings.nat_port);
    let ports = if ike == nat { ike.to_string() } else { format!("{{ {ike}, {nat} }}") };
    chain(
        &mut text,
        "outbound",
        OUTBOUND,
        &[
            format!("oifname {{ \"lo\", {tunnel} }} return"),
            format!(
                "meta l4proto {{ udp, esp }} meta mark & {MARK_MASK:#010x} == {MARK:#010x} return"
            ),
            "ip daddr @exempt4 return".to_owned(),
            "ip6 daddr @exempt6 return".to_owned(),
            format!("ip daddr @remote4 counter name {GUARD_OUT} drop"),
            format!("ip6 daddr @remote6 counter name {GUARD_OUT} drop"),
        ],
    );
    chain(
        &mut text,
        "inbound",
        "type filter hook prerouting priority -300; policy accept;",
        &[
            "iifname \"lo\" return".to_owned(),
            format!("iifname {tunnel} goto emerging"),
            // Of the other end itself: proved by IKE and ESP, not by its address.
            "meta l4proto esp fib daddr type local return".to_owned(),
            format!("udp dport {ports} fib daddr type local return"),
            // Fragments have no ports, and without their first one come to nothing.
            "ip frag-off & 0x1fff != 0 meta l4proto udp fib daddr type local return".to_owned(),
            "frag frag-off != 0 meta l4proto udp fib daddr type local return".to_owned(),
            "ip saddr @exempt4 return".to_owned(),
            "ip6 saddr @exempt6 return".to_owned(),
            format!("ip saddr @remote4 counter name {GUARD_IN} drop"),
            format!("ip6 saddr @remote6 counter name {GUARD_IN} drop"),
        ],
    );
    chain(
        &mut text,
        "emerging",
        "",
        &[
            // The answers would leave in the clear.
            format!("ip saddr @exempt4 counter name {GUARD_LOCAL} drop"),
            format!("ip6 saddr @exempt6 counter name {GUARD_LOCAL} drop"),
            "ip daddr @local4 return".to_owned(),
            "ip6 daddr @local6 return".to_owned(),
            format!("counter name {GUARD_LOCAL} drop"),
        ],
    );
    single_sources(&mut text, plan, &tunnel, zones);
    text.push_str("}\n");
    text
}

/// Everything of a connection with a single source address leaves from it, and nothing new comes
/// in to it.
fn single_sources(
    text: &mut String,
    plan: &VpnPlan,
    tunnel: &str,
    zones: &BTreeMap<String, Vec<IpNet>>,
) {
    let mut arriving = Vec::new();
    let mut leaving = Vec::new();
    for plan in plan.connections.values() {
        let Some(address) = plan.connection.single_source else { continue };
        let ip = family(address.is_ipv4());
        arriving.push(format!(
            "iifname {tunnel} {ip} daddr {address} ct state new,invalid,untracked counter name \
             {GUARD_SINGLE} drop"
        ));
        for sources in translated(plan, address.is_ipv4(), zones) {
            leaving.push(format!("oifname {tunnel} {sources} snat {ip} to {address}"));
        }
    }
    arriving.dedup();
    if leaving.is_empty() {
        return;
    }
    // Behind connection tracking, which knows what is an answer.
    let hook = "type filter hook prerouting priority -150; policy accept;";
    chain(text, "arriving", hook, &arriving);
    // Before the L4 plane's, which has another address for what is marked.
    let hook = "type nat hook postrouting priority 90; policy accept;";
    chain(text, "leaving", hook, &leaving);
}

/// Which flows of a connection get its single address: a match for each child.
fn translated(
    plan: &ConnectionPlan,
    v4: bool,
    zones: &BTreeMap<String, Vec<IpNet>>,
) -> Vec<String> {
    let ip = family(v4);
    let mut matches = Vec::new();
    let connection = &plan.connection;
    for (child, policy) in connection.children.iter().zip(&plan.policies) {
        let zone = connection.zone.as_ref();
        let zone = zone.map(|zone| zones.get(zone).map_or(&[][..], Vec::as_slice));
        let mut parts = Vec::new();
        let from = [Some(child.local.as_slice()), zone];
        for networks in from.into_iter().flatten() {
            parts.push((format!("{ip} saddr"), of_family(networks, v4)));
        }
        parts.push((format!("{ip} daddr"), of_family(&policy.remote, v4)));
        if parts.iter().any(|(_, networks)| networks.is_empty()) {
            continue;
        }
        let parts = parts
            .into_iter()
            .filter(|(_, networks)| !networks.iter().any(|network| network.prefix_len() == 0));
        let parts: Vec<String> =
            parts.map(|(what, networks)| format!("{what} {{ {} }}", joined(&networks))).collect();
        matches.push(parts.join(" "));
    }
    matches
}

pub(crate) fn family(v4: bool) -> &'static str {
    if v4 { "ip" } else { "ip6" }
}

pub(crate) fn of_family(networks: &[IpNet], v4: bool) -> Vec<IpNet> {
    let of = networks.iter().filter(|network| network.addr().is_ipv4() == v4);
    outermost(of.copied().collect())
}

pub(crate) fn joined(networks: &[IpNet]) -> String {
    networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

pub(crate) fn counter(name: &str) -> String {
    format!("\tcounter {name} {{\n\t\tpackets 0 bytes 0\n\t}}\n")
}

pub(crate) fn set(text: &mut String, name: &str, networks: &[IpNet]) {
    for (number, kind, v4) in [("4", "ipv4_addr", true), ("6", "ipv6_addr", false)] {
        let _ = writeln!(text, "\n\tset {name}{number} {{\n\t\ttype {kind}\n\t\tflags interval");
        let networks = of_family(networks, v4);
        if !networks.is_empty() {
            let _ = writeln!(text, "\t\telements = {{ {} }}", joined(&networks));
        }
        text.push_str("\t}\n");
    }
}

pub(crate) fn chain(text: &mut String, name: &str, hook: &str, rules: &[String]) {
    let _ = writeln!(text, "\n\tchain {name} {{");
    for line in std::iter::once(hook).chain(rules.iter().map(String::as_str)) {
        if !line.is_empty() {
            let _ = writeln!(text, "\t\t{line}");
        }
    }
    text.push_str("\t}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_will_seal_passes_before_anything_is_dropped() {
        let mut plain = String::new();
        chain(&mut plain, "outbound", OUTBOUND, &["ip daddr @remote4 drop".to_owned()]);
        let text = with_kernel_ipsec(&plain);
        let lines: Vec<&str> =
            text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let expected =
            ["chain outbound {", OUTBOUND, "rt ipsec exists return", "ip daddr @remote4 drop", "}"];
        assert_eq!(lines, expected);
    }
}
