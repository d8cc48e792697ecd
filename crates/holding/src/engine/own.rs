//! The edge's own Lease: joining, renewing, and until when it counts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::{Answer, Engine, Event, Pending, Purpose, Request, Seen, Sight, wait};
use crate::lease::{EdgeRecord, Lease, LeaseFault, compare, edge_lease};
use crate::message::Message;

/// What is known of the own Lease.
#[derive(Debug, Default)]
pub(super) struct Own {
    lease: Option<Seen<EdgeRecord>>,
    /// Something doesn't fit: the Lease is to be read.
    doubt: bool,
    /// A request is under way.
    busy: bool,
    /// The incarnation that the Lease keeps alive.
    pub(super) running: Option<u64>,
    /// When it joined.
    pub(super) joined: Option<Instant>,
    /// The incarnation that is being written for the first time.
    joining: Option<u64>,
    /// The highest incarnation that was lost, or released.
    last: u64,
    /// When writes were sent that may yet turn out to have succeeded, by number.
    sent: BTreeMap<u64, Instant>,
    last_sent: u64,
    last_knows: BTreeSet<String>,
    /// All edges that the Lease may name as known: nothing is held beyond it without each one's
    /// promise.
    required: BTreeSet<String>,
    /// When the next renewal is due.
    next: Option<Instant>,
    /// Until when nothing is tried after a failure.
    pause: Option<Instant>,
    /// When the last renewal that has succeeded was sent.
    pub(super) renewed: Option<Instant>,
    /// Since when renewals succeed again.
    pub(super) recovered: Option<Instant>,
    pub(super) until: Option<Instant>,
    pub(super) lapsed: bool,
    promised: bool,
    /// Until when each edge has promised.
    promises: BTreeMap<String, Instant>,
    /// When each question was asked.
    asked: BTreeMap<(String, u64), Instant>,
    next_ask: Option<Instant>,
    pub(super) stopped: bool,
}

impl Own {
    /// Renews at once.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.next = self.next.map(|next| next.min(now));
    }

    pub(super) fn reread(&mut self) {
        self.doubt = true;
    }

    /// Whether an incarnation of its own is over. Before it has joined nothing is certain.
    pub(super) fn is_over(&self, incarnation: u64) -> bool {
        self.running.is_some() || incarnation <= self.last
    }

    /// Whether it holds at all now.
    pub(super) fn counts(&self) -> bool {
        self.running.is_some() && !self.lapsed
    }
}

impl Engine {
    /// The own Lease was seen. Only what was read for the purpose is believed if it is odd.
    pub(super) fn see_own(
        &mut self,
        now: Instant,
        lease: &Lease,
        certain: bool,
    ) -> Result<(), LeaseFault> {
        if let Some(seen) = &self.own.lease
            && compare(&lease.version, &seen.version).is_some_and(|order| order.is_lt())
        {
            return Ok(());
        }
        let record = EdgeRecord::read(&self.settings.name, lease)?;
        let mine = record.process == self.settings.process;
        if let (true, Some(incarnation)) = (mine, record.running) {
            if self.own.running.is_none() && self.own.joining == Some(incarnation) {
                self.join(now, incarnation);
            }
            if self.own.running == Some(incarnation) {
                self.note_renewal(now, record.renewal);
            }
        } else if let Some(running) = self.own.running {
            let is_over = record.over >= running;
            if !is_over && !certain {
                // Perhaps something from before: ask.
                self.own.doubt = true;
                return Ok(());
            }
            self.end(running);
        }
        let same = self.own.lease.as_ref().filter(|seen| seen.version == lease.version);
        let since = same.map_or(now, |seen| seen.since);
        self.own.lease = Some(Seen { version: lease.version.clone(), record, since });
        Ok(())
    }

    fn join(&mut self, now: Instant, incarnation: u64) {
        self.own.running = Some(incarnation);
        self.own.joined = Some(now);
        self.own.joining = None;
        self.own.recovered = Some(now);
        self.own.lapsed = true;
        self.events.push_back(Event::Joined(incarnation));
    }

    /// A write of the own Lease has succeeded.
    fn note_renewal(&mut self, now: Instant, number: u64) {
        let Some(sent) = self.own.sent.get(&number).copied() else { return };
        self.own.sent = self.own.sent.split_off(&number);
        if number == self.own.last_sent {
            self.own.required = self.own.last_knows.clone();
        }
        if self.own.renewed.is_none_or(|renewed| renewed < sent) {
            if self.own.renewed.is_some_and(|renewed| now > renewed + self.settings.validity) {
                self.own.recovered = Some(now);
            }
            self.own.renewed = Some(sent);
        }
        self.update_until(now);
    }

