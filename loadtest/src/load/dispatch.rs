//! Which operation goes to which connection, and when there have to be more connections.

use std::collections::VecDeque;

use super::connection::Failed;
use super::plan::{Pace, Plan};
use super::stats::Failure;
use super::{Generator, LATE, Op, RAMP, Reuse, nanoseconds};

/// Operations that can share connections: with TLS those of one server name, without it all.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// One round of the mix, of this group's entries only.
    order: Vec<u32>,
    next: usize,
    /// Operations that are due and have no connection yet.
    pub(super) waiting: VecDeque<Op>,
    /// Open loop: slots whose connections could take an operation. May name slots that can't any
    /// more; see `Slot::queued`.
    pub(super) ready: VecDeque<usize>,
    /// Open loop: connections being made.
    pub(super) opening: usize,
}

/// The groups of a plan, and to which each entry belongs.
pub(super) fn groups(plan: &Plan) -> (Vec<Group>, Vec<usize>) {
    let mut names = Vec::new();
    let grouped = plan.is_grouped();
    let group_of: Vec<usize> = plan
        .entries
        .iter()
        .map(|entry| {
            let place = match grouped {
                true => names.iter().position(|name| *name == &entry.server_name),
                false => names.first().map(|_| 0),
            };
            place.unwrap_or_else(|| {
                names.push(&entry.server_name);
                names.len() - 1
            })
        })
        .collect();
    let mut groups: Vec<Group> = names.iter().map(|_| Group::default()).collect();
    for entry in &plan.order {
        let group = group_of.get(*entry as usize).and_then(|group| groups.get_mut(*group));
        if let Some(group) = group {
            group.order.push(*entry);
        }
    }
    (groups, group_of)
}

impl Generator {
    /// Makes the first connections.
    pub(super) fn open_first(&mut self) {
        let Pace::Open { connections, max_connections, .. } = self.plan.pace else { return };
        for nth in 0..connections.min(max_connections) {
            let entry = self.plan.order.get(nth % self.plan.order.len()).copied().unwrap_or(0);
            let group = self.group_of.get(entry as usize).copied().unwrap_or(0);
            // Connections for one request each are made when that is due.
            if self.plan.reuse != Reuse::Never
                && let Some(index) = self.free.pop()
            {
                self.open_for(index, group, 0);
            }
        }
    }

    /// Takes up the operations that are due.
    pub(super) fn admit(&mut self, now: u64) {
        let late = nanoseconds(LATE);
        while let Some(due) = self.arrivals.as_ref().and_then(|arrivals| arrivals.peek()) {
            if due > now {
                return;
            }
            if let Some(arrivals) = &mut self.arrivals {
                arrivals.advance();
            }
            self.punctuality.operations += 1;
            self.punctuality.late += u64::from(now - due > late);
            let delay = std::time::Duration::from_nanos(now - due);
            self.punctuality.worst = self.punctuality.worst.max(delay);
            if let Some(accounts) = &mut self.accounts {
                accounts.due(due);
            }
            let op = self.new_op(due);
            self.wait(op);
        }
    }

    /// The mix's next operation.
    fn new_op(&mut self, now: u64) -> Op {
        let entry = self.plan.order.get(self.next_in_order).copied().unwrap_or(0);
        self.next_in_order += 1;
        if self.next_in_order >= self.plan.order.len() {
            self.next_in_order = 0;
        }
        Op::new(entry, now)
    }

    /// Lets an operation wait for a connection.
    pub(super) fn wait(&mut self, op: Op) {
        let group = self.group_of.get(op.entry as usize).copied().unwrap_or(0);
        if let Some(group) = self.groups.get_mut(group) {
            group.waiting.push_back(op);
        }
    }

    /// Open loop: gives operations that wait to connections, and makes more connections if there
    /// are too few.
    pub(super) fn dispatch(&mut self, now: u64) {
        for group in 0..self.groups.len() {
            while let Some((waiting, opening)) =
                self.groups.get(group).map(|g| (g.waiting.len(), g.opening))
            {
                if waiting == 0 {
                    break;
                }
                if let Some(index) = self.pop_ready(group) {
                    self.fill(index, now);
                    continue;
                }
                // As many connections are made as the operations that wait will fill.
                if self.plan.reuse != Reuse::Never && opening * self.plan.streams >= waiting {
                    break;
                }
                match self.free.pop().or_else(|| self.evict(group)) {
                    Some(index) => self.open_for(index, group, now),
                    None => {
                        self.starved += 1;
                        break;
                    }
                }
            }
        }
    }

