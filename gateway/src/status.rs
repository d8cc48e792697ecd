//! What is written back to the API server: who has which address, how connections are, what was
//! refused.
//!
//! **What it is:** a pure function ([`written`]) from what is known ([`Facts`]) to what is to be
//! written, and the task that asks it ([`start`]); and the allocations that all edges share
//! ([`shared`]).
//!
//! **What it is not:** the requests (`cluster::write`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use cluster::write::Written;
use ingest::crds::edge_gateway::WireguardStatus;
use ingest::crds::vpn_connection::SelectorsStatus;
use k8s_openapi::jiff::Timestamp;
use model::{AlbKind, Diagnostic, HostAddress, ObjectKey, Settings};
use plan::l4::L4Plan;

use crate::source::Delivery;

mod addresses;
mod conditions;
mod edges;
mod elsewhere;
mod events;
mod ingresses;
mod pools;
mod services;
pub mod shared;
mod task;
mod vpn;
mod vpn_states;

pub use elsewhere::Elsewhere;
pub use task::{Handle, Options, start};

/// What doesn't change while the gateway runs.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The edge's name: its EdgeGateway's.
    pub name: String,
    /// Where its Leases are.
    pub namespace: String,
    /// The configuration, as far as rules depend on it.
    pub settings: Settings,
    /// The configured addresses of each ALB; unspecified ones stand for all of the machine's.
    pub listen: BTreeMap<AlbKind, Vec<IpAddr>>,
}

/// What is known at one moment. Cheap to copy.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The objects.
    pub delivery: Arc<Delivery>,
    /// What was planned for the L4 plane from these objects; none without it.
    pub l4: Option<Arc<L4Plan>>,
    /// What is wrong with objects, whichever edge looks at them.
    pub planned: Arc<Vec<Diagnostic>>,
    /// What is wrong on this machine.
    pub own: Arc<Vec<Diagnostic>>,
    /// The VIPs that are on this machine.
    pub vips: Arc<BTreeSet<IpAddr>>,
    /// Where the edges are that this one can't share anything with; none if there are none.
    pub elsewhere: Option<Elsewhere>,
    /// The machine's own addresses.
    pub host: Arc<Vec<HostAddress>>,
    /// Who holds what; none before that is known: then nothing is released.
    pub holders: Option<Arc<Holders>>,
    /// What the overlay's plane tells.
    pub overlay: Arc<Overlay>,
    /// This edge has a Lease of its own; without, the name may be another's.
    pub joined: bool,
    /// Everything is in force.
    pub ready: bool,
    /// The gateway is about to end.
    pub stopping: bool,
    /// Why the API server can't be reached, or what of it can't be read; none if all is well.
    pub source: Option<String>,
}

/// Who holds what, as the Leases have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holders {
    /// The edges that live.
    pub live: BTreeSet<String>,
    /// VIPs, each with its edge.
    pub vips: BTreeMap<IpAddr, String>,
    /// VpnConnections without a VIP of their own, each with its edge.
    pub vpn: BTreeMap<ObjectKey, String>,
}

/// What the overlay's plane tells of this edge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    /// Its addresses towards the nodes, the preferred one first.
    pub underlay: Vec<IpAddr>,
    /// Its end of the tunnels.
    pub wireguard: Option<WireguardStatus>,
    /// The port for probes.
    pub probe_port: Option<u16>,
    /// auto, direct or wireguard.
    pub mode: Option<String>,
    /// Nodes that answer, and those that don't; none without an overlay.
    pub nodes: Option<Nodes>,
}

/// The nodes, as probes have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nodes {
    /// How many there are.
    pub all: usize,
    /// Which ones don't answer.
    pub silent: Vec<String>,
    /// Whether any does, with some patience.
    pub sight: holding::Sight,
}

/// How a VpnConnection is, as the edge that holds it sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// Established, Connecting, Waiting or Down.
    pub state: &'static str,
    /// Since when.
    pub since: Option<Timestamp>,
    /// What was agreed.
    pub selectors: Vec<SelectorsStatus>,
    /// Why, in one word.
    pub reason: String,
    /// Why, for people.
    pub message: String,
}

/// The desired state of what is written, where the objects don't have it yet. Pure: the same
/// input always gives the same output; `now` is only used for what changes.
pub fn written(
    context: &Context,
    facts: &Facts,
    connections: &BTreeMap<ObjectKey, Connection>,
    now: Timestamp,
) -> Written {
    let findings = events::Findings::new(&facts.planned);
    let view = View { context, facts, connections, findings: &findings, now };
    let mut written = Written::default();
    view.edges(&mut written);
    view.connections(&mut written);
    view.pools(&mut written);
    view.services(&mut written);
    view.ingresses(&mut written);
    view.tell(&mut written);
    written.patches.sort_by(|one, other| one.target.cmp(&other.target));
    written.events.sort();
    written.events.dedup();
    written
}

/// What all parts look at.
struct View<'a> {
    context: &'a Context,
    facts: &'a Facts,
    connections: &'a BTreeMap<ObjectKey, Connection>,
    findings: &'a events::Findings<'a>,
    now: Timestamp,
}

impl View<'_> {
    /// Whether every edge has let go of an address, and it may be given to somebody else.
    fn is_released(&self, address: IpAddr) -> bool {
        let holders = self.facts.holders.as_ref();
        holders.is_some_and(|holders| !holders.vips.contains_key(&address))
            && !self.facts.vips.contains(&address)
    }
}

/// A time as statuses have it.
fn text_of(time: Timestamp) -> String {
    k8s_openapi::jiff::fmt::strtime::format("%Y-%m-%dT%H:%M:%SZ", time).unwrap_or_default()
}

#[cfg(test)]
mod tests;
