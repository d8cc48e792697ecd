//! The gateway's nftables table: brought up whole once, changed by differences, and brought up
//! whole again when somebody else has been at it.

use std::sync::Arc;
use std::time::Instant;

use model::L4Settings;
use plan::l4::{AlbPorts, L4Plan, Ruleset, affinity};
use plan::nft::{TABLE, Table};
use plan::policy;

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

/// What a table is made of, besides the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// The part of the plan that may be in force.
    pub(super) plan: Arc<L4Plan>,
    /// The policies.
    pub(super) policy: Arc<policy::Compiled>,
}

/// A table as the kernel has it.
#[derive(Debug)]
struct Known {
    ruleset: Ruleset,
    policy: Arc<policy::Compiled>,
}

/// What is in force.
#[derive(Debug)]
pub(super) struct Rules {
    settings: L4Settings,
    alb_ports: AlbPorts,
    /// None where it isn't known.
    known: Option<Known>,
    fault: Option<Fault>,
    /// After failures.
    retry: Retry,
    /// After changes by others.
    repair: Retry,
    /// Who has changed something since the table was last brought up.
    foreign: Option<String>,
}

impl Rules {
    /// None are in force yet.
    pub(super) fn new(settings: L4Settings, alb_ports: AlbPorts) -> Self {
        Self {
            settings,
            alb_ports,
            known: None,
            fault: None,
            retry: Retry::default(),
            repair: Retry::default(),
            foreign: None,
        }
    }

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
        source: &Source,
        kernel: &mut impl Kernel,
        mut failures: impl FnMut(),
    ) -> Applied {
        let mending = self.foreign.is_some() && self.repair.is_due(now);
        if !mending && self.known.as_ref().is_some_and(|known| known.is_of(source)) {
            return Applied::Unchanged;
        }
        if self.foreign.is_some() && !mending || !self.retry.is_due(now) {
            return Applied::Waiting;
        }
        let mut refused = false;
        if let Some(known) = self.known.as_mut().filter(|_| !mending) {
            match known.step(source, kernel) {
                Some(Ok(applied)) => {
                    self.done();
                    return applied;
                }
                Some(Err(fault)) => {
                    refused = true;
                    failures();
                    tracing::warn!(%fault, "a change of nftables was refused; the whole is loaded");
                }
                None => {}
            }
        }
        let whole = Known::new(source, &self.settings, &self.alb_ports);
        let table = whole.ruleset.table();
        if let Some(known) = self.known.as_ref().filter(|_| !mending && !refused) {
            let text = table.change_from(known.ruleset.table());
            let changed = text.as_deref().map_or(Ok(()), |text| kernel.transaction(text));
            match changed {
                Ok(()) => {
                    self.known = Some(whole);
                    self.done();
                    return if text.is_some() { Applied::Changed } else { Applied::Unchanged };
                }
                Err(fault) => {
                    failures();
                    tracing::warn!(%fault, "a change of nftables was refused; the whole is loaded");
                }
            }
        }
        match load(&source.plan, table, kernel) {
            Ok(()) => {
                self.known = Some(whole);
                self.done();
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

    fn done(&mut self) {
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

impl Known {
    fn new(source: &Source, settings: &L4Settings, alb_ports: &AlbPorts) -> Self {
        let policy = Arc::clone(&source.policy);
        let ruleset = Ruleset::new(&source.plan, settings, alb_ports, policy.table.clone());
        Self { ruleset, policy }
    }

    fn is_of(&self, source: &Source) -> bool {
        Arc::ptr_eq(self.ruleset.plan(), &source.plan) && Arc::ptr_eq(&self.policy, &source.policy)
    }

    /// Goes on to another plan by the elements that differ; none where more than that differs.
    fn step(
        &mut self,
        source: &Source,
        kernel: &mut impl Kernel,
    ) -> Option<Result<Applied, Fault>> {
        if !Arc::ptr_eq(&self.policy, &source.policy) {
            return None;
        }
        let step = self.ruleset.step(&source.plan)?;
        let applied = match step.text() {
            None => Applied::Unchanged,
            Some(text) => match kernel.transaction(&text) {
                Ok(()) => Applied::Changed,
                Err(fault) => return Some(Err(fault)),
            },
        };
        self.ruleset.take(step);
        Some(Ok(applied))
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
