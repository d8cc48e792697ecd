//! IKE_SA_INIT, IKE_INTERMEDIATE and IKE_AUTH.

use std::time::Duration;

use ipsec::ike::config::{Ppk, Settings};
use ipsec::ike::event::{Event, Failure, State};
use model::suite::{Group, Purpose};

use crate::pair::{Pair, child, connection, id, proposals, psk};

const SECOND: Duration = Duration::from_secs(1);

fn exchange(datagram: &[u8]) -> u8 {
    datagram[18]
}

#[test]
fn a_preshared_key_brings_both_ends_up() {
    let mut pair = Pair::new(connection(0), connection(1));
    pair.settle();
    pair.assert_up();
    assert_eq!(pair.sent.len(), 4, "IKE_SA_INIT and IKE_AUTH");
    assert!(!pair.ends[0].sas.values().next().unwrap().0.udp);
    assert_eq!(pair.failures(0), []);
    // The child SA is told before the answer is sent, and after its IKE SA.
    assert!(matches!(
        pair.ends[1].events.as_slice(),
        [Event::IkeUp { .. }, Event::ChildInstall { .. }]
    ));
}

#[test]
fn every_suite_brings_both_ends_up() {
    for (ike, esp) in [
        ("aes128gcm16-prfsha256-ecp256", "aes128gcm16"),
        ("chacha20poly1305-prfsha512-ecp384", "chacha20poly1305"),
        ("aes128-sha256-modp2048", "aes128-sha256"),
        ("aes256-sha512-ecp521", "aes256-sha384"),
        ("aes192-sha384-modp3072", "aes256-sha512-noesn"),
        ("3des-sha1-modp1024", "3des-sha1"),
    ] {
        let with = |end: usize| {
            let mut one = connection(end);
            one.proposals = proposals(ike, Purpose::Ike);
            one.children[0].proposals = proposals(esp, Purpose::Esp);
            one
        };
        let mut pair = Pair::new(with(0), with(1));
        pair.settle();
        pair.assert_up();
    }
}

#[test]
fn another_group_is_asked_for_and_remembered() {
    let mut left = connection(0);
    left.proposals = proposals("aes256gcm16-prfsha384-x25519-ecp256", Purpose::Ike);
    let mut right = connection(1);
    right.proposals = proposals("aes256gcm16-prfsha384-ecp256", Purpose::Ike);
    let mut pair = Pair::new(left, right);
    pair.settle();
    pair.assert_up();
    assert_eq!(pair.sent.len(), 6);
    let suite = pair.status(0).ike[0].suite.clone().unwrap();
    assert_eq!(suite.groups, [Group::P256]);
}

#[test]
fn additional_key_exchanges_change_the_keys() {
    let with = |end: usize| {
        let mut one = connection(end);
        one.proposals = proposals("aes256gcm16-prfsha384-x25519-ke1_mlkem768", Purpose::Ike);
        one
    };
    let mut pair = Pair::new(with(0), with(1));
    pair.settle();
    pair.assert_up();
    let suite = pair.status(1).ike[0].suite.clone().unwrap();
    assert_eq!(suite.additional, [[Group::MlKem768]]);
    let exchanges: Vec<_> = pair.sent.iter().map(|(_, one)| exchange(&one.payload)).collect();
    // ML-KEM's public value does not fit into one packet of 1,280 octets, its answer does.
    assert_eq!(exchanges, [34, 34, 43, 43, 43, 35, 35]);
}

#[test]
fn additional_key_exchanges_are_left_out_if_one_end_does_not_know_them() {
    let mut left = connection(0);
    left.proposals = proposals(
        "aes256gcm16-prfsha384-x25519-ke1_mlkem768,aes256gcm16-prfsha384-x25519",
        Purpose::Ike,
    );
    let mut pair = Pair::new(left, connection(1));
    pair.settle();
    pair.assert_up();
    assert!(pair.status(0).ike[0].suite.clone().unwrap().additional.is_empty());
}

