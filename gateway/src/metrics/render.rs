//! The text format that Prometheus reads (exposition format 0.0.4).

use std::fmt::Write;

use cluster::watch::SourceState;
use model::AlbKind;

use crate::l4::view::Report;
use crate::vpn::report::Report as VpnReport;

use super::{
    BUCKETS_US, Counter, Metrics, REFUSED, RouteLabels, RouteTotals, WorkerShard, listener_index,
};

mod l4;
mod source;
mod vpn;

/// A page of text under construction. Writing to a `String` can't fail, so results are dropped.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP tidegate_{name} {help}\n# TYPE tidegate_{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = match labels {
            "" => writeln!(self.0, "tidegate_{name} {value}"),
            _ => writeln!(self.0, "tidegate_{name}{{{labels}}} {value}"),
        };
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, kind, help);
        self.sample(name, "", value);
    }
}

/// All metrics as one page; those of the L4 and the VPN plane and of the Kubernetes API if there
/// are such.
pub fn render(
    metrics: &Metrics,
    l4: Option<&Report>,
    vpn: Option<&VpnReport>,
    kubernetes: Option<&SourceState>,
) -> String {
    metrics.prune();
    let mut page = Page(String::with_capacity(16 * 1024));
    page.family("build_info", "gauge", "The running version.");
    page.sample("build_info", &format!("version=\"{}\"", env!("CARGO_PKG_VERSION")), 1);
    control(&mut page, metrics);
    connections(&mut page, metrics);
    upstream(&mut page, metrics);
    routes(&mut page, metrics);
    if let Some(report) = l4 {
        l4::write(&mut page, metrics, report);
    }
    if let Some(report) = vpn {
        vpn::write(&mut page, metrics, report);
    }
    if let Some(state) = kubernetes {
        source::write(&mut page, state);
    }
    page.0
}

fn control(page: &mut Page, metrics: &Metrics) {
    let c = &metrics.control;
    page.single(
        "config_generation",
        "gauge",
        "Generation of the objects in force.",
        c.generation.get(),
    );
    page.single(
        "config_reloads_total",
        "counter",
        "Changes of objects that were planned.",
        c.reloads.get(),
    );
    page.single(
        "config_reload_duration_seconds",
        "gauge",
        "Time from the last changed objects to their being in force.",
        seconds(c.reload_us.get()),
    );
    page.family("diagnostics", "gauge", "Findings about the objects in force.");
    page.sample("diagnostics", "severity=\"error\"", c.errors.get());
    page.sample("diagnostics", "severity=\"warning\"", c.warnings.get());
    page.single("routes", "gauge", "Routes in force.", c.routes.get());
    page.single("endpoints", "gauge", "Endpoints in force.", c.endpoints.get());
    page.single(
        "tls_certificate_expiry_timestamp_seconds",
        "gauge",
        "When the first certificate in force ends; 0 without any.",
        c.certificate_expiry.get(),
    );
    let dropped = sum(metrics, |w| &w.log_dropped);
    page.family("access_log_lost_total", "counter", "Access-log lines that were not written.");
    page.sample("access_log_lost_total", "reason=\"queue_full\"", dropped);
    page.sample("access_log_lost_total", "reason=\"write_failed\"", c.log_lost.get());
    page.single(
        "access_log_reopen_failures_total",
        "counter",
        "Failures to open the access log anew on SIGHUP.",
        c.log_reopen_failures.get(),
    );
    page.single("workers", "gauge", "Worker threads.", metrics.workers.len());
}

fn connections(page: &mut Page, metrics: &Metrics) {
    let listeners = [
        (AlbKind::Public, false),
        (AlbKind::Public, true),
        (AlbKind::Private, false),
        (AlbKind::Private, true),
    ];
    let label = |(alb, tls): (AlbKind, bool)| {
        format!("alb=\"{alb}\",protocol=\"{}\"", if tls { "https" } else { "http" })
    };
    page.family("connections_accepted_total", "counter", "Client connections accepted.");
    for listener in listeners {
        let i = listener_index(listener.0, listener.1);
        page.sample(
            "connections_accepted_total",
            &label(listener),
            sum_at(metrics, i, |w| &w.accepted),
        );
    }
    page.family("connections_open", "gauge", "Client connections that are open.");
    for listener in listeners {
        let i = listener_index(listener.0, listener.1);
        // Closed first: read the other way round, a connection could count as minus one.
        let closed = sum_at(metrics, i, |w| &w.closed);
        let accepted = sum_at(metrics, i, |w| &w.accepted);
        page.sample("connections_open", &label(listener), accepted.saturating_sub(closed));
    }
    page.single(
        "connections_over_limit_total",
        "counter",
        "Client connections closed at once since the ALB's limit was reached.",
        sum(metrics, |w| &w.over_limit),
    );
    page.family("tls_handshakes_total", "counter", "TLS handshakes that succeeded.");
    for (i, labels) in [
        "version=\"1.2\",resumed=\"false\"",
        "version=\"1.2\",resumed=\"true\"",
        "version=\"1.3\",resumed=\"false\"",
        "version=\"1.3\",resumed=\"true\"",
    ]
    .into_iter()
    .enumerate()
    {
        page.sample("tls_handshakes_total", labels, sum_at(metrics, i, |w| &w.handshakes));
    }
    page.single(
        "tls_hybrid_handshakes_total",
        "counter",
        "TLS handshakes with X25519MLKEM768.",
        sum(metrics, |w| &w.handshakes_hybrid),
    );
    page.single(
        "tls_handshake_failures_total",
        "counter",
        "TLS handshakes that failed.",
        sum(metrics, |w| &w.handshake_failures),
    );
    page.family("requests_refused_total", "counter", "Requests refused before routing.");
    for (i, status) in REFUSED.iter().map(u16::to_string).chain(["other".to_owned()]).enumerate() {
        page.sample(
            "requests_refused_total",
            &format!("status=\"{status}\""),
            sum_at(metrics, i, |w| &w.refused),
        );
    }
    let ended = sum_at(metrics, 1, |w| &w.tunnels);
    let begun = sum_at(metrics, 0, |w| &w.tunnels);
    page.single("tunnels_total", "counter", "Upgraded connections begun.", begun);
    page.single(
        "tunnels_open",
        "gauge",
        "Upgraded connections under way.",
        begun.saturating_sub(ended),
    );
}

