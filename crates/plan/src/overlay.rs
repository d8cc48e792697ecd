//! From Nodes and EdgeGateways to tunnels, routes and rules, of an edge and of a node.
//!
//! **What it is:** data. [`OverlayPlan`] is all that is applied on one machine.
//!
//! **What it is not:** what applies it (the `wireguard` crate), or what finds out who can be
//! reached: that is an input.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use ipnet::IpNet;
use model::{ObjectKey, PublicKey};
use serde::Serialize;

mod edge;
mod marks;
mod node;
mod slices;
pub mod table;
mod tunnel;
mod way;

pub use edge::{EdgeInput, Heard, edge};
pub use marks::numbers;
pub use node::{NodeInput, Probed, node};

/// The nftables table's family and name, on an edge.
pub const TABLE: &str = "inet tidegate-overlay";
/// The same on a node. They differ since an edge may run on a node.
pub const TABLE_NODE: &str = "inet tidegate-agent";
/// The routing tables that are an edge's own.
pub const TABLES: RangeInclusive<u32> = 0x5448..=0x546f;
/// The same of a node.
pub const TABLES_NODE: RangeInclusive<u32> = 0x5470..=0x54ff;
/// The priorities of an edge's rules, before the main table (32766).
pub const PRIORITIES: RangeInclusive<u32> = 5440..=5446;
/// The same of a node's.
pub const PRIORITIES_NODE: RangeInclusive<u32> = 5430..=5439;

/// All of one machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OverlayPlan {
    /// WireGuard interfaces, in the order of their names.
    pub tunnels: Vec<Tunnel>,
    /// Routes in tables of our own, sorted. All others in those tables are taken away.
    pub routes: Vec<Route>,
    /// Rules that lead to these tables, sorted.
    pub rules: Vec<Rule>,
    /// The text of the nftables table ([`TABLE`] or [`TABLE_NODE`]), one transaction that brings it
    /// up whole; empty for none.
    pub table: String,
    /// Kernel settings that have to have at least these values, such as
    /// `net.ipv4.conf.tidegate-wg.rp_filter` = 2.
    pub sysctls: BTreeMap<String, u32>,
    /// Whom to probe, in the order of their names: an agent its edges; an edge nobody, since it
    /// learns from the probes that it answers.
    pub probes: Vec<ProbeTarget>,
    /// A node's: by which edge each VpnConnection and the egress networks go at present.
    pub active: Active,
}

/// How an edge and a node reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Path {
    /// In the clear, over a link that both are on.
    Direct,
    /// Through the tunnel between these two keys.
    Tunnel {
        /// The edge's.
        edge: PublicKey,
        /// The node's.
        node: PublicKey,
    },
}

/// By which edge what goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Active {
    /// VpnConnections; those without an edge are not here, and their networks are unreachable.
    pub vpn: BTreeMap<ObjectKey, String>,
    /// Egress networks; none if no edge can be reached.
    pub egress: Option<String>,
}

/// A WireGuard interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Tunnel {
    /// Its name, at most 15 characters.
    pub interface: String,
    /// The public half of the key that is its own; who applies knows the private one.
    pub key: PublicKey,
    /// The UDP port; 0 for any.
    pub port: u16,
    /// Its MTU.
    pub mtu: u16,
    /// Addresses of its own, all with full prefixes.
    pub addresses: Vec<IpAddr>,
    /// Its peers, by key.
    pub peers: Vec<Peer>,
}

/// A WireGuard peer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Peer {
    /// Its key.
    pub key: PublicKey,
    /// The Node or EdgeGateway that it is.
    pub name: String,
    /// Where it is, where that is known; it may roam.
    pub endpoint: Option<SocketAddr>,
    /// Sources that it may send from, and destinations that go to it.
    pub allowed: Vec<IpNet>,
    /// Seconds between keepalives, where a NAT has to be kept open.
    pub keepalive: Option<u16>,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Route {
    /// The table.
    pub table: u32,
    /// Destinations.
    pub network: IpNet,
    /// Where they go.
    pub target: Target,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Target {
    /// Into an interface.
    Device(String),
    /// To a neighbour on a link.
    Via {
        /// The neighbour.
        address: IpAddr,
        /// The interface that leads to it.
        interface: String,
    },
    /// Nowhere: packets are refused (ICMP unreachable) rather than leave another way.
    Unreachable,
    /// To the next rule, as if this table had no route.
    Throw,
}

/// A rule of policy routing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Rule {
    /// Its place among all rules.
    pub priority: u32,
    /// Whether it is for IPv6.
    pub v6: bool,
    /// Which packets.
    pub selector: Selector,
    /// The table that they are looked up in.
    pub table: u32,
}

/// Which packets a rule is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Selector {
    /// All.
    All,
    /// Those with these bits in their mark.
    Mark {
        /// The bits' values.
        value: u32,
        /// Which bits.
        mask: u32,
    },
    /// Those from a network.
    From(IpNet),
    /// Those that came in through this interface.
    Incoming(String),
}

/// Whom an agent probes. Through a tunnel, from the tunnel's own address: that, and not the
/// device, leads into it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ProbeTarget {
    /// The EdgeGateway.
    pub edge: String,
    /// Its key: messages are sealed for it, with the key of the tunnel that they go through, or
    /// the node's newest one.
    pub key: PublicKey,
    /// Where it answers: inside of the tunnel, or on the underlay.
    pub address: SocketAddr,
    /// The interface to send through, for a target inside of a tunnel.
    pub interface: Option<String>,
}
