//! What the connections of one listener on one worker share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use model::AlbKind;
use rustls::ServerConfig;

use super::settings::Settings;
use super::table::Shared;
use crate::access_log::AccessLog;
use crate::metrics::{WorkerShard, listener_index};

/// What the connections of one listener on one worker have in common.
#[derive(Clone, Debug)]
pub(crate) struct ListenerContext {
    pub(crate) kind: AlbKind,
    pub(crate) tls: Option<Arc<ServerConfig>>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) worker: usize,
    pub(crate) log: AccessLog,
    /// The local port as X-Forwarded-Port has it.
    pub(crate) port_text: Vec<u8>,
    /// No new requests are taken.
    pub(crate) draining: Arc<AtomicBool>,
    /// The process' clock for health of endpoints starts here.
    pub(crate) epoch: Instant,
}

impl ListenerContext {
    #[inline]
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn shard(&self) -> &WorkerShard {
        &self.shared.metrics.workers[self.worker]
    }

    /// Counts a connection, until [`ListenerContext::count_closed`].
    pub(crate) fn count_accepted(&self) {
        self.shard().accepted[listener_index(self.kind, self.tls.is_some())].increment();
    }

    /// Counts it off.
    pub(crate) fn count_closed(&self) {
        self.shard().closed[listener_index(self.kind, self.tls.is_some())].increment();
    }

    /// Connections of this listener's ALB that are open on this worker.
    pub(crate) fn open(&self) -> u64 {
        [false, true]
            .into_iter()
            .map(|tls| listener_index(self.kind, tls))
            .map(|at| self.shard().accepted[at].get() - self.shard().closed[at].get())
            .sum()
    }

    pub(crate) fn now_ms(&self, now: Instant) -> u64 {
        u64::try_from(now.duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX)
    }
}
