//! Several edges under true time, with clocks that differ, an API that is slow, lies by its watches
//! and goes, cuts between any two, crashes and pauses. That nobody holds what another does is
//! checked whenever anybody takes anything. `SIM_SEEDS` says how many seeds are tried, `SIM_SEED`
//! tries one, and tells all of it.

#![allow(clippy::unwrap_used, clippy::panic)] // reason: a test fails by panicking

mod api;
mod seeds;
mod world;

use std::time::Duration;

use api::Weather;
use holding::{Claim, Event, Former, Lease, Sight};
use seeds::each_seed;
use world::{SECOND, World};

/// Edges that hold everything, each its share.
fn settled(world: &mut World, edges: usize) {
    world.want(12, 3);
    world.start_edges(edges);
    assert!(world.run_until(5 * SECOND, World::all_held), "{}", world.describe());
    world.run(30 * SECOND);
    assert!(world.all_held());
}

#[test]
fn each_edge_gets_a_share() {
    each_seed("share", 5, |world| {
        settled(world, 3);
        for edge in 0..3 {
            assert!(world.count(edge) >= 1, "{}", world.describe());
        }
        let moved = world.moved;
        world.run(60 * SECOND);
        assert_eq!(world.moved, moved, "claims move on and on");
    });
}

#[test]
fn a_crashed_edges_claims_are_held_within_three_seconds() {
    each_seed("crash", 20, |world| {
        world.weather = if world.seed % 2 == 0 { Weather::FAIR } else { Weather::SLOW };
        settled(world, 3);
        world.run(world.seed % 977 * 1000);
        world.crash(world.seed as usize % 3);
        let limit = if world.seed % 2 == 0 { 2_100_000 } else { 3 * SECOND };
        assert!(world.run_until(limit, World::all_held), "{}", world.describe());
    });
}

#[test]
fn a_stopped_edges_claims_move_at_once() {
    each_seed("stop", 20, |world| {
        settled(world, 3);
        let edge = world.seed as usize % 3;
        world.longest_gap = 0;
        world.stop(edge);
        let stopped = |world: &World| {
            world.edges[edge].events.iter().any(|(_, event)| *event == Event::Stopped)
        };
        assert!(world.run_until(SECOND / 5, stopped), "{}", world.describe());
        assert!(world.run_until(SECOND / 10, World::all_held), "{}", world.describe());
        assert!(world.longest_gap <= 30_000, "{} µs", world.longest_gap);
    });
}

#[test]
fn a_drained_edge_holds_nothing_until_it_is_wanted_again() {
    each_seed("drain", 10, |world| {
        settled(world, 2);
        world.longest_gap = 0;
        world.drain(1, true);
        world.run(2 * SECOND);
        assert_eq!(world.count(1), 0);
        assert!(world.all_held());
        world.crash(0);
        world.run(60 * SECOND);
        assert_eq!(world.count(1), 0);
        world.start(0);
        world.drain(1, false);
        world.run(60 * SECOND);
        assert!(world.all_held() && world.count(1) >= 1, "{}", world.describe());
    });
}

#[test]
fn an_edge_that_is_cut_off_from_the_nodes_leaves_what_it_holds_to_those_that_are_not() {
    each_seed("cut-off", 10, |world| {
        settled(world, 3);
        let leader = world.holder(&Claim::Leader).unwrap();
        world.longest_gap = 0;
        world.sight(leader, Sight::CutOff);
        world.run(2 * SECOND);
        assert!(world.all_held(), "{}", world.describe());
        assert_eq!(world.count(leader), 1, "{}", world.describe());
        assert_eq!(world.holder(&Claim::Leader), Some(leader));
        assert!(world.longest_gap <= 30_000, "{} µs", world.longest_gap);
        // A moment later it hears them again: it gets its share after a while.
        world.sight(leader, Sight::Clear);
        world.run(60 * SECOND);
        assert!(world.all_held() && world.count(leader) >= 2, "{}", world.describe());
    });
}

#[test]
fn where_all_edges_are_cut_off_nothing_moves() {
    each_seed("all-cut-off", 10, |world| {
        settled(world, 2);
        world.sight(0, Sight::CutOff);
        world.run(2 * SECOND);
        let moved = world.moved;
        world.sight(1, Sight::CutOff);
        world.run(60 * SECOND);
        assert!(world.all_held() && world.moved == moved, "{}", world.describe());
        // Better one that is than none.
        world.crash(1);
        assert!(world.run_until(3 * SECOND, World::all_held), "{}", world.describe());
        world.start(1);
        world.run(20 * SECOND);
        assert!(world.all_held() && world.count(0) == 1, "{}", world.describe());
    });
}

