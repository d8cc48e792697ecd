//! Counters: one shard per worker, summed when they are read.
//!
//! Each shard has one writer, its worker's thread; so adding is a load and a store, without a
//! locked instruction and without sharing a cache line.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use model::AlbKind;

use crate::access_log;

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

/// Buckets whose counters stand beside those that every request changes.
const FAST: usize = 4;

/// What a worker counts for one route.
///
/// With thousands of routes a route's counters are no longer in the processor's cache when its
/// turn comes. So a quick request that succeeds finds all of its own in the first cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct RouteShard {
    /// Responses with a status of 2xx.
    succeeded: Counter,
    /// Sum of the durations in microseconds.
    sum_us: Counter,
    /// Request body bytes.
    received: Counter,
    /// Response body bytes.
    sent: Counter,
    /// Requests by duration, the first buckets.
    fast: [Counter; FAST],
    /// The other buckets; the last is above all bounds.
    slow: [Counter; BUCKETS_US.len() + 1 - FAST],
    /// Responses of the other classes: 1xx, 3xx, 4xx, 5xx, and others.
    others: [Counter; 5],
}

/// A route's counters, as numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct RouteTotals {
    /// Responses by status class, 1xx to 5xx, and others.
    pub classes: [u64; 6],
    /// Requests by duration; the last is above all bounds.
    pub buckets: [u64; BUCKETS_US.len() + 1],
    /// Sum of the durations in microseconds.
    pub sum_us: u64,
    /// Request body bytes.
    pub received: u64,
    /// Response body bytes.
    pub sent: u64,
}

