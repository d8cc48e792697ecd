use model::snapshot::{Announce, LabelSelector, Operator, Requirement};
use model::{AlbKind, AlbSettings, Visibility};

use super::*;

fn alb(kind: AlbKind) -> AlbSettings {
    AlbSettings {
        kind,
        ingress_class: kind.to_string(),
        ssl_redirect: false,
        default_certificate: None,
        default_backend: None,
    }
}

fn own(interface: &str, network: &str) -> HostAddress {
    HostAddress { interface: interface.into(), network: network.parse().unwrap() }
}

#[test]
fn huge_pools_are_not_enumerated() {
    let mut world = World::with_pool(&["2001:db8::/32", "fd00::/8"]);
    world.pool("public").reserved = vec![ip("2001:db8::")];
    world.service("a");
    let (plan, _) = world.plan();
    assert_eq!(plan.services[0].addresses, [ip("2001:db8::1")]);
    assert_eq!(plan.pools["public"].capacity, u64::MAX);
}

#[test]
fn single_addresses_and_pairs_are_pools_too() {
    let mut world = World::with_pool(&["192.0.2.9/32", "192.0.2.4/31"]);
    for name in ["a", "b", "c"] {
        world.service(name);
    }
    let addresses = world.addresses();
    let has: Vec<&str> = addresses.values().map(String::as_str).collect();
    assert_eq!(has, ["192.0.2.4", "192.0.2.5", "192.0.2.9"]);
}

#[test]
fn of_overlapping_pools_the_older_has_the_addresses() {
    let mut world = World::new();
    *world.pool("young") = AddressPool { created: Some(2), ..pool(&["192.0.2.0/30"]) };
    *world.pool("zold") = AddressPool { created: Some(1), ..pool(&["192.0.2.0/31"]) };
    let (plan, diagnostics) = world.plan();
    assert_eq!((plan.pools["young"].capacity, plan.pools["zold"].capacity), (2, 2));
    assert_eq!(
        texts(&diagnostics),
        ["error: AddressPool young: spec.addresses[0] \"192.0.2.0-192.0.2.3\": \
          192.0.2.0-192.0.2.1 is AddressPool zold's (spec.addresses[0]), which is older, and is \
          not taken from here; remove it from one of the two"]
    );
    world.service("a");
    world.service("b");
    world.service("c");
    assert_eq!(world.plan().0.vips[0].pool, "zold");
    assert_eq!(world.addresses()["a"], "192.0.2.2", "the first pool by name");
}

#[test]
fn pool_in_a_hosts_subnet_is_warned_of_and_own_addresses_are_kept_back() {
    let mut world = World::with_pool(&["203.0.113.0/30"]);
    world.host =
        vec![own("eth0", "203.0.113.1/24"), own("eth0", "203.0.113.2/32"), own("lo", "::1/128")];
    world.service("a");
    world.service("b");
    let (plan, diagnostics) = world.plan();
    assert_eq!(plan.allocations.services["shop/a"], [ip("203.0.113.2")], "a VIP of its own");
    assert_eq!(plan.allocations.services["shop/b"], [ip("203.0.113.3")]);
    assert_eq!(plan.pools["public"].capacity, 2, "the first is the subnet's");
    let text = texts(&diagnostics);
    assert_eq!(text.len(), 2, "{text:#?}");
    assert!(text[1].contains("it is in 203.0.113.0/24, the subnet of interface eth0"), "{text:#?}");
    assert!(text[0].contains("203.0.113.1 is this machine's own"), "{text:#?}");
    assert_eq!(errors(&diagnostics), 0);
}

#[test]
fn albs_get_the_addresses_that_are_set_apart_for_them() {
    let mut world = World::with_pool(&["192.0.2.0/30"]);
    world.settings.albs = vec![alb(AlbKind::Public)];
    world.pool("public").alb = vec![ip("192.0.2.0")];
    *world.pool("private") = AddressPool {
        visibility: Visibility::Private,
        alb: vec![ip("10.0.0.1")],
        ..pool(&["10.0.0.0/30"])
    };
    world.service("a");
    let (plan, diagnostics) = world.plan();
    assert_eq!(plan.albs, BTreeMap::from([(AlbKind::Public, vec![ip("192.0.2.0")])]));
    let vips: Vec<IpAddr> = plan.vips.iter().map(|vip| vip.address).collect();
    assert_eq!(vips, [ip("192.0.2.0"), ip("192.0.2.1")]);
    assert_eq!(
        texts(&diagnostics),
        ["warning: AddressPool private: spec.alb \"10.0.0.1\": the private ALB is not enabled; \
          set alb.private.enabled in the configuration"]
    );
    // One that a Service has already stays with it.
    world.pool("public").alb = vec![ip("192.0.2.1")];
    let (plan, diagnostics) = world.plan();
    assert_eq!((plan.albs.len(), errors(&diagnostics)), (0, 1));
    assert_eq!(plan.allocations.services["shop/a"], [ip("192.0.2.1")]);
}

#[test]
fn bgp_is_told_to_be_missing() {
    let mut world = World::with_pool(&["192.0.2.0/30"]);
    world.pool("public").announce = Announce::Bgp;
    world.service("a");
    let (plan, diagnostics) = world.plan();
    assert_eq!(plan.vips[0].announce, Announce::None);
    assert!(texts(&diagnostics)[0].contains("BGP is not spoken by this version"));
}

