//! Roaming, changed keys, keepalives, and what is in the way.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use wireguard::{Interfaces, random};

use crate::lab::{Lab, OUR_IP, OURS, PORT, THEIR_IP, eventually, pings, settings};

#[test]
fn a_peer_that_moves_is_followed() {
    let mut lab = Lab::new();
    assert!(pings(&lab.ours, THEIR_IP, &[]));
    lab.wg(&["listen-port", "4444"]);
    assert!(pings(&lab.theirs, OUR_IP, &[]));
    assert_eq!(lab.endpoint(), Some("192.0.2.2:4444".parse().unwrap()));
    // Applying the same plan again doesn't bring it back.
    assert_eq!(lab.apply(), []);
    assert!(pings(&lab.ours, THEIR_IP, &[]));
    // And we may move: the address that the other end has is gone.
    lab.ours.ip("addr del 192.0.2.1/24 dev e0\naddr add 192.0.2.7/24 dev e0\n");
    eventually("pings go again", || pings(&lab.ours, THEIR_IP, &[]).then_some(()));
    assert!(lab.wg_show("endpoints").starts_with("192.0.2.7:"), "{}", lab.wg_show("endpoints"));
}

#[test]
fn a_peer_with_another_key_is_another_peer() {
    let mut lab = Lab::new();
    assert!(pings(&lab.ours, THEIR_IP, &[]));
    let next = random::private_key();
    lab.set_their_key(&next);
    lab.tunnel.peers[0].key = next.public();
    assert_eq!(lab.apply(), []);
    eventually("a handshake with the new key", || pings(&lab.ours, THEIR_IP, &[]).then_some(()));
    assert_eq!(lab.interfaces.statistics()[OURS].peers.len(), 1);
}

#[test]
fn our_key_may_change() {
    let mut lab = Lab::new();
    assert!(pings(&lab.ours, THEIR_IP, &[]));
    let former = lab.key.public().to_string();
    lab.key = random::private_key();
    lab.tunnel.key = lab.key.public();
    assert_eq!(lab.apply(), []);
    lab.ours.ip("route add 10.9.0.2/32 dev tgwg0\n");
    let ours = lab.key.public().to_string();
    lab.wg(&["peer", &former, "remove", "peer", &ours, "allowed-ips", "10.9.0.1/32"]);
    eventually("a handshake with the new key", || pings(&lab.ours, THEIR_IP, &[]).then_some(()));
}

#[test]
fn a_keepalive_is_sent_where_nothing_else_is() {
    let mut lab = Lab::new();
    lab.tunnel.peers[0].keepalive = Some(1);
    assert_eq!(lab.apply(), []);
    // It begins by itself.
    eventually("a handshake", || lab.peer().last_handshake);
    let received = |lab: &Lab| -> u64 {
        let text = lab.wg_show("transfer");
        text.split('\t').next().and_then(|number| number.parse().ok()).unwrap_or_default()
    };
    let before = received(&lab);
    let began = Instant::now();
    eventually("three keepalives", || (received(&lab) >= before + 3 * 32).then_some(()));
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn it_is_there_again_after_a_restart() {
    let mut lab = Lab::new();
    assert!(pings(&lab.ours, THEIR_IP, &[]));
    let fresh = lab.ours.run(|| Interfaces::new(settings())).unwrap();
    // The former one goes with its process.
    drop(std::mem::replace(&mut lab.interfaces, fresh));
    assert_eq!(lab.apply(), []);
    lab.ours.ip("route add 10.9.0.2/32 dev tgwg0\n");
    eventually("pings go again", || pings(&lab.ours, THEIR_IP, &[]).then_some(()));
}

#[test]
fn a_peer_that_begins_anew_is_reached_again_within_seconds() {
    let mut lab = Lab::new();
    assert!(pings(&lab.ours, THEIR_IP, &[]));
    lab.restart_theirs();
    let began = Instant::now();
    eventually("pings go again", || {
        pings(&lab.ours, THEIR_IP, &["-c", "1", "-W", "1"]).then_some(())
    });
    // WireGuard by itself would notice after 15 s.
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[test]
fn what_others_change_is_restored() {
    let mut lab = Lab::new();
    lab.ours.ip(&format!(
        "addr del {OUR_IP}/32 dev {OURS}\naddr add 10.9.9.9/32 dev {OURS}\n\
         link set {OURS} mtu 1300 down\n"
    ));
    assert_eq!(lab.apply(), []);
    let text = lab.ours.command("ip", &["addr", "show", "dev", OURS]);
    assert!(text.contains("mtu 1420") && text.contains("UP"), "{text}");
    assert!(text.contains("10.9.0.1/32") && !text.contains("10.9.9.9"), "{text}");
    // Or takes away altogether.
    lab.ours.ip(&format!("link del {OURS}\n"));
    eventually("the interface is there again", || {
        assert_eq!(lab.apply(), []);
        lab.ours.try_command("ip", &["link", "show", OURS], "").ok()
    });
    lab.ours.ip("route add 10.9.0.2/32 dev tgwg0\n");
    eventually("pings go again", || pings(&lab.ours, THEIR_IP, &[]).then_some(()));
}

#[test]
fn what_is_in_the_way_is_said_and_the_rest_goes_on() {
    let mut lab = Lab::new();
    let taken = lab.ours.run(|| UdpSocket::bind(("0.0.0.0", PORT + 1))).unwrap();
    let mut second = lab.tunnel.clone();
    second.interface = "tgwg1".to_owned();
    second.port = PORT + 1;
    second.addresses = Vec::new();
    let mut third = second.clone();
    third.interface = "tgwg2".to_owned();
    third.key = random::private_key().public();
    lab.ours.ip("link add tgwg3 type veth peer name tgwg3p\n");
    let mut fourth = second.clone();
    fourth.interface = "tgwg3".to_owned();
    fourth.port = 0;
    let keys = lab.keys();
    let tunnels = [lab.tunnel.clone(), second, third, fourth];
    let interfaces = &mut lab.interfaces;
    let faults = lab.ours.run(|| interfaces.apply(&tunnels, &keys));
    let text: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(faults.len(), 3, "{text:?}");
    assert!(text[0].contains("tgwg2") && text[0].contains("no private key"), "{text:?}");
    assert!(text[1].contains("tgwg1") && text[1].contains("another program has"), "{text:?}");
    assert!(text[2].contains("tgwg3") && text[2].contains("ip link del"), "{text:?}");
    assert!(pings(&lab.ours, THEIR_IP, &[]));
    drop(taken);
    let interfaces = &mut lab.interfaces;
    let faults = lab.ours.run(|| interfaces.apply(&tunnels[..2], &keys));
    assert_eq!(faults, []);
}
