//! Claims: taking them, giving them up, moving them to where they belong.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::peers::Candidate;
use super::{Answer, Engine, Event, Former, Held, Purpose, Request, Seen, Sight, Wanted};
use crate::lease::{ClaimRecord, Lease, LeaseFault, claim_lease, compare};
use crate::{Claim, rank};

/// How this edge stands to a claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Hold {
    /// It doesn't hold it.
    #[default]
    Not,
    /// It does.
    Held(Held),
    /// It has held it. Once that is confirmed, it is released, for another edge perhaps.
    GivingUp { hint: Option<String>, confirmed: bool },
}

/// A claim that is wanted, or held.
#[derive(Debug, Default)]
struct State {
    lease_name: String,
    wanted: Option<Wanted>,
    lease: Option<Seen<ClaimRecord>>,
    /// What stood in its Lease before that was deleted.
    deleted: Option<ClaimRecord>,
    hold: Hold,
    /// The number of the first write that may make it held, and how it comes here then. Whatever
    /// was written before is from another time.
    taking: Option<(u64, Former)>,
    /// A request is under way.
    busy: bool,
    retry: Option<Instant>,
    /// Since when anyone may take it.
    free_since: Option<Instant>,
    /// Since when it is held.
    held_since: Option<Instant>,
}

impl State {
    fn record(&self) -> Option<&ClaimRecord> {
        self.lease.as_ref().map(|seen| &seen.record).or(self.deleted.as_ref())
    }

    fn names(&self, edge: &str, incarnation: Option<u64>) -> bool {
        let holder = self.lease.as_ref().and_then(|seen| seen.record.holder.as_ref());
        holder.is_some_and(|(name, number)| name == edge && Some(*number) == incarnation)
    }
}

/// All claims.
#[derive(Debug, Default)]
pub(super) struct Claims {
    states: BTreeMap<Claim, State>,
    by_name: BTreeMap<String, Claim>,
    /// Leases of claims that aren't wanted, by name.
    others: BTreeMap<String, Seen<ClaimRecord>>,
    /// To be looked at.
    dirty: BTreeSet<Claim>,
    /// When to look at which.
    timers: BTreeSet<(Instant, Claim)>,
    /// To be taken, the first first.
    takes: BTreeSet<(u8, Claim)>,
    /// To be released.
    releases: BTreeSet<(u8, Claim)>,
    /// Held, but others' by right, and whose.
    misplaced: BTreeMap<(u8, Claim), Option<String>>,
    /// Given up for another edge that hasn't got it yet, and until when that is waited for.
    moving: BTreeMap<Claim, Instant>,
    giving_up: BTreeSet<Claim>,
    candidates: Vec<(String, Candidate)>,
    busy: usize,
    last_write: u64,
}

impl Claims {
    pub(super) fn want(&mut self, wanted: BTreeMap<Claim, Wanted>) {
        for (claim, state) in &mut self.states {
            if !wanted.contains_key(claim) && state.wanted.take().is_some() {
                self.dirty.insert(claim.clone());
            }
        }
        for (claim, wanted) in wanted {
            let state = self.states.entry(claim.clone()).or_default();
            if state.lease_name.is_empty() {
                state.lease_name = claim_lease(&claim);
                state.lease = self.others.remove(&state.lease_name);
                self.by_name.insert(state.lease_name.clone(), claim.clone());
            }
            if state.wanted.as_ref() != Some(&wanted) {
                state.wanted = Some(wanted);
                self.dirty.insert(claim);
            }
        }
    }

    pub(super) fn gave_up(&mut self, claim: &Claim) {
        if let Some(state) = self.states.get_mut(claim)
            && let Hold::GivingUp { confirmed, .. } = &mut state.hold
        {
            *confirmed = true;
            self.dirty.insert(claim.clone());
        }
    }

    pub(super) fn seen_names(&self) -> Vec<String> {
        let wanted = self.states.values().filter(|state| state.lease.is_some());
        let wanted = wanted.map(|state| state.lease_name.clone());
        wanted.chain(self.others.keys().cloned()).collect()
    }

    /// The highest incarnation of an edge that any claim names.
    pub(super) fn highest(&self, edge: &str) -> u64 {
        let records = self.states.values().filter_map(State::record);
        let records = records.chain(self.others.values().map(|seen| &seen.record));
        let holders = records.filter_map(|record| record.holder.as_ref());
        holders.filter(|(name, _)| name == edge).map(|(_, number)| *number).max().unwrap_or(0)
    }

