//! Which edge a node uses: by probes to all of them.
//!
//! Each edge is asked every 250 ms. One that has not answered three times in a row is lost, within
//! a second of its last sign of life at most; one that is back is trusted with egress again only
//! after it has answered for a while. A VpnConnection goes by the edge that says that it holds it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use model::ObjectKey;

use crate::probe::{Answer, Holds, Nonce};

/// How often, and how patiently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between two probes.
    pub interval: Duration,
    /// How long the last of several probes is waited for.
    pub patience: Duration,
    /// So many without an answer, and the edge is lost.
    pub misses: usize,
    /// So many answered in a row, and one that was lost is used for egress again.
    pub answers: u32,
    /// How long the preferred edge has to be there before egress moves back to it.
    pub back_after: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(250),
            patience: Duration::from_millis(200),
            misses: 3,
            answers: 4,
            back_after: Duration::from_secs(30),
        }
    }
}

/// How an edge is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It has not answered yet.
    Unknown,
    /// It answers.
    Alive,
    /// It has stopped answering.
    Lost,
}

/// What is known of an edge otherwise: what its EdgeGateway's status says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The VpnConnections that it holds.
    pub vpn: BTreeSet<ObjectKey>,
    /// Whether it is to be left.
    pub drain: bool,
}

/// By which edge what goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// VpnConnections; those that no edge holds, or only one that is lost, are not here.
    pub vpn: BTreeMap<ObjectKey, String>,
    /// Egress networks; none if no edge answers.
    pub egress: Option<String>,
}

/// A probe that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The edge.
    pub edge: String,
    /// [`Holds::hash`] of what it said last.
    pub knows: u64,
}

/// What has come of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It answers none of the last probes, or is another's.
    Refused,
    /// Nothing is new.
    Same,
    /// By which edge what goes may have changed: [`Choice::chosen`].
    Changed,
}

#[derive(Clone, Debug)]
struct Edge {
    told: Told,
    state: State,
    /// Probes without answer, the oldest first.
    waiting: VecDeque<(Nonce, Instant)>,
    next: Instant,
    /// How many have been answered in a row.
    streak: u32,
    /// Whether it is trusted with egress, and since when.
    settled: Option<Instant>,
    /// It had been lost since it was last settled.
    was_lost: bool,
    incarnation: u64,
    drain: bool,
    hash: u64,
    holds: Holds,
    round_trip: Option<Duration>,
}

impl Edge {
    fn new(now: Instant) -> Self {
        Self {
            told: Told::default(),
            state: State::Unknown,
            waiting: VecDeque::new(),
            next: now,
            streak: 0,
            settled: None,
            was_lost: false,
            incarnation: 0,
            drain: false,
            hash: 0,
            holds: Holds::default(),
            round_trip: None,
        }
    }

    fn drains(&self) -> bool {
        self.drain || self.told.drain
    }

    /// Nobody waits for more answers than would tell that it is lost, and a late one is one too.
    fn is_missed(&self, now: Instant, timing: &Timing) -> bool {
        let last = timing.misses.checked_sub(1).and_then(|at| self.waiting.get(at));
        last.is_some_and(|(_, sent)| now.saturating_duration_since(*sent) >= timing.patience)
    }

    fn lose(&mut self) {
        self.state = State::Lost;
        self.streak = 0;
        self.settled = None;
        self.was_lost = true;
        self.round_trip = None;
    }
}

/// Which edge a node uses.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Seeds the order of preference, so that nodes spread over edges.
    node: String,
    timing: Timing,
    edges: BTreeMap<String, Edge>,
    egress: Option<String>,
}

impl Choice {
    /// Of a node.
    pub fn new(node: impl Into<String>, timing: Timing) -> Self {
        Self { node: node.into(), timing, edges: BTreeMap::new(), egress: None }
    }

    /// All edges there are, with what their EdgeGateways say. What is known of them by probes
    /// stays.
    pub fn set_edges(&mut self, told: BTreeMap<String, Told>, now: Instant) {
        self.edges.retain(|name, _| told.contains_key(name));
        for (name, told) in told {
            self.edges.entry(name).or_insert_with(|| Edge::new(now)).told = told;
        }
        self.choose(now);
    }

    /// Probes that are due now; each has to be sent, and told with [`Choice::sent`].
    pub fn due(&mut self, now: Instant) -> Vec<Due> {
        let timing = self.timing;
        let due = self.edges.iter_mut().filter(|(_, edge)| edge.next <= now);
        due.map(|(name, edge)| {
            // After a pause it goes on from now rather than make up for it.
            let next = edge.next + timing.interval;
            edge.next = if next <= now { now + timing.interval } else { next };
            Due { edge: name.clone(), knows: edge.hash }
        })
        .collect()
    }

    /// A probe was sent, or could not be, which is the same as if it had been lost.
    pub fn sent(&mut self, edge: &str, nonce: Nonce, now: Instant) {
        let Some(edge) = self.edges.get_mut(edge) else { return };
        edge.waiting.push_back((nonce, now));
        // A late answer to any of these is a sign of life.
        while edge.waiting.len() > 2 * self.timing.misses {
            edge.waiting.pop_front();
        }
    }

