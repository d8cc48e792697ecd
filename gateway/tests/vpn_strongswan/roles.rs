//! Both roles with each kind of cipher.

use testkit::vpn_lab::Site;

use crate::mixed::{Ends, wait_ping};

#[track_caller]
fn both_roles(ike: &str, esp: &str) {
    for we_begin in [true, false] {
        let ends = Ends { ike: ike.into(), esp: esp.into(), we_begin, ..Ends::default() };
        let mixed = ends.start();
        let clear = mixed.lab.clear();
        mixed.wait_up();
        for from in Site::BOTH {
            let to = from.other().host_address().to_string();
            wait_ping(mixed.lab.host(from), &to);
            assert_eq!(mixed.source_seen(from, &to), from.host_address());
        }
        assert_eq!(clear.lines(), [""; 0]);
    }
}

#[test]
fn aes_gcm() {
    both_roles("aes128gcm16-prfsha256-x25519", "aes128gcm16-x25519");
    both_roles("aes256gcm16-prfsha384-ecp384", "aes256gcm16");
}

#[test]
fn chacha20() {
    both_roles("chacha20poly1305-prfsha256-x25519", "chacha20poly1305");
}

#[test]
fn aes_cbc_with_sha2() {
    both_roles("aes128-sha256-modp2048", "aes128-sha256");
    both_roles("aes256-sha512-ecp256", "aes256-sha512");
}

#[test]
fn bulk_goes_both_ways() {
    let mixed = Ends::default().up();
    for from in Site::BOTH {
        let rate = mixed.iperf(from);
        assert!(rate > 5.0, "{rate} Mb/s");
    }
    let children = mixed.connection().pointer("/children/0").cloned().unwrap();
    assert_eq!(children.get("replayed").and_then(|n| n.as_u64()), Some(0), "{children:#}");
    assert_eq!(children.get("selector_drops").and_then(|n| n.as_u64()), Some(0), "{children:#}");
}

#[test]
fn several_networks_in_one_child() {
    let ends = Ends {
        ours: ["10.1.0.0/24, 172.30.0.0/16".into(), "10.2.0.0/24".into()],
        theirs: ["10.2.0.0/24".into(), "10.1.0.0/24,172.30.0.0/16".into()],
        ..Ends::default()
    };
    let mixed = ends.up();
    let host = mixed.lab.host(Site::A);
    host.ip("addr add 172.30.0.2/32 dev lo\n");
    mixed.lab.gateway(Site::A).ip("route add 172.30.0.0/16 via 10.1.0.2\n");
    wait_ping(host, "10.2.0.2");
    let from = ["-n", "-c1", "-W0.5", "-I", "172.30.0.2", "10.2.0.2"];
    testkit::eventually("a ping from the second network", || {
        host.try_command("ping", &from, "").ok()
    });
}

#[test]
fn strongswan_is_killed_and_comes_back() {
    let mut mixed = Ends::default().up();
    wait_ping(mixed.lab.host(Site::A), "10.2.0.2");
    mixed.swan.kill();
    let started = std::time::Instant::now();
    testkit::eventually("the loss is noticed", || {
        (mixed.connection().get("state")? != "up").then_some(())
    });
    // delay 1 s, timeout 3 s
    let took = started.elapsed();
    assert!(took.as_secs_f64() < 3.0 + 2.0, "{took:?}");
    mixed.swan.start();
    mixed.wait_up();
    wait_ping(mixed.lab.host(Site::A), "10.2.0.2");
}

#[test]
fn the_gateway_is_killed_and_traffic_is_back_within_three_seconds() {
    for we_begin in [true, false] {
        let mut mixed = Ends { we_begin, ..Ends::default() }.up();
        wait_ping(mixed.lab.host(Site::A), "10.2.0.2");
        let clear = mixed.lab.clear();
        mixed.gateway.kill();
        assert!(!crate::mixed::pings(mixed.lab.host(Site::A), "10.2.0.2"));
        mixed.gateway.start_again();
        let took = wait_ping(mixed.lab.host(Site::A), "10.2.0.2");
        assert!(took.as_secs_f64() < 3.0, "{took:?}, we begin: {we_begin}");
        assert_eq!(clear.lines(), [""; 0]);
    }
}
