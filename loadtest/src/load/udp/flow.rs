//! One socket: the numbers of its packets, and many of them in one system call.

use std::collections::VecDeque;
use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::net::UdpSocket;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg, sendmmsg};

use super::{HEADER, MAGIC};

/// Packets in one system call.
pub(super) const BATCH: usize = 64;
/// Words of 64 packets each whose arrival is remembered behind the newest one.
const REMEMBERED: usize = 1024;

/// What a datagram that came is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// A packet's echo.
    New {
        /// When the packet was meant to leave.
        due: Duration,
        /// Whether one that was sent later came before it.
        reordered: bool,
    },
    /// One that came before.
    Duplicate,
    /// One so old that this is not known.
    Stale,
    /// None of this flow's.
    Foreign,
}

/// A socket and what is known of its packets.
#[derive(Debug)]
pub(super) struct Flow {
    socket: UdpSocket,
    number: u32,
    /// The next packet's number.
    next: u64,
    arrivals: Arrivals,
    /// Packets waited for by a closed loop, by number and time, the oldest first.
    waiting: VecDeque<(u64, Duration)>,
    /// How many of those have not come.
    under_way: usize,
}

impl Flow {
    /// A flow of which nothing was sent.
    pub(super) fn new(socket: UdpSocket, number: u32) -> Self {
        Self {
            socket,
            number,
            next: 0,
            arrivals: Arrivals::default(),
            waiting: VecDeque::new(),
            under_way: 0,
        }
    }

    /// Packets that a closed loop waits for.
    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    /// Notes that the next packet has left.
    pub(super) fn sent(&mut self, due: Duration, tracked: bool) {
        if tracked {
            self.waiting.push_back((self.next, due));
            self.under_way += 1;
        }
        self.next += 1;
    }

    /// Takes a datagram.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Arrival {
        let Some((flow, number, due)) = read(bytes) else { return Arrival::Foreign };
        if flow != self.number || number >= self.next {
            return Arrival::Foreign;
        }
        let arrival = self.arrivals.take(number, due);
        let is_awaited = self.waiting.front().is_some_and(|(oldest, _)| number >= *oldest);
        if is_awaited && matches!(arrival, Arrival::New { .. }) {
            self.under_way -= 1;
            while let Some((oldest, _)) = self.waiting.front()
                && self.arrivals.has(*oldest)
            {
                self.waiting.pop_front();
            }
        }
        arrival
    }

    /// Waits no longer for packets sent before a time; how many those are.
    pub(super) fn give_up_before(&mut self, time: Duration) -> u64 {
        let mut given_up = 0;
        while let Some((number, sent)) = self.waiting.front()
            && *sent < time
        {
            if !self.arrivals.has(*number) {
                self.under_way -= 1;
                given_up += 1;
            }
            self.waiting.pop_front();
        }
        given_up
    }
}

/// Which packets have come: all before a point that are known to, and a bit for each behind it.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// The number of the first packet in `bits`.
    base: u64,
    bits: VecDeque<u64>,
    /// One more than the newest that came.
    newest: u64,
    /// Packets before this number are forgotten, whether they came or not.
    forgotten: u64,
}

impl Arrivals {
    /// Notes a packet that came.
    pub(super) fn take(&mut self, number: u64, due: Duration) -> Arrival {
        let Some(offset) = number.checked_sub(self.base) else {
            return if number < self.forgotten { Arrival::Stale } else { Arrival::Duplicate };
        };
        let mut word = offset / 64;
        if word >= (2 * REMEMBERED) as u64 {
            // A gap that nothing is remembered of.
            let base = (number / 64 - (REMEMBERED as u64 - 1)) * 64;
            let skipped = ((base - self.base) / 64).min(self.bits.len() as u64) as usize;
            self.bits.drain(..skipped);
            (self.base, self.forgotten) = (base, base);
            word = (number - base) / 64;
        }
        while self.bits.len() as u64 <= word {
            self.bits.push_back(0);
        }
        let bit = 1 << (number % 64);
        let Some(bits) = self.bits.get_mut(word as usize) else { return Arrival::Stale };
        if *bits & bit != 0 {
            return Arrival::Duplicate;
        }
        *bits |= bit;
        let reordered = number < self.newest;
        self.newest = self.newest.max(number + 1);
        self.trim();
        Arrival::New { due, reordered }
    }

    /// Whether a packet is known to have come.
    pub(super) fn has(&self, number: u64) -> bool {
        match number.checked_sub(self.base) {
            Some(offset) => {
                let word = self.bits.get((offset / 64) as usize).copied().unwrap_or_default();
                word & (1 << (number % 64)) != 0
            }
            None => number >= self.forgotten,
        }
    }