    /// An authentic answer from an edge's key, and the nonce that it repeats.
    pub fn answered(&mut self, edge: &str, nonce: Nonce, answer: &Answer, now: Instant) -> Taken {
        let timing = self.timing;
        let Some(found) = self.edges.get_mut(edge).filter(|_| answer.edge == edge) else {
            return Taken::Refused;
        };
        let place = found.waiting.iter().position(|(sent, _)| *sent == nonce);
        let Some((_, sent)) = place.and_then(|place| found.waiting.drain(..=place).next_back())
        else {
            return Taken::Refused;
        };
        // A former run's answers may come late.
        if answer.incarnation < found.incarnation {
            return Taken::Refused;
        }
        found.round_trip = Some(now.saturating_duration_since(sent));
        let before = (found.state, found.drain, found.hash, found.settled.is_some());
        found.state = State::Alive;
        found.streak = found.streak.saturating_add(1);
        if found.settled.is_none() && (!found.was_lost || found.streak >= timing.answers) {
            found.settled = Some(now);
        }
        found.incarnation = answer.incarnation;
        found.drain = answer.drain;
        match &answer.holds {
            Some(holds) => (found.holds, found.hash) = (holds.clone(), answer.hash),
            // It takes us to know what we don't: the next probe says so.
            None if answer.hash != found.hash => {
                (found.holds, found.hash) = (Holds::default(), 0);
            }
            None => {}
        }
        let after = (found.state, found.drain, found.hash, found.settled.is_some());
        let egress = self.egress.clone();
        self.choose(now);
        if before == after && egress == self.egress { Taken::Same } else { Taken::Changed }
    }

    /// Looks after edges that don't answer, and at whether it is time to go back; whether by which
    /// edge what goes may have changed.
    pub fn tick(&mut self, now: Instant) -> bool {
        let timing = self.timing;
        let mut changed = false;
        for edge in self.edges.values_mut() {
            if edge.is_missed(now, &timing) {
                changed |= edge.state != State::Lost;
                edge.lose();
            }
        }
        let egress = self.egress.clone();
        self.choose(now);
        changed || egress != self.egress
    }

    /// When [`Choice::due`] and [`Choice::tick`] have something to do next.
    pub fn next(&self) -> Option<Instant> {
        let timing = &self.timing;
        let lost =
            self.edges.values().filter(|edge| edge.state != State::Lost).filter_map(|edge| {
                let place = timing.misses.checked_sub(1)?;
                edge.waiting.get(place).map(|(_, sent)| *sent + timing.patience)
            });
        self.edges.values().map(|edge| edge.next).chain(lost).min()
    }

    /// How an edge is, and how long its last answer took.
    pub fn state(&self, edge: &str) -> Option<(State, Option<Duration>)> {
        self.edges.get(edge).map(|edge| (edge.state, edge.round_trip))
    }

    /// By which edge what goes.
    pub fn chosen(&self) -> Chosen {
        let mut by_claim: BTreeMap<&ObjectKey, ((u64, u64), &String)> = BTreeMap::new();
        let alive = |(_, edge): &(&String, &Edge)| edge.state == State::Alive;
        for (name, edge) in self.edges.iter().filter(alive) {
            for (key, epoch) in &edge.holds.vpn {
                let claim = (*epoch, edge.incarnation);
                let best = by_claim.entry(key).or_insert((claim, name));
                if claim > best.0 {
                    *best = (claim, name);
                }
            }
        }
        let mut vpn: BTreeMap<ObjectKey, String> =
            by_claim.into_iter().map(|(key, (_, name))| (key.clone(), name.clone())).collect();
        // Whom no edge claims goes by what stands in the cluster, unless that edge is lost or has
        // said what it holds.
        for (name, edge) in &self.edges {
            let has_spoken = edge.state == State::Alive && edge.hash != 0;
            if edge.state != State::Lost && !has_spoken {
                for key in &edge.told.vpn {
                    vpn.entry(key.clone()).or_insert_with(|| name.clone());
                }
            }
        }
        Chosen { vpn, egress: self.egress.clone() }
    }

    /// Egress stays where it is for as long as that edge answers; it goes back to a preferred edge
    /// that had been lost once that has been there for a while.
    fn choose(&mut self, now: Instant) {
        let usable = |edge: &&Edge| edge.state == State::Alive && edge.settled.is_some();
        let rank = |name: &str| preference(&self.node, name);
        let best = self
            .edges
            .iter()
            .filter(|(_, edge)| usable(edge))
            .min_by_key(|(name, edge)| (edge.drains(), rank(name), (*name).clone()));
        let present = self.egress.as_ref().and_then(|name| self.edges.get_key_value(name));
        let present = present.filter(|(_, edge)| edge.state == State::Alive);
        self.egress = match (present, best) {
            (Some((name, edge)), Some((best, better))) if best != name => {
                let is_left = edge.drains() && !better.drains();
                let since = better.settled.map(|since| now.saturating_duration_since(since));
                let is_back = edge.drains() == better.drains()
                    && (!better.was_lost
                        || since.is_some_and(|since| since >= self.timing.back_after));
                Some(if is_left || is_back { best.clone() } else { name.clone() })
            }
            (Some((name, _)), _) => Some(name.clone()),
            // Where all are only just back, one of them is better than none.
            (None, None) => {
                let alive = self.edges.iter().filter(|(_, edge)| edge.state == State::Alive);
                alive.min_by_key(|(name, edge)| (edge.drains(), rank(name))).map(|(n, _)| n.clone())
            }
            (None, Some((name, _))) => Some(name.clone()),
        };
    }
}

/// Rendezvous hashing: every node has an order of its own.
fn preference(node: &str, edge: &str) -> u64 {
    // FNV-1a, and a last mixing as in SplitMix64, since names differ in their last octets.
    let octets = node.bytes().chain([0]).chain(edge.bytes());
    let mut hash = octets.fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| {
        (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests;
