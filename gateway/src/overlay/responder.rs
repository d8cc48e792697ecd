//! The thread that answers agents' probes, and so learns which nodes live and by which way they
//! come; letters among edges go the same way.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use model::PublicKey;
use netdev::wait::{self, Waker};
use overlay::PrivateKey;
use overlay::probe::{self, Answer, Body, Fresh, Hint, Holds, Message, Pair};
use plan::overlay::Path;
use tokio::sync::watch;

use crate::edges::Holdings;

/// A node that hasn't asked for so long is gone: three probes of an agent, and some patience.
pub(super) const LOST: Duration = Duration::from_millis(1000);
/// What is late by less has only been overtaken on its way.
const BEHIND: Duration = Duration::from_secs(2);
/// Between two looks at the clock.
const TICK: Duration = Duration::from_millis(100);
/// Before an address that can't be listened on is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// Datagrams of one socket before the others are looked after.
const BATCH: usize = 256;
/// Letters that may wait to be sent.
const LETTERS: usize = 256;

/// Who may ask.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Asker {
    /// The agent of this Node.
    Node(String),
    /// This EdgeGateway.
    Edge(String),
}

/// What is to be answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Orders {
    /// The EdgeGateway's name.
    pub(super) edge: String,
    /// Its keys, the one in use first.
    pub(super) keys: Vec<PrivateKey>,
    /// Where to listen; inside of the tunnels of a key, or on the underlay.
    pub(super) listen: BTreeMap<SocketAddr, Option<PublicKey>>,
    /// Who may ask, by key.
    pub(super) askers: BTreeMap<PublicKey, Asker>,
    /// Where the other edges are, with the key to write to them.
    pub(super) edges: BTreeMap<String, (PublicKey, SocketAddr)>,
    /// What this edge holds, until when at most.
    pub(super) holds: Holds,
    /// See there; none for ever.
    pub(super) until: Option<watch::Receiver<Arc<Holdings>>>,
    /// Its incarnation.
    pub(super) incarnation: u64,
    /// Whether it wants to be left.
    pub(super) drain: bool,
}

/// What is heard of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Whether it asks.
    pub(super) live: bool,
    /// The way that it wants to be reached.
    pub(super) path: Option<Path>,
    /// All ways that it is heard by.
    pub(super) over: BTreeSet<Path>,
}

/// By Node.
pub(super) type Findings = BTreeMap<String, Seen>;

/// How often what happened.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) answered: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) replayed: AtomicU64,
    pub(super) letters: AtomicU64,
}

/// Where letters of other edges go: name and content.
pub type Letters = Box<dyn FnMut(String, Vec<u8>) + Send>;

/// The thread. It ends when dropped.
#[derive(Debug)]
pub(super) struct Responder {
    shared: Arc<Shared>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    inbox: Mutex<Inbox>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Inbox {
    orders: Option<Orders>,
    letters: Vec<(String, Vec<u8>)>,
    end: bool,
}

/// A way to send letters, from any thread.
#[derive(Clone, Debug)]
pub(super) struct Post {
    shared: Arc<Shared>,
    waker: Waker,
}

impl Post {
    /// Sends octets to another edge, if it can be reached; they may be lost.
    pub(super) fn send(&self, edge: String, octets: Vec<u8>) {
        let mut inbox = lock(&self.shared.inbox);
        if inbox.letters.len() < LETTERS {
            inbox.letters.push((edge, octets));
        }
        drop(inbox);
        self.waker.wake();
    }
}

impl Responder {
    /// Starts it, in the network namespace of the calling thread. `report` is called on it
    /// whenever something is new, `letters` for what other edges write.
    pub(super) fn start(
        report: impl FnMut(Findings) + Send + 'static,
        letters: Letters,
    ) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let waker = Waker::new()?;
        let mut worker = Worker {
            orders: Orders::default(),
            sockets: BTreeMap::new(),
            pairs: BTreeMap::new(),
            fresh: Fresh::default(),
            told: BTreeSet::new(),
            nodes: BTreeMap::new(),
            reported: Findings::new(),
            sequence: 0,
            again: None,
            shared: Arc::clone(&shared),
            waker: waker.clone(),
            report: Box::new(report),
            letters,
        };
        let thread = std::thread::Builder::new()
            .name("overlay-probes".to_owned())
            .spawn(move || worker.run())?;
        Ok(Self { shared, waker, thread: Some(thread) })
    }

    /// What is to be answered from now on.
    pub(super) fn order(&self, orders: Orders) {
        lock(&self.shared.inbox).orders = Some(orders);
        self.waker.wake();
    }

    /// For letters.
    pub(super) fn post(&self) -> Post {
        Post { shared: Arc::clone(&self.shared), waker: self.waker.clone() }
    }

