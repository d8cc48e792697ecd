//! Counting without contention: each worker has cells of its own.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use netdev::udp::Unsent;
use overlay::peers::Dropped;

/// Why something was not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// What the protocol says.
    Protocol(Dropped),
    /// The socket's buffer is full.
    SendQueueFull,
    /// The kernel doesn't send it: no route, a firewall.
    SendFailed,
    /// The TUN interface doesn't take it.
    TunRefused,
}

const PROTOCOL: usize = Dropped::ALL.len();
const REASONS: usize = PROTOCOL + 3;

impl Reason {
    fn place(self) -> usize {
        match self {
            Self::Protocol(dropped) => dropped as usize,
            Self::SendQueueFull => PROTOCOL,
            Self::SendFailed => PROTOCOL + 1,
            Self::TunRefused => PROTOCOL + 2,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Protocol(dropped) => dropped.name(),
            Self::SendQueueFull => "send_queue_full",
            Self::SendFailed => "send_failed",
            Self::TunRefused => "tun_refused",
        }
    }
}

/// Why something was not sent.
pub(super) fn reason(unsent: &Unsent) -> Reason {
    match unsent.source.kind() {
        io::ErrorKind::WouldBlock => Reason::SendQueueFull,
        _ if unsent.source.raw_os_error() == Some(nix::libc::ENOBUFS) => Reason::SendQueueFull,
        _ => Reason::SendFailed,
    }
}

/// One worker's, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Cells([AtomicU64; REASONS]);

/// What all workers have counted.
#[derive(Debug)]
pub(super) struct Tally(Box<[Cells]>);

impl Tally {
    pub(super) fn new(workers: usize) -> Self {
        Self((0..workers.max(1)).map(|_| Cells::default()).collect())
    }

    pub(super) fn add(&self, worker: usize, reason: Reason, packets: u64) {
        let cells = self.0.get(worker).and_then(|cells| cells.0.get(reason.place()));
        if let Some(cell) = cells {
            cell.fetch_add(packets, Ordering::Relaxed);
        }
    }

    /// By reason's name, those that are there.
    pub(super) fn sum(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let protocol = Dropped::ALL.map(Reason::Protocol);
        let own = [Reason::SendQueueFull, Reason::SendFailed, Reason::TunRefused];
        protocol.into_iter().chain(own).filter_map(|reason| {
            let cells = self.0.iter().filter_map(|cells| cells.0.get(reason.place()));
            let sum: u64 = cells.map(|cell| cell.load(Ordering::Relaxed)).sum();
            (sum > 0).then_some((reason.name(), sum))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_summed_over_workers() {
        let tally = Tally::new(2);
        for (place, dropped) in Dropped::ALL.into_iter().enumerate() {
            assert_eq!(Reason::Protocol(dropped).place(), place);
        }
        tally.add(0, Reason::Protocol(Dropped::Replayed), 1);
        tally.add(1, Reason::Protocol(Dropped::Replayed), 2);
        tally.add(1, Reason::TunRefused, 1);
        let all: Vec<_> = tally.sum().collect();
        assert_eq!(all, [("replayed", 3), ("tun_refused", 1)]);
    }
}
