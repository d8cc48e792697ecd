use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use model::net::Protocol;
use netdev::conntrack::{Filter, delete, delete_if, list};
use netdev::sysctl;
use socket2::{Domain, Socket, Type};

use crate::lab::{alone, run};

/// VIPs on loopback, translated to endpoints there.
const RULES: &str = "table inet nat {
  chain c {
    type nat hook output priority -100; policy accept;
    ip daddr 192.0.2.9 udp dport 53 dnat ip to 127.0.0.2:5353
    ip daddr 192.0.2.8 udp dport 53 dnat ip to 127.0.0.2:5353
    ip6 daddr 2001:db8::9 udp dport 53 dnat ip6 to [::1]:5353
    ip daddr 192.0.2.9 sctp dport 36412 dnat ip to 127.0.0.2:3868
    ip daddr 192.0.2.9 tcp dport 80 dnat ip to 127.0.0.2:8080
  }
}
";

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Without rules that need it the kernel tracks nothing.
fn load_rules() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules");
    std::fs::write(&file, RULES).unwrap();
    run(&format!("nft -f {}", file.display()));
}

/// A datagram from a client to each VIP, and one to the endpoint itself.
fn traffic() -> Vec<UdpSocket> {
    load_rules();
    run("ip addr add 192.0.2.8/32 dev lo");
    run("ip addr add 192.0.2.9/32 dev lo");
    run("ip addr add 2001:db8::9/128 dev lo nodad");
    let mut sockets =
        vec![UdpSocket::bind("127.0.0.2:5353").unwrap(), UdpSocket::bind("[::1]:5353").unwrap()];
    for to in ["192.0.2.9:53", "192.0.2.8:53", "127.0.0.2:5353"] {
        let client = UdpSocket::bind("0.0.0.0:0").unwrap();
        client.send_to(b"query", to).unwrap();
        sockets.push(client);
    }
    let client = UdpSocket::bind("[::]:0").unwrap();
    client.send_to(b"query", "[2001:db8::9]:53").unwrap();
    sockets.push(client);
    // A connection over TCP to the same endpoint's address.
    let listener = std::net::TcpListener::bind("127.0.0.2:8080").unwrap();
    let stream = std::net::TcpStream::connect("192.0.2.9:80").unwrap();
    let (accepted, _) = listener.accept().unwrap();
    std::mem::forget((stream, accepted));
    sockets
}

fn fronts(filter: &Filter) -> Vec<String> {
    let mut fronts: Vec<String> = list(filter)
        .unwrap()
        .iter()
        .map(|entry| format!("{} {}", entry.protocol, entry.original.destination_socket().unwrap()))
        .collect();
    fronts.sort();
    fronts
}

#[test]
fn entries_are_listed_as_they_are() {
    alone(|| {
        let _sockets = traffic();
        let filter = Filter {
            frontends: [(Protocol::Udp, socket("[2001:db8::9]:53"))].into(),
            ..Filter::default()
        };
        let entries = list(&filter).unwrap();
        let [entry] = entries.as_slice() else { panic!("{entries:?}") };
        assert_eq!(entry.protocol, 17);
        assert_eq!(entry.reply.source_socket(), Some(socket("[::1]:5353")));
        assert!(entry.is_translated() && !entry.is_answered(), "{entry:?}");
        assert!(entry.timeout.unwrap() > Duration::from_secs(1));
        assert_eq!((entry.mark, entry.zone), (0, 0));
    });
}

#[test]
fn the_entries_of_a_removed_endpoint_go_and_others_stay() {
    alone(|| {
        let _sockets = traffic();
        let all = Filter::all();
        assert_eq!(list(&all).unwrap().len(), 5, "{:?}", fronts(&all));
        let filter = Filter {
            protocols: vec![Protocol::Udp, Protocol::Sctp],
            endpoints: Protocol::ALL
                .into_iter()
                .flat_map(|p| ["127.0.0.2:5353", "127.0.0.2:8080"].map(|to| (p, socket(to))))
                .collect(),
            ..Filter::default()
        };
        assert_eq!(delete(&filter).unwrap(), 2);
        // Not translated; TCP; another endpoint.
        let left = ["17 127.0.0.2:5353", "17 [2001:db8::9]:53", "6 192.0.2.9:80"];
        assert_eq!(fronts(&all), left);
        assert_eq!(delete(&filter).unwrap(), 0);
    });
}