    /// Answered and refused probes, replayed ones, and letters taken.
    pub(super) fn counts(&self) -> [u64; 4] {
        let Counts { answered, refused, replayed, letters } = &self.shared.counts;
        [answered, refused, replayed, letters].map(|count| count.load(Ordering::Relaxed))
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        lock(&self.shared.inbox).end = true;
        self.waker.wake();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the overlay-probes thread panicked");
        }
    }
}

#[derive(Default)]
struct Node {
    /// The way that it wants to be reached, and when it said so last.
    path: Option<Path>,
    over: BTreeMap<Path, Instant>,
}

struct Worker {
    orders: Orders,
    sockets: BTreeMap<SocketAddr, UdpSocket>,
    /// By own key and the other's, as datagrams have them.
    pairs: BTreeMap<(Hint, Hint), (PublicKey, Pair)>,
    fresh: Fresh,
    /// Those of whom it was logged that their clocks were set back.
    told: BTreeSet<PublicKey>,
    nodes: BTreeMap<String, Node>,
    reported: Findings,
    sequence: u64,
    /// When addresses that can't be listened on are tried again.
    again: Option<Instant>,
    shared: Arc<Shared>,
    waker: Waker,
    report: Box<dyn FnMut(Findings) + Send>,
    letters: Letters,
}

impl Worker {
    fn run(&mut self) {
        let mut buffer = vec![0; probe::LARGEST];
        loop {
            self.wait();
            let inbox = std::mem::take(&mut *lock(&self.shared.inbox));
            if inbox.end {
                return;
            }
            if let Some(orders) = inbox.orders {
                self.take(orders);
            }
            if self.again.is_some_and(|at| at <= Instant::now()) {
                self.listen();
            }
            for (edge, octets) in inbox.letters {
                self.write(&edge, octets);
            }
            self.receive(&mut buffer);
            self.tell();
        }
    }

    fn wait(&self) {
        let mut fds = vec![self.waker.as_fd()];
        fds.extend(self.sockets.values().map(AsFd::as_fd));
        if let Err(error) = wait::any(&fds, Some(TICK)) {
            tracing::error!(%error, "waiting for probes");
            std::thread::sleep(TICK);
        }
        self.waker.clear();
    }

    fn take(&mut self, orders: Orders) {
        let before = std::mem::take(&mut self.pairs);
        let mut known: BTreeMap<(PublicKey, PublicKey), Pair> =
            before.into_iter().map(|(_, (own, pair))| ((own, *pair.other()), pair)).collect();
        for own in &orders.keys {
            let public = own.public();
            for key in orders.askers.keys() {
                let pair = match known.remove(&(public, *key)) {
                    Some(pair) => pair,
                    None => match Pair::new(own, key) {
                        Ok(pair) => pair,
                        Err(error) => {
                            tracing::warn!(%error, "nobody with this key is answered");
                            continue;
                        }
                    },
                };
                self.pairs.insert((Hint::of(&public), Hint::of(key)), (public, pair));
            }
        }
        self.fresh.retain(|key| orders.askers.contains_key(key));
        self.told.retain(|key| orders.askers.contains_key(key));
        let names: BTreeSet<&String> = orders
            .askers
            .values()
            .filter_map(|asker| match asker {
                Asker::Node(name) => Some(name),
                Asker::Edge(_) => None,
            })
            .collect();
        self.nodes.retain(|name, _| names.contains(name));
        self.sockets.retain(|address, _| orders.listen.contains_key(address));
        self.orders = orders;
        self.listen();
    }

