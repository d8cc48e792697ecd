//! What is done to the two ends.

use std::time::Duration;

use ipsec::ike::config::{Close, Connection, Start};
use ipsec::ike::event::{Command, DownReason, Rekey};
use model::suite::Group;

use super::network::{Nat, Weather};
use super::seeds::each_seed;
use super::world::{NAME, World, configs, ip};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Up, within a time that fits the weather; then nothing more may be lost.
fn bring_up(world: &mut World) {
    world.start_both();
    let up = world.run_until(3 * MINUTE, World::is_up);
    assert!(up, "it doesn't come up: {}", world.describe());
    // What the responder sends before its answer has arrived.
    world.run(2 * SECOND);
    world.strict = true;
    world.dropped = 0;
    // Someone who changes IKE_SA_INIT, which is not protected, makes an attempt fail.
    world.ends.iter_mut().for_each(|end| end.plane.lost.clear());
}

fn any(world: &mut World) -> Rekey {
    match world.random.u32(0..4) {
        0 => Rekey::Ike,
        1 => Rekey::Child("child0".into()),
        _ => Rekey::Children,
    }
}

/// Varies what doesn't matter.
fn vary(random: &mut fastrand::Rng) -> [Connection; 2] {
    let groups: &[Group] = if random.bool() { &[Group::X25519] } else { &[] };
    let mut configs = configs(random.usize(1..4), groups);
    let childless = random.u8(0..4) == 0;
    let mobike = random.bool();
    let ike_lifetime = Duration::from_secs(random.u64(600..1500));
    for config in &mut configs {
        config.childless = childless;
        config.mobike = mobike;
        config.ike_lifetime = ike_lifetime;
        config.dpd_delay = Duration::from_secs(random.u64(5..60));
        for child in &mut config.children {
            child.lifetime = Duration::from_secs(random.u64(600..1500));
        }
    }
    if random.u8(0..3) == 0 {
        configs[1].start = Start::Now;
    }
    configs
}

#[test]
fn nothing_is_lost_in_any_weather() {
    each_seed("weather", 100, |seed, world_of| {
        let mut random = fastrand::Rng::with_seed(seed ^ 0x5eed);
        let configs = vary(&mut random);
        let both_begin = configs[1].start == Start::Now;
        let mut world = world_of(configs);
        world.weather = Weather::bad(f64::from(random.u32(0..16)) / 100.0);
        for end in 0..2 {
            world.ends[end].sends_every = match random.u8(0..4) {
                0 => None,
                _ => Some(Duration::from_millis(random.u64(200..5000))),
            };
        }
        bring_up(&mut world);
        if both_begin {
            // Perhaps two IKE SAs are there, and one of them goes.
            world.strict = false;
            world.run(30 * SECOND);
            world.strict = true;
        }
        for _ in 0..random.u32(3..12) {
            let what = any(&mut world);
            let end = random.usize(0..2);
            world.rekey(end, what.clone());
            match random.u8(0..3) {
                0 => world.rekey(1 - end, what),
                1 => {
                    let other = any(&mut world);
                    world.rekey(1 - end, other);
                }
                _ => {}
            }
            if random.u8(0..4) == 0 {
                // Nothing at all comes through for a while.
                world.run(Duration::from_millis(random.u64(0..400)));
                let weather = std::mem::replace(&mut world.weather, Weather::bad(1.0));
                world.run(Duration::from_millis(random.u64(0..12_000)));
                world.weather = weather;
            }
            world.run(Duration::from_millis(random.u64(0..90_000)));
        }
        world.check_rest();
    });
}

