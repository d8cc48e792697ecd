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
    /// What differs between segments is written over for each.
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
            let sum = Sum::default().with(template.octets.get(..transport).ok_or(Malformed)?);
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
            .join(Sum::default().with(template.octets.get(transport..headers).ok_or(Malformed)?));
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
        // Fields are written over those of the segment before; the sums don't have them.
        let header = &mut self.template;
        if self.kind == Kind::Whole {
            return Some(Segment { header: *header, payload: rest });
        }
        let (payload, rest) = rest.split_at_checked(self.size).unwrap_or((rest, &[]));
        let total = header.length + payload.len();
        // At most 65,535: less than what was read.
        let transport_length = (total - self.transport) as u16;
        let sum = self.transport_sum.with(payload).with_u16(transport_length);
        if self.kind == Kind::Tcp {
            let mut flags = self.flags;
            if !rest.is_empty() {
                flags &= !(FIN | PSH);
            }
            if !self.first {
                flags &= !CWR;
            }
            let sum = sum.with_u32(self.sequence).with_u16(u16::from(flags)).finish();
            header.put(self.transport + 4, self.sequence.to_be_bytes());
            header.put(self.transport + 13, [flags]);
            header.put(self.transport + 16, sum.to_be_bytes());
            self.sequence = self.sequence.wrapping_add(payload.len() as u32);
        } else {
            let sum = match sum.with_u16(transport_length).finish() {
                0 => 0xffff,
                sum => sum,
            };
            header.put(self.transport + 4, transport_length.to_be_bytes());
            header.put(self.transport + 6, sum.to_be_bytes());
        }
        if self.is_v4 {
            let sum = self.network_sum.with_u16(total as u16).with_u16(self.id).finish();
            header.put(2, (total as u16).to_be_bytes());
            header.put(4, self.id.to_be_bytes());
            header.put(10, sum.to_be_bytes());
            self.id = self.id.wrapping_add(1);
        } else {
            header.put(4, ((total - 40) as u16).to_be_bytes());
        }
        self.first = false;
        self.rest = (!rest.is_empty()).then_some(rest);
        Some(Segment { header: self.template, payload })
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
            pseudo(addresses, parsed.protocol, transport.len()).with(transport)
        }
        // Something inside of something: the field holds what the payload doesn't.
        None => Sum::default().with(packet.get(start..).ok_or(Malformed)?),
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
mod tests;
