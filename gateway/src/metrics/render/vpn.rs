//! The VPN plane's part of the page.

use ipsec::ike::event::IkeStatus;

use super::Page;
use crate::admin::vpn::ike_counters;
use crate::metrics::Metrics;
use crate::vpn::dataplane::SaCounters;
use crate::vpn::report::{OneConnection, Report, STATES};

pub(super) fn write(page: &mut Page, metrics: &Metrics, report: &Report) {
    control(page, metrics, report);
    connections(page, report);
    children(page, report);
}

fn control(page: &mut Page, metrics: &Metrics, report: &Report) {
    let vpn = &metrics.vpn;
    page.single(
        "vpn_generation_desired",
        "gauge",
        "Generation of the VPN plane that is to be in force.",
        vpn.desired.get(),
    );
    page.single(
        "vpn_generation_applied",
        "gauge",
        "Generation of the VPN plane that was last in force as a whole.",
        vpn.applied.get(),
    );
    page.single(
        "vpn_apply_failures_total",
        "counter",
        "Transactions of the guard table that nftables refused.",
        vpn.apply_failures.get(),
    );
    page.single(
        "vpn_drift_repairs_total",
        "counter",
        "Changes of guard and routes by others that were undone.",
        vpn.drift_repairs.get(),
    );
    let ike = ike_counters(report);
    page.family("vpn_ike_events_total", "counter", "IKE messages, by what was wrong with them.");
    for (event, count) in ike.iter().filter(|(name, _)| !is_gauge(name)) {
        page.sample("vpn_ike_events_total", &format!("event=\"{event}\""), count);
    }
    page.family("vpn_ike_sas", "gauge", "IKE SAs, by how far they have come.");
    for (state, count) in ike.iter().filter(|(name, _)| is_gauge(name)) {
        page.sample("vpn_ike_sas", &format!("state=\"{state}\""), count);
    }
    page.family(
        "vpn_dropped_packets_total",
        "counter",
        "Packets that the data path has dropped for no SA's sake.",
    );
    for (reason, count) in &report.data.dropped {
        page.sample("vpn_dropped_packets_total", &format!("reason=\"{reason}\""), count);
    }
    page.family(
        "vpn_guard_packets_total",
        "counter",
        "Packets that were kept from leaving, or coming, in the clear.",
    );
    for (counter, count) in &report.guard {
        page.sample("vpn_guard_packets_total", &format!("counter=\"{counter}\""), count.packets);
    }
}

fn is_gauge(name: &str) -> bool {
    matches!(name, "half_open" | "established")
}

fn connections(page: &mut Page, report: &Report) {
    // Names of objects hold nothing that would need escaping.
    let label = |connection: &OneConnection| format!("connection=\"{}\"", connection.name);
    page.family("vpn_connection_state", "gauge", "1 for the state that a connection is in.");
    for connection in &report.connections {
        for state in STATES {
            let labels = format!("{},state=\"{state}\"", label(connection));
            let is_it = u8::from(connection.state() == state);
            page.sample("vpn_connection_state", &labels, is_it);
        }
    }
    let statuses = || {
        let all = report.connections.iter();
        all.filter_map(move |connection| Some((label(connection), connection.status.as_ref()?)))
    };
    page.family("vpn_rekeys_total", "counter", "SAs that another one has taken the place of.");
    for (label, status) in statuses() {
        for (what, count) in [("ike", status.rekeys.0), ("child", status.rekeys.1)] {
            page.sample("vpn_rekeys_total", &format!("{label},what=\"{what}\""), count);
        }
    }
    page.family(
        "vpn_restarts_total",
        "counter",
        "How often a connection was lost and begun again.",
    );
    for (label, status) in statuses() {
        page.sample("vpn_restarts_total", &label, status.restarts);
    }
    page.family(
        "vpn_liveness_round_trip_seconds",
        "gauge",
        "Time that the other end took to answer the last liveness check.",
    );
    for (label, status) in statuses() {
        let time = status.ike.first().and_then(|ike: &IkeStatus| ike.round_trip);
        if let Some(time) = time {
            page.sample("vpn_liveness_round_trip_seconds", &label, time.as_secs_f64());
        }
    }
}

fn children(page: &mut Page, report: &Report) {
    let mut all = Vec::new();
    for connection in &report.connections {
        for child in &connection.plan.connection.children {
            // A child's name may be any text: it is written by people.
            let name = child.name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let labels = format!("connection=\"{}\",child=\"{name}\"", connection.name);
            let statuses = connection.status.iter().flat_map(|status| &status.children);
            let sas = statuses.filter(|status| *status.sa.child == *child.name).count();
            all.push((labels, sas, connection.counters(&report.data, &child.name)));
        }
    }
    page.family("vpn_child_sas", "gauge", "Child SAs that are up.");
    for (labels, sas, _) in &all {
        page.sample("vpn_child_sas", labels, sas);
    }
    type Pick = fn(&SaCounters) -> u64;
    let counters: [(&str, &str, Pick); 11] = [
        ("vpn_sent_bytes_total", "Octets of inner packets sent.", |c| c.sent_bytes),
        ("vpn_sent_packets_total", "Inner packets sent.", |c| c.sent_packets),
        ("vpn_received_bytes_total", "Octets of inner packets received.", |c| c.received_bytes),
        ("vpn_received_packets_total", "Inner packets received.", |c| c.received_packets),
        ("vpn_replayed_packets_total", "Packets seen before, or too old.", |c| c.replayed),
        ("vpn_unauthentic_packets_total", "Packets that were not authentic.", |c| c.unauthentic),
        (
            "vpn_selector_dropped_packets_total",
            "Packets that came with addresses outside of the selectors.",
            |c| c.selector_drops,
        ),
        (
            "vpn_outside_selectors_packets_total",
            "Packets that were to go out, and were outside of what the other end agreed on.",
            |c| c.outside_selectors,
        ),
        ("vpn_malformed_packets_total", "Packets malformed inside.", |c| c.malformed),
        (
            "vpn_too_big_packets_total",
            "Packets too big for the tunnel, answered with \"packet too big\".",
            |c| c.too_big,
        ),
        ("vpn_held_back_packets_total", "Packets dropped since no SA was there.", |c| c.held_back),
    ];
    for (name, help, pick) in counters {
        page.family(name, "counter", help);
        for (labels, _, counted) in &all {
            page.sample(name, labels, pick(counted));
        }
    }
}
