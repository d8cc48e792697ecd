use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use ipnet::Ipv4Net;
use netdev::address::{Event, Monitor};
use netdev::route::{add, list, remove};

use crate::address::seen;
use crate::lab::{alone, run, with_peer};

fn nets(texts: &[&str]) -> Vec<Ipv4Net> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn all_well(results: Vec<Result<(), netdev::route::RouteError>>) {
    for result in results {
        result.unwrap();
    }
}

#[test]
fn routes_are_added_listed_and_removed_and_no_other() {
    alone(|| {
        assert_eq!(list().unwrap(), []);
        run("ip addr add 192.0.2.7/32 dev lo");
        run("ip route add local 198.51.100.0/24 dev lo table local proto 99");
        run("ip route add blackhole 10.0.0.0/8 proto 84");
        let networks = nets(&["192.0.2.7/32", "198.51.100.0/24", "203.0.113.0/25"]);
        all_well(add(&networks));
        all_well(add(&networks));
        assert_eq!(list().unwrap(), networks);
        all_well(remove(&networks));
        all_well(remove(&networks));
        assert_eq!(list().unwrap(), []);
        let left = run("ip route show table local");
        assert!(left.contains("192.0.2.7") && left.contains("198.51.100.0/24 "), "{left}");
        assert!(run("ip route show proto 84").contains("10.0.0.0/8"));
    });
}

#[test]
fn many_routes_are_added_at_once() {
    alone(|| {
        let single =
            |number: u32| Ipv4Net::from(std::net::Ipv4Addr::from(0x0a00_0000 + 2 * number));
        let networks: Vec<Ipv4Net> = (0..3000).map(single).collect();
        all_well(add(&networks));
        assert_eq!(list().unwrap(), networks);
        all_well(remove(&networks));
        assert_eq!(list().unwrap(), []);
    });
}

#[test]
fn addresses_of_a_route_can_be_bound_and_reached_from_elsewhere() {
    with_peer(|peer| {
        run("ip addr add 192.0.2.1/24 dev edge0");
        peer.run("ip addr add 192.0.2.2/24 dev peer0");
        peer.run("ip route add 203.0.113.0/24 via 192.0.2.1");
        all_well(add(&nets(&["203.0.113.0/25"])));
        for address in ["203.0.113.0:80", "203.0.113.9:80", "203.0.113.127:80"] {
            let listener = TcpListener::bind(address).unwrap();
            let datagrams = UdpSocket::bind(address).unwrap();
            datagrams.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let client = peer.spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.write_all(b"tcp").unwrap();
                drop(stream);
                let socket = UdpSocket::bind("192.0.2.2:0").unwrap();
                socket.connect(address).unwrap();
                socket.send(b"udp").unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                let mut answer = [0; 3];
                socket.recv(&mut answer).unwrap();
                answer
            });
            let mut text = String::new();
            listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
            assert_eq!(text, "tcp");
            let (_, from) = datagrams.recv_from(&mut [0; 9]).unwrap();
            datagrams.send_to(b"yes", from).unwrap();
            assert_eq!(&client.join().unwrap(), b"yes");
        }
        assert!(TcpListener::bind("203.0.113.128:80").is_err());
    });
}

#[test]
fn the_end_of_our_routes_is_seen_and_no_other_route() {
    alone(|| {
        all_well(add(&nets(&["203.0.113.0/25"])));
        let mut monitor = Monitor::open().unwrap();
        run("ip route add local 198.51.100.0/24 dev lo table local");
        run("ip route del local 198.51.100.0/24 dev lo table local");
        all_well(add(&nets(&["203.0.113.128/25"])));
        run("ip -6 route add local 2001:db8::/64 dev lo table local proto 84");
        assert_eq!(monitor.wait(Duration::ZERO).unwrap(), None);
        run("ip route del local 203.0.113.0/25 dev lo table local");
        let gone = Event::RouteRemoved("203.0.113.0/25".parse().unwrap());
        assert_eq!(monitor.wait(Duration::from_secs(1)).unwrap(), Some(gone));
        run("ip addr add 192.0.2.7/32 dev lo");
        seen(&mut monitor, "an address", |event| matches!(event, Event::Added(_)));
        assert_eq!(monitor.wait(Duration::ZERO).unwrap(), None);
    });
}

#[test]
fn networks_of_the_main_table_are_told_and_default_routes_are_not() {
    alone(|| {
        run("ip link add out0 type veth peer name out1");
        run("ip link set out0 up");
        run("ip link set out1 up");
        run("ip addr add 192.0.2.1/24 dev out0");
        for route in ["default dev out0", "10.1.0.0/16 via 192.0.2.9", "unreachable 10.2.0.0/16"] {
            run(&format!("ip route add {route}"));
        }
        run("ip route add 10.3.0.0/16 dev out0 table 7433");
        run("ip route add 2001:db8::/32 dev out0");
        let index = netdev::address::interface("out0").unwrap().index;
        let expected = ["10.1.0.0/16", "192.0.2.0/24", "2001:db8::/32"];
        let expected = expected.map(|text| (text.parse().unwrap(), index));
        assert_eq!(netdev::route::main::networks().unwrap(), expected);
    });
}

#[test]
fn gateways_of_the_main_table_are_told_with_what_they_lead_to() {
    alone(|| {
        run("ip link add out0 type veth peer name out1");
        run("ip link set out0 up");
        run("ip link set out1 up");
        run("ip addr add 192.0.2.1/24 dev out0");
        run("ip addr add fd00::1/64 dev out0 nodad");
        for route in [
            "default via 192.0.2.254",
            "10.1.0.0/16 nexthop via 192.0.2.8 nexthop via 192.0.2.9",
            "10.2.0.0/16 via inet6 fd00::9",
            "10.3.0.0/16 via 192.0.2.7 table 7433",
            "default via fd00::fe",
        ] {
            run(&format!("ip route add {route}"));
        }
        let expected = [
            ("0.0.0.0/0", "192.0.2.254"),
            ("10.1.0.0/16", "192.0.2.8"),
            ("10.1.0.0/16", "192.0.2.9"),
            ("10.2.0.0/16", "fd00::9"),
            ("::/0", "fd00::fe"),
        ];
        let expected = expected.map(|(net, hop)| (net.parse().unwrap(), hop.parse().unwrap()));
        assert_eq!(netdev::route::main::hops().unwrap(), expected);
    });
}
