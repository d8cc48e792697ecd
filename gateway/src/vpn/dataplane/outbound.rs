//! From the TUN into the tunnels.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ipsec::packet::ecn::{Dscp, outer_tos};
use ipsec::packet::fragment::fragments;
use ipsec::packet::{Parsed, Segments, VnetHeader, icmp, mss, vnet};
use netdev::tun::{FRAME_HEADER, Queue};
use netdev::udp::Unsent;

use super::FromNetwork;
use super::child::Child;
use super::limit::Rate;
use super::pending::Pending;
use super::policies::Policies;
use super::sa::{Sa, Way};
use super::shared::{Shared, Sockets, reason};
use super::tally::Reason;

/// Answers "administratively prohibited" that a worker gives in a second.
const PROHIBITED: u32 = 20;
const TCP: u8 = 6;
const NEXT_IPV4: u8 = 4;
const NEXT_IPV6: u8 = 41;

/// Seals what comes out of the TUN.
pub(super) struct Sealer {
    worker: usize,
    shared: Arc<Shared>,
    pending: Pending,
    /// What is written back into the TUN.
    answers: Vec<Vec<u8>>,
    prohibited: Rate,
    dscp: Dscp,
}

impl Sealer {
    pub(super) fn new(worker: usize, shared: Arc<Shared>) -> Self {
        let dscp = if shared.copy_dscp { Dscp::Copy } else { Dscp::Set(0) };
        Self {
            worker,
            shared,
            dscp,
            pending: Pending::default(),
            answers: Vec::new(),
            prohibited: Rate::new(PROHIBITED),
        }
    }

    /// Takes a frame from the TUN.
    pub(super) fn frame(
        &mut self,
        policies: &Policies,
        sockets: &Sockets,
        frame: &mut [u8],
        now: Instant,
    ) {
        let (mut header, packet) = if self.shared.offloads.header {
            match VnetHeader::split(frame, vnet::SIZE) {
                Ok(split) => split,
                Err(_) => return self.drop_packets(Reason::Malformed, 1),
            }
        } else {
            (VnetHeader::default(), frame)
        };
        let Some(mut parsed) = Parsed::new(packet) else {
            return self.drop_packets(Reason::Malformed, 1);
        };
        let Some(child) = policies.find(parsed.source, parsed.destination) else {
            return self.without_policy(&parsed, packet, now);
        };
        let sending = child.sending.load();
        let Some(sa) = &*sending else {
            return self.without_sa(child, count(&header, &parsed, packet), now);
        };
        let way = sa.way.load();
        let largest = way.largest(parsed.source.is_ipv4());
        let is_too_big = fit(&mut header, &parsed, packet, largest);
        if is_too_big && parsed.dont_fragment {
            let packets = count(&header, &parsed, packet);
            sa.tally.of(self.worker).too_big.add(packets);
            self.answer(&parsed, packet, icmp::Reason::TooBig(largest));
            return;
        }
        mss::clamp(packet, &parsed, largest);
        child.mapping.load().outward(packet, &mut parsed);
        if !sa.takes(&parsed) {
            let packets = count(&header, &parsed, packet);
            sa.tally.of(self.worker).outside_selectors.add(packets);
            return;
        }
        let Ok(segments) = Segments::new(&header, packet) else {
            return self.drop_packets(Reason::Malformed, 1);
        };
        if is_too_big {
            for segment in segments {
                let packet = segment.to_vec();
                let whole = Parsed::new(&packet);
                let cut = whole.and_then(|whole| fragments(&packet, &whole, largest));
                let Some(cut) = cut else { return self.drop_packets(Reason::Malformed, 1) };
                for fragment in cut {
                    if let Some(sequence) = self.reserve(sa, 1) {
                        self.seal(sockets, sa, &way, &parsed, sequence, &fragment.parts());
                    }
                }
            }
        } else if let Some(first) = self.reserve(sa, segments.len()) {
            for (sequence, segment) in (first..).zip(segments) {
                self.seal(sockets, sa, &way, &parsed, sequence, &segment.parts());
            }
        }
        if sa.wears_out() {
            self.shared.tell_worn(sa);
        }
    }

