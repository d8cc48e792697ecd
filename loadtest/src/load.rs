//! The load generator: many connections, one thread, one epoll.
//!
//! A closed loop: every connection has one request under way and sends the next as soon as the
//! response is complete and checked. The thread that calls [`Generator::drive`] does all the work,
//! so that its CPU time is the generator's cost, and a caller can read clocks and counters between
//! two stretches of load without anything running on.

pub(crate) mod connection;
pub(crate) mod outcome;
pub(crate) mod response;
pub(crate) mod session;
pub(crate) mod stats;
pub(crate) mod tls;
pub(crate) mod udp;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use mio::{Events, Poll, Token};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::system::interrupt;
use connection::{Connection, Failed, Turn};
use response::Received;
use stats::{Failure, Stats};

/// Bytes read at once.
const SCRATCH: usize = 256 * 1024;
/// Events taken from epoll at once.
const EVENTS: usize = 1024;
/// How long a slot waits after a failure before it connects again.
const RETRY: Duration = Duration::from_millis(10);
/// How often time-outs are looked for.
const SWEEP: Duration = Duration::from_millis(500);
/// Connections that are being made at once when idle ones are opened.
const RAMP: usize = 64;
/// Failures without one success after which a run gives up.
const HOPELESS: u64 = 200;

/// A request, its bytes made once, and what the answer must be.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The whole message.
    pub(crate) bytes: Vec<u8>,
    /// Whether the answer has no body by definition.
    pub(crate) is_head: bool,
    /// The name asked for in the TLS handshake of connections made for this request.
    pub(crate) server_name: ServerName<'static>,
    /// The status that the answer must have.
    pub(crate) status: u16,
    /// The length that the body must have, if it is known.
    pub(crate) length: Option<u64>,
}

impl Request {
    /// A GET of a path at a host.
    pub(crate) fn get(host: &str, path: &str, length: Option<u64>) -> anyhow::Result<Self> {
        let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
        let name = name.trim_start_matches('[').trim_end_matches(']');
        Ok(Self {
            bytes: format!(
                "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: tidegate-loadtest\r\nAccept: */*\r\n\r\n"
            )
            .into_bytes(),
            is_head: false,
            server_name: ServerName::try_from(name.to_owned())
                .with_context(|| format!("host {host:?} is no server name"))?,
            status: 200,
            length,
        })
    }
}

/// What a connection is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// Request after request, each the next of the list.
    KeepAlive,
    /// Request after request, the same all the time, as clients of one site do.
    KeepAliveSameRequest,
    /// One request, then another connection.
    Never,
    /// One request, then idle for ever.
    Hold,
}

/// A load.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// Where to connect.
    pub(crate) address: SocketAddr,
    /// The TLS client, if the target speaks TLS.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// Requests, taken in turn.
    pub(crate) requests: Vec<Request>,
    /// Connections open at once.
    pub(crate) connections: usize,
    /// What a connection is good for.
    pub(crate) reuse: Reuse,
    /// Time allowed from a request to its complete response.
    pub(crate) timeout: Duration,
}

#[derive(Debug)]
struct Slot {
    connection: Option<Connection>,
    request: usize,
    since: Instant,
    answered: bool,
}

/// Drives one load.
#[derive(Debug)]
pub(crate) struct Generator {
    load: Load,
    poll: Poll,
    scratch: Vec<u8>,
    slots: Vec<Slot>,
    next_request: usize,
    held: usize,
    answered_slots: usize,
    parked: VecDeque<(Instant, usize)>,
    last_sweep: Instant,
    ever_succeeded: bool,
    draining: bool,
    tls_seen: BTreeMap<String, u64>,
    /// What was counted since the last reset.
    pub(crate) stats: Stats,
}

impl Generator {
    /// A generator that has not connected yet.
    pub(crate) fn new(load: Load) -> anyhow::Result<Self> {
        if load.requests.is_empty() || load.connections == 0 {
            bail!("a load needs a request and a connection at least");
        }
        let now = Instant::now();
        let slot = || Slot { connection: None, request: 0, since: now, answered: false };
        let slots = std::iter::repeat_with(slot).take(load.connections).collect();
        let ramp = if load.reuse == Reuse::Hold { RAMP } else { usize::MAX };
        let parked = (0..load.connections.min(ramp)).map(|index| (now, index)).collect();
        Ok(Self {
            poll: Poll::new().context("epoll")?,
            scratch: vec![0; SCRATCH],
            slots,
            next_request: 0,
            held: 0,
            answered_slots: 0,
            parked,
            last_sweep: now,
            ever_succeeded: false,
            draining: false,
            tls_seen: BTreeMap::new(),
            stats: Stats::new()?,
            load,
        })
    }

