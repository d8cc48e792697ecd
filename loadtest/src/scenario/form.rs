//! A scenario's file, field by field.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::values::{Address, Level, Share, Size, Span};
use crate::faults::{FaultForm, PartyForm};

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Form {
    /// The name in reports; the file's by default.
    pub(crate) name: Option<String>,
    /// What the scenario is for.
    pub(crate) description: String,
    /// Where the load goes.
    pub(crate) target: TargetForm,
    /// What is spoken; `http1` by default.
    pub(crate) protocol: ProtocolForm,
    /// What sets the pace.
    pub(crate) load: LoadForm,
    /// How long the load lasts, where there are no phases.
    pub(crate) duration: Option<Span>,
    /// Phases, one after another.
    pub(crate) phases: Vec<PhaseForm>,
    /// What is asked for, in which proportion; one `GET` of the target's URL by default.
    pub(crate) mix: Vec<EntryForm>,
    /// Time allowed for an operation; 10 s by default.
    pub(crate) timeout: Option<Span>,
    /// Whether failed operations are tried again.
    pub(crate) retries: Option<RetriesForm>,
    /// How long the slices of the time series are; by default what suits the duration.
    pub(crate) slice: Option<Span>,
    /// Processes whose CPU time and memory are watched.
    pub(crate) processes: Vec<ProcessForm>,
    /// Parties to which faults happen.
    pub(crate) parties: Vec<PartyForm>,
    /// What happens to them, and when.
    pub(crate) faults: Vec<FaultForm>,
    /// What the run has to keep to.
    pub(crate) limits: LimitsForm,
    /// The core to run on.
    pub(crate) core: Option<usize>,
}

/// Where the load goes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct TargetForm {
    /// Scheme, host, port and path, for HTTP and WebSocket.
    pub(crate) url: Option<String>,
    /// Host and port, for TCP and UDP.
    pub(crate) address: Option<Address>,
    /// Where to connect, whatever the URL says.
    pub(crate) connect: Option<Address>,
    /// Addresses of this machine to connect from: single ones, or ranges as in
    /// `127.0.0.2-127.0.0.9`.
    pub(crate) sources: Vec<String>,
    /// TLS; needed for https.
    pub(crate) tls: Option<TlsForm>,
}

/// The client's side of TLS.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct TlsForm {
    /// Authorities that vouch for the target (PEM).
    pub(crate) ca: Option<PathBuf>,
    /// Whether any server is believed.
    pub(crate) insecure: bool,
    /// Whether sessions are resumed.
    pub(crate) resume: bool,
    /// Versions that are offered: `"1.2"`, `"1.3"`; both by default.
    pub(crate) versions: Vec<String>,
}

/// What is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ProtocolForm {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2.
    Http2,
    /// Messages over WebSocket.
    WebSocket,
    /// Bytes over TCP.
    Tcp,
    /// Datagrams.
    Udp,
}

/// What sets the pace: one of the three.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct LoadForm {
    /// Connections that each start the next operation when one is complete.
    pub(crate) closed: Option<ClosedForm>,
    /// Operations at their times, whatever the target does.
    pub(crate) open: Option<OpenForm>,
    /// Connections that are opened and held.
    pub(crate) idle: Option<IdleForm>,
}

/// A closed loop.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct ClosedForm {
    /// Connections at once.
    pub(crate) connections: u32,
    /// Operations at once on each, where the protocol has several; 1 by default.
    pub(crate) streams: Option<u32>,
    /// Whether a connection carries operation after operation; true by default.
    pub(crate) keep_alive: Option<bool>,
}

/// An open loop.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct OpenForm {
    /// Operations a second.
    pub(crate) rate: f64,
    /// Connections made before the first operation; 1 by default.
    pub(crate) connections: Option<u32>,
    /// Connections at once, at most; operations beyond them wait. 1000 by default.
    pub(crate) max_connections: Option<u32>,
    /// Operations at once on each, where the protocol has several; 1 by default.
    pub(crate) streams: Option<u32>,
    /// Whether a connection carries operation after operation; true by default.
    pub(crate) keep_alive: Option<bool>,
}

