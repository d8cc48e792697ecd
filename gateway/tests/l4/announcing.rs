//! How the network learns where a VIP is, and how one that is somewhere else is left alone.

use testkit::eventually;
use testkit::lab::Capture;
use testkit::manifest::Exposed;

use crate::{Edge, vip, vip_v6, web, web_on};

#[test]
fn taken_vip_is_announced_by_gratuitous_arp_more_than_once() {
    let edge = Edge::start(&[web_on(&[1]).yaml()]);
    let capture = Capture::start(edge.client(), "c0", "arp");
    edge.gateway.apply("web.yaml", web().yaml());
    eventually("two announcements", || {
        let lines = capture.lines();
        let gratuitous = |line: &&String| {
            line.contains("198.51.100.20 is-at")
                || line.contains("who-has 198.51.100.20") && line.contains("tell 198.51.100.20")
        };
        (lines.iter().filter(gratuitous).count() >= 2).then_some(())
    });
    edge.client().answer(vip(20, 80));
}

#[test]
fn taken_ipv6_vip_is_announced_by_unsolicited_advertisement() {
    let edge = Edge::start(&[web_on(&[1]).yaml()]);
    let capture = Capture::start(edge.client(), "c0", "icmp6");
    let service = Exposed::load_balancer("web").tcp(80).at("2001:db8:2::11");
    edge.gateway.apply("web.yaml", service.spec("ipFamilies: [IPv6]").yaml());
    capture.wait_for(&["neighbor advertisement", "2001:db8:2::11"]);
}

#[test]
fn neighbour_that_knew_another_place_learns_the_new_one() {
    let edge = Edge::start(&[web_on(&[1]).yaml()]);
    edge.client().ip("neigh replace 198.51.100.20 lladdr 02:00:00:00:00:99 dev c0 nud stale\n");
    edge.gateway.apply("web.yaml", web().yaml());
    eventually("the neighbour entry is the edge's", || {
        let entry = edge.client().command("ip", &["neigh", "show", "198.51.100.20", "dev", "c0"]);
        (!entry.contains("02:00:00:00:00:99")).then_some(())
    });
    edge.client().answer(vip(20, 80));
}

#[test]
fn address_that_another_machine_has_is_refused_and_taken_once_it_is_free() {
    let edge = Edge::start(&[web_on(&[1]).yaml()]);
    edge.client().ip("addr add 198.51.100.20/32 dev c0\n");
    edge.gateway.apply("web.yaml", web().yaml());
    edge.diagnostic("web", "", &["198.51.100.20"]);
    assert!(!edge.edge().has_address(vip(20, 80).ip()));
    edge.client().ip("addr del 198.51.100.20/32 dev c0\n");
    eventually("the edge has the address", || {
        edge.edge().has_address(vip(20, 80).ip()).then_some(())
    });
    assert_eq!(edge.client().answer(vip(20, 80)).server, "one");
}

#[test]
fn ipv6_address_that_another_machine_has_is_refused() {
    let edge = Edge::start(&[]);
    edge.client().ip("addr add 2001:db8:2::11/128 dev c0 nodad\n");
    let service = Exposed::load_balancer("web").tcp(80).at(vip_v6(0x11, 80).ip());
    edge.gateway.apply("web.yaml", service.spec("ipFamilies: [IPv6]").yaml());
    edge.diagnostic("web", "", &["2001:db8:2::11"]);
    assert!(!edge.edge().has_address(vip_v6(0x11, 80).ip()));
}