    /// The incarnation is over.
    fn end(&mut self, incarnation: u64) {
        self.events.push_back(Event::Ended(incarnation));
        let own = &mut self.own;
        own.last = own.last.max(incarnation);
        own.running = None;
        own.joined = None;
        own.renewed = None;
        own.until = None;
        own.lapsed = false;
        own.promised = false;
        own.sent.clear();
        own.promises.clear();
        own.asked.clear();
        self.lose_all();
    }

    /// What has come of a request about the own Lease.
    pub(super) fn own_answer(&mut self, now: Instant, pending: &Pending, answer: &Answer) {
        self.own.busy = false;
        let fault = match answer {
            Answer::Written(version) => {
                let lease = Lease { version: version.clone(), ..pending.lease.clone() };
                self.see_own(now, &lease, false).err()
            }
            Answer::Read(lease) => {
                self.own.doubt = false;
                self.see_own(now, lease, true).err()
            }
            Answer::Gone => {
                self.own.doubt = false;
                self.own.lease = None;
                if let Some(running) = self.own.running {
                    self.end(running);
                }
                None
            }
            Answer::Conflict => {
                self.own.doubt = true;
                None
            }
            Answer::Failed | Answer::Unknown => {
                let retry = now + self.settings.retry;
                self.own.pause = Some(retry);
                self.own.hurry(retry);
                None
            }
        };
        if let Some(fault) = fault {
            self.faults.insert(pending.lease.name.clone(), fault);
        } else {
            self.faults.remove(&edge_lease(&self.settings.name));
        }
    }

    /// Reads, joins, renews, releases.
    pub(super) fn step_own(&mut self, now: Instant) {
        if self.own.busy || self.own.stopped || !self.synced {
            return;
        }
        if let Some(pause) = self.own.pause.filter(|pause| now < *pause) {
            return self.wake_at(pause);
        }
        if self.own.doubt {
            self.own.busy = true;
            let name = edge_lease(&self.settings.name);
            return self.request(Purpose::Own, Request::Read(name));
        }
        if let Some(next) = self.own.next.filter(|next| now < *next) {
            return self.wake_at(next);
        }
        match self.own.running {
            Some(incarnation) => self.renew(now, incarnation),
            None if self.stopping => self.own.stopped = true,
            None => self.try_join(now),
        }
    }

    fn try_join(&mut self, now: Instant) {
        let mut incarnation = self.settings.born.max(self.own.last + 1);
        incarnation = incarnation.max(self.claims.highest(&self.settings.name) + 1);
        if let Some(seen) = &self.own.lease {
            incarnation = incarnation.max(seen.record.over + 1);
            if let Some(running) = seen.record.running {
                incarnation = incarnation.max(running + 1);
                let own = running <= self.own.last || seen.record.process == self.settings.process;
                let due = seen.since + wait(&self.settings, seen.record.validity);
                if !own && !self.settings.alone_by_name && now < due {
                    return self.wake_at(due);
                }
            }
        }
        self.own.joining = Some(incarnation);
        self.write_own(now, Some(incarnation));
    }

    fn renew(&mut self, now: Instant, incarnation: u64) {
        if self.stopping && self.claims.are_all_free() {
            self.write_own(now, None);
        } else {
            self.write_own(now, Some(incarnation));
        }
    }

    fn write_own(&mut self, now: Instant, running: Option<u64>) {
        let knows = self.running_edges();
        self.own.last_sent += 1;
        self.own.sent.insert(self.own.last_sent, now);
        // What was sent longer ago than it counts needn't be known any more.
        let validity = self.settings.validity;
        self.own.sent.retain(|_, sent| now < *sent + validity);
        if running.is_some() {
            self.own.required.extend(knows.iter().cloned());
        }
        self.own.last_knows = knows.clone();
        let before = self.own.lease.as_ref();
        let changes = self.own.running.is_none() || running.is_none();
        let transitions = before.map_or(0, |seen| seen.record.transitions);
        let record = EdgeRecord {
            running,
            over: running.map_or(self.own.running.unwrap_or(0), |running| running - 1),
            validity,
            drain: self.drain || self.stopping,
            cut_off: self.sight != Sight::Clear,
            offers: self.offers.clone(),
            knows,
            process: self.settings.process,
            renewal: self.own.last_sent,
            silent: false,
            transitions: transitions.saturating_add(u32::from(changes)),
        };
        let version = before.map_or("", |seen| seen.version.as_str());
        let lease = record.write(&self.settings.name, version);
        let is_new = before.is_none();
        self.own.next = Some(now + self.settings.renew_every);
        self.own.busy = true;
        let request = if is_new { Request::Create(lease) } else { Request::Update(lease) };
        self.request(Purpose::Own, request);
    }