    /// Forgets words that are complete, and those too far behind.
    fn trim(&mut self) {
        while let Some(first) = self.bits.front() {
            let complete = *first == u64::MAX;
            if !complete && self.bits.len() <= REMEMBERED {
                break;
            }
            self.bits.pop_front();
            self.base += 64;
            if !complete {
                self.forgotten = self.base;
            }
        }
    }
}

/// Buffers for many packets at once; one set serves all flows in turn.
pub(super) struct Batch {
    payload: usize,
    out: Vec<u8>,
    due: Vec<Duration>,
    input: Vec<u8>,
    lengths: Vec<usize>,
    /// Without addresses, so one is enough for both directions.
    headers: MultiHeaders<()>,
}

impl fmt::Debug for Batch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Batch").field("payload", &self.payload).finish_non_exhaustive()
    }
}

impl Batch {
    /// Buffers for packets of so many bytes, [`HEADER`] at least, all with the same mark behind
    /// the magic.
    pub(super) fn new(payload: usize, mark: u8) -> Self {
        let mut out = vec![b'x'; BATCH * payload];
        for packet in out.chunks_exact_mut(payload) {
            let [a, b, c] = MAGIC;
            for (byte, value) in packet.iter_mut().zip([a, b, c, mark]) {
                *byte = value;
            }
        }
        Self {
            payload,
            out,
            due: Vec::with_capacity(BATCH),
            input: vec![0; BATCH * payload],
            lengths: Vec::with_capacity(BATCH),
            headers: MultiHeaders::preallocate(BATCH, None),
        }
    }

    /// Makes the next packets of a flow, one for each time at which one is due.
    pub(super) fn fill(&mut self, flow: &Flow, due: impl Iterator<Item = Duration>) {
        self.due.clear();
        for ((packet, due), at) in self.out.chunks_exact_mut(self.payload).zip(due).zip(0..) {
            write(packet, flow.number, flow.next + at, due);
            self.due.push(due);
        }
    }

    /// When the packets of the last [`Batch::fill`] were due.
    pub(super) fn due(&self) -> impl Iterator<Item = Duration> {
        self.due.iter().copied()
    }

    /// Sends them; how many the socket has taken.
    pub(super) fn send(&mut self, flow: &Flow) -> Result<usize, Errno> {
        let packets: Vec<_> = self
            .out
            .chunks_exact(self.payload)
            .take(self.due.len())
            .map(|packet| [IoSlice::new(packet)])
            .collect();
        let addresses = [const { None::<()> }; BATCH];
        let flags = MsgFlags::MSG_DONTWAIT;
        let fd = flow.socket.as_raw_fd();
        sendmmsg(fd, &mut self.headers, &packets, addresses, [], flags).map(Iterator::count)
    }

    /// Takes datagrams that came for a flow; how many.
    pub(super) fn receive(&mut self, flow: &Flow) -> Result<usize, Errno> {
        let mut packets: Vec<_> = self
            .input
            .chunks_exact_mut(self.payload)
            .map(|packet| [IoSliceMut::new(packet)])
            .collect();
        let flags = MsgFlags::MSG_DONTWAIT;
        let fd = flow.socket.as_raw_fd();
        let results = recvmmsg(fd, &mut self.headers, &mut packets, flags, None)?;
        self.lengths.clear();
        self.lengths.extend(results.map(|message| message.bytes));
        Ok(self.lengths.len())
    }

    /// The first so many of them; longer ones are cut.
    pub(super) fn received(&self, count: usize) -> impl Iterator<Item = &[u8]> {
        let packets = self.input.chunks_exact(self.payload).zip(&self.lengths);
        packets.take(count).map(|(packet, length)| packet.get(..*length).unwrap_or(packet))
    }
}

/// Writes a packet's own fields behind the mark.
fn write(packet: &mut [u8], flow: u32, number: u64, due: Duration) {
    let due = u64::try_from(due.as_nanos()).unwrap_or(u64::MAX);
    let fields = [&flow.to_be_bytes()[..], &number.to_be_bytes(), &due.to_be_bytes()].concat();
    if let Some(place) = packet.get_mut(4..HEADER) {
        place.copy_from_slice(&fields);
    }
}

/// Flow, number and time of a packet.
fn read(packet: &[u8]) -> Option<(u32, u64, Duration)> {
    let (magic, rest) = packet.split_at_checked(4)?;
    let (flow, rest) = rest.split_first_chunk()?;
    let (number, rest) = rest.split_first_chunk()?;
    let due = u64::from_be_bytes(*rest.first_chunk()?);
    let ours = magic.starts_with(&MAGIC);
    ours.then(|| {
        (u32::from_be_bytes(*flow), u64::from_be_bytes(*number), Duration::from_nanos(due))
    })
}
