//! What a run counted in detail: by phase, by entry of the mix, and over time.

use std::collections::BTreeMap;
use std::time::Duration;

use super::connection::Failed;
use super::outcome::Slice;
use super::pace::Profile;
use super::stats::Stats;

/// Entries of a mix from which on their latencies are told apart less finely, to save memory.
const MANY_ENTRIES: usize = 50;

/// What became of one operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finished {
    /// When it was due (open loop) or started, nanoseconds since the load began.
    pub(crate) intended: u64,
    /// When it was over.
    pub(crate) at: u64,
    /// Its entry in the mix.
    pub(crate) entry: usize,
    /// Failures before this, after which it was tried again.
    pub(crate) attempts: u32,
}

/// Detailed accounts of a run.
#[derive(Clone, Debug)]
pub(crate) struct Accounts {
    profile: Profile,
    /// One for each phase.
    pub(crate) phases: Vec<Stats>,
    /// One for each entry of the mix, of counted phases only.
    pub(crate) entries: Vec<Stats>,
    /// Answers by the value of the header that names the backend, of counted phases only.
    pub(crate) backends: BTreeMap<String, u64>,
    slice: u64,
    slices: Vec<Slice>,
    /// The slice that goes on, and its latencies.
    current: usize,
    latencies: Stats,
}

impl Accounts {
    /// Nothing counted yet; slices of the time series are so long.
    pub(crate) fn new(profile: &Profile, entries: usize, slice: Duration) -> anyhow::Result<Self> {
        let phases = profile.phases().map(|_| Stats::new()).collect::<Result<_, _>>()?;
        let digits = if entries > MANY_ENTRIES { 2 } else { 3 };
        let entries = std::iter::repeat_with(|| Stats::with_digits(digits))
            .take(entries)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            profile: profile.clone(),
            phases,
            entries,
            backends: BTreeMap::new(),
            slice: u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX).max(1),
            slices: Vec::new(),
            current: 0,
            latencies: Stats::new()?,
        })
    }

    /// An operation was due.
    pub(crate) fn due(&mut self, at: u64) {
        let index = (at / self.slice) as usize;
        self.slice_mut(index).due += 1;
    }

    /// An operation was answered as expected.
    pub(crate) fn succeeded(&mut self, operation: Finished, bytes: u64, backend: Option<&str>) {
        let latency = Duration::from_nanos(operation.at.saturating_sub(operation.intended));
        let index = self.go_to(operation.at);
        self.slice_mut(index).succeeded += 1;
        self.latencies.succeeded(latency, bytes);
        let phase = self.profile.phase_at(operation.intended);
        let counted = self.is_counted(phase);
        let retried = u64::from(operation.attempts > 0);
        let entry = self.entries.get_mut(operation.entry).filter(|_| counted);
        for stats in self.phases.get_mut(phase).into_iter().chain(entry) {
            stats.succeeded(latency, bytes);
            stats.retried += retried;
        }
        if let Some(backend) = backend.filter(|_| counted) {
            match self.backends.get_mut(backend) {
                Some(count) => *count += 1,
                None => drop(self.backends.insert(backend.to_owned(), 1)),
            }
        }
    }

    /// An operation failed for good.
    pub(crate) fn failed(&mut self, operation: Finished, failed: &Failed) {
        let index = self.go_to(operation.at);
        self.slice_mut(index).failed += 1;
        let phase = self.profile.phase_at(operation.intended);
        let counted = self.is_counted(phase);
        let entry = self.entries.get_mut(operation.entry).filter(|_| counted);
        for stats in self.phases.get_mut(phase).into_iter().chain(entry) {
            stats.failed(failed.kind, || failed.detail.clone());
        }
    }

    /// All counted phases together.
    pub(crate) fn total(&self) -> anyhow::Result<Stats> {
        let mut total = Stats::new()?;
        for (phase, stats) in self.phases.iter().enumerate() {
            if self.is_counted(phase) {
                total.add(stats);
            }
        }
        Ok(total)
    }

    /// The time series up to a moment.
    pub(crate) fn series(&mut self, end: u64) -> Vec<Slice> {
        self.go_to(end);
        self.close_slice();
        let seconds = |ns: u64| ns as f64 / 1e9;
        for (index, slice) in self.slices.iter_mut().enumerate() {
            let at = index as u64 * self.slice;
            slice.at = seconds(at);
            slice.seconds = seconds(self.slice.min(end.saturating_sub(at)));
        }
        // The end itself may be the first moment of a slice in which nothing can have happened.
        self.slices.iter().filter(|slice| slice.seconds > 0.0).cloned().collect()
    }

    /// What happened in the last complete slice, for showing progress.
    pub(crate) fn latest(&self) -> Option<&Slice> {
        self.slices.get(self.current.checked_sub(1)?)
    }

    fn is_counted(&self, phase: usize) -> bool {
        self.profile.phases().nth(phase).is_none_or(|(phase, _, _)| phase.counted)
    }

    /// Makes the slice of a moment the current one; returns its index.
    fn go_to(&mut self, at: u64) -> usize {
        let index = (at / self.slice) as usize;
        if index > self.current {
            self.close_slice();
            self.current = index;
        }
        self.current
    }

    /// Writes the latencies of the current slice down.
    fn close_slice(&mut self) {
        let (p50, p99) = (self.latencies.latency_us(0.5), self.latencies.latency_us(0.99));
        let max = self.latencies.latency.max() as f64 / 1_000.0;
        if self.latencies.requests > 0 {
            let index = self.current;
            let slice = self.slice_mut(index);
            (slice.p50_us, slice.p99_us, slice.max_us) = (p50, p99, max);
        }
        self.latencies.reset();
    }

    fn slice_mut(&mut self, index: usize) -> &mut Slice {
        if index >= self.slices.len() {
            self.slices.resize(index + 1, Slice::default());
        }
        &mut self.slices[index]
    }
}
