//! What others do to the kernel's state is seen and mended.

use std::time::{Duration, Instant};

use testkit::eventually;

use crate::{Edge, vip, web, web_on};

/// How soon it is to be as it should. A second is the goal; this machine may be busy.
const SOON: Duration = Duration::from_millis(1500);

fn served() -> Edge {
    let edge = Edge::start(&[web().yaml(), web_on(&[1]).yaml()]);
    edge.client().answer(vip(20, 80));
    edge
}

#[track_caller]
fn serves_soon(edge: &Edge) {
    let broken = Instant::now();
    edge.client().answer(vip(20, 80));
    assert!(broken.elapsed() < SOON, "after {:?}", broken.elapsed());
}

#[test]
fn flushed_ruleset_is_mended_within_a_second() {
    let edge = served();
    edge.edge().command("nft", &["flush", "ruleset"]);
    serves_soon(&edge);
}

#[test]
fn deleted_table_is_mended_and_a_foreign_one_left_alone() {
    let edge = served();
    let foreign = "table inet foreign { chain c { type filter hook input priority 5; counter; }; }";
    edge.edge().command_with("nft", &["-f", "-"], foreign);
    let list = || edge.edge().command("nft", &["-a", "list", "table", "inet", "foreign"]);
    let handles = |text: &str| -> Vec<String> {
        text.lines().filter_map(|line| Some(line.split_once("# handle")?.1.to_owned())).collect()
    };
    let before = handles(&list());
    edge.edge().command("nft", &["delete", "table", "inet", "tidegate"]);
    serves_soon(&edge);
    assert_eq!(handles(&list()), before);
}

#[test]
fn rule_that_somebody_added_to_our_table_is_removed() {
    let edge = served();
    let rules = edge.rules();
    let mut chain = "";
    let hooked = rules.lines().find_map(|line| {
        if let Some(name) = line.trim().strip_prefix("chain ") {
            chain = name.trim_end_matches(" {");
        }
        line.contains("type nat hook prerouting").then_some(chain)
    });
    let chain = hooked.unwrap_or_else(|| panic!("no chain at prerouting in {rules}"));
    edge.edge().command("nft", &["insert", "rule", "inet", "tidegate", chain, "drop"]);
    serves_soon(&edge);
}

#[test]
fn removed_address_comes_back() {
    let edge = served();
    let dump = edge.edge().command("ip", &["-o", "-4", "addr", "show", "to", "198.51.100.20"]);
    let prefix = dump.split_whitespace().nth(3).unwrap_or_else(|| panic!("{dump}")).to_owned();
    let gone = Instant::now();
    edge.edge().ip(&format!("addr del {prefix} dev pub0\n"));
    eventually("the address is back", || edge.edge().has_address(vip(20, 80).ip()).then_some(()));
    assert!(gone.elapsed() < SOON, "after {:?}", gone.elapsed());
    edge.client().answer(vip(20, 80));
}

#[test]
fn forwarding_is_on_for_the_families_that_are_served() {
    let edge = served();
    assert_eq!(edge.edge().setting("ipv4/ip_forward"), "1");
    // Nothing of IPv6 is served.
    assert_eq!(edge.edge().setting("ipv6/conf/all/forwarding"), "0");
}

#[test]
fn addresses_lost_with_the_link_come_back_with_it() {
    let service = web().spec("ipFamilyPolicy: RequireDualStack").yaml();
    let service = service.replace("198.51.100.20", "198.51.100.20,2001:db8:2::11");
    let slice = crate::web_slice().named("web-v6").ready(testkit::Lab::backend_address_v6(2));
    let edge = Edge::start(&[service, web_on(&[1]).yaml(), slice.yaml()]);
    edge.client().answer(vip(20, 80));
    edge.client().answer(crate::vip_v6(0x11, 80));
    // IPv6 addresses go with it, the edge's own too, which is not the gateway's to put back.
    edge.edge().ip("link set pub0 down\nlink set pub0 up\n");
    edge.edge().ip("addr replace 2001:db8:1::1/64 dev pub0 nodad\n");
    edge.client().answer(vip(20, 80));
    edge.client().answer(crate::vip_v6(0x11, 80));
}
