//! Calico's host policies: GlobalNetworkPolicies, HostEndpoints and GlobalNetworkSets.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::diagnostic::Location;
use crate::net::{PortRange, Protocol};

mod selector;

pub use selector::{Selector, SelectorError};

/// All of them, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    /// GlobalNetworkPolicies that are in force for the endpoints that they select.
    pub policies: BTreeMap<String, Policy>,
    /// HostEndpoints, of this machine and others.
    pub endpoints: BTreeMap<String, HostEndpoint>,
    /// GlobalNetworkSets.
    pub sets: BTreeMap<String, NetworkSet>,
}

/// A GlobalNetworkPolicy of the default tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// `spec.order`: the lowest is asked first.
    pub order: Order,
    /// The host endpoints that it is for.
    pub selector: Selector,
    /// When it is asked.
    pub reach: Reach,
    /// Its rules for what comes in; none if it doesn't speak of that at all.
    pub ingress: Option<Vec<Rule>>,
    /// The same for what goes out.
    pub egress: Option<Vec<Rule>>,
    /// `tidegate.io/end-connections`: its Denies hold for connections already under way too.
    pub end_connections: bool,
    /// Where it was read, for the planners' diagnostics.
    pub location: Option<Location>,
}

impl Policy {
    /// Its rules of one direction.
    pub fn rules(&self, direction: Direction) -> Option<&[Rule]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }
}

/// Seen from the machine's endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Coming in.
    Ingress,
    /// Going out.
    Egress,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

/// When a policy is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// `preDNAT`: of everything that comes in, before its destination is translated.
    PreDnat,
    /// Of what local processes receive and send.
    Local,
    /// `applyOnForward`: of that, and of what is forwarded.
    LocalAndForward,
}

/// A place in the order; without a number it is the last. Displayed as the number, or `none`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Order(Option<f64>);

impl Order {
    /// The place with this number.
    pub fn new(number: Option<f64>) -> Self {
        // There is a negative zero, which is none.
        Self(number.map(|number| number + 0.0))
    }
}

impl Ord for Order {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.0, other.0) {
            (Some(this), Some(that)) => this.total_cmp(&that),
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
        }
    }
}

impl PartialOrd for Order {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Order {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Order {}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(number) => number.fmt(f),
            None => f.write_str("none"),
        }
    }
}

/// One rule of a policy: all that it says of a packet must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Where it stands: the index in `spec.ingress` or `spec.egress`.
    pub index: usize,
    /// What is done with a packet that it matches.
    pub action: Action,
    /// The family that it is for; both if none.
    pub family: Option<Family>,
    /// The packet's protocol is one of these; any if empty.
    pub protocols: Vec<u8>,
    /// It is not this one.
    pub not_protocol: Option<u8>,
    /// It is an ICMP message (of the protocol's family) of this type.
    pub icmp: Option<Icmp>,
    /// It is not one of this.
    pub not_icmp: Option<Icmp>,
    /// Where it comes from.
    pub source: Peer,
    /// Where it goes.
    pub destination: Peer,
}

impl Rule {
    /// A rule that matches everything.
    pub fn new(index: usize, action: Action) -> Self {
        Self {
            index,
            action,
            family: None,
            protocols: Vec::new(),
            not_protocol: None,
            icmp: None,
            not_icmp: None,
            source: Peer::default(),
            destination: Peer::default(),
        }
    }
}

/// What is done with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It passes; no later rule or policy of this direction is asked.
    Allow,
    /// It is dropped.
    Deny,
    /// It is noted, and the next rule is asked.
    Log,
    /// No other policy of the tier is asked, but what comes after them.
    Pass,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "Allow",
            Self::Deny => "Deny",
            Self::Log => "Log",
            Self::Pass => "Pass",
        })
    }
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// 32 bits.
    Ipv4,
    /// 128 bits.
    Ipv6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    /// An address' family.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }

    /// Whether the network's addresses are of the family.
    pub fn has(self, network: &IpNet) -> bool {
        Self::of(network.addr()) == self
    }
}

/// An ICMP message's type, and perhaps code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Icmp {
    /// The type.
    pub kind: u8,
    /// The code; any if none.
    pub code: Option<u8>,
}

/// What a rule says of one end of a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// The address is in one of these; any if none. Only packets of a family that one of them has
    /// are matched.
    pub nets: Option<Vec<IpNet>>,
    /// The address is in none of these. Only packets of a family that one of them has are matched,
    /// if there are any.
    pub not_nets: Vec<IpNet>,
    /// The port is one of these; any if none.
    pub ports: Option<Vec<Port>>,
    /// The port is none of these.
    pub not_ports: Vec<Port>,
    /// The address is one of a HostEndpoint or GlobalNetworkSet that this selects.
    pub selector: Option<Selector>,
    /// The address is none of those that this selects.
    pub not_selector: Option<Selector>,
}

/// A port, as rules have it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Port {
    /// By number.
    Numbers(PortRange),
    /// By its name on a HostEndpoint.
    Name(String),
}

/// A HostEndpoint: an interface of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostEndpoint {
    /// The machine's name.
    pub node: String,
    /// Which of its interfaces.
    pub interface: Interface,
    /// Its addresses: what selectors in rules mean by it.
    pub expected_ips: Vec<IpAddr>,
    /// Its labels, for selectors.
    pub labels: BTreeMap<String, String>,
    /// It has the profile `projectcalico-default-allow`: what no policy decides passes.
    pub default_allow: bool,
    /// Its ports that have names.
    pub ports: Vec<NamedPort>,
    /// Where it was read, for the planners' diagnostics.
    pub location: Option<Location>,
}

/// Which interface a HostEndpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interface {
    /// Every one that has no HostEndpoint of its own.
    All,
    /// The one of this name.
    Name(String),
    /// The one that has one of the expected addresses.
    ByAddress,
}

/// A port with a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedPort {
    /// The name.
    pub name: String,
    /// The protocol.
    pub protocol: Protocol,
    /// The number.
    pub port: u16,
}

/// A GlobalNetworkSet: networks under labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkSet {
    /// Its labels, for selectors.
    pub labels: BTreeMap<String, String>,
    /// Its networks.
    pub nets: Vec<IpNet>,
}
