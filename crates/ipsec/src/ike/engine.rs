//! The engine: all connections and IKE SAs, and what happens next.
//!
//! An exchange is three functions, and a line in each of three tables:
//!
//! 1. *Request made*: a variant of [`Task`](super::sa::Task) waits in `IkeSa::queue` (one request
//!    is under way at a time); `exchange::begin_task` takes it and calls
//!    `fn begin(engine, now, sa, …)`, which ends with
//!    `engine.request(now, sa, Exchange, payloads, Ongoing::…)`. What the function has to know
//!    when the response comes goes into its variant of [`Ongoing`](super::sa::Ongoing).
//! 2. *Request answered*: `exchange::answer` calls
//!    `fn answer(engine, now, sa, &Received) -> Vec<Payload>`; what it returns is sealed, sent
//!    and kept for retransmissions.
//! 3. *Response handled*: `exchange::response` calls
//!    `fn response(engine, now, sa, what was in Ongoing, &Received)`. A request that was never
//!    answered ends the IKE SA (`exchange::unanswered`).
//!
//! While a function has `&mut IkeSa`, that SA is not in the engine's map; all the others are.
//! Whatever it changes, timers are set anew afterwards from [`IkeSa::next_deadline`], tasks are
//! begun, and an SA with `gone` set is buried: its children are removed, `IkeDown` is told, and
//! the connection does what its configuration says.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::{Connection, Settings};
use super::connection::ConnectionState;
use super::cookie::Cookies;
use super::event::{Command, ConnectionStatus, Counters, Event, Failure, Transmit};
use super::limits::{Limits, Pace, RateLimit};
use super::message::{self, Datagram, DecodeError, Exchange};
use super::sa::{Answered, IkeSa};
use super::{connection, exchange, init};
use crate::crypto::rng::Rng;
use crate::sa::{ChildSaId, ConnectionName, IkeSaId, Path, Spi};

/// Only for keys that this end chooses or is configured with; those of others are in B-trees.
pub(super) type Map<K, V> = HashMap<K, V, foldhash::fast::FixedState>;
pub(super) type Set<K> = HashSet<K, foldhash::fast::FixedState>;

/// Holds connections up. It is told what comes and what time it is, and asked what is to be done.
pub struct Engine {
    pub(super) settings: Settings,
    pub(super) rng: Box<dyn Rng>,
    epoch: (Instant, Duration),
    pub(super) connections: BTreeMap<ConnectionName, ConnectionState>,
    /// Connections by the addresses of the other end, and those of `%any`.
    pub(super) by_remote: Map<IpAddr, Vec<ConnectionName>>,
    pub(super) of_any: Vec<ConnectionName>,
    pub(super) sas: Map<IkeSaId, Box<IkeSa>>,
    /// By this end's SPI.
    pub(super) by_spi: Map<u64, IkeSaId>,
    /// By IKE_SA_INIT requests that were answered: the other end's address and SPI.
    pub(super) by_request: BTreeMap<(IpAddr, u64), IkeSaId>,
    pub(super) by_child: Map<ChildSaId, IkeSaId>,
    /// ESP SPIs of this end that are taken.
    pub(super) inbound_spis: Set<Spi>,
    timers: BTreeSet<(Instant, Timer)>,
    pub(super) limits: Limits,
    pub(super) pace: Pace,
    pub(super) cookies: Cookies,
    pub(super) clear_answers: RateLimit,
    pub(super) strangers: RateLimit,
    /// Who has spoken IKEv1 and was told of.
    pub(super) old_peers: BTreeSet<IpAddr>,
    /// Last answers of IKE SAs that are gone: by this end's SPI, and in the order of their end.
    ghosts: Map<u64, Answered>,
    ghost_order: VecDeque<(Instant, u64)>,
    pub(super) counters: Counters,
    pub(super) next_ike: u64,
    pub(super) next_child: u64,
    pub(super) shutdown: bool,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    capture: bool,
    captured: VecDeque<Captured>,
}

/// An IKE message as the debug capture shows it.
#[derive(Clone, Debug)]
pub struct Captured {
    /// From where to where.
    pub path: Path,
    /// When.
    pub at: Instant,
    /// Whether this end sent it.
    pub outbound: bool,
    /// The message with its payloads in the clear.
    pub plain: Vec<u8>,
}

/// What a timer is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    Ike(IkeSaId),
    Connection(ConnectionName),
}

/// For how many IKE SAs that are gone, and for how long, the last answer is kept.
const GHOST_LIMIT: usize = 4096;
const GHOST_LIFETIME: Duration = Duration::from_secs(60);

/// How many messages the debug capture keeps for whoever polls it.
const CAPTURE_LIMIT: usize = 1024;

