//! From the TUN to the peers.

use std::sync::Arc;
use std::time::Instant;

use netdev::udp::Unsent;
use overlay::peers::{Dropped, Peer, Peers, Sealed};
use packet::ecn::{Dscp, outer_tos};
use packet::{Parsed, Segments, VnetHeader, vnet};

use super::pending::Pending;
use super::tally::{self, Reason};
use super::{Shared, Sockets};

/// Packets are filled up to a multiple of it, as long as the MTU allows (WireGuard's paper, 5.4.6).
const PADDING: usize = 16;

/// Seals what comes out of the TUN.
pub(super) struct Sealer {
    worker: usize,
    shared: Arc<Shared>,
    pending: Pending,
    /// A packet in one piece.
    packet: Box<[u8]>,
}

impl Sealer {
    pub(super) fn new(worker: usize, shared: Arc<Shared>) -> Self {
        let packet = vec![0; 65_535 + PADDING].into_boxed_slice();
        Self { worker, shared, pending: Pending::default(), packet }
    }

    /// Takes a frame from the TUN.
    pub(super) fn frame(
        &mut self,
        peers: &Peers,
        sockets: &Sockets,
        frame: &mut [u8],
        now: Instant,
    ) {
        let malformed = Reason::Protocol(Dropped::Malformed);
        let (header, packet) = if self.shared.offloads.header {
            match VnetHeader::split(frame, vnet::SIZE) {
                Ok(split) => split,
                Err(_) => return self.drop_packets(malformed, 1),
            }
        } else {
            (VnetHeader::default(), frame)
        };
        let Some(parsed) = Parsed::new(packet) else {
            return self.drop_packets(malformed, 1);
        };
        let Ok(segments) = Segments::new(&header, packet) else {
            return self.drop_packets(malformed, 1);
        };
        let Some(peer) = peers.to(parsed.destination) else {
            return self.drop_packets(Reason::Protocol(Dropped::NoPeer), segments.len() as u64);
        };
        let tos = outer_tos(parsed.tos, Dscp::Set(0));
        let mut session = peer.lock();
        for segment in segments {
            let length = segment.total_length();
            let padded = padded(length, self.shared.mtu);
            if !self.pending.fits(session.way(), tos, padded) {
                // Sending is slow, and others may want to go on.
                drop(session);
                self.send(sockets);
                session = peer.lock();
            }
            let Some(packet) = gather(&mut self.packet, &segment.parts(), padded) else { continue };
            let (sealed, begins) = self.pending.seal(peer, &mut session, tos, packet, length, now);
            match sealed {
                Sealed::Datagram(_) | Sealed::Waits => {}
                Sealed::Dropped(dropped) => self.drop_packets(Reason::Protocol(dropped), 1),
                Sealed::Begins(_) => {
                    let way = session.way();
                    if let Some(way) = way
                        && let Err(unsent @ Unsent { datagrams: 1.., .. }) =
                            sockets.send(&way, 0, begins, begins.len())
                    {
                        self.drop_packets(tally::reason(&unsent), 1);
                        session.forget_local();
                    }
                }
            }
        }
    }

    /// Sends what waits.
    pub(super) fn send(&mut self, sockets: &Sockets) {
        if let Err(unsent @ Unsent { datagrams: 1.., .. }) = self.pending.flush(sockets) {
            self.drop_packets(tally::reason(&unsent), unsent.datagrams as u64);
        }
    }

    #[cold]
    fn drop_packets(&self, reason: Reason, packets: u64) {
        self.shared.tally.add(self.worker, reason, packets);
    }
}

/// A packet's length with padding.
#[inline]
fn padded(length: usize, mtu: usize) -> usize {
    length.next_multiple_of(PADDING).min(mtu).max(length)
}

/// Puts a packet together, with zeros behind it.
#[inline]
fn gather<'a>(room: &'a mut [u8], parts: &[&[u8]; 2], padded: usize) -> Option<&'a [u8]> {
    let [first, second] = parts;
    let whole = room.get_mut(..padded)?;
    let (head, rest) = whole.split_at_mut_checked(first.len())?;
    head.copy_from_slice(first);
    let (body, padding) = rest.split_at_mut_checked(second.len())?;
    body.copy_from_slice(second);
    padding.fill(0);
    Some(whole)
}

/// A peer whose packets have waited for a handshake gets them, now that there was one.
#[cold]
pub(super) fn send_waiting(
    shared: &Shared,
    worker: usize,
    sockets: &Sockets,
    peer: &Peer,
    buffer: &mut [u8],
    now: Instant,
) {
    loop {
        let mut session = peer.lock();
        let Some(way) = session.way().filter(|_| session.waits()) else { return };
        let Some(length) = session.next_waiting(now, buffer) else { return };
        drop(session);
        let datagram = buffer.get(..length).unwrap_or_default();
        if let Err(unsent @ Unsent { datagrams: 1.., .. }) =
            sockets.send(&way, 0, datagram, datagram.len())
        {
            shared.tally.add(worker, tally::reason(&unsent), 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_filled_up_as_far_as_the_mtu_allows() {
        let lengths = [1, 16, 17, 1419, 1420, 1500].map(|length| padded(length, 1420));
        assert_eq!(lengths, [16, 16, 32, 1420, 1420, 1500]);
        let mut room = vec![0xff; 100];
        let packet = gather(&mut room, &[b"ab", b"cd"], 16).unwrap();
        assert_eq!(packet, b"abcd\0\0\0\0\0\0\0\0\0\0\0\0");
        assert!(gather(&mut room, &[b"ab", b"cd"], 101).is_none());
    }
}
