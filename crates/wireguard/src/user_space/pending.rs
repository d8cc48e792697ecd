//! Datagrams that wait to be sent in one system call.

use std::sync::Arc;
use std::time::Instant;

use netdev::udp::Unsent;
use overlay::peers::{ANSWER, OVERHEAD, Peer, Sealed, Session, Way};

use super::Sockets;

/// The kernel's limit on segments.
const SEGMENTS: usize = 64;
/// What the length field of UDP over IPv4 leaves, rounded down.
const OCTETS: usize = 65_000;
/// Room for one more of any size.
const ROOM: usize = OCTETS + 65_535 + OVERHEAD + ANSWER;

/// Datagrams of one size for one other end.
#[derive(Debug)]
pub(super) struct Pending {
    to: Option<(Arc<Peer>, Way)>,
    tos: u8,
    /// The length of each.
    segment: usize,
    count: usize,
    /// The last one is shorter, so that it is the last.
    closed: bool,
    used: usize,
    buffer: Box<[u8]>,
}

impl Default for Pending {
    fn default() -> Self {
        let buffer = vec![0; ROOM].into_boxed_slice();
        Self { to: None, tos: 0, segment: 0, count: 0, closed: false, used: 0, buffer }
    }
}

impl Pending {
    /// Whether one more packet can be added.
    #[inline]
    pub(super) fn fits(&self, way: Option<Way>, tos: u8, packet: usize) -> bool {
        match &self.to {
            None => true,
            Some((_, to)) => {
                !self.closed
                    && Some(*to) == way
                    && tos == self.tos
                    && packet + OVERHEAD <= self.segment
                    && self.count < SEGMENTS
                    && self.used + packet + OVERHEAD <= OCTETS
            }
        }
    }

    /// Seals a packet behind the others. It has to fit. A handshake's beginning is given out
    /// rather than kept.
    #[inline]
    pub(super) fn seal(
        &mut self,
        peer: &Arc<Peer>,
        session: &mut Session<'_>,
        tos: u8,
        packet: &[u8],
        length: usize,
        now: Instant,
    ) -> (Sealed, &[u8]) {
        let way = session.way();
        let room = self.buffer.get_mut(self.used..).unwrap_or_default();
        let sealed = session.seal(packet, length, now, room);
        match (sealed, way) {
            (Sealed::Datagram(length), Some(way)) => {
                if self.to.is_none() {
                    self.to = Some((Arc::clone(peer), way));
                    (self.tos, self.segment) = (tos, length);
                }
                self.closed = length < self.segment;
                self.count += 1;
                self.used += length;
                (sealed, &[])
            }
            (Sealed::Begins(length), _) => {
                let begins = self.buffer.get(self.used..self.used + length);
                (sealed, begins.unwrap_or_default())
            }
            _ => (sealed, &[]),
        }
    }

    /// Sends what waits. Tells what could not be sent.
    pub(super) fn flush(&mut self, sockets: &Sockets) -> Result<(), Unsent> {
        let Some((peer, way)) = self.to.take() else { return Ok(()) };
        let contents = self.buffer.get(..self.used).unwrap_or_default();
        let result = sockets.send(&way, self.tos, contents, self.segment);
        if way.local.is_some() && result.as_ref().is_err_and(|unsent| unsent.datagrams > 0) {
            // The address of this end may be gone.
            peer.lock().forget_local();
        }
        (self.used, self.count, self.closed) = (0, 0, false);
        result
    }
}
