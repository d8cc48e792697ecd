//! An ALB's settings as requests use them.

use std::time::Duration;

use ipnet::IpNet;

use super::upstream::Ejection;

/// An ALB's settings.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) timeouts: Timeouts,
    pub(crate) limits: http1::Limits,
    /// A request body's limit in bytes.
    pub(crate) body_bytes: Option<u64>,
    /// Proxies whose forwarding headers are believed.
    pub(crate) trusted_proxies: Vec<IpNet>,
    /// Idle connections kept per endpoint and worker.
    pub(crate) max_idle: usize,
    /// How long they are kept.
    pub(crate) idle: Duration,
    /// Endpoints tried for a request: 1 to 8.
    pub(crate) tries: usize,
    pub(crate) ejection: Ejection,
    /// The port that redirects to HTTPS name.
    pub(crate) https_port: u16,
    /// Connections per worker.
    pub(crate) connections: u64,
}

/// How long things may take.
#[derive(Clone, Debug)]
pub(crate) struct Timeouts {
    /// From a head's first byte to its end; a TLS handshake; the first byte of a connection.
    pub(crate) head: Duration,
    /// Between requests.
    pub(crate) idle: Duration,
    /// TCP to an endpoint.
    pub(crate) connect: Duration,
    /// From the end of a request to its response's head.
    pub(crate) upstream_head: Duration,
    /// Without a byte moving in a body.
    pub(crate) body_stall: Duration,
    /// Without a byte moving in a tunnel.
    pub(crate) tunnel: Duration,
}

impl Timeouts {
    /// With a route's own in place of the ALB's.
    pub(crate) fn for_route(&self, route: &plan::l7::Timeouts) -> Self {
        let read = route.read;
        Self {
            connect: route.connect.unwrap_or(self.connect),
            upstream_head: read.unwrap_or(self.upstream_head),
            // One number stands for both directions: the longer one, so that neither is cut short.
            body_stall: match (route.send, read) {
                (None, None) => self.body_stall,
                (send, read) => send.max(read).unwrap_or(self.body_stall),
            },
            tunnel: read.map_or(self.tunnel, |read| read.max(self.tunnel)),
            ..self.clone()
        }
    }
}
