//! What happens to a connection that is there.

use std::time::{Duration, Instant};

use ipsec::ike::config::Start;
use ipsec::ike::event::{Command, Event, Rekey};

use crate::peer::{Ends, Swan, child, connection};

fn rekey(what: Rekey) -> Command {
    Command::Rekey { connection: "vpn/b".into(), what }
}

#[test]
fn we_rekey_child_and_ike() {
    for esp in ["aes128gcm16", "aes128gcm16-x25519"] {
        let swan = Swan { esp: esp.into(), ..Swan::default() };
        let mut ours = connection();
        ours.children = vec![child("net", "10.1.0.0/24", "10.2.0.0/24", esp)];
        let mut ends = Ends::new(swan.builder(), ours);
        ends.until_up(1);
        for round in 0..5 {
            let before = ends.children[0].id;
            ends.command(rekey(if round % 2 == 0 { Rekey::Children } else { Rekey::Ike }));
            if round % 2 == 0 {
                ends.until("another SA is there", |ends| {
                    ends.children.len() == 1 && ends.children[0].id != before
                });
            } else {
                ends.run_for(Duration::from_millis(300));
                assert_eq!(ends.children[0].id, before, "an IKE SA's children stay");
            }
            ends.until("strongSwan has one", |ends| ends.swan.installed() == 1);
            ends.until_up(1);
        }
        assert!(ends.failures.is_empty(), "{:?}", ends.failures);
    }
}

#[test]
fn strongswan_rekeys_child_and_ike() {
    for esp in ["aes128gcm16", "aes128gcm16-x25519"] {
        let swan = Swan { esp: esp.into(), ..Swan::default() };
        let mut ours = connection();
        ours.children = vec![child("net", "10.1.0.0/24", "10.2.0.0/24", esp)];
        let mut ends = Ends::new(swan.builder(), ours);
        ends.until_up(1);
        for round in 0..5 {
            let before = ends.children[0].id;
            let what = if round % 2 == 0 { ["--child", "net"] } else { ["--ike", "edge"] };
            ends.swan.swanctl(&["--rekey", what[0], what[1]]);
            if round % 2 == 0 {
                ends.until("another SA is there", |ends| {
                    ends.children.len() == 1 && ends.children[0].id != before
                });
            } else {
                ends.run_for(Duration::from_millis(300));
                assert_eq!(ends.children[0].id, before);
            }
            ends.until("strongSwan has one", |ends| ends.swan.installed() == 1);
            ends.until_up(1);
        }
        assert!(ends.failures.is_empty(), "{:?}", ends.failures);
    }
}

#[test]
fn both_rekey_at_once() {
    let mut ends = Ends::new(Swan::default().builder(), connection());
    ends.until_up(1);
    for round in 0..20 {
        let what = if round % 2 == 0 { ["--child", "net"] } else { ["--ike", "edge"] };
        ends.command(rekey(if round % 2 == 0 { Rekey::Children } else { Rekey::Ike }));
        ends.swan.swanctl(&["--rekey", what[0], what[1]]);
        ends.run_for(Duration::from_millis(200));
        ends.until("one child SA is left", |ends| {
            ends.children.len() == 1 && ends.swan.installed() == 1
        });
        ends.until_up(1);
    }
}

#[test]
fn several_children_come_up() {
    let swan = Swan::default();
    let mut connection_of_swan = swan.connection();
    connection_of_swan.children.push((
        "more".to_owned(),
        "local_ts = 10.2.0.1/32\nremote_ts = 172.30.0.0/16\nesp_proposals = aes256gcm16".to_owned(),
    ));
    let builder = testkit::StrongSwan::builder().connection(connection_of_swan).psk(
        "a.test",
        "b.test",
        crate::KEY,
    );
    let mut ours = connection();
    ours.children.push(child("more", "172.30.0.0/16", "10.2.0.1/32", "aes256gcm16"));
    let mut ends = Ends::new(builder, ours);
    ends.until_up(2);
}

#[test]
fn a_connection_that_the_peer_closes_is_begun_again() {
    let mut ends = Ends::new(Swan::default().builder(), connection());
    ends.until_up(1);
    let before = ends.children[0].id;
    ends.swan.swanctl(&["--terminate", "--ike", "edge"]);
    ends.until("it is there again", |ends| {
        ends.children.first().is_some_and(|child| child.id != before)
    });
    ends.until_up(1);
}

#[test]
fn a_dead_peer_is_noticed_and_found_again() {
    let mut ends = Ends::new(Swan::default().builder(), connection());
    ends.until_up(1);
    ends.swan.kill();
    let started = Instant::now();
    ends.until("the SAs are gone", |ends| ends.children.is_empty());
    let took = started.elapsed();
    assert!(took < Duration::from_secs(2 + 5 + 2), "{took:?}");
    ends.swan.start();
    ends.until_up(1);
}

#[test]
fn shutdown_tells_the_peer() {
    let mut ends = Ends::new(Swan::default().builder(), connection());
    ends.until_up(1);
    ends.command(Command::Shutdown);
    ends.until("all is said", |ends| ends.engine.is_idle());
    ends.until("strongSwan has none", |ends| ends.swan.installed() == 0);
    assert!(ends.events.iter().any(|event| matches!(event, Event::ChildRemove { .. })));
}

#[test]
fn terminate_stays_down_until_initiated() {
    let mut ends = Ends::new(Swan::default().builder(), connection());
    ends.until_up(1);
    ends.command(Command::Terminate { connection: "vpn/b".into() });
    ends.until("strongSwan has none", |ends| ends.swan.installed() == 0);
    ends.run_for(Duration::from_secs(2));
    assert_eq!(ends.swan.installed(), 0);
    ends.command(Command::Initiate { connection: "vpn/b".into(), child: None });
    ends.until_up(1);
}

#[test]
fn we_answer_liveness_checks() {
    let swan = Swan { lines: "dpd_delay = 1s\ndpd_timeout = 4s".into(), ..Swan::default() };
    let mut ours = connection();
    ours.dpd_delay = Duration::ZERO;
    let mut ends = Ends::new(swan.builder(), ours);
    ends.until_up(1);
    let (before, received) = (ends.children[0].id, ends.received);
    ends.run_for(Duration::from_secs(5));
    assert!(ends.received >= received + 3);
    assert_eq!(ends.children[0].id, before);
}

#[test]
fn mobike_is_agreed_on() {
    let swan = Swan { lines: "mobike = yes".into(), ..Swan::default() };
    let mut ours = connection();
    ours.mobike = true;
    let mut ends = Ends::new(swan.builder(), ours);
    ends.until_up(1);
    assert_eq!(ends.children[0].path.remote.port(), 4500);
}

#[test]
fn reauthentication_by_strongswan_leaves_one_pair() {
    let swan =
        Swan { lines: "reauth_time = 3s\nover_time = 20s".into(), starts: true, ..Swan::default() };
    let mut ours = connection();
    ours.start = Start::Wait;
    let mut ends = Ends::new(swan.builder(), ours);
    ends.until_up(1);
    let before = ends.children[0].id;
    ends.until("it has authenticated anew", |ends| {
        ends.children.last().is_some_and(|child| child.id != before)
    });
    ends.until_up(1);
}
