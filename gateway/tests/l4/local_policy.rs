//! `externalTrafficPolicy: Local` and its health port.

use std::net::TcpStream;

use testkit::manifest::{Exposed, Slice};
use testkit::{Lab, eventually, get};

use crate::{Edge, edge_at, vip, web, web_slice};

const HEALTH: u16 = 32_000;

/// The edge is a node of the cluster.
fn node() -> String {
    "apiVersion: v1\nkind: Node\nmetadata: {name: edge-1}\n---\n".to_owned()
}

fn local() -> Exposed {
    web().spec(&format!("externalTrafficPolicy: Local\nhealthCheckNodePort: {HEALTH}"))
}

/// Backend 1 on the edge's own node, 2 on another.
fn nodes() -> Slice {
    web_slice().ready_on(Lab::backend_address(1), "edge-1").ready_on(Lab::backend_address(2), "n2")
}

/// Status and body of the health port.
fn health(edge: &Edge) -> Option<(u16, serde_json::Value)> {
    edge.client().run(|| {
        drop(TcpStream::connect(edge_at(HEALTH)).ok()?);
        let response = get(edge_at(HEALTH), "edge", "/");
        Some((response.status, serde_json::from_str(&response.text()).ok()?))
    })
}

#[track_caller]
fn health_becomes(edge: &Edge, status: u16, endpoints: u64) {
    eventually(&format!("the health port says {status}"), || {
        let (found, body) = health(edge)?;
        let count = body.get("localEndpoints")?.as_u64()?;
        (found == status && count == endpoints).then(|| {
            let service = body.get("service").unwrap();
            assert_eq!(service.get("namespace").unwrap(), "shop");
            assert_eq!(service.get("name").unwrap(), "web");
        })
    });
}

#[test]
fn only_endpoints_of_the_own_node_are_used_and_health_is_told() {
    let edge = Edge::start(&[node(), local().yaml(), nodes().yaml()]);
    edge.client().answer(vip(20, 80));
    for _ in 0..12 {
        let answer = edge.client().ask(vip(20, 80)).unwrap();
        assert_eq!((answer.server.as_str(), answer.client.ip()), ("one", Lab::client_address(0)));
    }
    health_becomes(&edge, 200, 1);
}

#[test]
fn without_local_endpoints_connections_are_dropped_and_health_is_503() {
    let remote = web_slice().ready_on(Lab::backend_address(2), "n2");
    let edge = Edge::start(&[node(), local().yaml(), remote.yaml()]);
    health_becomes(&edge, 503, 0);
    edge.client().silent(vip(20, 80));
    edge.gateway.apply("all.yaml", [node(), local().yaml(), nodes().yaml()].concat());
    health_becomes(&edge, 200, 1);
    assert_eq!(edge.client().answer(vip(20, 80)).server, "one");
}

#[test]
fn terminating_local_endpoint_is_the_fallback_and_fails_the_health_check() {
    let keys = "conditions: {ready: false, serving: true, terminating: true}, nodeName: edge-1";
    let slice =
        web_slice().endpoint(Lab::backend_address(1), keys).ready_on(Lab::backend_address(2), "n2");
    let edge = Edge::start(&[node(), local().yaml(), slice.yaml()]);
    assert_eq!(edge.client().answer(vip(20, 80)).server, "one");
    health_becomes(&edge, 503, 0);
}

#[test]
fn change_of_policy_is_followed_and_the_health_port_closes() {
    let edge = Edge::start(&[node(), local().yaml(), nodes().yaml()]);
    health_becomes(&edge, 200, 1);
    let cluster = web().spec("externalTrafficPolicy: Cluster");
    edge.gateway.apply("all.yaml", [node(), cluster.yaml(), nodes().yaml()].concat());
    edge.client().answer_by(vip(20, 80), |answer| answer.server == "two");
    edge.client().refused(edge_at(HEALTH));
}

#[test]
fn gateway_that_is_no_node_of_the_cluster_uses_all_endpoints() {
    let (one, two) = (Lab::backend_address(1), Lab::backend_address(2));
    let slice = web_slice().ready_on(one, "n1").ready_on(two, "n2");
    let edge = Edge::start(&[local().yaml(), slice.yaml()]);
    edge.client().answer_by(vip(20, 80), |answer| answer.server == "two");
    edge.client().answer_by(vip(20, 80), |answer| answer.server == "one");
}
