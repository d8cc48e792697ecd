//! The load generator: many connections, one thread, one epoll.
//!
//! In a closed loop every connection has one request under way and starts the next as soon as the
//! response is complete and checked. In an open loop requests are due at their times, whatever the
//! target does, and their latency counts from then: a target that stops for a second is seen to
//! (correction of coordinated omission). The thread that calls [`Generator::drive`] does all the
//! work, so that its CPU time is the generator's cost, and a caller can read clocks and counters
//! between two stretches of load without anything running on.

pub(crate) mod accounts;
pub(crate) mod connection;
mod dispatch;
pub(crate) mod mix;
pub(crate) mod outcome;
pub(crate) mod pace;
pub(crate) mod plan;
pub(crate) mod response;
pub(crate) mod session;
mod slots;
pub(crate) mod stats;
mod timer;
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
use accounts::{Accounts, Finished};
use connection::{Failed, Readiness};
use dispatch::Group;
use pace::Arrivals;
use plan::{Pace, Plan};
use session::Event;
use slots::Slot;
use stats::{Failure, Stats};
use timer::Timer;

/// Bytes read at once.
const SCRATCH: usize = 256 * 1024;
/// Events taken from epoll at once.
const EVENTS: usize = 1024;
/// How long a slot waits after a failure before it connects again.
const RETRY: Duration = Duration::from_millis(10);
/// How often time-outs are looked for, at least.
const SWEEP: Duration = Duration::from_millis(500);
/// Connections that are being made at once when idle ones are opened.
const RAMP: usize = 64;
/// Failures without one success after which a run gives up, once it had a moment to begin.
const HOPELESS: u64 = 200;
const BEGINNING: Duration = Duration::from_millis(250);
/// Time without one success, but with failures, after which a run gives up.
const HOPELESS_AFTER: Duration = Duration::from_secs(2);
/// Time in which the first connection has to come about.
const CONNECT_WITHIN: Duration = Duration::from_secs(4);
/// An operation that is taken up so late was late for want of the generator's own time.
const LATE: Duration = Duration::from_millis(1);
/// The timer's events.
const TIMER: Token = Token(usize::MAX);
/// Waits shorter than this are not worth the system calls.
const SHORT: Duration = Duration::from_micros(5);

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

impl Reuse {
    /// Whether a connection carries operation after operation.
    fn is_kept(self) -> bool {
        matches!(self, Self::KeepAlive | Self::KeepAliveSameRequest)
    }
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

/// One operation: due, under way, or about to be tried again.
#[derive(Clone, Copy, Debug)]
struct Op {
    entry: u32,
    /// Failures before this attempt.
    attempts: u32,
    /// The last of them.
    last: Failure,
    /// When it was due, or started, nanoseconds since the load began. Its latency counts from here.
    intended: u64,
    /// When this attempt began; its time-out counts from here.
    since: u64,
}

/// How punctually operations of an open loop were taken up by the generator, whether or not a
/// connection was there for them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Punctuality {
    /// Operations taken up.
    pub(crate) operations: u64,
    /// Those among them that were taken up more than [`LATE`] after they were due.
    pub(crate) late: u64,
    /// The greatest delay.
    pub(crate) worst: Duration,
}

/// Drives one load.
#[derive(Debug)]
pub(crate) struct Generator {
    plan: Plan,
    poll: Poll,
    timer: Option<Timer>,
    scratch: Vec<u8>,
    happened: Vec<Event>,
    began: Instant,
    has_begun: bool,
    slots: Vec<Slot>,
    groups: Vec<Group>,
    /// The group of each entry.
    group_of: Vec<usize>,
    next_in_order: usize,
    /// Closed loop: slots before this one have a connection each, or will.
    active: usize,
    /// Open loop: slots without a connection.
    free: Vec<usize>,
    next_source: usize,
    arrivals: Option<Arrivals>,
    held: usize,
    answered_slots: usize,
    /// Operations to be tried again, and when.
    retries: VecDeque<(u64, Op)>,
    /// Closed loop: slots that connect again, and when.
    parked: VecDeque<(u64, usize)>,
    /// Held connections that have another request, and when.
    refreshes: VecDeque<(u64, usize)>,
    /// Connections on which something was done without an event of epoll.
    again: Vec<usize>,
    /// Connections of which epoll will not say again that there is something to read.
    unread: Vec<usize>,
    last_sweep: u64,
    ever_connected: bool,
    ever_succeeded: bool,
    draining: bool,
    tls_seen: BTreeMap<String, u64>,
    /// Connections that were not made, or were lost, while no operation was theirs.
    pub(crate) lost_connections: u64,
    /// Open loop: how often operations had to wait because no more connections are allowed.
    pub(crate) starved: u64,
    /// How punctual the generator itself was.
    pub(crate) punctuality: Punctuality,
    /// Details, where the plan wants them.
    pub(crate) accounts: Option<Accounts>,
    /// What was counted since the last reset. Latencies are in the accounts, where there are any.
    pub(crate) stats: Stats,
}