    /// Connections that had their one request and are held idle.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// What the handshakes agreed on, in words, with how often.
    pub(crate) fn tls_seen(&self) -> &BTreeMap<String, u64> {
        &self.tls_seen
    }

    /// Runs the load for a time. Ends early, with an error, only if nothing at all succeeds.
    pub(crate) fn drive(&mut self, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        let mut events = Events::with_capacity(EVENTS);
        while self.step(&mut events, end)? {}
        Ok(())
    }

    /// Runs the load until it is in its stride: every connection has carried a request, and every
    /// request of the list has had its turn, so that no first handshake is still to come. An error
    /// if that takes too long.
    pub(crate) fn drive_until_warm(&mut self, within: Duration) -> anyhow::Result<()> {
        let turn = (self.load.requests.len() + self.slots.len()) as u64;
        self.drive_until(within, "had a request", |generator| {
            (generator.answered_slots, generator.stats.requests >= turn)
        })
    }

    /// Opens all connections of a [`Reuse::Hold`] load; an error if that takes too long.
    pub(crate) fn drive_until_held(&mut self, within: Duration) -> anyhow::Result<()> {
        self.drive_until(within, "were open", |generator| (generator.held, true))
    }

    /// `reached` says how many connections are ready, and whether all else is.
    fn drive_until(
        &mut self,
        within: Duration,
        what: &str,
        reached: impl Fn(&Self) -> (usize, bool),
    ) -> anyhow::Result<()> {
        let all = self.slots.len();
        let end = Instant::now() + within;
        let mut events = Events::with_capacity(EVENTS);
        while reached(self) != (all, true) {
            if !self.step(&mut events, end)? {
                let (ready, _) = reached(self);
                let failures = self.stats.failure_text();
                bail!(
                    "{ready} of {all} connections {what} within {within:?}; failures: {failures}"
                );
            }
        }
        Ok(())
    }

    /// Sends nothing more and waits for the responses under way, so that both ends have counted the
    /// same requests. The generator is of no further use then.
    pub(crate) fn drain(&mut self, within: Duration) -> anyhow::Result<()> {
        self.draining = true;
        self.parked.clear();
        let waits = |slot: &Slot| slot.connection.as_ref().is_some_and(Connection::is_waiting);
        for slot in self.slots.iter_mut().filter(|slot| !waits(slot)) {
            slot.connection = None;
        }
        let end = Instant::now() + within;
        let mut events = Events::with_capacity(EVENTS);
        while self.slots.iter().any(waits) && self.step(&mut events, end)? {}
        Ok(())
    }

