use std::net::SocketAddr;

use model::{Protocol, Visibility};

use crate::fixture::{self, Fixture, l4};

mod annotations;
mod exposure;
mod memo;
mod node_ports;

/// A Service named `web` with these annotations and this spec, and an endpoint.
pub(super) fn manifest(annotations: &str, spec: &str) -> String {
    format!(
        "\
apiVersion: v1
kind: Service
metadata: {{name: web, annotations: {{{annotations}}}, labels: {{app: web}}}}
spec: {{{spec}}}
---
{}",
        slice("web", "ports: [{port: 8080}], endpoints: [{addresses: [10.0.0.1]}]")
    )
}

pub(super) fn slice(service: &str, rest: &str) -> String {
    format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, metadata: \
         {{name: {service}-1, labels: {{kubernetes.io/service-name: {service}}}}}, {rest}}}\n"
    )
}

/// A LoadBalancer Service with one TCP port, which has these annotations and fields.
pub(super) fn balanced(annotations: &str, spec: &str) -> Fixture {
    l4(&manifest(annotations, &format!("type: LoadBalancer, ports: [{{port: 80}}], {spec}")))
}

fn addresses(found: &Fixture, port: usize) -> Vec<SocketAddr> {
    let endpoints = &found.service("web").ports[port].endpoints;
    endpoints.iter().map(|endpoint| endpoint.address).collect()
}

const DNS: &str = "\
{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{name: dns, port: 53, \
                   protocol: UDP}, {name: dns-tcp, port: 53}, {name: sig, port: 9, protocol: \
                   SCTP}]}}
---
";

#[test]
fn a_port_has_the_endpoints_of_its_name_and_protocol() {
    let ports = "ports: [{name: dns, port: 5353, protocol: UDP}, {name: dns-tcp, port: 5354}, \
                 {name: sig, port: 99, protocol: SCTP}]";
    let slice = slice("web", &format!("{ports}, endpoints: [{{addresses: [10.0.0.1]}}]"));
    let found = l4(&format!("{DNS}{slice}"));
    assert_eq!(found.messages(), [] as [String; 0]);
    let ports = &found.service("web").ports;
    let protocols: Vec<Protocol> = ports.iter().map(|port| port.protocol).collect();
    assert_eq!(protocols, [Protocol::Udp, Protocol::Tcp, Protocol::Sctp]);
    assert_eq!(addresses(&found, 0), ["10.0.0.1:5353".parse().unwrap()]);
    assert_eq!(addresses(&found, 1), ["10.0.0.1:5354".parse().unwrap()]);
    assert_eq!(addresses(&found, 2), ["10.0.0.1:99".parse().unwrap()]);
    assert!(found.service("web").exposure.is_none());
}

#[test]
fn a_slices_port_with_another_protocol_is_named() {
    let ports = "ports: [{name: dns, port: 53}, {name: dns-tcp, port: 53}, {name: sig, port: 9, \
                 protocol: SCTP}]";
    let slice = slice("web", &format!("{ports}, endpoints: [{{addresses: [10.0.0.1]}}]"));
    let found = l4(&format!("{DNS}{slice}"));
    let message = found.only();
    let start = "warning: Service default/web: spec.ports[0].protocol \"UDP\": has no endpoints: \
                 its EndpointSlices have the port \"dns\" with TCP";
    assert!(message.starts_with(start), "{message}");
    assert!(addresses(&found, 0).is_empty() && addresses(&found, 1).len() == 1);
}

#[test]
fn ports_that_cannot_be_are_left_out() {
    for (port, part) in [
        ("{port: 1, protocol: HTTP}", "ports[1].protocol \"HTTP\": not a protocol"),
        ("{port: 1, protocol: udp}", "ports[1].protocol \"udp\": not a protocol"),
        ("{port: 70000}", "ports[1].port \"70000\": not a port number; write a number"),
        ("{port: 80, name: b}", "ports[1].port \"80\": another port is 80 of TCP too"),
    ] {
        let found = l4(&manifest("", &format!("ports: [{{port: 80}}, {port}]")));
        assert!(found.only().contains(part), "{}", found.only());
        assert_eq!(found.service("web").ports.len(), 1, "{port}");
    }
}

#[test]
fn of_an_address_that_stands_twice_the_best_counts() {
    let text = format!(
        "{}---\n{}",
        manifest("", "ports: [{port: 80}]"),
        slice(
            "web",
            "ports: [{port: 8080}], endpoints: [{addresses: [10.0.0.1], conditions: {ready: \
             false, serving: true, terminating: true}}, {addresses: [10.0.0.0], conditions: \
             {ready: false, serving: true, terminating: true}}]"
        )
        .replace("web-1", "web-2")
    );
    let found = l4(&text);
    let endpoints = &found.service("web").ports[0].endpoints;
    let seen: Vec<_> =
        endpoints.iter().map(|one| (one.address.to_string(), one.terminating)).collect();
    assert_eq!(seen, [("10.0.0.0:8080".to_owned(), true), ("10.0.0.1:8080".to_owned(), false)]);
}

