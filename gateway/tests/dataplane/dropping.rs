use std::net::UdpSocket;
use std::time::Duration;

use gateway::vpn::dataplane::Dataplane;
use ipsec::crypto::rng::SeededRng;
use ipsec::esp::Outbound;
use ipsec::sa::ChildSa;

use crate::lab::{Lab, Options, eventually, nets};

/// Sends an ESP packet (made as left would) to the right, from left's port 4501, some times.
fn inject(lab: &Lab, sa: &ChildSa, sequence: u64, inner: &[u8], times: usize) {
    let outbound =
        Outbound::new(sa.suite, &sa.outbound, sa.outbound_spi, &mut SeededRng::new(1)).unwrap();
    let mut packet = Vec::new();
    outbound.seal(sequence, 4, &[inner], &mut packet);
    send(lab, packet, times);
}

fn send(lab: &Lab, packet: Vec<u8>, times: usize) {
    lab.left.namespace.run(move || {
        let socket = UdpSocket::bind("192.0.2.1:4501").unwrap();
        for _ in 0..times {
            socket.send_to(&packet, "192.0.2.2:4500").unwrap();
        }
    });
}

/// A UDP datagram of eight octets.
fn datagram(source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 36, 0, 0, 0x40, 0, 64, 17, 0, 0];
    packet.extend_from_slice(&source);
    packet.extend_from_slice(&destination);
    let sum: u32 =
        packet.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    packet[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    packet.extend_from_slice(&[0x10, 0, 0x20, 0, 0, 16, 0, 0]);
    packet.extend_from_slice(b"injected");
    packet
}

#[test]
fn replayed_packets_are_counted_and_come_once() {
    // With ESN, numbers older than the window are taken for very new ones.
    let lab = Lab::up(Options { esn: false, ..Options::default() });
    let listener = lab.right.namespace.run(|| UdpSocket::bind("10.2.0.1:8192").unwrap());
    listener.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let sa = lab.sa(99, 0, 0x1000);
    inject(&lab, &sa, 5000, &datagram([10, 1, 0, 1], [10, 2, 0, 1]), 10);
    eventually("replays are counted", || lab.right.child().replayed == 9);
    let mut buffer = [0; 64];
    assert_eq!(listener.recv(&mut buffer).unwrap(), 8);
    // Older than the window.
    inject(&lab, &sa, 100, &datagram([10, 1, 0, 1], [10, 2, 0, 1]), 1);
    eventually("old ones are counted", || lab.right.child().replayed == 10);
    listener.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    assert!(listener.recv(&mut buffer).is_err());
}

#[test]
fn packets_outside_the_selectors_are_counted_and_never_come() {
    let lab = Lab::up(Options::default());
    let listener = lab.right.namespace.run(|| UdpSocket::bind("0.0.0.0:8192").unwrap());
    let sa = lab.sa(99, 0, 0x1000);
    let wrong = [
        ([10, 3, 0, 1], [10, 2, 0, 1]),
        ([10, 1, 0, 1], [192, 0, 2, 2]),
        ([10, 2, 0, 1], [10, 1, 0, 1]),
    ];
    for (sequence, (source, destination)) in (5000..).zip(wrong) {
        inject(&lab, &sa, sequence, &datagram(source, destination), 1);
    }
    eventually("they are counted", || lab.right.child().selector_drops == 3);
    listener.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    assert!(listener.recv(&mut [0; 64]).is_err());
    assert_eq!(lab.right.child().received_packets, 0);
}

#[test]
fn junk_and_changed_packets_are_counted() {
    let lab = Lab::up(Options::default());
    let sa = lab.sa(99, 0, 0x1000);
    let outbound =
        Outbound::new(sa.suite, &sa.outbound, sa.outbound_spi, &mut SeededRng::new(1)).unwrap();
    let mut packet = Vec::new();
    outbound.seal(7, 4, &[&datagram([10, 1, 0, 1], [10, 2, 0, 1])], &mut packet);
    *packet.last_mut().unwrap() ^= 1;
    send(&lab, packet, 3);
    eventually("changed ones", || lab.right.child().unauthentic == 3);
    inject(&lab, &sa, 8, &[0x45; 8], 1);
    inject(&lab, &sa, 9, &[0x60; 40], 1);
    eventually("nonsense inside", || lab.right.child().malformed == 2);
    send(&lab, vec![0, 0, 0, 9, 0], 1);
    send(&lab, vec![0, 0, 0, 9, 0, 0, 0, 0, 0], 1);
    eventually("nonsense outside", || lab.right.dropped("malformed") == 2);
    send(&lab, vec![0xff], 1);
    send(&lab, vec![9; 100], 2);
    eventually("unknown SPIs", || lab.right.dropped("unknown-spi") == 2);
    assert_eq!(lab.right.dropped("malformed"), 2);
    assert!(lab.left.pings("10.2.0.1"));
}

#[test]
fn nothing_leaves_without_an_sa() {
    let lab = Lab::without_sas(Options::default());
    lab.left.namespace.sh("ip route add default via 192.0.2.2");
    assert!(!lab.left.pings("10.2.0.1"));
    assert_eq!(lab.left.child().held_back, 1);
    assert_eq!(lab.left.dropped("no-sa"), 1);
    let id = lab.install(0x1000);
    assert!(lab.left.pings("10.2.0.1"));
    lab.left.plane.lock().unwrap().remove(id, Duration::from_secs(60));
    assert!(!lab.left.pings("10.2.0.1"));
    assert_eq!(lab.left.child().held_back, 2);
}

#[test]
fn what_no_policy_is_for_is_refused() {
    let options = Options::default();
    let mut ends = options.ends.clone();
    ends[0].remote.extend(nets(&["10.7.0.0/16"]));
    let lab = Lab::up(Options { ends, ..options });
    // A source that isn't local.
    lab.left.namespace.sh("ip addr add 10.9.0.1/32 dev lo");
    let (answered, text) = lab.left.namespace.try_sh("ping -n -c 1 -W 2 -I 10.9.0.1 10.2.0.1");
    assert!(!answered && text.contains("Packet filtered"), "{text}");
    assert_eq!(lab.left.dropped("no-policy"), 1);
    // Narrowed: the other end didn't agree on this one.
    assert!(!lab.left.pings("10.7.0.1"));
    assert_eq!((lab.left.child().outside_selectors, lab.left.child().selector_drops), (1, 0));
    assert_eq!(lab.right.child().selector_drops, 0);
}

#[test]
fn a_removed_interface_is_told() {
    let lab = Lab::up(Options::default());
    assert!(!lab.left.plane.lock().unwrap().is_broken());
    lab.left.namespace.sh("ip link del tide0");
    eventually("it is seen", || lab.left.plane.lock().unwrap().is_broken());
}
