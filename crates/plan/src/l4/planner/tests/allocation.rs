use model::Visibility;
use model::snapshot::{Dual, Families, Requested};

use super::*;

fn requested(address: &str) -> Requested {
    Requested { address: ip(address), field: "spec.loadBalancerIP".into() }
}

#[test]
fn an_address_stays_over_change_of_ports_and_order_and_is_given_back_at_the_end() {
    let mut world = World::with_pool(&["192.0.2.0/29"]);
    world.service("b");
    world.service("c");
    assert_eq!(world.addresses()["b"], "192.0.2.0");
    world.service("a");
    world.exposure("c").created = Some(1);
    world.service("b").ports = vec![port(Protocol::Udp, 53)];
    let addresses = world.addresses();
    let has: Vec<&str> = addresses.values().map(String::as_str).collect();
    assert_eq!(has, ["192.0.2.2", "192.0.2.0", "192.0.2.1"]);
    world.snapshot.services.remove(&ObjectKey::new("shop", "b"));
    assert_eq!(world.addresses().get("b"), None);
    world.service("d");
    assert_eq!(world.addresses()["d"], "192.0.2.0");
}

#[test]
fn a_service_that_changes_its_type_finds_its_address_when_it_comes_back() {
    let mut world = World::with_pool(&["192.0.2.0/31"]);
    world.service("a");
    world.service("b");
    let before = world.addresses();
    world.service("waits");
    world.exposure("asks").requested = vec![requested("192.0.2.0")];
    let cluster_ip = |service: &mut Service| service.exposure = None;
    let node_port = |service: &mut Service| {
        service.exposure = Some(Box::default());
    };
    let broken = |service: &mut Service| {
        (service.exposure, service.broken) = (None, Some("its ports are none".into()));
    };
    let load_balancer = world.service("a").clone();
    for change in [&cluster_ip as &dyn Fn(&mut Service), &node_port, &cluster_ip, &broken] {
        change(world.service("a"));
        let (plan, diagnostics) = world.plan();
        assert_eq!(world.addresses(), before);
        assert_eq!(plan.vips.iter().map(|vip| vip.address).collect::<Vec<_>>(), [ip("192.0.2.1")]);
        assert_eq!((plan.pools["public"].capacity, plan.pools["public"].used), (2, 2));
        let own = plan.services.iter().find(|service| service.service.name == "a");
        assert!(
            own.is_none_or(|own| own.addresses.is_empty() && own.ports[0].frontends.is_empty())
        );
        let text = texts(&diagnostics).join("\n");
        assert!(text.contains("Service shop/waits: spec.type \"LoadBalancer\": no address is free in AddressPool public (2 of 2 in use)"), "{text}");
        assert!(text.contains("Service shop/asks: spec.loadBalancerIP \"192.0.2.0\": is reserved for Service shop/a,"), "{text}");
    }
    *world.service("a") = load_balancer;
    assert_eq!(world.addresses(), before);
    assert_eq!(world.plan().0.vips.len(), 2);
    cluster_ip(world.service("a"));
    world.plan();
    world.snapshot.services.remove(&ObjectKey::new("shop", "a"));
    assert_eq!(world.addresses()["asks"], "192.0.2.0");
}

#[test]
fn who_shares_with_a_service_that_changes_its_type_goes_on_to() {
    let mut world = World::with_pool(&["192.0.2.0/31"]);
    for (name, number) in [("a", 80), ("b", 443)] {
        world.exposure(name).sharing_key = Some("web".into());
        world.service(name).ports = vec![port(Protocol::Tcp, number)];
    }
    let before = world.addresses();
    let load_balancer = world.service("a").clone();
    world.service("a").exposure = None;
    let (plan, _) = world.plan();
    assert_eq!((plan.vips.len(), plan.pools["public"].used), (1, 1));
    assert_eq!(plan.allocations.services["shop/a"], [ip("192.0.2.0")]);
    *world.service("a") = load_balancer;
    assert_eq!(world.addresses(), before);
}

#[test]
fn older_services_come_first_and_those_that_ask_before_them() {
    let mut world = World::with_pool(&["192.0.2.0/30"]);
    world.exposure("a").created = None;
    world.exposure("b").created = Some(20);
    world.exposure("c").created = Some(10);
    world.exposure("d").requested = vec![requested("192.0.2.0")];
    let addresses = world.addresses();
    let has: Vec<&str> = addresses.values().map(String::as_str).collect();
    assert_eq!(has, ["192.0.2.3", "192.0.2.2", "192.0.2.1", "192.0.2.0"]);
}

