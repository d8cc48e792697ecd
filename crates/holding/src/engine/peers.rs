//! The other edges: whether they live, what is promised to them, and their fencing.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::{Answer, Engine, Event, Purpose, Request, Seen, Sight, wait};
use crate::lease::{EdgeRecord, Lease, LeaseFault, compare};
use crate::message::Message;
use crate::settings::Settings;

/// What is known of another edge.
#[derive(Debug)]
pub(super) struct Other {
    /// Its Lease; none if there is none, or it is garbled.
    lease: Option<Seen<EdgeRecord>>,
    /// Since when it is so that there is no Lease.
    missing: Instant,
    /// Since when its incarnation is there.
    arrived: Instant,
    /// The highest incarnation that claims name.
    named: u64,
    /// It isn't fenced until then, whatever it does.
    promised: Option<Instant>,
    /// Since when it asks without being able to renew.
    asking: Option<Instant>,
    /// Since when it doesn't answer.
    silent: Option<Instant>,
    next_hail: Option<Instant>,
    /// A write of its Lease is under way.
    busy: bool,
    retry: Option<Instant>,
}

impl Other {
    fn new(now: Instant) -> Self {
        Self {
            lease: None,
            missing: now,
            arrived: now,
            named: 0,
            promised: None,
            asking: None,
            silent: None,
            next_hail: None,
            busy: false,
            retry: None,
        }
    }

    fn record(&self) -> Option<&EdgeRecord> {
        self.lease.as_ref().map(|seen| &seen.record)
    }

    pub(super) fn running(&self) -> Option<u64> {
        self.record()?.running
    }

    pub(super) fn drain(&self) -> bool {
        self.record().is_some_and(|record| record.drain)
    }

    pub(super) fn cut_off(&self) -> bool {
        self.record().is_some_and(|record| record.cut_off)
    }

    /// Since when its Lease is as it is.
    pub(super) fn since(&self) -> Instant {
        self.lease.as_ref().map_or(self.missing, |seen| seen.since)
    }

    pub(super) fn is_over(&self, incarnation: u64) -> bool {
        self.record().is_some_and(|record| incarnation <= record.over)
    }

    /// Whether it was fenced for its silence alone.
    pub(super) fn was_silent(&self) -> bool {
        self.record().is_some_and(|record| record.silent)
    }

    fn stale_at(&self, settings: &Settings) -> Instant {
        let validity = self.record().map_or(Duration::ZERO, |record| record.validity);
        self.since() + wait(settings, validity)
    }

    pub(super) fn is_live(&self, now: Instant, settings: &Settings) -> bool {
        self.running().is_some() && now < self.stale_at(settings)
    }

    /// Whether its Lease, or a claim, names an incarnation that isn't over.
    fn is_to_be_fenced(&self) -> bool {
        self.running().is_some() || (self.named > 0 && !self.is_over(self.named))
    }
}

/// An edge that may be given claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) offers: BTreeSet<String>,
    /// Whether it has been there long enough for claims to be moved to it.
    pub(super) settled: bool,
    /// Whether it comes behind all others.
    pub(super) cut_off: bool,
}

impl Engine {
    /// Another edge's Lease was seen.
    pub(super) fn see_edge(
        &mut self,
        now: Instant,
        edge: &str,
        lease: &Lease,
    ) -> Result<(), LeaseFault> {
        let other = self.edges.entry(edge.to_owned()).or_insert_with(|| Other::new(now));
        if let Some(seen) = &other.lease {
            match compare(&lease.version, &seen.version) {
                Some(order) if order.is_le() => return Ok(()),
                _ if lease.version == seen.version => return Ok(()),
                _ => {}
            }
        }
        let record = EdgeRecord::read(edge, lease)?;
        let before = other.lease.as_ref().map(|seen| (seen.record.over, seen.record.running));
        if before.and_then(|(_, running)| running) != record.running {
            other.arrived = now;
            other.silent = None;
        }
        let after = (record.over, record.running);
        other.asking = None;
        other.silent = None;
        other.retry = None;
        other.lease = Some(Seen { version: lease.version.clone(), record, since: now });
        if before != Some(after) {
            self.claims.holder_changed(edge);
            self.own.hurry(now);
        }
        Ok(())
    }

