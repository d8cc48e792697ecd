//! Nothing for the other site leaves in the clear, whatever becomes of the tunnel.

use testkit::vpn_lab::Site;
use testkit::{Gateway, VpnLab, eventually};

use crate::site::Connection;
use crate::{Pair, builder};

#[test]
fn packets_are_held_back_while_a_connection_is_down() {
    let pair = Pair::up();
    pair.wait_ping(Site::A);
    let clear = pair.lab.clear();
    let (code, _, error) = pair.gateway(Site::A).run(&["vpn", "down", "site"]);
    assert_eq!(code, Some(0), "{error}");
    pair.wait_state(Site::A, "down");
    let before = pair.number(Site::A, "/children/0/held_back");
    for _ in 0..3 {
        assert!(!pair.lab.pings(Site::A));
    }
    assert!(pair.number(Site::A, "/children/0/held_back") >= before + 3);
    assert_eq!(clear.lines(), [""; 0]);
    let (code, ..) = pair.gateway(Site::A).run(&["vpn", "up", "site"]);
    assert_eq!(code, Some(0));
    pair.wait_ping(Site::A);
}

#[test]
fn nothing_leaves_before_the_first_tunnel_is_up() {
    let lab = VpnLab::new();
    let gateway = lab.gateway(Site::A);
    // As a machine that forwards already.
    gateway.set("ipv4/ip_forward", "1");
    // Without a gateway it does leave: the capture sees it.
    let clear = lab.clear();
    lab.pings(Site::A);
    clear.wait_for(&["10.1.0.2 > 10.2.0.2"]);
    let site = Connection::new(Site::A).yaml();
    let _gateway = builder().manifest("site.yaml", site).within(gateway).start();
    let before = clear.lines().len();
    for _ in 0..3 {
        assert!(!lab.pings(Site::A));
    }
    assert_eq!(clear.lines().len(), before, "{:?}", clear.lines());
}

#[test]
fn nothing_leaves_where_tunnels_cant_be_carried_at_all() {
    let lab = VpnLab::new();
    let gateway = lab.gateway(Site::A);
    gateway.set("ipv4/ip_forward", "1");
    // Somebody else has the name.
    gateway.ip("link add tidegate-vpn type veth peer name other\nlink set tidegate-vpn up\n");
    let site = Connection::new(Site::A).yaml();
    // The ALB serves all the same.
    let running = Gateway::builder(env!("CARGO_BIN_EXE_gateway"))
        .config("vpn: {enabled: true, dataplane: userspace, workers: 1}")
        .manifest("site.yaml", site)
        .within(gateway)
        .start();
    let clear = lab.clear();
    for _ in 0..3 {
        assert!(!lab.pings(Site::A));
    }
    assert_eq!(clear.lines(), [""; 0]);
    let found = running.admin_get("/api/v1/diagnostics").body;
    let found = String::from_utf8_lossy(&found);
    assert!(found.contains("remote networks are guarded"), "{found}");
}

#[test]
fn nothing_leaves_after_a_stop() {
    let mut pair = Pair::up();
    pair.wait_ping(Site::A);
    let clear = pair.lab.clear();
    pair.gateway(Site::A).terminate();
    assert!(pair.gateway_mut(Site::A).wait().success());
    for _ in 0..3 {
        assert!(!pair.lab.pings(Site::A));
    }
    assert_eq!(clear.lines(), [""; 0]);
    // Even if somebody takes the routes away: the table counts what it drops.
    let gateway = pair.lab.gateway(Site::A);
    gateway.command("ip", &["rule", "del", "priority", "5447"]);
    for _ in 0..3 {
        assert!(!pair.lab.pings(Site::A));
    }
    assert_eq!(clear.lines(), [""; 0]);
    let table = ["list", "counter", "inet", "tidegate-vpn", "guard_out"];
    let counted = gateway.command("nft", &table);
    assert!(!counted.contains("packets 0 "), "{counted}");
}

#[test]
fn what_comes_in_the_clear_is_dropped_and_counted() {
    let pair = Pair::up();
    pair.wait_ping(Site::A);
    // Somebody on the link pretends to be B's host.
    let forger = pair.lab.gateway(Site::B);
    forger.ip("addr add 10.2.0.99/32 dev lo\nroute add 10.1.0.2/32 via 192.0.2.1 src 10.2.0.99\n");
    forger.command("ip", &["rule", "add", "priority", "1", "to", "10.1.0.2", "lookup", "main"]);
    forger.command("nft", &["delete", "table", "inet", "tidegate-vpn"]);
    let counted = || {
        let labels = [("counter", "guard_in")];
        pair.gateway(Site::A).metric("tidegate_vpn_guard_packets_total", &labels)
    };
    eventually("the guard has counted it", || {
        // The table is mended soon, so try again and again.
        _ = forger.try_command("nft", &["delete", "table", "inet", "tidegate-vpn"], "");
        let ping = ["-n", "-c1", "-W0.2", "-I", "10.2.0.99", "10.1.0.2"];
        assert!(forger.try_command("ping", &ping, "").is_err());
        (counted() > 0.0).then_some(())
    });
}