#[test]
fn children_rekeyed_at_once_by_both_ends_a_thousand_times() {
    each_seed("child_collisions", 3, |_, world_of| {
        let mut world = world_of(configs(2, &[Group::X25519]));
        world.weather = Weather::bad(0.05);
        bring_up(&mut world);
        for round in 0..334 {
            world.rekey(0, Rekey::Children);
            let apart = world.random.u64(0..300) * (round % 2);
            world.run(Duration::from_millis(apart));
            world.rekey(1, Rekey::Children);
            let pause = world.random.u64(0..6_000);
            world.run(Duration::from_millis(pause));
        }
        world.check_rest();
        assert!(!world.has_lost(), "{}", world.describe());
        assert!(world.ends[0].plane.rekeyed >= 668, "{}", world.ends[0].plane.rekeyed);
        assert_eq!(world.dropped, 0);
    });
}

#[test]
fn ike_sas_rekeyed_at_once_by_both_ends_a_thousand_times() {
    each_seed("ike_collisions", 3, |_, world_of| {
        let mut world = world_of(configs(1, &[]));
        world.weather = Weather::bad(0.05);
        bring_up(&mut world);
        for round in 0..334 {
            world.rekey(0, Rekey::Ike);
            let apart = world.random.u64(0..300) * (round % 2);
            world.run(Duration::from_millis(apart));
            world.rekey(1, Rekey::Ike);
            if round % 5 == 0 {
                world.rekey(0, Rekey::Children);
            }
            let pause = world.random.u64(0..6_000);
            world.run(Duration::from_millis(pause));
        }
        world.check_rest();
        assert!(!world.has_lost(), "{}", world.describe());
        assert!(world.ends[0].plane.ike_rekeyed >= 300, "{}", world.ends[0].plane.ike_rekeyed);
        assert_eq!(world.dropped, 0);
    });
}

#[test]
fn a_dead_end_is_noticed_in_time_and_begun_again() {
    each_seed("dead", 20, |seed, world_of| {
        let mut configs = configs(2, &[]);
        for config in &mut configs {
            config.dpd_delay = 10 * SECOND;
            config.dpd_timeout = 30 * SECOND;
        }
        let mut world = world_of(configs);
        let dead = usize::from(seed % 2 == 0);
        bring_up(&mut world);
        world.run(MINUTE);
        world.kill(dead);
        let alive = 1 - dead;
        let noticed = world.run_until(10 * SECOND + 32 * SECOND, |world| {
            world.ends[alive].plane.ike_down.contains(&DownReason::Dead)
        });
        assert!(noticed, "{}", world.describe());
        assert!(world.ends[alive].plane.outbound.is_empty());
        world.run(Duration::from_secs(world.seed % 7 * 20));
        world.strict = false;
        world.start(dead);
        let up = world.run_until(70 * SECOND, World::is_up);
        assert!(up, "{}", world.describe());
        world.check_rest();
    });
}

#[test]
fn an_end_that_has_forgotten_everything_is_back_within_three_seconds() {
    each_seed("restart", 20, |seed, world_of| {
        let mut configs = configs(2, &[]);
        configs[1].start = Start::Now;
        let mut world = world_of(configs);
        bring_up(&mut world);
        world.run(MINUTE);
        let restarted = usize::from(seed % 2 == 0);
        world.kill(restarted);
        world.strict = false;
        world.run(Duration::from_millis(world.seed * 37 % 3000));
        world.start(restarted);
        world.delivered = [0, 0];
        let back = world.run_until(3 * SECOND, |world| {
            world.is_up() && world.delivered.iter().all(|count| *count > 0)
        });
        assert!(back, "{}", world.describe());
        world.check_rest();
        world.ends.iter_mut().for_each(|end| end.plane.lost.clear());
        world.strict = true;
        world.run(MINUTE);
    });
}

#[test]
fn a_listener_that_has_forgotten_everything_makes_the_other_end_begin_anew() {
    each_seed("restart_listener", 5, |_, world_of| {
        let mut configs = configs(1, &[]);
        configs[1].remote = Vec::new();
        for config in &mut configs {
            config.dpd_delay = 10 * SECOND;
            config.dpd_timeout = 20 * SECOND;
        }
        let mut world = world_of(configs);
        bring_up(&mut world);
        world.kill(1);
        world.strict = false;
        world.start(1);
        assert!(world.run_until(40 * SECOND, World::is_up), "{}", world.describe());
        world.check_rest();
    });
}

