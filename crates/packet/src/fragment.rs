//! IPv4 packets cut up to fit (RFC 791, 3.2).

use super::checksum::Sum;
use super::{Parsed, Segment, replace};

/// The fragments of a packet, in order.
#[derive(Clone, Debug)]
pub struct Fragments<'a> {
    first_header: &'a [u8],
    /// With those options alone that every fragment has.
    later_header: Vec<u8>,
    rest: Option<&'a [u8]>,
    /// For the payload of each; of all but the last it is a multiple of eight.
    room: usize,
    /// Of the next one, in octets, within the whole packet.
    offset: usize,
    is_first: bool,
    /// Whether the packet is a fragment itself, and not the last.
    more: bool,
}

const MORE: u16 = 0x2000;

/// Cuts a packet up for an MTU; its checksums must be complete. None if it must not be cut up
/// (IPv6, or "don't fragment") or can't be (an MTU that leaves no room).
pub fn fragments<'a>(packet: &'a [u8], parsed: &Parsed, mtu: usize) -> Option<Fragments<'a>> {
    if parsed.source.is_ipv6() || parsed.dont_fragment {
        return None;
    }
    let packet = packet.get(..parsed.total_length)?;
    let (first_header, payload) = packet.split_at_checked(parsed.header_length)?;
    let room = mtu.saturating_sub(first_header.len());
    let (offset, more) = match parsed.fragment {
        Some(fragment) => (fragment.offset, fragment.more),
        None => (0, false),
    };
    (room >= 8).then(|| Fragments {
        first_header,
        later_header: later_header(first_header),
        rest: Some(payload),
        room,
        offset,
        is_first: true,
        more,
    })
}

impl<'a> Iterator for Fragments<'a> {
    type Item = Segment<'a>;

    fn next(&mut self) -> Option<Segment<'a>> {
        let rest = self.rest.take()?;
        let (payload, rest) = match rest.split_at_checked(self.room & !7) {
            Some(cut) if rest.len() > self.room => cut,
            _ => (rest, &[][..]),
        };
        let header = if self.is_first { self.first_header } else { &self.later_header };
        let mut segment = Segment::new(header, payload)?;
        let total = segment.total_length() as u16;
        let more = if self.more || !rest.is_empty() { MORE } else { 0 };
        let field = (self.offset / 8) as u16 & !MORE | more;
        let header = segment.header_mut();
        replace(header, 2, total.to_be_bytes());
        replace(header, 6, field.to_be_bytes());
        replace(header, 10, [0; 2]);
        let sum = Sum::default().with(header).finish();
        replace(header, 10, sum.to_be_bytes());
        self.offset += payload.len();
        self.is_first = false;
        self.rest = (!rest.is_empty()).then_some(rest);
        Some(segment)
    }
}

/// The header with the options that are copied into every fragment.
fn later_header(header: &[u8]) -> Vec<u8> {
    const COPIED: u8 = 0x80;
    let (fixed, mut options) = header.split_at_checked(20).unwrap_or((header, &[]));
    let mut later = fixed.to_vec();
    while let [kind, rest @ ..] = options {
        let length = match kind {
            0 => break,
            1 => 1,
            _ => usize::from(rest.first().copied().unwrap_or(0)).max(1),
        };
        let Some((option, rest)) = options.split_at_checked(length) else { break };
        if kind & COPIED != 0 {
            later.extend_from_slice(option);
        }
        options = rest;
    }
    later.resize(later.len().next_multiple_of(4), 0);
    let words = (later.len() / 4) as u8;
    if let Some(first) = later.first_mut() {
        *first = 0x40 | words;
    }
    later
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::header::Fragment;
    use crate::{protocol, sample};

    fn cut(packet: &[u8], mtu: usize) -> Vec<Vec<u8>> {
        let parsed = Parsed::new(packet).unwrap();
        let all = fragments(packet, &parsed, mtu).unwrap();
        all.map(|fragment| fragment.to_vec()).collect()
    }

    /// Puts payloads together by their offsets.
    fn joined(fragments: &[Vec<u8>]) -> Vec<u8> {
        let mut payload = Vec::new();
        for packet in fragments {
            sample::assert_good(packet);
            let parsed = Parsed::new(packet).unwrap();
            let end = parsed.fragment.map_or(0, |fragment| fragment.offset)
                + parsed.transport(packet).len();
            payload.resize(payload.len().max(end), 0);
            payload[end - parsed.transport(packet).len()..end]
                .copy_from_slice(parsed.transport(packet));
        }
        payload
    }

    #[test]
    fn a_datagram_is_cut_and_can_be_put_together() {
        let data: Vec<u8> = (0..4000).map(|octet| (octet / 8) as u8).collect();
        let packet = sample::v4(protocol::UDP, &[], &sample::udp(&data));
        let cut = cut(&packet, 1438);
        assert_eq!(cut.len(), 3);
        assert!(cut.iter().all(|packet| packet.len() <= 1438));
        let fields: Vec<_> =
            cut.iter().map(|packet| Parsed::new(packet).unwrap().fragment.unwrap()).collect();
        assert_eq!(
            fields,
            [
                Fragment { offset: 0, more: true, id: 0x1111 },
                Fragment { offset: 1416, more: true, id: 0x1111 },
                Fragment { offset: 2832, more: false, id: 0x1111 },
            ]
        );
        assert_eq!(joined(&cut), packet[20..]);
    }

    #[test]
    fn a_fragment_can_be_cut_again() {
        let packet = sample::v4(protocol::UDP, &[], &[3; 1600]);
        let halves = cut(&packet, 820);
        let quarters: Vec<_> = halves.iter().flat_map(|half| cut(half, 420)).collect();
        assert_eq!(quarters.len(), 4);
        assert_eq!(joined(&quarters), packet[20..]);
        let more: Vec<_> = quarters
            .iter()
            .map(|packet| Parsed::new(packet).unwrap().fragment.unwrap().more)
            .collect();
        assert_eq!(more, [true, true, true, false]);
    }

    #[test]
    fn later_fragments_have_only_the_options_meant_for_them() {
        // Record route (not copied), no-operation, router alert (copied).
        let options = [7, 3, 4, 1, 0x94, 4, 0, 0];
        let packet = sample::v4(protocol::UDP, &options, &[9; 100]);
        let cut = cut(&packet, 92);
        assert_eq!(cut[0][20..28], options);
        assert_eq!(cut[1][0], 0x46);
        assert_eq!(cut[1][20..24], [0x94, 4, 0, 0]);
        assert_eq!(joined(&cut), packet[28..]);
    }

    #[test]
    fn what_must_not_or_need_not_be_cut_is_not() {
        let mut packet = sample::v4(protocol::UDP, &[], &[9; 100]);
        assert_eq!(cut(&packet, 120), [packet.clone()]);
        assert!(fragments(&packet, &Parsed::new(&packet).unwrap(), 27).is_none());
        packet[6] = 0x40;
        assert!(fragments(&packet, &Parsed::new(&packet).unwrap(), 60).is_none());
        let v6 = sample::v6(protocol::UDP, &[9; 100]);
        assert!(fragments(&v6, &Parsed::new(&v6).unwrap(), 100).is_none());
    }

    proptest! {
        #[test]
        fn junk_gives_fragments_that_fit(packet in sample::junk(), mtu in 0_usize..200) {
            if let Some(parsed) = Parsed::new(&packet)
                && let Some(all) = fragments(&packet, &parsed, mtu)
            {
                for fragment in all {
                    prop_assert!(fragment.total_length() <= mtu);
                    prop_assert!(Parsed::new(&fragment.to_vec()).is_some());
                }
            }
        }
    }
}