#[test]
fn held_addresses_of_the_status_are_taken_over_where_they_are_a_pools() {
    let mut world = World::with_pool(&["192.0.2.0/29"]);
    world.exposure("a").held = vec![ip("192.0.2.5")];
    world.exposure("b").held = vec![ip("198.51.100.1")];
    world.exposure("c").held = vec![ip("192.0.2.5")];
    let (plan, diagnostics) = world.plan();
    assert_eq!(plan.allocations.services["shop/a"], [ip("192.0.2.5")]);
    assert_eq!(plan.allocations.services["shop/b"], [ip("192.0.2.0")]);
    assert_eq!(plan.allocations.services["shop/c"], [ip("192.0.2.1")]);
    assert_eq!(diagnostics, []);
    // What was planned before counts more than what the status says.
    world.exposure("a").held = vec![ip("192.0.2.6")];
    assert_eq!(world.addresses()["a"], "192.0.2.5");
}

#[test]
fn a_service_that_asks_for_something_else_moves() {
    let mut world = World::with_pool(&["192.0.2.0/29"]);
    *world.pool("private") =
        AddressPool { visibility: Visibility::Private, ..pool(&["10.0.0.0/29"]) };
    *world.pool("other") = pool(&["198.51.100.0/29"]);
    world.service("a");
    assert_eq!(world.addresses()["a"], "198.51.100.0");
    world.exposure("a").pool = Some("public".into());
    assert_eq!(world.addresses()["a"], "192.0.2.0");
    world.exposure("a").pool = None;
    assert_eq!(world.addresses()["a"], "192.0.2.0", "it fits what is asked for now");
    world.exposure("a").visibility = Visibility::Private;
    assert_eq!(world.addresses()["a"], "10.0.0.0");
    world.exposure("a").requested = vec![requested("192.0.2.7")];
    assert_eq!(world.addresses()["a"], "192.0.2.7");
    world.exposure("a").requested = vec![];
    assert_eq!(world.addresses()["a"], "192.0.2.7", "it asks for nothing else");
}

#[test]
fn a_pools_change_of_name_or_visibility_moves_nobody() {
    let mut world = World::with_pool(&["192.0.2.0/29"]);
    world.exposure("a").pool = Some("public".into());
    world.service("b");
    let before = world.addresses();
    let renamed = world.snapshot.pools.remove("public").unwrap();
    world.snapshot.pools.insert("renamed".into(), renamed);
    assert_eq!(world.addresses(), before);
    world.pool("renamed").visibility = Visibility::Private;
    let (plan, diagnostics) = world.plan();
    assert_eq!(world.addresses(), before);
    assert_eq!(plan.vips[0].visibility, Visibility::Private);
    let text = texts(&diagnostics).join("\n");
    assert!(text.contains("Service shop/b: status.loadBalancer \"192.0.2.1\": is now of AddressPool renamed (private)"), "{text}");
}

#[test]
fn a_broken_service_keeps_its_address() {
    let mut world = World::with_pool(&["192.0.2.0/29"]);
    world.service("a");
    world.service("b");
    let before = world.addresses();
    let service = world.service("a");
    (service.broken, service.exposure) = (Some("its ports are none".into()), None);
    world.service("c");
    let (plan, _) = world.plan();
    assert_eq!(plan.allocations.services["shop/a"], [ip("192.0.2.0")]);
    assert_eq!(plan.allocations.services["shop/c"], [ip("192.0.2.2")]);
    assert_eq!(plan.services.len(), 2);
    world.snapshot.services.remove(&ObjectKey::new("shop", "a"));
    world.snapshot.services.remove(&ObjectKey::new("shop", "c"));
    world.service("a");
    assert_eq!(world.addresses(), before);
}

#[test]
fn a_refused_service_keeps_its_address_and_is_not_served() {
    let mut world = World::with_pool(&["192.0.2.0/29"]);
    world.exposure("a").pool = Some("public".into());
    world.plan();
    let exposure = world.exposure("a");
    (exposure.load_balancer, exposure.pool) = (false, None);
    exposure.refused = Some("the annotation tidegate.io/pool can't be honoured".into());
    let (service, diagnostics) = world.planned("a");
    assert_eq!(service.addresses, [ip("192.0.2.0")]);
    assert_eq!(service.ports[0].frontends, []);
    assert!(service.load_balancer && service.pending.unwrap().contains("can't be honoured"));
    assert_eq!(diagnostics, [] as [String; 0]);
    let exposure = world.exposure("a");
    (exposure.load_balancer, exposure.refused) = (true, None);
    exposure.pool = Some("public".into());
    world.snapshot.pools.clear();
    assert_eq!(world.planned("a").0.ports[0].frontends.len(), 1);
}

