//! What a load of datagrams counted.

use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;

use super::flow::Arrival;

/// The longest latency told apart from longer ones.
const LONGEST: Duration = Duration::from_secs(120);
/// The most entries of the series; what comes later counts in the last one.
const MAX_SLICES: usize = 100_000;

/// One stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slice {
    /// Packets that were due in it and have left.
    pub(crate) sent: u64,
    /// Those of them that came back.
    pub(crate) received: u64,
    /// The sum of their latencies, in nanoseconds.
    pub(crate) latency_sum: u64,
    /// The longest of them, in nanoseconds.
    pub(crate) latency_max: u64,
}

/// Counts since the driver was made.
#[derive(Clone, Debug)]
pub(crate) struct Counts {
    /// Packets that have left.
    pub(crate) sent: u64,
    /// Bytes of their payloads.
    pub(crate) sent_bytes: u64,
    /// Packets that came back, each once.
    pub(crate) received: u64,
    /// Packets that came back again.
    pub(crate) duplicated: u64,
    /// Packets that came back behind one that was sent later (RFC 4737), duplicates apart.
    pub(crate) reordered: u64,
    /// Packets so old that it is not known any more whether they are duplicates; they count as
    /// lost.
    pub(crate) stale: u64,
    /// Datagrams that are none of this driver's.
    pub(crate) foreign: u64,
    /// Answers by ICMP that nobody listens.
    pub(crate) refused: u64,
    /// Packets that a closed loop stopped to wait for; they may have come back all the same.
    pub(crate) given_up: u64,
    /// Nanoseconds from when a packet was due to when it came back.
    pub(crate) latency: Histogram<u64>,
    /// Nanoseconds from when a packet was due to when it left: the generator's own part.
    pub(crate) lateness: Histogram<u64>,
    /// The same over time, by when packets were due, counted from the driver's making.
    pub(crate) slices: Vec<Slice>,
    slice: Duration,
}

impl Counts {
    /// Nothing counted yet.
    pub(super) fn new(slice: Duration) -> anyhow::Result<Self> {
        let longest = nanoseconds(LONGEST);
        let histogram = Histogram::new_with_bounds(1_000, longest, 3).context("histogram")?;
        Ok(Self {
            sent: 0,
            sent_bytes: 0,
            received: 0,
            duplicated: 0,
            reordered: 0,
            stale: 0,
            foreign: 0,
            refused: 0,
            given_up: 0,
            latency: histogram.clone(),
            lateness: histogram,
            slices: Vec::new(),
            slice,
        })
    }

    /// Packets that have not come back; what is still under way is among them until the driver
    /// has drained.
    pub(crate) fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.received)
    }

    /// Counts a packet that has left.
    pub(super) fn sent(&mut self, due: Duration, now: Duration, bytes: usize) {
        self.sent += 1;
        self.sent_bytes += bytes as u64;
        self.lateness.saturating_record(nanoseconds(now.saturating_sub(due)));
        self.slice_of(due).sent += 1;
    }

    /// Counts what has come.
    pub(super) fn received(&mut self, arrival: Arrival, now: Duration) {
        match arrival {
            Arrival::New { due, reordered } => {
                let latency = nanoseconds(now.saturating_sub(due));
                self.received += 1;
                self.reordered += u64::from(reordered);
                self.latency.saturating_record(latency);
                let slice = self.slice_of(due);
                slice.received += 1;
                slice.latency_sum += latency;
                slice.latency_max = slice.latency_max.max(latency);
            }
            Arrival::Duplicate => self.duplicated += 1,
            Arrival::Stale => self.stale += 1,
            Arrival::Foreign => self.foreign += 1,
        }
    }

    fn slice_of(&mut self, due: Duration) -> &mut Slice {
        let at = due.as_nanos() / self.slice.as_nanos().max(1);
        let at = usize::try_from(at).unwrap_or(usize::MAX).min(MAX_SLICES - 1);
        if at >= self.slices.len() {
            self.slices.resize(at + 1, Slice::default());
        }
        // invariant: just made that long
        self.slices.get_mut(at).expect("invariant: the series reaches so far")
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
