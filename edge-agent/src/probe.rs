//! The thread that asks the edges whether they are there.
//!
//! Each edge is asked over every way that the plan has to it; more than one while keys are being
//! changed. That it answers over any of them counts for it ([`overlay::choice`]); the best of
//! those that it answers on is the one to take.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use netdev::wait::{self, Waker};
use overlay::PrivateKey;
use overlay::choice::{Choice, Chosen, State, Taken, Timing, Told};
use overlay::probe::{Body, Message, Nonce, Pair, Probe};
use plan::overlay::{Path, ProbeTarget};

mod statistics;

pub use statistics::{BUCKETS, EdgeStatistics, Statistics};

/// The longest time without a look at the clock.
const LONGEST: Duration = Duration::from_secs(1);
/// How many datagrams are taken from a socket at once: a flood of them holds up no probe.
const BATCH: usize = 64;
/// A rest where something can't be waited for.
const REST: Duration = Duration::from_millis(50);

/// One way to ask an edge.
#[derive(Clone, Debug, PartialEq)]
pub struct Aim {
    /// Whom, and where.
    pub target: ProbeTarget,
    /// The own address to ask from: that of the tunnel that it goes through.
    pub source: Option<IpAddr>,
    /// The way that it tries.
    pub path: Path,
    /// The node's key that messages are sealed with.
    pub key: PrivateKey,
    /// Its generation.
    pub generation: u64,
}

impl Aim {
    /// The address to ask from.
    fn source(&self) -> IpAddr {
        self.source.unwrap_or_else(|| netdev::udp::wildcard(self.target.address.ip()))
    }
}

/// What is to be asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Orders {
    /// The ways to each edge, the best first.
    pub aims: BTreeMap<String, Vec<Aim>>,
    /// All edges, with what they say of themselves in the cluster.
    pub told: BTreeMap<String, Told>,
}

/// What has come of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// By edge.
    pub edges: BTreeMap<String, Finding>,
    /// By which edge what goes.
    pub chosen: Chosen,
}

impl Findings {
    /// Whether an edge answers.
    pub fn is_alive(&self, edge: &str) -> bool {
        self.edges.get(edge).is_some_and(|found| found.state == State::Alive)
    }
}

/// What has come of it with one edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How it is.
    pub state: State,
    /// The way that it answers on.
    pub path: Option<Path>,
    /// Whether it answers over all ways there are.
    pub all: bool,
    /// Whether it wants to be left.
    pub drain: bool,
}

/// The thread. It ends when dropped.
#[derive(Debug)]
pub struct Prober {
    shared: Arc<Shared>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    inbox: Mutex<Inbox>,
    statistics: Mutex<Statistics>,
}

#[derive(Debug, Default)]
struct Inbox {
    orders: Option<Orders>,
    end: bool,
}

impl Prober {
    /// Starts it, in the network namespace of the calling thread. `report` is called on it
    /// whenever something is new.
    ///
    /// # Errors
    /// There is no thread or no descriptor left.
    pub fn start(
        node: &str,
        timing: Timing,
        report: impl FnMut(Findings) + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let waker = Waker::new()?;
        let mut worker =
            Worker::new(node, timing, Arc::clone(&shared), waker.clone(), Box::new(report));
        let thread = std::thread::Builder::new()
            .name("agent-probe".to_owned())
            .spawn(move || worker.run())?;
        Ok(Self { shared, waker, thread: Some(thread) })
    }

    /// What is to be asked from now on.
    pub fn order(&self, orders: Orders) {
        lock(&self.shared.inbox).orders = Some(orders);
        self.waker.wake();
    }

    /// What was counted so far.
    pub fn statistics(&self) -> Statistics {
        lock(&self.shared.statistics).clone()
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        lock(&self.shared.inbox).end = true;
        self.waker.wake();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the agent-probe thread panicked");
        }
    }
}

/// An aim, and what has come of it.
struct Tracked {
    aim: Aim,
    pair: Pair,
    /// When an answer came last.
    answered: Option<Instant>,
    /// When one came last to a probe that asked for this way to be taken.
    confirmed: Option<Instant>,
}

/// Probes to one edge at one time.
struct Round {
    /// What [`Choice`] knows them by.
    nonce: Nonce,
    /// Each one sent: the way, its own nonce, and whether it asked for its way to be taken.
    sent: Vec<(Path, Nonce, bool)>,
}

#[derive(Default)]
struct Edge {
    tracked: Vec<Tracked>,
    rounds: VecDeque<Round>,
    path: Option<Path>,
    drain: bool,
}

