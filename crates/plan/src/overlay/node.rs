//! A node's plan.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use model::{Diagnostic, HostAddress, ObjectKey, OverlaySettings, PublicKey, Snapshot};

use super::{OverlayPlan, Path};

/// What a node's plan depends on besides objects and settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeInput {
    /// The node's own keys, the newest first; at most two.
    pub keys: Vec<PublicKey>,
    /// The machine's addresses.
    pub host: Vec<HostAddress>,
    /// MAC addresses of neighbours: those of edges in direct mode count.
    pub neighbours: BTreeMap<IpAddr, [u8; 6]>,
    /// Networks that the machine's main table leads to, default routes excepted: pods reach them
    /// that way even where egress networks hold them.
    pub routed: Vec<IpNet>,
    /// The largest packet on the underlay, where that is known.
    pub underlay_mtu: Option<u16>,
    /// What [`numbers`] gave before: connections keep their edge.
    pub numbers: BTreeMap<String, u32>,
    /// What probes tell of edges, by name.
    pub edges: BTreeMap<String, Probed>,
}

/// What probes tell of an edge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probed {
    /// Whether it answers.
    pub live: bool,
    /// The way that it answers on, the newest one of several; none before the first answer.
    pub path: Option<Path>,
    /// Whether it wants nothing new.
    pub drain: bool,
    /// The VpnConnections that it holds.
    pub vpn: BTreeSet<ObjectKey>,
}

/// The number of each edge: what marks, tables and names of interfaces are made of. Edges keep
/// the ones that they had; from 1 to what the mask has room for. Who finds no room has none.
pub fn numbers(
    previous: &BTreeMap<String, u32>,
    edges: impl IntoIterator<Item = String>,
    _mask: u32,
) -> BTreeMap<String, u32> {
    let _ = edges;
    previous.clone()
}

/// Plans a node's end of the overlay: `settings.name` is its name. Pure: the same input always
/// gives the same plan, byte for byte.
pub fn node(
    _snapshot: &Snapshot,
    _settings: &OverlaySettings,
    _input: &NodeInput,
) -> (OverlayPlan, Vec<Diagnostic>) {
    Default::default()
}
