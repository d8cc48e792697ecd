use gateway::vpn::dataplane::{Dataplane, Settings};
use model::suite::{Encryption, Integrity};

use crate::lab::{Lab, Namespace, Options};

const MEGABYTES: usize = 8;

fn carries(options: Options) -> Lab {
    let lab = Lab::up(options);
    for (left, right) in [("10.1.0.1", "10.2.0.1"), ("fd00:1::1", "fd00:2::1")] {
        assert!(lab.left.pings(right), "left pings {right}: {:?}", lab.left.counters());
        assert!(lab.right.pings(left), "right pings {left}: {:?}", lab.right.counters());
        lab.bulk(right, MEGABYTES << 20);
    }
    for side in lab.sides() {
        let child = side.child();
        assert!(child.sent_packets > 100 && child.received_packets > 100, "{child:?}");
        assert_eq!((child.unauthentic, child.malformed, child.selector_drops), (0, 0, 0));
    }
    lab
}

#[test]
fn with_offloads_in_udp() {
    let lab = carries(Options::default());
    let offloads = lab.left.plane.lock().unwrap().offloads();
    assert!(offloads.header);
}

#[test]
fn without_offloads() {
    let options = Options::default();
    let settings = Settings { offloads: false, ..options.settings.clone() };
    carries(Options { settings, ..options });
}

#[test]
fn in_raw_esp() {
    carries(Options { udp: false, ..Options::default() });
    carries(Options { udp: false, outer_ipv6: true, ..Options::default() });
}

#[test]
fn over_ipv6() {
    carries(Options { outer_ipv6: true, ..Options::default() });
}

#[test]
fn with_several_workers() {
    let options = Options::default();
    let settings = Settings { workers: 3, ..options.settings.clone() };
    carries(Options { settings, replay_window: 4096, ..options });
}

#[test]
fn with_each_kind_of_cipher() {
    for (encryption, integrity, esn) in [
        (Encryption::Aes256Gcm16, None, false),
        (Encryption::ChaCha20Poly1305, None, true),
        (Encryption::Aes256Cbc, Some(Integrity::HmacSha256), true),
        (Encryption::Aes128Cbc, Some(Integrity::HmacSha512), false),
    ] {
        carries(Options { encryption, integrity, esn, ..Options::default() });
    }
}

#[test]
fn a_rekeying_loses_nothing() {
    let lab = Lab::up(Options::default());
    let mut old = lab.install(0x2000);
    std::thread::scope(|scope| {
        let bulk = scope.spawn(|| lab.bulk("10.2.0.1", 64 << 20));
        let mut spi = 0x3000;
        while !bulk.is_finished() && spi < 0x3000 + 60 {
            let new = lab.install(spi);
            spi += 2;
            for side in lab.sides() {
                let mut plane = side.plane.lock().unwrap();
                plane.remove(old, std::time::Duration::from_millis(200));
            }
            old = new;
        }
        bulk.join().unwrap();
    });
    let [left, right] = lab.sides().map(|side| side.counters());
    for counters in [&left, &right] {
        assert_eq!(counters.dropped["unknown-spi"], 0);
        assert_eq!(counters.dropped["no-sa"], 0);
    }
    // What SAs that are gone have counted is not lost. The last packets may be under way.
    assert!(lab.left.child().sent_bytes > 64 << 20);
    crate::lab::eventually("all that was sent has come", || {
        let (left, right) = (lab.left.child(), lab.right.child());
        left.sent_packets == right.received_packets && left.sent_bytes == right.received_bytes
    });
}

#[test]
fn for_hosts_behind_an_end() {
    let lab = Lab::up(Options::default());
    let (edge, host) = (&lab.left.namespace, Namespace::new("h"));
    edge.sh(&format!("ip link add in0 type veth peer name eth0 netns {}", host.name()));
    edge.sh("ip addr add 10.1.5.1/24 dev in0");
    edge.sh("ip addr add fd00:1:5::1/64 dev in0 nodad");
    host.sh("ip addr add 10.1.5.2/24 dev eth0");
    host.sh("ip addr add fd00:1:5::2/64 dev eth0 nodad");
    edge.sh("ip link set in0 up");
    host.sh("ip link set eth0 up");
    edge.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    host.sh("ip route add default via 10.1.5.1");
    host.sh("ip route add default via fd00:1:5::1");
    for to in ["10.2.0.1", "fd00:2::1"] {
        crate::lab::eventually("the host is there", || {
            host.try_sh(&format!("ping -n -c 1 -W 1 {to}")).0
        });
        let (_, seen) = lab.bulk_of(&host, None, to, MEGABYTES << 20);
        let host = if to.contains(':') { "fd00:1:5::2" } else { "10.1.5.2" };
        assert_eq!(seen, host.parse::<std::net::IpAddr>().unwrap());
    }
    let (_, text) = host.try_sh("ping -n -c 1 -W 2 -M do -s 1472 10.2.0.1");
    assert!(text.contains("mtu = 1438"), "{text}");
}