impl Generator {
    /// A generator that has not connected yet.
    pub(crate) fn new(plan: impl Into<Plan>) -> anyhow::Result<Self> {
        let plan = plan.into();
        let connections = plan.most_connections();
        if plan.entries.is_empty() || plan.order.is_empty() || connections == 0 {
            bail!("a load needs a request and a connection at least");
        }
        let poll = Poll::new().context("epoll")?;
        let (arrivals, timer) = match &plan.pace {
            Pace::Closed { .. } => (None, None),
            Pace::Open { rate, .. } => {
                (Some(rate.arrivals()), Some(Timer::new(poll.registry(), TIMER)?))
            }
        };
        let accounts = plan
            .slice
            .map(|slice| Accounts::new(plan.profile(), plan.entries.len(), slice))
            .transpose()?;
        let (groups, group_of) = dispatch::groups(&plan);
        let is_open = arrivals.is_some();
        Ok(Self {
            timer,
            poll,
            scratch: vec![0; SCRATCH],
            happened: Vec::new(),
            began: Instant::now(),
            has_begun: false,
            slots: std::iter::repeat_with(Slot::default).take(connections).collect(),
            groups,
            group_of,
            next_in_order: 0,
            active: 0,
            free: if is_open { (0..connections).rev().collect() } else { Vec::new() },
            next_source: 0,
            arrivals,
            held: 0,
            answered_slots: 0,
            retries: VecDeque::new(),
            parked: VecDeque::new(),
            refreshes: VecDeque::new(),
            again: Vec::new(),
            unread: Vec::new(),
            last_sweep: 0,
            ever_connected: false,
            ever_succeeded: false,
            draining: false,
            tls_seen: BTreeMap::new(),
            lost_connections: 0,
            starved: 0,
            punctuality: Punctuality::default(),
            accounts,
            stats: Stats::new()?,
            plan,
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

    /// Nanoseconds since the load began.
    pub(crate) fn now(&self) -> u64 {
        nanoseconds(self.began.elapsed())
    }

    /// Begins, if it has not: time counts from now.
    pub(crate) fn begin(&mut self) {
        if !self.has_begun {
            self.has_begun = true;
            self.began = Instant::now();
            self.open_first();
        }
    }

    /// The moment at which the load began.
    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// Runs the load for a time. Ends early, with an error, only if nothing at all succeeds.
    pub(crate) fn drive(&mut self, time: Duration) -> anyhow::Result<()> {
        self.drive_to(Instant::now() + time)
    }

    /// Runs the load up to a moment. Ends early, with an error, only if nothing at all succeeds.
    pub(crate) fn drive_to(&mut self, end: Instant) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        while self.step(&mut events, end)? {}
        Ok(())
    }

    /// Runs the load until it is in its stride: every connection has carried a request, and every
    /// request of the list has had its turn, so that no first handshake is still to come. An error
    /// if that takes too long.
    pub(crate) fn drive_until_warm(&mut self, within: Duration) -> anyhow::Result<()> {
        let turn = (self.plan.entries.len() + self.slots.len()) as u64;
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

    /// Starts nothing that is not due yet and waits for what is under way or due, so that both ends
    /// have counted the same requests; what takes longer fails. The generator is of no further use
    /// then.
    #[cfg(test)]
    pub(crate) fn drain(&mut self, within: Duration) -> anyhow::Result<()> {
        self.begin_drain();
        self.drain_to(Instant::now() + within)?;
        self.end_drain(within);
        Ok(())
    }

    /// From now on nothing is started that is not due yet.
    pub(crate) fn begin_drain(&mut self) {
        self.draining = true;
        if self.is_open_loop() {
            let now = self.now().min(self.plan.profile().end());
            self.admit(now);
            self.arrivals = None;
        } else {
            self.parked.clear();
            self.fail_waiting();
        }
    }

    /// Waits up to a moment for what is under way; whether that is over.
    pub(crate) fn drain_to(&mut self, end: Instant) -> anyhow::Result<bool> {
        let mut events = Events::with_capacity(EVENTS);
        while self.retire_idle() {
            if !self.step(&mut events, end)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Counts as failed what is still not over.
    pub(crate) fn end_drain(&mut self, waited: Duration) {
        self.fail_rest(waited);
    }

    fn is_open_loop(&self) -> bool {
        matches!(self.plan.pace, Pace::Open { .. })
    }

    /// Waits for events once and acts on them; false once the time is over.
    fn step(&mut self, events: &mut Events, end: Instant) -> anyhow::Result<bool> {
        interrupt::check()?;
        self.begin();
        let instant = Instant::now();
        if instant >= end {
            return Ok(false);
        }
        let now = nanoseconds(instant.duration_since(self.began));
        self.act(now);
        self.give_up_if_hopeless(now)?;
        let pause = self.pause(now)?.min(end.duration_since(instant));
        match self.poll.poll(events, Some(pause)) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(true),
            polled => polled.context("epoll")?,
        }
        // Whether their ends have come is not known any more: they are read until nothing is left.
        for index in std::mem::take(&mut self.unread) {
            self.turn(index, Readiness { readable: true, ending: true });
        }
        for event in events.iter().filter(|event| event.token() != TIMER) {
            let ending = event.is_read_closed() || event.is_error();
            self.turn(event.token().0, Readiness { readable: event.is_readable(), ending });
        }
        Ok(true)
    }

    /// Does what the time asks for.
    fn act(&mut self, now: u64) {
        if self.arrivals.is_some() {
            self.admit(now);
        }
        while let Some((_, op)) = pop_due(&mut self.retries, now) {
            self.wait(op);
        }
        if self.is_open_loop() {
            self.dispatch(now);
        } else {
            self.adjust(now);
            while let Some((_, index)) = pop_due(&mut self.parked, now) {
                self.open(index, now);
            }
        }
        while let Some((_, index)) = pop_due(&mut self.refreshes, now) {
            self.refresh(index, now);
        }
        for index in std::mem::take(&mut self.again) {
            self.go_on(index, now);
        }
        if now - self.last_sweep >= nanoseconds(SWEEP.min(self.plan.timeout / 4)) {
            self.last_sweep = now;
            self.sweep(now);
        }
    }

    /// How long epoll may wait; sets the timer for what has to be more punctual than that.
    fn pause(&mut self, now: u64) -> anyhow::Result<Duration> {
        let mut pause = SWEEP.min(self.plan.timeout / 4);
        if !self.again.is_empty() || !self.unread.is_empty() {
            return Ok(Duration::ZERO);
        }
        let soon = !self.parked.is_empty() || !self.retries.is_empty();
        if soon || self.is_ramping(now) {
            pause = pause.min(RETRY);
        }
        if let Some((due, _)) = self.refreshes.front() {
            pause = pause.min(Duration::from_nanos(due.saturating_sub(now)).max(RETRY));
        }
        if let (Some(due), Some(timer)) =
            (self.arrivals.as_ref().and_then(Arrivals::peek), &self.timer)
        {
            let wait = Duration::from_nanos(due.saturating_sub(self.now()));
            if wait < SHORT {
                return Ok(Duration::ZERO);
            }
            if wait < pause {
                timer.set(wait)?;
            }
        }
        Ok(pause)
    }

    fn give_up_if_hopeless(&self, now: u64) -> anyhow::Result<()> {
        if self.ever_succeeded {
            return Ok(());
        }
        let (address, failures) = (self.plan.address, self.stats.failure_count());
        let time = Duration::from_nanos(now);
        if (failures >= HOPELESS && time > BEGINNING) || (failures > 0 && time > HOPELESS_AFTER) {
            bail!(
                "{address} answers nothing as expected: {}: {}",
                self.stats.failure_text(),
                self.remedy()
            );
        }
        if !self.ever_connected && time > CONNECT_WITHIN.min(self.plan.timeout) {
            let missing = self.slots.iter().filter_map(|slot| slot.connection.as_ref()?.missing());
            if let Some(tls) = missing.into_iter().find(|missing| missing.kind == Failure::Tls) {
                bail!("{address}: after {time:.1?}: {}", tls.detail);
            }
            bail!(
                "{address}: no connection came about within {:?}: is the address right, and does \
                 no packet filter stand between?",
                CONNECT_WITHIN.min(self.plan.timeout)
            );
        }
        Ok(())
    }

    /// What to do about the most frequent kind of failure.
    fn remedy(&self) -> String {
        let most = self.stats.failures.iter().max_by_key(|(_, count)| **count);
        let kind = most.map_or(Failure::Connect, |(kind, _)| *kind);
        let first = self.stats.first_failure.as_deref().unwrap_or_default();
        let remedy = match kind {
            Failure::Connect => "start the target, or correct its address",
            Failure::Tls if first.contains("not valid for name") => {
                "write one of the certificate's names in the URL, and the address behind --connect \
                 (a scenario: target.connect)"
            }
            Failure::Tls if first.contains("UnknownIssuer") => {
                "name the authority that vouches for the certificate: --ca FILE (a scenario: \
                 target.tls.ca)"
            }
            Failure::Tls => "is that port HTTPS? correct it, or what is offered in the handshake",
            Failure::Status => {
                "correct the path, or say which status is right: --status (a scenario: \
                 expect.status)"
            }
            Failure::Length => "say which length is right: --length (a scenario: expect.length)",
            Failure::Digest => "say which content is right (a scenario: expect.sha256)",
            Failure::Timeout => {
                return format!(
                    "nothing came within {:?}: look at the target, put less load on it, or allow \
                     more time (a scenario: timeout)",
                    self.plan.timeout
                );
            }
            Failure::Closed | Failure::Protocol => {
                "look at the target's log: does it speak this protocol on this port?"
            }
        };
        remedy.to_owned()
    }

    /// Acts on what epoll said of a slot's connection.
    fn turn(&mut self, index: usize, ready: Readiness) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let Some(connection) = &mut slot.connection else { return };
        let mut happened = std::mem::take(&mut self.happened);
        let outcome = connection.turn(ready, &mut self.scratch, &mut happened);
        let over = connection.is_over();
        if connection.has_more() && outcome.is_ok() && !self.unread.contains(&index) {
            self.unread.push(index);
        }
        if happened.is_empty() && !over && matches!(outcome, Ok(false)) {
            self.happened = happened;
            return;
        }
        let now = nanoseconds(self.began.elapsed());
        if matches!(outcome, Ok(true)) {
            self.established(index);
        }
        self.note(index, &mut happened, now);
        self.happened = happened;
        match outcome {
            Ok(_) => self.go_on(index, now),
            Err(failed) => self.lose(index, &failed, now),
        }
    }

    /// Takes note of what happened on a connection.
    fn note(&mut self, index: usize, happened: &mut Vec<Event>, now: u64) {
        for event in happened.drain(..) {
            match event {
                Event::Ready => self.ready(index, now),
                Event::Done(ticket, received) => self.done(index, ticket, &received, now),
                Event::Failed(ticket, failed) => {
                    if let Some(op) = self.slots.get_mut(index).and_then(|slot| slot.take(ticket)) {
                        self.failed(op, &failed, now);
                    }
                }
                Event::Closing => {
                    if let Some(slot) = self.slots.get_mut(index) {
                        slot.retire = true;
                    }
                }
            }
        }
    }

    /// Counts an operation's failure, or has it tried again.
    fn failed(&mut self, op: Op, failed: &Failed, now: u64) {
        let retries = &self.plan.retries;
        let may_retry = !self.draining || self.is_open_loop();
        if may_retry && op.attempts < retries.times && retries.on.contains(&failed.kind) {
            let again = now + nanoseconds(RETRY);
            let op = Op { attempts: op.attempts + 1, last: failed.kind, since: again, ..op };
            self.retries.push_back((again, op));
            return;
        }
        self.count_failure(op, failed, now);
    }

    fn count_failure(&mut self, op: Op, failed: &Failed, now: u64) {
        self.stats.failed(failed.kind, || failed.detail.clone());
        if let Some(accounts) = &mut self.accounts {
            accounts.failed(op.finished(now), failed);
        }
    }
}

impl Op {
    fn finished(&self, at: u64) -> Finished {
        let Self { intended, attempts, .. } = *self;
        Finished { intended, at, entry: self.entry as usize, attempts }
    }
}

/// The first of a queue, if its time has come.
fn pop_due<T>(queue: &mut VecDeque<(u64, T)>, now: u64) -> Option<(u64, T)> {
    queue.front().is_some_and(|(due, _)| *due <= now).then(|| queue.pop_front())?
}

/// A time in nanoseconds.
pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