#[test]
fn a_large_message_goes_in_fragments() {
    let mut left = connection(0);
    let mut right = connection(1);
    let many: Vec<String> = (0..90).map(|net| format!("10.1.{net}.0/25")).collect();
    left.children[0] = child("net", &many.join(","), "10.2.0.0/16");
    right.children[0] = child("net", "10.2.0.0/16", &many.join(","));
    let mut pair = Pair::new(left, right);
    pair.settle();
    pair.assert_up();
    assert!(pair.sent.iter().all(|(_, one)| one.payload.len() <= 1280 - 28 - 4));
    assert!(pair.sent.len() > 4);
}

#[test]
fn a_post_quantum_preshared_key_is_mixed_in() {
    for (left_key, right_key, required, works) in [
        (Some("ppk"), Some("ppk"), true, true),
        (Some("ppk"), Some("ppk"), false, true),
        (Some("ppk"), None, false, true),
        (None, Some("ppk"), false, true),
        (Some("ppk"), None, true, false),
        (None, Some("ppk"), true, false),
        (Some("ppk"), Some("other"), true, false),
    ] {
        let with = |end: usize, key: Option<&str>| {
            let mut one = connection(end);
            one.ppk = key.map(|key| Ppk {
                id: b"ppk-1".to_vec(),
                key: std::sync::Arc::new(key.as_bytes().to_vec().into()),
                required,
            });
            one
        };
        let mut pair = Pair::new(with(0, left_key), with(1, right_key));
        pair.settle();
        assert_eq!(
            pair.state(0) == State::Up,
            works,
            "{left_key:?} {right_key:?} {required}: {:?} {:?}",
            pair.failures(0),
            pair.failures(1)
        );
        if works {
            pair.assert_up();
        }
    }
}

#[test]
fn childless_makes_the_child_afterwards() {
    let with = |end: usize| {
        let mut one = connection(end);
        one.childless = true;
        one
    };
    let mut pair = Pair::new(with(0), with(1));
    pair.settle();
    assert_eq!(pair.status(0).ike.len(), 1);
    let exchanges: Vec<_> = pair.sent.iter().map(|(_, one)| exchange(&one.payload)).collect();
    assert_eq!(exchanges[..4], [34, 34, 35, 35]);
}

#[test]
fn forced_udp_moves_both_ends_to_the_nat_port() {
    for forcing in 0..2 {
        let with = |end: usize| {
            let mut one = connection(end);
            one.force_udp = end == forcing;
            one
        };
        let mut pair = Pair::new(with(0), with(1));
        pair.settle();
        pair.assert_up();
        for end in 0..2 {
            let (sa, _) = pair.ends[end].sas.values().next().unwrap();
            assert!(sa.udp);
            assert_eq!((sa.path.local.port(), sa.path.remote.port()), (4500, 4500));
        }
    }
}

#[test]
fn nat_is_seen_and_kept_open() {
    let mut right = connection(1);
    right.remote.clear();
    let mut pair = Pair::new(connection(0), right);
    // The left end's address is another one on the way, and its ports, too.
    pair.filter = Box::new(|by, one| {
        if by == 0 {
            let port = if one.path.local.port() == 500 { 1024 } else { 1025 };
            one.path.local = ([198, 51, 100, 7], port).into();
        } else {
            let port = if one.path.remote.port() == 1024 { 500 } else { 4500 };
            one.path.remote = ([192, 0, 2, 1], port).into();
        }
        true
    });
    pair.settle();
    pair.assert_up();
    assert_eq!(pair.status(0).ike[0].nat, (true, false));
    assert_eq!(pair.status(1).ike[0].nat, (false, true));
    let (sa, _) = pair.ends[1].sas.values().next().unwrap();
    assert!(sa.udp);
    assert_eq!(sa.path.remote, ([198, 51, 100, 7], 1025).into());
    let before = pair.sent.len();
    pair.pass(25 * SECOND);
    let keepalives =
        pair.sent[before..].iter().filter(|(by, one)| *by == 0 && one.payload == [0xff]).count();
    let others = pair.sent[before..].iter().filter(|(by, _)| *by == 0).count() - keepalives;
    assert!(keepalives + others > 0);
    assert!(pair.sent.iter().all(|(by, one)| *by == 0 || one.payload != [0xff]));
}

