//! From VpnConnections to what the edge holds up: connections, policies, routes, and the rules
//! that let nothing out in the clear.
//!
//! **What it is:** data. [`VpnPlan`] is all that the VPN plane applies.
//!
//! **What it is not:** the IKE engine's own configuration (the gateway turns a
//! [`ConnectionPlan`] into one), or what applies it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use model::ObjectKey;
use model::snapshot::vpn::{NatPair, VpnConnection};

mod machines;
mod planner;
pub mod table;

pub use planner::plan;

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VpnPlan {
    /// The connections, without those that can't be.
    pub connections: BTreeMap<ObjectKey, ConnectionPlan>,
    /// Networks that packets reach only through a tunnel, as this side's hosts see them: each is
    /// routed into the tunnel interface. Sorted, without those that lie in another one.
    pub routes: Vec<IpNet>,
    /// Networks and machines of this side inside of `routes`, or as large: never routed into the
    /// tunnel interface. Sorted, without those that lie in another one.
    pub exempt: Vec<IpNet>,
    /// The text of the nftables table (`inet tidegate-vpn`), one transaction that brings it up
    /// whole: nothing for `routes` leaves but through the tunnel interface, nothing comes from
    /// them but through it; single source addresses. Empty if there is no connection.
    pub table: String,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionPlan {
    /// As it was written, with defaults.
    pub connection: VpnConnection,
    /// The VIP, where it has one out of a pool; none if the pool gave none yet.
    pub vip: Option<IpAddr>,
    /// Which packets go into which child SA. In the children's order.
    pub policies: Vec<Policy>,
}

/// Which packets of this side go into a child SA, and how their addresses change. Inbound the
/// same, the other way round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The child's name.
    pub child: String,
    /// Sources of packets that go out, as they come to the tunnel interface: inside addresses, or
    /// the single source address.
    pub local: Vec<IpNet>,
    /// Destinations, as this side's hosts see them.
    pub remote: Vec<IpNet>,
    /// Changes of the source on the way out; the longest `inside` that has it counts.
    pub local_nat: Vec<NatPair>,
    /// Changes of the destination on the way out.
    pub remote_nat: Vec<NatPair>,
    /// Only packets whose source is in one of these: a zone's nodes and pods. None: all.
    pub sources: Option<Vec<IpNet>>,
    /// What is proposed as selectors of this side: after NAT.
    pub local_selectors: Vec<IpNet>,
    /// The same of the other side: its real networks.
    pub remote_selectors: Vec<IpNet>,
}
