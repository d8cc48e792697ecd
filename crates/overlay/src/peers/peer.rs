//! One peer: its sessions, where it is, and what it has done.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519;
use model::PublicKey;

use super::{ANSWER, Dropped, OVERHEAD};

/// A handshake initiation's first octet.
const INITIATION: u8 = 1;
const COOKIE: u8 = 3;

/// A peer that hasn't been heard for so long, though something was sent to it, may have lost its
/// sessions in a restart: a handshake finds out. WireGuard itself waits for 15 s.
const UNHEARD: Duration = Duration::from_secs(2);
/// And not more often (REKEY_TIMEOUT).
const AGAIN: Duration = Duration::from_secs(5);

/// Where datagrams go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The other end.
    pub remote: SocketAddr,
    /// The address of this end, where the other end has used one.
    pub local: Option<IpAddr>,
}

/// What a peer has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Where it is.
    pub endpoint: Option<SocketAddr>,
    /// How long ago the last handshake was.
    pub last_handshake: Option<Duration>,
    /// Octets of packets received.
    pub received_bytes: u64,
    /// Packets received.
    pub received_packets: u64,
    /// Octets of packets sent.
    pub sent_bytes: u64,
    /// Packets sent.
    pub sent_packets: u64,
}

/// One peer.
pub struct Peer {
    key: PublicKey,
    index: u32,
    state: Mutex<State>,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer").field("key", &self.key).finish_non_exhaustive()
    }
}

struct State {
    tunn: Tunn,
    way: Option<Way>,
    /// What endpoint was wanted last.
    wanted: Option<SocketAddr>,
    keepalive: Option<Duration>,
    /// Packets may wait for a session.
    waits: bool,
    last_sent: Instant,
    /// When something was first sent since the peer was heard.
    unheard: Option<Instant>,
    /// When it was last asked for a handshake for that reason.
    asked: Option<Instant>,
    statistics: Statistics,
}

/// What has come of a packet to be sent. Numbers are octets of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealed {
    /// A datagram.
    Datagram(usize),
    /// The packet waits for a handshake, whose beginning is to be sent.
    Begins(usize),
    /// The packet waits for a handshake.
    Waits,
    /// It can't be sent.
    Dropped(Dropped),
}

/// What has come of a datagram. Numbers are octets of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// A packet from this source.
    Packet(usize, IpAddr),
    /// A datagram to be sent back.
    Answer(usize),
    /// It was one of the peer's, and that's all.
    Nothing,
    /// It was none.
    Dropped(Dropped),
}

impl Peer {
    pub(super) fn new(
        own: x25519::StaticSecret,
        key: PublicKey,
        index: u32,
        unlimited: Arc<RateLimiter>,
        now: Instant,
    ) -> Self {
        let public = x25519::PublicKey::from(key.0);
        let tunn = Tunn::new(own, public, None, None, index, Some(unlimited));
        let state = State {
            tunn,
            way: None,
            wanted: None,
            keepalive: None,
            waits: false,
            last_sent: now,
            unheard: None,
            asked: None,
            statistics: Statistics::default(),
        };
        Self { key, index, state: Mutex::new(state) }
    }

    /// Its key.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    pub(super) fn index(&self) -> u32 {
        self.index
    }

    /// To send to it, or to receive from it: best kept for as many packets as there are.
    #[inline]
    pub fn lock(&self) -> Session<'_> {
        Session(self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What it has done.
    pub fn statistics(&self) -> Statistics {
        let state = self.lock().0;
        Statistics {
            endpoint: state.way.map(|way| way.remote),
            last_handshake: state.tunn.time_since_last_handshake(),
            ..state.statistics.clone()
        }
    }
}

/// A peer that nobody else uses at the moment.
pub struct Session<'a>(MutexGuard<'a, State>);