#[test]
fn a_wrong_key_is_told_on_both_ends() {
    let mut right = connection(1);
    right.auth = psk("another key");
    let mut pair = Pair::new(connection(0), right);
    pair.settle();
    assert_eq!(
        pair.failures(0),
        [Failure::RefusedByPeer {
            our_id: id("left.example"),
            their_id: Some(id("right.example"))
        }]
    );
    assert_eq!(
        pair.failures(1),
        [Failure::BadProof {
            their_id: id("left.example"),
            why: "the preshared key differs".to_owned()
        }]
    );
    assert!(pair.ends[1].sas.is_empty());
    assert!(pair.status(0).next_try.is_some(), "it is tried again");
    // The other end is repaired meanwhile.
    pair.configure(1, connection(1));
    pair.pass(5 * SECOND);
    pair.assert_up();
}

#[test]
fn a_wrong_id_is_told() {
    let mut left = connection(0);
    left.local_id = id("somebody.example");
    let mut pair = Pair::new(left, connection(1));
    pair.settle();
    assert_eq!(
        pair.failures(1),
        [Failure::WrongId { theirs: id("somebody.example"), expected: Some(id("left.example")) }]
    );
    assert_eq!(pair.state(0), State::Connecting);
}

#[test]
fn the_responder_asked_for_is_somebody_else() {
    let mut left = connection(0);
    left.remote_id = Some(id("nobody.example"));
    let mut pair = Pair::new(left, connection(1));
    pair.settle();
    assert_eq!(
        pair.failures(1),
        [Failure::AskedForAnother { asked: id("nobody.example"), ours: id("right.example") }]
    );
}

#[test]
fn proposals_without_anything_in_common_are_shown_with_both_sides() {
    let mut left = connection(0);
    left.proposals = proposals("aes128gcm16-prfsha256-ecp256", Purpose::Ike);
    let mut pair = Pair::new(left, connection(1));
    pair.settle();
    let [Failure::NoProposal { ike: true, theirs: None, .. }] = &pair.failures(0)[..] else {
        panic!("{:?}", pair.failures(0));
    };
    let [Failure::NoProposal { ike: true, ours, theirs: Some(theirs) }] = &pair.failures(1)[..]
    else {
        panic!("{:?}", pair.failures(1));
    };
    assert_eq!(*ours, connection(1).proposals);
    assert!(theirs.contains("aes128gcm16"), "{theirs}");
    // Anyone could have sent that: the request is sent again before it is given up.
    assert_eq!(pair.state(0), State::Connecting);
    pair.pass(2 * SECOND);
    assert!(pair.ends[0].engine.counters().retransmitted_requests > 0);
    assert_eq!(pair.failures(0).len(), 1, "told once");
}

#[test]
fn a_forged_refusal_does_no_harm() {
    let mut pair = Pair::new(connection(0), connection(1));
    let mut refused = false;
    // The first answer is replaced by a refusal, as someone on the way could do it.
    pair.filter = Box::new(move |by, one| {
        if by == 1 && !refused {
            refused = true;
            one.payload.truncate(28);
            one.payload[16] = 41;
            one.payload.extend_from_slice(&[0, 0, 0, 8, 0, 0, 0, 14]);
            one.payload[24..28].copy_from_slice(&36_u32.to_be_bytes());
        }
        true
    });
    pair.settle();
    assert_eq!(pair.failures(0).len(), 1);
    pair.pass(2 * SECOND);
    pair.assert_up();
}

