//! The applier against the kernel, looked at with `ip` and `nft`.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use plan::overlay::{OverlayPlan, Route, Rule, Selector, TABLES, Target};
use testkit::Namespace;
use wireguard::{Applier, ApplyError, Scope};

const TEXT: &str = "table inet tidegate-overlay {}
delete table inet tidegate-overlay
table inet tidegate-overlay {
  chain marks {
    type filter hook prerouting priority mangle; policy accept;
    iifname \"wg-1\" ct mark set 0x10
  }
}
";

fn table(number: u32) -> u32 {
    TABLES.start() + number
}

fn route(number: u32, network: &str, target: Target) -> Route {
    Route { table: table(number), network: network.parse().unwrap(), target }
}

fn device(number: u32, network: &str, interface: &str) -> Route {
    route(number, network, Target::Device(interface.to_owned()))
}

fn rule(priority: u32, selector: Selector, number: u32) -> Rule {
    Rule { priority, v6: false, selector, table: table(number) }
}

fn plan() -> OverlayPlan {
    let via = |address: &str| Target::Via {
        address: address.parse::<IpAddr>().unwrap(),
        interface: "out0".to_owned(),
    };
    let mark = Selector::Mark { value: 0x10, mask: 0x70 };
    OverlayPlan {
        routes: vec![
            device(0, "10.9.0.0/16", "wg-1"),
            route(0, "10.8.0.0/16", Target::Unreachable),
            route(0, "10.9.7.0/24", Target::Throw),
            device(1, "0.0.0.0/0", "wg-1"),
            device(1, "::/0", "wg-1"),
            route(2, "0.0.0.0/0", via("192.0.2.9")),
        ],
        rules: vec![
            rule(5441, mark.clone(), 1),
            Rule { v6: true, ..rule(5441, mark, 1) },
            rule(5442, Selector::Incoming("out0".to_owned()), 2),
            rule(5443, Selector::All, 0),
        ],
        table: TEXT.to_owned(),
        sysctls: BTreeMap::from([("net.ipv4.conf.wg-1.rp_filter".to_owned(), 2)]),
        ..OverlayPlan::default()
    }
}

