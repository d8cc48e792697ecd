//! Load of datagrams: packets a second, loss, order and latency.
//!
//! Each datagram carries its flow, its number there and the time at which it was meant to leave.
//! In the open loop packets are due at a constant rate, and latencies count from when they were
//! due: a generator that is late doesn't hide it (coordinated omission). In the closed loop each
//! flow keeps so many packets under way. One thread, one epoll, many packets a system call.

mod account;
mod flow;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use mio::net::UdpSocket;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use socket2::{Domain, Protocol, Socket, Type};

use crate::system::interrupt;
pub(crate) use account::Counts;
use flow::{BATCH, Batch, Flow};

/// Bytes of a datagram that the driver needs for itself.
pub(crate) const HEADER: usize = 24;
/// What a datagram of a driver begins with.
pub(crate) const MAGIC: [u8; 3] = *b"TGU";
/// The byte behind [`MAGIC`] if an echo is wanted.
pub(crate) const ECHO: u8 = 1;
/// The byte behind [`MAGIC`] if the datagram is only to be counted.
pub(crate) const NO_ECHO: u8 = 0;
/// The largest payload of a UDP datagram over IPv4.
const MAX_PAYLOAD: usize = 65_507;
/// The most sockets.
const MAX_FLOWS: usize = 50_000;
/// Bytes of a socket's buffers, as far as the system allows.
const BUFFER: usize = 4 << 20;
/// Events taken from epoll at once.
const EVENTS: usize = 1024;
/// How often time-outs and the user's wish to end are looked at.
const SWEEP: Duration = Duration::from_millis(10);
const TIMER: Token = Token(usize::MAX);
/// Refusals without one packet back after which a run gives up.
const HOPELESS: u64 = 200;

/// When packets leave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// So many a second over all flows, whatever comes back.
    Open {
        /// Packets a second.
        rate: f64,
    },
    /// As many as come back, or are given up.
    Closed {
        /// Packets under way on each flow.
        window: usize,
        /// How long a packet may be under way before another one takes its place.
        timeout: Duration,
    },
}

/// A load of datagrams.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Where they go.
    pub(crate) target: SocketAddr,
    /// Sockets, each with a port of its own.
    pub(crate) flows: usize,
    /// When packets leave.
    pub(crate) pace: Pace,
    /// Bytes of UDP payload, [`HEADER`] at least.
    pub(crate) payload: usize,
    /// Whether echoes are expected. Without, only what leaves is counted.
    pub(crate) echo: bool,
    /// The length of one entry of [`Counts::slices`].
    pub(crate) slice: Duration,
}

impl Config {
    fn check(&self) -> anyhow::Result<()> {
        let Self { flows, payload, slice, .. } = self;
        if !(HEADER..=MAX_PAYLOAD).contains(payload) {
            bail!("payload: {payload} bytes; write {HEADER} to {MAX_PAYLOAD}");
        }
        if !(1..=MAX_FLOWS).contains(flows) {
            bail!("flows: {flows}; write 1 to {MAX_FLOWS}");
        }
        if *slice < Duration::from_millis(1) {
            bail!("slice: {slice:?}; write 1ms or more");
        }
        match self.pace {
            Pace::Open { rate } if !(rate > 0.0 && rate <= 1e8) => {
                bail!("rate: {rate} packets a second; write more than 0, 100,000,000 at most")
            }
            Pace::Closed { window, .. } if !(1..=4096).contains(&window) => {
                bail!("window: {window} packets; write 1 to 4096")
            }
            Pace::Closed { timeout, .. } if timeout < SWEEP => {
                bail!("timeout: {timeout:?}; write {SWEEP:?} or more")
            }
            Pace::Closed { .. } if !self.echo => {
                bail!("echo: off, but a closed loop lives by echoes; use a rate instead")
            }
            _ => Ok(()),
        }
    }
}

