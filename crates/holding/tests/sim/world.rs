//! Edges with clocks of their own, the API, and what is between them. Everything follows from a
//! seed. Times are true ones, in microseconds; each edge only knows its own.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::{Duration, Instant};

use holding::{
    Answer, Claim, Engine, Event, Former, Held, Lease, Message, Request, Settings, Sight, Wanted,
};

use super::api::{Api, Change, Weather};

/// How long the transport waits for an answer.
const TIMEOUT: u64 = 700_000;
pub(crate) const SECOND: u64 = 1_000_000;

pub(crate) struct Edge {
    pub(crate) name: String,
    pub(crate) engine: Option<Engine>,
    /// How often it was begun: what is for an earlier life doesn't reach it.
    life: u64,
    /// Its clock: what it shows at the beginning, and how fast it goes.
    base: Instant,
    rate: f64,
    pub(crate) paused_until: u64,
    pub(crate) reaches_api: bool,
    watching: bool,
    /// What it exercises, and until when if nothing else is done.
    active: BTreeMap<Claim, u64>,
    published: BTreeSet<Claim>,
    pub(crate) offers: BTreeSet<String>,
    pub(crate) events: Vec<(u64, Event)>,
    /// The Leases that it has asked to write.
    pub(crate) asked: Vec<String>,
    next_wake: Option<u64>,
    /// How many events have been acted on, and until when it holds things.
    told: usize,
    until: Option<Instant>,
}

#[derive(Debug)]
enum Item {
    ToApi { edge: usize, life: u64, id: u64, request: Request },
    Answer { edge: usize, life: u64, id: u64, answer: Answer },
    Watch { edge: usize, life: u64, change: Change },
    List { edge: usize, life: u64 },
    Listed { edge: usize, life: u64, leases: Vec<Lease> },
    Message { from: usize, to: usize, message: Message },
    Wake { edge: usize, life: u64 },
    GaveUp { edge: usize, life: u64, claim: Claim },
}

pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) now: u64,
    pub(crate) random: fastrand::Rng,
    pub(crate) weather: Weather,
    pub(crate) api: Api,
    pub(crate) api_up: bool,
    pub(crate) edges: Vec<Edge>,
    /// Pairs that don't reach each other.
    pub(crate) cut: BTreeSet<(usize, usize)>,
    pub(crate) wanted: BTreeMap<Claim, Wanted>,
    /// What all edges' settings are made of.
    pub(crate) settings: Settings,
    items: BinaryHeap<Reverse<(u64, u64)>>,
    contents: BTreeMap<u64, Item>,
    next: u64,
    /// When each claim was last let go of.
    let_go: BTreeMap<Claim, u64>,
    /// The longest time that a claim was held by nobody between two holders.
    pub(crate) longest_gap: u64,
    /// How often claims went from one edge to another.
    pub(crate) moved: u64,
    last_holder: BTreeMap<Claim, usize>,
    pub(crate) log: Option<Vec<String>>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            now: 0,
            random: fastrand::Rng::with_seed(seed),
            weather: Weather::FAIR,
            api: Api::default(),
            api_up: true,
            edges: Vec::new(),
            cut: BTreeSet::new(),
            wanted: BTreeMap::new(),
            settings: Settings::new("", 0, 0),
            items: BinaryHeap::new(),
            contents: BTreeMap::new(),
            next: 0,
            let_go: BTreeMap::new(),
            longest_gap: 0,
            moved: 0,
            last_holder: BTreeMap::new(),
            log: None,
        }
    }

    /// Wants the lead, and so many VIPs and VpnConnections.
    pub(crate) fn want(&mut self, vips: usize, connections: usize) {
        let wanted = |order| Wanted { needs: BTreeSet::new(), order };
        self.wanted.insert(Claim::Leader, wanted(0));
        for number in 0..vips {
            let address = [192, 0, (number / 250) as u8, (number % 250) as u8];
            self.wanted.insert(Claim::Vip(address.into()), wanted(2));
        }
        for number in 0..connections {
            let key = model::ObjectKey::new("ns", format!("vpn{number}"));
            self.wanted.insert(Claim::Vpn(key), wanted(1));
        }
        self.tell_wanted();
    }

    pub(crate) fn tell_wanted(&mut self) {
        for edge in 0..self.edges.len() {
            let wanted = self.wanted.clone();
            self.with(edge, |engine, now| engine.want(now, wanted));
        }
    }

    pub(crate) fn share(&mut self, share: f64) -> bool {
        self.random.f64() < share
    }

    /// Adds an edge whose clock is as far off as it likes, and goes up to 1 % wrong.
    pub(crate) fn add_edge(&mut self) -> usize {
        let offset = Duration::from_millis(self.random.u64(0..10_000_000));
        let rate = 1.0 + (self.random.f64() - 0.5) * 0.02;
        self.edges.push(Edge {
            name: format!("edge-{}", self.edges.len() + 1),
            engine: None,
            life: 0,
            base: Instant::now() + offset,
            rate,
            paused_until: 0,
            reaches_api: true,
            watching: false,
            active: BTreeMap::new(),
            published: BTreeSet::new(),
            offers: BTreeSet::new(),
            events: Vec::new(),
            asked: Vec::new(),
            next_wake: None,
            told: 0,
            until: None,
        });
        self.edges.len() - 1
    }

    /// Adds edges and starts them.
    pub(crate) fn start_edges(&mut self, count: usize) {
        for _ in 0..count {
            let edge = self.add_edge();
            self.start(edge);
        }
    }

    /// Starts an edge, which takes off what is left of its last life.
    pub(crate) fn start(&mut self, edge: usize) {
        let alone_by_name = self.random.bool();
        let process = self.random.u64(..);
        let now = self.now;
        let one = &mut self.edges[edge];
        one.life += 1;
        one.watching = false;
        one.paused_until = 0;
        for (claim, end) in std::mem::take(&mut one.active) {
            self.let_go.insert(claim, end.min(now));
        }
        one.published.clear();
        let settings =
            Settings { name: one.name.clone(), process, alone_by_name, ..self.settings.clone() };
        one.engine = Some(Engine::new(settings));
        one.until = None;
        one.next_wake = None;
        let (offers, wanted) = (one.offers.clone(), self.wanted.clone());
        let life = one.life;
        self.note(|| format!("edge {edge} starts, life {life}"));
        self.with(edge, |engine, now| {
            engine.offer(now, offers);
            engine.want(now, wanted);
        });
        self.list(edge, 1_000);
    }

    /// It is gone without a word. Its addresses stay for as long as the kernel leaves them.
    pub(crate) fn crash(&mut self, edge: usize) {
        self.note(|| format!("edge {edge} crashes"));
        self.edges[edge].engine = None;
        self.edges[edge].life += 1;
    }

    pub(crate) fn pause(&mut self, edge: usize, micros: u64) {
        self.note(|| format!("edge {edge} is paused for {micros} µs"));
        self.edges[edge].paused_until = self.now + micros;
    }

    pub(crate) fn stop(&mut self, edge: usize) {
        self.note(|| format!("edge {edge} is told to stop"));
        self.with(edge, Engine::stop);
    }

    pub(crate) fn drain(&mut self, edge: usize, drain: bool) {
        self.note(|| format!("edge {edge} drains: {drain}"));
        self.with(edge, |engine, now| engine.drain(now, drain));
    }

    pub(crate) fn offer<const N: usize>(&mut self, edge: usize, offers: [String; N]) {
        self.note(|| format!("edge {edge} offers {offers:?}"));
        self.edges[edge].offers = offers.clone().into();
        self.with(edge, |engine, now| engine.offer(now, offers.into()));
    }

    pub(crate) fn sight(&mut self, edge: usize, sight: Sight) {
        self.note(|| format!("edge {edge}'s sight: {sight:?}"));
        self.with(edge, |engine, now| engine.sight(now, sight));
    }

    pub(crate) fn reach_api(&mut self, edge: usize, reaches: bool) {
        self.note(|| format!("edge {edge} reaches the API: {reaches}"));
        self.edges[edge].reaches_api = reaches;
        if reaches {
            self.watch_again(edge);
        } else {
            self.edges[edge].watching = false;
        }
    }

    pub(crate) fn set_api(&mut self, up: bool) {
        self.note(|| format!("the API is up: {up}"));
        self.api_up = up;
        for edge in 0..self.edges.len() {
            if up {
                self.watch_again(edge);
            } else {
                self.edges[edge].watching = false;
            }
        }
    }

    pub(crate) fn cut(&mut self, a: usize, b: usize, cut: bool) {
        self.note(|| format!("edges {a} and {b} are cut: {cut}"));
        let pair = (a.min(b), a.max(b));
        if cut {
            self.cut.insert(pair);
        } else {
            self.cut.remove(&pair);
        }
    }

    fn watch_again(&mut self, edge: usize) {
        let delay = self.random.u64(1_000..500_000);
        self.list(edge, delay);
    }

    fn list(&mut self, edge: usize, delay: u64) {
        let life = self.edges[edge].life;
        self.push(self.now + delay, Item::List { edge, life });
    }

    fn push(&mut self, at: u64, item: Item) {
        self.next += 1;
        self.items.push(Reverse((at, self.next)));
        self.contents.insert(self.next, item);
    }

    fn between(&mut self, (from, to): (u64, u64)) -> u64 {
        self.random.u64(from..=to)
    }

    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push(format!("{:>12.6} {}", self.now as f64 / 1e6, line()));
        }
    }

    fn local(&self, edge: usize, at: u64) -> Instant {
        let edge = &self.edges[edge];
        edge.base + Duration::from_nanos((at as f64 * 1000.0 * edge.rate) as u64)
    }

    fn truly(&self, edge: usize, at: Instant) -> u64 {
        let edge = &self.edges[edge];
        let passed = at.saturating_duration_since(edge.base).as_nanos() as f64;
        (passed / edge.rate / 1000.0) as u64
    }

    /// Does something with an engine, then all that follows.
    fn with(&mut self, edge: usize, act: impl FnOnce(&mut Engine, Instant)) {
        let now = self.local(edge, self.now);
        if let Some(engine) = &mut self.edges[edge].engine {
            act(engine, now);
            self.drive(edge);
        }
    }

    fn drive(&mut self, edge: usize) {
        let life = self.edges[edge].life;
        while let Some(Some((id, request))) =
            self.edges[edge].engine.as_mut().map(Engine::poll_request)
        {
            self.note(|| format!("edge {edge} asks {id} {}", short(&request)));
            if let Request::Update(lease) = &request {
                self.edges[edge].asked.push(lease.name.clone());
            }
            self.send(edge, life, id, request);
        }
        while let Some(Some((to, message))) =
            self.edges[edge].engine.as_mut().map(Engine::poll_message)
        {
            self.say(edge, &to, message);
        }
        let mut lost = Vec::new();
        while let Some(Some(event)) = self.edges[edge].engine.as_mut().map(Engine::poll_event) {
            self.note(|| format!("edge {edge}: {event:?}"));
            if let Event::Lost(claim) = &event {
                lost.push(claim.clone());
            }
            self.edges[edge].events.push((self.now, event));
        }
        for claim in lost {
            let delay = self.between(self.weather.removal);
            self.push(self.now + delay, Item::GaveUp { edge, life, claim });
        }
        let changed = self.edges[edge].events.len() > self.edges[edge].told;
        self.edges[edge].told = self.edges[edge].events.len();
        self.publish(edge, changed);
        let Some(engine) = &self.edges[edge].engine else { return };
        let Some(wake) = engine.poll_timeout() else { return };
        let at = self.truly(edge, wake).max(self.now) + 20;
        if self.edges[edge].next_wake.is_none_or(|next| at < next || next <= self.now) {
            self.edges[edge].next_wake = Some(at);
            self.push(at, Item::Wake { edge, life });
        }
    }

    fn send(&mut self, edge: usize, life: u64, id: u64, request: Request) {
        let reaches = self.edges[edge].reaches_api && self.api_up;
        if !reaches && self.share(0.3) {
            let answer = Answer::Failed;
            return self.push(self.now + 1_000, Item::Answer { edge, life, id, answer });
        }
        if reaches {
            let mut way = self.between(self.weather.way);
            if self.share(self.weather.late) {
                way = self.random.u64(300_000..6_000_000);
            }
            self.push(self.now + way, Item::ToApi { edge, life, id, request });
        }
        let answer = Answer::Unknown;
        self.push(self.now + TIMEOUT, Item::Answer { edge, life, id, answer });
    }

    fn say(&mut self, from: usize, to: &str, message: Message) {
        let Some(to) = self.edges.iter().position(|edge| edge.name == to) else { return };
        let again = self.share(self.weather.loss);
        for _ in 0..=usize::from(again) {
            let mut way = self.between(self.weather.hop);
            if self.share(self.weather.loss) {
                way += self.random.u64(0..3_000_000);
            }
            if !self.share(self.weather.loss) {
                self.push(self.now + way, Item::Message { from, to, message });
            }
        }
    }

    /// Takes on what an edge holds, and sees that nobody else does.
    fn publish(&mut self, edge: usize, changed: bool) {
        let Some(engine) = &self.edges[edge].engine else { return };
        if !changed && engine.until() == self.edges[edge].until {
            return;
        }
        self.edges[edge].until = engine.until();
        let Some(engine) = &self.edges[edge].engine else { return };
        let holding = engine.holding();
        let until = holding.until.map_or(0, |until| self.truly(edge, until));
        let published: BTreeSet<Claim> = holding.claims.keys().cloned().collect();
        for claim in &published {
            let before = self.edges[edge].active.insert(claim.clone(), until);
            if until <= self.now {
                continue;
            }
            let others = self.edges.iter().enumerate().filter(|(other, _)| *other != edge);
            let mut holders = others
                .filter(|(_, other)| other.active.get(claim).is_some_and(|end| *end > self.now));
            if let Some((other, state)) = holders.next() {
                let end = state.active[claim];
                panic!("{claim} is held by edges {edge} and {other} at {}: {end}", self.now);
            }
            if before.is_none_or(|before| before <= self.now) {
                self.took(edge, claim);
            }
        }
        self.edges[edge].published = published;
    }

    fn took(&mut self, edge: usize, claim: &Claim) {
        let last = self.last_holder.insert(claim.clone(), edge);
        if last.is_some_and(|last| last != edge) {
            self.moved += 1;
            let since = self.let_go.get(claim).copied().unwrap_or(self.now);
            self.longest_gap = self.longest_gap.max(self.now.saturating_sub(since));
        }
    }

    fn is_for(&self, edge: usize, life: u64) -> bool {
        self.edges[edge].life == life && self.edges[edge].engine.is_some()
    }

    /// Whether a paused edge is to get it later.
    fn is_deferred(&self, item: &Item) -> Option<u64> {
        let (Item::Answer { edge, .. }
        | Item::Watch { edge, .. }
        | Item::Listed { edge, .. }
        | Item::List { edge, .. }
        | Item::Wake { edge, .. }
        | Item::GaveUp { edge, .. }
        | Item::Message { to: edge, .. }) = item
        else {
            return None;
        };
        Some(self.edges[*edge].paused_until).filter(|until| *until > self.now)
    }

    fn handle(&mut self, item: Item) {
        if let Some(until) = self.is_deferred(&item) {
            return self.push(until, item);
        }
        match item {
            Item::ToApi { edge, life, id, request } => self.at_api(edge, life, id, &request),
            Item::Answer { edge, life, id, answer } if self.is_for(edge, life) => {
                self.with(edge, |engine, now| engine.answer(now, id, answer));
            }
            Item::Watch { edge, life, change } if self.is_for(edge, life) => match change {
                Change::Seen(lease) => self.with(edge, |engine, now| engine.seen(now, &lease)),
                Change::Gone(name, version) => {
                    self.with(edge, |engine, now| engine.gone(now, &name, &version));
                }
            },
            Item::List { edge, life } if self.is_for(edge, life) => self.list_now(edge, life),
            Item::Listed { edge, life, leases } if self.is_for(edge, life) => {
                self.with(edge, |engine, now| engine.listed(now, &leases));
            }
            Item::Message { from, to, message } => {
                let pair = (from.min(to), from.max(to));
                if self.edges[to].engine.is_some() && !self.cut.contains(&pair) {
                    let name = self.edges[from].name.clone();
                    let octets = message.encode(&name);
                    let (name, message) = Message::decode(&octets).unwrap();
                    self.note(|| format!("edge {to} hears {from}: {message:?}"));
                    self.with(to, |engine, now| engine.message(now, &name, message));
                }
            }
            Item::Wake { edge, life } if self.is_for(edge, life) => {
                self.edges[edge].next_wake = None;
                self.with(edge, Engine::handle_timeout);
            }
            Item::GaveUp { edge, life, claim } if self.is_for(edge, life) => {
                if !self.edges[edge].published.contains(&claim)
                    && let Some(end) = self.edges[edge].active.remove(&claim)
                {
                    self.let_go.insert(claim.clone(), end.min(self.now));
                }
                self.with(edge, |engine, now| engine.gave_up(now, &claim));
            }
            _ => {}
        }
    }

    fn list_now(&mut self, edge: usize, life: u64) {
        if !self.api_up || !self.edges[edge].reaches_api {
            return self.list(edge, 300_000);
        }
        self.edges[edge].watching = true;
        let leases = self.api.leases.values().cloned().collect();
        let way = self.between(self.weather.way);
        self.push(self.now + way, Item::Listed { edge, life, leases });
    }

    fn at_api(&mut self, edge: usize, life: u64, id: u64, request: &Request) {
        if !self.api_up {
            return;
        }
        let (answer, change) = self.api.handle(request);
        self.note(|| format!("api: edge {edge} request {id}: {}", brief(&answer)));
        if self.edges[edge].reaches_api && !self.share(self.weather.late) {
            let way = self.between(self.weather.way);
            self.push(self.now + way, Item::Answer { edge, life, id, answer });
        }
        if let Some(change) = change {
            self.spread(&change);
        }
    }

    /// Tells all who watch.
    pub(crate) fn spread(&mut self, change: &Change) {
        for edge in 0..self.edges.len() {
            if !self.edges[edge].watching || self.edges[edge].engine.is_none() {
                continue;
            }
            let life = self.edges[edge].life;
            if self.share(self.weather.dropped) {
                self.edges[edge].watching = false;
                self.watch_again(edge);
                continue;
            }
            let lag = self.between(self.weather.lag);
            self.push(self.now + lag, Item::Watch { edge, life, change: change.clone() });
            if self.share(self.weather.replayed) {
                let back = self.random.usize(0..self.api.history.len().min(60));
                let old = self.api.history[self.api.history.len() - 1 - back].clone();
                let lag = lag + self.between(self.weather.lag);
                self.push(self.now + lag, Item::Watch { edge, life, change: old });
            }
        }
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, micros: u64) {
        self.run_until(micros, |_| false);
    }

    /// Lets time pass until something is so, for so long at most. Says whether it is.
    pub(crate) fn run_until(&mut self, micros: u64, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + micros;
        loop {
            if done(self) {
                return true;
            }
            match self.items.peek() {
                Some(Reverse((at, _))) if *at <= end => {}
                _ => break,
            }
            let Some(Reverse((at, number))) = self.items.pop() else { break };
            self.now = self.now.max(at);
            if let Some(item) = self.contents.remove(&number) {
                self.handle(item);
            }
        }
        self.now = end;
        done(self)
    }

    /// Who exercises a claim now.
    pub(crate) fn holder(&self, claim: &Claim) -> Option<usize> {
        self.edges.iter().position(|edge| {
            edge.engine.is_some()
                && edge.published.contains(claim)
                && edge.active.get(claim).is_some_and(|end| *end > self.now)
        })
    }

    pub(crate) fn all_held(&self) -> bool {
        self.wanted.keys().all(|claim| self.holder(claim).is_some())
    }

    /// Whether everything is held, by others than one edge.
    pub(crate) fn all_held_elsewhere(edge: usize) -> impl Fn(&Self) -> bool {
        move |world| {
            let holder = |claim| world.holder(claim).is_some_and(|holder| holder != edge);
            world.wanted.keys().all(holder)
        }
    }

    /// How many claims an edge exercises.
    pub(crate) fn count(&self, edge: usize) -> usize {
        self.wanted.keys().filter(|claim| self.holder(claim) == Some(edge)).count()
    }

    /// How a claim came to its last holder.
    pub(crate) fn former(&self, edge: usize, claim: &Claim) -> Option<Former> {
        let events = self.edges[edge].events.iter().rev();
        events.map(|(_, event)| event).find_map(|event| match event {
            Event::Held(of, Held { former, .. }) if of == claim => Some(*former),
            _ => None,
        })
    }

    pub(crate) fn describe(&self) -> String {
        let mut text = format!("seed {} at {}\n", self.seed, self.now);
        for (number, edge) in self.edges.iter().enumerate() {
            text += &format!(
                "edge {number}: alive {} api {} holds {}\n",
                edge.engine.is_some(),
                edge.reaches_api,
                self.count(number)
            );
        }
        for claim in self.wanted.keys().filter(|claim| self.holder(claim).is_none()) {
            let lease = self.api.leases.get(&holding::lease::claim_lease(claim));
            text += &format!("{claim} is held by nobody: {lease:?}\n");
        }
        text
    }
}

fn short(request: &Request) -> String {
    match request {
        Request::Create(lease) => format!("create {} {:?}", lease.name, lease.holder),
        Request::Update(lease) => {
            format!("update {} {:?} at {}", lease.name, lease.holder, lease.version)
        }
        Request::Read(name) => format!("read {name}"),
    }
}

fn brief(answer: &Answer) -> String {
    match answer {
        Answer::Read(lease) => format!("read {:?} at {}", lease.holder, lease.version),
        other => format!("{other:?}"),
    }
}
