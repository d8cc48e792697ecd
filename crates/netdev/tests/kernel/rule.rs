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
        let mut routes = vec![
            tunnel("10.1.0.0/16", Some(1400), Some("192.0.2.1".parse().unwrap())),
            other("10.1.0.0/16", 9000, Target::Blackhole),
            other("10.1.2.0/24", 0, Target::Throw),
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