impl Edge {
    /// Takes over ways, with what is known of those that were there before.
    fn aim(&mut self, name: &str, aims: Vec<Aim>) {
        let mut before = std::mem::take(&mut self.tracked);
        for aim in aims {
            let known = before.iter().position(|tracked| tracked.aim == aim);
            if let Some(place) = known {
                self.tracked.push(before.swap_remove(place));
                continue;
            }
            match Pair::new(&aim.key, &aim.target.key) {
                Ok(pair) => {
                    self.tracked.push(Tracked { aim, pair, answered: None, confirmed: None });
                }
                Err(error) => tracing::warn!(edge = name, %error, "this edge can't be asked"),
            }
        }
    }

    /// The best way of those that are alive and the edge was asked to take; failing that, the
    /// present one, and then any.
    fn choose_path(&mut self, now: Instant, alive: Duration) {
        let lives =
            |at: Option<Instant>| at.is_some_and(|at| now.saturating_duration_since(at) <= alive);
        let confirmed = self.tracked.iter().find(|tracked| lives(tracked.confirmed));
        let present = self.path.as_ref();
        let stays = self
            .tracked
            .iter()
            .find(|tracked| lives(tracked.answered) && Some(&tracked.aim.path) == present);
        let any = || self.tracked.iter().find(|tracked| lives(tracked.answered));
        if let Some(tracked) = confirmed.or(stays).or_else(any) {
            self.path = Some(tracked.aim.path);
        }
    }
}

struct Worker {
    node: String,
    timing: Timing,
    choice: Choice,
    edges: BTreeMap<String, Edge>,
    /// By the address that they send from.
    sockets: BTreeMap<IpAddr, UdpSocket>,
    sequence: u64,
    reported: Findings,
    shared: Arc<Shared>,
    waker: Waker,
    report: Box<dyn FnMut(Findings) + Send>,
}

impl Worker {
    fn new(
        node: &str,
        timing: Timing,
        shared: Arc<Shared>,
        waker: Waker,
        report: Box<dyn FnMut(Findings) + Send>,
    ) -> Self {
        Self {
            node: node.to_owned(),
            timing,
            choice: Choice::new(node, timing),
            edges: BTreeMap::new(),
            sockets: BTreeMap::new(),
            sequence: 0,
            reported: Findings::default(),
            shared,
            waker,
            report,
        }
    }

    fn run(&mut self) {
        let mut buffer = vec![0; overlay::probe::LARGEST];
        loop {
            self.wait();
            let inbox = std::mem::take(&mut *lock(&self.shared.inbox));
            if inbox.end {
                return;
            }
            if let Some(orders) = inbox.orders {
                self.take(orders);
            }
            self.receive(&mut buffer);
            let now = Instant::now();
            for due in self.choice.due(now) {
                self.probe(&due.edge, due.knows);
            }
            self.choice.tick(Instant::now());
            self.tell();
        }
    }

