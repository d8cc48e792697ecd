//! The nftables table that keeps packets for remote networks from leaving in the clear: brought
//! up whole whenever it changes, or when somebody else has been at it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use netdev::nft::Nft;
use plan::vpn::table::{self, TABLE};
use serde::{Deserialize, Serialize};

use super::kernel::Kernel;
use crate::l4::kernel::Fault;
use crate::l4::retry::Retry;

/// What was read is good for this long.
const FRESH: Duration = Duration::from_secs(1);

/// What is in force.
#[derive(Debug, Default)]
pub(super) struct Guard {
    /// What the kernel has; none where that isn't known.
    in_force: Option<String>,
    fault: Option<Fault>,
    /// After failures.
    retry: Retry,
    /// After changes by others.
    repair: Retry,
    /// Who has changed something since the table was last brought up.
    foreign: Option<String>,
}

/// What became of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Applied {
    /// It is in force.
    Yes,
    /// It is, after somebody else had changed it.
    Mended,
    /// It isn't. What was in force before still is.
    Failed,
    /// It isn't, and it isn't time to try yet.
    Waiting,
}

impl Guard {
    /// Somebody else has changed the table.
    pub(super) fn changed_by(&mut self, now: Instant, who: String) {
        if self.foreign.is_some() {
            return;
        }
        self.repair.soon(now);
        if self.repair.is_long() {
            tracing::warn!(
                who,
                "the nftables table {TABLE} is changed by another program again and again; stop \
                 that, or have it leave this table alone"
            );
        } else {
            tracing::warn!(who, "the nftables table {TABLE} was changed; it is loaded again");
        }
        self.foreign = Some(who);
    }

    /// Puts a table in force: its text, or nothing for no table.
    /// Its counters go on from what `counted` says, if that has to be asked.
    pub(super) fn apply(
        &mut self,
        now: Instant,
        text: &str,
        counted: impl FnOnce() -> BTreeMap<String, (u64, u64)>,
        kernel: &mut impl Kernel,
    ) -> Applied {
        let mending = self.foreign.is_some();
        if !mending && self.in_force.as_deref() == Some(text) {
            // What could not take its place isn't wanted any more.
            (self.fault, self.retry) = (None, Retry::default());
            return Applied::Yes;
        }
        if mending && !self.repair.is_due(now) || !self.retry.is_due(now) {
            return Applied::Waiting;
        }
        let whole = match text {
            "" => table::removal(),
            _ => table::with_counters(text, &counted()),
        };
        match kernel.transaction(&whole) {
            Ok(()) => {
                self.in_force = Some(text.to_owned());
                (self.fault, self.retry, self.foreign) = (None, Retry::default(), None);
                if mending { Applied::Mended } else { Applied::Yes }
            }
            Err(fault) => {
                self.retry.failed(now);
                self.fault = Some(fault);
                Applied::Failed
            }
        }
    }

    /// When something is to be tried again.
    pub(super) fn next(&self) -> Option<Instant> {
        let retry = self.fault.as_ref().and_then(|_| self.retry.next());
        let repair = self.foreign.as_ref().and_then(|_| self.repair.next());
        // Both have to be due.
        retry.max(repair)
    }

    /// Why the wanted table isn't in force.
    pub(super) fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }
}

/// What a counter of the table has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Their octets.
    pub bytes: u64,
}

/// Sums over all tables that there were, so that none ever goes down.
#[derive(Debug)]
pub struct Counts {
    nft: Nft,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    read: Option<Instant>,
    /// As the kernel had them the last time.
    last: BTreeMap<String, Count>,
    sums: BTreeMap<String, Count>,
}

impl Counts {
    pub(super) fn new(nft: Nft) -> Self {
        Self { nft, state: Mutex::default() }
    }

    /// The sums by the counters' names, not older than a second. Blocks while the kernel is asked.
    pub fn sums(&self) -> BTreeMap<String, Count> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.read.is_none_or(|read| read.elapsed() >= FRESH) {
            self.read_into(&mut state);
        }
        state.sums.clone()
    }

    /// Packets and bytes as the kernel has them now, for the table that takes this one's place.
    pub(super) fn carried(&self) -> BTreeMap<String, (u64, u64)> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.read_into(&mut state);
        let all = state.last.iter();
        all.map(|(name, count)| (name.clone(), (count.packets, count.bytes))).collect()
    }

    fn read_into(&self, state: &mut State) {
        let mut arguments = vec!["counters", "table"];
        arguments.extend(TABLE.split(' '));
        match self.nft.list_json(&arguments) {
            Ok(listing) => state.add(read(&listing)),
            Err(error) if error.is_not_there() => state.add(BTreeMap::new()),
            Err(error) => tracing::warn!(%error, "the guard's counters can't be read"),
        }
        state.read = Some(Instant::now());
    }
}

impl State {
    fn add(&mut self, now: BTreeMap<String, Count>) {
        for (name, count) in &now {
            let last = self.last.get(name).copied().unwrap_or_default();
            let sum = self.sums.entry(name.clone()).or_default();
            // Less than before: the counter is a new one.
            let anew = count.packets < last.packets || count.bytes < last.bytes;
            let last = if anew { Count::default() } else { last };
            sum.packets += count.packets - last.packets;
            sum.bytes += count.bytes - last.bytes;
        }
        self.last = now;
    }
}

/// The counters of `nft -j list counters`.
fn read(listing: &serde_json::Value) -> BTreeMap<String, Count> {
    let objects = listing.get("nftables").and_then(serde_json::Value::as_array);
    let counters = objects.into_iter().flatten().filter_map(|object| object.get("counter"));
    let counter = |object: &serde_json::Value| {
        let name = object.get("name")?.as_str()?.to_owned();
        Some((name, Count::deserialize(object).ok()?))
    };
    counters.filter_map(counter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(packets: u64) -> Count {
        Count { packets, bytes: packets * 100 }
    }

    #[test]
    fn sums_go_on_when_the_table_is_replaced() {
        let mut state = State::default();
        state.add([("clear".to_owned(), count(3))].into());
        state.add([("clear".to_owned(), count(5))].into());
        assert_eq!(state.sums["clear"], count(5));
        // Replaced: from zero.
        state.add([("clear".to_owned(), count(2))].into());
        assert_eq!(state.sums["clear"], count(7));
        // Gone, and there again.
        state.add(BTreeMap::new());
        state.add([("clear".to_owned(), count(4))].into());
        assert_eq!(state.sums["clear"], count(11));
    }

    #[test]
    fn counters_are_read_as_nft_lists_them() {
        let listing = serde_json::json!({"nftables": [
            {"metainfo": {"version": "1.0.6"}},
            {"counter": {"family": "inet", "name": "clear", "table": "tidegate-vpn", "handle": 1,
                         "packets": 3, "bytes": 300}},
        ]});
        assert_eq!(read(&listing), [("clear".to_owned(), count(3))].into());
    }
}