/// A machine with a link, an interface that takes the part of a tunnel, and others' state.
fn machine() -> Namespace {
    let machine = Namespace::alone("apply");
    machine.ip("link set lo up
link add out0 type veth peer name out0-peer
link set out0 up
link set out0-peer up
addr add 192.0.2.1/24 dev out0
route add default via 192.0.2.254
route add 10.7.0.0/16 dev out0 table 7777
rule add from 10.7.0.0/16 lookup 7777 pref 5450
rule add fwmark 0x1 lookup 7777 pref 6000");
    machine.command("nft", &["add", "table", "inet", "foreign"]);
    tunnel(&machine);
    machine
}

fn tunnel(machine: &Namespace) {
    machine.ip("link add wg-1 type veth peer name wg-1-peer
link set wg-1 up
link set wg-1-peer up
addr add 10.255.0.1/32 dev wg-1");
}

/// Everything that the applier may change, as others see it.
fn state(machine: &Namespace) -> String {
    let commands: [&[&str]; 5] = [
        &["ip", "rule", "show"],
        &["ip", "-6", "rule", "show"],
        &["ip", "route", "show", "table", "all"],
        &["ip", "-6", "route", "show", "table", "all"],
        &["nft", "list", "ruleset"],
    ];
    let text = commands.map(|words| machine.command(words[0], &words[1..])).join("\n");
    // What the kernel adds by itself comes when it comes.
    let lines = text.lines().filter(|line| !line.contains("proto kernel"));
    lines.collect::<Vec<_>>().join("\n")
}

fn apply(applier: &mut Applier, plan: &OverlayPlan) -> (usize, bool) {
    let report = applier.apply_routes(plan);
    let faults: Vec<_> = report.faults.iter().map(ToString::to_string).collect();
    assert!(faults.is_empty(), "{faults:?}");
    (report.changes, report.mended)
}

#[test]
fn a_plan_is_put_in_force_once_and_removed_without_a_trace() {
    let machine = machine();
    let before = state(&machine);
    machine.run(|| {
        let mut applier = Applier::open(Scope::edge()).unwrap();
        assert!(apply(&mut applier, &plan()).0 > 0);
        let state = state(&machine);
        let shown = |number| {
            let table = table(number).to_string();
            machine.command("ip", &["route", "show", "table", &table])
        };
        assert!(shown(0).contains("10.9.0.0/16 dev wg-1"), "{state}");
        assert!(shown(0).contains("unreachable 10.8.0.0/16"), "{state}");
        assert!(shown(0).contains("throw 10.9.7.0/24"), "{state}");
        assert!(shown(1).contains("default dev wg-1"), "{state}");
        assert!(shown(2).contains("default via 192.0.2.9 dev out0"), "{state}");
        assert!(state.contains("5441:\tfrom all fwmark 0x10/0x70 lookup"), "{state}");
        assert!(state.contains("5442:\tfrom all iif out0 lookup"), "{state}");
        assert!(state.contains("ct mark set 0x00000010"), "{state}");
        assert_eq!(machine.setting("ipv4/conf/wg-1/rp_filter"), "2");
        let way = |to: &str| machine.try_command("ip", &["route", "get", to], "");
        assert!(way("10.9.1.1").unwrap().contains("dev wg-1"));
        assert!(way("10.9.7.1").unwrap().contains("dev out0"));
        assert!(way("10.8.1.1").unwrap_err().contains("No route to host"));

        assert_eq!(apply(&mut applier, &plan()), (0, false));
        // Also by one who doesn't know what was there: only the table is loaded anew.
        let mut next = Applier::open(Scope::edge()).unwrap();
        assert_eq!(apply(&mut next, &plan()), (1, false));
        assert_eq!(self::state(&machine), state);
    });
    // One that is dropped has left it all.
    assert!(state(&machine).contains("5443:"));
    machine.run(|| {
        let report = Applier::open(Scope::edge()).unwrap().remove_all();
        assert!(report.faults.is_empty() && report.changes > 0, "{report:?}");
    });
    assert_eq!(state(&machine), before);
}

#[test]
fn what_others_take_away_is_mended_and_what_they_add_is_left_alone() {
    let machine = machine();
    machine.run(|| {
        let mut applier = Applier::open(Scope::edge()).unwrap();
        apply(&mut applier, &plan());
        let whole = state(&machine);
        applier.changed();
        assert!(!applier.changed());
        let zero = table(0);
        for (change, parts) in [
            (format!("ip route del 10.9.0.0/16 dev wg-1 table {zero}"), 1),
            (format!("ip route flush table {zero}"), 4),
            ("ip rule del pref 5441".to_owned(), 1),
            ("ip -6 rule del pref 5441".to_owned(), 1),
            ("nft delete table inet tidegate-overlay".to_owned(), 1),
            ("nft flush chain inet tidegate-overlay marks".to_owned(), 1),
        ] {
            let words: Vec<&str> = change.split(' ').collect();
            machine.command(words[0], &words[1..]);
            let fds = applier.descriptors();
            let told = netdev::wait::any(&fds, Some(Duration::from_secs(2))).unwrap();
            assert!(told.contains(&true), "{change}");
            assert!(applier.changed(), "{change}");
            assert_eq!(apply(&mut applier, &plan()), (parts, true), "{change}");
            assert_eq!(state(&machine), whole, "{change}");
        }
        machine.ip(&format!(
            "route add 10.6.0.0/16 dev out0 table {zero}\nrule add from 10.6.0.0/16 lookup {zero} pref 5445"
        ));
        let with_foreign = state(&machine);
        assert_eq!(apply(&mut applier, &plan()), (0, false));
        assert_eq!(state(&machine), with_foreign);
        let report = applier.remove_all();
        assert!(report.faults.is_empty(), "{report:?}");
        let left = state(&machine);
        assert!(left.contains("10.6.0.0/16 dev out0 table") && left.contains("5445:"), "{left}");
        assert!(left.contains("table inet foreign") && left.contains("5450:"), "{left}");
    });
}

#[test]
fn without_its_interface_a_network_is_refused_and_it_comes_back_with_it() {
    let machine = machine();
    machine.run(|| {
        let mut applier = Applier::open(Scope::edge()).unwrap();
        apply(&mut applier, &plan());
        let whole = state(&machine);
        applier.changed();
        let way = || machine.try_command("ip", &["route", "get", "10.9.1.1"], "");
        machine.ip("link del wg-1");
        // With nobody having done anything about it.
        assert!(way().unwrap_err().contains("No route to host"));
        assert!(applier.changed());
        let report = applier.apply_routes(&plan());
        let named = report.faults.iter().any(|fault| {
            matches!(fault, ApplyError::NoInterface { interface, .. } if interface == "wg-1")
        });
        assert!(named, "{report:?}");
        assert!(way().unwrap_err().contains("No route to host"));
        tunnel(&machine);
        assert!(applier.changed());
        apply(&mut applier, &plan());
        assert!(way().unwrap().contains("dev wg-1"));
        assert_eq!(state(&machine).lines().count(), whole.lines().count());
    });
}

#[test]
fn a_network_moves_to_another_interface_without_a_gap() {
    let machine = machine();
    machine.ip("link add wg-2 type veth peer name wg-2-peer
link set wg-2 up
link set wg-2-peer up
addr add 10.255.0.2/32 dev wg-2");
    machine.run(|| {
        let mut applier = Applier::open(Scope::edge()).unwrap();
        apply(&mut applier, &plan());
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        let mut next = plan();
        next.routes[0] = device(0, "10.9.0.0/16", "wg-2");
        let (mut refused, mut sent) = (0, 0);
        let end = Instant::now() + Duration::from_millis(500);
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                while Instant::now() < end {
                    sent += 1;
                    refused += usize::from(socket.send_to(b"x", "10.9.1.1:9").is_err());
                }
            });
            for plan in [&next, &plan(), &next] {
                // The thread that calls is in the machine's namespace.
                assert_eq!(apply(&mut applier, plan).0, 1);
            }
            sender.join().unwrap();
        });
        assert!(sent > 0);
        assert_eq!(refused, 0, "of {sent}");
        let way = machine.command("ip", &["route", "get", "10.9.1.1"]);
        assert!(way.contains("dev wg-2"), "{way}");
        next.routes[0] = route(0, "10.9.0.0/16", Target::Unreachable);
        apply(&mut applier, &next);
        assert!(machine.try_command("ip", &["route", "get", "10.9.1.1"], "").is_err());
    });
}

