//! VIPs that nobody announces: the machine has them by local routes.

use std::time::{Duration, Instant};

use testkit::manifest::{Exposed, Slice, pool};
use testkit::{Lab, eventually};

use crate::{Edge, builder};

/// Which the client's default route leads to.
fn unannounced() -> String {
    pool("routed", &["192.0.2.0/29", "2001:db8:9::/125"], "announce: none")
}

/// A Service at 192.0.2.x.
fn service(last: u8) -> Exposed {
    Exposed::load_balancer(&format!("s{last}")).tcp(80).at(routed(last).ip())
}

fn slice(last: u8) -> Slice {
    Slice::of(&format!("s{last}")).tcp(80, 8080).ready(Lab::backend_address(1))
}

fn services(lasts: impl IntoIterator<Item = u8>) -> String {
    let each = |last| service(last).yaml() + &slice(last).yaml();
    lasts.into_iter().map(each).collect()
}

fn routed(last: u8) -> std::net::SocketAddr {
    ([192, 0, 2, last], 80).into()
}

fn start(manifests: &[String]) -> Edge {
    Edge::start_with(builder().manifest("routed.yaml", unannounced()), manifests)
}

impl Edge {
    #[track_caller]
    fn local_routes(&self) -> String {
        let arguments = ["-4", "route", "show", "table", "local", "proto", "84"];
        let text = self.edge().command("ip", &arguments);
        let routes: Vec<&str> = text.lines().filter_map(|line| line.split(' ').nth(1)).collect();
        routes.join(" ")
    }

    #[track_caller]
    fn has_local_routes(&self, expected: &str) {
        eventually(&format!("local routes {expected}"), || {
            (self.local_routes() == expected).then_some(())
        });
    }
}

#[test]
fn they_are_held_by_few_routes_and_serve() {
    let edge = start(&[services(0..=4)]);
    edge.has_local_routes("192.0.2.0/30 192.0.2.4");
    (0..=4).for_each(|last| _ = edge.client().answer(routed(last)));
    assert!(!edge.edge().has_address(routed(1).ip()));
    edge.gateway.apply("all.yaml", services(1..=5));
    edge.has_local_routes("192.0.2.1 192.0.2.2/31 192.0.2.4/31");
    (1..=5).for_each(|last| _ = edge.client().answer(routed(last)));
    edge.gateway.remove("all.yaml");
    edge.has_local_routes("");
}

#[test]
fn user_space_listens_on_them() {
    let in_user_space = |last| {
        let service = service(last).tidegate("algorithm", "least-connections");
        service.yaml() + &slice(last).yaml()
    };
    let edge = start(&[in_user_space(2) + &in_user_space(3)]);
    edge.has_local_routes("192.0.2.2/31");
    edge.client().answer(routed(2));
    edge.client().answer(routed(3));
}

#[test]
fn kill_leaves_them_and_the_next_start_takes_over() {
    let mut edge = start(&[services(0..=3)]);
    edge.client().answer(routed(3));
    edge.has_local_routes("192.0.2.0/30");
    edge.gateway.kill();
    edge.client().answer(routed(3));
    edge.gateway.apply("all.yaml", services(0..=1));
    edge.gateway.start_again();
    edge.has_local_routes("192.0.2.0/31");
    edge.client().answer(routed(1));
}

#[test]
fn addresses_that_an_older_version_has_put_on_loopback_become_routes() {
    let mut edge = start(&[services(0..=3)]);
    edge.client().answer(routed(3));
    edge.gateway.kill();
    edge.edge()
        .ip("route del local 192.0.2.0/30 dev lo table local\naddr add 192.0.2.7/32 dev lo\n");
    edge.edge().run(|| {
        for last in [2, 3] {
            netdev::address::add("lo", routed(last).ip()).unwrap();
        }
    });
    edge.gateway.apply("all.yaml", services(1..=2));
    edge.gateway.start_again();
    edge.has_local_routes("192.0.2.1 192.0.2.2");
    eventually("none is left on lo", || {
        let is_there = |last: &u8| edge.edge().has_address(routed(*last).ip());
        (![2, 3].iter().any(is_there)).then_some(())
    });
    edge.client().answer(routed(2));
    // One of somebody else's.
    assert!(edge.edge().has_address(routed(7).ip()));
}

#[test]
fn removed_route_comes_back() {
    let edge = start(&[services(0..=3)]);
    edge.client().answer(routed(3));
    edge.has_local_routes("192.0.2.0/30");
    edge.edge().ip("route del local 192.0.2.0/30 dev lo table local\n");
    let gone = Instant::now();
    edge.has_local_routes("192.0.2.0/30");
    assert!(gone.elapsed() < Duration::from_millis(1500), "after {:?}", gone.elapsed());
    edge.client().answer(routed(3));
}

#[test]
fn clean_stop_removes_them_where_configured() {
    let removing = testkit::Gateway::builder(env!("CARGO_BIN_EXE_gateway"))
        .config(
            "l4: {enabled: true, onStop: remove, interfaces: {public: [pub0], private: [priv0]}}",
        )
        .manifest("routed.yaml", unannounced());
    let mut edge = Edge::start_with(removing, &[services(0..=2)]);
    edge.has_local_routes("192.0.2.0/31 192.0.2.2");
    edge.gateway.terminate();
    assert!(edge.gateway.wait().success());
    assert_eq!(edge.local_routes(), "");
}
