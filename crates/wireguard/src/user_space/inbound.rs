//! From the peers into the TUN.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use netdev::tun::Queue;
use netdev::udp::{Received, Unsent};
use overlay::peers::{ANSWER, Dropped, Incoming, OVERHEAD, Opened, Peer, Peers, Session, Way};
use packet::{Coalescer, Parsed, ecn, vnet};

use super::outbound::send_waiting;
use super::tally::{self, Reason};
use super::{Shared, Sockets};

/// Opens what comes from the network.
pub(super) struct Opener {
    worker: usize,
    shared: Arc<Shared>,
    coalescer: Coalescer,
    buffer: Box<[u8]>,
}

/// Datagrams of one peer's session that came together.
struct Run<'a> {
    /// Type and receiver's index, which are the same in all of them.
    begin: [u8; 8],
    peer: &'a Arc<Peer>,
    session: Session<'a>,
    /// The source that was found to be allowed last.
    allowed: Option<IpAddr>,
    waits: bool,
}

impl Opener {
    pub(super) fn new(worker: usize, shared: Arc<Shared>) -> Self {
        let coalescer = Coalescer::new(vnet::SIZE, shared.offloads.udp);
        let buffer = vec![0; 65_535 + OVERHEAD + ANSWER].into_boxed_slice();
        Self { worker, shared, coalescer, buffer }
    }

    /// Takes datagrams of one other end.
    pub(super) fn datagrams(
        &mut self,
        peers: &Peers,
        sockets: &Sockets,
        queue: &Queue,
        received: &Received,
        datagrams: &[u8],
        now: Instant,
    ) {
        let way = Way { remote: received.from, local: received.to };
        let mut run: Option<Run<'_>> = None;
        for datagram in datagrams.chunks(received.stride) {
            let Some(begin) = datagram.first_chunk::<8>() else {
                self.drop_packet(Reason::Protocol(Dropped::Malformed));
                continue;
            };
            let mut same = match run.take() {
                // Only data: a handshake is somebody else's each time.
                Some(run) if run.begin == *begin && begin.first() == Some(&4) => run,
                other => {
                    self.end(sockets, other, now);
                    let Some(next) = self.find(peers, sockets, way, datagram, *begin, now) else {
                        continue;
                    };
                    next
                }
            };
            self.open(peers, sockets, queue, &mut same, way, received.ecn, datagram, now);
            run = Some(same);
        }
        self.end(sockets, run, now);
    }

    fn find<'a>(
        &self,
        peers: &'a Peers,
        sockets: &Sockets,
        way: Way,
        datagram: &[u8],
        begin: [u8; 8],
        now: Instant,
    ) -> Option<Run<'a>> {
        let mut answer = [0; ANSWER];
        match peers.find(datagram, way.remote, now, &mut answer) {
            Incoming::Of(peer) => {
                Some(Run { begin, peer, session: peer.lock(), allowed: None, waits: false })
            }
            Incoming::Answer(length) => {
                self.answer(sockets, way, answer.get(..length).unwrap_or_default());
                None
            }
            Incoming::Dropped(dropped) => {
                self.drop_packet(Reason::Protocol(dropped));
                None
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what is known of a packet, on the hot path")]
    #[inline]
    fn open(
        &mut self,
        peers: &Peers,
        sockets: &Sockets,
        queue: &Queue,
        run: &mut Run<'_>,
        way: Way,
        outer: u8,
        datagram: &[u8],
        now: Instant,
    ) {
        let opened = run.session.open(datagram, way, now, &mut self.buffer);
        match opened {
            Opened::Packet(length, source) => {
                if run.allowed != Some(source) {
                    if !peers.may_send(run.peer, source) {
                        return self.drop_packet(Reason::Protocol(Dropped::NotAllowed));
                    }
                    run.allowed = Some(source);
                }
                let packet = self.buffer.get_mut(..length).unwrap_or_default();
                // Marks of congestion on the way are passed on.
                if outer != 0 {
                    let marked = Parsed::new(packet)
                        .is_some_and(|mut parsed| ecn::decapsulate(packet, &mut parsed, outer));
                    if !marked {
                        return self.drop_packet(Reason::Protocol(Dropped::Malformed));
                    }
                }
                if self.shared.offloads.header {
                    self.coalescer.push(packet);
                } else if queue.send(packet).is_err() {
                    self.drop_packet(Reason::TunRefused);
                }
            }
            Opened::Answer(length) => {
                self.answer(sockets, way, self.buffer.get(..length).unwrap_or_default());
            }
            Opened::Nothing => {}
            Opened::Dropped(dropped) => return self.drop_packet(Reason::Protocol(dropped)),
        }
        run.waits |= run.session.waits();
    }

    fn end(&mut self, sockets: &Sockets, run: Option<Run<'_>>, now: Instant) {
        let Some(Run { peer, session, waits, .. }) = run else { return };
        drop(session);
        if waits {
            send_waiting(&self.shared, self.worker, sockets, peer, &mut self.buffer, now);
        }
    }

    fn answer(&self, sockets: &Sockets, way: Way, datagram: &[u8]) {
        if let Err(unsent @ Unsent { datagrams: 1.., .. }) =
            sockets.send(&way, 0, datagram, datagram.len())
        {
            self.drop_packet(tally::reason(&unsent));
        }
    }

    /// Writes what was collected.
    pub(super) fn flush(&mut self, queue: &Queue) {
        let (shared, worker) = (&self.shared, self.worker);
        self.coalescer.flush(|frame| {
            if queue.send(frame).is_err() {
                shared.tally.add(worker, Reason::TunRefused, 1);
            }
        });
    }

    #[cold]
    fn drop_packet(&self, reason: Reason) {
        self.shared.tally.add(self.worker, reason, 1);
    }
}
