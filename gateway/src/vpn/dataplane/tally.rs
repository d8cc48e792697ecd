//! Counting without contention: each worker has cells of its own, which are summed up when
//! somebody asks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::SaCounters;

/// What one worker has counted of an SA or a child. On cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Cells {
    pub(super) sent_bytes: Cell,
    pub(super) sent_packets: Cell,
    pub(super) received_bytes: Cell,
    pub(super) received_packets: Cell,
    pub(super) replayed: Cell,
    pub(super) unauthentic: Cell,
    pub(super) selector_drops: Cell,
    pub(super) outside_selectors: Cell,
    pub(super) malformed: Cell,
    pub(super) too_big: Cell,
    pub(super) held_back: Cell,
}

/// A number that one thread adds to.
#[derive(Debug, Default)]
pub(super) struct Cell(AtomicU64);

impl Cell {
    #[inline]
    pub(super) fn add(&self, number: u64) {
        // Nobody else writes, so that no locked instruction is needed.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(number), Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What all workers have counted of an SA or a child.
#[derive(Debug)]
pub(super) struct Tally(Box<[Cells]>);

impl Tally {
    pub(super) fn new(workers: usize) -> Self {
        Self((0..workers.max(1)).map(|_| Cells::default()).collect())
    }

    /// The cells of a worker.
    #[inline]
    pub(super) fn of(&self, worker: usize) -> &Cells {
        &self.0[worker]
    }

    pub(super) fn sum(&self) -> SaCounters {
        let mut sum = SaCounters::default();
        for cells in &self.0 {
            add(
                &mut sum,
                &SaCounters {
                    sent_bytes: cells.sent_bytes.get(),
                    sent_packets: cells.sent_packets.get(),
                    received_bytes: cells.received_bytes.get(),
                    received_packets: cells.received_packets.get(),
                    replayed: cells.replayed.get(),
                    unauthentic: cells.unauthentic.get(),
                    selector_drops: cells.selector_drops.get(),
                    outside_selectors: cells.outside_selectors.get(),
                    malformed: cells.malformed.get(),
                    too_big: cells.too_big.get(),
                    held_back: cells.held_back.get(),
                },
            );
        }
        sum
    }
}

/// Adds to counters.
pub(super) fn add(sum: &mut SaCounters, more: &SaCounters) {
    sum.sent_bytes += more.sent_bytes;
    sum.sent_packets += more.sent_packets;
    sum.received_bytes += more.received_bytes;
    sum.received_packets += more.received_packets;
    sum.replayed += more.replayed;
    sum.unauthentic += more.unauthentic;
    sum.selector_drops += more.selector_drops;
    sum.outside_selectors += more.outside_selectors;
    sum.malformed += more.malformed;
    sum.too_big += more.too_big;
    sum.held_back += more.held_back;
}

/// Why a packet was dropped for no SA's sake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// No policy is for it.
    NoPolicy,
    /// Multicast or of the link alone: nothing for a tunnel.
    LinkLocal,
    /// Its child has no SA.
    NoSa,
    /// Its SA has no sequence number left.
    Exhausted,
    /// ESP with an SPI that nobody knows.
    UnknownSpi,
    /// No packet of IP, ESP or IKE.
    Malformed,
    /// The IKE side is behind.
    IkeBehind,
    /// The socket's buffer is full.
    SendQueueFull,
    /// The kernel doesn't send it: no route, no such address of this end, a firewall.
    SendFailed,
    /// The TUN interface doesn't take it.
    TunRefused,
}

impl Reason {
    const ALL: [Self; 10] = [
        Self::NoPolicy,
        Self::LinkLocal,
        Self::NoSa,
        Self::Exhausted,
        Self::UnknownSpi,
        Self::Malformed,
        Self::IkeBehind,
        Self::SendQueueFull,
        Self::SendFailed,
        Self::TunRefused,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::NoPolicy => "no-policy",
            Self::LinkLocal => "link-local",
            Self::NoSa => "no-sa",
            Self::Exhausted => "exhausted",
            Self::UnknownSpi => "unknown-spi",
            Self::Malformed => "malformed",
            Self::IkeBehind => "ike-behind",
            Self::SendQueueFull => "send-queue-full",
            Self::SendFailed => "send-failed",
            Self::TunRefused => "tun-refused",
        }
    }
}

/// What all workers have dropped, by reason.
#[derive(Debug)]
pub(super) struct Drops(Box<[DropCells]>);

#[derive(Debug, Default)]
#[repr(align(128))]
struct DropCells([Cell; Reason::ALL.len()]);

impl Drops {
    pub(super) fn new(workers: usize) -> Self {
        Self((0..workers.max(1)).map(|_| DropCells::default()).collect())
    }

    pub(super) fn add(&self, worker: usize, reason: Reason, packets: u64) {
        self.0[worker].0[reason as usize].add(packets);
    }

    /// All reasons, also those that there was nothing for.
    pub(super) fn sum(&self) -> BTreeMap<&'static str, u64> {
        let sum = |reason: Reason| self.0.iter().map(|cells| cells.0[reason as usize].get()).sum();
        Reason::ALL.into_iter().map(|reason| (reason.name(), sum(reason))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_workers_count_is_summed_up() {
        let tally = Tally::new(2);
        tally.of(0).sent_packets.add(2);
        tally.of(1).sent_packets.add(3);
        tally.of(1).held_back.add(1);
        let expected = SaCounters { sent_packets: 5, held_back: 1, ..SaCounters::default() };
        assert_eq!(tally.sum(), expected);
        let drops = Drops::new(2);
        drops.add(0, Reason::NoSa, 4);
        drops.add(1, Reason::TunRefused, 1);
        assert_eq!(drops.sum()["no-sa"], 4);
        assert_eq!(drops.sum()["tun-refused"], 1);
        assert_eq!(drops.sum().len(), Reason::ALL.len());
    }

    #[test]
    fn each_reason_has_its_place() {
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
        }
    }
}