/// Connections that are opened and held.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct IdleForm {
    /// How many.
    pub(crate) connections: u32,
    /// How many are opened a second, at most; 2000 by default.
    pub(crate) opened_per_second: Option<f64>,
    /// Whether each begins with a request of the mix; true by default.
    pub(crate) request: Option<bool>,
    /// How often each has another request; never by default.
    pub(crate) refresh: Option<Span>,
}

/// A stretch of time.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct PhaseForm {
    /// Its name in reports; its number by default.
    pub(crate) name: Option<String>,
    /// How long it takes.
    pub(crate) duration: Span,
    /// Operations a second in it (open loop); the load's by default.
    pub(crate) rate: Option<Level>,
    /// Connections in it (closed loop, idle); the load's by default.
    pub(crate) connections: Option<Level>,
    /// Whether it counts; a warm-up does not. True by default.
    pub(crate) counted: Option<bool>,
}

/// One kind of operation.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct EntryForm {
    /// Its name in reports; method, host and path by default.
    pub(crate) name: Option<String>,
    /// How often it comes, in proportion to the others' weights; 1 by default.
    pub(crate) weight: Option<u32>,
    /// The host, with a port if it is to stand in the Host field; the URL's by default.
    pub(crate) host: Option<String>,
    /// The path and query; the URL's by default.
    pub(crate) path: Option<String>,
    /// The method; GET by default, POST with a body.
    pub(crate) method: Option<String>,
    /// Further header fields.
    pub(crate) headers: BTreeMap<String, String>,
    /// What is sent: the request's content, the message, the datagram.
    pub(crate) body: Option<BodyForm>,
    /// TCP: bytes to wait for; as many as were sent by default.
    pub(crate) receive: Option<Size>,
    /// What has to come back.
    pub(crate) expect: ExpectForm,
}

/// What is sent: one of the three.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct BodyForm {
    /// So many bytes.
    pub(crate) size: Option<Size>,
    /// This text.
    pub(crate) text: Option<String>,
    /// A file's content.
    pub(crate) file: Option<PathBuf>,
}

/// What has to come back.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct ExpectForm {
    /// The status; 200 by default.
    pub(crate) status: Option<u16>,
    /// The content's length.
    pub(crate) length: Option<Size>,
    /// The content's SHA-256, in hexadecimal digits.
    pub(crate) sha256: Option<String>,
    /// The header field that says which backend answered; answers are counted by its value.
    pub(crate) backend_header: Option<String>,
}

/// When a failed operation is tried again.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct RetriesForm {
    /// How often, at most.
    pub(crate) times: u32,
    /// After which failures; connect, tls, closed, timeout and status by default.
    pub(crate) on: Option<Vec<String>>,
}

/// A process that is watched: one of pid, pidfile, listens, party.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct ProcessForm {
    /// Its name in reports.
    pub(crate) name: String,
    /// Its number.
    pub(crate) pid: Option<i32>,
    /// A file that holds its number.
    pub(crate) pidfile: Option<PathBuf>,
    /// Where it listens, by TCP.
    pub(crate) listens: Option<Address>,
    /// A party of the scenario.
    pub(crate) party: Option<String>,
}

/// What the run has to keep to.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct LimitsForm {
    /// Median latency, at most.
    pub(crate) p50: Option<Span>,
    /// 90th percentile, at most.
    pub(crate) p90: Option<Span>,
    /// 99th percentile, at most.
    pub(crate) p99: Option<Span>,
    /// 99.9th percentile, at most.
    pub(crate) p999: Option<Span>,
    /// The greatest latency, at most.
    pub(crate) max: Option<Span>,
    /// The share of operations that may fail; 0.1 % by default.
    pub(crate) failures: Option<Share>,
    /// Operations answered as expected a second, at least.
    pub(crate) rate: Option<f64>,
}
