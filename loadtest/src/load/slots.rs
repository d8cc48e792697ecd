//! The generator's connections: how each is made, used, given up.

use mio::Token;

use super::connection::{Connection, Failed};
use super::session::{Received, Ticket};
use super::stats::Failure;
use super::{Generator, Op, RETRY, Reuse, nanoseconds};

/// A place for one operation on a connection. Its index is the ticket.
#[derive(Clone, Copy, Debug)]
enum Place {
    Free,
    Taken(Op),
    /// The operation has failed, but the session may still say something about it.
    Abandoned,
}

/// A place for one connection. Its index is the token.
#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) connection: Option<Connection>,
    places: Vec<Place>,
    /// Operations under way.
    pub(super) live: usize,
    /// The operation for which the connection is being made.
    pub(super) pending: Option<Op>,
    /// The entry with which it began, and the group to which it belongs.
    pub(super) entry: u32,
    pub(super) group: usize,
    /// When it was opened, nanoseconds since the load began.
    opened: u64,
    /// Whether its session is not ready yet.
    is_new: bool,
    /// Open loop: whether it stands in its group's `ready`.
    pub(super) queued: bool,
    /// Whether nothing more may be started on it.
    pub(super) retire: bool,
    /// Whether it is held idle.
    held: bool,
    answered: bool,
}

impl Slot {
    /// Gives the connection up, and all that concerns it.
    pub(super) fn clear(&mut self) {
        let places = std::mem::take(&mut self.places);
        *self = Self { answered: self.answered, places, ..Self::default() };
        self.places.clear();
    }

    /// Whether the connection can take another operation.
    pub(super) fn can_start(&self) -> bool {
        !self.retire && self.connection.as_ref().is_some_and(|c| c.capacity() > 0)
    }

    fn put(&mut self, op: Op) -> Ticket {
        self.live += 1;
        let free = self.places.iter().position(|place| matches!(place, Place::Free));
        let index = free.unwrap_or(self.places.len());
        match self.places.get_mut(index) {
            Some(place) => *place = Place::Taken(op),
            None => self.places.push(Place::Taken(op)),
        }
        index as Ticket
    }

    /// The operation of a ticket, which is over; none if it was abandoned.
    pub(super) fn take(&mut self, ticket: Ticket) -> Option<Op> {
        let place = self.places.get_mut(ticket as usize)?;
        match std::mem::replace(place, Place::Free) {
            Place::Taken(op) => {
                self.live -= 1;
                Some(op)
            }
            Place::Free | Place::Abandoned => None,
        }
    }

    /// All operations that the connection owes.
    fn take_all(&mut self) -> Vec<Op> {
        self.live = 0;
        let under_way = self.places.drain(..).filter_map(|place| match place {
            Place::Taken(op) => Some(op),
            Place::Free | Place::Abandoned => None,
        });
        self.pending.take().into_iter().chain(under_way).collect()
    }

    /// Operations that are too late.
    fn overdue(&self, since: impl Fn(u64) -> bool) -> Vec<Ticket> {
        let late = |place: &Place| matches!(place, Place::Taken(op) if since(op.since));
        let places = self.places.iter().enumerate();
        places.filter(|(_, place)| late(place)).map(|(ticket, _)| ticket as Ticket).collect()
    }

    fn abandon(&mut self, ticket: Ticket) -> Option<Op> {
        let op = self.take(ticket)?;
        if let Some(place) = self.places.get_mut(ticket as usize) {
            *place = Place::Abandoned;
        }
        self.retire = true;
        Some(op)
    }
}