    fn listen(&mut self) {
        self.again = None;
        for address in self.orders.listen.keys() {
            if self.sockets.contains_key(address) {
                continue;
            }
            let opened = UdpSocket::bind(address)
                .and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
            match opened {
                Ok(socket) => {
                    self.sockets.insert(*address, socket);
                }
                Err(error) => {
                    // The interface may not be there yet.
                    tracing::debug!(%address, %error, "probes can't be taken there yet");
                    self.again = Some(Instant::now() + AGAIN);
                }
            }
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) {
        let addresses: Vec<SocketAddr> = self.sockets.keys().copied().collect();
        for address in addresses {
            for _ in 0..BATCH {
                let Some(socket) = self.sockets.get(&address) else { break };
                match socket.recv_from(buffer) {
                    Ok((length, from)) => {
                        let datagram = buffer.get(..length).unwrap_or_default();
                        if let Some(answer) = self.datagram(address, datagram)
                            && let Some(socket) = self.sockets.get(&address)
                            && let Err(error) = socket.send_to(&answer, from)
                        {
                            tracing::debug!(%from, %error, "answering a probe");
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // What ICMP tells of an earlier answer.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                    Err(error) => {
                        tracing::debug!(%address, %error, "receiving probes");
                        self.sockets.remove(&address);
                        self.again = Some(Instant::now() + AGAIN);
                    }
                }
            }
        }
    }

    /// What has come, and what is sent back.
    fn datagram(&mut self, at: SocketAddr, datagram: &[u8]) -> Option<Vec<u8>> {
        let opened = probe::parties(datagram).ok().and_then(|(from, to)| {
            let (own, pair) = self.pairs.get(&(to, from))?;
            let (nonce, message) = pair.open(datagram).ok()?;
            Some((*own, *pair.other(), (to, from), nonce, message))
        });
        let counts = &self.shared.counts;
        let Some((own, key, place, nonce, message)) = opened else {
            counts.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        if let (Body::Behind(last), Some(Asker::Edge(_))) =
            (&message.body, self.orders.askers.get(&key))
        {
            // Of another edge, about a letter: letters aren't numbered otherwise.
            self.sequence = probe::caught_up(self.sequence, *last, micros());
            return None;
        }
        if !self.fresh.accept(&key, message.sequence) {
            counts.replayed.fetch_add(1, Ordering::Relaxed);
            let last = self.fresh.last(&key)?;
            let behind = Duration::from_micros(last.saturating_sub(message.sequence));
            if message.body.is_answer() || behind < BEHIND {
                return None;
            }
            if self.told.insert(key) {
                let asker = self.orders.askers.get(&key);
                tracing::warn!(?asker, ?behind, "its clock was set back, or it is repeated");
            }
            return self.seal(place, Some(nonce), Body::Behind(last));
        }
        let asker = self.orders.askers.get(&key)?;
        match (asker, message.body) {
            (Asker::Node(name), Body::Probe(asked)) if asked.node == *name => {
                let path = match self.orders.listen.get(&at)? {
                    None => Path::Direct,
                    // What came to another key's address is answered, but tells no way.
                    Some(inside) => Path::Tunnel { edge: *inside, node: key },
                };
                let node = self.nodes.entry(name.clone()).or_default();
                node.over.insert(path, Instant::now());
                if asked.use_key || node.path.is_none() {
                    node.path = Some(path);
                }
                let _ = own;
                counts.answered.fetch_add(1, Ordering::Relaxed);
                let body = Body::Answer(self.answer(asked.knows));
                self.seal(place, Some(nonce), body)
            }
            (Asker::Edge(name), Body::PromiseAsked(octets)) => {
                counts.letters.fetch_add(1, Ordering::Relaxed);
                let name = name.clone();
                (self.letters)(name, octets);
                None
            }
            _ => {
                counts.refused.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }

    fn answer(&self, knows: u64) -> Answer {
        let orders = &self.orders;
        // Whoever keeps it up to date may have been held up: then nobody is told anything else.
        let until = orders.until.as_ref().and_then(|holdings| holdings.borrow().until);
        let is_over = until.is_some_and(|until| until <= Instant::now());
        let holds = if is_over { Holds::default() } else { orders.holds.clone() };
        let hash = holds.hash();
        Answer {
            edge: orders.edge.clone(),
            incarnation: orders.incarnation,
            drain: orders.drain,
            hash,
            holds: (hash != knows).then_some(holds),
        }
    }

    fn seal(
        &mut self,
        place: (Hint, Hint),
        answers: Option<probe::Nonce>,
        body: Body,
    ) -> Option<Vec<u8>> {
        self.sequence = probe::next_sequence(self.sequence, micros());
        let message = Message { sequence: self.sequence, answers, body };
        let (_, pair) = self.pairs.get(&place)?;
        let sealed = pair.seal(wireguard::random::nonce(), &message);
        sealed.inspect_err(|error| tracing::warn!(%error, "an answer can't be sent")).ok()
    }

    /// Sends a letter to another edge.
    fn write(&mut self, edge: &str, octets: Vec<u8>) {
        let Some((key, to)) = self.orders.edges.get(edge).copied() else { return };
        let Some(own) = self.orders.keys.first().map(PrivateKey::public) else { return };
        let place = (Hint::of(&own), Hint::of(&key));
        let Some(sealed) = self.seal(place, None, Body::PromiseAsked(octets)) else { return };
        let underlay = self
            .orders
            .listen
            .iter()
            .find(|(address, inside)| inside.is_none() && address.is_ipv4() == to.is_ipv4());
        let socket = underlay.and_then(|(address, _)| self.sockets.get(address));
        if let Some(Err(error)) = socket.map(|socket| socket.send_to(&sealed, to)) {
            tracing::debug!(edge, %error, "writing to another edge");
        }
    }

    /// Tells what is new.
    fn tell(&mut self) {
        let now = Instant::now();
        let mut findings = Findings::new();
        for (name, node) in &mut self.nodes {
            node.over.retain(|_, at| now.saturating_duration_since(*at) < LOST);
            let live = !node.over.is_empty();
            if live && !node.path.is_some_and(|path| node.over.contains_key(&path)) {
                // What it wanted is no more.
                node.path = node.over.iter().max_by_key(|(_, at)| **at).map(|(path, _)| *path);
            }
            let over = node.over.keys().copied().collect();
            findings.insert(name.clone(), Seen { live, path: node.path, over });
        }
        if findings != self.reported {
            self.reported.clone_from(&findings);
            (self.report)(findings);
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
