//! What was read from a TUN with offloads, cut into the packets that go on the wire.

use super::checksum::{Sum, pseudo};
use super::vnet::{self, VnetHeader};
use super::{Malformed, Parsed, protocol};

/// A packet: headers, complete with checksums, and payload.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    header: Header,
    /// What follows the headers; the whole packet where the headers are empty.
    pub payload: &'a [u8],
}

impl<'a> Segment<'a> {
    /// The headers that differ from those read. Empty where the packet stays whole.
    #[inline]
    pub fn header(&self) -> &[u8] {
        self.header.octets()
    }

    /// Both, one after the other.
    #[inline]
    pub fn parts(&self) -> [&[u8]; 2] {
        [self.header(), self.payload]
    }

    /// Octets of the packet.
    #[inline]
    pub fn total_length(&self) -> usize {
        self.header().len() + self.payload.len()
    }

    /// The packet in one piece.
    pub fn to_vec(&self) -> Vec<u8> {
        self.parts().concat()
    }

    pub(crate) fn new(header: &[u8], payload: &'a [u8]) -> Option<Self> {
        Some(Self { header: Header::new(header)?, payload })
    }

    pub(crate) fn header_mut(&mut self) -> &mut [u8] {
        self.header.octets_mut()
    }
}

/// Headers of one packet. Those of IPv4 and TCP with all options have 120 octets.
#[derive(Clone, Copy, Debug)]
struct Header {
    octets: [u8; Self::LARGEST],
    length: usize,
}

impl Header {
    const LARGEST: usize = 128;

    fn new(from: &[u8]) -> Option<Self> {
        let mut octets = [0; Self::LARGEST];
        octets.get_mut(..from.len())?.copy_from_slice(from);
        Some(Self { octets, length: from.len() })
    }

    fn octets(&self) -> &[u8] {
        self.octets.get(..self.length).unwrap_or_default()
    }

    fn octets_mut(&mut self) -> &mut [u8] {
        self.octets.get_mut(..self.length).unwrap_or_default()
    }

    /// A field beyond the end isn't there.
    #[inline]
    fn put<const N: usize>(&mut self, at: usize, value: [u8; N]) {
        if let Some(field) = self.octets.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
            *field = value;
        }
    }
}

/// The packets that one read stands for, in order.
#[derive(Clone, Debug)]
pub struct Segments<'a> {
    /// None when all were given.
    rest: Option<&'a [u8]>,
    /// Payload of each.
    size: usize,
    kind: Kind,
    first: bool,
    /// With zeros for what differs between segments.
    template: Header,
    is_v4: bool,
    /// Where the transport header begins.
    transport: usize,
    id: u16,
    sequence: u32,
    flags: u8,
    /// Of the IPv4 header, without what differs.
    network_sum: Sum,
    /// Of pseudo header and transport header, without what differs.
    transport_sum: Sum,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Whole,
    Tcp,
    Udp,
}

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

impl<'a> Segments<'a> {
    /// Of a packet and the header that stood before it. TCP and UDP checksums that were left open
    /// are made from nothing, so addresses and ports may have been changed without regard to them.
    /// One that was left open in a packet that stays whole is completed in place.
    ///
    /// # Errors
    /// The packet doesn't fit its header, or asks for an offload that was not offered.
    #[inline]
    pub fn new(header: &VnetHeader, packet: &'a mut [u8]) -> Result<Self, Malformed> {
        match header.gso_type & !vnet::ECN {
            vnet::NONE => {
                if header.flags & vnet::NEEDS_CHECKSUM != 0 {
                    complete(header, packet)?;
                }
                Ok(Self::whole(packet))
            }
            vnet::TCP_V4 | vnet::TCP_V6 => Self::cut(Kind::Tcp, header, packet),
            vnet::UDP_L4 => Self::cut(Kind::Udp, header, packet),
            _ => Err(Malformed),
        }
    }

    /// Octets of the largest of them.
    pub fn largest(&self) -> usize {
        self.template.length + self.rest.map_or(0, |rest| rest.len().min(self.size))
    }

    fn whole(packet: &'a [u8]) -> Self {
        Self {
            rest: Some(packet),
            size: usize::MAX,
            kind: Kind::Whole,
            first: true,
            template: Header { octets: [0; Header::LARGEST], length: 0 },
            is_v4: false,
            transport: 0,
            id: 0,
            sequence: 0,
            flags: 0,
            network_sum: Sum::default(),
            transport_sum: Sum::default(),
        }
    }