#[test]
fn a_nat_that_is_set_anew_is_followed() {
    each_seed("nat", 10, |seed, world_of| {
        let mut configs = configs(2, &[]);
        configs[0].local = Some(ip("192.168.7.7"));
        configs[1].remote = Vec::new();
        configs.iter_mut().for_each(|config| config.mobike = seed % 2 == 0);
        let mut world = world_of(configs);
        world.ends[0].addresses = vec![ip("192.168.7.7")];
        world.nat = Some(Nat::new(ip("10.0.0.1"), ip("192.168.7.7")));
        bring_up(&mut world);
        assert!(world.ends[0].plane.installed.values().all(|one| one.udp));
        for _ in 0..5 {
            world.nat.as_mut().unwrap().rebind();
            // Until the one behind it says something, nothing can reach it.
            world.strict = false;
            world.send_packets(0);
            world.run(SECOND);
            world.strict = true;
            let before = world.delivered[0];
            world.run(5 * SECOND);
            assert!(world.delivered[0] > before, "{}", world.describe());
            world.rekey(1, Rekey::Ike);
            world.rekey(1, Rekey::Children);
            world.run(30 * SECOND);
        }
        world.check_rest();
        assert!(!world.has_lost(), "{}", world.describe());
    });
}

#[test]
fn an_address_that_changes_takes_the_connection_with_it() {
    each_seed("mobike", 10, |seed, world_of| {
        let mut configs = configs(2, &[]);
        configs.iter_mut().for_each(|config| config.mobike = true);
        let mut world = world_of(configs);
        if seed % 3 == 2 {
            world.weather = Weather::bad(0.1);
        }
        let mover = usize::from(seed % 2 == 0);
        world.ends[mover].addresses =
            vec![ip(if mover == 0 { "10.0.0.1" } else { "10.0.0.2" }), ip("10.0.0.77")];
        bring_up(&mut world);
        world.strict = false;
        let from = world.ends[mover].addresses.remove(0);
        let to = world.ends[mover].addresses[0];
        world.command(mover, Command::AddressChanged { from, to });
        world.run(10 * SECOND);
        world.strict = true;
        world.delivered = [0, 0];
        world.rekey(mover, Rekey::Children);
        world.run(30 * SECOND);
        assert!(world.delivered.iter().all(|count| *count > 10), "{}", world.describe());
        world.check_rest();
        assert!(!world.has_lost(), "{}", world.describe());
    });
}

#[test]
fn an_address_that_changes_without_mobike_begins_the_connection_anew() {
    each_seed("move", 4, |_, world_of| {
        let mut configs = configs(1, &[]);
        configs[0].local = None;
        configs[1].remote = Vec::new();
        let mut world = world_of(configs);
        // Until the shell learns routes, the unspecified address stands for the first one.
        world.ends[0].config.local = Some(ip("10.0.0.1"));
        world.ends[0].addresses.push(ip("10.0.0.77"));
        bring_up(&mut world);
        world.strict = false;
        let (from, to) = (ip("10.0.0.1"), ip("10.0.0.77"));
        world.command(0, Command::AddressChanged { from, to });
        assert!(world.run_until(20 * SECOND, World::is_up), "{}", world.describe());
        world.check_rest();
    });
}