    pub(super) fn edge_gone(&mut self, now: Instant, edge: &str, version: Option<&str>) {
        let Some(other) = self.edges.get_mut(edge) else { return };
        if let (Some(version), Some(seen)) = (version, &other.lease)
            && compare(version, &seen.version).is_some_and(|order| order.is_lt())
        {
            return;
        }
        if other.lease.take().is_some() {
            other.missing = now;
            self.claims.holder_changed(edge);
        }
    }

    /// A claim names an edge's incarnation.
    pub(super) fn named(&mut self, now: Instant, edge: &str, incarnation: u64) {
        if edge != self.settings.name {
            let other = self.edges.entry(edge.to_owned()).or_insert_with(|| Other::new(now));
            other.named = other.named.max(incarnation);
        }
    }

    /// The edges whose incarnations aren't over.
    pub(super) fn running_edges(&self) -> BTreeSet<String> {
        let running = self.edges.iter().filter(|(_, other)| other.running().is_some());
        running.map(|(name, _)| name.clone()).collect()
    }

    /// The edges that may be given claims now. This one is among them only if it may.
    pub(super) fn candidates(&self, now: Instant) -> Vec<(String, Candidate)> {
        let settle = self.settings.settle;
        let mut candidates = Vec::new();
        for (name, other) in &self.edges {
            let Some(record) = other.record().filter(|record| !record.drain) else { continue };
            if other.is_live(now, &self.settings) {
                let settled = now >= other.arrived + settle;
                let (offers, cut_off) = (record.offers.clone(), record.cut_off);
                candidates.push((name.clone(), Candidate { offers, settled, cut_off }));
            }
        }
        if self.own.counts() && !self.drain && !self.stopping {
            let (offers, cut_off) = (self.offers.clone(), self.sight != Sight::Clear);
            let candidate = Candidate { offers, settled: true, cut_off };
            candidates.push((self.settings.name.clone(), candidate));
        }
        candidates
    }

    /// Another edge says something.
    pub(super) fn hear(&mut self, now: Instant, from: &str, message: Message) {
        match message {
            Message::Ask { incarnation, number } => {
                let answer = self.consider(now, from, incarnation, number);
                self.messages.push_back((from.to_owned(), answer));
            }
            Message::Promise { incarnation, number, millis } => {
                self.promised(from, incarnation, number, millis);
            }
            Message::Hail { incarnation, number } if self.own.counts() => {
                let answer = Message::Here { incarnation, number };
                self.messages.push_back((from.to_owned(), answer));
            }
            Message::Here { incarnation, .. } => {
                if self.own.running == Some(incarnation)
                    && let Some(other) = self.edges.get_mut(from)
                {
                    other.silent = None;
                }
            }
            Message::Hail { .. } | Message::Refusal { .. } => {}
        }
    }

    /// Whether to promise an edge that it isn't fenced. One that doesn't reach the API for long
    /// where this one does is better off giving up.
    fn consider(&mut self, now: Instant, from: &str, incarnation: u64, number: u64) -> Message {
        let refusal = Message::Refusal { incarnation, number };
        let reaches =
            self.own.renewed.is_some_and(|renewed| now < renewed + self.settings.ask_after);
        let Some(other) = self.edges.get_mut(from) else {
            // Its Lease wasn't seen, so it isn't fenced before that was watched for long enough.
            return self.promise(incarnation, number);
        };
        let asking = *other.asking.get_or_insert(now);
        let patient = !reaches || now < asking + self.settings.patience;
        if other.busy || other.is_over(incarnation) || !patient {
            return refusal;
        }
        let until = now + self.settings.validity + self.settings.margin;
        other.promised = other.promised.max(Some(until));
        self.promise(incarnation, number)
    }

    fn promise(&self, incarnation: u64, number: u64) -> Message {
        let millis = u32::try_from(self.settings.validity.as_millis()).unwrap_or(u32::MAX);
        Message::Promise { incarnation, number, millis }
    }

