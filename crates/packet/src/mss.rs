//! TCP's maximum segment size, lowered to what fits through the tunnel.

use super::checksum::updated;
use super::{Parsed, protocol};

const SYN: u8 = 0x02;
const END: u8 = 0;
const NOTHING: u8 = 1;
const MSS: u8 = 2;
/// A smaller one helps nobody.
const SMALLEST: usize = 64;

/// Lowers the MSS option of a SYN, if it has one, to that of a path with this MTU for inner
/// packets. True if it was lowered.
pub fn clamp(packet: &mut [u8], parsed: &Parsed, mtu: usize) -> bool {
    if parsed.protocol != protocol::TCP || parsed.fragment.is_some() {
        return false;
    }
    let headers = if parsed.source.is_ipv4() { 40 } else { 60 };
    let most = mtu.saturating_sub(headers).clamp(SMALLEST, usize::from(u16::MAX)) as u16;
    let Some(segment) = packet.get_mut(parsed.header_length..parsed.total_length) else {
        return false;
    };
    let Some(place) = find(segment) else { return false };
    // The option may stand at an odd offset: sums go over whole words.
    let words = place & !1..(place + 3) & !1;
    let Some(before) = words_at(segment, &words) else { return false };
    let Some(field) = segment.get_mut(place..).and_then(<[u8]>::first_chunk_mut) else {
        return false;
    };
    if u16::from_be_bytes(*field) <= most {
        return false;
    }
    *field = most.to_be_bytes();
    let Some(after) = words_at(segment, &words) else { return false };
    if let Some(field) = segment.get_mut(16..).and_then(<[u8]>::first_chunk_mut) {
        *field = updated(u16::from_be_bytes(*field), &before, &after).to_be_bytes();
    }
    true
}

/// Where in a TCP segment the value of the MSS option stands.
fn find(segment: &[u8]) -> Option<usize> {
    let header = segment.first_chunk::<20>()?;
    let [.., offset, flags, _, _, _, _, _, _] = *header;
    if flags & SYN == 0 {
        return None;
    }
    let end = usize::from(offset >> 4) * 4;
    let mut place = 20;
    while place < end {
        match *segment.get(place)? {
            END => return None,
            NOTHING => place += 1,
            kind => {
                let length = usize::from(*segment.get(place + 1)?);
                if kind == MSS && length == 4 && place + 4 <= end {
                    return Some(place + 2);
                }
                if length < 2 {
                    return None;
                }
                place += length;
            }
        }
    }
    None
}

/// One or two words, the rest zero.
fn words_at(segment: &[u8], words: &std::ops::Range<usize>) -> Option<[u8; 4]> {
    let from = segment.get(words.clone())?;
    let mut to = [0; 4];
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    Some(to)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sample;

    fn syn(flags: u8, options: &[u8], v6: bool) -> Vec<u8> {
        let segment = sample::tcp(1, flags, options, &[]);
        sample::completed(if v6 {
            sample::v6(protocol::TCP, &segment)
        } else {
            sample::v4(protocol::TCP, &[], &segment)
        })
    }

    fn clamped(packet: &[u8], mtu: usize) -> Option<Vec<u8>> {
        let mut packet = packet.to_vec();
        let parsed = Parsed::new(&packet).unwrap();
        let changed = clamp(&mut packet, &parsed, mtu);
        sample::assert_good(&packet);
        changed.then_some(packet)
    }

    #[test]
    fn a_larger_mss_is_lowered_at_even_and_odd_places() {
        let mss = 1460_u16.to_be_bytes();
        for (options, place) in [
            ([MSS, 4, mss[0], mss[1], 1, 1, 1, 0], 22),
            ([1, MSS, 4, mss[0], mss[1], 1, 1, 0], 23),
            ([3, 3, 7, MSS, 4, mss[0], mss[1], 0], 25),
        ] {
            for (v6, expected) in [(false, 1398_u16), (true, 1378)] {
                for flags in [SYN, SYN | 0x10] {
                    let packet = syn(flags, &options, v6);
                    let out = clamped(&packet, 1438).unwrap();
                    let place = place + if v6 { 40 } else { 20 };
                    assert_eq!(out[place..place + 2], expected.to_be_bytes());
                    assert_eq!(clamped(&out, 1438), None);
                }
            }
        }
    }

    #[test]
    fn what_has_no_larger_mss_stays() {
        for packet in [
            syn(SYN, &[MSS, 4, 5, 0], false),
            syn(SYN, &[1, 1, 1, 1], false),
            syn(SYN, &[0, 0, MSS, 4], false),
            syn(SYN, &[1, 1, MSS, 4], false),
            syn(SYN, &[8, 0, MSS, 4], false),
            syn(SYN, &[8, 99, 1, 1], false),
            syn(0x10, &[MSS, 4, 0xff, 0], false),
            sample::completed(sample::v4(protocol::UDP, &[], &sample::udp(b"x"))),
        ] {
            assert_eq!(clamped(&packet, 1438), None);
        }
    }

    proptest! {
        #[test]
        fn junk_does_no_harm(mut packet in sample::junk(), mtu: u16) {
            if let Some(parsed) = Parsed::new(&packet) {
                clamp(&mut packet, &parsed, usize::from(mtu));
            }
        }

        #[test]
        fn junk_in_options_does_no_harm(
            options in prop::collection::vec(0_u8..9, 40), mtu in 0_usize..500
        ) {
            let packet = syn(SYN, &options, false);
            clamped(&packet, mtu);
        }
    }
}