#[test]
fn where_all_edges_lose_sight_of_the_nodes_one_after_another_nothing_moves() {
    each_seed("all-away", 10, |world| {
        settled(world, 3);
        let moved = world.moved;
        // Blind after a second, cut off three later, each a little apart, and back the same way.
        for sight in [Sight::Blind, Sight::CutOff, Sight::Blind, Sight::Clear] {
            for edge in [2, 0, 1] {
                world.sight(edge, sight);
                world.run(SECOND / 2);
            }
            world.run(SECOND * 3 / 2);
        }
        world.run(60 * SECOND);
        assert!(world.all_held() && world.moved == moved, "{}", world.describe());
    });
}

#[test]
fn an_edge_that_loses_an_interface_leaves_what_needs_it_to_others() {
    each_seed("interface", 10, |world| {
        world.want(12, 0);
        for wanted in world.wanted.values_mut() {
            wanted.needs = ["public".to_owned()].into();
        }
        for _ in 0..2 {
            let edge = world.add_edge();
            world.edges[edge].offers = ["public".to_owned()].into();
            world.start(edge);
        }
        world.run(60 * SECOND);
        assert!(world.all_held() && world.count(0) > 1, "{}", world.describe());
        world.offer(0, []);
        world.run(3 * SECOND);
        assert!(world.all_held() && world.count(1) == 13, "{}", world.describe());
        world.offer(0, ["public".to_owned()]);
        world.run(60 * SECOND);
        assert!(world.all_held() && world.count(0) > 1, "{}", world.describe());
    });
}

#[test]
fn an_edge_that_has_seen_no_node_yet_is_given_nothing() {
    each_seed("blind", 10, |world| {
        settled(world, 2);
        world.crash(1);
        world.run(10 * SECOND);
        world.start(1);
        world.sight(1, Sight::Blind);
        world.run(60 * SECOND);
        assert!(world.all_held() && world.count(1) == 0, "{}", world.describe());
        world.sight(1, Sight::Clear);
        world.run(60 * SECOND);
        assert!(world.all_held() && world.count(1) > 0, "{}", world.describe());
    });
}

#[test]
fn the_last_edge_that_drains_keeps_what_nobody_else_would_hold() {
    each_seed("last", 2, |world| {
        settled(world, 1);
        world.drain(0, true);
        world.run(20 * SECOND);
        assert!(world.all_held());
    });
}

#[test]
fn a_new_edge_gets_its_share_few_at_a_time() {
    each_seed("join", 5, |world| {
        world.want(60, 0);
        world.start_edges(2);
        assert!(world.run_until(5 * SECOND, World::all_held));
        world.run(30 * SECOND);
        world.longest_gap = 0;
        let (moved, edge) = (world.moved, world.add_edge());
        world.start(edge);
        world.run(8 * SECOND);
        assert_eq!(world.moved, moved, "claims were moved to an edge that has just come");
        world.run(30 * SECOND);
        assert!((8..36).contains(&world.count(edge)), "{}", world.count(edge));
        assert_eq!((world.moved - moved) as usize, world.count(edge), "others' claims moved too");
        assert!(world.longest_gap <= 30_000, "{} µs", world.longest_gap);
    });
}

#[test]
fn an_edge_that_cannot_hold_a_claim_is_not_given_it() {
    each_seed("needs", 5, |world| {
        world.want(12, 0);
        for wanted in world.wanted.values_mut() {
            wanted.needs = ["public".to_owned()].into();
        }
        for number in 0..3 {
            let edge = world.add_edge();
            if number == 1 {
                world.edges[edge].offers = ["public".to_owned(), "private".to_owned()].into();
            }
            world.start(edge);
        }
        assert!(world.run_until(5 * SECOND, World::all_held), "{}", world.describe());
        assert_eq!(world.count(1), 13);
    });
}

#[test]
fn with_the_api_gone_for_an_hour_nothing_changes() {
    each_seed("api_gone", 1, |world| {
        settled(world, 1 + world.seed as usize % 3);
        let moved = world.moved;
        world.set_api(false);
        let hours = if world.seed < 3 { 1.0 } else { 0.05 };
        for _ in 0..(hours * 360.0) as u64 {
            world.run(10 * SECOND);
            assert!(world.all_held(), "{}", world.describe());
        }
        world.set_api(true);
        for _ in 0..60 {
            world.run(SECOND);
            assert!(world.all_held(), "{}", world.describe());
        }
        assert_eq!(world.moved, moved);
    });
}