#[test]
fn an_endpoint_removed_from_one_service_keeps_its_entries_of_another() {
    alone(|| {
        let _sockets = traffic();
        let filter = |front: &str, back: &str| Filter {
            translations: [(Protocol::Udp, socket(front), socket(back))].into(),
            ..Filter::default()
        };
        assert_eq!(delete(&filter("192.0.2.8:53", "127.0.0.2:5353")).unwrap(), 1);
        assert!(fronts(&Filter::all()).contains(&"17 192.0.2.9:53".to_owned()));
        assert_eq!(delete(&filter("192.0.2.9:53", "127.0.0.3:5353")).unwrap(), 0);
        assert_eq!(delete(&filter("192.0.2.9:54", "127.0.0.2:5353")).unwrap(), 0);
        assert_eq!(delete(&filter("0.0.0.0:53", "127.0.0.2:5353")).unwrap(), 1);
        assert_eq!(delete(&filter("[::]:53", "[::1]:5353")).unwrap(), 1);
    });
}

#[test]
fn the_entries_of_a_vip_go() {
    alone(|| {
        let _sockets = traffic();
        let filter = Filter {
            destinations: [socket("192.0.2.9:0").ip(), socket("[2001:db8::9]:0").ip()].into(),
            ..Filter::default()
        };
        assert_eq!(delete(&filter).unwrap(), 3);
        assert_eq!(fronts(&Filter::all()), ["17 127.0.0.2:5353", "17 192.0.2.8:53"]);
    });
}

#[test]
fn entries_of_sctp_go_by_their_endpoint() {
    alone(|| {
        let _sockets = traffic();
        // An INIT chunk (RFC 9260, 3.3.2) that nobody answers.
        let mut packet = vec![0; 32];
        packet[..4].copy_from_slice(&[0x13, 0x88, 0x8e, 0x3c]);
        packet[12..20].copy_from_slice(&[1, 0, 0, 20, 0, 0, 0, 1]);
        packet[20..].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
        let raw = Socket::new(Domain::IPV4, Type::RAW, Some(socket2::Protocol::SCTP)).unwrap();
        raw.send_to(&packet, &socket("192.0.2.9:0").into()).unwrap();
        let endpoint = |protocol| Filter {
            endpoints: [(protocol, socket("127.0.0.2:3868"))].into(),
            ..Filter::default()
        };
        assert_eq!(fronts(&endpoint(Protocol::Sctp)), ["132 192.0.2.9:36412"]);
        assert_eq!(delete(&endpoint(Protocol::Udp)).unwrap(), 0);
        assert_eq!(delete(&endpoint(Protocol::Sctp)).unwrap(), 1);
    });
}

#[test]
fn entries_without_ports_go_too() {
    alone(|| {
        load_rules();
        sysctl::set(&sysctl::Key::new("net.ipv4.ping_group_range"), "0\t0").unwrap();
        for (domain, protocol, echo, to) in [
            (Domain::IPV4, socket2::Protocol::ICMPV4, 8, "127.0.0.1:0"),
            (Domain::IPV6, socket2::Protocol::ICMPV6, 128, "[::1]:0"),
        ] {
            let ping = Socket::new(domain, Type::DGRAM, Some(protocol)).unwrap();
            ping.send_to(&[echo, 0, 0, 0, 0, 0, 0, 1], &socket(to).into()).unwrap();
        }
        let kinds = || -> Vec<u8> {
            list(&Filter::all()).unwrap().iter().map(|entry| entry.protocol).collect()
        };
        assert!(kinds().contains(&1) && kinds().contains(&58), "{:?}", kinds());
        assert_eq!(delete(&Filter::all()).unwrap(), 2);
        assert!(kinds().is_empty(), "{:?}", kinds());
    });
}

#[test]
fn one_pass_is_enough_for_many() {
    alone(|| {
        load_rules();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let _ = client.set_nonblocking(true);
        for host in 2..22 {
            for port in 1_000..2_000 {
                let _ = client.send_to(b"x", (std::net::Ipv4Addr::new(127, 0, 0, host), port));
                // Nobody is there: take the refusal off.
                let _ = client.take_error();
            }
        }
        let all = list(&Filter::all()).unwrap().len();
        assert!(all > 19_000, "{all}");
        let start = Instant::now();
        let deleted =
            delete_if(|entry| entry.original.destination_socket().unwrap().port() < 1_500);
        let deleted = deleted.unwrap();
        println!("{deleted} of {all} in {:?}", start.elapsed());
        assert!(deleted > 9_000, "{deleted}");
        assert!(start.elapsed() < Duration::from_secs(5));
        assert_eq!(list(&Filter::all()).unwrap().len(), all - deleted);
    });
}
