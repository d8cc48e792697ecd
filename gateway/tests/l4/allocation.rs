//! Which addresses Services get, and for how long.

use testkit::manifest::{Exposed, Slice, pool};
use testkit::{Lab, eventually};

use crate::{Edge, vip, web, web_on};

fn service(name: &str, backend: u8) -> String {
    let slice = Slice::of(name).tcp(80, 8080).ready(Lab::backend_address(backend));
    Exposed::load_balancer(name).tcp(80).yaml() + &slice.yaml()
}

fn small_pool() -> String {
    pool("portable-public", &["198.51.100.20"], "")
}

#[test]
fn exhausted_pool_leaves_a_service_pending_until_an_address_is_free() {
    let edge = Edge::start(&[]);
    edge.gateway.apply("pool.yaml", small_pool());
    edge.gateway.apply("all.yaml", service("a", 1));
    edge.client().answer_by(vip(20, 80), |answer| answer.server == "one");
    edge.gateway.apply("b.yaml", service("b", 2));
    edge.diagnostic("b", "", &["portable-public"]);
    assert_eq!(edge.client().ask(vip(20, 80)).unwrap().server, "one");
    edge.gateway.remove("all.yaml");
    edge.client().answer_by(vip(20, 80), |answer| answer.server == "two");
}

#[test]
fn address_stays_with_its_service_over_a_restart_and_new_services() {
    let mut edge = Edge::start(&[service("m", 1)]);
    let address = edge.address_of("m");
    edge.client().answer((address, 80).into());
    edge.gateway.terminate();
    edge.gateway.wait();
    // Each of them would come first if it were given out anew.
    edge.gateway.apply("a.yaml", service("a", 2));
    edge.gateway.apply("b.yaml", service("b", 3));
    edge.gateway.start_again();
    assert_eq!(edge.address_of("m"), address);
    assert_ne!(edge.address_of("a"), address);
    assert_eq!(edge.client().answer((address, 80).into()).server, "one");
}

#[test]
fn reserved_addresses_are_not_given_away() {
    let services: String =
        ["a", "b", "c", "d", "e", "f"].iter().map(|name| service(name, 1)).collect();
    let edge = Edge::start(&[services]);
    // .18 to .22 are free: five.
    let pending = eventually("five have addresses", || {
        let mut with: Vec<String> = Vec::new();
        let mut without = Vec::new();
        for name in ["a", "b", "c", "d", "e", "f"] {
            let service = edge.service(name);
            let addresses = service.get("addresses")?.as_array()?;
            match addresses.iter().find(|address| !address.to_string().contains(':')) {
                Some(address) => with.push(address.as_str()?.to_owned()),
                None => without.push(name),
            }
        }
        with.sort();
        (with.len() == 5).then(|| {
            assert_eq!(with, (18..23).map(|n| format!("198.51.100.{n}")).collect::<Vec<_>>());
            without
        })
    });
    assert_eq!(pending.len(), 1);
}

#[test]
fn requested_address_is_given_and_load_balancer_ip_too() {
    let by_field = Exposed::load_balancer("other").tcp(80).spec("loadBalancerIP: 198.51.100.22");
    let slice = Slice::of("other").tcp(80, 8080).ready(Lab::backend_address(2));
    let edge = Edge::start(&[web().yaml(), web_on(&[1]).yaml(), by_field.yaml(), slice.yaml()]);
    assert_eq!(edge.client().answer(vip(20, 80)).server, "one");
    assert_eq!(edge.client().answer(vip(22, 80)).server, "two");
}

#[test]
fn service_of_another_class_is_left_alone() {
    let other = Exposed::load_balancer("other").tcp(80).spec("loadBalancerClass: example.com/lb");
    let slice = Slice::of("other").tcp(80, 8080).ready(Lab::backend_address(2));
    let edge = Edge::start(&[service("web", 1), other.yaml(), slice.yaml()]);
    edge.address_of("web");
    let found = edge.service("other");
    let addresses = found.get("addresses").and_then(|it| it.as_array());
    assert!(addresses.is_none_or(Vec::is_empty), "{found}");
}

#[test]
fn private_service_takes_from_a_private_pool_on_the_private_interface() {
    let private = pool("portable-private", &["10.9.0.0/28"], "visibility: private");
    let service = Exposed::load_balancer("web").tcp(80).tidegate("visibility", "private");
    let edge = Edge::start(&[private, service.yaml(), web_on(&[2]).yaml()]);
    let address = edge.address_of("web");
    assert!(address.to_string().starts_with("10.9.0."), "{address}");
    assert_eq!(edge.lab.backend(1).answer((address, 80).into()).server, "two");
    let shown = edge.edge().command("ip", &["-o", "addr", "show", "dev", "priv0"]);
    assert!(shown.contains(&format!("{address}/")), "{shown}");
}