#[test]
fn endpoints_are_local_where_the_edge_is_no_node() {
    let here = |extra: &str, node: &str| {
        let text = format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: web}}, spec: {{ports: [{{port: \
             80}}]}}}}\n---\n{}{extra}",
            slice(
                "web",
                &format!(
                    "ports: [{{port: 80}}], endpoints: [{{addresses: [10.0.0.1], nodeName: \
                     {node}}}, {{addresses: [10.0.0.2], nodeName: other}}, {{addresses: \
                     [10.0.0.3]}}]"
                )
            )
        );
        let found = l4(&text);
        let endpoints = &found.service("web").ports[0].endpoints;
        endpoints.iter().map(|endpoint| endpoint.local).collect::<Vec<_>>()
    };
    let node =
        |name: &str| format!("---\n{{apiVersion: v1, kind: Node, metadata: {{name: {name}}}}}\n");
    // Nothing says that edge-1 is a node.
    assert_eq!(here("", "one"), [true, true, true]);
    assert_eq!(here(&node("other"), "one"), [true, true, true]);
    // An endpoint is on it, or it is among the nodes.
    assert_eq!(here("", "edge-1"), [true, false, false]);
    assert_eq!(here(&node("edge-1"), "one"), [false, false, false]);
}

#[test]
fn without_the_l4_plane_nothing_is_exposed() {
    let spec = "type: LoadBalancer, ports: [{port: 80, nodePort: 1}], loadBalancerIP: x, \
                externalIPs: [y], sessionAffinity: z";
    let found = fixture::alb(&manifest("tidegate.io/visibility: x, tidegate.io/y: z", spec));
    assert_eq!(found.messages(), [] as [String; 0]);
    let service = found.service("web");
    assert!(service.exposure.is_none() && service.ports[0].node_port.is_none());
    assert!(service.ports[0].endpoints[0].local);
}

#[test]
fn an_exposed_service_without_slices_is_named() {
    let found = l4("{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {type: \
                    LoadBalancer, ports: [{port: 80}]}}");
    let message = found.only();
    assert!(message.contains("has no EndpointSlice; connections from outside are rejected"));
    assert!(message.contains("kubernetes.io/service-name: web"), "{message}");
}

#[test]
fn the_example_of_a_load_balancer_is_read() {
    let found = l4(&manifest(
        "tidegate.io/visibility: public, tidegate.io/pool: portable-public, \
         tidegate.io/addresses: 198.51.100.20, tidegate.io/sharing-key: web, \
         tidegate.io/algorithm: maglev",
        "type: LoadBalancer, selector: {app: web}, ports: [{name: \"\", port: 80, targetPort: \
         8080, nodePort: 30080, protocol: TCP}]",
    ));
    assert_eq!(found.messages(), [] as [String; 0]);
    let service = found.service("web");
    assert_eq!(service.ports[0].node_port, Some(30080));
    let exposure = service.exposure.as_ref().unwrap();
    assert!(exposure.load_balancer && exposure.refused.is_none());
    assert_eq!(exposure.visibility, Visibility::Public);
    assert_eq!(exposure.pool.as_deref(), Some("portable-public"));
    assert_eq!(exposure.requested[0].field, "metadata.annotations[\"tidegate.io/addresses\"]");
    assert_eq!(exposure.labels["app"], "web");
    assert_eq!(exposure.location.as_ref().unwrap().line, 1);
}

#[test]
fn a_load_balancer_that_is_being_deleted_gets_no_vip_and_its_node_ports_stay() {
    let found = l4("{apiVersion: v1, kind: Service, metadata: {name: web, deletionTimestamp: \
                    \"2026-01-01T00:00:00Z\", annotations: {tidegate.io/pool: public}}, spec: \
                    {type: LoadBalancer, ports: [{port: 80, nodePort: 30080}]}}\n---\n{apiVersion: \
                    discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: web, labels: \
                    {kubernetes.io/service-name: web}}, addressType: IPv4, endpoints: [], ports: []}");
    assert_eq!(found.messages(), [] as [String; 0]);
    let service = found.service("web");
    assert_eq!(service.ports[0].node_port, Some(30080));
    let exposure = service.exposure.as_ref().unwrap();
    assert!(!exposure.load_balancer && exposure.refused.is_none());
}