impl Session<'_> {
    pub(super) fn want(&mut self, endpoint: Option<SocketAddr>, keepalive: Option<u16>) {
        let state = &mut *self.0;
        state.keepalive = keepalive.map(u64::from).filter(|s| *s > 0).map(Duration::from_secs);
        if state.wanted != endpoint {
            state.wanted = endpoint;
            if let Some(remote) = endpoint {
                state.way = Some(Way { remote, local: None });
            }
        }
    }

    /// Where it is.
    #[inline]
    pub fn way(&self) -> Option<Way> {
        self.0.way
    }

    /// The address of this end is none any more.
    pub fn forget_local(&mut self) {
        if let Some(way) = &mut self.0.way {
            way.local = None;
        }
    }

    /// Seals a packet. `length` is that without padding, for the statistics; the buffer has room
    /// for the packet and [`OVERHEAD`], and at least for [`ANSWER`].
    #[inline]
    pub fn seal(
        &mut self,
        packet: &[u8],
        length: usize,
        now: Instant,
        buffer: &mut [u8],
    ) -> Sealed {
        if buffer.len() < (packet.len() + OVERHEAD).max(ANSWER) {
            return Sealed::Dropped(Dropped::Malformed);
        }
        let state = &mut *self.0;
        if state.way.is_none() {
            return Sealed::Dropped(Dropped::NoEndpoint);
        }
        match state.tunn.encapsulate(packet, buffer) {
            TunnResult::WriteToNetwork(datagram) => {
                state.last_sent = now;
                if datagram.first() == Some(&INITIATION) {
                    state.waits = true;
                    return Sealed::Begins(datagram.len());
                }
                state.unheard.get_or_insert(now);
                state.statistics.sent_packets += 1;
                state.statistics.sent_bytes += length as u64;
                Sealed::Datagram(datagram.len())
            }
            TunnResult::Err(error) => Sealed::Dropped(dropped(&error)),
            _ => {
                state.waits = true;
                Sealed::Waits
            }
        }
    }

    /// Opens a datagram that [`super::Peers::find`] says is of this peer. The buffer has as much
    /// room as the datagram has octets, and at least for [`ANSWER`].
    #[inline]
    pub fn open(&mut self, datagram: &[u8], way: Way, now: Instant, buffer: &mut [u8]) -> Opened {
        if datagram.len() < OVERHEAD || buffer.len() < datagram.len().max(ANSWER) {
            return Opened::Dropped(Dropped::Malformed);
        }
        let state = &mut *self.0;
        let (opened, length) = match state.tunn.decapsulate(None, datagram, buffer) {
            TunnResult::WriteToTunnelV4(packet, source) => (Some(source.into()), packet.len()),
            TunnResult::WriteToTunnelV6(packet, source) => (Some(source.into()), packet.len()),
            TunnResult::WriteToNetwork(answer) => {
                state.last_sent = now;
                (None, answer.len())
            }
            TunnResult::Done => (None, 0),
            TunnResult::Err(error) => return Opened::Dropped(dropped(&error)),
        };
        // A cookie says nothing about where the peer is: it can be repeated from anywhere.
        if datagram.first() != Some(&COOKIE) {
            (state.way, state.unheard) = (Some(way), None);
        }
        match (opened, length) {
            (Some(source), length) => {
                state.statistics.received_packets += 1;
                state.statistics.received_bytes += length as u64;
                Opened::Packet(length, source)
            }
            (None, 0) => Opened::Nothing,
            (None, length) => Opened::Answer(length),
        }
    }

    /// Whether packets may wait for a session: to be looked at after a datagram was opened.
    #[inline]
    pub fn waits(&self) -> bool {
        self.0.waits
    }

    /// A datagram of a packet that has waited, and so on until there is none. The buffer has room
    /// for the largest packet and [`OVERHEAD`].
    #[cold]
    pub fn next_waiting(&mut self, now: Instant, buffer: &mut [u8]) -> Option<usize> {
        let state = &mut *self.0;
        // Those that still have no session would be put back again and again.
        state.tunn.time_since_last_handshake()?;
        if let TunnResult::WriteToNetwork(datagram) = state.tunn.decapsulate(None, &[], buffer) {
            state.last_sent = now;
            if datagram.first() != Some(&INITIATION) {
                state.statistics.sent_packets += 1;
                state.statistics.sent_bytes += datagram.len().saturating_sub(OVERHEAD) as u64;
            }
            return Some(datagram.len());
        }
        state.waits = false;
        None
    }

    /// What is due by the clock: a handshake, a keepalive. Has to be called four times a second.
    pub fn tick(&mut self, now: Instant, buffer: &mut [u8; ANSWER]) -> Option<usize> {
        let state = &mut *self.0;
        let due = match state.tunn.update_timers(buffer) {
            TunnResult::WriteToNetwork(datagram) => Some(datagram.len()),
            _ if state.way.is_none() => None,
            _ => {
                let is_over = |from: Option<Instant>, time| {
                    from.is_some_and(|from| now.saturating_duration_since(from) >= time)
                };
                let result = if is_over(state.unheard, UNHEARD)
                    && (state.asked.is_none() || is_over(state.asked, AGAIN))
                {
                    state.asked = Some(now);
                    state.tunn.format_handshake_initiation(buffer, true)
                } else if state.keepalive.is_some_and(|time| is_over(Some(state.last_sent), time)) {
                    state.tunn.encapsulate(&[], buffer)
                } else {
                    TunnResult::Done
                };
                match result {
                    TunnResult::WriteToNetwork(datagram) => Some(datagram.len()),
                    _ => None,
                }
            }
        };
        if due.is_some() {
            state.last_sent = now;
        }
        // Without a way it can only wait.
        due.filter(|_| state.way.is_some())
    }
}

/// What an error of boringtun's means here.
pub(super) fn dropped(error: &WireGuardError) -> Dropped {
    match error {
        WireGuardError::InvalidCounter
        | WireGuardError::DuplicateCounter
        | WireGuardError::WrongTai64nTimestamp => Dropped::Replayed,
        WireGuardError::InvalidAeadTag
        | WireGuardError::InvalidMac
        | WireGuardError::WrongKey
        | WireGuardError::InvalidTai64nTimestamp => Dropped::Unauthentic,
        WireGuardError::NoCurrentSession
        | WireGuardError::WrongIndex
        | WireGuardError::ConnectionExpired
        | WireGuardError::UnexpectedPacket => Dropped::NoSession,
        WireGuardError::UnderLoad => Dropped::Limited,
        _ => Dropped::Malformed,
    }
}
