//! Metrics in Prometheus' text format.

use std::fmt::{Display, Write as _};

use crate::probe::BUCKETS;
use crate::view::Shown;

/// All of them.
pub fn render(shown: &Shown) -> String {
    let mut page = Page::default();
    let status = &shown.status;
    page.kind("tidegate_agent_build_info", "gauge", "The version that runs.");
    page.sample("tidegate_agent_build_info", &[("version", &status.version)], 1);
    page.kind("tidegate_agent_ready", "gauge", "Whether what follows from objects is in force.");
    page.sample("tidegate_agent_ready", &[], u8::from(status.ready));
    page.kind("tidegate_agent_source_connected", "gauge", "Whether objects' source answers.");
    page.sample("tidegate_agent_source_connected", &[], u8::from(status.source.connected));
    page.kind("tidegate_agent_keys", "gauge", "How many keys the node has; two while changing.");
    page.sample("tidegate_agent_keys", &[], status.keys.len());
    page.kind("tidegate_agent_findings", "gauge", "What is wrong with objects.");
    page.sample("tidegate_agent_findings", &[], status.findings.len());
    edges(&mut page, shown);
    active(&mut page, shown);
    tunnels(&mut page, shown);
    applied(&mut page, shown);
    page.text
}

fn edges(page: &mut Page, shown: &Shown) {
    let edges = &shown.status.edges;
    page.kind("tidegate_agent_edge_live", "gauge", "Whether an edge answers probes.");
    for (name, edge) in edges {
        let live = u8::from(edge.state == "alive");
        page.sample("tidegate_agent_edge_live", &[("edge", name)], live);
    }
    page.kind("tidegate_agent_probes_sent_total", "counter", "Probes sent to an edge.");
    for (name, counted) in &shown.probes.0 {
        page.sample("tidegate_agent_probes_sent_total", &[("edge", name)], counted.sent);
    }
    page.kind("tidegate_agent_probes_answered_total", "counter", "Probes that an edge answered.");
    for (name, counted) in &shown.probes.0 {
        page.sample("tidegate_agent_probes_answered_total", &[("edge", name)], counted.answered);
    }
    let round_trip = "tidegate_agent_probe_round_trip_seconds";
    page.kind(round_trip, "histogram", "How long answers to probes took.");
    for (name, counted) in &shown.probes.0 {
        let mut below = 0;
        for (bound, count) in BUCKETS.iter().zip(counted.within) {
            below += count;
            let labels = [("edge", name.as_str()), ("le", &bound.to_string())];
            page.sample(&format!("{round_trip}_bucket"), &labels, below);
        }
        let all = [("edge", name.as_str()), ("le", "+Inf")];
        page.sample(&format!("{round_trip}_bucket"), &all, counted.answered);
        page.sample(&format!("{round_trip}_sum"), &[("edge", name)], counted.sum);
        page.sample(&format!("{round_trip}_count"), &[("edge", name)], counted.answered);
    }
}

fn active(page: &mut Page, shown: &Shown) {
    let name = "tidegate_agent_connection_edge";
    page.kind(name, "gauge", "The edge that a VpnConnection goes by; 0 and no edge for none.");
    for (key, edge) in &shown.status.connections {
        let labels = [("connection", key.as_str()), ("edge", edge.as_deref().unwrap_or(""))];
        page.sample(name, &labels, u8::from(edge.is_some()));
    }
    let name = "tidegate_agent_egress_edge";
    page.kind(name, "gauge", "The edge that egress networks go by.");
    if let Some(edge) = &shown.status.egress {
        page.sample(name, &[("edge", edge)], 1);
    }
}

fn tunnels(page: &mut Page, shown: &Shown) {
    let tunnels = &shown.status.tunnels;
    for (name, help, received) in [
        ("tidegate_agent_tunnel_received_bytes_total", "Octets received through a tunnel.", true),
        ("tidegate_agent_tunnel_sent_bytes_total", "Octets sent through a tunnel.", false),
    ] {
        page.kind(name, "counter", help);
        for (interface, tunnel) in tunnels {
            let labels = [("interface", interface.as_str()), ("edge", tunnel.edge.as_str())];
            let bytes = if received { tunnel.received_bytes } else { tunnel.sent_bytes };
            page.sample(name, &labels, bytes);
        }
    }
    let name = "tidegate_agent_tunnel_last_handshake_age_seconds";
    page.kind(name, "gauge", "How long ago a tunnel's last handshake was.");
    for (interface, tunnel) in tunnels {
        if let Some(age) = tunnel.last_handshake {
            let labels = [("interface", interface.as_str()), ("edge", tunnel.edge.as_str())];
            page.sample(name, &labels, age);
        }
    }
}

fn applied(page: &mut Page, shown: &Shown) {
    let applied = &shown.status.applied;
    let at = "tidegate_agent_applied_timestamp_seconds";
    page.kind(at, "gauge", "When the kernel was last brought to the plan, or looked at.");
    page.sample(at, &[], applied.at);
    page.kind("tidegate_agent_drift_mended_total", "counter", "Others' changes that were undone.");
    page.sample("tidegate_agent_drift_mended_total", &[], applied.mended);
    let failures = "tidegate_agent_apply_failures_total";
    page.kind(failures, "counter", "How often something could not be put in force.");
    page.sample(failures, &[], applied.failures);
    page.kind("tidegate_agent_routes", "gauge", "Routes in force.");
    page.sample("tidegate_agent_routes", &[], applied.routes);
    page.kind("tidegate_agent_routes_unreachable", "gauge", "Of these, those that refuse.");
    page.sample("tidegate_agent_routes_unreachable", &[], applied.unreachable);
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn kind(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(name);
        for (place, (label, value)) in labels.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let before = if place == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{before}{label}=\"{value}\"");
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{EdgeStatistics, Statistics};
    use crate::view::Status;

    #[test]
    fn a_page_has_every_kind_once_and_a_histogram_adds_up() {
        let mut counted = EdgeStatistics { sent: 5, answered: 3, sum: 0.5, ..Default::default() };
        counted.within[2] = 2;
        let mut status = Status { version: "1".to_owned(), ..Status::default() };
        status.connections.insert("shop/\"site".to_owned(), None);
        let mut probes = Statistics::default();
        probes.0.insert("edge-1".to_owned(), counted);
        let page = render(&Shown { status: status.into(), probes: probes.into() });
        for line in [
            "tidegate_agent_probes_sent_total{edge=\"edge-1\"} 5",
            "tidegate_agent_probe_round_trip_seconds_bucket{edge=\"edge-1\",le=\"0.0005\"} 0",
            "tidegate_agent_probe_round_trip_seconds_bucket{edge=\"edge-1\",le=\"0.001\"} 2",
            "tidegate_agent_probe_round_trip_seconds_bucket{edge=\"edge-1\",le=\"0.25\"} 2",
            "tidegate_agent_probe_round_trip_seconds_bucket{edge=\"edge-1\",le=\"+Inf\"} 3",
            "tidegate_agent_connection_edge{connection=\"shop/\\\"site\",edge=\"\"} 0",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}: {page}");
        }
        let mut kinds: Vec<_> = page.lines().filter(|line| line.starts_with("# TYPE")).collect();
        let count = kinds.len();
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(kinds.len(), count);
    }
}
