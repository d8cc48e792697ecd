//! From the network into the TUN.

use std::net::SocketAddr;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::Guard;
use ipsec::esp::{EspError, Opened, Replay};
use ipsec::packet::{Coalescer, Parsed, ecn, mss, vnet};
use ipsec::sa::{Path, Spi};
use netdev::esp_socket;
use netdev::tun::Queue;
use netdev::udp::Received;

use super::FromNetwork;
use super::limit::PerSource;
use super::sa::{Sa, Way};
use super::shared::{BySpi, Shared};
use super::tally::{Cells, Reason};

/// Before IKE on the port that it shares with ESP (RFC 3948, 2.2).
const MARKER: [u8; 4] = [0; 4];
/// RFC 3948, 2.3.
const KEEPALIVE: [u8; 1] = [0xff];
/// SPI and sequence number.
const ESP_HEADER: usize = 8;
const NEXT_IPV4: u8 = 4;
const NEXT_IPV6: u8 = 41;

/// Opens what comes from the network.
pub(super) struct Opener {
    worker: usize,
    shared: Arc<Shared>,
    coalescer: Coalescer,
    unknown: PerSource,
}

/// ESP packets of one SA that came together.
struct Run<'a> {
    spi: u32,
    sa: &'a Arc<Sa>,
    cells: &'a Cells,
    replay: MutexGuard<'a, Replay>,
    way: Guard<Arc<Way>>,
    /// Whether one was authentic.
    alive: bool,
}

impl Opener {
    pub(super) fn new(worker: usize, shared: Arc<Shared>) -> Self {
        let coalescer = Coalescer::new(vnet::SIZE, shared.offloads.udp);
        Self { worker, shared, coalescer, unknown: PerSource::default() }
    }

    /// Takes datagrams of one other end. `local` is what the socket is bound to.
    pub(super) fn udp(
        &mut self,
        by_spi: &BySpi,
        queue: &Queue,
        local: SocketAddr,
        received: &Received,
        datagrams: &mut [u8],
        now: Instant,
    ) {
        let local = SocketAddr::new(received.to.unwrap_or(local.ip()), local.port());
        let path = Path { local, remote: received.from };
        let has_esp = local.port() == self.shared.nat_port;
        let mut run = None;
        for datagram in datagrams.chunks_mut(received.stride) {
            if !has_esp {
                self.ike(path, datagram, now);
            } else if *datagram == KEEPALIVE {
            } else if let Some(message) = datagram.strip_prefix(&MARKER) {
                self.ike(path, message, now);
            } else {
                run = self.esp(by_spi, run, queue, path, true, received.ecn, datagram, now);
            }
        }
        self.end(run, path, true, now);
    }

    /// Takes what a raw socket gave.
    pub(super) fn raw(
        &mut self,
        by_spi: &BySpi,
        queue: &Queue,
        local: std::net::IpAddr,
        received: &Received,
        packet: &mut [u8],
        now: Instant,
    ) {
        let port = self.shared.port;
        let path = Path {
            local: SocketAddr::new(received.to.unwrap_or(local), port),
            remote: SocketAddr::new(received.from.ip(), port),
        };
        match esp_socket::payload(path.remote.is_ipv4(), packet) {
            Some(packet) => {
                let run = self.esp(by_spi, None, queue, path, false, received.ecn, packet, now);
                self.end(run, path, false, now);
            }
            None => self.drop_packet(Reason::Malformed),
        }
    }

    fn ike(&mut self, path: Path, message: &[u8], now: Instant) {
        let told = self.shared.tell(FromNetwork::Ike { path, datagram: message.to_vec(), at: now });
        if !told {
            self.drop_packet(Reason::IkeBehind);
        }
    }

