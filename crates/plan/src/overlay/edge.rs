//! An edge's plan.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::{Diagnostic, HostAddress, OverlaySettings, PublicKey, Snapshot};

use super::{OverlayPlan, Path};

/// What an edge's plan depends on besides objects and settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EdgeInput {
    /// The edge's own keys with their UDP ports, the one in use first; at most two.
    pub keys: Vec<(PublicKey, u16)>,
    /// The machine's addresses.
    pub host: Vec<HostAddress>,
    /// The largest packet on the underlay, where that is known.
    pub underlay_mtu: Option<u16>,
    /// What is heard of nodes, by name.
    pub nodes: BTreeMap<String, Heard>,
    /// The VPN plane's interface, where it is enabled.
    pub vpn_interface: Option<String>,
    /// Addresses of the edge towards the nodes, the preferred one first.
    pub underlay: Vec<IpAddr>,
}

/// What an edge hears of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Whether its probes come.
    pub live: bool,
    /// The way that they came last, the newest one of several; none before the first.
    pub path: Option<Path>,
    /// Whether it is behind a NAT that has to be kept open: they come from an address that isn't
    /// the Node's.
    pub nat: bool,
}

/// Plans an edge's end of the overlay. Pure: the same input always gives the same plan, byte for
/// byte. What ingest has told already is not told again.
pub fn edge(
    _snapshot: &Snapshot,
    _settings: &OverlaySettings,
    _input: &EdgeInput,
) -> (OverlayPlan, Vec<Diagnostic>) {
    Default::default()
}
