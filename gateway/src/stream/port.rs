//! One port of a Service as connections need it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use model::ObjectKey;
use model::snapshot::ProxyVersion;
use rustls::ServerConfig;

use super::affinity::Affinity;
use super::choice::Choice;
use super::counters::{StreamCounters, StreamShard};
use crate::l7::upstream::{Endpoint, InFlight};

/// One port of a Service. Made anew when anything about it changes; connections keep the one that
/// they began with.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) service: ObjectKey,
    pub(crate) number: u16,
    pub(crate) tls: Tls,
    pub(crate) accept_proxy: bool,
    pub(crate) send_proxy: Option<ProxyVersion>,
    /// How long nothing may move.
    pub(crate) idle: Duration,
    pub(crate) choice: Choice,
    /// For how many milliseconds a client stays, and with whom.
    pub(crate) affinity: Option<(u64, Arc<Affinity>)>,
    pub(crate) counters: Arc<StreamCounters>,
}

/// What is done about TLS.
#[derive(Debug)]
pub(crate) enum Tls {
    Off,
    /// It ends here; none where the Secret can't be used.
    Terminate(Option<Arc<ServerConfig>>),
    /// Only connections for these names come here.
    Passthrough(Vec<String>),
}

impl Port {
    #[inline]
    pub(crate) fn shard(&self, worker: usize) -> &StreamShard {
        self.counters.shard(worker)
    }

    /// An endpoint for the client's new connection, not one of those that were `tried`.
    pub(crate) fn pick(
        &self,
        client: SocketAddr,
        tried: &[u64],
        now_ms: u64,
    ) -> Option<(Arc<Endpoint>, InFlight)> {
        let Some((timeout_ms, affinity)) = &self.affinity else {
            return self.choice.pick(client, tried, now_ms);
        };
        affinity.stay(client.ip().to_canonical(), (now_ms, *timeout_ms), |last| {
            let chosen = last
                .and_then(|id| self.choice.again(id, tried, now_ms))
                .or_else(|| self.choice.pick(client, tried, now_ms))?;
            Some((chosen.0.id, chosen))
        })
    }
}
