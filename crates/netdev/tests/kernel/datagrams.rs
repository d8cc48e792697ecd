use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use netdev::esp_socket::{EspSocket, payload};
use netdev::udp::{Inbox, Outgoing, Received, Settings, UdpSocket, path_mtu};

use crate::lab::{Peer, alone, eventually, run, with_peer};

const SETTINGS: Settings =
    Settings { mark: 0x5447, dont_fragment: false, offloads: true, buffer: 1 << 20 };

fn addresses(peer: &Peer) {
    for (address, other) in [("192.0.2.1/24", "192.0.2.2/24"), ("2001:db8::1/64", "2001:db8::2/64")]
    {
        run(&format!("ip addr add {address} dev edge0"));
        peer.run(&format!("ip addr add {other} dev peer0"));
    }
    run("ip addr add 192.0.2.9/24 dev edge0");
}

/// All that comes until there are so many octets.
fn take(
    mut receive: impl FnMut(&mut Inbox) -> io::Result<usize>,
    octets: usize,
) -> Vec<(Received, Vec<u8>)> {
    let mut inbox = Inbox::new(4);
    let mut taken: Vec<(Received, Vec<u8>)> = Vec::new();
    eventually("datagrams come", || {
        if receive(&mut inbox).is_ok() {
            taken.extend(inbox.received().map(|(meta, bytes)| (meta, bytes.to_vec())));
        }
        taken.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() >= octets
    });
    taken
}

#[test]
fn many_datagrams_are_sent_and_taken_at_once() {
    with_peer(|peer| {
        addresses(peer);
        for (from, bound, to) in [
            ("192.0.2.9", "0.0.0.0:4500", "192.0.2.2:4500"),
            ("2001:db8::1", "[::]:4500", "[2001:db8::2]:4500"),
        ] {
            let (bound, to): (SocketAddr, SocketAddr) =
                (bound.parse().unwrap(), to.parse().unwrap());
            let there =
                peer.spawn(move || UdpSocket::bind(bound, &SETTINGS).unwrap()).join().unwrap();
            let here = UdpSocket::bind(bound, &SETTINGS).unwrap();
            let contents: Vec<u8> = (0..4_250).map(|at| (at / 1000) as u8).collect();
            let from: IpAddr = from.parse().unwrap();
            let outgoing =
                Outgoing { from: Some(from), to, tos: 2, contents: &contents, segment: 1000 };
            here.send(&outgoing).unwrap();
            let taken = take(|inbox| there.receive(inbox), 4_250);
            let all: Vec<u8> = taken.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
            assert_eq!(all, contents);
            for (meta, _) in &taken {
                assert_eq!((meta.from, meta.to), (SocketAddr::new(from, 4500), Some(to.ip())));
                assert_eq!((meta.stride.min(1000), meta.ecn), (meta.stride, 2));
            }
            assert!(here.has_segments());
            assert!(taken.len() < 5, "{} messages", taken.len());
        }
    });
}

#[test]
fn datagrams_beyond_the_mtu_are_sent_as_fragments_and_told_of() {
    with_peer(|peer| {
        addresses(peer);
        let there = peer
            .spawn(|| UdpSocket::bind("0.0.0.0:4500".parse().unwrap(), &SETTINGS).unwrap())
            .join()
            .unwrap();
        let here = UdpSocket::bind("0.0.0.0:4500".parse().unwrap(), &SETTINGS).unwrap();
        let contents = vec![7; 4_000];
        let outgoing = Outgoing {
            from: None,
            to: "192.0.2.2:4500".parse().unwrap(),
            tos: 0,
            contents: &contents,
            segment: 2_000,
        };
        let unsent = here.send(&outgoing).unwrap_err();
        assert!(unsent.is_too_big() && unsent.datagrams == 0, "{unsent}");
        assert_eq!(take(|inbox| there.receive(inbox), 4_000).len(), 2);
        assert!(here.has_segments());
    });
}