#[test]
fn requests_that_cannot_be_met_are_refused_at_their_field() {
    let mut world = World::with_pool(&["192.0.2.0/28", "2001:db8::/120"]);
    let public = world.pool("public");
    public.reserved = vec![ip("192.0.2.1")];
    public.alb = vec![ip("192.0.2.2")];
    world.pool("other").ranges = pool(&["198.51.100.0/30"]).ranges;
    world.host =
        vec![HostAddress { interface: "eth0".into(), network: "198.51.100.3/30".parse().unwrap() }];
    world.exposure("holder").requested = vec![requested("192.0.2.3")];
    let cases = [
        ("203.0.113.1", "is in no AddressPool; ask for an address of a pool"),
        ("192.0.2.1", "is reserved (spec.reserved of AddressPool public)"),
        ("192.0.2.2", "is the ALB's (spec.alb of AddressPool public)"),
        ("192.0.2.3", "belongs to Service shop/holder"),
        ("198.51.100.3", "is this machine's own (interface eth0)"),
        ("2001:db8::1", "is an IPv6 address, and spec.ipFamilies has the other family"),
    ];
    for (address, expected) in cases {
        let exposure = world.exposure("wants");
        exposure.requested = vec![requested(address)];
        exposure.families.named = true;
        let (service, diagnostics) = world.planned("wants");
        assert_eq!(service.addresses, [] as [IpAddr; 0], "{address}");
        let pending = service.pending.unwrap();
        assert!(pending.starts_with(address), "{pending}");
        let at =
            format!("error: Service shop/wants: spec.loadBalancerIP \"{address}\": {expected}");
        assert!(diagnostics.iter().any(|text| text.starts_with(&at)), "{at}: {diagnostics:#?}");
        assert_eq!(world.addresses()["holder"], "192.0.2.3");
    }
    world.exposure("wants").requested = vec![requested("192.0.2.5")];
    world.exposure("wants").pool = Some("other".into());
    let (_, diagnostics) = world.planned("wants");
    assert!(diagnostics.iter().any(|text| text.contains("tidegate.io/pool names other")));
    world.exposure("wants").pool = None;
    assert_eq!(world.planned("wants").0.addresses, [ip("192.0.2.5")]);
}

#[test]
fn families_are_as_asked_for() {
    let mut world = World::with_pool(&["192.0.2.0/29"]);
    *world.pool("six") = pool(&["2001:db8::/125"]);
    let families = |ipv6_first, dual, named| Families { ipv6_first, dual, named };
    for (asked, expected) in [
        (families(false, Dual::Single, false), "192.0.2.0"),
        (families(true, Dual::Single, false), "192.0.2.0"), // either will do
        (families(true, Dual::Single, true), "2001:db8::1"),
        (families(false, Dual::Prefer, false), "192.0.2.0 2001:db8::1"),
        (families(true, Dual::Require, true), "2001:db8::1 192.0.2.0"),
    ] {
        world.exposure("a").families = asked;
        assert_eq!(world.addresses()["a"], expected, "{asked:?}");
    }
    world.snapshot.services.clear();
    world.plan();
    world.snapshot.pools.remove("six");
    for (asked, expected) in [
        (families(true, Dual::Single, false), Some("192.0.2.0")),
        (families(true, Dual::Single, true), None),
        (families(true, Dual::Prefer, true), Some("192.0.2.0")),
        (families(false, Dual::Require, true), None),
    ] {
        world.snapshot.services.clear();
        world.plan();
        world.exposure("a").families = asked;
        assert_eq!(world.addresses().get("a").map(String::as_str), expected, "{asked:?}");
        let (service, diagnostics) = world.planned("a");
        assert_eq!(service.pending.is_some(), expected.is_none(), "{asked:?}");
        assert_eq!(diagnostics.is_empty(), expected.is_some(), "{asked:?}");
    }
}

#[test]
fn a_second_family_joins_the_first_and_leaves_it() {
    let mut world = World::with_pool(&["192.0.2.0/29"]);
    world.service("a");
    world.plan();
    world.exposure("a").families.dual = Dual::Require;
    let (service, _) = world.planned("a");
    assert_eq!(service.addresses, [ip("192.0.2.0")], "what it has it keeps");
    assert!(service.pending.unwrap().contains("no IPv6 address is free"));
    *world.pool("six") = pool(&["2001:db8::/125"]);
    assert_eq!(world.addresses()["a"], "192.0.2.0 2001:db8::1");
    world.exposure("a").families = Families::default();
    assert_eq!(world.addresses()["a"], "192.0.2.0");
}

