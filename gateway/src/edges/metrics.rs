//! The edges' part of the metrics page.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;

use super::{Counts, Report};

/// In Prometheus' text format.
pub fn metrics((report, counts): &(watch::Receiver<Arc<Report>>, Arc<Counts>)) -> String {
    let report = Arc::clone(&report.borrow());
    let own = report.claims.values().filter(|(edge, _)| *edge == report.name).count();
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed) as f64;
    let seconds = |millis: u64| millis as f64 / 1000.0;
    let families = [
        ("claims", "gauge", "Claims that this edge holds.", own as f64),
        (
            "for_seconds",
            "gauge",
            "How long it does, if nothing comes.",
            seconds(report.holds_for_ms),
        ),
        (
            "since_renewal_seconds",
            "gauge",
            "Since the last renewal of its Lease; NaN before the first.",
            report.renewed_ms_ago.map_or(f64::NAN, seconds),
        ),
        (
            "edges_live",
            "gauge",
            "Other edges that live.",
            report.edges.values().filter(|edge| edge.live).count() as f64,
        ),
        ("renewals_total", "counter", "Renewals of its Lease.", load(&counts.renewals)),
        ("failures_total", "counter", "Requests about Leases that failed.", load(&counts.failures)),
        ("takeovers_total", "counter", "Claims that were taken.", load(&counts.taken)),
        ("lost_total", "counter", "Claims that were given up or lost.", load(&counts.lost)),
        ("fenced_total", "counter", "Edges that were fenced.", load(&counts.fenced)),
    ];
    let mut text = String::new();
    for (name, kind, help, value) in families {
        let name = format!("tidegate_holding_{name}");
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    }
    text
}
