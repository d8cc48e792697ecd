use std::time::Duration;

use model::VpnSettings;
use model::snapshot::vpn::{
    Auto, CloseAction, Dpd, Lifetimes, LocalAddress, LocalEnd, RemoteEnd, RemoteGateway,
    SecretBytes, VpnAuth, VpnConnection,
};

use super::*;
use crate::l4::table;
use crate::nft::Key;

fn connection(pool: &str, gateway: &str) -> VpnConnection {
    let second = Duration::from_secs(1);
    VpnConnection {
        auto: Auto::Start,
        ike: Vec::new(),
        esp: Vec::new(),
        auth: VpnAuth::Psk(SecretBytes(Vec::new())),
        ppk: None,
        local: LocalEnd { address: LocalAddress::Pool(pool.to_owned()), id: None },
        remote: RemoteEnd { gateway: RemoteGateway::Address(ip(gateway)), id: None },
        children: Vec::new(),
        local_nat: Vec::new(),
        remote_nat: Vec::new(),
        single_source: None,
        non_cluster: Vec::new(),
        zone: None,
        dpd: Dpd { delay: second, timeout: second, action: CloseAction::None },
        lifetimes: Lifetimes { ike: second, child: second, bytes: None, packets: None },
        close_action: CloseAction::None,
        force_udp: false,
        fragmentation: true,
        mobike: true,
        childless: false,
        reauthentication: false,
        replay_window: 1024,
        location: None,
    }
}

/// A world with a pool of two addresses.
fn world() -> World {
    let mut world = World::with_pool(&["198.51.100.18/31"]);
    world.settings.vpn = Some(VpnSettings::default());
    world
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("net", name)
}

#[test]
fn a_connection_has_its_address_for_as_long_as_it_exists() {
    let mut world = world();
    world.snapshot.vpn.insert(key("hq"), connection("public", "203.0.113.7"));
    let (plan, diagnostics) = world.plan();
    assert_eq!(plan.vpn_addresses()[&key("hq")], ip("198.51.100.18"));
    assert_eq!(plan.vips.len(), 1);
    assert_eq!((plan.pools["public"].used, texts(&diagnostics).len()), (1, 0));
    // Whatever comes later, and over a restart.
    world.service("a");
    world.service("b");
    world.snapshot.vpn.insert(key("a"), connection("public", "203.0.113.8"));
    let (plan, diagnostics) = world.plan();
    assert_eq!(plan.vpn_addresses().get(&key("hq")), Some(&ip("198.51.100.18")));
    assert_eq!(plan.allocations.services["shop/a"], [ip("198.51.100.19")]);
    let text = texts(&diagnostics).join("\n");
    assert!(text.contains("VpnConnection net/a: spec.local.addressPool \"public\""), "{text}");
    let stored = serde_json::to_string(&*plan.allocations).unwrap();
    world.previous = serde_json::from_str(&stored).unwrap();
    assert_eq!(world.plan().0.vpn_addresses().len(), 1);
    // A refused one keeps it, but holds nothing.
    let gone = world.snapshot.vpn.remove(&key("hq")).unwrap();
    world.snapshot.vpn.remove(&key("a"));
    world.snapshot.vpn_refused.insert(key("hq"), Vec::new());
    let (plan, _) = world.plan();
    assert!(plan.vpn.is_empty() && !plan.vips.iter().any(|vip| vip.address == ip("198.51.100.18")));
    world.snapshot.vpn.insert(key("hq"), gone);
    assert_eq!(world.plan().0.vpn_addresses()[&key("hq")], ip("198.51.100.18"));
    world.snapshot.vpn.clear();
    world.snapshot.vpn_refused.clear();
    assert_eq!(world.addresses()["b"], "198.51.100.18");
}

#[test]
fn an_address_is_of_the_pool_and_family_that_fit() {
    let mut world = world();
    world.snapshot.pools.insert("six".into(), pool(&["2001:db8::10/126"]));
    world.snapshot.vpn.insert(key("six"), connection("six", "2001:db8:7::1"));
    world.snapshot.vpn.insert(key("none"), connection("public", "2001:db8:7::1"));
    world.snapshot.vpn.insert(key("other"), connection("missing", "203.0.113.7"));
    let (plan, diagnostics) = world.plan();
    assert!(plan.vpn_addresses()[&key("six")].is_ipv6());
    assert_eq!(plan.vpn.len(), 1);
    let text = texts(&diagnostics).join("\n");
    assert!(text.contains("there is no AddressPool missing"), "{text}");
    assert!(text.contains("no address that fits is free in AddressPool public"), "{text}");
}

#[test]
fn a_service_does_not_get_a_connections_address() {
    let mut world = world();
    world.snapshot.vpn.insert(key("hq"), connection("public", "203.0.113.7"));
    world.plan();
    world.exposure("a").requested = vec![model::snapshot::Requested {
        address: ip("198.51.100.18"),
        field: "spec.loadBalancerIP".to_owned(),
    }];
    let (service, messages) = world.planned("a");
    assert!(service.addresses.is_empty());
    assert!(messages[0].contains("belongs to VpnConnection net/hq"), "{messages:?}");
}

#[test]
fn ike_and_esp_reach_a_connections_address() {
    let mut world = world();
    world.snapshot.vpn.insert(key("hq"), connection("public", "203.0.113.7"));
    let (plan, _) = world.plan();
    let table = table(&plan, world.settings.l4.as_ref().unwrap(), &Default::default());
    for port in [500, 4500] {
        let key = Key::Frontend(ip("198.51.100.18"), Protocol::Udp, port);
        assert!(table.flat["open4"].get(&key).is_some(), "{port}");
    }
}