#[test]
fn several_sockets_share_a_port_and_all_without_offloads_works_too() {
    alone(|| {
        let settings = Settings { offloads: false, ..SETTINGS };
        let address = "127.0.0.1:4500".parse().unwrap();
        let sockets: Vec<UdpSocket> =
            (0..3).map(|_| UdpSocket::bind(address, &settings).unwrap()).collect();
        let sender = UdpSocket::bind("127.0.0.1:0".parse().unwrap(), &settings).unwrap();
        let contents = vec![1; 300];
        let outgoing =
            Outgoing { from: None, to: address, tos: 0, contents: &contents, segment: 100 };
        sender.send(&outgoing).unwrap();
        let taken = take(
            |inbox| {
                let mut receive = sockets.iter().map(|socket| socket.receive(inbox));
                receive.find(Result::is_ok).unwrap_or(Err(io::ErrorKind::WouldBlock.into()))
            },
            300,
        );
        assert_eq!(taken.len(), 3);
    });
}

#[test]
fn a_port_that_is_taken_is_told_with_its_remedy() {
    alone(|| {
        let other = std::net::UdpSocket::bind("127.0.0.1:500").unwrap();
        let address = "127.0.0.1:500".parse().unwrap();
        let error = UdpSocket::bind(address, &SETTINGS).unwrap_err().to_string();
        assert!(error.contains("127.0.0.1:500") && error.contains("charon"), "{error}");
        drop(other);
    });
}

#[test]
fn raw_esp_is_sent_and_taken() {
    with_peer(|peer| {
        addresses(peer);
        for (here, there) in [("192.0.2.9", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
            let (here, there): (IpAddr, IpAddr) = (here.parse().unwrap(), there.parse().unwrap());
            let bound = netdev::udp::wildcard(there);
            let other =
                peer.spawn(move || EspSocket::bind(bound, &SETTINGS).unwrap()).join().unwrap();
            let socket = EspSocket::bind(bound, &SETTINGS).unwrap();
            let contents: Vec<u8> = (0..250).collect();
            socket
                .send(&Outgoing {
                    from: Some(here),
                    to: SocketAddr::new(there, 4500),
                    tos: 0xb8,
                    contents: &contents,
                    segment: 100,
                })
                .unwrap();
            let header = if there.is_ipv4() { 20 } else { 0 };
            let mut all = Vec::new();
            for (meta, mut packet) in take(|inbox| other.receive(inbox), 250 + 3 * header) {
                assert_eq!((meta.from.ip(), meta.to), (here, Some(there)));
                if there.is_ipv4() {
                    assert_eq!(packet[1], 0xb8);
                }
                all.extend_from_slice(payload(there.is_ipv4(), &mut packet).unwrap());
            }
            assert_eq!(all, contents);
        }
    });
}

#[test]
fn the_path_mtu_is_what_the_route_says() {
    with_peer(|peer| {
        addresses(peer);
        let (v4, v6) = ("192.0.2.2".parse().unwrap(), "2001:db8::2".parse().unwrap());
        assert_eq!(path_mtu(None, v4, 0).unwrap(), 1500);
        assert_eq!(path_mtu(None, v6, 0).unwrap(), 1500);
        run("ip route add 198.51.100.0/24 via 192.0.2.2 mtu 1400");
        let via = Some("192.0.2.9".parse().unwrap());
        assert_eq!(path_mtu(via, "198.51.100.7".parse().unwrap(), 0x5447).unwrap(), 1400);
        assert!(path_mtu(None, "203.0.113.1".parse().unwrap(), 0).is_err());
    });
}

#[test]
fn waiting_for_a_frame_ends() {
    alone(|| {
        let settings = netdev::tun::Settings {
            name: "tide1".to_owned(),
            mtu: 1400,
            queues: 1,
            offloads: true,
        };
        let tun = netdev::tun::open(&settings).unwrap();
        run("sysctl -qw net.ipv6.conf.tide1.disable_ipv6=1");
        let mut frame = vec![0; netdev::tun::FRAME];
        while tun.queues[0].receive(&mut frame).is_ok() {}
        assert!(!tun.queues[0].wait(Duration::from_millis(1)).unwrap());
    });
}