    /// Sequence numbers for so many packets.
    #[inline]
    fn reserve(&self, sa: &Sa, packets: usize) -> Option<u64> {
        let first = u32::try_from(packets).ok().and_then(|count| sa.outbound.reserve(count).ok());
        if first.is_none() {
            self.drop_packets(Reason::Exhausted, packets as u64);
        }
        first
    }

    /// Seals one packet and lets it wait for others.
    #[inline]
    fn seal(
        &mut self,
        sockets: &Sockets,
        sa: &Sa,
        way: &Arc<Way>,
        parsed: &Parsed,
        sequence: u64,
        parts: &[&[u8]],
    ) {
        let inner = parts.iter().map(|part| part.len()).sum();
        let tos = outer_tos(parsed.tos, self.dscp);
        if !self.pending.fits(way, tos, sa.outbound.sealed_len(inner)) {
            self.send(sockets);
        }
        let next_header = if parsed.source.is_ipv4() { NEXT_IPV4 } else { NEXT_IPV6 };
        self.pending.seal(sa, way, tos, sequence, next_header, parts);
        let cells = sa.tally.of(self.worker);
        cells.sent_packets.add(1);
        cells.sent_bytes.add(inner as u64);
    }

    /// Sends what waits, and writes answers.
    pub(super) fn flush(&mut self, sockets: &Sockets, queue: &Queue) {
        self.send(sockets);
        for answer in self.answers.drain(..) {
            let result = if self.shared.offloads.header {
                queue.send(&[&[0; FRAME_HEADER], answer.as_slice()].concat())
            } else {
                queue.send(&answer)
            };
            if result.is_err() {
                self.shared.drops.add(self.worker, Reason::TunRefused, 1);
            }
        }
    }

    fn send(&mut self, sockets: &Sockets) {
        if let Err(unsent @ Unsent { datagrams: 1.., .. }) = self.pending.flush(sockets) {
            self.drop_packets(reason(&unsent), unsent.datagrams as u64);
        }
    }

    /// Answers a packet as a router on its way would; from where it goes, since that is routed
    /// here.
    fn answer(&mut self, parsed: &Parsed, packet: &[u8], reason: icmp::Reason) {
        self.answers.extend(icmp::answer(packet, parsed, parsed.destination, reason));
    }

    fn drop_packets(&self, reason: Reason, packets: u64) {
        self.shared.drops.add(self.worker, reason, packets);
    }

    #[cold]
    fn without_policy(&mut self, parsed: &Parsed, packet: &[u8], now: Instant) {
        if is_link_local(parsed.source) || is_link_local(parsed.destination) {
            return self.drop_packets(Reason::LinkLocal, 1);
        }
        self.drop_packets(Reason::NoPolicy, 1);
        if self.prohibited.allows(self.shared.milliseconds(now)) {
            self.answer(parsed, packet, icmp::Reason::Prohibited);
        }
    }

    /// Nothing leaves in the clear: it is dropped, and the IKE side asked for an SA.
    #[cold]
    fn without_sa(&mut self, child: &Child, packets: u64, now: Instant) {
        child.tally.of(self.worker).held_back.add(packets);
        self.drop_packets(Reason::NoSa, packets);
        if child.acquired.is_due(self.shared.milliseconds(now)) {
            let told = self.shared.tell(FromNetwork::Acquire {
                connection: Arc::clone(&child.connection),
                child: Arc::clone(&child.name),
            });
            if !told {
                child.acquired.undo();
            }
        }
    }
}

