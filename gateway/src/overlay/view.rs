//! What is in force of the overlay, for status, API and metrics.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use ingest::crds::edge_gateway::WireguardStatus;
use model::Diagnostic;
use serde::Serialize;

use crate::status;

/// What is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    /// The generation of what is in force.
    pub generation: u64,
    /// All of it is, and nothing is waited for.
    pub settled: bool,
    /// kernel or userspace.
    pub backend: String,
    /// Nodes, by name.
    pub nodes: BTreeMap<String, NodeView>,
    /// Networks that are refused for want of a node.
    pub unreachable: Vec<String>,
    /// What can't be brought into force.
    pub faults: Vec<String>,
    /// How often what somebody else had changed was mended.
    pub mended: u64,
    /// How often something could not be brought into force.
    pub failures: u64,
    /// Probes that were answered, refused and replayed, and letters from other edges.
    pub probes: [u64; 4],
    /// Whether the edge's key is being changed.
    pub changing_key: bool,
    /// What the EdgeGateway's status says.
    #[serde(skip)]
    pub status: status::Overlay,
    /// What is wrong.
    #[serde(skip)]
    pub diagnostics: Vec<Diagnostic>,
}

/// How a node is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeView {
    /// Whether its agent asks.
    pub live: bool,
    /// direct, wireguard, or none yet.
    pub mode: &'static str,
    /// The other end of its tunnel.
    pub endpoint: Option<SocketAddr>,
    /// Seconds since the last handshake.
    pub handshake_age: Option<u64>,
    /// Octets received through its tunnel.
    pub received_bytes: u64,
    /// Octets sent.
    pub sent_bytes: u64,
}

/// The keys and ports as the status has them.
pub(super) fn wireguard(keys: &[(model::PublicKey, u16)]) -> WireguardStatus {
    WireguardStatus {
        public_keys: keys.iter().map(|(key, _)| key.to_string()).collect(),
        ports: keys.iter().map(|(_, port)| *port).collect(),
    }
}

impl View {
    /// The metrics, as Prometheus reads them.
    pub fn metrics(&self) -> String {
        let mut text = String::new();
        let mut one = |name: &str, kind: &str, help: &str, rows: &[(String, u64)]| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in rows {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        };
        let nodes = |value: &dyn Fn(&NodeView) -> Option<u64>| -> Vec<(String, u64)> {
            let all = self.nodes.iter();
            all.filter_map(|(name, node)| Some((format!("{{node=\"{name}\"}}"), value(node)?)))
                .collect()
        };
        let plain = |value: u64| vec![(String::new(), value)];
        let live = self.nodes.values().filter(|node| node.live).count() as u64;
        one(
            "tidegate_overlay_nodes",
            "gauge",
            "Nodes of the overlay.",
            &plain(self.nodes.len() as u64),
        );
        one("tidegate_overlay_nodes_live", "gauge", "Nodes whose agent is heard.", &plain(live));
        one(
            "tidegate_overlay_node_live",
            "gauge",
            "Whether a node's agent is heard.",
            &nodes(&|node| Some(u64::from(node.live))),
        );
        one(
            "tidegate_overlay_handshake_age_seconds",
            "gauge",
            "Time since the last handshake with a node.",
            &nodes(&|node| node.handshake_age),
        );
        one(
            "tidegate_overlay_received_bytes_total",
            "counter",
            "Octets received through a node's tunnel.",
            &nodes(&|node| Some(node.received_bytes)),
        );
        one(
            "tidegate_overlay_sent_bytes_total",
            "counter",
            "Octets sent through a node's tunnel.",
            &nodes(&|node| Some(node.sent_bytes)),
        );
        let [answered, refused, replayed, letters] = self.probes;
        let outcomes = [("answered", answered), ("refused", refused), ("replayed", replayed)];
        let outcomes: Vec<_> =
            outcomes.map(|(name, count)| (format!("{{outcome=\"{name}\"}}"), count)).into();
        one(
            "tidegate_overlay_probes_total",
            "counter",
            "Probes, by what became of them.",
            &outcomes,
        );
        one(
            "tidegate_overlay_letters_total",
            "counter",
            "Messages of other edges.",
            &plain(letters),
        );
        one(
            "tidegate_overlay_drift_repairs_total",
            "counter",
            "Changes by others that were undone.",
            &plain(self.mended),
        );
        one(
            "tidegate_overlay_apply_failures_total",
            "counter",
            "Plans that could not be brought into force whole.",
            &plain(self.failures),
        );
        one(
            "tidegate_overlay_generation",
            "gauge",
            "Generation that is in force.",
            &plain(self.generation),
        );
        text
    }
}