    fn cut(kind: Kind, header: &VnetHeader, packet: &'a [u8]) -> Result<Self, Malformed> {
        let parsed = Parsed::new(packet).ok_or(Malformed)?;
        let is_v4 = parsed.source.is_ipv4();
        let transport = parsed.header_length;
        let fits = match kind {
            Kind::Tcp => {
                parsed.protocol == protocol::TCP
                    && is_v4 == (header.gso_type & !vnet::ECN == vnet::TCP_V4)
            }
            _ => parsed.protocol == protocol::UDP,
        };
        if !fits || parsed.fragment.is_some() || header.gso_size == 0 {
            return Err(Malformed);
        }
        let segment = parsed.transport(packet);
        let headers = transport
            + match kind {
                Kind::Tcp => usize::from(segment.get(12).ok_or(Malformed)? >> 4) * 4,
                _ => 8,
            };
        let least = if kind == Kind::Tcp { 20 } else { 8 };
        if headers < transport + least || headers > parsed.total_length {
            return Err(Malformed);
        }
        let payload = packet.get(headers..parsed.total_length).ok_or(Malformed)?;
        let mut template = packet.get(..headers).and_then(Header::new).ok_or(Malformed)?;
        let (id, network_sum, addresses) = if is_v4 {
            let id = u16::from_be_bytes(field(packet, 4)?);
            template.put(2, [0; 4]);
            template.put(10, [0; 2]);
            let sum = Sum::default().add(template.octets.get(..transport).ok_or(Malformed)?);
            (id, sum, 12..20)
        } else {
            template.put(4, [0; 2]);
            (0, Sum::default(), 8..40)
        };
        let (mut sequence, mut flags) = (0, 0);
        if kind == Kind::Tcp {
            sequence = u32::from_be_bytes(field(packet, transport + 4)?);
            [flags] = field(packet, transport + 13)?;
            template.put(transport + 4, [0; 4]);
            template.put(transport + 13, [0]);
            template.put(transport + 16, [0; 2]);
        } else {
            template.put(transport + 4, [0; 4]);
        }
        let addresses = packet.get(addresses).ok_or(Malformed)?;
        let transport_sum = pseudo(addresses, parsed.protocol, 0)
            .join(Sum::default().add(template.octets.get(transport..headers).ok_or(Malformed)?));
        Ok(Self {
            rest: Some(payload),
            size: usize::from(header.gso_size),
            kind,
            first: true,
            template,
            is_v4,
            transport,
            id,
            sequence,
            flags,
            network_sum,
            transport_sum,
        })
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = Segment<'a>;

    #[inline]
    fn next(&mut self) -> Option<Segment<'a>> {
        let rest = self.rest.take()?;
        let mut header = self.template;
        if self.kind == Kind::Whole {
            return Some(Segment { header, payload: rest });
        }
        let (payload, rest) = rest.split_at_checked(self.size).unwrap_or((rest, &[]));
        let total = header.length + payload.len();
        // At most 65,535: less than what was read.
        let transport_length = (total - self.transport) as u16;
        let sum = self.transport_sum.add(payload).add_u16(transport_length);
        if self.kind == Kind::Tcp {
            let mut flags = self.flags;
            if !rest.is_empty() {
                flags &= !(FIN | PSH);
            }
            if !self.first {
                flags &= !CWR;
            }
            let sum = sum.add_u32(self.sequence).add_u16(u16::from(flags)).finish();
            header.put(self.transport + 4, self.sequence.to_be_bytes());
            header.put(self.transport + 13, [flags]);
            header.put(self.transport + 16, sum.to_be_bytes());
            self.sequence = self.sequence.wrapping_add(payload.len() as u32);
        } else {
            let sum = match sum.add_u16(transport_length).finish() {
                0 => 0xffff,
                sum => sum,
            };
            header.put(self.transport + 4, transport_length.to_be_bytes());
            header.put(self.transport + 6, sum.to_be_bytes());
        }
        if self.is_v4 {
            let sum = self.network_sum.add_u16(total as u16).add_u16(self.id).finish();
            header.put(2, (total as u16).to_be_bytes());
            header.put(4, self.id.to_be_bytes());
            header.put(10, sum.to_be_bytes());
            self.id = self.id.wrapping_add(1);
        } else {
            header.put(4, ((total - 40) as u16).to_be_bytes());
        }
        self.first = false;
        self.rest = (!rest.is_empty()).then_some(rest);
        Some(Segment { header, payload })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let count = match self.rest {
            None => 0,
            Some(rest) => rest.len().div_ceil(self.size).max(1),
        };
        (count, Some(count))
    }
}

