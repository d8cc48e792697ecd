//! One rule of a policy as matches of nft.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use model::PortRange;
use model::snapshot::policy::{Action, Family, Icmp, Peer, Port, Rule, Selector};

use super::scope::Scope;
use crate::nft::Set;

/// The longest name that is used as it is: a comment has at most 128 bytes, a log's prefix 127.
const MAX_NAME: usize = 70;

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// Turns rules into text, and gathers the sets that they speak of.
pub(super) struct Writer<'s, 'a> {
    scope: &'s Scope<'a>,
    pub(super) sets: BTreeMap<String, Set>,
}

/// An end of a packet, with its words in nft.
#[derive(Clone, Copy)]
struct End<'a> {
    peer: &'a Peer,
    address: &'static str,
    port: &'static str,
}

impl<'s, 'a> Writer<'s, 'a> {
    pub(super) fn new(scope: &'s Scope<'a>) -> Self {
        Self { scope, sets: BTreeMap::new() }
    }

    /// What a packet must be, as texts of which one must hold; each ends with a space, or is
    /// empty for every packet.
    pub(super) fn matches(&mut self, rule: &Rule) -> Vec<String> {
        let ends = ends(rule);
        let families: Vec<Option<Family>> = if needs_family(rule) {
            Family::ALL.into_iter().filter(|&family| can_be(rule, family)).map(Some).collect()
        } else {
            vec![None]
        };
        let mut texts = Vec::new();
        for family in families {
            let mut common = String::new();
            if let Some(family) = family {
                let name = if family == Family::Ipv4 { "ipv4" } else { "ipv6" };
                let _ = write!(common, "meta nfproto {name} ");
            }
            match &rule.protocols[..] {
                [] => {}
                [one] => drop(write!(common, "meta l4proto {one} ")),
                many => drop(write!(common, "meta l4proto {} ", braced(many))),
            }
            if let Some(protocol) = rule.not_protocol {
                let _ = write!(common, "meta l4proto != {protocol} ");
            }
            let icmp = if family == Some(Family::Ipv6) { "icmpv6" } else { "icmp" };
            if let Some(Icmp { kind, code }) = rule.icmp {
                let _ = write!(common, "{icmp} type {kind} ");
                if let Some(code) = code {
                    let _ = write!(common, "{icmp} code {code} ");
                }
            }
            for end in ends {
                self.addresses(&mut common, end, family);
                self.not_ports(&mut common, end, family);
            }
            let mut alternatives = vec![common];
            if let Some(Icmp { kind, code }) = rule.not_icmp {
                let mut tails = vec![format!("{icmp} type != {kind} ")];
                tails.extend(code.map(|code| format!("{icmp} type {kind} {icmp} code != {code} ")));
                alternatives = product(&alternatives, &tails);
            }
            for end in ends {
                let tails = self.ports(end, family);
                alternatives = product(&alternatives, &tails);
            }
            texts.append(&mut alternatives);
        }
        texts
    }

    fn addresses(&mut self, text: &mut String, end: End<'_>, family: Option<Family>) {
        let Some(family) = family else { return };
        let address = format!("{} {}", protocol_of(family), end.address);
        if let Some(nets) = &end.peer.nets {
            let nets = aggregated(nets, family);
            if !nets.iter().any(|net| net.prefix_len() == 0) {
                let _ = write!(text, "{address} {} ", braced(&nets));
            }
        }
        if !end.peer.not_nets.is_empty() {
            let nets = aggregated(&end.peer.not_nets, family);
            let _ = write!(text, "{address} != {} ", braced(&nets));
        }
        if let Some(selector) = &end.peer.selector {
            let _ = write!(text, "{address} @{} ", self.selected(selector, family));
        }
        if let Some(selector) = &end.peer.not_selector {
            let _ = write!(text, "{address} != @{} ", self.selected(selector, family));
        }
    }

    /// The positive ports as texts of which one must hold.
    fn ports(&mut self, end: End<'_>, family: Option<Family>) -> Vec<String> {
        let Some(ports) = &end.peer.ports else { return vec![String::new()] };
        let mut texts = Vec::new();
        let numbers = merged(ports);
        if !numbers.is_empty() {
            texts.push(format!("th {} {} ", end.port, braced(&numbers)));
        }
        for name in names(ports) {
            texts.push(format!("{} ", self.named_port(name, end, family, "")));
        }
        texts
    }

