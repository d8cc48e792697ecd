use std::net::UdpSocket;
use std::time::Duration;

use gateway::vpn::dataplane::Settings;

use crate::lab::{Lab, Options, eventually};

/// A ping that must not be fragmented; whether it is answered, and what ping says.
fn ping(lab: &Lab, to: &str, size: usize) -> (bool, String) {
    lab.left.namespace.try_sh(&format!("ping -n -c 1 -W 2 -M do -s {size} {to}"))
}

#[test]
fn packets_of_1438_octets_pass_and_larger_ones_are_answered() {
    for offloads in [true, false] {
        let options = Options::default();
        let settings = Settings { offloads, ..options.settings.clone() };
        let lab = Lab::up(Options { settings, ..options });
        assert!(ping(&lab, "10.2.0.1", 1438 - 28).0);
        let (answered, text) = ping(&lab, "10.2.0.1", 1439 - 28);
        assert!(!answered && text.contains("mtu") && text.contains("1438"), "{text}");
        assert_eq!(lab.left.child().too_big, 1);
        // The kernel has learnt.
        let route = lab.left.namespace.sh("ip route get 10.2.0.1");
        assert!(route.contains("mtu 1438"), "{route}");
        let (answered, text) = ping(&lab, "fd00:2::1", 1438 - 48);
        assert!(answered, "{text} {:?} {:?}", lab.left.counters(), lab.right.counters());
        let (answered, text) = ping(&lab, "fd00:2::1", 1439 - 48);
        assert!(!answered && text.contains("1438"), "{text}");
    }
}

#[test]
fn ipv6_outside_and_raw_esp_leave_other_room() {
    for (udp, outer_ipv6, largest) in
        [(true, true, 1418), (false, false, 1446), (false, true, 1426)]
    {
        let lab = Lab::up(Options { udp, outer_ipv6, ..Options::default() });
        assert!(ping(&lab, "10.2.0.1", largest - 28).0, "{largest}");
        let (_, text) = ping(&lab, "10.2.0.1", largest + 1 - 28);
        assert!(text.contains(&format!("mtu = {largest}")), "{text}");
    }
}

#[test]
fn packets_that_may_be_cut_up_are() {
    let lab = Lab::up(Options::default());
    for size in [1439, 1472, 4000, 60_000] {
        let command = format!("ping -n -c 1 -W 2 -M dont -s {size} 10.2.0.1");
        let (answered, text) = lab.left.namespace.try_sh(&command);
        assert!(answered, "{size}: {text}");
    }
    // Of TUN's own making: datagrams beyond the MTU.
    let listener = lab.right.namespace.run(|| UdpSocket::bind("10.2.0.1:0").unwrap());
    listener.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let to = listener.local_addr().unwrap();
    lab.left.namespace.run(move || {
        let socket = UdpSocket::bind("10.1.0.1:0").unwrap();
        socket.send_to(&[7; 9_000], to).unwrap();
    });
    let mut buffer = vec![0; 10_000];
    assert_eq!(listener.recv(&mut buffer).unwrap(), 9_000);
    assert_eq!(lab.left.child().too_big, 0);
}

#[test]
fn a_smaller_way_outside_makes_smaller_packets() {
    let options = Options::default();
    let lab = Lab::without_sas(options);
    for side in lab.sides() {
        side.namespace.sh("ip route add 192.0.2.2/32 dev out0 mtu 1400");
        side.namespace.sh("ip route add 192.0.2.1/32 dev out0 mtu 1400");
    }
    lab.install(0x1000);
    assert!(ping(&lab, "10.2.0.1", 1338 - 28).0);
    let (_, text) = ping(&lab, "10.2.0.1", 1339 - 28);
    assert!(text.contains("1338"), "{text}");
    lab.bulk("10.2.0.1", 8 << 20);
}

#[test]
fn a_way_that_becomes_smaller_is_learnt() {
    let lab = Lab::up(Options::default());
    for (side, other) in lab.sides().into_iter().zip([2, 1]) {
        side.namespace.sh(&format!("ip route add 192.0.2.{other}/32 dev out0 mtu 1400"));
    }
    lab.bulk("10.2.0.1", 8 << 20);
    eventually("smaller packets are answered, too", || {
        ping(&lab, "10.2.0.1", 1339 - 28).1.contains("1338")
    });
    assert!(ping(&lab, "10.2.0.1", 1338 - 28).0);
}