impl Engine {
    /// An engine without connections. `epoch` says what time it was at an instant, since 1970.
    pub fn new(settings: Settings, mut rng: Box<dyn Rng>, epoch: (Instant, Duration)) -> Self {
        let cookies = Cookies::new(rng.as_mut(), epoch.0);
        Self {
            limits: Limits::default(),
            pace: Pace::default(),
            cookies,
            clear_answers: RateLimit::new(100, epoch.0),
            strangers: RateLimit::new(10, epoch.0),
            settings,
            rng,
            epoch,
            connections: BTreeMap::new(),
            by_remote: Map::default(),
            of_any: Vec::new(),
            sas: Map::default(),
            by_spi: Map::default(),
            by_request: BTreeMap::new(),
            by_child: Map::default(),
            inbound_spis: Set::default(),
            timers: BTreeSet::new(),
            old_peers: BTreeSet::new(),
            ghosts: Map::default(),
            ghost_order: VecDeque::new(),
            counters: Counters::default(),
            next_ike: 1,
            next_child: 1,
            shutdown: false,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            capture: false,
            captured: VecDeque::new(),
        }
    }

    /// Holds these connections up from now on, in place of those before.
    pub fn configure(
        &mut self,
        now: Instant,
        connections: BTreeMap<ConnectionName, Arc<Connection>>,
    ) {
        connection::configure(self, now, connections);
    }

    /// A datagram has come (without non-ESP marker).
    pub fn handle_datagram(&mut self, now: Instant, path: Path, datagram: &[u8]) {
        match message::read(datagram) {
            Ok(Datagram::Clear(message)) if message.header.exchange == Exchange::SaInit => {
                if message.header.response {
                    init::receive_response(self, now, path, message, datagram);
                } else {
                    init::receive_request(self, now, path, message, datagram);
                }
            }
            Ok(Datagram::Clear(message)) => exchange::receive_clear(self, now, path, &message),
            Ok(sealed) => exchange::receive_sealed(self, now, path, &sealed, datagram),
            Err(DecodeError::Version(major, _)) => {
                init::receive_other_version(self, now, path, major, datagram);
            }
            Err(error) => {
                self.counters.malformed += 1;
                init::receive_malformed(self, now, path, &error, datagram);
            }
        }
    }

