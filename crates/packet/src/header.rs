//! Headers of an IP packet: who to whom, by which protocol and ports.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::protocol;

/// What the headers say. The packet has all octets that it says it has, and all of its IP headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Source address. Both are of one family.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// The protocol of what follows the IP headers (after IPv6's extension headers).
    pub protocol: u8,
    /// Source and destination port, for protocols that have them. For ICMP and ICMPv6 both are
    /// `type << 8 | code`, as selectors have it (RFC 7296, 3.13.1). None in later fragments and
    /// where the packet ends before them.
    pub ports: Option<(u16, u16)>,
    /// Octets of the IP headers: where the transport header begins.
    pub header_length: usize,
    /// Octets of the whole packet. What stands behind is padding.
    pub total_length: usize,
    /// If it is a fragment.
    pub fragment: Option<Fragment>,
    /// IPv4's "don't fragment". True for IPv6.
    pub dont_fragment: bool,
    /// Type of service or traffic class: DSCP and ECN.
    pub tos: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
}

/// Which part of a packet it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// In octets.
    pub offset: usize,
    /// Whether others follow.
    pub more: bool,
    /// Common to all fragments of a packet.
    pub id: u32,
}

impl Parsed {
    /// None if the packet is not one of IPv4 or IPv6, is cut off, or says that it is shorter than
    /// its headers. The header's checksum is not looked at.
    #[inline]
    pub fn new(packet: &[u8]) -> Option<Self> {
        Self::of(packet, true)
    }

    /// Of the beginning of a packet, as it is quoted in an ICMP error: the total length is what is
    /// there of it.
    pub fn quoted(quote: &[u8]) -> Option<Self> {
        Self::of(quote, false)
    }

    #[inline]
    fn of(packet: &[u8], is_whole: bool) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => v4(packet, is_whole),
            6 => v6(packet, is_whole),
            _ => None,
        }
    }

    /// The DSCP.
    pub fn dscp(&self) -> u8 {
        self.tos >> 2
    }

    /// The ECN field.
    pub fn ecn(&self) -> u8 {
        self.tos & 3
    }

    /// Whether it is a fragment, but not the first.
    pub fn is_later_fragment(&self) -> bool {
        self.fragment.is_some_and(|fragment| fragment.offset > 0)
    }

    /// Transport header and payload.
    pub fn transport<'a>(&self, packet: &'a [u8]) -> &'a [u8] {
        packet.get(self.header_length..self.total_length).unwrap_or_default()
    }
}

fn v4(packet: &[u8], is_whole: bool) -> Option<Parsed> {
    let header = packet.first_chunk::<20>()?;
    let [first, tos, l0, l1, i0, i1, f0, f1, ttl, protocol, _, _, addresses @ ..] = *header;
    let [s0, s1, s2, s3, d0, d1, d2, d3] = addresses;
    let header_length = usize::from(first & 0xf) * 4;
    let total_length = bound(usize::from(u16::from_be_bytes([l0, l1])), packet, is_whole)?;
    if header_length < 20 || total_length < header_length {
        return None;
    }
    let flags = u16::from_be_bytes([f0, f1]);
    let fragment = (flags & 0x3fff != 0).then(|| Fragment {
        offset: usize::from(flags & 0x1fff) * 8,
        more: flags & 0x2000 != 0,
        id: u32::from(u16::from_be_bytes([i0, i1])),
    });
    let mut parsed = Parsed {
        source: IpAddr::V4(Ipv4Addr::new(s0, s1, s2, s3)),
        destination: IpAddr::V4(Ipv4Addr::new(d0, d1, d2, d3)),
        protocol,
        ports: None,
        header_length,
        total_length,
        fragment,
        dont_fragment: flags & 0x4000 != 0,
        tos,
        ttl,
    };
    parsed.ports = ports(&parsed, packet);
    Some(parsed)
}

fn v6(packet: &[u8], is_whole: bool) -> Option<Parsed> {
    let header = packet.first_chunk::<40>()?;
    let [c0, c1, _, _, l0, l1, next, ttl, addresses @ ..] = *header;
    let (source, destination) = addresses.split_first_chunk::<16>()?;
    let total_length = 40 + usize::from(u16::from_be_bytes([l0, l1]));
    let total_length = bound(total_length, packet, is_whole)?;
    let packet = packet.get(..total_length)?;
    let mut parsed = Parsed {
        source: IpAddr::V6(Ipv6Addr::from(*source)),
        destination: IpAddr::V6(Ipv6Addr::from(*destination.first_chunk::<16>()?)),
        protocol: next,
        ports: None,
        header_length: 40,
        total_length,
        fragment: None,
        dont_fragment: true,
        tos: c0 << 4 | c1 >> 4,
        ttl,
    };
    // Each step is over at least eight octets, so the packet's length bounds them.
    while let protocol::HOP_BY_HOP
    | protocol::ROUTING
    | protocol::FRAGMENT
    | protocol::AUTHENTICATION
    | protocol::DESTINATION = parsed.protocol
    {
        let extension = packet.get(parsed.header_length..)?;
        let [next, length, o0, o1, i0, i1, i2, i3] = *extension.first_chunk::<8>()?;
        let length = match parsed.protocol {
            protocol::FRAGMENT => 8,
            protocol::AUTHENTICATION => (usize::from(length) + 2) * 4,
            _ => (usize::from(length) + 1) * 8,
        };
        if parsed.protocol == protocol::FRAGMENT {
            let field = u16::from_be_bytes([o0, o1]);
            let fragment = Fragment {
                offset: usize::from(field & 0xfff8),
                more: field & 1 != 0,
                id: u32::from_be_bytes([i0, i1, i2, i3]),
            };
            // An "atomic" fragment is a whole packet (RFC 6946).
            if fragment.offset > 0 || fragment.more {
                parsed.fragment = Some(fragment);
            }
        }
        parsed.header_length += length.max(8);
        parsed.protocol = next;
        if parsed.header_length > total_length {
            return None;
        }
        if parsed.is_later_fragment() {
            break;
        }
    }
    parsed.ports = ports(&parsed, packet);
    Some(parsed)
}

