//! One edge's state machine.

mod claims;
mod own;
mod peers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::lease::{self, Lease, LeaseFault};
use crate::{Claim, Message, Settings};

/// A claim that there is, and who may hold it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// What an edge must offer ([`Engine::offer`]) to hold it.
    pub needs: BTreeSet<String>,
    /// In what order claims are taken: the lowest first.
    pub order: u8,
}

/// Something to ask of the API. Each wants one answer, within about a renewal's time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// To write a Lease that must not be there.
    Create(Lease),
    /// To write a Lease that must still have the version it names.
    Update(Lease),
    /// To read a Lease, not from a cache.
    Read(String),
}

/// What has come of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is written, and this is its new version.
    Written(String),
    /// It has another version, is there already, or isn't there.
    Conflict,
    /// It was read.
    Read(Lease),
    /// It isn't there to be read.
    Gone,
    /// It has surely not been written.
    Failed,
    /// Nobody knows: there was no answer in time.
    Unknown,
}

/// How a claim came to this edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Former {
    /// Nobody is known to have held it until just now.
    Nobody,
    /// Its holder has given it up for this edge.
    Released,
    /// Its holder's incarnation is over.
    Fenced,
    /// Its holder was fenced only because it didn't answer, by one that it may not know: it is
    /// better asked on the link too.
    Silent,
}

/// A claim that this edge holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// How often its holder has changed.
    pub epoch: u32,
    /// How it came here.
    pub former: Former,
}

/// What this edge holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// All of it.
    pub claims: BTreeMap<Claim, Held>,
    /// Until when, unless there is newer word.
    pub until: Option<Instant>,
    /// The incarnation that holds it; 0 for none.
    pub incarnation: u64,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A Lease keeps this incarnation alive now.
    Joined(u64),
    /// This incarnation is over: what it held is lost.
    Ended(u64),
    /// This edge holds a claim now.
    Held(Claim, Held),
    /// It must let go of a claim: to be confirmed by [`Engine::gave_up`] once it has.
    Lost(Claim),
    /// The time is over until which it could hold anything.
    Lapsed,
    /// It holds its claims again.
    Resumed,
    /// It goes on without the API, by promises or because it knows of no other edge.
    Promised,
    /// It has fenced an edge's incarnation.
    Fenced(String, u64),
    /// A Lease means nothing, and is left alone.
    Fault(LeaseFault),
    /// Everything is released after [`Engine::stop`].
    Stopped,
}

/// How an edge stands to those that it holds VIPs and connections for: a cluster's nodes.
///
/// Edges lose sight of nodes that go away one after another. So an edge says that it is blind long
/// before it leaves anything to others, and leaves it to none that is blind, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sight {
    /// It reaches some, or there are none.
    #[default]
    Clear,
    /// It reaches none: it is given nothing that another one could have.
    Blind,
    /// It has reached none for so long that those that are clear had better hold what it holds.
    CutOff,
}

/// An edge as this one sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeView {
    /// Its incarnation, while that isn't over.
    pub incarnation: Option<u64>,
    /// Whether its Lease was renewed of late.
    pub is_live: bool,
    /// Whether it gives up what it holds.
    pub drain: bool,
    /// Whether it reaches nobody that it holds things for.
    pub cut_off: bool,
    /// Since when its Lease is unchanged.
    pub since: Instant,
}

/// A Lease as it was last seen.
#[derive(Clone, Debug)]
struct Seen<R> {
    version: String,
    record: R,
    /// Since when it is so.
    since: Instant,
}

/// What a request under way is for.
#[derive(Clone, Debug)]
enum Purpose {
    Own,
    Fence(String),
    Take(Claim),
    Release(Claim),
}

/// A request under way.
#[derive(Clone, Debug)]
struct Pending {
    purpose: Purpose,
    /// What is written; for reads only its name is filled in.
    lease: Lease,
}

/// One edge's state machine. Every input has the time; times must not go backwards.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    synced: bool,
    stopping: bool,
    drain: bool,
    sight: Sight,
    offers: BTreeSet<String>,
    own: own::Own,
    edges: BTreeMap<String, peers::Other>,
    claims: claims::Claims,
    faults: BTreeMap<String, LeaseFault>,
    pending: BTreeMap<u64, Pending>,
    last_request: u64,
    last_question: u64,
    requests: VecDeque<(u64, Request)>,
    messages: VecDeque<(String, Message)>,
    events: VecDeque<Event>,
    wake: Option<Instant>,
}

