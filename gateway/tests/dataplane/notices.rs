use std::net::UdpSocket;
use std::time::Duration;

use gateway::vpn::dataplane::{Dataplane, FromNetwork, Limits};
use ipsec::ike::event::Transmit;
use ipsec::sa::Path;

use crate::lab::{Lab, Options, eventually};

#[test]
fn a_packet_without_sa_asks_for_one_and_not_more_than_once_a_second() {
    let lab = Lab::without_sas(Options::default());
    lab.left.namespace.run(|| {
        let socket = UdpSocket::bind("10.1.0.1:0").unwrap();
        for _ in 0..100 {
            socket.send_to(b"x", "10.2.0.1:9").unwrap();
        }
    });
    eventually("they are dropped", || lab.left.child().held_back == 100);
    let told = lab.left.told();
    let asked = told.iter().filter(|told| {
        matches!(told, FromNetwork::Acquire { connection, child }
            if &**connection == "test/link" && &**child == "net")
    });
    assert_eq!(asked.count(), 1);
}

#[test]
fn the_first_packet_on_an_sa_is_told() {
    let lab = Lab::up(Options::default());
    assert!(lab.left.pings("10.2.0.1"));
    for side in lab.sides() {
        let told = side.told();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(matches!(told[0], FromNetwork::Alive { .. }), "{told:?}");
    }
}

#[test]
fn another_path_is_told_and_the_old_one_kept_until_it_is_changed() {
    let lab = Lab::up(Options::default());
    assert!(lab.left.pings("10.2.0.1"));
    // As if NAT had given left another port.
    lab.left.namespace.sh("nft add table ip nat");
    lab.left
        .namespace
        .sh("nft add chain ip nat post { type nat hook postrouting priority srcnat ; }");
    lab.left.namespace.sh("nft add rule ip nat post udp sport 4500 counter snat to 192.0.2.1:4777");
    assert!(lab.left.pings("10.2.0.1"));
    let moved = || {
        lab.right.told().into_iter().find_map(|told| match told {
            FromNetwork::Moved { sa, path } => Some((sa, path)),
            _ => None,
        })
    };
    let (sa, path) = moved().unwrap();
    assert_eq!(path.remote, "192.0.2.1:4777".parse().unwrap());
    assert_eq!(path.local, "192.0.2.2:4500".parse().unwrap());
    lab.right.plane.lock().unwrap().set_path(&[sa], path, true);
    assert!(lab.left.pings("10.2.0.1"));
}

#[test]
fn ike_goes_both_ways_with_its_marker() {
    let lab = Lab::without_sas(Options::default());
    for (from, to, text) in [(500, 500, "on 500"), (4500, 4500, "on 4500"), (4500, 4500, "again")] {
        let path = Path {
            local: format!("192.0.2.1:{from}").parse().unwrap(),
            remote: format!("192.0.2.2:{to}").parse().unwrap(),
        };
        let payload = text.as_bytes().to_vec();
        lab.left.plane.lock().unwrap().transmit(&Transmit { path, payload });
        let keepalive = Transmit { path, payload: vec![0xff] };
        if from == 4500 {
            lab.left.plane.lock().unwrap().transmit(&keepalive);
        }
        eventually("it comes", || {
            lab.right.told().iter().any(|told| match told {
                FromNetwork::Ike { path: came, datagram, .. } => {
                    datagram == text.as_bytes()
                        && (came.local, came.remote) == (path.remote, path.local)
                }
                _ => false,
            })
        });
    }
    assert_eq!(lab.right.told().len(), 3);
}

#[test]
fn an_unknown_spi_is_told_once_a_second_for_each_source() {
    let lab = Lab::without_sas(Options::default());
    lab.left.namespace.run(|| {
        for address in ["192.0.2.1:0", "192.0.2.1:0"] {
            let socket = UdpSocket::bind(address).unwrap();
            for _ in 0..50 {
                socket.send_to(&[0xaa; 60], "192.0.2.2:4500").unwrap();
            }
        }
    });
    eventually("they are dropped", || lab.right.dropped("unknown-spi") == 100);
    let told = lab.right.told();
    assert!((1..=2).contains(&told.len()), "{told:?}");
    assert!(matches!(told[0], FromNetwork::UnknownSpi { spi, .. } if spi.get() == 0xaaaa_aaaa));
}

#[test]
fn a_worn_sa_is_told_once() {
    for limits in
        [Limits { packets: Some(20), bytes: None }, Limits { packets: None, bytes: Some(2_000) }]
    {
        let lab = Lab::without_sas(Options::default());
        let limits = [("test/link".into(), limits)].into();
        lab.left.plane.lock().unwrap().set_limits(limits);
        let id = lab.install(0x1000);
        lab.left.namespace.run(|| {
            let socket = UdpSocket::bind("10.1.0.1:0").unwrap();
            for _ in 0..100 {
                socket.send_to(&[0; 100], "10.2.0.1:9").unwrap();
            }
        });
        let worn = || {
            let is_worn =
                |told: &FromNetwork| matches!(told, FromNetwork::Worn { sa } if *sa == id);
            lab.left.told().iter().filter(|told| is_worn(told)).count()
        };
        eventually("it is told", || worn() == 1);
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!(worn(), 1);
    }
}