    fn not_ports(&mut self, text: &mut String, end: End<'_>, family: Option<Family>) {
        let numbers = merged(&end.peer.not_ports);
        match numbers.as_slice() {
            [] => {}
            [one] if one.first == one.last => {
                let _ = write!(text, "th {} {} ", end.port, all_but(one.first));
            }
            _ => {
                let _ = write!(text, "th {} != {} ", end.port, braced(&numbers));
            }
        }
        for name in names(&end.peer.not_ports) {
            let _ = write!(text, "{} ", self.named_port(name, end, family, "!= "));
        }
    }

    fn named_port(
        &mut self,
        name: &str,
        end: End<'_>,
        family: Option<Family>,
        not: &str,
    ) -> String {
        let family = family.unwrap_or(Family::Ipv4);
        let set = format!("policy_port_{name}_{}", suffix(family));
        let elements = (self.scope.named_ports(name).into_iter())
            .filter(|(address, ..)| Family::of(*address) == family)
            .map(|(address, protocol, port)| {
                (format!("{address} . {protocol} . {port}"), String::new())
            })
            .collect();
        let head = format!("type {} . inet_proto . inet_service;", type_of(family));
        self.sets.entry(set.clone()).or_insert_with(|| Set { head, elements, ..Set::default() });
        let (protocol, End { address, port, .. }) = (protocol_of(family), end);
        format!("{protocol} {address} . meta l4proto . th {port} {not}@{set}")
    }

    /// The set of what a selector means.
    fn selected(&mut self, selector: &Selector, family: Family) -> String {
        let text = selector.to_string();
        let name = format!("policy_sel_{:016x}_{}", hash(&text), suffix(family));
        if !self.sets.contains_key(&name) {
            let nets = aggregated(&self.scope.selected(selector), family);
            // The kernel's intervals don't hold the whole space as one element everywhere.
            let halved = nets.iter().flat_map(|net| match net.subnets(net.prefix_len() + 1) {
                Ok(halves) if net.prefix_len() == 0 => halves.collect(),
                _ => vec![*net],
            });
            let elements = halved.map(|net| (shown(&net), String::new())).collect();
            let head = format!("type {}; flags interval;", type_of(family));
            self.sets.insert(name.clone(), Set { head, elements, ..Set::default() });
        }
        name
    }
}

/// The rule as it stands in comments: `deny-nodeports ingress[0]`.
pub(super) fn label(policy: &str, rule: &Rule, direction: impl std::fmt::Display) -> String {
    format!("{} {direction}[{}]", short(policy), rule.index)
}

/// A name as it may stand in names of chains, comments and prefixes: of limited length.
pub(super) fn short(name: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    if name.len() <= MAX_NAME && name.chars().all(safe) {
        return name.to_owned();
    }
    let kept: String = name.chars().filter(|&c| safe(c)).take(MAX_NAME - 17).collect();
    format!("{kept}_{:016x}", hash(name))
}

/// FNV-1a: the same everywhere and for ever.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn ends(rule: &Rule) -> [End<'_>; 2] {
    [
        End { peer: &rule.source, address: "saddr", port: "sport" },
        End { peer: &rule.destination, address: "daddr", port: "dport" },
    ]
}

/// Whether the two families need different texts.
fn needs_family(rule: &Rule) -> bool {
    let of_end = |peer: &Peer| {
        peer.nets.is_some()
            || !peer.not_nets.is_empty()
            || peer.selector.is_some()
            || peer.not_selector.is_some()
            || peer
                .ports
                .iter()
                .flatten()
                .chain(&peer.not_ports)
                .any(|port| matches!(port, Port::Name(_)))
    };
    rule.family.is_some()
        || rule.protocols.iter().any(|&protocol| protocol == ICMP || protocol == ICMPV6)
        || rule.icmp.is_some()
        || rule.not_icmp.is_some()
        || of_end(&rule.source)
        || of_end(&rule.destination)
}