    /// The time of [`Engine::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, _)) = self.timers.first()
            && *at <= now
        {
            let Some((_, timer)) = self.timers.pop_first() else { break };
            match timer {
                Timer::Ike(id) => {
                    self.with_sa(now, id, |engine, sa| {
                        sa.wake = None;
                        exchange::timeout(engine, now, sa);
                    });
                }
                Timer::Connection(name) => connection::timeout(self, now, &name),
            }
        }
    }

    /// When [`Engine::handle_timeout`] is to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// What is to be sent next. [`Engine::poll_event`] comes first.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// What has happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Does something.
    pub fn command(&mut self, now: Instant, command: Command) {
        connection::command(self, now, command);
    }

    /// What is there, for people.
    pub fn status(&self, now: Instant) -> Vec<ConnectionStatus> {
        connection::status(self, now)
    }

    /// What was counted.
    pub fn counters(&self) -> Counters {
        Counters {
            half_open: self.limits.half_open() as u64,
            established: self.sas.values().filter(|sa| sa.is_established()).count() as u64,
            ..self.counters
        }
    }

    /// Whether nothing is left of any IKE SA: after [`Command::Shutdown`] the gateway may end.
    pub fn is_idle(&self) -> bool {
        self.sas.is_empty() && self.transmits.is_empty()
    }

    /// Keeps decrypted messages for [`Engine::poll_capture`], or no longer.
    pub fn set_capture(&mut self, on: bool) {
        self.capture = on;
        if !on {
            self.captured.clear();
        }
    }

    /// The next message of the debug capture.
    pub fn poll_capture(&mut self) -> Option<Captured> {
        self.captured.pop_front()
    }

    /// Does something with an IKE SA, and then what has to follow. None if it isn't there.
    pub(super) fn with_sa<R>(
        &mut self,
        now: Instant,
        id: IkeSaId,
        work: impl FnOnce(&mut Self, &mut IkeSa) -> R,
    ) -> Option<R> {
        let mut sa = self.sas.remove(&id)?;
        let result = work(self, &mut sa);
        self.put_back(now, sa);
        Some(result)
    }

    /// Puts an IKE SA into the map, a new one too.
    pub(super) fn put_back(&mut self, now: Instant, mut sa: Box<IkeSa>) {
        exchange::begin_tasks(self, now, &mut sa);
        if sa.gone.is_some() {
            connection::bury(self, now, sa);
            return;
        }
        let wake = sa.next_deadline();
        if wake != sa.wake {
            if let Some(at) = sa.wake {
                self.timers.remove(&(at, Timer::Ike(sa.id)));
            }
            if let Some(at) = wake {
                self.timers.insert((at, Timer::Ike(sa.id)));
            }
            sa.wake = wake;
        }
        self.sas.insert(sa.id, sa);
    }

    /// Keeps the last answer of an IKE SA that has ended, for a while, should it have been lost.
    pub(super) fn keep_ghost(&mut self, now: Instant, spi: u64, answered: Answered) {
        while let Some((since, spi)) = self.ghost_order.front().copied()
            && (self.ghost_order.len() >= GHOST_LIMIT || since + GHOST_LIFETIME <= now)
        {
            self.ghost_order.pop_front();
            self.ghosts.remove(&spi);
        }
        self.ghost_order.push_back((now, spi));
        self.ghosts.insert(spi, answered);
    }

    /// Answers a request to an IKE SA that is gone, if it is the last one that was answered.
    pub(super) fn answer_as_ghost(&mut self, path: Path, spi: u64, request: u64) -> bool {
        let ghost = self.ghosts.get_mut(&spi).filter(|ghost| ghost.request == request);
        let Some(ghost) = ghost else { return false };
        if !ghost.may_go_again() {
            return true;
        }
        for datagram in &ghost.datagrams {
            self.transmits.push_back(Transmit { path, payload: datagram.clone() });
        }
        self.counters.retransmitted_answers += 1;
        true
    }

    pub(super) fn set_timer(&mut self, at: Instant, timer: Timer) {
        self.timers.insert((at, timer));
    }

    pub(super) fn clear_timer(&mut self, at: Instant, timer: Timer) {
        self.timers.remove(&(at, timer));
    }

    pub(super) fn transmit(&mut self, path: Path, payload: Vec<u8>) {
        self.transmits.push_back(Transmit { path, payload });
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.events.push_back(event);
    }

    /// Tells of a failure and remembers it with its connection.
    pub(super) fn fail(
        &mut self,
        connection: Option<&ConnectionName>,
        path: Path,
        failure: Failure,
    ) {
        if let Some(state) = connection.and_then(|name| self.connections.get_mut(name)) {
            state.last_failure = Some(failure.clone());
        }
        self.tell(Event::Failed { connection: connection.cloned(), path, failure });
    }

    /// The same where whoever it is has proven nothing, and may try often: not each time.
    pub(super) fn fail_unproven(
        &mut self,
        now: Instant,
        connection: Option<&ConnectionName>,
        path: Path,
        failure: Failure,
    ) {
        if self.strangers.allows(now) {
            self.fail(connection, path, failure);
        }
    }

    pub(super) fn random_u64(&mut self) -> u64 {
        let mut octets = [0; 8];
        self.rng.fill(&mut octets);
        u64::from_be_bytes(octets)
    }

    /// A number from `low` to `high`, for jitter.
    pub(super) fn random_between(&mut self, low: f64, high: f64) -> f64 {
        let unit = (self.random_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        low + unit * (high - low)
    }

    /// Octets of a nonce.
    pub(super) fn nonce(&mut self) -> Vec<u8> {
        let mut nonce = vec![0; 32];
        self.rng.fill(&mut nonce);
        nonce
    }

    /// An SPI of this end for an IKE SA, not in use.
    pub(super) fn new_spi(&mut self) -> u64 {
        loop {
            let spi = self.random_u64();
            if spi != 0 && !self.by_spi.contains_key(&spi) {
                return spi;
            }
        }
    }

    /// An ESP SPI of this end; taken until [`Engine::free_esp_spi`].
    pub(super) fn take_esp_spi(&mut self) -> Spi {
        loop {
            let number = (self.random_u64() >> 32) as u32;
            if let Some(spi) = Spi::new(number)
                && self.inbound_spis.insert(spi)
            {
                return spi;
            }
        }
    }

    pub(super) fn free_esp_spi(&mut self, spi: Spi) {
        self.inbound_spis.remove(&spi);
    }

    pub(super) fn new_ike_id(&mut self) -> IkeSaId {
        self.next_ike += 1;
        IkeSaId(self.next_ike - 1)
    }

    pub(super) fn new_child_id(&mut self) -> ChildSaId {
        self.next_child += 1;
        ChildSaId(self.next_child - 1)
    }

    /// The time since 1970.
    pub(super) fn unix_time(&self, now: Instant) -> Duration {
        self.epoch.1 + now.saturating_duration_since(self.epoch.0)
    }

    pub(super) fn captures(&self) -> bool {
        self.capture
    }

    pub(super) fn capture(&mut self, captured: Captured) {
        if self.captured.len() >= CAPTURE_LIMIT {
            self.captured.pop_front();
        }
        self.captured.push_back(captured);
    }
}
