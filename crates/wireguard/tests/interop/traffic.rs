//! Packets of all kinds, both ways.

use crate::lab::{Lab, OUR_IP, OUR_IP6, THEIR_IP, THEIR_IP6, eventually, pings, stream};

#[test]
fn ours_begins_and_packets_go_both_ways() {
    let mut lab = Lab::new();
    assert!(pings(&lab.ours, THEIR_IP, &[]), "the first ones wait for the handshake");
    assert!(pings(&lab.ours, THEIR_IP6, &[]));
    assert!(pings(&lab.theirs, OUR_IP, &[]));
    assert!(pings(&lab.theirs, OUR_IP6, &[]));
    let peer = lab.peer();
    assert!(peer.last_handshake.is_some());
    assert!(peer.sent_packets >= 12 && peer.received_packets >= 12, "{peer:?}");
}

#[test]
fn the_other_end_begins_and_is_found() {
    let mut lab = Lab::new();
    // As of a node behind a NAT: nobody knows where it is.
    lab.tunnel.peers[0].endpoint = None;
    let (interfaces, keys, tunnel) = (&mut lab.interfaces, &Default::default(), &lab.tunnel);
    lab.ours.run(|| interfaces.apply(&[], keys));
    let _ = tunnel;
    assert_eq!(lab.apply(), []);
    lab.ours.ip("route add 10.9.0.2/32 dev tgwg0\n");
    assert!(!pings(&lab.ours, THEIR_IP, &["-c", "1", "-W", "1"]));
    assert!(lab.drops("no_endpoint") > 0);
    let ours = lab.key.public().to_string();
    lab.wg(&["peer", &ours, "endpoint", "192.0.2.1:51820"]);
    assert!(pings(&lab.theirs, OUR_IP, &[]));
    assert!(pings(&lab.ours, THEIR_IP, &[]));
    assert_eq!(lab.endpoint(), Some("192.0.2.2:51820".parse().unwrap()));
}

#[test]
fn streams_go_both_ways_over_both_families() {
    let lab = Lab::new();
    for (to, more) in
        [(THEIR_IP, &[][..]), (THEIR_IP, &["-R"]), (THEIR_IP6, &[]), (THEIR_IP6, &["-R"])]
    {
        let rate = stream(&lab.ours, &lab.theirs, to, more);
        assert!(rate > 20.0, "{to} {more:?}: {rate} Mbit/s");
    }
}

#[test]
fn datagrams_and_fragments_go_both_ways() {
    let lab = Lab::new();
    for size in ["0", "1", "1392", "1393", "4000", "30000"] {
        assert!(pings(&lab.ours, THEIR_IP, &["-s", size]), "{size}");
        assert!(pings(&lab.theirs, OUR_IP, &["-s", size]), "{size}");
    }
    let rate = stream(&lab.ours, &lab.theirs, THEIR_IP, &["-u", "-b", "20M"]);
    assert!(rate > 10.0, "{rate} Mbit/s");
}

#[test]
fn the_mtu_is_kept() {
    let mut lab = Lab::new();
    assert!(pings(&lab.ours, THEIR_IP, &["-M", "do", "-s", "1392"]));
    assert!(!pings(&lab.ours, THEIR_IP, &["-M", "do", "-s", "1393"]));
    lab.tunnel.mtu = 1280;
    assert_eq!(lab.apply(), []);
    lab.ours.ip("route add 10.9.0.2/32 dev tgwg0\n");
    eventually("there is a handshake again", || pings(&lab.ours, THEIR_IP, &[]).then_some(()));
    assert!(pings(&lab.ours, THEIR_IP, &["-M", "do", "-s", "1252"]));
    assert!(!pings(&lab.ours, THEIR_IP, &["-M", "do", "-s", "1253"]));
    assert!(stream(&lab.ours, &lab.theirs, THEIR_IP, &[]) > 20.0);
}

#[test]
fn an_underlay_of_ipv6_does_as_well() {
    let mut lab = Lab::new();
    lab.tunnel.peers[0].endpoint = Some("[2001:db8::2]:51820".parse().unwrap());
    assert_eq!(lab.apply(), []);
    assert!(pings(&lab.ours, THEIR_IP, &[]));
    assert_eq!(lab.endpoint(), lab.tunnel.peers[0].endpoint);
    assert!(stream(&lab.ours, &lab.theirs, THEIR_IP, &["-R"]) > 20.0);
}

#[test]
fn a_peer_sends_from_its_own_networks_alone() {
    let mut lab = Lab::new();
    assert!(pings(&lab.ours, THEIR_IP, &[]));
    lab.theirs.ip(&format!("addr add 10.9.0.3/32 dev {}\n", lab.device));
    assert!(!pings(&lab.theirs, OUR_IP, &["-I", "10.9.0.3", "-c", "1", "-W", "1"]));
    assert!(lab.drops("not_allowed") > 0);
    lab.tunnel.peers[0].allowed.push("10.9.0.3/32".parse().unwrap());
    assert_eq!(lab.apply(), []);
    lab.ours.ip("route add 10.9.0.3/32 dev tgwg0\n");
    assert!(pings(&lab.theirs, OUR_IP, &["-I", "10.9.0.3"]));
}