    /// Finds until when claims are held.
    pub(super) fn update_until(&mut self, now: Instant) {
        if self.own.running.is_none() {
            return;
        }
        if !self.own.lapsed && self.own.until.is_none_or(|until| now >= until) {
            self.own.lapsed = true;
            self.own.promised = false;
            self.events.push_back(Event::Lapsed);
            self.claims.all_dirty();
        }
        let by_lease = self.own.renewed.map(|renewed| renewed + self.settings.validity);
        if self.own.lapsed && by_lease.is_some_and(|until| now < until) {
            self.resume();
        }
        let by_promises = self.until_by_promises(now);
        if let Some(until) = by_lease.max(by_promises)
            && !self.own.lapsed
        {
            self.own.until = self.own.until.max(Some(until));
            let promised = by_promises > by_lease;
            if promised && !self.own.promised && by_lease.is_none_or(|until| now >= until) {
                self.own.promised = true;
                self.events.push_back(Event::Promised);
            } else if !promised {
                self.own.promised = false;
            }
        }
        if let Some(until) = self.own.until.filter(|_| !self.own.lapsed) {
            self.wake_at(until);
        }
    }

    fn resume(&mut self) {
        self.own.lapsed = false;
        self.claims.all_dirty();
        self.events.push_back(Event::Resumed);
    }

    fn until_by_promises(&mut self, now: Instant) -> Option<Instant> {
        if now < self.own.renewed? + self.settings.ask_after {
            return None;
        }
        if self.own.required.is_empty() {
            // A pause so short that nobody can have taken it for silence ends nothing.
            let short = self.settings.silence / 2;
            if self.own.lapsed && self.own.until.is_some_and(|until| now < until + short) {
                self.resume();
            }
            return (!self.own.lapsed).then(|| now + self.settings.validity);
        }
        let promises = self.own.required.iter().map(|edge| self.own.promises.get(edge).copied());
        promises.min().flatten()
    }

    /// Asks for promises.
    pub(super) fn step_asks(&mut self, now: Instant) {
        if !self.own.counts() {
            return;
        }
        let Some(renewed) = self.own.renewed else { return };
        let due = renewed + self.settings.ask_after;
        let due = self.own.next_ask.map_or(due, |next| next.max(due));
        if now < due {
            return self.wake_at(due);
        }
        self.own.next_ask = Some(now + self.settings.ask_every);
        self.wake_at(now + self.settings.ask_every);
        let incarnation = self.own.running.unwrap_or(0);
        let validity = self.settings.validity;
        self.own.asked.retain(|_, asked| now < *asked + validity);
        for edge in &self.own.required {
            self.last_question += 1;
            let number = self.last_question;
            self.own.asked.insert((edge.clone(), number), now);
            self.messages.push_back((edge.clone(), Message::Ask { incarnation, number }));
        }
    }

    /// An edge has promised.
    pub(super) fn promised(&mut self, edge: &str, incarnation: u64, number: u64, millis: u32) {
        if self.own.running != Some(incarnation) {
            return;
        }
        let Some(asked) = self.own.asked.remove(&(edge.to_owned(), number)) else { return };
        let long = std::time::Duration::from_millis(millis.into()).min(self.settings.validity);
        let until = asked + long;
        let before = self.own.promises.entry(edge.to_owned()).or_insert(until);
        *before = until.max(*before);
    }

    /// Ends a stop once all is released.
    pub(super) fn finish_stop(&mut self, now: Instant) {
        if !self.stopping || self.own.stopped {
            return;
        }
        let released = self.own.running.is_none() && !self.own.busy;
        if released {
            self.own.stopped = true;
            self.wake = None;
            self.events.push_back(Event::Stopped);
        } else if self.claims.are_all_free() && !self.own.busy {
            // Nothing is left to be released but the Lease itself.
            self.own.hurry(now);
            self.step_own(now);
        }
    }
}
