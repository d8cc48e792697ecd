//! How connections begin, end, and begin again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ipsec::ike::config::{Settings, Start};
use ipsec::ike::event::{Command, DownReason, Event, State};
use ipsec::sa::{ConnectionName, Path, Spi};

use crate::pair::{NAME, Pair, child, connection, psk};

const SECOND: Duration = Duration::from_secs(1);

fn name() -> ConnectionName {
    NAME.into()
}

fn up() -> Pair {
    let mut pair = Pair::new(connection(0), connection(1));
    pair.settle();
    pair.assert_up();
    pair
}

#[test]
fn it_waits_for_a_packet_if_told_to() {
    let mut left = connection(0);
    left.start = Start::Trap;
    let mut pair = Pair::new(left, connection(1));
    pair.pass(60 * SECOND);
    assert_eq!(pair.state(0), State::Trapped);
    assert_eq!(pair.state(1), State::Listening);
    assert!(pair.sent.is_empty());
    let command = Command::Acquire { connection: name(), child: "net".into() };
    pair.ends[0].engine.command(pair.now, command.clone());
    pair.ends[0].engine.command(pair.now, command);
    pair.settle();
    pair.assert_up();
    assert_eq!(pair.sent.len(), 4);
}

#[test]
fn it_goes_down_and_up_on_command() {
    let mut pair = up();
    pair.ends[0].engine.command(pair.now, Command::Terminate { connection: name() });
    pair.settle();
    assert_eq!(pair.downs(0), [DownReason::Asked]);
    assert_eq!(pair.downs(1), [DownReason::Peer]);
    assert!(pair.ends.iter().all(|end| end.sas.is_empty()));
    assert_eq!(pair.state(0), State::Down);
    pair.pass(120 * SECOND);
    assert_eq!(pair.state(0), State::Down);
    let command = Command::Initiate { connection: name(), child: None };
    pair.ends[0].engine.command(pair.now, command);
    pair.settle();
    pair.assert_up();
}

#[test]
fn it_is_begun_again_if_the_other_end_closes() {
    let mut pair = up();
    pair.ends[1].engine.command(pair.now, Command::Terminate { connection: name() });
    pair.settle();
    assert_eq!(pair.downs(0), [DownReason::Peer]);
    assert_eq!(pair.status(0).restarts, 1);
    let command = Command::Initiate { connection: name(), child: None };
    pair.ends[1].engine.command(pair.now, command);
    pair.pass(60 * SECOND);
    pair.assert_up();
}

#[test]
fn the_end_of_the_gateway_says_goodbye() {
    let mut pair = up();
    pair.ends[0].engine.command(pair.now, Command::Shutdown);
    assert!(!pair.ends[0].engine.is_idle());
    pair.settle();
    assert!(pair.ends[0].engine.is_idle());
    assert_eq!(pair.downs(1), [DownReason::Peer]);
    assert_eq!(pair.ends[0].engine.poll_timeout().filter(|at| *at <= pair.now), None);
}

#[test]
fn the_end_of_the_gateway_does_not_wait_for_ever() {
    let mut pair = up();
    pair.filter = Box::new(|_, _| false);
    pair.ends[0].engine.command(pair.now, Command::Shutdown);
    pair.pass(40 * SECOND);
    assert!(pair.ends[0].engine.is_idle());
}

#[test]
fn a_lost_last_answer_is_given_again() {
    let mut pair = up();
    let mut lost = 0;
    pair.filter = Box::new(move |by, _| {
        lost += usize::from(by == 1);
        by == 0 || lost > 1
    });
    pair.ends[0].engine.command(pair.now, Command::Terminate { connection: name() });
    pair.pass(2 * SECOND);
    assert_eq!(pair.downs(0), [DownReason::Asked]);
    assert!(pair.ends[0].engine.is_idle());
}

#[test]
fn what_is_not_configured_any_more_is_ended() {
    let mut pair = up();
    pair.ends[0].engine.configure(pair.now, BTreeMap::new());
    pair.settle();
    assert_eq!(pair.downs(1), [DownReason::Peer]);
    assert!(pair.ends[0].engine.status(pair.now).is_empty());
    assert!(pair.ends[0].engine.is_idle());
}

#[test]
fn another_configuration_begins_anew_and_the_same_one_does_not() {
    let mut pair = up();
    let mut same = connection(0);
    same.ike_lifetime = Duration::from_secs(600);
    same.dpd_delay = Duration::from_secs(20);
    pair.configure(0, same);
    pair.settle();
    assert_eq!(pair.downs(0), []);
    let mut other = connection(0);
    other.children = vec![child("net", "10.1.0.0/17", "10.2.0.0/16")];
    pair.configure(0, other);
    pair.pass(SECOND);
    pair.assert_up();
    assert_eq!(pair.downs(0), [DownReason::Asked]);
    assert_eq!(pair.ends[0].sas.len(), 1);
    assert_eq!(pair.ends[1].sas.len(), 1);
}