#[test]
fn pools_are_chosen_by_visibility_selectors_and_name() {
    let mut world = World::new();
    let gold = LabelSelector {
        requirements: vec![Requirement {
            key: "tier".into(),
            operator: Operator::In(vec!["gold".into()]),
        }],
    };
    *world.pool("a-gold") =
        AddressPool { service_selector: gold.clone(), ..pool(&["192.0.2.16/28"]) };
    *world.pool("b-space") = AddressPool { namespace_selector: gold, ..pool(&["192.0.2.32/28"]) };
    *world.pool("c-manual") = AddressPool { auto_assign: false, ..pool(&["192.0.2.48/28"]) };
    *world.pool("d-private") =
        AddressPool { visibility: Visibility::Private, ..pool(&["10.0.0.0/28"]) };
    *world.pool("e-public") = pool(&["192.0.2.64/28"]);
    world.service("plain");
    world.exposure("gold").labels.insert("tier".into(), "gold".into());
    world.exposure("private").visibility = Visibility::Private;
    world.exposure("named").pool = Some("c-manual".into());
    world.exposure("unselected").pool = Some("a-gold".into());
    world.exposure("unknown").pool = Some("x".into());
    let (_, diagnostics) = world.plan();
    let expected = [
        ("gold", "192.0.2.16"),
        ("named", "192.0.2.48"),
        ("plain", "192.0.2.64"),
        ("private", "10.0.0.0"),
    ];
    let expected = expected.map(|(name, address)| (name.to_owned(), address.to_owned()));
    assert_eq!(world.addresses(), BTreeMap::from(expected));
    let text = texts(&diagnostics).join("\n");
    let field = "metadata.annotations[\"tidegate.io/pool\"]";
    for expected in [
        format!(
            "Service shop/unknown: {field} \"x\": there is no AddressPool x; make it, or name one of a-gold, b-space"
        ),
        format!(
            "Service shop/unselected: {field} \"a-gold\": AddressPool a-gold doesn't select this Service"
        ),
    ] {
        assert!(text.contains(&expected), "{text}");
    }
}

#[test]
fn a_pool_that_shrinks_or_vanishes_moves_nobody() {
    let mut world = World::with_pool(&["192.0.2.0/28"]);
    world.pool("public").announce = Announce::None;
    world.service("a");
    world.exposure("named").pool = Some("public".into());
    let before = world.plan().0;
    world.snapshot.pools.clear();
    let (plan, diagnostics) = world.plan();
    assert_eq!((&plan.vips, &plan.services), (&before.vips, &before.services));
    assert_eq!(plan.allocations, before.allocations);
    let text = texts(&diagnostics);
    assert!(
        text[0].contains("Service shop/a: status.loadBalancer \"192.0.2.0\": is in no AddressPool any more; the Service keeps it all the same"),
        "{text:#?}"
    );
    assert_eq!((text.len(), errors(&diagnostics)), (2, 0));
    // Nobody else gets it, and with the pool all is as before.
    *world.pool("public") = pool(&["192.0.2.0/28"]);
    world.service("0-new");
    assert_eq!(world.addresses()["0-new"], "192.0.2.2");
    assert_eq!(world.plan().1, []);
}

#[test]
fn what_becomes_reserved_stays_with_who_has_it() {
    let mut world = World::with_pool(&["192.0.2.0/28"]);
    world.service("a");
    world.plan();
    world.pool("public").reserved = vec![ip("192.0.2.0")];
    world.service("b");
    let (plan, diagnostics) = world.plan();
    assert_eq!(plan.allocations.services["shop/a"], [ip("192.0.2.0")]);
    assert_eq!((plan.pools["public"].capacity, plan.pools["public"].used), (15, 1));
    assert!(texts(&diagnostics)[0].contains("is now in spec.reserved of AddressPool public"));
}

#[test]
fn the_routers_anycast_address_of_an_ipv6_subnet_is_given_to_nobody() {
    let mut world = World::with_pool(&["2001:db8::/126"]);
    world.service("a");
    world.exposure("asks").requested = vec![model::snapshot::Requested {
        address: ip("2001:db8::"),
        field: "spec.loadBalancerIP".into(),
    }];
    let (plan, diagnostics) = world.plan();
    assert_eq!(plan.allocations.services["shop/a"], [ip("2001:db8::1")]);
    assert_eq!((plan.pools["public"].capacity, plan.allocations.services.len()), (3, 1));
    let text = texts(&diagnostics).join("\n");
    assert!(
        text.contains("error: Service shop/asks: spec.loadBalancerIP \"2001:db8::\": is the first of its subnet in AddressPool public, which is the anycast address of the subnet's routers (RFC 4291, 2.6.1)"),
        "{text}"
    );
    // Pairs and single addresses have none, nor has a range that is no CIDR.
    for networks in [&["2001:db8::/127"][..], &["2001:db8::/128"]] {
        let mut world = World::with_pool(networks);
        world.service("a");
        assert_eq!(world.addresses()["a"], "2001:db8::");
    }
    let mut world = World::with_pool(&["2001:db8::/126"]);
    world.pool("public").ranges[0].last = ip("2001:db8::2");
    world.service("a");
    assert_eq!(world.addresses()["a"], "2001:db8::");
}
