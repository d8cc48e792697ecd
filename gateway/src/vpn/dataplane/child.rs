//! A child as the workers see it: what remains while its SAs come and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use ipsec::sa::{ChildName, ConnectionName};

use super::mapping::Mapping;
use super::sa::Sa;
use super::tally::Tally;

/// A child of a connection.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) connection: ConnectionName,
    pub(super) name: ChildName,
    /// What packets go out on.
    pub(super) sending: ArcSwapOption<Sa>,
    /// How addresses change.
    pub(super) mapping: ArcSwap<Mapping>,
    /// What no SA counts.
    pub(super) tally: Tally,
    /// When it was last asked for an SA.
    pub(super) acquired: Seldom,
}

impl Child {
    pub(super) fn new(connection: ConnectionName, name: ChildName, workers: usize) -> Self {
        Self {
            connection,
            name,
            sending: ArcSwapOption::empty(),
            mapping: ArcSwap::new(Arc::new(Mapping::default())),
            tally: Tally::new(workers),
            acquired: Seldom::default(),
        }
    }
}

/// Something that is told at most once a second, from any thread.
#[derive(Debug, Default)]
pub(super) struct Seldom(AtomicU64);

/// In milliseconds.
const SECOND: u64 = 1000;

impl Seldom {
    /// Whether it is time, `now` being milliseconds since any moment; the first time always.
    #[inline]
    pub(super) fn is_due(&self, now: u64) -> bool {
        let last = self.0.load(Ordering::Relaxed);
        let now = now + 1;
        (last == 0 || now >= last + SECOND)
            && self.0.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Nobody could be told; it is due at once again.
    pub(super) fn undo(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_due_at_first_and_then_once_a_second() {
        let seldom = Seldom::default();
        let due: Vec<u64> = [0, 1, 999, 1000, 1001, 2500, 3000, 3500]
            .into_iter()
            .filter(|now| seldom.is_due(*now))
            .collect();
        assert_eq!(due, [0, 1000, 2500, 3500]);
        seldom.undo();
        assert!(seldom.is_due(3501));
    }
}
