//! What the operator sees of a gateway with the L4 plane: findings, counters, its state.

use std::fs;

use testkit::eventually;

use crate::{Edge, builder, vip, web, web_on};

#[test]
fn broken_state_file_is_kept_and_named_while_the_kernel_forwards_on() {
    let mut edge = Edge::start(&[web().yaml(), web_on(&[1]).yaml()]);
    edge.client().answer(vip(20, 80));
    edge.gateway.kill();
    let file = edge.gateway.folder().join("state/allocations.json");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("198.51.100.20"), "{text}");
    let torn = &text[..text.len() / 2];
    fs::write(&file, torn).unwrap();
    edge.gateway.start_again();
    edge.diagnostic("gateway", "l4.enabled", &["allocations.json", "put back a copy"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), torn);
    assert_eq!(edge.client().ask(vip(20, 80)).unwrap().server, "one");
}

#[test]
fn connections_and_bytes_are_counted_and_no_flush_turns_them_back() {
    // With an affinity, whose rules nft writes as plain text in its JSON.
    let service = web().spec("sessionAffinity: ClientIP").yaml();
    let edge = Edge::start(&[service, web_on(&[1]).yaml()]);
    let labels = [("namespace", "shop"), ("service", "web"), ("protocol", "TCP"), ("port", "80")];
    let connections =
        || edge.gateway.metric("tidegate_l4_service_connections_total", &labels) as u64;
    edge.client().answer(vip(20, 80));
    let before = eventually("a connection is counted", || Some(connections()).filter(|n| *n > 0));
    for _ in 0..3 {
        edge.client().ask(vip(20, 80)).unwrap();
    }
    let after = eventually("three more", || Some(connections()).filter(|n| *n >= before + 3));
    assert!(edge.gateway.metric("tidegate_l4_service_bytes_total", &labels) > 100.0);
    edge.edge().command("nft", &["flush", "ruleset"]);
    let repairs = || edge.gateway.metric("tidegate_l4_drift_repairs_total", &[]);
    eventually("the flush is undone", || (repairs() >= 1.0).then_some(()));
    edge.client().answer(vip(20, 80));
    eventually("and counted on", || (connections() > after).then_some(()));
    assert_eq!(edge.gateway.metric("tidegate_pool_addresses_used", &[]), 1.0);
}

#[test]
fn interface_that_is_missing_is_named_and_its_vips_are_taken_once_it_appears() {
    let missing = testkit::Gateway::builder(env!("CARGO_BIN_EXE_gateway"))
        .config("l4: {enabled: true, interfaces: {public: [later0], private: [priv0]}}");
    let edge = Edge::start_with(missing, &[web().yaml(), web_on(&[1]).yaml()]);
    edge.diagnostic("web", "", &["l4.interfaces.public", "later0", "198.51.100.20"]);
    // The rules are there, so whoever routes to the edge is served all the same.
    assert!(!edge.edge().has_address(vip(20, 80).ip()));
    edge.edge().ip("link set pub0 down\nlink set pub0 name later0\nlink set later0 up\n");
    eventually("the edge has the address", || {
        edge.edge().has_address(vip(20, 80).ip()).then_some(())
    });
    eventually("nothing is wrong any more", || {
        let findings = edge.gateway.admin_get("/api/v1/diagnostics").text();
        (!findings.contains("later0")).then_some(())
    });
    edge.client().answer(vip(20, 80));
}

#[test]
fn services_are_served_without_any_alb() {
    let edge =
        Edge::start_with(builder().alb("enabled: false"), &[web().yaml(), web_on(&[1]).yaml()]);
    assert_eq!(edge.client().answer(vip(20, 80)).server, "one");
}

#[test]
fn second_gateway_in_the_same_network_has_no_l4_plane_and_its_alb_serves() {
    let edge = Edge::start(&[web().yaml(), web_on(&[1]).yaml()]);
    edge.client().answer(vip(20, 80));
    let rules = edge.rules();
    // Another state, and nothing wanted: it would take the address off.
    let second = edge.lab.start(builder());
    let found = second.admin_get("/api/v1/diagnostics").text();
    assert!(found.contains("another gateway has the L4 plane"), "{found}");
    assert_eq!(second.get("shop.example.com", "/").status, 404);
    assert_eq!(edge.rules(), rules);
    assert_eq!(edge.client().ask(vip(20, 80)).unwrap().server, "one");
    drop(edge.gateway);
    // Its place is free, whatever way it ended.
    let third = edge.lab.start(builder());
    let found = third.admin_get("/api/v1/diagnostics").text();
    assert!(!found.contains("another gateway"), "{found}");
}
