//! Nodes and edges, as the overlay sees them.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::key::PublicKey;
use crate::names::ObjectKey;

/// A Node of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Its addresses on the underlay (InternalIP), in the order of its status.
    pub addresses: Vec<IpAddr>,
    /// The pod networks that are its own, sorted: of `spec.podCIDRs`, or Calico's blocks where
    /// those rule. What another Node claimed first is not here.
    pub pods: Vec<IpNet>,
    /// Its zone.
    pub zone: Option<String>,
    /// Whether its Ready condition is True, or there is none.
    pub ready: bool,
    /// What its agent tells; none while there is no agent.
    pub agent: Option<NodeAgent>,
}

/// What an agent tells in its Node's annotations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeAgent {
    /// Its public keys, the newest first; at most two.
    pub keys: Vec<PublicKey>,
    /// `direct` or `wireguard` if the node insists; none for auto.
    pub mode: Option<OverlayMode>,
}

/// Whether packets between edges and nodes are encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OverlayMode {
    /// In the clear where both are on one link, WireGuard elsewhere.
    #[default]
    Auto,
    /// In the clear.
    Direct,
    /// WireGuard.
    Wireguard,
}

/// An edge, as it tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Edge {
    /// Towards the nodes, the preferred one first.
    pub addresses: Vec<IpAddr>,
    /// Its public keys with their UDP ports, the one in use first; at most two.
    pub keys: Vec<(PublicKey, u16)>,
    /// Where it answers probes.
    pub probe_port: u16,
    /// How it wants to be reached.
    pub mode: OverlayMode,
    /// Service networks that it sends to nodes.
    pub services: Vec<IpNet>,
    /// Networks that pods reach through an edge.
    pub egress: Vec<IpNet>,
    /// The VIPs that it holds.
    pub vips: Vec<IpAddr>,
    /// The VpnConnections that it holds.
    pub vpn: Vec<ObjectKey>,
    /// Whether people have asked it to give up what it holds.
    pub drain: bool,
}

/// A VpnConnection, as an agent sees it, who may not read its Secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Connection {
    /// Networks that pods reach through it, as they see them (after `remoteSubnetNAT`). Sorted.
    pub remote: Vec<IpNet>,
    /// Networks of this side that it names. Sorted.
    pub local: Vec<IpNet>,
    /// Only nodes of this zone route through it.
    pub zone: Option<String>,
    /// When it was made, in seconds since 1970: of two that have the same network, the older one
    /// has it.
    pub created: Option<i64>,
}
