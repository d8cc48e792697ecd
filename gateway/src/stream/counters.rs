//! What happened to a Service's connections and bytes: one shard per worker, summed when read.

use crate::metrics::Counter;

/// What one worker counts for one port of a Service.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct StreamShard {
    /// Connections, or UDP sessions, that came in.
    pub(crate) accepted: Counter,
    /// Of those, the ones that are over.
    pub(crate) closed: Counter,
    /// No endpoint could be reached.
    pub(crate) failed: Counter,
    /// There was no endpoint.
    pub(crate) without_endpoint: Counter,
    /// The client's TLS, ClientHello or PROXY protocol header was broken, late or for no Service;
    /// or there is no certificate.
    pub(crate) refused: Counter,
    /// Single endpoints that could not be reached.
    pub(crate) connect_failures: Counter,
    /// Bytes from clients.
    pub(crate) received: Counter,
    /// Bytes to clients.
    pub(crate) sent: Counter,
    /// Datagrams that could not be passed on, or that there was no room for a session for.
    pub(crate) dropped: Counter,
}

/// The counters of one port of a Service. They outlive changes of the Service.
#[derive(Debug)]
pub struct StreamCounters(Box<[StreamShard]>);

/// Their sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct StreamTotals {
    /// Connections, or UDP sessions, that came in.
    pub accepted: u64,
    /// Those that are open now.
    pub active: u64,
    /// Those for which no endpoint could be reached.
    pub failed: u64,
    /// Those that came while there was no endpoint.
    pub without_endpoint: u64,
    /// Those whose TLS, SNI or PROXY protocol header was refused.
    pub refused: u64,
    /// Single endpoints that could not be reached.
    pub connect_failures: u64,
    /// Bytes from clients.
    pub received: u64,
    /// Bytes to clients.
    pub sent: u64,
    /// Datagrams that could not be passed on.
    pub dropped: u64,
}

impl StreamCounters {
    pub(crate) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| StreamShard::default()).collect())
    }

    /// The shard that this worker's thread writes.
    #[inline]
    pub(crate) fn shard(&self, worker: usize) -> &StreamShard {
        &self.0[worker]
    }

    /// How many are open now, roughly.
    pub(crate) fn active(&self) -> u64 {
        let closed: u64 = self.0.iter().map(|shard| shard.closed.get()).sum();
        let accepted: u64 = self.0.iter().map(|shard| shard.accepted.get()).sum();
        accepted.saturating_sub(closed)
    }

    /// Everything so far.
    pub fn totals(&self) -> StreamTotals {
        let sum = |of: fn(&StreamShard) -> &Counter| self.0.iter().map(|s| of(s).get()).sum();
        StreamTotals {
            accepted: sum(|s| &s.accepted),
            active: self.active(),
            failed: sum(|s| &s.failed),
            without_endpoint: sum(|s| &s.without_endpoint),
            refused: sum(|s| &s.refused),
            connect_failures: sum(|s| &s.connect_failures),
            received: sum(|s| &s.received),
            sent: sum(|s| &s.sent),
            dropped: sum(|s| &s.dropped),
        }
    }
}
