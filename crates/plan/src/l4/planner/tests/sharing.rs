use model::snapshot::Requested;

use super::super::super::Frontend;
use super::*;

fn shares(world: &mut World, name: &str, number: u16) {
    world.service(name).ports = vec![port(Protocol::Tcp, number)];
    world.exposure(name).sharing_key = Some("web".into());
}

fn asks(world: &mut World, name: &str, address: &str) {
    world.exposure(name).requested =
        vec![Requested { address: ip(address), field: "spec.loadBalancerIP".into() }];
}

#[test]
fn one_key_and_different_ports_share_an_address() {
    let mut world = World::with_pool(&["192.0.2.0/29"]);
    shares(&mut world, "a", 80);
    shares(&mut world, "b", 443);
    world.service("alone");
    world.exposure("other").sharing_key = Some("x".into());
    // The same port of another protocol.
    shares(&mut world, "c", 0);
    world.service("c").ports = vec![port(Protocol::Udp, 443)];
    let foreign = world.service("a").clone();
    world.snapshot.services.insert(ObjectKey::new("elsewhere", "a"), foreign.into());
    let addresses = world.addresses();
    let has: Vec<&str> = addresses.values().map(String::as_str).collect();
    let names: Vec<&str> = addresses.keys().map(String::as_str).collect();
    assert_eq!(names, ["a", "alone", "b", "c", "elsewhere/a", "other"]);
    assert_eq!(has, ["192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.1", "192.0.2.0", "192.0.2.3"]);
    let (plan, diagnostics) = world.plan();
    assert_eq!((plan.vips.len(), plan.pools["public"].used), (4, 4));
    assert_eq!(diagnostics, []);
}

#[test]
fn who_finds_no_room_gets_another_address_unless_it_asks_for_that_one() {
    let mut world = World::with_pool(&["192.0.2.0/29"]);
    shares(&mut world, "a", 80);
    shares(&mut world, "b", 80);
    let (service, diagnostics) = world.planned("b");
    assert_eq!(service.addresses, [ip("192.0.2.1")]);
    assert_eq!(
        diagnostics,
        ["warning: Service shop/b: spec.ports[0].port: 192.0.2.0 can't be shared: Service shop/a \
          has TCP port 80 of it already; this one has 192.0.2.1 of its own; give them different \
          ports, or remove the sharing key"]
    );
    asks(&mut world, "b", "192.0.2.0");
    let (service, diagnostics) = world.planned("b");
    assert_eq!(service.addresses, [] as [IpAddr; 0]);
    assert!(
        diagnostics[0].starts_with("error: Service shop/b: spec.loadBalancerIP \"192.0.2.0\": can't be shared: Service shop/a has TCP port 80 of it already"),
        "{diagnostics:?}"
    );
    world.service("b").ports = vec![port(Protocol::Tcp, 81)];
    assert_eq!(world.planned("b").0.addresses, [ip("192.0.2.0")]);
}

#[test]
fn different_traffic_policies_do_not_begin_to_share() {
    let mut world = World::with_pool(&["192.0.2.0/29"]);
    shares(&mut world, "a", 80);
    shares(&mut world, "b", 443);
    world.exposure("b").local_only = true;
    let (service, diagnostics) = world.planned("b");
    assert_eq!(service.addresses, [ip("192.0.2.1")]);
    assert!(diagnostics[0].contains("spec.externalTrafficPolicy: 192.0.2.0 can't be shared"));
    asks(&mut world, "b", "192.0.2.0");
    let (_, diagnostics) = world.planned("b");
    let remedy = "ask for another one, or give both the same externalTrafficPolicy";
    assert!(diagnostics[0].ends_with(remedy), "{diagnostics:?}");
    // Those that share already go on to.
    world.snapshot.services.clear();
    world.plan();
    shares(&mut world, "a", 80);
    shares(&mut world, "b", 443);
    world.plan();
    world.exposure("b").local_only = true;
    assert_eq!(world.planned("b").0.addresses, [ip("192.0.2.0")]);
}

#[test]
fn a_port_that_begins_to_clash_is_the_older_services() {
    let mut world = World::with_pool(&["192.0.2.0/29"]);
    shares(&mut world, "young", 80);
    shares(&mut world, "old", 443);
    world.exposure("old").created = Some(1);
    world.plan();
    world.service("young").ports.push(port(Protocol::Tcp, 443));
    let (service, diagnostics) = world.planned("young");
    assert_eq!(service.addresses, [ip("192.0.2.0")]);
    assert_eq!(service.ports[0].frontends, [Frontend::Vip("192.0.2.0:80".parse().unwrap())]);
    assert_eq!(service.ports[1].frontends, []);
    assert!(
        diagnostics[0].starts_with("error: Service shop/young: spec.ports[1].port \"443\": 192.0.2.0: Service shop/old has TCP port 443 of it already"),
        "{diagnostics:?}"
    );
}

#[test]
fn of_two_who_no_longer_share_the_one_that_changed_moves() {
    let mut world = World::with_pool(&["192.0.2.0/29"]);
    shares(&mut world, "a", 80);
    shares(&mut world, "b", 443);
    world.plan();
    world.exposure("a").sharing_key = None;
    let addresses = world.addresses();
    assert_eq!((addresses["a"].as_str(), addresses["b"].as_str()), ("192.0.2.1", "192.0.2.0"));
}

#[test]
fn one_port_is_shared_by_tls_names() {
    let mut world = World::with_pool(&["192.0.2.0/29"]);
    for (name, host) in [("a", "a.test"), ("b", "b.test"), ("c", "a.test")] {
        shares(&mut world, name, 443);
        world.exposure(name).stream.sni_hosts = vec![host.into()];
    }
    let (plan, diagnostics) = world.plan();
    let vip = Frontend::Vip("192.0.2.0:443".parse().unwrap());
    assert_eq!(plan.services[0].ports[0].frontends, [vip]);
    assert_eq!(plan.services[1].ports[0].frontends, [vip]);
    assert_eq!(plan.services[2].addresses, [ip("192.0.2.1")]);
    assert!(
        texts(&diagnostics)[0].contains("sni-hosts\"]: 192.0.2.0 can't be shared: Service shop/a has a.test on TCP port 443 of it already"),
        "{diagnostics:?}"
    );
    asks(&mut world, "c", "192.0.2.0");
    let (_, diagnostics) = world.planned("c");
    let remedy = "ask for another one, or give them different tidegate.io/sni-hosts";
    assert!(diagnostics[0].ends_with(remedy), "{diagnostics:?}");
}
