//! Message IDs, retransmission and remembered answers of one IKE SA (RFC 7296, 2.1 to 2.3).
//!
//! Both windows have size 1: a SET_WINDOW_SIZE of the other end allows more, and never demands
//! it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::config::Settings;

#[cfg(test)]
mod tests;

/// Requests of this end: one on its way, the others wait.
#[derive(Debug)]
pub struct Outgoing<T> {
    next_id: u32,
    pending: Option<Pending<T>>,
    queue: VecDeque<T>,
}

/// A request that is on its way.
#[derive(Debug)]
pub struct Pending<T> {
    /// Its message ID.
    pub id: u32,
    /// What it is about.
    pub what: T,
    /// Its datagrams: more than one if it is cut up.
    pub datagrams: Vec<Vec<u8>>,
    /// When it was sent first.
    pub since: Instant,
    /// When it is sent again, or given up.
    pub next: Instant,
    /// How often it was sent.
    pub tries: u32,
}

/// What is to be done with a request that was not answered in time.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing yet.
    Wait(Instant),
    /// Send it again.
    Again,
    /// The other end is dead.
    GiveUp,
}

impl<T> Outgoing<T> {
    /// The next request gets this ID.
    pub fn new(next_id: u32) -> Self {
        Self { next_id, pending: None, queue: VecDeque::new() }
    }

    /// Whether a request may be sent now.
    pub fn is_free(&self) -> bool {
        self.pending.is_none()
    }

    /// The ID that the next request gets. None when all are used up: the IKE SA must go.
    pub fn next_id(&self) -> Option<u32> {
        (self.next_id < u32::MAX).then_some(self.next_id)
    }

    /// One more that waits for its turn.
    pub fn push(&mut self, what: T) {
        self.queue.push_back(what);
    }

    /// One that goes before those that wait.
    pub fn push_first(&mut self, what: T) {
        self.queue.push_front(what);
    }

    /// The next one to be sent, if none is on its way.
    pub fn pop(&mut self) -> Option<T> {
        if self.is_free() { self.queue.pop_front() } else { None }
    }

    /// Those that wait.
    pub fn waiting(&self) -> impl Iterator<Item = &T> {
        self.queue.iter()
    }

    /// Leaves out those that wait and are no longer wanted.
    pub fn retain(&mut self, wanted: impl FnMut(&T) -> bool) {
        self.queue.retain(wanted);
    }

    /// Notes that a request with [`Self::next_id`] was sent.
    pub fn sent(&mut self, what: T, datagrams: Vec<Vec<u8>>, now: Instant, settings: &Settings) {
        let next = now + settings.retransmit_first;
        self.pending =
            Some(Pending { id: self.next_id, what, datagrams, since: now, next, tries: 1 });
        self.next_id = self.next_id.saturating_add(1);
    }

    /// The request on its way.
    pub fn pending(&self) -> Option<&Pending<T>> {
        self.pending.as_ref()
    }

    /// The same, to be changed.
    pub fn pending_mut(&mut self) -> Option<&mut Pending<T>> {
        self.pending.as_mut()
    }

    /// The request that an authentic answer with this ID is for: taken out.
    pub fn answered(&mut self, id: u32) -> Option<Pending<T>> {
        self.pending.take_if(|pending| pending.id == id)
    }

    /// What is to be done now. `timeout` is how long a request may take as a whole.
    pub fn due(&mut self, now: Instant, settings: &Settings, timeout: Option<Duration>) -> Due {
        let Some(pending) = &mut self.pending else { return Due::Wait(now + settings.retry_max) };
        let end = timeout.map(|timeout| pending.since + timeout);
        if end.is_some_and(|end| now >= end) {
            return Due::GiveUp;
        }
        if now < pending.next {
            return Due::Wait(end.map_or(pending.next, |end| pending.next.min(end)));
        }
        // With a time-out of its own the number of tries doesn't count.
        if end.is_none() && pending.tries >= settings.retransmit_tries {
            return Due::GiveUp;
        }
        let factor = settings.retransmit_base.max(1.0).powf(f64::from(pending.tries.min(64)));
        let most = settings.retransmit_max.max(settings.retransmit_first);
        let pause = settings.retransmit_first.as_secs_f64() * factor;
        let pause = Duration::try_from_secs_f64(pause).map_or(most, |pause| pause.min(most));
        pending.tries = pending.tries.saturating_add(1);
        pending.next = now + pause;
        Due::Again
    }

    /// Takes everything out: what was on its way, and what waits.
    pub fn drain(&mut self) -> impl Iterator<Item = T> {
        self.pending.take().map(|pending| pending.what).into_iter().chain(self.queue.drain(..))
    }
}

/// Requests of the other end.
#[derive(Debug, Default)]
pub struct Incoming {
    expected: u32,
    answer: Vec<Vec<u8>>,
}

/// What a request of the other end is.
#[derive(Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// The next one.
    Next,
    /// The last one once more: this was the answer (nothing if it isn't answered yet).
    Again(&'a [Vec<u8>]),
    /// Neither.
    Outside,
}

impl Incoming {
    /// The next request should have this ID.
    pub fn new(expected: u32) -> Self {
        Self { expected, answer: Vec::new() }
    }

    /// The ID that the next request should have.
    pub fn expected(&self) -> u32 {
        self.expected
    }

    /// Where a request belongs.
    pub fn place(&self, id: u32) -> Place<'_> {
        if id == self.expected {
            Place::Next
        } else if id.checked_add(1) == Some(self.expected) {
            Place::Again(&self.answer)
        } else {
            Place::Outside
        }
    }

    /// Notes the answer to the next request, which moves the window on.
    pub fn answered(&mut self, datagrams: Vec<Vec<u8>>) {
        self.answer = datagrams;
        self.expected = self.expected.saturating_add(1);
    }
}