    /// Fences what is dead.
    pub(super) fn step_edges(&mut self, now: Instant) {
        let live: Vec<String> = self
            .edges
            .iter()
            .filter(|(_, other)| other.is_live(now, &self.settings))
            .map(|(name, _)| name.clone())
            .collect();
        let names: Vec<String> = self.edges.keys().cloned().collect();
        for name in names {
            self.step_edge(now, &name, &live);
        }
    }

    fn step_edge(&mut self, now: Instant, name: &str, live: &[String]) {
        let Some(other) = self.edges.get(name) else { return };
        let settle = other.arrived + self.settings.settle;
        if other.running().is_some() && now < settle {
            self.wake_at(settle);
        }
        let Some(other) = self.edges.get(name) else { return };
        if !other.is_to_be_fenced() || !self.own.counts() || other.busy {
            return;
        }
        // Who has just come back itself lets others come back too.
        let recovered = self.own.recovered.map(|recovered| recovered + self.settings.validity);
        let stale = other.stale_at(&self.settings);
        if now < stale {
            self.wake_at(stale);
        }
        let Some(other) = self.edges.get(name) else { return };
        let place = live.iter().filter(|edge| **edge < self.settings.name).count();
        let turn = Duration::from_millis(100) * u32::try_from(place).unwrap_or(0);
        let mut due = stale.max(recovered.unwrap_or(stale)) + turn;
        due = due.max(other.promised.unwrap_or(due)).max(other.retry.unwrap_or(due));
        if now < due {
            return self.wake_at(due);
        }
        let record = other.record();
        let knows = |record: &EdgeRecord| {
            record.running.is_some() && record.knows.contains(&self.settings.name)
        };
        if record.is_some_and(knows) {
            return self.fence(now, name, false);
        }
        // One that it knows does it.
        if record.is_some_and(|record| live.iter().any(|edge| record.knows.contains(edge))) {
            return self.wake_at(now + self.settings.validity);
        }
        self.fence_if_silent(now, name);
    }

    /// An edge whose Lease doesn't name this one, and none that lives.
    fn fence_if_silent(&mut self, now: Instant, name: &str) {
        let silence = self.settings.silence;
        let every = self.settings.ask_every;
        let incarnation = self.own.running.unwrap_or(0);
        let Some(other) = self.edges.get_mut(name) else { return };
        let silent = *other.silent.get_or_insert(now);
        if now >= silent + silence {
            return self.fence(now, name, true);
        }
        if other.next_hail.is_none_or(|next| now >= next) {
            other.next_hail = Some(now + every);
            self.last_question += 1;
            let message = Message::Hail { incarnation, number: self.last_question };
            self.messages.push_back((name.to_owned(), message));
        }
        let next = self.edges.get(name).and_then(|other| other.next_hail).unwrap_or(now + every);
        self.wake_at(next.min(silent + silence));
    }

    fn fence(&mut self, now: Instant, name: &str, silent: bool) {
        let Some(other) = self.edges.get_mut(name) else { return };
        other.busy = true;
        other.silent = None;
        let purpose = Purpose::Fence(name.to_owned());
        let Some(seen) = &other.lease else {
            // There is none to be fenced. An empty one is watched from now on.
            other.silent = Some(now);
            let record = EdgeRecord { validity: self.settings.validity, ..EdgeRecord::default() };
            return self.request(purpose, Request::Create(record.write(name, "")));
        };
        let record = EdgeRecord {
            running: None,
            over: seen.record.over.max(seen.record.running.unwrap_or(0)).max(other.named),
            silent,
            transitions: seen.record.transitions.saturating_add(1),
            ..seen.record.clone()
        };
        let lease = record.write(name, &seen.version);
        self.request(purpose, Request::Update(lease));
    }

    pub(super) fn fence_answer(&mut self, now: Instant, edge: &str, answer: &Answer) {
        let retry = now + self.settings.retry;
        let Some(other) = self.edges.get_mut(edge) else { return };
        other.busy = *answer == Answer::Conflict;
        match answer {
            Answer::Written(_) => {
                if let Some(running) = other.running() {
                    self.events.push_back(Event::Fenced(edge.to_owned(), running));
                }
            }
            Answer::Failed | Answer::Unknown | Answer::Conflict => other.retry = Some(retry),
            Answer::Read(_) | Answer::Gone => {}
        }
    }
}