    pub(super) fn held(&self) -> BTreeMap<Claim, Held> {
        let held = |(claim, state): (&Claim, &State)| match state.hold {
            Hold::Held(held) => Some((claim.clone(), held)),
            _ => None,
        };
        self.states.iter().filter_map(held).collect()
    }

    pub(super) fn holders(
        &self,
        is_over: impl Fn(&str, u64) -> bool,
    ) -> BTreeMap<Claim, (String, u32)> {
        let holder = |(claim, state): (&Claim, &State)| {
            let record = &state.lease.as_ref()?.record;
            let (edge, incarnation) = record.holder.as_ref()?;
            (!is_over(edge, *incarnation)).then(|| (claim.clone(), (edge.clone(), record.epoch)))
        };
        self.states.iter().filter_map(holder).collect()
    }

    pub(super) fn are_all_free(&self) -> bool {
        self.busy == 0 && self.states.values().all(|state| state.hold == Hold::Not)
    }

    pub(super) fn all_dirty(&mut self) {
        self.dirty.extend(self.states.keys().cloned());
    }

    /// An edge's incarnation has come or gone.
    pub(super) fn holder_changed(&mut self, edge: &str) {
        for (claim, state) in &self.states {
            let holder = state.record().and_then(|record| record.holder.as_ref());
            if holder.is_some_and(|(name, _)| name == edge) {
                self.dirty.insert(claim.clone());
            }
        }
    }

    fn timer(&mut self, at: Instant, claim: &Claim) {
        self.timers.insert((at, claim.clone()));
    }
}

impl Engine {
    /// A claim's Lease was seen.
    pub(super) fn see_claim(&mut self, now: Instant, lease: &Lease) -> Result<(), LeaseFault> {
        let claim = self.claims.by_name.get(&lease.name).cloned();
        let known = match &claim {
            Some(claim) => self.claims.states.get(claim).and_then(|state| state.lease.as_ref()),
            None => self.claims.others.get(&lease.name),
        };
        if let Some(seen) = known
            && (lease.version == seen.version
                || compare(&lease.version, &seen.version).is_some_and(|order| order.is_lt()))
        {
            return Ok(());
        }
        let record = ClaimRecord::read(lease);
        let Some(claim) = claim else {
            let seen = Seen { version: lease.version.clone(), record: record?, since: now };
            self.claims.others.insert(lease.name.clone(), seen);
            return Ok(());
        };
        let Some(state) = self.claims.states.get_mut(&claim) else { return Ok(()) };
        self.claims.dirty.insert(claim.clone());
        let record = match record {
            Ok(record) => record,
            Err(fault) => {
                // Somebody else's now.
                state.lease = None;
                let foreign = (String::new(), u64::MAX);
                state.deleted =
                    Some(ClaimRecord { holder: Some(foreign), ..ClaimRecord::default() });
                self.lose(&claim);
                return Err(fault);
            }
        };
        let (holder, number, epoch) = (record.holder.is_some(), record.renewal, record.epoch);
        let version = lease.version.clone();
        state.deleted = None;
        state.free_since = None;
        state.retry = None;
        state.lease = Some(Seen { version, record, since: now });
        if holder {
            self.claims.moving.remove(&claim);
        }
        let mine = state.names(&self.settings.name, self.own.running);
        match (&state.hold, mine, state.taking) {
            (Hold::Not, true, Some((first, former))) if number >= first => {
                let held = Held { epoch, former };
                state.hold = Hold::Held(held);
                state.held_since = Some(now);
                self.events.push_back(Event::Held(claim, held));
            }
            (Hold::Held(_), false, _) => self.lose(&claim),
            _ => {}
        }
        Ok(())
    }

    pub(super) fn claim_gone(&mut self, now: Instant, name: &str, version: Option<&str>) {
        let stale = |seen: &Seen<ClaimRecord>| {
            version.and_then(|version| compare(version, &seen.version)).is_some_and(|o| o.is_lt())
        };
        let Some(claim) = self.claims.by_name.get(name).cloned() else {
            if self.claims.others.get(name).is_some_and(|seen| !stale(seen)) {
                self.claims.others.remove(name);
            }
            return;
        };
        let Some(state) = self.claims.states.get_mut(&claim) else { return };
        if state.lease.as_ref().is_some_and(|seen| !stale(seen)) {
            state.deleted = state.lease.take().map(|seen| seen.record);
        } else if state.lease.is_none() {
            // What was foreign isn't there any more.
            let foreign = |record: &ClaimRecord| {
                record.holder.as_ref().is_some_and(|(edge, _)| edge.is_empty())
            };
            if state.deleted.as_ref().is_some_and(foreign) {
                state.deleted = None;
            }
        }
        state.free_since = None;
        self.claims.timer(now, &claim);
    }