    /// Waits for events once and acts on them; false once the time is over.
    fn step(&mut self, events: &mut Events, end: Instant) -> anyhow::Result<bool> {
        interrupt::check()?;
        let now = Instant::now();
        if now >= end {
            return Ok(false);
        }
        self.open_parked(now);
        if now.duration_since(self.last_sweep) >= SWEEP {
            self.sweep(now);
        }
        if !self.ever_succeeded && self.stats.failure_count() >= HOPELESS {
            bail!("{} answers nothing: {}", self.load.address, self.stats.failure_text());
        }
        let pause = if self.parked.is_empty() { SWEEP } else { RETRY };
        match self.poll.poll(events, Some(pause.min(end.duration_since(now)))) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(true),
            polled => polled.context("epoll")?,
        }
        for event in events.iter() {
            self.turn(event.token().0, event.is_read_closed() || event.is_error());
        }
        Ok(true)
    }

    fn turn(&mut self, index: usize, ending: bool) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let Some(connection) = &mut slot.connection else { return };
        match connection.turn(ending, &mut self.scratch) {
            Ok(Turn::Wait) => {}
            Ok(Turn::Established) => {
                self.stats.connections += 1;
                self.stats.resumed += u64::from(connection.resumed());
                if let Some(parameters) = connection.tls_parameters() {
                    *self.tls_seen.entry(parameters).or_default() += 1;
                }
                if self.load.reuse != Reuse::Never {
                    slot.since = Instant::now();
                }
                self.send(index);
            }
            Ok(Turn::Response(received)) => self.response(index, received),
            Ok(Turn::Ended) if self.load.reuse == Reuse::Hold => {
                self.held -= 1;
                let detail = "an idle connection was ended by the target".to_owned();
                self.failed(index, Failed { kind: Failure::Closed, detail });
            }
            Ok(Turn::Ended) => self.open(index),
            Err(failed) => self.failed(index, failed),
        }
    }

    /// Sends the request that the slot is at.
    fn send(&mut self, index: usize) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let Some(request) = self.load.requests.get(slot.request) else { return };
        let Some(connection) = &mut slot.connection else { return };
        if let Err(failed) = connection.send(&request.bytes, request.is_head) {
            self.failed(index, failed);
        }
    }

    fn response(&mut self, index: usize, received: Received) {
        let now = Instant::now();
        let Some(slot) = self.slots.get_mut(index) else { return };
        let Some(request) = self.load.requests.get(slot.request) else { return };
        let problem = if received.status != request.status {
            Some((Failure::Status, format!("status {} for {}", received.status, line(request))))
        } else if request.length.is_some_and(|length| length != received.length) {
            Some((Failure::Length, format!("{} bytes for {}", received.length, line(request))))
        } else {
            None
        };
        if let Some((kind, detail)) = problem {
            return self.failed(index, Failed { kind, detail });
        }
        self.ever_succeeded = true;
        self.answered_slots += usize::from(!std::mem::replace(&mut slot.answered, true));
        self.stats.succeeded(now.duration_since(slot.since), received.length);
        match self.load.reuse {
            Reuse::Hold => {
                self.held += 1;
                // Every connection made lets the next one start, up to the number wanted.
                let next = self.held + RAMP - 1;
                if next < self.slots.len()
                    && self.slots.get(next).is_some_and(|s| s.connection.is_none())
                {
                    self.parked.push_back((now, next));
                }
            }
            Reuse::KeepAlive | Reuse::KeepAliveSameRequest
                if received.keep_alive && !self.draining =>
            {
                if self.load.reuse == Reuse::KeepAlive {
                    slot.request = self.next_request;
                    self.next_request = (self.next_request + 1) % self.load.requests.len();
                }
                slot.since = now;
                self.send(index);
            }
            _ => self.open(index),
        }
    }

    /// Counts a failure and lets the slot try again in a moment.
    fn failed(&mut self, index: usize, failed: Failed) {
        self.stats.failed(failed.kind, || failed.detail);
        if let Some(slot) = self.slots.get_mut(index) {
            slot.connection = None;
        }
        if !self.draining {
            self.parked.push_back((Instant::now() + RETRY, index));
        }
    }

    /// Connects anew, for the next request of the list.
    fn open(&mut self, index: usize) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.connection = None;
        if self.draining {
            return;
        }
        slot.request = self.next_request;
        self.next_request = (self.next_request + 1) % self.load.requests.len();
        slot.since = Instant::now();
        let Some(request) = self.load.requests.get(slot.request) else { return };
        let tls = self.load.tls.as_ref().map(|config| (config, &request.server_name));
        let registry = self.poll.registry();
        match Connection::open(self.load.address, tls, registry, Token(index)) {
            Ok(connection) => slot.connection = Some(connection),
            Err(failed) => self.failed(index, failed),
        }
    }

    fn open_parked(&mut self, now: Instant) {
        while self.parked.front().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, index)) = self.parked.pop_front() {
                self.open(index);
            }
        }
    }

    fn sweep(&mut self, now: Instant) {
        self.last_sweep = now;
        let timeout = self.load.timeout;
        let late = |slot: &Slot| {
            let busy = slot.connection.as_ref().is_some_and(|c| c.is_waiting() || c.is_opening());
            busy && now.duration_since(slot.since) > timeout
        };
        let late: Vec<usize> =
            self.slots.iter().enumerate().filter(|(_, slot)| late(slot)).map(|(i, _)| i).collect();
        for index in late {
            let detail = format!("nothing complete within {timeout:?}");
            self.failed(index, Failed { kind: Failure::Timeout, detail });
        }
    }
}

/// The request line, for messages.
fn line(request: &Request) -> String {
    let line = request.bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    String::from_utf8_lossy(line).into_owned()
}

#[cfg(test)]
mod tests;