/// Makes the segments of a TCP super-packet small enough. Whether the packet, or one of its
/// datagrams, is too big all the same.
#[inline]
fn fit(header: &mut VnetHeader, parsed: &Parsed, packet: &[u8], largest: usize) -> bool {
    if header.gso_type == vnet::NONE {
        return parsed.total_length > largest;
    }
    let Some(headers) = headers(parsed, packet) else { return false };
    let segment = headers + usize::from(header.gso_size);
    let smaller = largest.checked_sub(headers).and_then(|room| u16::try_from(room).ok());
    match smaller {
        _ if segment <= largest => false,
        // A stream may be cut anywhere.
        Some(smaller @ 1..) if parsed.protocol == TCP => {
            header.gso_size = smaller;
            false
        }
        _ => true,
    }
}

/// How many packets a frame stands for.
fn count(header: &VnetHeader, parsed: &Parsed, packet: &[u8]) -> u64 {
    if header.gso_type == vnet::NONE || header.gso_size == 0 {
        return 1;
    }
    let payload =
        headers(parsed, packet).map_or(0, |headers| parsed.total_length.saturating_sub(headers));
    (payload.div_ceil(usize::from(header.gso_size)) as u64).max(1)
}

/// Octets of the IP and TCP or UDP headers.
#[inline]
fn headers(parsed: &Parsed, packet: &[u8]) -> Option<usize> {
    match parsed.protocol {
        TCP => {
            let offset = packet.get(parsed.header_length + 12)?;
            Some(parsed.header_length + usize::from(offset >> 4) * 4)
        }
        _ => Some(parsed.header_length + 8),
    }
}

/// Addresses that no policy is for: neighbour discovery and the like.
fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_multicast() || ip.is_unicast_link_local() || ip.is_unspecified(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A TCP packet over IPv4 with a header of 32 octets, and so much payload.
    fn tcp(payload: usize) -> Vec<u8> {
        let mut packet = vec![0; 52 + payload];
        let length = packet.len() as u16;
        packet[..10].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, TCP]);
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        packet[32] = 0x80;
        packet
    }

    #[test]
    fn segments_of_a_stream_are_made_to_fit() {
        let packet = tcp(10_000);
        let parsed = Parsed::new(&packet).unwrap();
        let header =
            |gso_size| VnetHeader { gso_type: vnet::TCP_V4, gso_size, ..Default::default() };
        let mut small = header(1386);
        assert!(!fit(&mut small, &parsed, &packet, 1438));
        assert_eq!(small.gso_size, 1386);
        assert_eq!(count(&small, &parsed, &packet), 8);
        let mut large = header(1448);
        assert!(!fit(&mut large, &parsed, &packet, 1438));
        assert_eq!(large.gso_size, 1386);
        assert!(fit(&mut header(100), &parsed, &packet, 52));
    }

    #[test]
    fn a_packet_of_its_own_fits_or_does_not() {
        let packet = tcp(1386);
        let parsed = Parsed::new(&packet).unwrap();
        let mut header = VnetHeader::default();
        assert!(!fit(&mut header, &parsed, &packet, 1438));
        assert!(fit(&mut header, &parsed, &packet, 1437));
        assert_eq!(count(&header, &parsed, &packet), 1);
    }

    #[test]
    fn datagrams_are_not_made_smaller() {
        let mut packet = tcp(5_000);
        packet[9] = 17;
        let parsed = Parsed::new(&packet).unwrap();
        let mut header =
            VnetHeader { gso_type: vnet::UDP_L4, gso_size: 1411, ..Default::default() };
        assert!(fit(&mut header, &parsed, &packet, 1438));
        header.gso_size = 1410;
        assert!(!fit(&mut header, &parsed, &packet, 1438));
    }

    #[test]
    fn neighbour_discovery_is_nothing_for_a_tunnel() {
        for text in ["224.0.0.22", "255.255.255.255", "169.254.1.1", "ff02::2", "fe80::1", "::"] {
            assert!(is_link_local(text.parse().unwrap()), "{text}");
        }
        for text in ["10.0.0.1", "2001:db8::1", "fd00::1"] {
            assert!(!is_link_local(text.parse().unwrap()), "{text}");
        }
    }
}