#[test]
fn what_is_outside_of_its_scope_is_not_made() {
    let machine = machine();
    let before = state(&machine);
    machine.run(|| {
        let mut applier = Applier::open(Scope::edge()).unwrap();
        let mut foreign = OverlayPlan::default();
        foreign.routes.push(Route { table: 254, ..device(0, "10.5.0.0/16", "out0") });
        foreign.rules.push(rule(100, Selector::All, 0));
        let report = applier.apply_routes(&foreign);
        assert_eq!((report.changes, report.faults.len()), (0, 2), "{report:?}");
        assert!(report.faults.iter().all(|fault| matches!(fault, ApplyError::Scope { .. })));
    });
    assert_eq!(state(&machine), before);
}

#[test]
fn a_setting_is_raised_and_never_lowered_and_faults_name_what_and_why() {
    let machine = machine();
    machine.set("ipv4/conf/out0/rp_filter", "2");
    machine.run(|| {
        let mut applier = Applier::open(Scope::edge()).unwrap();
        let key = |name: &str| name.to_owned();
        let wanted = OverlayPlan {
            sysctls: BTreeMap::from([
                (key("net.ipv4.conf.out0.rp_filter"), 1),
                (key("net.ipv4.ip_forward"), 1),
                (key("net.ipv4.conf.gone0.rp_filter"), 2),
            ]),
            ..OverlayPlan::default()
        };
        let report = applier.apply_routes(&wanted);
        assert_eq!(report.changes, 1);
        let said: Vec<_> = report.faults.iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("gone0") && said[0].contains("interface is gone"), "{said:?}");
    });
    assert_eq!(machine.setting("ipv4/conf/out0/rp_filter"), "2");
    assert_eq!(machine.setting("ipv4/ip_forward"), "1");
}