#[test]
fn selectors_without_anything_in_common_leave_the_ike_sa() {
    let mut right = connection(1);
    right.children = vec![child("net", "10.3.0.0/16", "10.1.0.0/16")];
    let mut pair = Pair::new(connection(0), right);
    pair.settle();
    for end in 0..2 {
        assert_eq!(pair.state(end), State::Partial);
        assert!(matches!(&pair.failures(end)[0], Failure::NoSelectors { .. }));
    }
    let Failure::NoSelectors { theirs: Some((theirs, _)), .. } = &pair.failures(1)[0] else {
        panic!("not told");
    };
    assert_eq!(*theirs, connection(0).children[0].local);
}

#[test]
fn selectors_are_narrowed() {
    let mut right = connection(1);
    right.children = vec![child("net", "10.2.0.0/16", "10.1.7.0/24")];
    let mut pair = Pair::new(connection(0), right);
    pair.settle();
    pair.assert_up();
    let (sa, _) = pair.ends[0].sas.values().next().unwrap();
    assert_eq!(sa.local, child("", "10.1.7.0/24", "10.1.7.0/24").local);
}

#[test]
fn esp_proposals_without_anything_in_common_leave_the_ike_sa() {
    let mut right = connection(1);
    right.children[0].proposals = proposals("aes128-sha256", Purpose::Esp);
    let mut pair = Pair::new(connection(0), right);
    pair.settle();
    for end in 0..2 {
        assert_eq!(pair.state(end), State::Partial);
        assert!(matches!(&pair.failures(end)[0], Failure::NoProposal { ike: false, .. }));
    }
}

#[test]
fn lost_messages_are_sent_again() {
    let mut pair = Pair::new(connection(0), connection(1));
    let mut count = 0;
    // Of seven datagrams three are lost.
    pair.filter = Box::new(move |_, _| {
        count += 1;
        ![1, 3, 4].contains(&(count % 7))
    });
    pair.pass(30 * SECOND);
    pair.assert_up();
    assert!(pair.ends[0].engine.counters().retransmitted_requests > 0);
    assert!(pair.ends[1].engine.counters().retransmitted_answers > 0);
    assert_eq!(pair.ends[1].sas.len(), 1);
}

#[test]
fn an_end_that_is_not_there_is_tried_again_and_again() {
    let mut pair = Pair::new(connection(0), connection(1));
    pair.filter = Box::new(|_, _| false);
    pair.pass(Duration::from_secs(300));
    let failures = pair.failures(0);
    assert!(failures.len() >= 3, "{failures:?}");
    assert!(failures.iter().all(|one| *one == Failure::NoAnswer { to_nat_port: false }));
    pair.filter = Box::new(|_, _| true);
    pair.pass(Duration::from_secs(75));
    pair.assert_up();
}

#[test]
fn a_blocked_nat_port_is_told() {
    let mut left = connection(0);
    left.force_udp = true;
    let mut pair = Pair::new(left, connection(1));
    pair.filter = Box::new(|_, one| one.path.local.port() == 500);
    pair.pass(Duration::from_secs(60));
    assert_eq!(pair.failures(0)[0], Failure::NoAnswer { to_nat_port: true });
    assert_eq!(pair.ends[1].engine.counters().half_open, 1, "only the last try's");
}

#[test]
fn several_addresses_are_tried_in_turn() {
    let mut left = connection(0);
    left.remote.insert(0, ([192, 0, 2, 9], 500).into());
    let mut pair = Pair::new(left, connection(1));
    pair.filter = Box::new(|by, one| by == 1 || one.path.remote.ip().to_string() != "192.0.2.9");
    pair.pass(Duration::from_secs(90));
    pair.assert_up();
}

#[test]
fn a_cookie_is_asked_for_and_brought() {
    let settings = Settings { cookie_threshold: 0, ..Settings::default() };
    let mut pair = Pair::with(settings, connection(0), connection(1));
    pair.settle();
    pair.assert_up();
    assert_eq!(pair.sent.len(), 6);
    assert_eq!(pair.ends[1].engine.counters().cookies_sent, 1);
}
