//! Two engines under a virtual clock, with loss, duplication, reordering, NAT and restarts between
//! them. `SIM_SEEDS` says how many seeds are tried, `SIM_SEED` tries one, and tells all of it.

#![allow(clippy::unwrap_used, clippy::panic)] // reason: a test fails by panicking

mod network;
mod plane;
mod scenarios;
mod seeds;
mod world;

use std::time::Duration;

use ipsec::ike::event::Rekey;
use seeds::each_seed;
use world::{World, configs};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_connection_comes_up_and_packets_go_both_ways() {
    each_seed("up", 1, |_, world_of| {
        let mut world = world_of(configs(2, &[]));
        world.start_both();
        assert!(world.run_until(Duration::from_secs(2), World::is_up), "{}", world.describe());
        world.strict = true;
        world.run(MINUTE);
        assert!(world.delivered.iter().all(|count| *count > 100));
        world.check_rest();
    });
}

#[test]
fn a_child_is_rekeyed_without_loss() {
    each_seed("rekey_child", 5, |_, world_of| {
        let mut world = world_of(configs(2, &[]));
        world.start_both();
        assert!(world.run_until(Duration::from_secs(2), World::is_up));
        world.strict = true;
        for end in [0, 1, 0] {
            world.rekey(end, Rekey::Children);
            world.run(Duration::from_secs(20));
            assert!(world.is_settled(), "{}", world.describe());
        }
        assert_eq!(world.ends[0].plane.rekeyed, 6);
        assert!(!world.has_lost());
    });
}

#[test]
fn an_ike_sa_is_rekeyed_without_loss() {
    each_seed("rekey_ike", 5, |_, world_of| {
        let mut world = world_of(configs(2, &[]));
        world.start_both();
        assert!(world.run_until(Duration::from_secs(2), World::is_up));
        world.strict = true;
        for end in [0, 1, 0] {
            world.rekey(end, Rekey::Ike);
            world.run(Duration::from_secs(40));
            assert!(world.is_settled(), "{}", world.describe());
            world.rekey(1 - end, Rekey::Children);
            world.run(Duration::from_secs(40));
            assert!(world.is_settled(), "{}", world.describe());
        }
        assert!(!world.has_lost());
    });
}