#[test]
fn no_pool_at_all_is_told() {
    let mut world = World::new();
    world.service("a");
    let (service, diagnostics) = world.planned("a");
    assert_eq!(
        service.pending.unwrap(),
        "no address: no public AddressPool that assigns addresses selects it"
    );
    assert!(diagnostics[0].starts_with("warning: Service shop/a: spec.type"), "{diagnostics:?}");
}

#[test]
fn who_does_not_lead_gives_out_nothing_and_plans_what_is_given_as_the_leader_does() {
    let mut world = World::with_pool(&["192.0.2.0/30"]);
    world.service("a");
    world.exposure("asks").requested = vec![requested("192.0.2.3")];
    world.exposure("both").families = Families { dual: Dual::Prefer, ..Families::default() };
    let follow = |world: &World, previous: &Allocations| {
        let World { snapshot, settings, host, .. } = world;
        plan_giving(snapshot, settings, host, previous, Giving::Nothing)
    };
    let (plan, diagnostics) = follow(&world, &Allocations::default());
    assert_eq!((plan.vips, plan.allocations, diagnostics), Default::default());
    let waits = plan.services.iter().all(|one| {
        one.pending.as_deref() == Some("waits for the leading edge to give it an address")
    });
    assert!(waits, "{:?}", plan.services);
    let (leading, _) = world.plan();
    let (following, _) = follow(&world, &leading.allocations);
    assert_eq!(following, leading);
    // Without allocations, what Services hold is known nevertheless.
    world.exposure("a").held = vec![ip("192.0.2.1")];
    let (following, _) = follow(&world, &Allocations::default());
    assert_eq!(following.allocations.of_service(&ObjectKey::new("shop", "a")), [ip("192.0.2.1")]);
    // What is gone is given back without anybody's leave.
    world.snapshot.services.remove(&ObjectKey::new("shop", "asks"));
    let (following, _) = follow(&world, &leading.allocations);
    assert!(following.vips.iter().all(|vip| vip.address != ip("192.0.2.3")));
}

#[test]
fn allocations_take_no_address_of_a_machine_and_none_that_was_in_no_pool() {
    let object = |kind: &str| Machine::Object(ObjectRef::cluster(kind, "one"));
    let mut world = World::with_pool(&["192.0.2.0/28"]);
    world.host =
        vec![HostAddress { interface: "eth0".into(), network: "10.0.0.1/24".parse().unwrap() }];
    world.snapshot.machines = [
        (ip("192.0.2.5"), object("EdgeGateway")),
        (ip("192.0.2.6"), Machine::Router),
        (ip("192.0.2.8"), object("Node")),
        (ip("10.0.0.21"), object("Node")),
        (ip("10.0.0.100"), Machine::Api),
    ]
    .into();
    world.service("a");
    let cases = [
        ("192.0.2.5", "it is that of EdgeGateway one"),
        ("192.0.2.6", "it is that of a router of this side"),
        ("10.0.0.1", "it is this machine's own (interface eth0)"),
        ("10.0.0.21", "it is that of Node one"),
        ("10.0.0.100", "it is that of the Kubernetes API"),
        ("198.51.100.1", "it is in no AddressPool, and was in none as far as is known"),
    ];
    for (address, reason) in cases {
        world.previous = Allocations::default();
        world.previous.services.insert("shop/a".into(), vec![ip(address)]);
        let (service, found) = world.planned("a");
        assert_eq!(service.addresses, [ip("192.0.2.0")], "{address}");
        let told =
            |text: &String| text.contains(&format!("\"{address}\"")) && text.contains(reason);
        assert!(found.iter().any(told), "{address}: {found:#?}");
        let last = world.previous.clone();
        assert!(last.vips.iter().all(|vip| vip.address != ip(address)));
    }
    // No Node takes an address of a pool away by telling that it is its own, but none is given.
    world.previous.services.insert("shop/a".into(), vec![ip("192.0.2.8")]);
    let (service, found) = world.planned("a");
    assert_eq!(service.addresses, [ip("192.0.2.8")]);
    let told = "\"192.0.2.8\": is that of Node one; the Service keeps it all the same";
    assert!(found.iter().any(|text| text.contains(told)), "{found:#?}");
    for n in 0..14 {
        world.service(&format!("other-{n}"));
    }
    let addresses = world.addresses();
    let given: Vec<&String> = addresses.values().collect();
    assert_eq!(given.len(), 14, "{addresses:?}");
    assert!(!given.iter().any(|given| ["192.0.2.5", "192.0.2.6"].contains(&given.as_str())));
}
