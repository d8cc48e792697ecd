//! `sessionAffinity: ClientIP`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use testkit::{Lab, eventually};

use crate::{Edge, edge_at, vip, web, web_on};

/// How many connections are asked where all must have the same answer.
const MANY: usize = 12;

fn sticky(seconds: u32) -> testkit::manifest::Exposed {
    web().spec(&format!(
        "sessionAffinity: ClientIP\nsessionAffinityConfig: {{clientIP: {{timeoutSeconds: {seconds}}}}}"
    ))
}

/// Who has answered that many connections.
fn servers(edge: &Edge) -> BTreeSet<String> {
    (0..MANY).map(|_| edge.client().ask(vip(20, 80)).unwrap().server).collect()
}

#[test]
fn client_stays_with_its_endpoint() {
    let edge = Edge::start(&[sticky(600).yaml(), web_on(&[1, 2]).yaml()]);
    let server = edge.client().answer(vip(20, 80)).server;
    assert_eq!(servers(&edge), BTreeSet::from([server.clone()]));
    // Also when an endpoint joins.
    edge.gateway.apply("all.yaml", sticky(600).yaml() + &web_on(&[1, 2, 3]).yaml());
    edge.wait_for_endpoint(Lab::backend_address(3), 8080, true);
    assert_eq!(servers(&edge), BTreeSet::from([server]));
}

#[test]
fn node_ports_and_vips_have_affinity() {
    let service = sticky(600).without_ports().tcp_node_port(80, 30080);
    let edge = Edge::start(&[service.yaml(), web_on(&[1, 2, 3]).yaml()]);
    let server = edge.client().answer(edge_at(30080)).server;
    for _ in 0..MANY {
        assert_eq!(edge.client().ask(edge_at(30080)).unwrap().server, server);
    }
}

#[test]
fn client_whose_endpoint_is_gone_is_given_another() {
    let edge = Edge::start(&[sticky(600).yaml(), web_on(&[1, 2, 3]).yaml()]);
    let server = edge.client().answer(vip(20, 80)).server;
    let rest: Vec<u8> = (1_u8..)
        .zip(["one", "two", "three"])
        .filter(|(_, name)| *name != server)
        .map(|(number, _)| number)
        .collect();
    edge.gateway.apply("all.yaml", sticky(600).yaml() + &web_on(&rest).yaml());
    let other = edge.client().answer_by(vip(20, 80), |answer| answer.server != server).server;
    assert_eq!(servers(&edge), BTreeSet::from([other]));
}

#[test]
fn affinity_ends_after_its_timeout() {
    let edge = Edge::start(&[sticky(1).yaml(), web_on(&[1, 2, 3]).yaml()]);
    let mut server = edge.client().answer(vip(20, 80)).server;
    // One in three stays by chance.
    for _ in 0..8 {
        let asked = Instant::now();
        eventually("a second and a bit", || {
            (asked.elapsed() > Duration::from_millis(1200)).then_some(())
        });
        let next = edge.client().ask(vip(20, 80)).unwrap().server;
        if next != server {
            return;
        }
        server = next;
    }
    panic!("always the same endpoint although affinity has ended");
}

#[test]
fn affinity_is_per_client() {
    let edge = Edge::start(&[sticky(600).yaml(), web_on(&[1, 2, 3]).yaml()]);
    edge.client().answer(vip(20, 80));
    // Twelve clients: by chance they are all sent to one in 3^11 runs.
    let lines: String =
        (100..112).map(|last| format!("addr add 203.0.113.{last}/24 dev c0\n")).collect();
    edge.client().ip(&lines);
    let mut all = BTreeSet::new();
    for last in 100..112 {
        let from = std::net::IpAddr::from([203, 0, 113, last]);
        let first = edge.client().ask_from(from, vip(20, 80)).unwrap().server;
        assert_eq!(edge.client().ask_from(from, vip(20, 80)).unwrap().server, first);
        all.insert(first);
    }
    assert!(all.len() > 1, "{all:?}");
}
