//! EndpointSlices that change at a constant rate, and clients who look when some are in force.
//!
//! Changes are due at fixed times, whatever the gateway does, and so are those that are looked at:
//! a gateway that stands still delays no look. Each client asks for all changes that are still to
//! come into force in turn, on a connection each time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::lab::cluster::{Backend, Cluster, Way};
use crate::system::interrupt;

/// Time between two changes: 500 a second.
const EACH: Duration = Duration::from_millis(2);
/// One in so many is looked at.
const LOOKED_AT: u32 = 10;
/// A client rests so long between two rounds.
const REST: Duration = Duration::from_millis(1);
/// Time for a change to take effect.
const EFFECT: Duration = Duration::from_secs(60);
/// How often a client without anything to look at sees whether there is more to come.
const IDLE: Duration = Duration::from_millis(50);

/// How many changes there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course {
    /// All of them.
    pub(super) changes: u32,
}

impl Course {
    /// Ten seconds.
    pub(super) const WHOLE: Self = Self { changes: 5_000 };
    /// Two seconds.
    pub(super) const QUICK: Self = Self { changes: 1_000 };

    /// How many are looked at in each of the two ways, each of another Service.
    pub(super) fn looks_each_way(self) -> u16 {
        u16::try_from(self.changes / LOOKED_AT / 2).unwrap_or(u16::MAX)
    }
}

/// What the changes showed.
#[derive(Debug)]
pub(super) struct Outcome {
    /// From each change that was looked at to its effect, in ms.
    pub(super) ingress: Vec<f64>,
    pub(super) vip: Vec<f64>,
    /// Changes a second, as they were made.
    pub(super) rate: f64,
    /// Seconds until all were in force.
    pub(super) elapsed: f64,
}

/// A change that a client has yet to see.
struct Due {
    number: u16,
    since: Instant,
}

/// Makes all changes; returns when those looked at are in force.
pub(super) fn run(cluster: &Cluster, course: Course) -> anyhow::Result<Outcome> {
    let looks = course.looks_each_way();
    wait_for_origin(cluster, looks)?;
    let start = Instant::now();
    let is_broken = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut clients = Vec::new();
        let mut senders = Vec::new();
        for way in [Way::Ingress, Way::Vip] {
            let (sender, receiver) = channel();
            senders.push((way, sender));
            let is_broken = &is_broken;
            clients.push(scope.spawn(move || look(cluster, way, &receiver, is_broken)));
        }
        let made = make(cluster, course, senders);
        is_broken.store(made.is_err(), Ordering::Relaxed);
        let mut seen = Vec::new();
        for client in clients {
            match client.join() {
                Ok(times) => seen.push(times),
                Err(_) => bail!("a client's thread panicked"),
            }
        }
        let rate = made?;
        let mut seen = seen.into_iter();
        let mut next = || seen.next().context("invariant: there are two clients")?;
        let (ingress, vip) = (next()?, next()?);
        Ok(Outcome { ingress, vip, rate, elapsed: start.elapsed().as_secs_f64() })
    })
}

/// All Services that are looked at are served by whom they should be.
fn wait_for_origin(cluster: &Cluster, looks: u16) -> anyhow::Result<()> {
    let _inside = cluster.network().client.enter()?;
    let deadline = Instant::now() + EFFECT;
    for way in [Way::Ingress, Way::Vip] {
        for number in 0..looks {
            while !cluster.is_answered_by(Backend::Origin, way, number) {
                interrupt::check()?;
                if Instant::now() >= deadline {
                    bail!("{way:?}: Service {number} isn't served within {EFFECT:?} of the start");
                }
                std::thread::sleep(IDLE);
            }
        }
    }
    Ok(())
}

/// Makes the changes, each when it is due; how many there were a second.
fn make(
    cluster: &Cluster,
    course: Course,
    clients: Vec<(Way, Sender<Due>)>,
) -> anyhow::Result<f64> {
    let looks = course.looks_each_way();
    let start = Instant::now();
    let mut random = 0x9e37_79b9_7f4a_7c15;
    for count in 0..course.changes {
        interrupt::check()?;
        let due = start + EACH * count;
        if let Some(left) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(left);
        }
        let turn = count / LOOKED_AT;
        let number = u16::try_from(turn / 2).unwrap_or(u16::MAX);
        if count % LOOKED_AT == 0 && number < looks {
            let place = turn as usize % clients.len().max(1);
            let (way, client) = clients.get(place).context("invariant: there are two clients")?;
            let since = Instant::now();
            cluster.move_endpoint(*way, number)?;
            // One that is gone has an error of its own.
            _ = client.send(Due { number, since });
        } else {
            let free = u64::from(cluster.estate.services - 2 * looks);
            random = next(random);
            let service = u16::try_from(random % free).unwrap_or_default() + looks;
            cluster.change_any(service, next(random))?;
        }
    }
    Ok(f64::from(course.changes) / start.elapsed().as_secs_f64())
}

/// The next of a sequence of numbers that look random (xorshift).
fn next(mut random: u64) -> u64 {
    random ^= random << 13;
    random ^= random >> 7;
    random ^ (random << 17)
}

/// Looks for all changes of one way; how long each took, in ms.
fn look(
    cluster: &Cluster,
    way: Way,
    changes: &Receiver<Due>,
    is_broken: &AtomicBool,
) -> anyhow::Result<Vec<f64>> {
    let _inside = cluster.network().client.enter()?;
    let (mut pending, mut times): (Vec<Due>, Vec<f64>) = (Vec::new(), Vec::new());
    let mut is_last = false;
    loop {
        interrupt::check()?;
        if is_broken.load(Ordering::Relaxed) || (is_last && pending.is_empty()) {
            return Ok(times);
        }
        if pending.is_empty() {
            match changes.recv_timeout(IDLE) {
                Ok(due) => pending.push(due),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => is_last = true,
            }
        } else {
            std::thread::sleep(REST);
        }
        pending.extend(changes.try_iter());
        pending.retain(|due| {
            let is_seen = cluster.is_answered_by(Backend::Other, way, due.number);
            if is_seen {
                times.push(due.since.elapsed().as_secs_f64() * 1e3);
            }
            !is_seen
        });
        if let Some(late) = pending.iter().find(|due| due.since.elapsed() > EFFECT) {
            bail!("{way:?}: a change of Service {} isn't in force within {EFFECT:?}", late.number);
        }
    }
}
