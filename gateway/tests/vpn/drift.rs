//! What others do to the kernel's state is seen and mended.

use testkit::eventually;
use testkit::vpn_lab::Site;

use crate::{Pair, builder};

#[test]
fn flushed_guard_is_back() {
    let pair = Pair::up();
    let gateway = pair.lab.gateway(Site::A);
    let table = || gateway.try_command("nft", &["list", "table", "inet", "tidegate-vpn"], "");
    let whole = table().unwrap();
    assert!(whole.contains("10.2.0.0/24"), "{whole}");
    gateway.command("nft", &["flush", "ruleset"]);
    eventually("the guard is back", || table().ok()?.contains("10.2.0.0/24").then_some(()));
    eventually("it is counted", || {
        let repairs = pair.gateway(Site::A).metric("tidegate_vpn_drift_repairs_total", &[]);
        (repairs >= 1.0).then_some(())
    });
    pair.wait_ping(Site::A);
}

#[test]
fn removed_rule_and_routes_come_back() {
    let pair = Pair::up();
    pair.wait_ping(Site::A);
    let clear = pair.lab.clear();
    let gateway = pair.lab.gateway(Site::A);
    gateway.command("ip", &["rule", "del", "priority", "5447"]);
    gateway.command("ip", &["route", "flush", "table", "21575"]);
    pair.wait_ping(Site::A);
    assert_eq!(clear.lines(), [""; 0]);
}

#[test]
fn connection_that_is_removed_leaves_no_rule_behind() {
    let pair = Pair::up();
    let gateway = pair.lab.gateway(Site::A);
    pair.gateway(Site::A).remove("site.yaml");
    eventually("rule, routes and table are gone", || {
        let rules = gateway.command("ip", &["rule", "list"]);
        let routes = gateway.try_command("ip", &["route", "list", "table", "21575"], "");
        let tables = gateway.command("nft", &["list", "tables"]);
        let gone = !rules.contains("5447")
            && routes.unwrap_or_default().trim().is_empty()
            && !tables.contains("tidegate-vpn");
        gone.then_some(())
    });
    // And the other end has been told.
    eventually("B has no SA any more", || {
        pair.connection(Site::B).get("ike")?.as_array()?.is_empty().then_some(())
    });
}

#[test]
fn second_gateway_in_the_same_network_is_refused() {
    let pair = Pair::up();
    let mut second = builder().within(pair.lab.gateway(Site::A)).spawn();
    assert!(!second.wait().success());
    let log = second.stderr();
    assert!(log.contains("another gateway has the VPN plane"), "{log}");
    pair.wait_ping(Site::A);
}

#[test]
fn without_its_interface_nothing_leaves_and_another_one_is_made_with_other_sas() {
    let mut pair = Pair::up();
    pair.wait_ping(Site::A);
    let clear = pair.lab.clear();
    let spis = |pair: &Pair| {
        let connection = pair.connection(Site::A);
        let sas = connection.pointer("/children/0/sas")?.as_array()?;
        let spis: Vec<String> = sas.iter().map(|sa| sa["inbound_spi"].to_string()).collect();
        (!spis.is_empty()).then_some(spis)
    };
    let before = eventually("SPIs are told", || spis(&pair));
    pair.lab.gateway(Site::A).ip("link del tidegate-vpn\n");
    eventually("other SAs are there", || {
        let now = spis(&pair)?;
        now.iter().all(|spi| !before.contains(spi)).then_some(())
    });
    pair.wait_ping(Site::A);
    pair.wait_ping(Site::B);
    assert!(pair.gateway_mut(Site::A).exit_status().is_none());
    let repairs = pair.gateway(Site::A).metric("tidegate_vpn_drift_repairs_total", &[]);
    assert!(repairs >= 1.0, "{repairs}");

    // Who does it again and again has to be found by somebody else.
    pair.lab.gateway(Site::A).ip("link del tidegate-vpn\n");
    assert!(!pair.gateway_mut(Site::A).wait().success());
    assert!(!pair.lab.pings(Site::A));
    assert_eq!(clear.lines(), [""; 0]);
    // Whoever looks after it starts it again.
    pair.gateway_mut(Site::A).start_again();
    pair.wait_ping(Site::A);
}