#[test]
fn another_address_is_tried_at_once() {
    let mut left = connection(0);
    left.local = Some("192.0.2.9".parse().unwrap());
    let mut pair = Pair::new(left, connection(1));
    pair.filter = Box::new(|by, one| by == 1 || one.path.local.ip().to_string() != "192.0.2.9");
    pair.pass(Duration::from_secs(25));
    assert_eq!(pair.state(0), State::Connecting);
    pair.configure(0, connection(0));
    pair.settle();
    pair.assert_up();
}

/// The end is killed and comes back knowing nothing.
fn restart(pair: &mut Pair, end: usize, seed: u64) {
    let mut fresh = Pair::idle(Settings::default());
    let mut engine = ipsec::ike::Engine::new(
        Settings::default(),
        Box::new(ipsec::crypto::rng::SeededRng::new(seed)),
        (pair.now, Duration::from_secs(1_800_000_000)),
    );
    std::mem::swap(&mut fresh.ends[end].engine, &mut engine);
    std::mem::swap(&mut pair.ends[end], &mut fresh.ends[end]);
}

#[test]
fn after_a_restart_the_old_ones_go_at_once() {
    let mut pair = up();
    pair.pass(7 * SECOND);
    restart(&mut pair, 0, 77);
    pair.configure(0, connection(0));
    pair.settle();
    pair.assert_up();
    assert_eq!(pair.downs(1), [DownReason::PeerRestarted]);
    assert_eq!(pair.ends[1].sas.len(), 1);
}

#[test]
fn esp_of_an_older_life_makes_a_listener_begin() {
    let mut pair = up();
    pair.pass(7 * SECOND);
    restart(&mut pair, 1, 78);
    pair.configure(1, connection(1));
    let path = Path { local: pair.ends[1].address, remote: pair.ends[0].address };
    let spi = Spi::new(4711).unwrap();
    for _ in 0..3 {
        pair.ends[1].engine.command(pair.now, Command::UnknownSpi { path, spi });
    }
    pair.settle();
    pair.assert_up();
    assert_eq!(pair.downs(0), [DownReason::PeerRestarted]);
    assert_eq!(pair.sent.iter().filter(|(by, _)| *by == 1).count(), 2 + 2);
}

#[test]
fn both_ends_may_begin_at_once() {
    let mut right = connection(1);
    right.start = Start::Now;
    let mut pair = Pair::idle(Settings::default());
    pair.configure(0, connection(0));
    pair.configure(1, right);
    pair.pass(60 * SECOND);
    pair.assert_up();
    for end in 0..2 {
        assert_eq!(pair.status(end).ike.len(), 1, "end {end}");
        assert_eq!(pair.ends[end].sas.len(), 1, "end {end}: {:?}", pair.ends[end].events);
        assert!(pair.downs(end).len() <= 1);
        // Traffic goes on all the time: the SA that stays is there before the other goes.
        let mut there = 0_i32;
        for event in &pair.ends[end].events {
            match event {
                Event::ChildInstall { .. } => there += 1,
                Event::ChildRemove { .. } => {
                    there -= 1;
                    assert!(there > 0, "end {end}");
                }
                _ => {}
            }
        }
    }
    assert_eq!(pair.status(0).ike[0].spis, pair.status(1).ike[0].spis);
    let exchanged = pair.sent.len();
    pair.pass(30 * SECOND);
    assert!(pair.sent.len() < exchanged + 14, "nothing but signs of life");
}

#[test]
fn a_dead_end_is_noticed_and_begun_again() {
    let mut pair = up();
    pair.filter = Box::new(|_, _| false);
    pair.pass(41 * SECOND);
    assert_eq!(pair.downs(0), [DownReason::Dead]);
    assert!(pair.ends[0].sas.is_empty());
    assert_eq!(pair.state(0), State::Connecting);
    pair.filter = Box::new(|_, _| true);
    pair.pass(60 * SECOND);
    pair.assert_up();
}

#[test]
fn many_connections_are_told_apart_by_who_comes() {
    let mut pair = Pair::idle(Settings::default());
    let all: BTreeMap<ConnectionName, _> = (0..50)
        .map(|number| {
            let mut one = connection(1);
            one.name = format!("test/{number}").into();
            one.remote.clear();
            one.remote_id = Some(crate::pair::id(&format!("left{number}.example")));
            one.auth = psk(&format!("key {number}"));
            (one.name.clone(), Arc::new(one))
        })
        .collect();
    pair.ends[1].engine.configure(pair.now, all);
    let mut left = connection(0);
    left.local_id = crate::pair::id("left33.example");
    left.auth = psk("key 33");
    pair.configure(0, left);
    pair.settle();
    assert_eq!(pair.state(0), State::Up);
    let status = pair.ends[1].engine.status(pair.now);
    let up: Vec<_> = status.iter().filter(|one| one.state == State::Up).collect();
    assert_eq!(up.iter().map(|one| &*one.name).collect::<Vec<_>>(), ["test/33"]);
}