/// Whether a packet of the family can match at all.
fn can_be(rule: &Rule, family: Family) -> bool {
    let protocol = match family {
        Family::Ipv4 => rule.protocols != [ICMPV6],
        Family::Ipv6 => rule.protocols != [ICMP],
    };
    let of_end = |peer: &Peer| {
        let nets = peer.nets.as_ref().is_none_or(|nets| nets.iter().any(|net| family.has(net)));
        let mut not_nets = peer.not_nets.iter().filter(|net| family.has(net)).peekable();
        let not_nets = peer.not_nets.is_empty()
            || not_nets.peek().is_some()
                && !aggregated(&peer.not_nets, family).iter().any(|net| net.prefix_len() == 0);
        nets && not_nets
    };
    rule.family.is_none_or(|wanted| wanted == family)
        && protocol
        && of_end(&rule.source)
        && of_end(&rule.destination)
}

/// Networks of one family, none within another.
fn aggregated(nets: &[IpNet], family: Family) -> Vec<IpNet> {
    match family {
        Family::Ipv4 => {
            let nets: Vec<Ipv4Net> = (nets.iter())
                .filter_map(|net| if let IpNet::V4(net) = net { Some(net.trunc()) } else { None })
                .collect();
            Ipv4Net::aggregate(&nets).into_iter().map(IpNet::V4).collect()
        }
        Family::Ipv6 => {
            let nets: Vec<Ipv6Net> = (nets.iter())
                .filter_map(|net| if let IpNet::V6(net) = net { Some(net.trunc()) } else { None })
                .collect();
            Ipv6Net::aggregate(&nets).into_iter().map(IpNet::V6).collect()
        }
    }
}

/// The ports that have numbers, none twice.
fn merged(ports: &[Port]) -> Vec<PortRange> {
    let mut ranges: Vec<PortRange> = (ports.iter())
        .filter_map(|port| if let Port::Numbers(range) = port { Some(*range) } else { None })
        .collect();
    ranges.sort_unstable();
    let mut merged: Vec<PortRange> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if u32::from(range.first) <= u32::from(last.last) + 1 => {
                last.last = last.last.max(range.last);
            }
            _ => merged.push(range),
        }
    }
    merged
}

fn names(ports: &[Port]) -> BTreeSet<&str> {
    (ports.iter())
        .filter_map(|port| if let Port::Name(name) = port { Some(name.as_str()) } else { None })
        .collect()
}

fn product(heads: &[String], tails: &[String]) -> Vec<String> {
    heads.iter().flat_map(|head| tails.iter().map(move |tail| format!("{head}{tail}"))).collect()
}

/// `a`, or `{ a, b }`.
fn braced<T: std::fmt::Display>(items: &[T]) -> String {
    match items {
        [one] => one.to_string(),
        _ => {
            let items: Vec<String> = items.iter().map(ToString::to_string).collect();
            format!("{{ {} }}", items.join(", "))
        }
    }
}

/// All ports but one, without `!=`: of `th sport != 1 th dport != 2` nft 1.0.6 makes one comparison
/// of both, which holds for 1 and 3, too.
fn all_but(port: u16) -> String {
    match port {
        0 => "1-65535".to_owned(),
        u16::MAX => "0-65534".to_owned(),
        _ => format!("{{ 0-{}, {}-65535 }}", port - 1, port + 1),
    }
}

/// A network as nft lists it: an address without its full prefix.
fn shown(net: &IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

fn protocol_of(family: Family) -> &'static str {
    if family == Family::Ipv4 { "ip" } else { "ip6" }
}

fn type_of(family: Family) -> &'static str {
    if family == Family::Ipv4 { "ipv4_addr" } else { "ipv6_addr" }
}

fn suffix(family: Family) -> &'static str {
    if family == Family::Ipv4 { "v4" } else { "v6" }
}

/// What a chain does where a rule decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdicts {
    pub(super) allow: String,
    pub(super) deny: String,
    pub(super) pass: String,
    /// For connections under way: no logging, and only what is dropped is counted.
    pub(super) quiet: bool,
}

impl Verdicts {
    /// The end of a rule's line, none where it does nothing.
    pub(super) fn tail(&self, action: Action, label: &str) -> Option<String> {
        let verdict = match action {
            Action::Allow => &self.allow,
            Action::Deny => &self.deny,
            Action::Pass => &self.pass,
            Action::Log if self.quiet => return None,
            Action::Log => &format!("log prefix \"tidegate {label}: \""),
        };
        let counted = !self.quiet || verdict == "drop";
        Some(if counted {
            format!("counter {verdict} comment \"{label}\"")
        } else {
            format!("{verdict} comment \"{label}\"")
        })
    }
}
