//! A gateway ends, in one way or another, and is back.

use std::time::{Duration, Instant};

use testkit::eventually;
use testkit::vpn_lab::Site;

use crate::Pair;

/// How soon traffic is back after a start.
const SOON: Duration = Duration::from_secs(3);

#[test]
fn killed_gateway_is_back_within_three_seconds_and_nothing_leaves_meanwhile() {
    for site in Site::BOTH {
        let mut pair = Pair::up();
        pair.wait_ping(Site::A);
        let clear = pair.lab.clear();
        let _pings = [pair.lab.ping_on(Site::A, "0.02"), pair.lab.ping_on(Site::B, "0.02")];
        pair.gateway_mut(site).kill();
        let began = Instant::now();
        pair.gateway_mut(site).start_again();
        eventually("a ping is answered again", || pair.lab.pings(Site::A).then_some(()));
        assert!(began.elapsed() < SOON, "{site:?}: after {:?}", began.elapsed());
        assert_eq!(clear.lines(), [""; 0]);
    }
}

#[test]
fn stopped_gateway_tells_the_other_end_and_comes_back() {
    let mut pair = Pair::up();
    pair.wait_ping(Site::A);
    pair.gateway(Site::A).terminate();
    assert!(pair.gateway_mut(Site::A).wait().success());
    // Told, not found out: B's dead peer detection takes longer.
    let told = Instant::now();
    eventually("B has no SA any more", || {
        pair.connection(Site::B).get("ike")?.as_array()?.is_empty().then_some(())
    });
    assert!(told.elapsed() < Duration::from_secs(1), "{:?}", told.elapsed());
    pair.gateway_mut(Site::A).start_again();
    pair.wait_ping(Site::B);
}

#[test]
fn manifest_that_cant_be_read_after_a_restart_lets_nothing_out() {
    let mut pair = Pair::up();
    pair.wait_ping(Site::A);
    let clear = pair.lab.clear();
    pair.gateway_mut(Site::A).kill();
    pair.gateway(Site::A).apply("site.yaml", "kind: {not yaml");
    pair.gateway_mut(Site::A).start_again();
    for _ in 0..3 {
        assert!(!pair.lab.pings(Site::A));
    }
    assert_eq!(clear.lines(), [""; 0]);
    let rules = pair.lab.gateway(Site::A).command("ip", &["rule", "list"]);
    assert!(rules.contains("5447"), "{rules}");
}
