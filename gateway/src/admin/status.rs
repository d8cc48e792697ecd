//! `/api/v1/status`: how the gateway is, in short.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::Severity;
use serde::{Deserialize, Serialize};

use super::State;
use crate::vpn::report::OneConnection;

/// Findings that are told; `gateway check` and `/api/v1/diagnostics` have all.
const FIRST: usize = 5;

/// How the gateway is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// Whether everything is in force.
    pub ready: bool,
    /// The edge's part among several; none without a cluster.
    pub edge: Option<Edge>,
    /// Whether the API server answers; none without one.
    pub api: Option<bool>,
    /// The VIPs on this machine.
    pub vips: Vec<String>,
    /// The VpnConnections that are held here, with their states.
    pub vpn_connections: BTreeMap<String, String>,
    /// The nodes; none without an overlay.
    pub nodes: Option<Nodes>,
    /// How many errors there are.
    pub errors: usize,
    /// How many warnings.
    pub warnings: usize,
    /// The first of them, errors first.
    pub findings: Vec<String>,
}

/// An edge among others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Edge {
    /// Its name.
    pub name: String,
    /// The edge that leads, where one does.
    pub leader: Option<String>,
    /// For how many milliseconds more it holds what it holds, if nothing comes; 0: it holds nothing.
    pub holds_for_ms: u64,
    /// How many milliseconds ago its Lease was renewed last.
    pub renewed_ms_ago: Option<u64>,
    /// The others, each as live, draining, cut off or gone.
    pub others: BTreeMap<String, String>,
}

/// The nodes, as probes have it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nodes {
    /// Those that are heard.
    pub heard: Vec<String>,
    /// Those that aren't.
    pub lost: Vec<String>,
}

impl State {
    /// How everything is now.
    pub(super) async fn status(&self) -> Status {
        let vpn = self.vpn_report().await;
        let state = |one: &OneConnection| (one.key.to_string(), one.state().to_owned());
        let findings = self.diagnostics.load();
        let count = |severity| findings.iter().filter(|one| one.severity == severity).count();
        let of = |severity| findings.iter().filter(move |one| one.severity == severity);
        let first = of(Severity::Error).chain(of(Severity::Warning)).take(FIRST);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ready: self.ready.load(Ordering::Relaxed),
            edge: self.edges.get().map(|(report, _)| edge(&Arc::clone(&report.borrow()))),
            api: self.source_state().map(|state| state.connected),
            vips: self.l4.iter().flat_map(vips).collect(),
            vpn_connections: vpn.iter().flat_map(|vpn| &vpn.connections).map(state).collect(),
            nodes: self.overlay_view().map(|view| nodes(&view)),
            errors: count(Severity::Error),
            warnings: count(Severity::Warning),
            findings: first.map(ToString::to_string).collect(),
        }
    }
}

fn vips(l4: &super::L4) -> Vec<String> {
    l4.view.borrow().on.iter().map(ToString::to_string).collect()
}

fn edge(report: &crate::edges::Report) -> Edge {
    let others = report.edges.iter().map(|(name, other)| {
        let state = match (other.live, other.drain, other.cut_off) {
            (false, ..) => "gone",
            (_, true, _) => "draining",
            (_, _, true) => "cut off",
            _ => "live",
        };
        (name.clone(), state.to_owned())
    });
    Edge {
        name: report.name.clone(),
        leader: report.claims.get("leader").map(|(edge, _)| edge.clone()),
        holds_for_ms: report.holds_for_ms,
        renewed_ms_ago: report.renewed_ms_ago,
        others: others.collect(),
    }
}

fn nodes(view: &crate::overlay::View) -> Nodes {
    let of = |live: bool| {
        let some = view.nodes.iter().filter(move |(_, node)| node.live == live);
        some.map(|(name, _)| name.clone()).collect()
    };
    Nodes { heard: of(true), lost: of(false) }
}