    /// Opens an ESP packet. The run goes on if it is of the same SA.
    #[expect(clippy::too_many_arguments, reason = "what is known of a packet, on the hot path")]
    #[inline]
    fn esp<'a>(
        &mut self,
        by_spi: &'a BySpi,
        run: Option<Run<'a>>,
        queue: &Queue,
        path: Path,
        udp: bool,
        ecn: u8,
        packet: &mut [u8],
        now: Instant,
    ) -> Option<Run<'a>> {
        let Some([s0, s1, s2, s3, ..]) = packet.first_chunk::<ESP_HEADER>() else {
            self.drop_packet(Reason::Malformed);
            return run;
        };
        let spi = u32::from_be_bytes([*s0, *s1, *s2, *s3]);
        let mut run = match run {
            Some(run) if run.spi == spi => run,
            other => {
                self.end(other, path, udp, now);
                let Some(sa) = by_spi.get(&spi) else {
                    self.unknown(path, spi, now);
                    return None;
                };
                Run {
                    spi,
                    sa,
                    cells: sa.tally.of(self.worker),
                    replay: sa.replay.lock().unwrap_or_else(PoisonError::into_inner),
                    way: sa.way.load(),
                    alive: false,
                }
            }
        };
        let cells = run.cells;
        match run.sa.inbound.open(&mut run.replay, packet) {
            Ok(Opened::Dummy) => run.alive = true,
            Ok(Opened::Packet { inner, next_header }) => {
                run.alive = true;
                self.packet(&run, queue, inner, next_header, ecn);
            }
            Err(EspError::Replayed) => cells.replayed.add(1),
            Err(EspError::Unauthentic) => cells.unauthentic.add(1),
            Err(EspError::Malformed) => {
                run.alive = true;
                cells.malformed.add(1);
            }
            Err(EspError::Truncated | EspError::OtherSpi) => cells.malformed.add(1),
        }
        Some(run)
    }

    /// Gives a packet that was in a tunnel to the TUN.
    #[inline]
    fn packet(&mut self, run: &Run<'_>, queue: &Queue, inner: &mut [u8], next: u8, outer: u8) {
        let (sa, cells) = (run.sa, run.cells);
        let parsed = Parsed::new(inner)
            .filter(|parsed| next == if parsed.source.is_ipv4() { NEXT_IPV4 } else { NEXT_IPV6 });
        let Some(mut parsed) = parsed else { return cells.malformed.add(1) };
        // Before addresses are changed back: what the other end may send is what was agreed on.
        if !sa.gives(&parsed) && !sa.gives_error(&parsed, inner) {
            return cells.selector_drops.add(1);
        }
        if !ecn::decapsulate(inner, &mut parsed, outer) {
            return cells.malformed.add(1);
        }
        sa.child.mapping.load().inward(inner, &mut parsed);
        mss::clamp(inner, &parsed, run.way.largest(parsed.source.is_ipv4()));
        cells.received_packets.add(1);
        cells.received_bytes.add(inner.len() as u64);
        if self.shared.offloads.header {
            self.coalescer.push(inner);
        } else if queue.send(inner).is_err() {
            self.drop_packet(Reason::TunRefused);
        }
    }

    /// Writes what was collected.
    pub(super) fn flush(&mut self, queue: &Queue) {
        let (shared, worker) = (&self.shared, self.worker);
        self.coalescer.flush(|frame| {
            if queue.send(frame).is_err() {
                shared.drops.add(worker, Reason::TunRefused, 1);
            }
        });
    }

    /// Tells what the packets of a run say of the other end.
    fn end(&mut self, run: Option<Run<'_>>, path: Path, udp: bool, now: Instant) {
        let Some(run) = run.filter(|run| run.alive) else { return };
        let sa = run.sa;
        let now = self.shared.milliseconds(now);
        if sa.alive.is_due(now) && !self.shared.tell(FromNetwork::Alive { sa: sa.sa.id }) {
            sa.alive.undo();
        }
        let has_moved = udp && run.way.udp && path != run.way.path;
        if has_moved
            && sa.moved.is_due(now)
            && !self.shared.tell(FromNetwork::Moved { sa: sa.sa.id, path })
        {
            sa.moved.undo();
        }
    }

    #[cold]
    fn unknown(&mut self, path: Path, spi: u32, now: Instant) {
        // Numbers below 256 are no SPIs: junk, or the marker of IKE cut off.
        let Some(spi) = Spi::new(spi) else { return self.drop_packet(Reason::Malformed) };
        self.drop_packet(Reason::UnknownSpi);
        if self.unknown.allows(path.remote.ip(), self.shared.milliseconds(now)) {
            self.shared.tell(FromNetwork::UnknownSpi { path, spi });
        }
    }

    fn drop_packet(&self, reason: Reason) {
        self.shared.drops.add(self.worker, reason, 1);
    }
}
