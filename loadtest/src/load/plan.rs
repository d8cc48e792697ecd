//! What a generator is to do, in full.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::connection::Speaks;
use super::pace::Profile;
use super::session::http1::Http1;
use super::session::http2::Http2;
use super::session::tcp::Tcp;
use super::session::websocket::Upgrade;
use super::session::{Expect, Operation, Prepared};
use super::stats::Failure;
use super::{Load, Request, Reuse};

/// One kind of operation in a mix.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Its name in reports and messages.
    pub(crate) name: String,
    /// What is sent, and what has to come back.
    pub(crate) operation: Operation,
    /// The name asked for in the TLS handshake of connections made for it.
    pub(crate) server_name: ServerName<'static>,
}

/// What is spoken with the target.
#[derive(Clone, Debug)]
pub(crate) enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, with so many streams at once.
    Http2(usize),
    /// Messages on connections that are made so.
    WebSocket(Arc<Upgrade>),
    /// Bytes.
    Tcp,
}

impl Protocol {
    /// A session for a new connection.
    pub(crate) fn session(&self) -> Speaks {
        match self {
            Self::Http1 => Speaks::Http1(Http1::new()),
            Self::Http2(streams) => Speaks::Other(Box::new(Http2::new(*streams))),
            Self::WebSocket(upgrade) => Speaks::Other(Box::new(upgrade.session())),
            Self::Tcp => Speaks::Other(Box::new(Tcp::default())),
        }
    }
}

/// What sets the pace.
#[derive(Clone, Debug)]
pub(crate) enum Pace {
    /// The target: so many connections over time, each starting the next operation when one is
    /// complete.
    Closed {
        /// Connections over time.
        connections: Profile,
    },
    /// The clock: operations are due at their times, whatever the target does. Their latency
    /// counts from then.
    Open {
        /// Operations a second over time.
        rate: Profile,
        /// Connections made before the first operation is due.
        connections: usize,
        /// Connections at once, at most. Operations beyond them wait.
        max_connections: usize,
    },
}

/// How connections of [`Reuse::Hold`] are made and held.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    /// Whether each begins with a request, which proves that the target serves it.
    pub(crate) request: bool,
    /// How often a held connection has another request; never if none.
    pub(crate) refresh: Option<Duration>,
    /// Connections made a second, at most.
    pub(crate) opened_per_second: f64,
}

/// When a failed operation is tried again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Retries {
    /// How often, at most.
    pub(crate) times: u32,
    /// After which failures.
    pub(crate) on: Vec<Failure>,
}

/// What a generator is to do.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Where to connect.
    pub(crate) address: SocketAddr,
    /// Addresses of this machine to connect from, in turn; the system's choice if empty.
    pub(crate) sources: Vec<IpAddr>,
    /// The TLS client, if the target speaks TLS.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// What is spoken.
    pub(crate) protocol: Protocol,
    /// The kinds of operations.
    pub(crate) entries: Vec<Entry>,
    /// One round of the mix: indices of entries in the order in which they are taken.
    pub(crate) order: Vec<u32>,
    /// What a connection is good for.
    pub(crate) reuse: Reuse,
    /// Operations under way at once on a connection, at most, where the protocol has several.
    pub(crate) streams: usize,
    /// What sets the pace.
    pub(crate) pace: Pace,
    /// Time allowed for an operation, from when it is due.
    pub(crate) timeout: Duration,
    /// When a failed operation is tried again.
    pub(crate) retries: Retries,
    /// How connections of [`Reuse::Hold`] are made and held.
    pub(crate) hold: Hold,
    /// Whether connections end by FIN, as those of real clients do; by RST otherwise, so that no
    /// port is left in TIME_WAIT.
    pub(crate) ends_in_order: bool,
    /// How long the slices of the time series are; no detailed accounts are kept if none.
    pub(crate) slice: Option<Duration>,
}

impl Plan {
    /// Connections at once, at most.
    pub(crate) fn most_connections(&self) -> usize {
        match &self.pace {
            Pace::Closed { connections } => connections.greatest().round() as usize,
            Pace::Open { max_connections, .. } => *max_connections,
        }
    }

    /// Whether connections are for one server name each, so that operations have to find one of
    /// theirs.
    pub(crate) fn is_grouped(&self) -> bool {
        let mut names = self.entries.iter().map(|entry| &entry.server_name);
        let first = names.next();
        self.tls.is_some()
            && !matches!(self.reuse, Reuse::KeepAliveSameRequest | Reuse::Hold)
            && names.any(|name| Some(name) != first)
    }

    /// The level over time.
    pub(crate) fn profile(&self) -> &Profile {
        match &self.pace {
            Pace::Closed { connections } => connections,
            Pace::Open { rate, .. } => rate,
        }
    }
}

impl From<Request> for Entry {
    fn from(request: Request) -> Self {
        let line = request.bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
        Self {
            name: String::from_utf8_lossy(line).into_owned(),
            server_name: request.server_name,
            operation: Operation {
                expect: Expect {
                    status: Some(request.status),
                    length: request.length,
                    ..Expect::default()
                },
                prepared: Prepared::Http1 { bytes: request.bytes, is_head: request.is_head },
            },
        }
    }
}

impl From<Load> for Plan {
    /// A closed loop over the requests in turn.
    fn from(load: Load) -> Self {
        Self {
            address: load.address,
            sources: Vec::new(),
            tls: load.tls,
            protocol: Protocol::Http1,
            order: (0..load.requests.len() as u32).collect(),
            entries: load.requests.into_iter().map(Entry::from).collect(),
            reuse: load.reuse,
            streams: 1,
            pace: Pace::Closed { connections: Profile::constant(load.connections as f64) },
            timeout: load.timeout,
            retries: Retries::default(),
            hold: Hold { request: true, refresh: None, opened_per_second: f64::INFINITY },
            ends_in_order: false,
            slice: None,
        }
    }
}