#[test]
fn reauthentication_leaves_no_gap() {
    each_seed("reauthentication", 20, |seed, world_of| {
        let mut configs = configs(1 + (seed % 3) as usize, &[]);
        for config in &mut configs {
            config.reauthentication = true;
            config.ike_lifetime = 5 * MINUTE;
            config.childless = seed % 4 == 0;
        }
        configs[1].remote = if seed % 2 == 0 { Vec::new() } else { configs[1].remote.clone() };
        let mut world = world_of(configs);
        if seed % 5 > 0 {
            // IKE_SA_INIT is not protected: whoever changes it can hold it up.
            world.weather = Weather { corruption: 0.0, ..Weather::bad(0.05) };
        }
        bring_up(&mut world);
        world.run(20 * MINUTE);
        world.check_rest();
        assert!(!world.has_lost(), "{}", world.describe());
        assert_eq!(world.dropped, 0);
        assert!(world.ends[0].plane.ike_up >= 4, "{}", world.describe());
    });
}

#[test]
fn what_is_terminated_stays_down_at_both_ends_until_it_is_initiated() {
    each_seed("terminate", 5, |seed, world_of| {
        let mut world = world_of(configs(2, &[]));
        bring_up(&mut world);
        world.strict = false;
        let end = usize::from(seed % 2 == 0);
        if end == 1 {
            world.ends[0].sends_every = None;
        }
        world.command(end, Command::Terminate { connection: NAME.into() });
        world.run(SECOND);
        assert!(world.ends[end].plane.live().is_empty());
        assert!(world.ends[end].engine.as_ref().unwrap().is_idle());
        world.run(2 * MINUTE);
        assert!(world.ends.iter().all(|end| end.plane.live().is_empty()));
        world.command(end, Command::Initiate { connection: NAME.into(), child: None });
        assert!(world.run_until(70 * SECOND, World::is_up), "{}", world.describe());
        world.check_rest();
    });
}

#[test]
fn shutdown_ends_everything_at_once() {
    each_seed("shutdown", 5, |seed, world_of| {
        let mut configs = configs(2, &[]);
        configs.iter_mut().for_each(|config| config.close_action = Close::None);
        let mut world = world_of(configs);
        bring_up(&mut world);
        world.strict = false;
        if seed % 2 == 0 {
            world.rekey(0, Rekey::Ike);
            world.rekey(1, Rekey::Ike);
        }
        world.command(0, Command::Shutdown);
        let idle =
            world.run_until(2 * SECOND, |world| world.ends[0].engine.as_ref().unwrap().is_idle());
        assert!(idle, "{}", world.describe());
        assert!(world.ends[0].plane.live().is_empty());
        world.run(MINUTE);
        assert!(world.ends[1].plane.live().is_empty(), "{}", world.describe());
    });
}

#[test]
fn packets_that_wait_bring_children_up() {
    each_seed("trap", 5, |_, world_of| {
        let mut configs = configs(3, &[]);
        configs[0].start = Start::Trap;
        let mut world = world_of(configs);
        world.start_both();
        world.run(MINUTE);
        assert!(world.ends.iter().all(|end| end.plane.live().is_empty()));
        for (done, child) in ["child2", "child0", "child1"].into_iter().enumerate() {
            let acquire = Command::Acquire { connection: NAME.into(), child: child.into() };
            world.command(0, acquire.clone());
            world.command(0, acquire);
            world.run(SECOND);
            let live = world.ends[0].plane.live();
            assert_eq!(live.len(), done + 1, "{}", world.describe());
            assert!(live.iter().any(|(name, ..)| name == child));
        }
        world.check_rest();
    });
}

#[test]
fn additional_key_exchanges_go_with_every_rekeying() {
    each_seed("post_quantum", 3, |_, world_of| {
        let mut configs = configs(1, &[Group::X25519]);
        for config in &mut configs {
            let more = vec![vec![Group::MlKem768], vec![Group::P256]];
            config.proposals[0].additional.clone_from(&more);
            config.children[0].proposals[0].additional = more;
        }
        let mut world = world_of(configs);
        world.weather = Weather::bad(0.05);
        bring_up(&mut world);
        for round in 0..20 {
            let what = any(&mut world);
            world.rekey(round % 2, what);
            if round % 3 == 0 {
                let what = any(&mut world);
                world.rekey(1 - round % 2, what);
            }
            let pause = world.random.u64(100..20_000);
            world.run(Duration::from_millis(pause));
        }
        world.check_rest();
        assert!(!world.has_lost(), "{}", world.describe());
        assert_eq!(world.dropped, 0);
    });
}

