//! Runs a scenario with many seeds, on all cores, and tells the story of one that fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use super::world::World;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs a scenario with `share` seeds of every 100 that `SIM_SEEDS` asks for (2000 by default).
pub(crate) fn each_seed(name: &str, share: u64, scenario: impl Fn(&mut World) + Sync) {
    if let Some(seed) = number("SIM_SEED") {
        return tell(name, seed, &scenario);
    }
    let count = (number("SIM_SEEDS").unwrap_or(2000) * share).div_ceil(100).max(1);
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let failed = std::thread::scope(|scope| {
        let work = || loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= count {
                return None;
            }
            if !passes(seed, &scenario) {
                next.store(count, Ordering::Relaxed);
                return Some(seed);
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().filter_map(|worker| worker.join().unwrap()).min()
    });
    if let Some(seed) = failed {
        tell(name, seed, &scenario);
        panic!("{name}: seed {seed} has failed once and not again: it depends on something else");
    }
}

fn passes(seed: u64, scenario: &impl Fn(&mut World)) -> bool {
    catch_unwind(AssertUnwindSafe(|| scenario(&mut World::new(seed)))).is_ok()
}

/// Runs one seed and tells what has happened.
fn tell(name: &str, seed: u64, scenario: &impl Fn(&mut World)) {
    let mut world = World::new(seed);
    world.log = Some(Vec::new());
    if catch_unwind(AssertUnwindSafe(|| scenario(&mut world))).is_err() {
        let log = world.log.take().unwrap_or_default();
        let lines: String = log
            .iter()
            .skip(log.len().saturating_sub(1500))
            .map(|line| format!("{line}\n"))
            .collect();
        eprintln!("{lines}{}", world.describe());
        panic!("{name}: seed {seed} fails; SIM_SEED={seed} replays it");
    }
}