#[test]
fn an_edge_that_is_cut_off_gives_up_before_others_take() {
    each_seed("cut_off", 20, |world| {
        world.weather = if world.seed % 2 == 0 { Weather::FAIR } else { Weather::SLOW };
        settled(world, 3);
        world.run(world.seed % 977 * 1000);
        let edge = world.seed as usize % 3;
        world.reach_api(edge, false);
        for other in 0..3 {
            world.cut(edge, other, true);
        }
        assert!(
            world.run_until(3 * SECOND, World::all_held_elsewhere(edge)),
            "{}",
            world.describe()
        );
        world.run(60 * SECOND);
        world.reach_api(edge, true);
        for other in 0..3 {
            world.cut(edge, other, false);
        }
        world.run(60 * SECOND);
        assert!(world.all_held() && world.count(edge) > 0, "{}", world.describe());
    });
}

#[test]
fn an_edge_that_only_others_reach_goes_on_for_a_while_then_gives_up() {
    each_seed("others_only", 5, |world| {
        settled(world, 3);
        world.reach_api(0, false);
        let holds = world.count(0);
        world.run(4 * SECOND);
        assert_eq!(world.count(0), holds);
        assert!(world.run_until(9 * SECOND, World::all_held_elsewhere(0)), "{}", world.describe());
    });
}

#[test]
fn a_lonely_edge_without_the_api_is_left_what_it_holds_while_it_answers() {
    each_seed("newcomer", 5, |world| {
        settled(world, 1);
        world.reach_api(0, false);
        world.run(10 * SECOND);
        let edge = world.add_edge();
        world.start(edge);
        for _ in 0..60 {
            world.run(SECOND);
            assert_eq!(world.count(0), world.wanted.len(), "{}", world.describe());
        }
        world.crash(0);
        world.run(9 * SECOND);
        assert_eq!(world.count(edge), 0);
        assert!(world.run_until(4 * SECOND, World::all_held), "{}", world.describe());
        assert_eq!(world.former(edge, &Claim::Leader), Some(Former::Silent));
    });
}

#[test]
fn a_restarted_edge_begins_with_nothing() {
    each_seed("restart", 10, |world| {
        settled(world, 2);
        world.crash(0);
        world.run(world.seed % 3000 * 1000);
        world.start(0);
        assert!(world.edges[0].engine.as_ref().unwrap().holding().claims.is_empty());
        assert!(world.run_until(3 * SECOND, World::all_held), "{}", world.describe());
        world.run(60 * SECOND);
        assert!(world.count(0) > 0 && world.count(1) > 0, "{}", world.describe());
    });
}

#[test]
fn deleted_leases_come_back_and_nobody_holds_twice() {
    each_seed("deleted", 10, |world| {
        settled(world, 3);
        let names: Vec<_> = world.api.leases.keys().cloned().collect();
        for name in names {
            if world.share(0.3) {
                let change = world.api.delete(&name).unwrap();
                world.spread(&change);
                let pause = world.random.u64(0..SECOND);
                world.run(pause);
            }
        }
        assert!(world.run_until(30 * SECOND, World::all_held), "{}", world.describe());
    });
}

#[test]
fn foreign_leases_are_left_alone_and_named() {
    each_seed("foreign", 2, |world| {
        world.want(3, 0);
        let claim = Claim::Vip("192.0.0.1".parse().unwrap());
        let name = holding::lease::claim_lease(&claim);
        let lease = Lease { name: name.clone(), holder: "kube-vip".into(), ..Lease::default() };
        world.api.write(&lease);
        world.start_edges(2);
        world.run(30 * SECOND);
        assert_eq!(world.holder(&claim), None);
        assert_eq!(world.api.leases[&name].holder, "kube-vip");
        let named = |(_, event): &(u64, Event)| matches!(event, Event::Fault(fault) if fault.to_string().contains(&name));
        assert_eq!(world.edges[0].events.iter().filter(|event| named(event)).count(), 1);
        let change = world.api.delete(&name).unwrap();
        world.spread(&change);
        assert!(world.run_until(3 * SECOND, World::all_held), "{}", world.describe());
    });
}