impl Generator {
    /// Closed loop: connects, for the mix's next operation.
    pub(super) fn open(&mut self, index: usize, now: u64) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.clear();
        }
        if self.draining || index >= self.active {
            return;
        }
        let op = self.first_op(now);
        self.connect(index, op.entry, Some(op), now);
    }

    /// Open loop: connects, for whatever waits in a group.
    pub(super) fn open_for(&mut self, index: usize, group: usize, now: u64) {
        let Some(of_group) = self.groups.get_mut(group) else { return };
        of_group.opening += 1;
        let op = match self.plan.reuse {
            Reuse::Never => of_group.waiting.pop_front(),
            _ => None,
        };
        let entry = op
            .map(|op| op.entry)
            .or_else(|| self.group_of.iter().position(|of| *of == group).map(|entry| entry as u32));
        self.connect(index, entry.unwrap_or(0), op, now);
    }

    fn connect(&mut self, index: usize, entry: u32, pending: Option<Op>, now: u64) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.clear();
        slot.group = self.group_of.get(entry as usize).copied().unwrap_or(0);
        (slot.entry, slot.pending, slot.opened, slot.is_new) = (entry, pending, now, true);
        let source = self.plan.sources.get(self.next_source).copied();
        self.next_source = (self.next_source + 1) % self.plan.sources.len().max(1);
        let Some(entry) = self.plan.entries.get(entry as usize) else { return };
        let tls = self.plan.tls.as_ref().map(|config| (config, &entry.server_name));
        let session = self.plan.protocol.session();
        let (registry, token) = (self.poll.registry(), Token(index));
        match Connection::open(self.plan.address, source, tls, session, registry, token) {
            Ok(connection) => {
                if self.plan.ends_in_order {
                    connection.end_in_order();
                }
                slot.connection = Some(connection);
            }
            Err(failed) => self.lose(index, &failed, now),
        }
    }

    /// Counts a connection that stands.
    pub(super) fn established(&mut self, index: usize) {
        self.ever_connected = true;
        self.stats.connections += 1;
        let Some(connection) = self.slots.get(index).and_then(|s| s.connection.as_ref()) else {
            return;
        };
        self.stats.resumed += u64::from(connection.resumed());
        if let Some(parameters) = connection.tls_parameters() {
            *self.tls_seen.entry(parameters).or_default() += 1;
        }
    }

    /// A connection's session is ready for operations.
    pub(super) fn ready(&mut self, index: usize, now: u64) {
        let is_open_loop = self.is_open_loop();
        let Some(slot) = self.slots.get_mut(index) else { return };
        if std::mem::take(&mut slot.is_new)
            && is_open_loop
            && let Some(group) = self.groups.get_mut(slot.group)
        {
            group.opening -= 1;
        }
        if self.plan.reuse == Reuse::Hold
            && !self.plan.hold.request
            && let Some(op) = slot.pending.take()
        {
            self.start_counting(op, now);
            self.succeeded(index, op, &Received::default(), now);
        }
    }

    /// Gives operations to a connection, as many as it takes or as there are.
    pub(super) fn fill(&mut self, index: usize, now: u64) {
        let streams = self.plan.streams;
        loop {
            let Some(slot) = self.slots.get_mut(index) else { return };
            if !slot.can_start() {
                return self.flush(index, now);
            }
            let op = match slot.live < streams {
                true => self.next_op(index, now),
                false => return self.flush(index, now),
            };
            let Some(op) = op else { break };
            self.start_counting(op, now);
            let Some(slot) = self.slots.get_mut(index) else { return };
            let ticket = slot.put(op);
            let entry = self.plan.entries.get(op.entry as usize);
            let (Some(connection), Some(entry)) = (&mut slot.connection, entry) else { return };
            if let Err(failed) = connection.start(ticket, &entry.operation) {
                return self.lose(index, &failed, now);
            }
        }
        self.flush(index, now);
        self.queue(index);
    }

    /// Closed loop: an operation counts as started at its first attempt.
    fn start_counting(&mut self, op: Op, now: u64) {
        if op.attempts == 0
            && !self.is_open_loop()
            && let Some(accounts) = &mut self.accounts
        {
            accounts.due(now);
        }
    }

    fn flush(&mut self, index: usize, now: u64) {
        let mut happened = std::mem::take(&mut self.happened);
        let connection = self.slots.get_mut(index).and_then(|slot| slot.connection.as_mut());
        let outcome = connection.map(|connection| connection.flush(&mut happened));
        if !happened.is_empty() {
            // Sent is done: there may be room for more, in another turn.
            self.note(index, &mut happened, now);
            self.again.push(index);
        }
        self.happened = happened;
        if let Some(Err(failed)) = outcome {
            self.lose(index, &failed, now);
        }
    }

    /// Open loop: notes that a connection could take more.
    fn queue(&mut self, index: usize) {
        if !self.is_open_loop() || !self.plan.reuse.is_kept() {
            return;
        }
        let Some(slot) = self.slots.get_mut(index) else { return };
        if !slot.queued && slot.can_start() {
            slot.queued = true;
            if let Some(group) = self.groups.get_mut(slot.group) {
                group.ready.push_back(index);
            }
        }
    }

    /// An operation is answered: holds the answer against what was expected.
    pub(super) fn done(&mut self, index: usize, ticket: Ticket, received: &Received, now: u64) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        if self.plan.reuse == Reuse::Never {
            slot.retire = true;
        }
        let Some(op) = slot.take(ticket) else { return };
        let Some(entry) = self.plan.entries.get(op.entry as usize) else { return };
        let expect = &entry.operation.expect;
        let problem = if expect.status.is_some_and(|status| status != received.status) {
            Some((Failure::Status, format!("status {}", received.status)))
        } else if expect.length.is_some_and(|length| length != received.length) {
            Some((Failure::Length, format!("{} bytes", received.length)))
        } else if expect.sha256.is_some() && expect.sha256 != received.sha256 {
            let digest = received.sha256.unwrap_or_default();
            let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            Some((Failure::Digest, format!("content with SHA-256 {digest}")))
        } else {
            None
        };
        match problem {
            None => self.succeeded(index, op, received, now),
            Some((kind, what)) => {
                let detail = format!("{what} for {}", entry.name);
                self.failed(op, &Failed { kind, detail }, now);
            }
        }
    }

    fn succeeded(&mut self, index: usize, op: Op, received: &Received, now: u64) {
        self.ever_succeeded = true;
        match &mut self.accounts {
            None => {
                let latency = std::time::Duration::from_nanos(now.saturating_sub(op.intended));
                self.stats.succeeded(latency, received.length);
            }
            Some(accounts) => {
                self.stats.succeeded_somehow(received.length);
                accounts.succeeded(op.finished(now), received.length, received.counted.as_deref());
            }
        }
        self.stats.retried += u64::from(op.attempts > 0);
        let Some(slot) = self.slots.get_mut(index) else { return };
        self.answered_slots += usize::from(!std::mem::replace(&mut slot.answered, true));
        if self.plan.reuse == Reuse::Hold {
            self.held += usize::from(!std::mem::replace(&mut slot.held, true));
            if let Some(every) = self.plan.hold.refresh {
                self.refreshes.push_back((now + nanoseconds(every), index));
            }
        }
    }

    /// Goes on with a connection after something happened on it.
    pub(super) fn go_on(&mut self, index: usize, now: u64) {
        let is_open_loop = self.is_open_loop();
        let Some(slot) = self.slots.get_mut(index) else { return };
        let Some(connection) = &slot.connection else { return };
        let over = connection.is_over();
        if slot.live == 0 && slot.pending.is_some() && over {
            let detail = "end of stream before anything could be sent".to_owned();
            return self.lose(index, &Failed { kind: Failure::Closed, detail }, now);
        }
        if over && slot.live > 0 {
            let detail = "end of stream with operations under way".to_owned();
            return self.lose(index, &Failed { kind: Failure::Closed, detail }, now);
        }
        if !over && !slot.retire && (is_open_loop || index < self.active) {
            return self.fill(index, now);
        }
        if slot.live > 0 {
            return;
        }
        if slot.held && over {
            let detail = "an idle connection was ended by the target".to_owned();
            return self.lose(index, &Failed { kind: Failure::Closed, detail }, now);
        }
        self.release(index, now);
    }

    /// A connection's time is over without a failure.
    fn release(&mut self, index: usize, now: u64) {
        if !self.is_open_loop() {
            return self.open(index, now);
        }
        if let Some(slot) = self.slots.get_mut(index) {
            slot.clear();
            self.free.push(index);
        }
    }

    /// A connection, or the attempt to make one, has failed, with all operations on it.
    pub(super) fn lose(&mut self, index: usize, failed: &Failed, now: u64) {
        let is_open_loop = self.is_open_loop();
        let Some(slot) = self.slots.get_mut(index) else { return };
        let mut ops = slot.take_all();
        let (was_new, entry, group, held) = (slot.is_new, slot.entry, slot.group, slot.held);
        slot.clear();
        self.held -= usize::from(held);
        if is_open_loop {
            if let Some(group) = self.groups.get_mut(group).filter(|_| was_new) {
                group.opening -= 1;
                // The connection was made for the first that waits.
                if ops.is_empty() {
                    ops.extend(group.waiting.pop_front());
                }
            }
            self.free.push(index);
        } else if !self.draining && index < self.active {
            self.parked.push_back((now + nanoseconds(RETRY), index));
        }
        if ops.is_empty() {
            self.lost_connections += 1;
            if !is_open_loop && !self.draining {
                let op = Op::new(entry, now);
                self.start_counting(op, now);
                self.count_failure(op, failed, now);
            }
        }
        for op in ops {
            if was_new {
                self.start_counting(op, now);
            }
            self.failed(op, failed, now);
        }
    }

    /// Another request on a held connection.
    pub(super) fn refresh(&mut self, index: usize, now: u64) {
        if self.draining || self.slots.get(index).is_none_or(|slot| !slot.held || slot.live > 0) {
            return;
        }
        let op = self.first_op(now);
        if let Some(slot) = self.slots.get_mut(index) {
            slot.pending = Some(op);
        }
        self.fill(index, now);
    }

    /// Looks for operations and connections that take too long.
    pub(super) fn sweep(&mut self, now: u64) {
        let limit = nanoseconds(self.plan.timeout);
        let is_late = |since: u64| now.saturating_sub(since) > limit;
        let failed = |what: &str| Failed {
            kind: Failure::Timeout,
            detail: format!("{what} within {:?}", self.plan.timeout),
        };
        let silent = failed("nothing complete");
        let unsent = failed("no connection had room for it");
        for index in 0..self.slots.len() {
            let Some(slot) = self.slots.get_mut(index) else { break };
            let Some(connection) = &slot.connection else { continue };
            if slot.is_new && is_late(slot.pending.map_or(slot.opened, |op| op.since)) {
                let missing = connection.missing().map(|missing| Failed {
                    detail: format!("after {:?}: {}", self.plan.timeout, missing.detail),
                    ..missing
                });
                self.lose(index, missing.as_ref().unwrap_or(&silent), now);
                continue;
            }
            let tickets = if slot.live > 0 { slot.overdue(is_late) } else { Vec::new() };
            if tickets.len() == slot.live && slot.live > 0 {
                self.lose(index, &silent, now);
                continue;
            }
            for ticket in tickets {
                if let Some(op) = self.slots.get_mut(index).and_then(|slot| slot.abandon(ticket)) {
                    self.failed(op, &silent, now);
                }
            }
        }
        for group in 0..self.groups.len() {
            while let Some(waiting) = self.groups.get_mut(group).map(|group| &mut group.waiting)
                && waiting.front().is_some_and(|op| is_late(op.since))
            {
                if let Some(op) = waiting.pop_front() {
                    self.failed(op, &unsent, now);
                }
            }
        }
    }

    /// While draining: closes connections that have nothing left to do; whether others have.
    pub(super) fn retire_idle(&mut self) -> bool {
        let is_open_loop = self.is_open_loop();
        let mut any =
            !self.retries.is_empty() || self.groups.iter().any(|group| !group.waiting.is_empty());
        for slot in &mut self.slots {
            // A connection that is being made for an operation is waited for as well.
            let is_opening = slot.is_new && slot.connection.is_some();
            if slot.live > 0 || (slot.pending.is_some() && (is_open_loop || is_opening)) {
                any = true;
            } else if !is_open_loop && slot.connection.is_some() {
                slot.clear();
            }
        }
        any
    }

    /// Counts as failed what is not over when a run's end is.
    pub(super) fn fail_rest(&mut self, within: std::time::Duration) {
        let now = self.now();
        self.fail_waiting();
        let detail = format!("not complete {within:?} after the end of the load");
        let failed = Failed { kind: Failure::Timeout, detail };
        let of_slot = |slot: &mut Slot| {
            let missing = slot.connection.as_ref().and_then(Connection::missing);
            (missing, slot.take_all())
        };
        let rest: Vec<(Option<Failed>, Vec<Op>)> = self.slots.iter_mut().map(of_slot).collect();
        self.retries.clear();
        self.plan.retries.times = 0;
        for (missing, ops) in rest {
            let why = missing.as_ref().unwrap_or(&failed);
            for op in ops {
                self.failed(op, why, now);
            }
        }
    }
}
