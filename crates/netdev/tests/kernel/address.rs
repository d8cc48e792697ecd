use std::net::IpAddr;
use std::time::{Duration, Instant};

use netdev::address::{
    Added, AddressError, Event, Monitor, Scope, add, host_addresses, interface, list, remove,
};
use netdev::sysctl;

use crate::lab::{alone, run, with_peer};

const SECOND: Duration = Duration::from_secs(1);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn addresses_are_added_once_listed_and_removed() {
    with_peer(|_| {
        run("ip addr add 192.0.2.1/24 dev edge0");
        for (vip, network) in [("192.0.2.9", "192.0.2.9/32"), ("2001:db8::9", "2001:db8::9/128")] {
            assert_eq!(add("edge0", ip(vip)).unwrap(), Added::Now);
            assert_eq!(add("edge0", ip(vip)).unwrap(), Added::Before);
            let all = list().unwrap();
            let found = all.iter().find(|address| address.network.addr() == ip(vip)).unwrap();
            assert_eq!(found.network.to_string(), network);
            assert_eq!(found.interface, "edge0");
            assert_eq!(found.scope, Scope::Global);
            assert!(found.ours && found.permanent && !found.tentative, "{found:?}");
            assert!(!run("ip route show table main").contains(vip));
            assert!(!run("ip -6 route show table main").contains(vip));
        }
        let own: Vec<String> =
            host_addresses().unwrap().iter().map(|own| own.network.to_string()).collect();
        assert!(own.contains(&"192.0.2.1/24".to_owned()), "{own:?}");
        assert!(!own.iter().any(|network| network.contains(":9") || network.contains(".9")));
        for vip in ["192.0.2.9", "2001:db8::9"] {
            assert!(remove("edge0", ip(vip)).unwrap());
            assert!(!remove("edge0", ip(vip)).unwrap());
            assert!(!run("ip addr").contains(vip));
        }
        assert!(run("ip addr").contains("192.0.2.1/24"));
    });
}

#[test]
fn removing_an_address_leaves_a_subnet_of_the_same_address_alone() {
    with_peer(|_| {
        run("ip addr add 192.0.2.9/24 dev edge0");
        assert!(!remove("edge0", ip("192.0.2.9")).unwrap());
        assert!(run("ip addr").contains("192.0.2.9/24"));
    });
}

#[test]
fn a_missing_interface_is_named() {
    alone(|| {
        let error = add("eth7", ip("192.0.2.9")).unwrap_err();
        assert!(matches!(error, AddressError::NoInterface { .. }), "{error:?}");
        assert!(error.to_string().contains("`eth7`"), "{error}");
        assert!(!remove("eth7", ip("192.0.2.9")).unwrap());
    });
}

#[test]
fn an_address_that_is_refused_is_named_with_its_interface() {
    with_peer(|_| {
        run("sysctl -qw net.ipv6.conf.edge0.disable_ipv6=1");
        let error = add("edge0", ip("2001:db8::9")).unwrap_err().to_string();
        assert!(error.contains("2001:db8::9") && error.contains("`edge0`"), "{error}");
        assert!(error.contains("disable_ipv6"), "{error}");
    });
}

#[test]
fn an_interface_is_described() {
    with_peer(|peer| {
        run("ip link set edge0 address 02:00:5e:00:00:01 mtu 1400");
        let edge = interface("edge0").unwrap();
        assert_eq!(edge.mac.unwrap().to_string(), "02:00:5e:00:00:01");
        assert_eq!(edge.mtu, 1400);
        assert!(edge.up && edge.carrier && edge.neighbours, "{edge:?}");
        peer.run("ip link set peer0 down");
        let edge = interface("edge0").unwrap();
        assert!(edge.up && !edge.carrier, "{edge:?}");
        let loopback = interface("lo").unwrap();
        assert!(!loopback.neighbours && loopback.index == 1, "{loopback:?}");
    });
}

/// The first event for which it holds, within a second.
pub(crate) fn seen(monitor: &mut Monitor, what: &str, mut so: impl FnMut(&Event) -> bool) {
    let start = Instant::now();
    while let Some(event) = monitor.wait(SECOND.saturating_sub(start.elapsed())).unwrap() {
        if so(&event) {
            return;
        }
    }
    panic!("not within a second: {what}");
}