#[test]
fn a_thousand_claims_of_a_crashed_edge_are_taken_over_in_order() {
    let mut world = World::new(7);
    world.settings.moves = 500;
    world.want(4900, 99);
    world.start_edges(5);
    world.run(40 * SECOND);
    assert!(world.all_held(), "{}", world.describe());
    let (edge, writes) = (2, world.api.writes);
    let held = world.count(edge);
    assert!((800..1200).contains(&held), "{held}");
    for one in &mut world.edges {
        one.asked.clear();
    }
    world.crash(edge);
    world.run(2_500_000);
    assert!(world.all_held(), "{}", world.describe());
    assert!(world.api.writes - writes < held as u64 + 60);
    let others = world.edges.iter().enumerate().filter(|(number, _)| *number != edge);
    for (_, one) in others {
        let claims = one.asked.iter().filter(|name| holding::lease::edge_of(name).is_none());
        let vips: Vec<bool> = claims.map(|name| name.starts_with("tidegate-vip-")).collect();
        assert!(vips.len() > 100 && vips.is_sorted(), "VIPs before what is more urgent");
    }
}

/// Everything at once, then peace.
#[test]
fn nobody_holds_what_another_does_whatever_happens() {
    each_seed("storm", 100, |world| {
        world.weather = match world.seed % 3 {
            0 => Weather::FAIR,
            1 => Weather::SLOW,
            _ => Weather::FOUL,
        };
        // How far silence proves anything is told in the crate's documentation.
        world.settings.silence = Duration::from_secs(3600);
        world.settings.settle = Duration::from_secs(2 + world.seed % 4);
        world.want(6, 1);
        let edges = 2 + world.random.usize(0..4);
        for _ in 0..edges {
            let edge = world.add_edge();
            world.start(edge);
            let pause = world.random.u64(0..2 * SECOND);
            world.run(pause);
        }
        for _ in 0..40 {
            strike(world);
            let pause = world.random.u64(0..3 * SECOND);
            world.run(pause);
        }
        calm(world);
        assert!(world.run_until(8 * SECOND, World::all_held), "{}", world.describe());
        world.run(20 * SECOND);
        assert!(world.all_held(), "{}", world.describe());
    });
}

fn strike(world: &mut World) {
    let count = world.edges.len();
    let edge = world.random.usize(0..count);
    let other = world.random.usize(0..count);
    let alive = world.edges[edge].engine.is_some();
    match world.random.u32(0..14) {
        0 | 1 => {
            let reaches = world.edges[edge].reaches_api;
            world.reach_api(edge, !reaches);
        }
        2 | 3 if edge != other => {
            let cut = world.cut.contains(&(edge.min(other), edge.max(other)));
            world.cut(edge, other, !cut);
        }
        4 => {
            let up = world.api_up;
            world.set_api(!up);
        }
        5 | 6 if alive => world.crash(edge),
        5..=8 if !alive => world.start(edge),
        7 | 8 => {
            let long = world.random.u64(200_000..6 * SECOND);
            world.pause(edge, long);
        }
        9 => world.stop(edge),
        10 => {
            let drain = world.random.bool();
            world.drain(edge, drain);
        }
        11 => {
            // A restart without any pause between.
            world.crash(edge);
            world.start(edge);
        }
        12 => {
            let claims: Vec<_> = world.wanted.keys().cloned().collect();
            let claim = claims[world.random.usize(0..claims.len())].clone();
            let wanted = world.wanted.remove(&claim).unwrap();
            world.tell_wanted();
            let pause = world.random.u64(0..SECOND);
            world.run(pause);
            world.wanted.insert(claim, wanted);
            world.tell_wanted();
        }
        13 => {
            let all = [Sight::Clear, Sight::Blind, Sight::CutOff];
            let sight = all[world.random.usize(..3)];
            world.sight(edge, sight);
        }
        _ => {}
    }
}

fn calm(world: &mut World) {
    world.weather = Weather::FAIR;
    world.cut.clear();
    world.set_api(true);
    for edge in 0..world.edges.len() {
        world.reach_api(edge, true);
        let stopped = |world: &World| {
            let engine = world.edges[edge].engine.as_ref();
            engine.is_none_or(|engine| engine.is_stopping())
        };
        if stopped(world) {
            world.crash(edge);
            world.start(edge);
        }
        world.drain(edge, false);
        world.sight(edge, Sight::Clear);
        world.edges[edge].paused_until = world.now;
    }
}
