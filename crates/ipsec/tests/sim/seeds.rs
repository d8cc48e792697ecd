//! Runs a scenario with many seeds, on all cores, and tells the story of one that fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use ipsec::ike::config::Connection;

use super::world::World;

/// Makes the world of a seed.
pub(crate) type WorldOf<'a> = &'a mut dyn FnMut([Connection; 2]) -> World;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs a scenario with `share` seeds of every 100 that `SIM_SEEDS` asks for (300 by default).
///
/// The world that the scenario has made is taken back by its log when it fails.
pub(crate) fn each_seed(name: &str, share: u64, scenario: impl Fn(u64, WorldOf<'_>) + Sync) {
    if let Some(seed) = number("SIM_SEED") {
        return tell(name, seed, &scenario);
    }
    let count = (number("SIM_SEEDS").unwrap_or(300) * share).div_ceil(100).max(1);
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let failed = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= count {
                            return None;
                        }
                        if !passes(seed, &scenario) {
                            next.store(count, Ordering::Relaxed);
                            return Some(seed);
                        }
                    }
                })
            })
            .collect();
        workers.into_iter().filter_map(|worker| worker.join().unwrap()).min()
    });
    if let Some(seed) = failed {
        tell(name, seed, &scenario);
        panic!("{name}: seed {seed} has failed once and not again: it depends on something else");
    }
}

fn passes(seed: u64, scenario: &impl Fn(u64, WorldOf<'_>)) -> bool {
    catch_unwind(AssertUnwindSafe(|| scenario(seed, &mut |configs| World::new(seed, configs))))
        .is_ok()
}

/// Runs one seed and tells what has happened.
fn tell(name: &str, seed: u64, scenario: &impl Fn(u64, WorldOf<'_>)) {
    let result = catch_unwind(AssertUnwindSafe(|| {
        scenario(seed, &mut |configs| {
            let mut world = World::new(seed, configs);
            world.log = Some(Vec::new());
            world
        });
    }));
    if result.is_err() {
        panic!("{name}: seed {seed} fails; SIM_SEED={seed} replays it");
    }
}

impl Drop for World {
    /// What has happened, if it went wrong.
    fn drop(&mut self) {
        if let (true, Some(log)) = (std::thread::panicking(), &self.log) {
            let from = log.len().saturating_sub(1000);
            let text: String = log.iter().skip(from).map(|line| format!("{line}\n")).collect();
            eprintln!("{text}{}", self.describe());
        }
    }
}
