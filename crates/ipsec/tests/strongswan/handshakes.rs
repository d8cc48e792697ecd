//! How a connection comes about.

use ipsec::ike::config::{Settings, Start};
use ipsec::ike::event::Failure;
use model::suite::{Purpose, parse_list};

use crate::peer::{Ends, Swan, child, connection};

/// One handshake each way with these proposals.
#[track_caller]
fn both_ways(ike: &str, esp: &str) {
    for starts in [false, true] {
        let swan = Swan { proposals: ike.into(), esp: esp.into(), starts, ..Swan::default() };
        let mut ours = connection();
        ours.proposals = parse_list(ike, Purpose::Ike, true).unwrap();
        ours.children = vec![child("net", "10.1.0.0/24", "10.2.0.0/24", esp)];
        ours.start = if starts { Start::Wait } else { Start::Now };
        let mut ends = Ends::new(swan.builder(), ours);
        ends.until_up(1);
    }
}

#[test]
fn aes_gcm_and_curve25519() {
    both_ways("aes128gcm16-prfsha256-x25519", "aes128gcm16");
    both_ways("aes256gcm16-prfsha384-x25519", "aes256gcm16-x25519");
}

#[test]
fn chacha20_and_nist_curves() {
    both_ways("chacha20poly1305-prfsha256-ecp256", "chacha20poly1305");
    both_ways("chacha20poly1305-prfsha512-ecp384", "chacha20poly1305-ecp384");
    both_ways("aes256gcm16-prfsha512-ecp521", "aes256gcm16");
}

#[test]
fn aes_cbc_and_modp() {
    both_ways("aes128-sha256-modp2048", "aes128-sha256");
    both_ways("aes256-sha384-modp3072", "aes256-sha384");
    both_ways("aes256-sha512-modp4096", "aes192-sha512");
}

#[test]
fn legacy_algorithms_if_allowed() {
    both_ways("3des-sha1-modp1024", "3des-sha1");
}

#[test]
fn the_group_that_the_peer_asks_for_is_tried() {
    let swan = Swan { proposals: "aes128-sha256-ecp256".into(), ..Swan::default() };
    let mut ours = connection();
    ours.proposals = parse_list(
        "aes128gcm16-prfsha256-x25519, aes128-sha256-modp2048-ecp256",
        Purpose::Ike,
        false,
    )
    .unwrap();
    Ends::new(swan.builder(), ours).until_up(1);
}

#[test]
fn we_ask_for_our_group() {
    let swan =
        Swan { proposals: "aes128-sha256-modp2048-ecp256".into(), starts: true, ..Swan::default() };
    let mut ours = connection();
    ours.proposals = parse_list("aes128-sha256-ecp256", Purpose::Ike, false).unwrap();
    ours.start = Start::Wait;
    Ends::new(swan.builder(), ours).until_up(1);
}

#[test]
fn several_selectors_in_one_child() {
    let swan = Swan {
        subnets: ("10.2.0.0/24,10.2.0.1/32".into(), "10.1.0.0/24,172.30.0.0/16".into()),
        ..Swan::default()
    };
    let mut ours = connection();
    ours.children = vec![child("net", "10.1.0.0/24 172.30.0.0/16", "10.2.0.0/24", "aes128gcm16")];
    let mut ends = Ends::new(swan.builder(), ours);
    ends.until_up(1);
    assert_eq!(ends.children[0].local.len(), 2);
    assert!(ends.swan.sas().contains("172.30.0.0/16"));
}

#[test]
fn selectors_are_narrowed() {
    for starts in [false, true] {
        let swan = Swan {
            subnets: ("10.2.0.0/24".into(), "10.0.0.0/8".into()),
            starts,
            ..Swan::default()
        };
        let mut ours = connection();
        ours.children = vec![child("net", "10.1.0.0/24", "10.2.0.0/16", "aes128gcm16")];
        ours.start = if starts { Start::Wait } else { Start::Now };
        let mut ends = Ends::new(swan.builder(), ours);
        ends.until_up(1);
        assert_eq!(ends.children[0].local[0].to_string(), "10.1.0.0/24");
        assert_eq!(ends.children[0].remote[0].to_string(), "10.2.0.0/24");
    }
}

#[test]
fn cookies_are_answered() {
    let builder =
        Swan::default().builder().settings("cookie_threshold = 0\ncookie_threshold_ip = 0");
    let mut ends = Ends::new(builder, connection());
    ends.until_up(1);
}

#[test]
fn cookies_are_asked_for() {
    let swan = Swan { starts: true, ..Swan::default() };
    let mut ours = connection();
    ours.start = Start::Wait;
    let settings = Settings { cookie_threshold: 0, ..Settings::default() };
    let mut ends = Ends::with(swan.builder(), ours, settings);
    ends.until_up(1);
    assert!(ends.engine.counters().cookies_sent > 0);
}

#[test]
fn different_proposals_are_told_with_both_lists() {
    let swan = Swan { proposals: "aes256-sha512-modp4096".into(), ..Swan::default() };
    let mut ends = Ends::new(swan.builder(), connection());
    ends.until("the failure is told", |ends| {
        ends.failures.iter().any(|f| matches!(f, Failure::NoProposal { ike: true, .. }))
    });
    assert!(ends.children.is_empty());
}

#[test]
fn different_selectors_are_told() {
    let swan = Swan { subnets: ("10.2.0.0/24".into(), "10.77.0.0/24".into()), ..Swan::default() };
    let mut ends = Ends::new(swan.builder(), connection());
    ends.until("the failure is told", |ends| {
        ends.failures.iter().any(|f| matches!(f, Failure::NoSelectors { .. }))
    });
    // The IKE SA stays.
    assert!(ends.swan.sas().contains("ESTABLISHED"));
}

#[test]
fn udp_encapsulation_is_forced() {
    let mut ours = connection();
    ours.force_udp = true;
    let mut ends = Ends::new(Swan::default().builder(), ours);
    ends.until_up(1);
    assert!(ends.children[0].udp);
    assert_eq!(ends.children[0].path.local.port(), 4500);
    assert!(ends.swan.sas().contains("192.0.2.1[4500]"), "{}", ends.swan.sas());
}
