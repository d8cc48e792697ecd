use std::net::UdpSocket;

use ipnet::IpNet;
use netdev::route::table::{self, Route, Target};
use netdev::rule::{self, Rule};
use netdev::sysctl::Family;

use crate::lab::{alone, run};

const TABLE: u32 = 7433;

fn rules() -> [Rule; 2] {
    [Family::V4, Family::V6].map(|family| Rule {
        family,
        priority: 7433,
        not: true,
        mark: 0x5447,
        mask: u32::MAX,
        from: None,
        incoming: None,
        table: TABLE,
    })
}

fn network(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn all_well(results: Vec<Result<(), table::TableError>>) {
    for result in results {
        result.unwrap();
    }
}

fn index(name: &str) -> u32 {
    netdev::address::interface(name).unwrap().index
}

/// Two interfaces: where the machine is reached, and where tunnels begin.
fn interfaces() {
    for (name, address) in [("out0", "192.0.2.1/24"), ("tun0", "10.9.0.1/32")] {
        run(&format!("ip link add {name} type veth peer name {name}-peer"));
        run(&format!("ip link set {name} up"));
        run(&format!("ip link set {name}-peer up"));
        run(&format!("ip addr add {address} dev {name}"));
    }
    run("ip route add default dev out0");
}

#[test]
fn rules_are_added_listed_and_removed_and_no_other() {
    alone(|| {
        assert_eq!(rule::list().unwrap(), []);
        run("ip rule add not fwmark 0x5447 lookup 7433 pref 7000");
        for rule in rules() {
            rule::add(&rule).unwrap();
            rule::add(&rule).unwrap();
        }
        assert_eq!(rule::list().unwrap(), rules());
        let shown = run("ip rule show pref 7433");
        assert_eq!(shown.trim(), "7433:\tnot from all fwmark 0x5447 lookup 7433 proto 84");
        for rule in rules() {
            rule::remove(&rule).unwrap();
            rule::remove(&rule).unwrap();
        }
        assert_eq!(rule::list().unwrap(), []);
        assert!(run("ip rule show").contains("7000:"));
    });
}

#[test]
fn rules_select_by_bits_of_the_mark_source_and_interface() {
    alone(|| {
        let plain = |priority| Rule {
            priority,
            not: false,
            mark: 0,
            mask: 0,
            ..rules().into_iter().next().unwrap()
        };
        let wanted = [
            Rule { mark: 0x10, mask: 0x70, ..plain(7001) },
            Rule { from: Some(network("10.1.0.0/16")), ..plain(7002) },
            Rule { incoming: Some("tun0".to_owned()), ..plain(7003) },
            Rule { from: Some(network("10.2.0.0/16")), ..plain(7003) },
            plain(7004),
            Rule { family: Family::V6, from: Some(network("fd00:1::/64")), ..plain(7002) },
        ];
        for rule in &wanted {
            rule::add(rule).unwrap();
        }
        assert_eq!(rule::list().unwrap(), wanted);
        let shown = run("ip rule show");
        for words in [
            "7001:\tfrom all fwmark 0x10/0x70 lookup 7433",
            "7002:\tfrom 10.1.0.0/16 lookup 7433",
            "7003:\tfrom all iif tun0 [detached] lookup 7433",
            "7004:\tfrom all lookup 7433",
        ] {
            assert!(shown.contains(words), "{words}: {shown}");
        }
        // Of two with one priority, the one that was meant.
        rule::remove(&wanted[3]).unwrap();
        assert!(run("ip rule show").contains("iif tun0"));
        for rule in &wanted {
            rule::remove(rule).unwrap();
        }
        assert_eq!(rule::list().unwrap(), []);
    });
}

#[test]
fn the_end_of_a_route_rule_or_interface_is_told_and_what_is_added_is_not() {
    alone(|| {
        interfaces();
        let mut monitor = netdev::route::monitor::Monitor::open().unwrap();
        let none = std::time::Duration::ZERO;
        let target = Target::Interface { index: index("tun0"), mtu: None, source: None };
        let routes = ["10.1.0.0/16", "2001:db8::/32"].map(|text| Route {
            network: network(text),
            metric: 10,
            target,
        });
        let add = || {
            all_well(table::add(TABLE, &routes));
            rule::add(&rules()[0]).unwrap();
        };
        add();
        run("ip route add 10.5.0.0/16 dev out0");
        run("ip route del 10.5.0.0/16");
        assert!(!monitor.wait(none).unwrap());
        for change in [
            "ip route del 10.1.0.0/16 table 7433",
            "ip -6 route flush table 7433",
            "ip rule del pref 7433",
            "ip link set tun0 down",
        ] {
            run(change);
            assert!(monitor.wait(std::time::Duration::from_secs(1)).unwrap(), "{change}");
            assert!(!monitor.wait(none).unwrap(), "once: {change}");
        }
    });
}

#[test]
fn a_rule_of_somebody_else_is_not_removed() {
    alone(|| {
        run("ip rule add not fwmark 0x5447 lookup 7433 pref 7433");
        rule::remove(&rules()[0]).unwrap();
        assert!(run("ip rule show").contains("7433:"));
    });
}

#[test]
fn routes_of_a_table_are_added_replaced_listed_and_removed_and_no_other() {
    alone(|| {
        interfaces();
        assert_eq!(table::list(TABLE).unwrap(), []);
        run("ip route add 10.1.0.0/16 dev tun0 table 7433 metric 5");
        run("ip route add 10.1.0.0/16 dev tun0 table 7434 proto 84");
        let tunnel = |text, mtu, source| Route {
            network: network(text),
            metric: 0,
            target: Target::Interface { index: index("tun0"), mtu, source },
        };
        let other = |text, metric, target| Route { network: network(text), metric, target };
        let neighbour = |text, gateway: &str| {
            let gateway = gateway.parse().unwrap();
            other(text, 0, Target::Neighbour { index: index("out0"), gateway })
        };
        let mut routes = vec![
            tunnel("10.1.0.0/16", Some(1400), Some("192.0.2.1".parse().unwrap())),
            other("10.1.0.0/16", 9000, Target::Blackhole),
            other("10.1.2.0/24", 0, Target::Throw),
            other("10.1.3.0/24", 0, Target::Unreachable),
            neighbour("10.1.4.0/24", "192.0.2.77"),
            neighbour("10.1.5.0/24", "fe80::77"),
            neighbour("2001:db8:4::/48", "fe80::77"),
            tunnel("0.0.0.0/0", None, None),
            tunnel("2001:db8::/32", Some(1300), None),
            other("2001:db8::/32", 9000, Target::Blackhole),
            other("2001:db8:1::/48", 0, Target::Throw),
        ];
        all_well(table::add(TABLE, &routes));
        all_well(table::add(TABLE, &routes));
        routes.sort_unstable();
        assert_eq!(table::list(TABLE).unwrap(), routes);

        let changed = tunnel("10.1.0.0/16", Some(1300), None);
        all_well(table::add(TABLE, &[changed]));
        let place = routes
            .iter()
            .position(|route| {
                route.network == changed.network && matches!(route.target, Target::Interface { .. })
            })
            .unwrap();
        routes[place] = changed;
        assert_eq!(table::list(TABLE).unwrap(), routes);

        let all = table::list_all().unwrap();
        assert_eq!(all.iter().filter(|(table, _)| *table == TABLE).count(), routes.len());
        assert!(all.iter().any(|(table, _)| *table == 7434));
        let shown = run("ip route show table 7433");
        assert!(shown.contains("unreachable 10.1.3.0/24"), "{shown}");
        assert!(shown.contains("10.1.4.0/24 via 192.0.2.77 dev out0"), "{shown}");
        assert!(shown.contains("10.1.5.0/24 via inet6 fe80::77 dev out0"), "{shown}");

        all_well(table::remove(TABLE, &routes));
        all_well(table::remove(TABLE, &routes));
        assert_eq!(table::list(TABLE).unwrap(), []);
        assert!(run("ip route show table 7433").contains("metric 5"));
        assert!(run("ip route show table 7434").contains("10.1.0.0/16"));
    });
}

#[test]
fn packets_without_the_mark_go_by_the_table_and_those_with_it_by_others() {
    alone(|| {
        interfaces();
        let into = |text, index| Route {
            network: network(text),
            metric: 0,
            target: Target::Interface { index, mtu: None, source: None },
        };
        let exempt = Route { network: network("10.1.2.0/24"), metric: 0, target: Target::Throw };
        all_well(table::add(TABLE, &[into("10.1.0.0/16", index("tun0")), exempt]));
        rule::add(&rules()[0]).unwrap();
        let way = |what: &str| run(&format!("ip route get {what}"));
        assert!(way("10.1.1.1").contains("dev tun0"));
        assert!(way("10.1.1.1 mark 0x5447").contains("dev out0"));
        assert!(way("10.1.2.1").contains("dev out0"));
    });
}

#[test]
fn a_blackhole_remains_when_the_interface_is_gone() {
    alone(|| {
        interfaces();
        let remote = network("10.1.0.0/16");
        let target = Target::Interface { index: index("tun0"), mtu: None, source: None };
        let nowhere = Route { network: remote, metric: 9000, target: Target::Blackhole };
        all_well(table::add(TABLE, &[Route { network: remote, metric: 0, target }, nowhere]));
        rule::add(&rules()[0]).unwrap();
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.send_to(b"x", "10.1.1.1:9").unwrap();
        run("ip link del tun0");
        assert_eq!(table::list(TABLE).unwrap(), [nowhere]);
        let error = socket.send_to(b"x", "10.1.1.1:9").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::libc::EINVAL), "{error}");
    });
}