#[test]
fn the_capture_shows_what_is_inside() {
    let mut pair = Pair::idle(Settings::default());
    pair.ends[0].engine.set_capture(true);
    pair.configure(1, connection(1));
    pair.configure(0, connection(0));
    pair.settle();
    let mut seen = Vec::new();
    while let Some(captured) = pair.ends[0].engine.poll_capture() {
        let length = u32::from_be_bytes(captured.plain[24..28].try_into().unwrap());
        assert_eq!(length as usize, captured.plain.len());
        seen.push((captured.outbound, captured.plain[18], captured.plain[16]));
    }
    // IKE_AUTH begins with IDi and IDr.
    assert_eq!(seen, [(true, 34, 33), (false, 34, 33), (true, 35, 35), (false, 35, 36)]);
}

#[test]
fn a_thousand_tunnels_between_the_same_two_come_up() {
    let all = |end: usize| -> BTreeMap<ConnectionName, _> {
        (0..1000)
            .map(|number| {
                let mut one = connection(end);
                one.name = format!("test/{number}").into();
                let id = |end: &str| crate::pair::id(&format!("{end}{number}.example"));
                (one.local_id, one.remote_id) = match end {
                    0 => (id("left"), Some(id("right"))),
                    _ => (id("right"), Some(id("left"))),
                };
                (one.name.clone(), Arc::new(one))
            })
            .collect()
    };
    let mut pair = Pair::idle(Settings::default());
    pair.ends[1].engine.configure(pair.now, all(1));
    pair.ends[0].engine.configure(pair.now, all(0));
    pair.pass(SECOND);
    for end in 0..2 {
        let status = pair.ends[end].engine.status(pair.now);
        assert_eq!(status.iter().filter(|one| one.state == State::Up).count(), 1000);
        let counters = pair.ends[end].engine.counters();
        assert_eq!((counters.limited, counters.retransmitted_requests), (0, 0));
        assert_eq!(pair.ends[end].sas.len(), 1000);
    }
}

#[test]
fn those_that_wait_for_their_turn_are_not_forgotten() {
    let mut pair = Pair::idle(Settings::default());
    let all: BTreeMap<ConnectionName, _> = (0..40)
        .map(|number| {
            let mut one = connection(0);
            one.name = format!("test/{number:02}").into();
            one.local_id = crate::pair::id(&format!("left{number}.example"));
            (one.name.clone(), Arc::new(one))
        })
        .collect();
    pair.filter = Box::new(|_, _| false);
    pair.ends[0].engine.configure(pair.now, all);
    pair.pass(SECOND);
    assert_eq!(
        pair.ends[0].engine.status(pair.now).iter().filter(|one| !one.ike.is_empty()).count(),
        5
    );
    // Most of them are not wanted any more before their turn has come.
    for number in 5..38 {
        let connection = format!("test/{number:02}").into();
        pair.ends[0].engine.command(pair.now, Command::Terminate { connection });
    }
    let mut right = connection(1);
    right.remote_id = Some(crate::pair::id("left39.example"));
    pair.configure(1, right);
    pair.filter = Box::new(|_, _| true);
    pair.pass(Duration::from_secs(90));
    let status = pair.ends[0].engine.status(pair.now);
    assert_eq!(status.last().unwrap().state, State::Up, "{:?}", status.last());
}

#[test]
fn both_ends_may_begin_at_once_on_a_bad_wire() {
    for seed in 0..200_u32 {
        let mut pair = Pair::idle(Settings::default());
        let mut random = seed.wrapping_mul(2_654_435_761) | 1;
        pair.filter = Box::new(move |_, _| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            random >> 28 > 4
        });
        let mut right = connection(1);
        right.start = Start::Now;
        pair.configure(1, right);
        pair.configure(0, connection(0));
        pair.pass(90 * SECOND);
        pair.filter = Box::new(|_, _| true);
        pair.pass(90 * SECOND);
        pair.assert_up();
        let before: Vec<_> = (0..2).map(|end| pair.ends[end].events.len()).collect();
        assert_eq!(pair.status(0).ike.len(), 1, "seed {seed}");
        assert_eq!(pair.status(1).ike.len(), 1, "seed {seed}");
        pair.pass(90 * SECOND);
        let after: Vec<_> = (0..2).map(|end| pair.ends[end].events.len()).collect();
        assert_eq!(before, after, "seed {seed}: it is quiet");
    }
}