/// Sends, receives and counts.
#[derive(Debug)]
pub(crate) struct Driver {
    config: Config,
    poll: Poll,
    events: Events,
    timer: TimerFd,
    flows: Vec<Flow>,
    batch: Batch,
    /// What times in packets count from.
    epoch: Instant,
    /// When the first packet of an open loop was due.
    began: Option<Instant>,
    /// Packets of an open loop that have left.
    left: u64,
    /// The flow whose turn it is.
    turn: usize,
    /// What was counted so far; may be read between two calls.
    pub(crate) counts: Counts,
}

impl Driver {
    /// Opens the sockets. Nothing is sent yet.
    pub(crate) fn new(config: Config) -> anyhow::Result<Self> {
        config.check()?;
        let poll = Poll::new().context("epoll")?;
        let timer =
            TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK).context("timer")?;
        poll.registry()
            .register(&mut SourceFd(&timer.as_fd().as_raw_fd()), TIMER, Interest::READABLE)
            .context("epoll")?;
        let mut flows = Vec::with_capacity(config.flows);
        for number in 0..config.flows {
            let mut socket = connect(config.target).with_context(|| {
                format!(
                    "flow {number} of {} to {}: raise the limit of open files, or use fewer flows",
                    config.flows, config.target
                )
            })?;
            if config.echo {
                poll.registry()
                    .register(&mut socket, Token(number), Interest::READABLE)
                    .context("epoll")?;
            }
            flows.push(Flow::new(socket, number as u32));
        }
        Ok(Self {
            batch: Batch::new(config.payload, if config.echo { ECHO } else { NO_ECHO }),
            counts: Counts::new(config.slice)?,
            config,
            poll,
            events: Events::with_capacity(EVENTS),
            timer,
            flows,
            epoch: Instant::now(),
            began: None,
            left: 0,
            turn: 0,
        })
    }

    /// Sends and receives for a while, and goes on where the last call ended: an open loop's
    /// packets are due from the first call on. An error if nobody is there.
    pub(crate) fn drive(&mut self, time: Duration) -> anyhow::Result<()> {
        let entered = Instant::now();
        let end = entered + time;
        let start = *self.began.get_or_insert(entered);
        let mut next_sweep = entered;
        loop {
            let now = Instant::now();
            let is_over = now >= end;
            if now >= next_sweep {
                next_sweep = now + SWEEP;
                self.sweep(now)?;
            }
            let wait_until = match self.config.pace {
                Pace::Open { rate } => {
                    // Those due before the end leave, even if this comes to it a little late.
                    let due = ((now.min(end) - start).as_secs_f64() * rate).ceil() as u64;
                    let owed = due.saturating_sub(self.left);
                    self.left += self.send_due(start, rate, self.left, owed)?;
                    start + Duration::from_secs_f64(self.left as f64 / rate)
                }
                Pace::Closed { .. } if is_over => end,
                Pace::Closed { window, .. } => {
                    self.fill(window, now)?;
                    next_sweep
                }
            };
            if is_over {
                return Ok(());
            }
            self.receive(wait_until.min(next_sweep).min(end))?;
        }
    }

    /// Receives what is still under way, for no longer than a while; sends nothing.
    pub(crate) fn drain(&mut self, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        while self.config.echo && self.counts.received < self.counts.sent {
            let now = Instant::now();
            if now >= end {
                break;
            }
            interrupt::check()?;
            self.receive(end.min(now + SWEEP))?;
        }
        Ok(())
    }

    /// Sends packets that are due, flow by flow; how many have left.
    fn send_due(&mut self, start: Instant, rate: f64, first: u64, due: u64) -> anyhow::Result<u64> {
        let offset = start - self.epoch;
        // Bounded, so that what comes back is not left lying for too long.
        let due = due.min(16 * BATCH as u64);
        let run = (due / self.flows.len() as u64).clamp(1, BATCH as u64);
        let mut sent = 0;
        while sent < due {
            let count = run.min(due - sent);
            let number = first + sent;
            let when =
                (0..count).map(|at| offset + Duration::from_secs_f64((number + at) as f64 / rate));
            let gone = self.send(self.turn, when)?;
            self.turn = (self.turn + 1) % self.flows.len();
            sent += gone;
            if gone < count {
                break; // the socket takes no more for now: what is due stays due
            }
        }
        Ok(sent)
    }

    /// Sends on each flow as much as its window allows.
    fn fill(&mut self, window: usize, now: Instant) -> anyhow::Result<()> {
        let offset = now - self.epoch;
        for at in 0..self.flows.len() {
            let under_way = self.flows.get(at).map_or(window, Flow::under_way);
            let free = window.saturating_sub(under_way).min(BATCH);
            if free > 0 {
                self.send(at, (0..free).map(|_| offset))?;
            }
        }
        Ok(())
    }

    fn send(&mut self, at: usize, due: impl Iterator<Item = Duration>) -> anyhow::Result<u64> {
        let Some(flow) = self.flows.get_mut(at) else { return Ok(0) };
        self.batch.fill(flow, due);
        let result = self.batch.send(flow);
        let now = self.epoch.elapsed();
        match result {
            Ok(sent) => {
                let tracks = matches!(self.config.pace, Pace::Closed { .. });
                for due in self.batch.due().take(sent) {
                    flow.sent(due, tracks);
                    self.counts.sent(due, now, self.config.payload);
                }
                Ok(sent as u64)
            }
            Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::EINTR) => Ok(0),
            Err(Errno::ECONNREFUSED) => {
                self.counts.refused += 1;
                Ok(0)
            }
            Err(error) => Err(error).with_context(|| {
                format!("{} bytes to {}", self.config.payload, self.config.target)
            }),
        }
    }

    /// Waits for packets, and takes those that are there.
    fn receive(&mut self, until: Instant) -> anyhow::Result<()> {
        let wait = until.saturating_duration_since(Instant::now());
        // To the nanosecond by a timer, where epoll's own time-out has milliseconds.
        let timeout = if wait.is_zero() { Some(Duration::ZERO) } else { None };
        if timeout.is_none() {
            let once = Expiration::OneShot(TimeSpec::from_duration(wait));
            self.timer.set(once, TimerSetTimeFlags::empty()).context("timer")?;
        }
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            polled => polled.context("epoll")?,
        }
        for event in &self.events {
            let Some(flow) = self.flows.get_mut(event.token().0) else { continue };
            // Until nothing is left, as the next event comes only then; each turn takes at least
            // a packet, and a flood of them can't keep a run from its end for longer than this.
            for _ in 0..EVENTS {
                let taken = match self.batch.receive(flow) {
                    Ok(taken) => taken,
                    Err(Errno::EAGAIN) => break,
                    Err(Errno::EINTR) => continue,
                    Err(Errno::ECONNREFUSED) => {
                        self.counts.refused += 1;
                        continue;
                    }
                    Err(error) => return Err(error).context("receiving datagrams"),
                };
                let now = self.epoch.elapsed();
                for bytes in self.batch.received(taken) {
                    self.counts.received(flow.take(bytes), now);
                }
            }
        }
        Ok(())
    }

    fn sweep(&mut self, now: Instant) -> anyhow::Result<()> {
        interrupt::check()?;
        if self.counts.refused >= HOPELESS && self.counts.received == 0 {
            bail!("{}: nobody listens there for UDP: start the target first", self.config.target);
        }
        if let Pace::Closed { timeout, .. } = self.config.pace
            && let Some(oldest) = (now - self.epoch).checked_sub(timeout)
        {
            for flow in &mut self.flows {
                self.counts.given_up += flow.give_up_before(oldest);
            }
        }
        Ok(())
    }
}

fn connect(target: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(target), Type::DGRAM, Some(Protocol::UDP))?;
    // The system may give less; then bursts are lost, and counted.
    let _ = socket.set_recv_buffer_size(BUFFER);
    let _ = socket.set_send_buffer_size(BUFFER);
    socket.set_nonblocking(true)?;
    socket.connect(&target.into())?;
    Ok(UdpSocket::from_std(socket.into()))
}