impl RouteShard {
    /// Counts a finished request.
    #[inline]
    pub fn record(&self, status: u16, duration: Duration, received: u64, sent: u64) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        // Most requests end in the first buckets, so a linear search is the short one.
        let bucket = BUCKETS_US.iter().position(|b| us <= *b).unwrap_or(BUCKETS_US.len());
        let bucket = self.fast.get(bucket).or_else(|| self.slow.get(bucket - FAST));
        let class = match status / 100 {
            2 => Some(&self.succeeded),
            1 => self.others.first(),
            class @ 3..=5 => self.others.get(usize::from(class) - 2),
            _ => self.others.last(),
        };
        if let (Some(class), Some(bucket)) = (class, bucket) {
            class.increment();
            bucket.increment();
        }
        self.sum_us.add(us);
        self.received.add(received);
        self.sent.add(sent);
    }

    /// Adds the counters to `totals`.
    fn add_to(&self, totals: &mut RouteTotals) {
        let [informational, redirects, client_errors, server_errors, other] = &self.others;
        let classes =
            [informational, &self.succeeded, redirects, client_errors, server_errors, other];
        for (total, counter) in totals.classes.iter_mut().zip(classes) {
            *total += counter.get();
        }
        for (total, counter) in totals.buckets.iter_mut().zip(self.fast.iter().chain(&self.slow)) {
            *total += counter.get();
        }
        totals.sum_us += self.sum_us.get();
        totals.received += self.received.get();
        totals.sent += self.sent.get();
    }

    /// Back to zero. Nobody may be counting here.
    fn reset(&self) {
        let single = [&self.succeeded, &self.sum_us, &self.received, &self.sent];
        let rows = self.fast.iter().chain(&self.slow).chain(&self.others);
        for counter in single.into_iter().chain(rows) {
            counter.0.store(0, Ordering::Relaxed);
        }
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

/// How many routes' counters of a worker lie side by side.
const BLOCK: usize = 64;

/// By worker, the counters of [`BLOCK`] routes, made on first use: most are served by few workers.
type Block = Arc<[OnceLock<Box<[RouteShard]>>]>;

/// Where a route's counters are.
#[derive(Clone, Debug)]
struct Place {
    block: Block,
    at: u32,
}

/// What requests need of a route's counters.
#[derive(Clone, Debug)]
pub struct Tally {
    place: Place,
    log: Arc<str>,
}

impl Tally {
    /// The worker's counters.
    #[inline]
    pub fn shard(&self, worker: usize) -> Option<&RouteShard> {
        let shards = self.place.block.get(worker)?;
        let make = || (0..BLOCK).map(|_| RouteShard::default()).collect();
        shards.get_or_init(make).get(self.place.at as usize)
    }

    /// The labels as the access log has them: members of a JSON object, ready to be copied.
    #[inline]
    pub fn log_labels(&self) -> &str {
        &self.log
    }
}

/// A route's counters over all workers. Routes with the same labels share them. Whoever counts
/// holds this, not only the tally, for the counters are given to another route after its end.
#[derive(Debug)]
pub struct RouteMetrics {
    /// Whose they are.
    pub labels: RouteLabels,
    /// For counting.
    pub tally: Tally,
}

impl RouteMetrics {
    /// The sums over all workers.
    pub fn totals(&self) -> RouteTotals {
        let mut totals = RouteTotals::default();
        for shard in self.tally.place.shards() {
            shard.add_to(&mut totals);
        }
        totals
    }
}

impl Place {
    /// Those of all workers that have counted.
    fn shards(&self) -> impl Iterator<Item = &RouteShard> {
        self.block.iter().filter_map(|worker| worker.get()?.get(self.at as usize))
    }
}

/// All routes' counters, and places for more.
#[derive(Debug, Default)]
struct Routes {
    by_labels: BTreeMap<RouteLabels, Arc<RouteMetrics>>,
    free: Vec<Place>,
}

impl Routes {
    fn place(&mut self, workers: usize) -> Place {
        self.free.pop().unwrap_or_else(|| {
            let block: Block = (0..workers).map(|_| OnceLock::new()).collect();
            // In descending order, so that neighbours in time are neighbours in memory.
            let places = (1..BLOCK as u32).rev();
            self.free.extend(places.map(|at| Place { block: Arc::clone(&block), at }));
            Place { block, at: 0 }
        })
    }
}

/// All of the gateway's counters.
#[derive(Debug)]
pub struct Metrics {
    /// By worker.
    pub workers: Box<[WorkerShard]>,
    routes: Mutex<Routes>,
    /// What the control side counts.
    pub control: Control,
    /// What the L4 thread counts.
    pub l4: L4,
    /// What the VPN thread counts.
    pub vpn: Vpn,
}

/// What the VPN thread counts.
#[derive(Debug, Default)]
pub struct Vpn {
    /// Generation that is to be in force.
    pub desired: Gauge,
    /// Generation that is in force as a whole.
    pub applied: Gauge,
    /// Guard tables that were refused.
    pub apply_failures: Counter,
    /// Changes by others that were undone.
    pub drift_repairs: Counter,
}

/// What the L4 thread counts.
#[derive(Debug, Default)]
pub struct L4 {
    /// Generation that is to be in force.
    pub desired: Gauge,
    /// Generation that is in force as a whole.
    pub applied: Gauge,
    /// Duration of the last change of rules, in microseconds.
    pub apply_us: Gauge,
    /// Transactions that were refused.
    pub apply_failures: Counter,
    /// Changes by others that were undone.
    pub drift_repairs: Counter,
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
            l4: L4::default(),
            vpn: Vpn::default(),
        }
    }

    /// The counters with these labels: those that exist, or new ones.
    pub fn route(&self, labels: RouteLabels) -> Arc<RouteMetrics> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(metrics) = routes.by_labels.get(&labels) {
            return Arc::clone(metrics);
        }
        let place = routes.place(self.workers.len());
        let log = access_log::labels(&labels.ingress, &labels.service).into();
        let tally = Tally { place, log };
        let metrics = Arc::new(RouteMetrics { labels: labels.clone(), tally });
        routes.by_labels.insert(labels, Arc::clone(&metrics));
        metrics
    }

    /// Forgets counters that no route holds any more, so that removed objects leave.
    pub fn prune(&self) {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let Routes { by_labels, free } = &mut *routes;
        by_labels.retain(|_, metrics| {
            // Only who holds a reference could make further ones, and there is none but this.
            let Some(RouteMetrics { tally, .. }) = Arc::get_mut(metrics) else { return true };
            tally.place.shards().for_each(RouteShard::reset);
            free.push(tally.place.clone());
            false
        });
    }

    fn all_routes(&self) -> Vec<Arc<RouteMetrics>> {
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.by_labels.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(ingress: &str) -> RouteLabels {
        RouteLabels { alb: AlbKind::Public, ingress: ingress.into(), service: String::new() }
    }

    #[test]
    fn every_status_and_duration_is_counted_where_it_belongs() {
        let metrics = Metrics::new(2);
        let route = metrics.route(labels("a/b"));
        let statuses = [101, 200, 204, 308, 404, 499, 503, 0, 600];
        for (worker, status) in statuses.into_iter().enumerate() {
            let shard = route.tally.shard(worker % 2).unwrap();
            shard.record(status, Duration::from_micros(7), 1, 2);
        }
        let mut totals = route.totals();
        assert_eq!(totals.classes, [1, 2, 1, 2, 1, 2]);
        assert_eq!((totals.sum_us, totals.received, totals.sent), (63, 9, 18));
        assert_eq!(std::mem::take(&mut totals.buckets[0]), 9);
        assert_eq!(totals.buckets, [0; 16]);
        for (at, us) in BUCKETS_US.into_iter().chain([u64::MAX / 2]).enumerate() {
            let before = route.totals().buckets[at];
            route.tally.shard(0).unwrap().record(200, Duration::from_micros(us), 0, 0);
            assert_eq!(route.totals().buckets[at], before + 1, "{us}");
        }
    }

    #[test]
    fn what_every_request_changes_lies_in_one_cache_line() {
        let end = std::mem::offset_of!(RouteShard, fast) + size_of::<[Counter; FAST]>();
        assert!(align_of::<RouteShard>() == 64 && end <= 64, "{end}");
    }

    #[test]
    fn a_new_route_starts_from_zero_in_a_removed_ones_place() {
        let metrics = Metrics::new(1);
        let kept = metrics.route(labels("kept"));
        kept.tally.shard(0).unwrap().record(200, Duration::ZERO, 0, 5);
        let removed = metrics.route(labels("removed"));
        removed.tally.shard(0).unwrap().record(200, Duration::ZERO, 0, 7);
        let place = removed.tally.place.at;
        metrics.prune();
        assert_eq!(metrics.route(labels("removed")).totals().sent, 7);
        drop(removed);
        metrics.prune();
        assert_eq!(metrics.all_routes().len(), 1);
        let new = metrics.route(labels("new"));
        assert_eq!(new.tally.place.at, place);
        assert_eq!(new.totals().classes, [0; 6]);
        assert_eq!(new.totals().sent, 0);
        assert_eq!(kept.totals().sent, 5);
    }
}