impl Engine {
    /// An edge that has seen nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            synced: false,
            stopping: false,
            drain: false,
            sight: Sight::default(),
            offers: BTreeSet::new(),
            own: own::Own::default(),
            edges: BTreeMap::new(),
            claims: claims::Claims::default(),
            faults: BTreeMap::new(),
            pending: BTreeMap::new(),
            last_request: 0,
            last_question: 0,
            requests: VecDeque::new(),
            messages: VecDeque::new(),
            events: VecDeque::new(),
            wake: None,
        }
    }

    /// All Leases, as listed. What was there before and isn't any more is gone.
    pub fn listed(&mut self, now: Instant, leases: &[Lease]) {
        let there: BTreeSet<_> = leases.iter().map(|lease| lease.name.as_str()).collect();
        let mut gone: Vec<String> = self.edges.keys().map(|edge| lease::edge_lease(edge)).collect();
        gone.push(lease::edge_lease(&self.settings.name));
        gone.extend(self.claims.seen_names());
        for name in gone.iter().filter(|name| !there.contains(name.as_str())) {
            self.take_in_gone(now, name, None);
        }
        for lease in leases {
            self.take_in(now, lease);
        }
        self.synced = true;
        self.step(now);
    }

    /// A Lease was seen, in a watch.
    pub fn seen(&mut self, now: Instant, lease: &Lease) {
        self.take_in(now, lease);
        self.step(now);
    }

    /// A Lease was seen to be deleted, in a watch.
    pub fn gone(&mut self, now: Instant, name: &str, version: &str) {
        self.take_in_gone(now, name, Some(version));
        self.step(now);
    }

    /// What has come of a request.
    pub fn answer(&mut self, now: Instant, id: u64, answer: Answer) {
        if let Some(pending) = self.pending.remove(&id) {
            self.take_in_answer(now, pending, answer);
        }
        self.step(now);
    }

    /// All claims that there are.
    pub fn want(&mut self, now: Instant, wanted: BTreeMap<Claim, Wanted>) {
        self.claims.want(wanted);
        self.step(now);
    }

    /// What this edge is able to hold, in words that claims' needs are made of.
    pub fn offer(&mut self, now: Instant, offers: BTreeSet<String>) {
        if self.offers != offers {
            self.offers = offers;
            self.own.hurry(now);
            self.claims.all_dirty();
        }
        self.step(now);
    }

    /// Whether to give everything up to others, and to take nothing.
    pub fn drain(&mut self, now: Instant, drain: bool) {
        if self.drain != drain {
            self.drain = drain;
            self.own.hurry(now);
        }
        self.step(now);
    }

    /// How it stands to those that it holds VIPs and connections for.
    pub fn sight(&mut self, now: Instant, sight: Sight) {
        if self.sight != sight {
            self.sight = sight;
            self.own.hurry(now);
            self.claims.all_dirty();
        }
        self.step(now);
    }

    /// Gives everything up, and ends with [`Event::Stopped`].
    pub fn stop(&mut self, now: Instant) {
        if !self.stopping {
            self.stopping = true;
            self.own.hurry(now);
        }
        self.step(now);
    }

    /// A claim that was lost ([`Event::Lost`]) is let go of: another may have it.
    pub fn gave_up(&mut self, now: Instant, claim: &Claim) {
        self.claims.gave_up(claim);
        self.step(now);
    }

    /// What another edge says.
    pub fn message(&mut self, now: Instant, from: &str, message: Message) {
        self.update_until(now);
        self.hear(now, from, message);
        self.step(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.step(now);
    }

    /// What to ask of the API next, with the number for its answer.
    pub fn poll_request(&mut self) -> Option<(u64, Request)> {
        self.requests.pop_front()
    }

    /// What to say to another edge next.
    pub fn poll_message(&mut self) -> Option<(String, Message)> {
        self.messages.pop_front()
    }

    /// What has happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When something is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.wake
    }

    /// What this edge holds.
    pub fn holding(&self) -> Holding {
        Holding {
            claims: self.claims.held(),
            until: self.own.until,
            incarnation: self.own.running.unwrap_or(0),
        }
    }

    /// Until when it holds that.
    pub fn until(&self) -> Option<Instant> {
        self.own.until
    }

    /// When the last renewal that has succeeded was sent.
    pub fn renewed(&self) -> Option<Instant> {
        self.own.renewed
    }

    /// Whether it was told to stop.
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Whether all is released after [`Engine::stop`].
    pub fn is_stopped(&self) -> bool {
        self.own.stopped
    }

    /// The other edges.
    pub fn edges(&self, now: Instant) -> BTreeMap<String, EdgeView> {
        let view = |(name, other): (&String, &peers::Other)| {
            let is_live = other.is_live(now, &self.settings);
            let (incarnation, drain, cut_off) = (other.running(), other.drain(), other.cut_off());
            let since = other.since();
            (name.clone(), EdgeView { incarnation, is_live, drain, cut_off, since })
        };
        self.edges.iter().map(view).collect()
    }

    /// Who holds what by the Leases, where that incarnation isn't over: edge and epoch.
    pub fn holders(&self) -> BTreeMap<Claim, (String, u32)> {
        self.claims.holders(|edge, incarnation| self.is_over(edge, incarnation))
    }

    /// Leases that mean nothing, by name.
    pub fn faults(&self) -> &BTreeMap<String, LeaseFault> {
        &self.faults
    }

    fn take_in(&mut self, now: Instant, lease: &Lease) {
        let result = match lease::edge_of(&lease.name) {
            Some(edge) if edge == self.settings.name => self.see_own(now, lease, false),
            Some(edge) => self.see_edge(now, edge, lease),
            None => self.see_claim(now, lease),
        };
        match result {
            Ok(()) => drop(self.faults.remove(&lease.name)),
            Err(fault) => {
                if self.faults.get(&lease.name) != Some(&fault) {
                    self.events.push_back(Event::Fault(fault.clone()));
                    self.faults.insert(lease.name.clone(), fault);
                }
            }
        }
    }

    fn take_in_gone(&mut self, now: Instant, name: &str, version: Option<&str>) {
        self.faults.remove(name);
        match lease::edge_of(name) {
            Some(edge) if edge == self.settings.name => self.own.reread(),
            Some(edge) => self.edge_gone(now, edge, version),
            None => self.claim_gone(now, name, version),
        }
    }

    /// Takes in what a request has come to. What was written is seen as if it was watched.
    fn take_in_answer(&mut self, now: Instant, pending: Pending, answer: Answer) {
        let name = pending.lease.name.clone();
        let failed = matches!(answer, Answer::Failed | Answer::Unknown);
        let seen = match &answer {
            Answer::Written(version) => {
                Some(Lease { version: version.clone(), ..pending.lease.clone() })
            }
            Answer::Read(lease) => Some(lease.clone()),
            _ => None,
        };
        let conflict = answer == Answer::Conflict;
        match &pending.purpose {
            Purpose::Own => self.own_answer(now, &pending, &answer),
            Purpose::Fence(edge) => self.fence_answer(now, edge, &answer),
            Purpose::Take(claim) => self.take_answer(now, claim, &answer),
            Purpose::Release(claim) => self.release_answer(now, claim, &answer),
        }
        if let Some(lease) = seen
            && name != lease::edge_lease(&self.settings.name)
        {
            self.take_in(now, &lease);
        } else if answer == Answer::Gone && !matches!(pending.purpose, Purpose::Own) {
            self.take_in_gone(now, &name, None);
        } else if conflict && !matches!(pending.purpose, Purpose::Own) {
            self.request(pending.purpose, Request::Read(name));
        } else if failed {
            self.wake_at(now + self.settings.retry);
        }
    }

    /// Does all that is due, and finds when the next is.
    fn step(&mut self, now: Instant) {
        self.wake = None;
        self.update_until(now);
        self.step_own(now);
        self.step_asks(now);
        self.step_edges(now);
        self.step_claims(now);
        self.finish_stop(now);
    }

    fn wake_at(&mut self, at: Instant) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    fn request(&mut self, purpose: Purpose, request: Request) {
        self.last_request += 1;
        let lease = match &request {
            Request::Create(lease) | Request::Update(lease) => lease.clone(),
            Request::Read(name) => Lease { name: name.clone(), ..Lease::default() },
        };
        self.pending.insert(self.last_request, Pending { purpose, lease });
        self.requests.push_back((self.last_request, request));
    }

    /// Whether an edge's incarnation is over for good.
    fn is_over(&self, edge: &str, incarnation: u64) -> bool {
        if edge == self.settings.name {
            return self.own.running.is_none_or(|running| incarnation < running)
                && self.own.is_over(incarnation);
        }
        self.edges.get(edge).is_some_and(|other| other.is_over(incarnation))
    }
}

/// How long an edge's Lease must have been unrenewed before it is fenced.
fn wait(settings: &Settings, validity: Duration) -> Duration {
    validity.max(settings.validity) + settings.margin
}
