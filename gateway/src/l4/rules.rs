//! The gateway's nftables table: brought up whole once, changed by differences, and brought up
//! whole again when somebody else has been at it.

use std::sync::Arc;
use std::time::Instant;

use plan::l4::{L4Plan, affinity};
use plan::nft::{TABLE, Table};

use super::kernel::{Fault, Kernel};
use super::retry::Retry;

/// What became of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Applied {
    /// It was in force already.
    Unchanged,
    /// It is in force.
    Changed,
    /// It isn't. What was in force before still is.
    Failed,
    /// It isn't, and it isn't time to try yet.
    Waiting,
}

/// What is in force.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// As the kernel has it; none where that isn't known.
    table: Option<Arc<Table>>,
    fault: Option<Fault>,
    /// After failures.
    retry: Retry,
    /// After changes by others.
    repair: Retry,
    /// Who has changed something since the table was last brought up.
    foreign: Option<String>,
}

impl Rules {
    /// Somebody else has changed the table.
    pub(super) fn changed_by(&mut self, now: Instant, who: String) {
        if self.foreign.is_some() {
            return;
        }
        self.repair.soon(now);
        if self.repair.is_long() {
            tracing::warn!(
                who,
                "the nftables table inet tidegate is changed by another program again and again; \
                 stop that, or have it leave this table alone"
            );
        } else {
            tracing::warn!(who, "the nftables table inet tidegate was changed; it is loaded again");
        }
        self.foreign = Some(who);
    }

    /// Whether the table is to be mended, as soon as it may be.
    pub(super) fn is_foreign(&self) -> bool {
        self.foreign.is_some()
    }

    /// Puts a table in force. `failures` is told of every transaction that was refused.
    pub(super) fn apply(
        &mut self,
        now: Instant,
        plan: &L4Plan,
        table: &Arc<Table>,
        kernel: &mut impl Kernel,
        mut failures: impl FnMut(),
    ) -> Applied {
        let mending = self.foreign.is_some() && self.repair.is_due(now);
        let in_force = self.table.as_ref().filter(|_| !mending);
        if in_force.is_some_and(|known| Arc::ptr_eq(known, table)) {
            return Applied::Unchanged;
        }
        if self.foreign.is_some() && !mending || !self.retry.is_due(now) {
            return Applied::Waiting;
        }
        if let Some(known) = in_force {
            let text = table.change_from(known);
            let changed = text.as_deref().map_or(Ok(()), |text| kernel.transaction(text));
            match changed {
                Ok(()) => {
                    self.done(table);
                    return if text.is_some() { Applied::Changed } else { Applied::Unchanged };
                }
                Err(fault) => {
                    failures();
                    tracing::warn!(%fault, "a change of nftables was refused; the whole is loaded");
                }
            }
        }
        match load(plan, table, kernel) {
            Ok(()) => {
                self.done(table);
                self.foreign = None;
                Applied::Changed
            }
            Err(fault) => {
                failures();
                self.retry.failed(now);
                self.fault = Some(fault);
                Applied::Failed
            }
        }
    }

    fn done(&mut self, table: &Arc<Table>) {
        self.table = Some(Arc::clone(table));
        self.fault = None;
        self.retry = Retry::default();
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

/// Brings a table up whole, in place of one that is there. Clients stay with their endpoints.
fn load(plan: &L4Plan, table: &Table, kernel: &mut impl Kernel) -> Result<(), Fault> {
    let mut clients = Vec::new();
    for map in affinity::MAPS {
        match kernel.listing("map", map) {
            Ok(Some(listing)) => clients.extend(affinity::read(&listing)),
            Ok(None) => {}
            Err(fault) => tracing::warn!(map, %fault, "which client had which endpoint is lost"),
        }
    }
    let carried = affinity::carried(plan, &clients);
    kernel.transaction(&table.load_with(&carried)).or_else(|fault| {
        if carried.is_empty() {
            return Err(fault);
        }
        // Better all clients chosen for anew than no rules.
        tracing::warn!(%fault, "loaded without the endpoints that clients had");
        kernel.transaction(&table.load())
    })
}

/// The text that takes the table away, if it is there.
pub(super) fn unload() -> String {
    format!("add table {TABLE}\ndelete table {TABLE}\n")
}
