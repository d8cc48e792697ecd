//! What the agent tells of itself, over the admin side and in `edge-agent status`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use model::{Diagnostic, Severity};
use serde::{Deserialize, Serialize};

use crate::probe::Statistics;

/// How everything is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The Node.
    pub node: String,
    /// The agent's version.
    pub version: String,
    /// When it was started, in seconds since 1970.
    pub started: u64,
    /// Whether objects have been seen and what follows is in force.
    pub ready: bool,
    /// Why it isn't ready, or what people should know though it is.
    pub conditions: Vec<String>,
    /// Where objects come from, and how that goes.
    pub source: SourceStatus,
    /// Where packets are encrypted: kernel or userspace.
    pub backend: String,
    /// The node's keys, the newest first.
    pub keys: Vec<KeyStatus>,
    /// The edges, by name.
    pub edges: BTreeMap<String, EdgeStatus>,
    /// VpnConnections, by namespace/name: the edge that each goes by, or none.
    pub connections: BTreeMap<String, Option<String>>,
    /// The edge that egress networks go by, or none.
    pub egress: Option<String>,
    /// Interfaces, by name.
    pub tunnels: BTreeMap<String, TunnelStatus>,
    /// What was put in force.
    pub applied: Applied,
    /// What is wrong with objects.
    pub findings: Vec<Finding>,
}

/// Where objects come from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// `kubernetes` or `manifests`.
    pub kind: String,
    /// The API's address, or the directory.
    pub place: String,
    /// Whether it answers.
    pub connected: bool,
    /// Why it last didn't.
    pub error: Option<String>,
}

/// A key of the node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyStatus {
    /// Its public half.
    pub key: String,
    /// Greater than that of all before it.
    pub generation: u64,
    /// When it was made, in seconds since 1970.
    pub made: u64,
}

/// An edge.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeStatus {
    /// unknown, alive or lost.
    pub state: String,
    /// Its number in marks and tables.
    pub number: Option<u32>,
    /// direct or wireguard; none before it has answered.
    pub path: Option<String>,
    /// Where it is.
    pub addresses: Vec<IpAddr>,
    /// Whether it wants to be left.
    pub drain: bool,
    /// How long its last answer took, in milliseconds.
    pub round_trip_millis: Option<f64>,
    /// How often it was asked.
    pub probes: u64,
    /// How often it answered.
    pub answers: u64,
}

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TunnelStatus {
    /// The edge at the other end.
    pub edge: String,
    /// The node's key that it has.
    pub key: String,
    /// Its MTU.
    pub mtu: u16,
    /// Where the edge is.
    pub endpoint: Option<SocketAddr>,
    /// How long ago the last handshake was, in seconds.
    pub last_handshake: Option<u64>,
    /// Octets received through it.
    pub received_bytes: u64,
    /// Octets sent through it.
    pub sent_bytes: u64,
}

/// What was put in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// When it was seen to last, in seconds since 1970; 0 for never.
    pub at: u64,
    /// Whether all of it is in force.
    pub whole: bool,
    /// How many routes there are.
    pub routes: usize,
    /// How many of them refuse, because no edge that could be used is there.
    pub unreachable: usize,
    /// How many rules there are.
    pub rules: usize,
    /// How often something that others had changed was mended.
    pub mended: u64,
    /// How often something could not be put in force.
    pub failures: u64,
    /// What isn't in force.
    pub faults: Vec<String>,
}

/// Something that is wrong with an object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// error or warning.
    pub severity: String,
    /// The object.
    pub object: String,
    /// The field, if it is about one.
    pub field: String,
    /// What is wrong, and what to do.
    pub message: String,
}

impl Finding {
    /// In words.
    pub fn of(found: &Diagnostic) -> Self {
        let severity = match found.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        Self {
            severity: severity.to_owned(),
            object: found.object.to_string(),
            field: found.field.clone(),
            message: match found.remedy.as_str() {
                "" => found.reason.clone(),
                remedy => format!("{}; {remedy}", found.reason),
            },
        }
    }
}

/// What the control thread tells and others show.
#[derive(Clone, Debug, Default)]
pub struct View {
    inner: Arc<Mutex<Shown>>,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// How everything is.
    pub status: Arc<Status>,
    /// What was counted of probes.
    pub probes: Arc<Statistics>,
}

impl View {
    /// What is shown now.
    pub fn shown(&self) -> Shown {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is to be shown from now on.
    pub fn show(&self, status: Status, probes: Statistics) {
        let shown = Shown { status: Arc::new(status), probes: Arc::new(probes) };
        *self.inner.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    }
}

/// Seconds since 1970.
pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
