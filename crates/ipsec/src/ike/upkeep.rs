//! What an IKE SA remembers for the time after IKE_AUTH: what is to be done later, and what takes
//! its place.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::engine::Engine;
use super::event::DownReason;
use super::followup::HalfDone;
use super::sa::{IkeSa, Ongoing, Phase, Task};
use crate::sa::IkeSaId;

/// How long an IKE SA waits for the DELETE that the other end owes it: as long as a request may
/// be under way.
pub(super) const DELETE_PATIENCE: Duration = Duration::from_secs(180);

/// See the module.
#[derive(Default)]
pub(super) struct Upkeep {
    /// What is not begun before a time.
    pub(super) later: Vec<(Instant, Task)>,
    /// What the other end has asked for, and its IKE_FOLLOWUP_KE is to complete.
    pub(super) half_done: Option<HalfDone>,
    /// This one came by rekeying that one, and the child SAs are still there: until it is clear
    /// which of two stays (RFC 7296, 2.8.2).
    pub(super) heir_of: Option<IkeSaId>,
    /// This one was made by authenticating anew, and takes the place of that one as soon as it has
    /// its child SAs.
    pub(super) replaces: Option<IkeSaId>,
    /// It ends then, without a word.
    pub(super) drop_at: Option<Instant>,
    /// Other addresses of the other end (RFC 4555).
    pub(super) addresses: Vec<IpAddr>,
}

impl Upkeep {
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.later.iter().map(|(at, _)| *at).chain(self.drop_at).min()
    }
}

impl IkeSa {
    /// Queues something for later, unless it is known already.
    pub(super) fn enqueue_later(&mut self, at: Instant, task: Task) {
        if self.is_established() && !self.upkeep.later.iter().any(|(_, known)| *known == task) {
            self.upkeep.later.push((at, task));
        }
    }

    /// Queues something before everything else.
    pub(super) fn enqueue_first(&mut self, task: Task) {
        if self.is_established() {
            self.queue.retain(|known| *known != task);
            self.queue.push_front(task);
        }
    }

    /// It has done its work; the other end is to delete it.
    pub(super) fn await_delete(&mut self, now: Instant) {
        if self.is_established() {
            self.phase = Phase::Ending(DownReason::Replaced);
            self.rekey_at = None;
            self.queue.clear();
            self.upkeep.drop_at = Some(now + DELETE_PATIENCE);
        }
    }
}

/// Looks what has come due.
pub(super) fn due(now: Instant, sa: &mut IkeSa) {
    if sa.upkeep.drop_at.is_some_and(|at| at <= now) {
        sa.upkeep.drop_at = None;
        sa.end(DownReason::Replaced);
        return;
    }
    let mut place = 0;
    while let Some((at, _)) = sa.upkeep.later.get(place) {
        if *at <= now {
            let (_, task) = sa.upkeep.later.swap_remove(place);
            sa.enqueue(task);
        } else {
            place += 1;
        }
    }
}

/// Gives back what an IKE SA that is gone had taken.
pub(super) fn release(engine: &mut Engine, sa: &mut IkeSa) {
    if let Some(pending) = sa.pending.take() {
        release_spi(engine, &pending.ongoing);
    }
    if let Some(spi) = sa.upkeep.half_done.take().and_then(|half| half.work.inbound_spi()) {
        engine.free_esp_spi(spi);
    }
}

/// Gives back the SPI of a child SA that a request was to make.
pub(super) fn release_spi(engine: &mut Engine, ongoing: &Ongoing) {
    let spi = match ongoing {
        Ongoing::CreateChild(waiting) => Some(waiting.spi),
        Ongoing::FollowupKe(waiting) => waiting.work.inbound_spi(),
        Ongoing::Auth(waiting) => waiting.offered_spi(),
        _ => None,
    };
    if let Some(spi) = spi {
        engine.free_esp_spi(spi);
    }
}