    fn wait(&self) {
        let left = self.choice.next().map(|next| next.saturating_duration_since(Instant::now()));
        let mut fds = vec![self.waker.as_fd()];
        fds.extend(self.sockets.values().map(AsFd::as_fd));
        match wait::any(&fds, Some(left.unwrap_or(LONGEST).min(LONGEST))) {
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%error, "waiting for answers");
                std::thread::sleep(REST);
            }
        }
        self.waker.clear();
    }

    fn take(&mut self, orders: Orders) {
        self.edges.retain(|name, _| orders.aims.contains_key(name));
        let sources: Vec<_> = orders.aims.values().flatten().map(Aim::source).collect();
        self.sockets.retain(|source, _| sources.contains(source));
        for (name, aims) in orders.aims {
            self.edges.entry(name.clone()).or_default().aim(&name, aims);
        }
        self.choice.set_edges(orders.told, Instant::now());
        lock(&self.shared.statistics).retain(|name| self.edges.contains_key(name));
    }

    /// Asks an edge over all ways.
    fn probe(&mut self, name: &str, knows: u64) {
        let nonce = wireguard::random::nonce();
        let Some(edge) = self.edges.get_mut(name) else {
            // There is no way to it: as if it had not answered.
            self.choice.sent(name, nonce, Instant::now());
            return;
        };
        let mut round = Round { nonce, sent: Vec::new() };
        let best = edge.tracked.iter().position(|tracked| tracked.answered.is_some());
        let only = edge.tracked.len() == 1;
        for (place, tracked) in edge.tracked.iter().enumerate() {
            self.sequence = overlay::probe::next_sequence(self.sequence, micros());
            let use_key = only || Some(place) == best;
            let message = Message {
                sequence: self.sequence,
                answers: None,
                body: Body::Probe(Probe {
                    node: self.node.clone(),
                    generation: tracked.aim.generation,
                    use_key,
                    knows,
                }),
            };
            let own = wireguard::random::nonce();
            let Ok(datagram) = tracked.pair.seal(own, &message) else { continue };
            let target = &tracked.aim.target;
            let source = tracked.aim.source();
            let sent = socket(&mut self.sockets, source)
                .and_then(|socket| socket.send_to(&datagram, target.address));
            match sent {
                Ok(_) => round.sent.push((tracked.aim.path, own, use_key)),
                Err(error) => {
                    tracing::debug!(edge = name, address = %target.address, %error, "probing");
                    // The address may have gone, and be back by the next time.
                    self.sockets.remove(&source);
                }
            }
        }
        edge.rounds.push_back(round);
        while edge.rounds.len() > 2 * self.timing.misses {
            edge.rounds.pop_front();
        }
        lock(&self.shared.statistics).sent(name);
        self.choice.sent(name, nonce, Instant::now());
    }

    fn receive(&mut self, buffer: &mut [u8]) {
        let keys: Vec<_> = self.sockets.keys().copied().collect();
        for key in keys {
            for _ in 0..BATCH {
                let Some(socket) = self.sockets.get(&key) else { break };
                match socket.recv_from(buffer) {
                    Ok((length, _)) => {
                        let datagram = buffer.get(..length).unwrap_or_default().to_vec();
                        self.answered(&datagram);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // What ICMP tells of an earlier probe.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                    Err(error) => {
                        tracing::debug!(%error, "receiving answers");
                        self.sockets.remove(&key);
                    }
                }
            }
        }
    }

    fn answered(&mut self, datagram: &[u8]) {
        let now = Instant::now();
        for (name, edge) in &mut self.edges {
            let opened = edge.tracked.iter().find_map(|tracked| tracked.pair.open(datagram).ok());
            let Some((_, message)) = opened else { continue };
            let Some(nonce) = message.answers else { return };
            let answer = match message.body {
                Body::Answer(answer) => answer,
                Body::Behind(last) => {
                    // Only of what was asked: repeated, it says nothing new.
                    let mut sent = edge.rounds.iter().flat_map(|round| &round.sent);
                    if sent.any(|(_, own, _)| *own == nonce) {
                        tracing::warn!(edge = name, "this machine's clock was set back");
                        self.sequence = overlay::probe::caught_up(self.sequence, last, micros());
                    }
                    return;
                }
                _ => return,
            };
            if answer.edge != *name {
                return;
            }
            let found = edge.rounds.iter().find_map(|round| {
                let sent = round.sent.iter().find(|(_, own, _)| *own == nonce)?;
                Some((round.nonce, sent.0, sent.2))
            });
            let Some((round, path, use_key)) = found else { return };
            if let Some(tracked) = edge.tracked.iter_mut().find(|found| found.aim.path == path) {
                tracked.answered = Some(now);
                if use_key {
                    tracked.confirmed = Some(now);
                }
            }
            if self.choice.answered(name, round, &answer, now) != Taken::Refused {
                edge.drain = answer.drain;
                let (_, took) = self.choice.state(name).unwrap_or((State::Unknown, None));
                if let Some(took) = took {
                    lock(&self.shared.statistics).answered(name, took);
                }
            }
            return;
        }
    }

    /// Tells what is new.
    fn tell(&mut self) {
        let now = Instant::now();
        let misses = u32::try_from(self.timing.misses).unwrap_or(u32::MAX);
        let alive = self.timing.interval * misses + self.timing.patience;
        let mut findings = Findings { chosen: self.choice.chosen(), ..Findings::default() };
        for (name, edge) in &mut self.edges {
            edge.choose_path(now, alive);
            let Some((state, _)) = self.choice.state(name) else { continue };
            let all = edge.tracked.iter().all(|tracked| {
                tracked.answered.is_some_and(|at| now.saturating_duration_since(at) <= alive)
            });
            let finding = Finding { state, path: edge.path, all, drain: edge.drain };
            findings.edges.insert(name.clone(), finding);
        }
        if findings != self.reported {
            self.reported.clone_from(&findings);
            (self.report)(findings);
        }
    }
}

/// The socket that sends from an address.
fn socket(sockets: &mut BTreeMap<IpAddr, UdpSocket>, source: IpAddr) -> io::Result<&UdpSocket> {
    use std::collections::btree_map::Entry;
    match sockets.entry(source) {
        Entry::Occupied(found) => Ok(found.into_mut()),
        Entry::Vacant(place) => {
            let socket = UdpSocket::bind(SocketAddr::new(source, 0))?;
            socket.set_nonblocking(true)?;
            Ok(place.insert(socket))
        }
    }
}

/// Microseconds since 1970.
fn micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
