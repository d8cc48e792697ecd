//! Counters: one shard per worker, summed when they are read.
//!
//! Each shard has one writer, its worker's thread; so adding is a load and a store, without a
//! locked instruction and without sharing a cache line.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use model::AlbKind;

mod render;

pub use render::render;

/// A counter with one writer and any number of readers.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds. Only the shard's own thread may call this.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Adds one.
    #[inline]
    pub fn increment(&self) {
        self.add(1);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A value that goes up and down, set by one thread.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets the value.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the latency histogram's buckets, in microseconds.
pub const BUCKETS_US: [u64; 15] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 60_000_000,
];

/// What a worker counts of its connections.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerShard {
    /// By ALB and by whether TLS: see [`listener_index`].
    pub accepted: [Counter; 4],
    /// As `accepted`.
    pub closed: [Counter; 4],
    /// Connections that were refused since the ALB's limit was reached.
    pub over_limit: Counter,
    /// TLS handshakes: 1.2 full, 1.2 resumed, 1.3 full, 1.3 resumed.
    pub handshakes: [Counter; 4],
    /// TLS handshakes with a hybrid post-quantum key exchange.
    pub handshakes_hybrid: Counter,
    /// TLS handshakes that failed.
    pub handshake_failures: Counter,
    /// Requests refused before routing: 400, 408, 414, 431, 501, 505 and others.
    pub refused: [Counter; 7],
    /// Connections made to endpoints.
    pub upstream_connects: Counter,
    /// Connections to endpoints that failed.
    pub upstream_connect_failures: Counter,
    /// Requests sent over a connection that had served one before.
    pub upstream_reused: Counter,
    /// Requests sent again, over another connection.
    pub upstream_retries: Counter,
    /// Endpoints taken out for a while.
    pub upstream_ejections: Counter,
    /// Idle connections to endpoints in this worker's pool, as of the last tick.
    pub upstream_idle: Gauge,
    /// Tunnels (Upgrade) under way: begun and ended.
    pub tunnels: [Counter; 2],
    /// Access-log lines that could not be handed over.
    pub log_dropped: Counter,
}

/// The statuses that [`WorkerShard::refused`] tells apart; the last entry is for all others.
pub const REFUSED: [u16; 6] = [400, 408, 414, 431, 501, 505];

impl WorkerShard {
    /// Counts a request that was refused before routing.
    pub fn refuse(&self, status: u16) {
        let at = REFUSED.iter().position(|s| *s == status).unwrap_or(REFUSED.len());
        if let Some(counter) = self.refused.get(at) {
            counter.increment();
        }
    }
}

/// Position of a listener's counters in a shard.
pub fn listener_index(kind: AlbKind, tls: bool) -> usize {
    usize::from(kind == AlbKind::Private) * 2 + usize::from(tls)
}

/// What a worker counts for one route.
#[derive(Debug, Default)]
pub struct RouteShard {
    /// Responses by status class, 1xx to 5xx, and others.
    pub classes: [Counter; 6],
    /// Requests by duration; the last is above all bounds.
    pub buckets: [Counter; 16],
    /// Sum of the durations in microseconds.
    pub sum_us: Counter,
    /// Request body bytes.
    pub received: Counter,
    /// Response body bytes.
    pub sent: Counter,
}

impl RouteShard {
    /// Counts a finished request.
    #[inline]
    pub fn record(&self, status: u16, duration: Duration, received: u64, sent: u64) {
        let class = usize::from(status / 100).wrapping_sub(1).min(5);
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        // Most requests end in the first buckets, so a linear search is the short one.
        let bucket = BUCKETS_US.iter().position(|b| us <= *b).unwrap_or(BUCKETS_US.len());
        if let (Some(class), Some(bucket)) = (self.classes.get(class), self.buckets.get(bucket)) {
            class.increment();
            bucket.increment();
        }
        self.sum_us.add(us);
        self.received.add(received);
        self.sent.add(sent);
    }
}

/// Who a route's counters belong to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteLabels {
    /// The ALB.
    pub alb: AlbKind,
    /// The Ingress as `namespace/name`; empty for requests that no rule took.
    pub ingress: String,
    /// The Service as `namespace/name:port`; empty where the gateway answers itself.
    pub service: String,
}

/// A route's counters over all workers. Routes with the same labels share them.
#[derive(Debug)]
pub struct RouteMetrics {
    /// Whose they are.
    pub labels: RouteLabels,
    shards: Box<[OnceLock<Box<RouteShard>>]>,
}

impl RouteMetrics {
    /// The worker's shard, made on first use: most routes are served by few workers.
    #[inline]
    pub fn shard(&self, worker: usize) -> Option<&RouteShard> {
        self.shards.get(worker).map(|shard| &**shard.get_or_init(Default::default))
    }
}

/// All of the gateway's counters.
#[derive(Debug)]
pub struct Metrics {
    /// By worker.
    pub workers: Box<[WorkerShard]>,
    routes: Mutex<BTreeMap<RouteLabels, Arc<RouteMetrics>>>,
    /// What the control side counts.
    pub control: Control,
}

/// What the control side counts.
#[derive(Debug, Default)]
pub struct Control {
    /// Generation in force.
    pub generation: Gauge,
    /// Generations that were planned, also those equal to the one before.
    pub reloads: Counter,
    /// Duration of the last change from objects to tables, in microseconds.
    pub reload_us: Gauge,
    /// Diagnostics in force: errors.
    pub errors: Gauge,
    /// Diagnostics in force: warnings.
    pub warnings: Gauge,
    /// Routes in force.
    pub routes: Gauge,
    /// Endpoints in force.
    pub endpoints: Gauge,
    /// When the first certificate in force ends, in seconds since the epoch; 0 for none.
    pub certificate_expiry: Gauge,
    /// Access-log lines that could not be written, counted by the log's thread.
    pub log_lost: Counter,
    /// Failures to open the access log anew, counted by the log's thread.
    pub log_reopen_failures: Counter,
}

impl Metrics {
    /// For this many workers.
    pub fn new(workers: usize) -> Self {
        Self {
            workers: (0..workers).map(|_| WorkerShard::default()).collect(),
            routes: Mutex::default(),
            control: Control::default(),
        }
    }

    /// The counters with these labels: those that exist, or new ones.
    pub fn route(&self, labels: RouteLabels) -> Arc<RouteMetrics> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let workers = self.workers.len();
        Arc::clone(routes.entry(labels).or_insert_with_key(|labels| {
            Arc::new(RouteMetrics {
                labels: labels.clone(),
                shards: (0..workers).map(|_| OnceLock::new()).collect(),
            })
        }))
    }

    /// Forgets counters that no route holds any more, so that removed objects leave.
    pub fn prune(&self) {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.retain(|_, metrics| Arc::strong_count(metrics) > 1);
    }

    fn all_routes(&self) -> Vec<Arc<RouteMetrics>> {
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.values().cloned().collect()
    }
}