/// A length that a packet says it has, if it has it; of a quote, what is there.
#[inline]
fn bound(said: usize, packet: &[u8], is_whole: bool) -> Option<usize> {
    match said <= packet.len() {
        true => Some(said),
        false => (!is_whole).then_some(packet.len()),
    }
}

#[inline]
fn ports(parsed: &Parsed, packet: &[u8]) -> Option<(u16, u16)> {
    if parsed.is_later_fragment() {
        return None;
    }
    let transport = packet.get(parsed.header_length..parsed.total_length)?;
    match parsed.protocol {
        protocol::TCP | protocol::UDP | protocol::SCTP | protocol::UDP_LITE | protocol::DCCP => {
            let [a, b, c, d] = *transport.first_chunk::<4>()?;
            Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
        }
        protocol::ICMP | protocol::ICMPV6 => {
            let both = u16::from_be_bytes(*transport.first_chunk::<2>()?);
            Some((both, both))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sample;

    #[test]
    fn options_are_stepped_over_and_padding_is_left_out() {
        let mut packet = sample::v4(protocol::UDP, &[0; 4], &[0x12, 0x34, 0x56, 0x78, 0, 8, 0, 0]);
        packet.extend_from_slice(&[0; 9]);
        packet[1] = 0xb9;
        let parsed = Parsed::new(&packet).unwrap();
        assert_eq!(parsed.header_length, 24);
        assert_eq!(parsed.total_length, 32);
        assert_eq!(parsed.ports, Some((0x1234, 0x5678)));
        assert_eq!((parsed.dscp(), parsed.ecn()), (0x2e, 1));
        assert_eq!(parsed.source, IpAddr::from([10, 1, 0, 1]));
        assert_eq!(parsed.destination, IpAddr::from([10, 2, 0, 2]));
        assert_eq!(parsed.transport(&packet).len(), 8);
    }

    #[test]
    fn later_fragments_have_no_ports() {
        let mut packet = sample::v4(protocol::UDP, &[], &[1; 16]);
        packet[6..8].copy_from_slice(&0x2000_u16.to_be_bytes());
        let parsed = Parsed::new(&packet).unwrap();
        assert_eq!(parsed.fragment, Some(Fragment { offset: 0, more: true, id: 0x1111 }));
        assert!(parsed.ports.is_some());
        packet[6..8].copy_from_slice(&0x0003_u16.to_be_bytes());
        let parsed = Parsed::new(&packet).unwrap();
        assert_eq!(parsed.fragment, Some(Fragment { offset: 24, more: false, id: 0x1111 }));
        assert_eq!(parsed.ports, None);
    }

    #[test]
    fn extension_headers_lead_to_the_transport_header() {
        let mut payload = vec![protocol::DESTINATION, 0, 1, 4, 0, 0, 0, 0];
        payload.extend_from_slice(&[protocol::FRAGMENT, 1, 1, 12, 0, 0, 0, 0]);
        payload.extend_from_slice(&[0; 8]);
        payload.extend_from_slice(&[protocol::TCP, 0, 0, 1, 0, 0, 0, 7]);
        payload.extend_from_slice(&[0, 80, 0, 81, 0, 0]);
        let packet = sample::v6(protocol::HOP_BY_HOP, &payload);
        let parsed = Parsed::new(&packet).unwrap();
        assert_eq!((parsed.protocol, parsed.header_length), (protocol::TCP, 40 + 8 + 16 + 8));
        assert_eq!(parsed.ports, Some((80, 81)));
        assert_eq!(parsed.fragment, Some(Fragment { offset: 0, more: true, id: 7 }));
        assert_eq!(parsed.tos, 0x12);

        payload[24 + 3] = 8;
        let packet = sample::v6(protocol::HOP_BY_HOP, &payload);
        let parsed = Parsed::new(&packet).unwrap();
        assert_eq!(parsed.ports, None);
        assert!(parsed.is_later_fragment());
        payload.truncate(27);
        assert_eq!(Parsed::new(&sample::v6(protocol::HOP_BY_HOP, &payload)), None);
    }

    #[test]
    fn icmp_has_its_type_and_code_for_ports() {
        let packet = sample::v4(protocol::ICMP, &[], &[3, 4, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Parsed::new(&packet).unwrap().ports, Some((0x0304, 0x0304)));
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let v4 = sample::v4(protocol::TCP, &[0; 8], &[0; 20]);
        let v6 = sample::v6(protocol::TCP, &[0; 20]);
        for packet in [v4, v6] {
            assert!(Parsed::new(&packet).is_some());
            for length in 0..packet.len() {
                assert_eq!(Parsed::new(&packet[..length]), None);
            }
        }
    }

    proptest! {
        #[test]
        fn junk_gives_bounds_within_the_packet(packet in sample::junk()) {
            for parsed in [Parsed::new(&packet), Parsed::quoted(&packet)].into_iter().flatten() {
                prop_assert!(parsed.header_length <= parsed.total_length);
                prop_assert!(parsed.total_length <= packet.len());
            }
        }
    }
}