impl ExactSizeIterator for Segments<'_> {}

fn field<const N: usize>(packet: &[u8], at: usize) -> Result<[u8; N], Malformed> {
    packet.get(at..).and_then(<[u8]>::first_chunk).copied().ok_or(Malformed)
}

/// Completes the checksum that was left open.
fn complete(header: &VnetHeader, packet: &mut [u8]) -> Result<(), Malformed> {
    let (start, offset) = (usize::from(header.checksum_start), usize::from(header.checksum_offset));
    let parsed = Parsed::new(packet).filter(|parsed| {
        let known = matches!((parsed.protocol, offset), (protocol::TCP, 16) | (protocol::UDP, 6));
        known && parsed.header_length == start && parsed.fragment.is_none()
    });
    let place =
        packet.get_mut(start + offset..).and_then(<[u8]>::first_chunk_mut::<2>).ok_or(Malformed)?;
    let sum = match parsed {
        Some(parsed) => {
            *place = [0; 2];
            let addresses = if parsed.source.is_ipv4() { 12..20 } else { 8..40 };
            let addresses = packet.get(addresses).ok_or(Malformed)?;
            let transport = parsed.transport(packet);
            pseudo(addresses, parsed.protocol, transport.len()).add(transport)
        }
        // Something inside of something: the field holds what the payload doesn't.
        None => Sum::default().add(packet.get(start..).ok_or(Malformed)?),
    };
    let sum = match sum.finish() {
        0 if offset == 6 => 0xffff,
        sum => sum,
    };
    let place = packet.get_mut(start + offset..).and_then(<[u8]>::first_chunk_mut::<2>);
    *place.ok_or(Malformed)? = sum.to_be_bytes();
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packet::sample;

    fn tso(gso_type: u8, gso_size: u16) -> VnetHeader {
        VnetHeader { flags: vnet::NEEDS_CHECKSUM, gso_type, gso_size, ..VnetHeader::default() }
    }

    fn payload(length: usize) -> Vec<u8> {
        (0..length).map(|octet| (octet * 7) as u8).collect()
    }

    #[test]
    fn a_tcp_super_packet_becomes_good_segments() {
        let data = payload(4000);
        let options = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
        let segment = sample::tcp(0xffff_ff00, 0x10 | FIN | PSH | CWR, &options, &data);
        for (gso_type, mut packet) in [
            (vnet::TCP_V4 | vnet::ECN, sample::v4(protocol::TCP, &[1; 4], &segment)),
            (vnet::TCP_V6, sample::v6(protocol::TCP, &segment)),
        ] {
            let original = Parsed::new(&packet).unwrap();
            let segments = Segments::new(&tso(gso_type, 1448), &mut packet).unwrap();
            assert_eq!(segments.len(), 3);
            assert_eq!(segments.largest(), original.header_length + 32 + 1448);
            let packets: Vec<_> = segments.map(|segment| segment.to_vec()).collect();
            let mut joined = Vec::new();
            for (index, packet) in packets.iter().enumerate() {
                sample::assert_good(packet);
                let parsed = Parsed::new(packet).unwrap();
                assert_eq!(parsed.ports, original.ports);
                assert_eq!((parsed.source, parsed.tos), (original.source, original.tos));
                assert_eq!(parsed.total_length, packet.len());
                let segment = parsed.transport(packet);
                let sequence = 0xffff_ff00_u32.wrapping_add(index as u32 * 1448);
                assert_eq!(segment[4..8], sequence.to_be_bytes());
                let expected = [0x10 | CWR, 0x10, 0x10 | FIN | PSH][index];
                assert_eq!(segment[13], expected);
                assert_eq!(segment[20..32], options);
                joined.extend_from_slice(&segment[32..]);
                if parsed.source.is_ipv4() {
                    assert_eq!(packet[4..6], (0x1111 + index as u16).to_be_bytes());
                }
            }
            assert_eq!(joined, data);
        }
    }

    #[test]
    fn a_udp_super_packet_becomes_good_datagrams() {
        let datagram = sample::udp(&payload(2500));
        for mut packet in
            [sample::v4(protocol::UDP, &[], &datagram), sample::v6(protocol::UDP, &datagram)]
        {
            let segments = Segments::new(&tso(vnet::UDP_L4, 1000), &mut packet).unwrap();
            let lengths: Vec<_> = segments
                .map(|segment| {
                    sample::assert_good(&segment.to_vec());
                    segment.payload.len()
                })
                .collect();
            assert_eq!(lengths, [1000, 1000, 500]);
        }
    }

    #[test]
    fn an_open_checksum_of_a_whole_packet_is_completed() {
        let tcp = sample::tcp(1, 0x18, &[], &payload(77));
        let udp = sample::udp(&payload(78));
        for (packet, start, offset) in [
            (sample::v4(protocol::TCP, &[], &tcp), 20, 16),
            (sample::v6(protocol::TCP, &tcp), 40, 16),
            (sample::v4(protocol::UDP, &[], &udp), 20, 6),
            (sample::v6(protocol::UDP, &udp), 40, 6),
        ] {
            let mut open = packet.clone();
            // What stands in the field doesn't matter.
            open[start + offset] ^= 0x5a;
            let header = VnetHeader {
                flags: vnet::NEEDS_CHECKSUM,
                checksum_start: start as u16,
                checksum_offset: offset as u16,
                ..VnetHeader::default()
            };
            let segments = Segments::new(&header, &mut open).unwrap();
            let packets: Vec<_> = segments.map(|segment| segment.to_vec()).collect();
            assert_eq!(packets, [sample::completed(packet.clone())]);

            // IPv4 in IPv4, with the inner datagram's checksum open: the field holds a sum.
            let mut inner = packet.clone();
            let parsed = Parsed::new(&inner).unwrap();
            let addresses = if parsed.source.is_ipv4() { 12..20 } else { 8..40 };
            let length = inner.len() - start;
            let sum = pseudo(&inner[addresses], parsed.protocol, length).partial();
            inner[start + offset..start + offset + 2].copy_from_slice(&sum.to_be_bytes());
            let mut outer = sample::v4(if start == 20 { 4 } else { 41 }, &[], &inner);
            let header = VnetHeader { checksum_start: 20 + start as u16, ..header };
            let whole = Segments::new(&header, &mut outer).unwrap().next().unwrap().to_vec();
            assert_eq!(whole[20..], sample::completed(packet));
        }
    }

    #[test]
    fn what_needs_nothing_stays_as_it_is() {
        let mut packet = sample::v4(47, &[], &payload(50));
        let before = packet.clone();
        let segments = Segments::new(&VnetHeader::default(), &mut packet).unwrap();
        assert_eq!((segments.len(), segments.largest()), (1, 70));
        assert_eq!(segments.map(|segment| segment.to_vec()).collect::<Vec<_>>(), [before]);
    }

    #[test]
    fn offloads_that_do_not_fit_the_packet_are_refused() {
        let udp = sample::v4(protocol::UDP, &[], &sample::udp(&payload(100)));
        let tcp = sample::v4(protocol::TCP, &[], &sample::tcp(1, 0x10, &[], &payload(100)));
        for (gso_type, size, packet) in [
            (vnet::TCP_V4, 10, &udp),
            (vnet::UDP_L4, 10, &tcp),
            (vnet::TCP_V6, 10, &tcp),
            (vnet::TCP_V4, 0, &tcp),
            (3, 10, &udp),
            (99, 10, &udp),
        ] {
            assert!(Segments::new(&tso(gso_type, size), &mut packet.clone()).is_err());
        }
    }

    proptest! {
        #[test]
        fn junk_does_no_harm(
            mut packet in sample::junk(), flags: u8, size: u16, start: u16, offset in 0_u16..20,
            gso_type in prop::sample::select(vec![0_u8, 1, 4, 5, 3, 0x81])
        ) {
            let length = packet.len();
            let header = VnetHeader {
                flags,
                gso_type,
                gso_size: size % 80,
                checksum_start: start % 100,
                checksum_offset: offset,
                ..VnetHeader::default()
            };
            if let Ok(segments) = Segments::new(&header, &mut packet) {
                let (count, largest) = (segments.len(), segments.largest());
                let lengths: Vec<_> = segments.map(|segment| segment.total_length()).collect();
                prop_assert_eq!(lengths.len(), count);
                prop_assert_eq!(lengths.into_iter().max(), Some(largest));
                prop_assert!(largest <= length);
            }
        }
    }
}