#[test]
fn another_group_is_tried_when_the_other_end_asks_for_it() {
    each_seed("groups", 4, |seed, world_of| {
        let mut configs = configs(1, &[Group::X25519, Group::P256]);
        configs[1].children[0].proposals[0].groups = vec![Group::P256];
        configs[0].proposals[0].groups = vec![Group::X25519, Group::P256];
        configs[1].proposals[0].groups = vec![Group::P256];
        let mut world = world_of(configs);
        bring_up(&mut world);
        for round in 0..6 {
            let end = ((seed + round) % 2) as usize;
            world.rekey(end, if round < 3 { Rekey::Children } else { Rekey::Ike });
            world.run(30 * SECOND);
            assert!(world.is_settled(), "{}", world.describe());
        }
        assert_eq!(world.ends[0].plane.failures, [""; 0]);
        assert!(!world.has_lost(), "{}", world.describe());
    });
}

#[test]
fn a_child_that_the_other_end_does_not_want_is_told_and_the_others_are_up() {
    each_seed("refused", 3, |_, world_of| {
        let mut configs = configs(3, &[]);
        configs[1].children.remove(1);
        let mut world = world_of(configs);
        world.start_both();
        world.run(MINUTE);
        assert_eq!(world.ends[0].plane.live().len(), 2, "{}", world.describe());
        let failures = &world.ends[0].plane.failures;
        assert!(failures.iter().any(|one| one.contains("NoSelectors")), "{failures:?}");
        assert!(failures.len() < 10, "{failures:?}");
    });
}

#[test]
fn silence_is_broken_by_signs_of_life_and_these_measure_the_way() {
    each_seed("liveness", 2, |_, world_of| {
        let mut world = world_of(configs(1, &[]));
        world.ends.iter_mut().for_each(|end| end.sends_every = None);
        bring_up(&mut world);
        world.run(5 * MINUTE);
        let now = world.now;
        let status = world.ends[0].engine.as_ref().unwrap().status(now);
        let round_trip = status[0].ike[0].round_trip.unwrap();
        assert!((10..=20).contains(&round_trip.as_millis()), "{round_trip:?}");
        assert!(!world.has_lost(), "{}", world.describe());
    });
}

#[test]
fn a_changed_configuration_with_the_address_that_mobike_went_to_keeps_everything() {
    each_seed("mobike_configured", 2, |_, world_of| {
        let mut configs = configs(1, &[]);
        configs.iter_mut().for_each(|config| config.mobike = true);
        let mut world = world_of(configs);
        world.ends[0].addresses.push(ip("10.0.0.77"));
        bring_up(&mut world);
        let (from, to) = (ip("10.0.0.1"), ip("10.0.0.77"));
        world.command(0, Command::AddressChanged { from, to });
        world.ends[0].config.local = Some(to);
        world.configure(0);
        world.run(MINUTE);
        assert!(!world.has_lost(), "{}", world.describe());
        assert_eq!(world.ends[0].plane.ike_up, 1);
        world.check_rest();
    });
}

#[test]
fn lifetimes_of_zero_have_no_end() {
    each_seed("endless", 1, |_, world_of| {
        let mut configs = configs(1, &[]);
        for config in &mut configs {
            config.ike_lifetime = Duration::ZERO;
            config.children[0].lifetime = Duration::ZERO;
        }
        let mut world = world_of(configs);
        bring_up(&mut world);
        world.run(60 * MINUTE);
        world.check_rest();
        assert_eq!((world.ends[0].plane.ike_up, world.ends[0].plane.rekeyed), (1, 0));
    });
}
