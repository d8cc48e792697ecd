//! The L4 plane's part of the page.

use plan::policy::Counted;

use super::{Page, seconds};
use crate::l4::view::Report;
use crate::metrics::Metrics;

pub(super) fn write(page: &mut Page, metrics: &Metrics, report: &Report) {
    control(page, metrics, report);
    pools(page, report);
    services(page, report);
    policies(page, report);
}

fn control(page: &mut Page, metrics: &Metrics, report: &Report) {
    let l4 = &metrics.l4;
    let (desired, applied) = (l4.desired.get(), l4.applied.get());
    page.single(
        "l4_generation_desired",
        "gauge",
        "Generation of the L4 plane that is to be in force.",
        desired,
    );
    page.single(
        "l4_generation_applied",
        "gauge",
        "Generation of the L4 plane that was last in force as a whole.",
        applied,
    );
    page.single(
        "l4_apply_duration_seconds",
        "gauge",
        "Time that the last change of the kernel's rules took.",
        seconds(l4.apply_us.get()),
    );
    page.single(
        "l4_apply_failures_total",
        "counter",
        "Transactions that nftables refused.",
        l4.apply_failures.get(),
    );
    page.single(
        "l4_drift_repairs_total",
        "counter",
        "Changes of rules and addresses by others that were undone.",
        l4.drift_repairs.get(),
    );
    page.family("l4_vips", "gauge", "VIPs by how far they have come.");
    for state in ["probing", "held", "duplicate", "failed", "homeless"] {
        let count = report.view.vips.values().filter(|vip| vip.state == state).count();
        page.sample("l4_vips", &format!("state=\"{state}\""), count);
    }
}

fn pools(page: &mut Page, report: &Report) {
    let pools = &report.plan.pools;
    page.family("pool_addresses", "gauge", "Addresses of a pool that Services can get.");
    for (pool, used) in pools {
        page.sample("pool_addresses", &format!("pool=\"{pool}\""), used.capacity);
    }
    page.family("pool_addresses_used", "gauge", "Addresses of a pool that Services have.");
    for (pool, used) in pools {
        page.sample("pool_addresses_used", &format!("pool=\"{pool}\""), used.used);
    }
}

fn services(page: &mut Page, report: &Report) {
    let labels = |(service, protocol, number): &crate::l4::traffic::PortKey| {
        // Names of objects hold nothing that would need escaping.
        format!(
            "namespace=\"{}\",service=\"{}\",protocol=\"{protocol}\",port=\"{number}\"",
            service.namespace, service.name
        )
    };
    let ports = &report.sums.ports;
    page.family(
        "l4_service_connections_total",
        "counter",
        "Connections, or UDP sessions, to a port of a Service.",
    );
    for (key, counts) in ports {
        page.sample("l4_service_connections_total", &labels(key), counts.connections);
    }
    page.family("l4_service_bytes_total", "counter", "Bytes to and from a port of a Service.");
    for (key, counts) in ports {
        page.sample("l4_service_bytes_total", &labels(key), counts.bytes);
    }
    page.family("l4_service_endpoints", "gauge", "Endpoints that take new connections.");
    for service in &report.plan.services {
        for port in &service.ports {
            let key = (service.service.clone(), port.protocol, port.number);
            page.sample("l4_service_endpoints", &labels(&key), port.endpoints.len());
        }
    }
}

fn policies(page: &mut Page, report: &Report) {
    page.family("policy_packets_total", "counter", "Packets that a policy's rule has matched.");
    for (counted, packets) in &report.sums.rules {
        if let Counted::Rule { policy, direction, index } = counted {
            let direction = format!("{direction:?}").to_lowercase();
            let labels = format!("policy=\"{policy}\",direction=\"{direction}\",rule=\"{index}\"");
            page.sample("policy_packets_total", &labels, packets);
        }
    }
    page.family(
        "policy_dropped_packets_total",
        "counter",
        "Packets at a host endpoint that nothing allowed, or that no connection fits.",
    );
    for (counted, packets) in &report.sums.rules {
        let (endpoint, reason) = match counted {
            Counted::Rule { .. } => continue,
            Counted::Unmatched { endpoint, stage } => (endpoint, stage.to_string()),
            Counted::Invalid { endpoint } => (endpoint, "invalid".to_owned()),
        };
        let labels = format!("endpoint=\"{endpoint}\",reason=\"{reason}\"");
        page.sample("policy_dropped_packets_total", &labels, packets);
    }
}