fn upstream(page: &mut Page, metrics: &Metrics) {
    type Pick = fn(&WorkerShard) -> &Counter;
    let counters: [(&str, &str, Pick); 5] = [
        ("upstream_connects_total", "Connections made to endpoints.", |w| &w.upstream_connects),
        ("upstream_connect_failures_total", "Connections to endpoints that failed.", |w| {
            &w.upstream_connect_failures
        }),
        (
            "upstream_reused_total",
            "Requests sent over a connection that had served one before.",
            |w| &w.upstream_reused,
        ),
        ("upstream_retries_total", "Requests sent again over another connection.", |w| {
            &w.upstream_retries
        }),
        ("upstream_ejections_total", "Endpoints taken out for a while after failures.", |w| {
            &w.upstream_ejections
        }),
    ];
    for (name, help, pick) in counters {
        page.single(name, "counter", help, sum(metrics, pick));
    }
    page.single(
        "upstream_idle_connections",
        "gauge",
        "Idle connections to endpoints.",
        metrics.workers.iter().map(|w| w.upstream_idle.get()).sum::<u64>(),
    );
}

fn routes(page: &mut Page, metrics: &Metrics) {
    let routes = metrics.all_routes();
    let totals: Vec<(String, RouteTotals)> = routes
        .iter()
        .map(|route| {
            let RouteLabels { alb, ingress, service } = &route.labels;
            // Names of objects and ports hold nothing that would need escaping.
            let labels = format!("alb=\"{alb}\",ingress=\"{ingress}\",service=\"{service}\"");
            (labels, route.totals())
        })
        .collect();
    page.family("requests_total", "counter", "Requests answered, by status class.");
    for (labels, t) in &totals {
        for (i, count) in t.classes.iter().enumerate().filter(|(_, count)| **count > 0) {
            let class = if i < 5 { format!("{}xx", i + 1) } else { "other".to_owned() };
            page.sample("requests_total", &format!("{labels},code=\"{class}\""), count);
        }
    }
    page.family(
        "request_duration_seconds",
        "histogram",
        "Time from a request's first byte to its response's last.",
    );
    for (labels, t) in &totals {
        let mut running = 0;
        for (i, count) in t.buckets.iter().enumerate() {
            running += count;
            let le = BUCKETS_US.get(i).map_or("+Inf".to_owned(), |us| seconds(*us).to_string());
            let labels = format!("{labels},le=\"{le}\"");
            page.sample("request_duration_seconds_bucket", &labels, running);
        }
        page.sample("request_duration_seconds_sum", labels, seconds(t.sum_us));
        page.sample("request_duration_seconds_count", labels, running);
    }
    page.family("request_body_bytes_total", "counter", "Request body bytes passed on.");
    for (labels, t) in &totals {
        page.sample("request_body_bytes_total", labels, t.received);
    }
    page.family("response_body_bytes_total", "counter", "Response body bytes passed on.");
    for (labels, t) in &totals {
        page.sample("response_body_bytes_total", labels, t.sent);
    }
}

fn sum(metrics: &Metrics, pick: impl Fn(&WorkerShard) -> &Counter) -> u64 {
    metrics.workers.iter().map(|worker| pick(worker).get()).sum()
}

fn sum_at<const N: usize>(
    metrics: &Metrics,
    at: usize,
    pick: impl Fn(&WorkerShard) -> &[Counter; N],
) -> u64 {
    metrics.workers.iter().filter_map(|worker| pick(worker).get(at)).map(Counter::get).sum()
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}