    /// A slot of the group whose connection can take an operation.
    fn pop_ready(&mut self, group: usize) -> Option<usize> {
        loop {
            let index = self.groups.get_mut(group)?.ready.pop_front()?;
            let Some(slot) = self.slots.get_mut(index) else { continue };
            if slot.group == group && std::mem::take(&mut slot.queued) && slot.can_start() {
                return Some(index);
            }
        }
    }

    /// Ends another group's idle connection to make room; returns its slot.
    fn evict(&mut self, wanted: usize) -> Option<usize> {
        let others = (0..self.groups.len()).filter(|group| *group != wanted);
        let longest = others.max_by_key(|group| self.groups.get(*group).map(|g| g.ready.len()))?;
        loop {
            let index = self.pop_ready(longest)?;
            if let Some(slot) = self.slots.get_mut(index).filter(|slot| slot.live == 0) {
                slot.clear();
                return Some(index);
            }
        }
    }

    /// Whether the number of connections changes just now by the time alone.
    pub(super) fn is_ramping(&self, now: u64) -> bool {
        let Pace::Closed { connections } = &self.plan.pace else { return false };
        let all_opened = self.plan.reuse != Reuse::Hold || self.active == self.slots.len();
        !self.draining && (connections.is_ramp(now) || !all_opened)
    }

    /// Closed loop: opens connections that there are too few, and lets go of those too many.
    pub(super) fn adjust(&mut self, now: u64) {
        let Pace::Closed { connections } = &self.plan.pace else { return };
        if self.draining {
            return;
        }
        let mut wanted = (connections.level(now).round() as usize).min(self.slots.len());
        if self.plan.reuse == Reuse::Hold {
            let paced = now as f64 / 1e9 * self.plan.hold.opened_per_second + 1.0;
            wanted = wanted.min(self.held + RAMP).min(paced as usize).max(self.active);
        }
        while self.active < wanted {
            self.active += 1;
            self.open(self.active - 1, now);
        }
        while self.active > wanted {
            self.active -= 1;
            if let Some(slot) = self.slots.get_mut(self.active).filter(|slot| slot.live == 0) {
                slot.clear();
            }
        }
    }

    /// The next operation for a connection, if there is one.
    pub(super) fn next_op(&mut self, index: usize, now: u64) -> Option<Op> {
        let is_open_loop = self.is_open_loop();
        let slot = self.slots.get_mut(index)?;
        if self.draining && !is_open_loop && self.plan.reuse.is_kept() {
            // The connection stands; what would begin on it now was due to begin after the end.
            slot.pending.take_if(|op| op.attempts == 0);
        }
        if let Some(mut op) = slot.pending.take() {
            if !is_open_loop && self.plan.reuse.is_kept() && op.attempts == 0 {
                // The connection's making belongs to no operation.
                (op.intended, op.since) = (now, now);
            }
            return Some(op);
        }
        if !self.plan.reuse.is_kept() {
            return None;
        }
        let (entry, group) = (slot.entry, slot.group);
        let is_grouped = self.groups.len() > 1;
        let group = self.groups.get_mut(group)?;
        if let Some(op) = group.waiting.pop_front() {
            return Some(op);
        }
        if is_open_loop || self.draining || index >= self.active {
            return None;
        }
        if self.plan.reuse == Reuse::KeepAliveSameRequest {
            return Some(Op::new(entry, now));
        }
        if !is_grouped {
            return Some(self.new_op(now));
        }
        let entry = group.order.get(group.next).copied()?;
        group.next = (group.next + 1) % group.order.len();
        Some(Op::new(entry, now))
    }

    /// The operation with which a closed loop's new connection begins.
    pub(super) fn first_op(&mut self, now: u64) -> Op {
        let waiting = self.groups.iter_mut().find_map(|group| group.waiting.pop_front());
        waiting.unwrap_or_else(|| self.new_op(now))
    }

    /// Counts operations as failed that wait to be tried again, since that will not happen.
    pub(super) fn fail_waiting(&mut self) {
        let now = self.now();
        let retries: Vec<Op> = self.retries.drain(..).map(|(_, op)| op).collect();
        let waiting: Vec<Op> =
            self.groups.iter_mut().flat_map(|group| group.waiting.drain(..)).collect();
        for op in retries.into_iter().chain(waiting) {
            let detail = "the run ended before it could be tried again".to_owned();
            self.failed(op, &Failed { kind: op.last, detail }, now);
        }
    }
}

impl Op {
    /// An operation that begins, or is due, now.
    pub(super) fn new(entry: u32, now: u64) -> Self {
        Self { entry, attempts: 0, last: Failure::Timeout, intended: now, since: now }
    }
}
