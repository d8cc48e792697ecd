use super::slice;
use crate::fixture::l4;

/// A NodePort Service and its slice.
fn service(name: &str, created: &str, ports: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Service, metadata: {{name: {name}{created}}}, spec: {{type: \
         NodePort, ports: [{ports}]}}}}\n---\n{}",
        slice(name, "endpoints: []")
    )
}

fn created(year: u16) -> String {
    format!(", creationTimestamp: \"{year}-01-01T00:00:00Z\"")
}

#[test]
fn a_node_port_out_of_the_range_is_not_opened() {
    for port in ["29999", "32768", "-1", "70000"] {
        let found = l4(&service("web", "", &format!("{{port: 80, nodePort: {port}}}")));
        let message = found.only();
        let start =
            format!("error: Service default/web: spec.ports[0].nodePort {port:?}: isn't in");
        assert!(message.starts_with(&start) && message.contains("30000-32767"), "{message}");
        assert_eq!(found.service("web").ports[0].node_port, None);
    }
}

#[test]
fn nobody_chooses_a_node_port_for_a_manifest() {
    let found = l4(&service("web", "", "{port: 80}"));
    let message = found.only();
    assert!(message.contains("spec.ports[0].nodePort: is missing, and there is no API server"));
    assert!(message.starts_with("warning"), "{message}");
    let balanced = service("web", "", "{port: 80}").replace("NodePort", "LoadBalancer");
    assert_eq!(l4(&balanced).messages(), [] as [String; 0]);
}

#[test]
fn a_written_node_port_counts_although_none_need_be_allocated() {
    let text = service("web", "", "{port: 80, nodePort: 30080}, {port: 81}")
        .replace("type: NodePort", "type: LoadBalancer, allocateLoadBalancerNodePorts: false");
    let found = l4(&text);
    assert_eq!(found.messages(), [] as [String; 0]);
    let ports: Vec<_> = found.service("web").ports.iter().map(|port| port.node_port).collect();
    assert_eq!(ports, [Some(30080), None]);
}

#[test]
fn a_cluster_ip_service_has_no_node_port() {
    let text = service("web", "", "{port: 80, nodePort: 30080}").replace("type: NodePort, ", "");
    let found = l4(&text);
    assert!(found.only().contains("has no effect on a Service of type ClusterIP"));
    assert_eq!(found.service("web").ports[0].node_port, None);
}

#[test]
fn the_older_service_keeps_a_node_port() {
    let port = "{port: 80, nodePort: 30080}";
    let winner = |a: &str, b: &str| {
        let found = l4(&format!("{}{}", service("a", a, port), service("b", b, port)));
        let message = found.only();
        let open = |name: &str| found.service(name).ports[0].node_port.is_some();
        assert_ne!(open("a"), open("b"));
        let (winner, loser) = if open("a") { ("a", "b") } else { ("b", "a") };
        let start = format!(
            "error: Service default/{loser}: spec.ports[0].nodePort \"30080\": is \
             default/{winner}'s already for TCP"
        );
        assert!(message.starts_with(&start), "{message}");
        winner
    };
    assert_eq!(winner("", ""), "a");
    assert_eq!(winner(&created(2025), &created(2024)), "b");
    assert_eq!(winner("", &created(2025)), "b");
    assert_eq!(winner(&created(2024), &created(2024)), "a");
}

#[test]
fn one_node_port_may_have_two_protocols() {
    let found = l4(&service(
        "web",
        "",
        "{name: a, port: 53, nodePort: 30053}, {name: b, port: 53, protocol: UDP, nodePort: \
         30053}, {name: c, port: 54, nodePort: 30053}",
    ));
    let message = found.only();
    assert!(message.contains("spec.ports[2].nodePort \"30053\": is default/web's"), "{message}");
    let ports: Vec<_> = found.service("web").ports.iter().map(|port| port.node_port).collect();
    assert_eq!(ports, [Some(30053), Some(30053), None]);
}

#[test]
fn a_health_port_is_nobody_elses_node_port() {
    let local = service("b", "", "{port: 80, nodePort: 30080}").replace(
        "type: NodePort",
        "type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 30500",
    );
    let found = l4(&format!("{}{local}", service("a", "", "{port: 80, nodePort: 30500}")));
    assert!(found.only().contains("default/b: spec.healthCheckNodePort \"30500\": is default/a's"));
    let exposure = found.service("b").exposure.as_ref().unwrap();
    assert_eq!(exposure.health_check_node_port, None);
    assert!(exposure.local_only);
}