    /// This edge doesn't hold it any more, by others' doing.
    fn lose(&mut self, claim: &Claim) {
        let Some(state) = self.claims.states.get_mut(claim) else { return };
        if matches!(state.hold, Hold::Held(_)) {
            self.events.push_back(Event::Lost(claim.clone()));
        }
        state.hold = Hold::Not;
        state.taking = None;
        self.claims.giving_up.remove(claim);
        self.claims.dirty.insert(claim.clone());
    }

    pub(super) fn lose_all(&mut self) {
        let claims: Vec<Claim> = self.claims.states.keys().cloned().collect();
        for claim in &claims {
            self.lose(claim);
        }
    }

    pub(super) fn take_answer(&mut self, now: Instant, claim: &Claim, answer: &Answer) {
        self.claim_answer(now, claim, answer);
    }

    pub(super) fn release_answer(&mut self, now: Instant, claim: &Claim, answer: &Answer) {
        self.claim_answer(now, claim, answer);
        let Some(state) = self.claims.states.get_mut(claim) else { return };
        if matches!((answer, &state.hold), (Answer::Written(_), Hold::GivingUp { .. })) {
            state.hold = Hold::Not;
            state.taking = None;
            self.claims.giving_up.remove(claim);
        }
    }

    fn claim_answer(&mut self, now: Instant, claim: &Claim, answer: &Answer) {
        let retry = now + self.settings.retry;
        let Some(state) = self.claims.states.get_mut(claim) else { return };
        // After a conflict it is read, still under the same purpose.
        if *answer != Answer::Conflict {
            state.busy = false;
            self.claims.busy = self.claims.busy.saturating_sub(1);
        }
        if matches!(answer, Answer::Failed | Answer::Unknown | Answer::Conflict) {
            state.retry = Some(retry);
        } else {
            state.retry = None;
        }
        self.claims.dirty.insert(claim.clone());
    }

    /// Looks at what has changed, and writes what is to be written.
    pub(super) fn step_claims(&mut self, now: Instant) {
        let candidates = self.candidates(now);
        if self.claims.candidates != candidates {
            self.claims.candidates = candidates;
            self.claims.all_dirty();
        }
        while let Some((at, _)) = self.claims.timers.first() {
            if now < *at {
                let at = *at;
                self.wake_at(at);
                break;
            }
            if let Some((_, claim)) = self.claims.timers.pop_first() {
                self.claims.dirty.insert(claim);
            }
        }
        loop {
            while let Some(claim) = self.claims.dirty.pop_first() {
                self.look_at(now, &claim);
            }
            self.give_up_misplaced(now);
            if self.claims.dirty.is_empty() {
                break;
            }
        }
        self.write_claims();
        if let Some((at, _)) = self.claims.timers.first() {
            let at = *at;
            self.wake_at(at);
        }
    }

    /// Decides what is to be done about a claim.
    fn look_at(&mut self, now: Instant, claim: &Claim) {
        let Some(state) = self.claims.states.get(claim) else { return };
        let order = state.wanted.as_ref().map_or(0, |wanted| wanted.order);
        let key = (order, claim.clone());
        self.claims.takes.remove(&key);
        self.claims.releases.remove(&key);
        self.claims.misplaced.remove(&key);
        if self.own.running.is_none() || state.busy {
            return self.forget_unwanted(claim);
        }
        if let Some(retry) = state.retry.filter(|retry| now < *retry) {
            return self.claims.timer(retry, claim);
        }
        match &state.hold {
            Hold::Held(_) => self.look_at_held(now, claim, key),
            Hold::GivingUp { confirmed: false, .. } => {}
            Hold::GivingUp { confirmed: true, .. } => {
                if state.names(&self.settings.name, self.own.running) {
                    self.claims.releases.insert(key);
                } else if let Some(state) = self.claims.states.get_mut(claim) {
                    state.hold = Hold::Not;
                    self.claims.giving_up.remove(claim);
                    self.claims.dirty.insert(claim.clone());
                }
            }
            Hold::Not => self.look_at_free(now, claim, key),
        }
    }