#[test]
fn what_others_do_to_addresses_and_interfaces_is_seen_within_a_second() {
    with_peer(|_| {
        add("edge0", ip("192.0.2.9")).unwrap();
        let mut monitor = Monitor::open().unwrap();
        assert_eq!(monitor.wait(Duration::ZERO).unwrap(), None);
        run("ip addr del 192.0.2.9/32 dev edge0");
        seen(&mut monitor, "the VIP is gone", |event| {
            matches!(event, Event::Removed(address) if address.interface == "edge0"
                && address.network.addr() == ip("192.0.2.9") && address.ours)
        });
        run("ip addr add 2001:db8::7/64 dev edge0");
        seen(
            &mut monitor,
            "another address",
            |event| matches!(event, Event::Added(address) if address.network.addr() == ip("2001:db8::7")),
        );
        run("ip link set edge0 down");
        seen(
            &mut monitor,
            "down",
            |event| matches!(event, Event::Interface(found) if found.name == "edge0" && !found.up),
        );
        run("ip link set edge0 up");
        seen(
            &mut monitor,
            "up",
            |event| matches!(event, Event::Interface(found) if found.name == "edge0" && found.carrier),
        );
        run("ip link add late0 type veth peer name late1");
        run("ip addr add 198.51.100.1/32 dev late0");
        seen(
            &mut monitor,
            "an interface that is new",
            |event| matches!(event, Event::Added(address) if address.interface == "late0"),
        );
        run("ip link del edge0");
        seen(
            &mut monitor,
            "gone",
            |event| matches!(event, Event::Gone(found) if found.name == "edge0"),
        );
    });
}

#[test]
fn settings_are_those_of_the_namespace() {
    alone(|| {
        let key = sysctl::forwarding_v4();
        run("sysctl -qw net.ipv4.ip_forward=0");
        assert_eq!(sysctl::set(&key, "1").unwrap(), "0");
        assert_eq!(sysctl::set(&key, "1").unwrap(), "1");
        assert_eq!(run("sysctl -n net.ipv4.ip_forward"), "1\n");
        sysctl::set(&sysctl::forwarding_v6(), "1").unwrap();
        assert_eq!(run("sysctl -n net.ipv6.conf.all.forwarding"), "1\n");
        let error = sysctl::set(&key, "nonsense").unwrap_err().to_string();
        assert!(error.contains("net.ipv4.ip_forward") && error.contains("nonsense"), "{error}");
    });
}

#[test]
fn an_interface_with_the_dummy_address_takes_clients_packets_with_a_loose_filter() {
    with_peer(|peer| {
        run("sysctl -qw net.ipv4.conf.edge0.rp_filter=2");
        run("ip addr add 192.0.2.1/32 dev lo");
        run("ip route add 203.0.113.0/24 dev lo");
        peer.run("ip addr add 203.0.113.10/32 dev peer0");
        peer.run("ip route add 192.0.2.1 dev peer0 src 203.0.113.10");
        // No ARP: the interface answers for its own addresses alone.
        let mac = netdev::address::interface("edge0").unwrap().mac.unwrap();
        peer.run(&format!("ip neigh add 192.0.2.1 lladdr {mac} dev peer0"));
        let socket = std::net::UdpSocket::bind("192.0.2.1:9000").unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
        let send = || {
            let sending = peer.spawn(|| {
                let client = std::net::UdpSocket::bind("203.0.113.10:0").unwrap();
                client.send_to(b"x", "192.0.2.1:9000").unwrap();
            });
            sending.join().unwrap();
            socket.recv_from(&mut [0; 8]).is_ok()
        };
        assert!(!send(), "the kernel takes it anyway");
        assert_eq!(netdev::address::add_dummy("edge0").unwrap(), Added::Now);
        assert_eq!(netdev::address::add_dummy("edge0").unwrap(), Added::Before);
        assert!(run("ip addr show dev edge0").contains("192.0.0.8/32 scope host"));
        assert!(send());
    });
}