    fn forget_unwanted(&mut self, claim: &Claim) {
        let Some(state) = self.claims.states.get(claim) else { return };
        if state.wanted.is_none() && state.hold == Hold::Not && !state.busy {
            let Some(state) = self.claims.states.remove(claim) else { return };
            self.claims.by_name.remove(&state.lease_name);
            self.claims.moving.remove(claim);
            if let Some(seen) = state.lease {
                self.claims.others.insert(state.lease_name, seen);
            }
        }
    }

    /// Edges that may hold it, in the order in which it belongs to them.
    fn order_of(&self, claim: &Claim, settled: bool) -> Vec<String> {
        let Some(wanted) = self.claims.states.get(claim).and_then(|state| state.wanted.as_ref())
        else {
            return Vec::new();
        };
        let candidates = self.claims.candidates.iter();
        let able = candidates.filter(|(_, candidate)| {
            (candidate.settled || !settled) && wanted.needs.is_subset(&candidate.offers)
        });
        let edges = able.map(|(name, _)| name.as_str());
        let mut order = rank::order(edges, &claim.to_string());
        // Whoever leads needs nobody but the API.
        if *claim != Claim::Leader {
            order.sort_by_key(|edge| self.is_cut_off(edge));
        }
        order.into_iter().map(str::to_owned).collect()
    }

    fn is_cut_off(&self, edge: &str) -> bool {
        let mut candidates = self.claims.candidates.iter();
        candidates.any(|(name, candidate)| name == edge && candidate.cut_off)
    }

    fn look_at_held(&mut self, now: Instant, claim: &Claim, key: (u8, Claim)) {
        let Some(state) = self.claims.states.get(claim) else { return };
        let me = &self.settings.name;
        let wanted = state.wanted.as_ref();
        if wanted.is_none_or(|wanted| !wanted.needs.is_subset(&self.offers)) {
            return self.give_up(claim, None);
        }
        if self.drain || self.stopping {
            let next = self.order_of(claim, false).into_iter().find(|edge| edge != me);
            if next.is_some() || self.stopping {
                self.claims.misplaced.insert(key, next);
            }
            return;
        }
        if self.sight != Sight::Clear && *claim != Claim::Leader {
            let next = self.order_of(claim, false).into_iter().next();
            let next = next.filter(|next| next != me && !self.is_cut_off(next));
            if self.sight == Sight::CutOff && next.is_some() {
                self.claims.misplaced.insert(key, next);
            } else if state.lease.is_none() {
                self.claims.takes.insert(key);
            }
            return;
        }
        if state.lease.is_none() {
            // Its Lease was deleted.
            self.claims.takes.insert(key);
            return;
        }
        // There is nothing to be gained from moving the lead.
        let settle = self.settings.settle;
        let (false, Some(held)) = (*claim == Claim::Leader, state.held_since) else { return };
        match self.order_of(claim, true).into_iter().next() {
            Some(first) if first != *me && now >= held + settle => {
                self.claims.misplaced.insert(key, Some(first));
            }
            Some(first) if first != *me => self.claims.timer(held + settle, claim),
            _ => {}
        }
    }

    fn look_at_free(&mut self, now: Instant, claim: &Claim, key: (u8, Claim)) {
        let running = self.own.running;
        let me = self.settings.name.clone();
        let order = self.order_of(claim, false);
        let Some(state) = self.claims.states.get(claim) else { return };
        let place = order.iter().position(|edge| *edge == me);
        if state.names(&me, running) {
            // Written late, when it wasn't waited for any more.
            if place.is_some() {
                self.claims.takes.insert(key);
            } else {
                self.claims.releases.insert(key);
            }
            return;
        }
        let record = state.record();
        let holder = record.and_then(|record| record.holder.clone());
        let hint = record.and_then(|record| record.hint.clone());
        if state.wanted.is_none() {
            return self.forget_unwanted(claim);
        }
        if let Some((edge, incarnation)) = &holder
            && !self.is_over(edge, *incarnation)
        {
            if !edge.is_empty() {
                self.named(now, edge, *incarnation);
            }
            if let Some(state) = self.claims.states.get_mut(claim) {
                state.free_since = None;
            }
            return;
        }
        let Some(state) = self.claims.states.get_mut(claim) else { return };
        let since = *state.free_since.get_or_insert(now);
        let Some(mut place) = place.filter(|_| self.own.counts()) else { return };
        if let Some(hint) = hint {
            match order.iter().position(|edge| *edge == hint) {
                Some(hinted) if hinted == place => place = 0,
                Some(hinted) if hinted > place => place += 1,
                _ => {}
            }
        }
        let due = since + self.settings.grace * u32::try_from(place).unwrap_or(u32::MAX);
        if now < due {
            return self.claims.timer(due, claim);
        }
        self.claims.takes.insert(key);
    }

    fn give_up(&mut self, claim: &Claim, hint: Option<String>) {
        let Some(state) = self.claims.states.get_mut(claim) else { return };
        state.hold = Hold::GivingUp { hint, confirmed: false };
        state.taking = None;
        self.claims.giving_up.insert(claim.clone());
        self.events.push_back(Event::Lost(claim.clone()));
    }

    /// Gives up what belongs to others, a few at a time.
    fn give_up_misplaced(&mut self, now: Instant) {
        let at_stop = self.drain || self.stopping || self.sight == Sight::CutOff;
        let most = if at_stop { self.settings.moves_at_stop } else { self.settings.moves };
        self.claims.moving.retain(|_, until| now < *until);
        loop {
            let moving = self.claims.giving_up.len();
            let moving = if at_stop { moving } else { moving + self.claims.moving.len() };
            if moving >= most {
                break;
            }
            let Some(((_, claim), next)) = self.claims.misplaced.pop_first() else { break };
            if !at_stop {
                self.claims.moving.insert(claim.clone(), now + self.settings.grace * 2);
            }
            self.give_up(&claim, next);
        }
        if !self.claims.misplaced.is_empty()
            && let Some(until) = self.claims.moving.values().min()
        {
            let until = *until;
            self.wake_at(until);
        }
    }

    /// Writes, not too much at a time, releases first.
    fn write_claims(&mut self) {
        while self.claims.busy < self.settings.parallel {
            if let Some((_, claim)) = self.claims.releases.pop_first() {
                self.write_release(&claim);
            } else if !self.own.counts() {
                break;
            } else if let Some((_, claim)) = self.claims.takes.pop_first() {
                self.write_take(&claim);
            } else {
                break;
            }
        }
    }

    fn write_release(&mut self, claim: &Claim) {
        let hint = match self.claims.states.get(claim).map(|state| &state.hold) {
            Some(Hold::GivingUp { hint, .. }) => hint.clone(),
            _ => None,
        };
        self.write_claim(claim, None, hint, Purpose::Release(claim.clone()));
    }

    fn write_take(&mut self, claim: &Claim) {
        let Some(running) = self.own.running else { return };
        let holder = (self.settings.name.clone(), running);
        let former = self.former(claim);
        let number = self.claims.last_write + 1;
        if let Some(state) = self.claims.states.get_mut(claim) {
            let (first, _) = state.taking.unwrap_or((number, former));
            state.taking = Some((first, former));
        }
        self.write_claim(claim, Some(holder), None, Purpose::Take(claim.clone()));
    }

    /// How a claim would come here.
    fn former(&self, claim: &Claim) -> Former {
        let state = self.claims.states.get(claim);
        let Some(record) = state.and_then(State::record) else { return Former::Nobody };
        match &record.holder {
            None if record.hint.as_ref() == Some(&self.settings.name) => Former::Released,
            // Given up at some time: meanwhile anybody may have come to use it.
            None => Former::Nobody,
            Some((edge, _)) if self.edges.get(edge).is_some_and(|other| other.was_silent()) => {
                Former::Silent
            }
            Some(_) => Former::Fenced,
        }
    }

    fn write_claim(
        &mut self,
        claim: &Claim,
        holder: Option<(String, u64)>,
        hint: Option<String>,
        purpose: Purpose,
    ) {
        self.claims.last_write += 1;
        let Some(state) = self.claims.states.get_mut(claim) else { return };
        let epoch = state.record().map_or(0, |record| record.epoch);
        let epoch = epoch.saturating_add(u32::from(holder.is_some()));
        let record = ClaimRecord { holder, epoch, hint, renewal: self.claims.last_write };
        let version = state.lease.as_ref().map_or("", |seen| seen.version.as_str());
        let lease = record.write(&state.lease_name, version);
        let is_new = state.lease.is_none();
        state.busy = true;
        self.claims.busy += 1;
        self.request(purpose, if is_new { Request::Create(lease) } else { Request::Update(lease) });
    }
}
