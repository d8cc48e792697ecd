//! Answers to packets that can't go on (RFC 792, RFC 1191, RFC 4443).

use std::net::{IpAddr, Ipv4Addr};

use super::checksum::{Sum, pseudo};
use super::{Parsed, is_icmp_error, protocol};

/// Why a packet can't go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is larger than this, and must not be cut up.
    TooBig(usize),
    /// It is not allowed to.
    Prohibited,
    /// There is no way to where it goes.
    NoRoute,
}

/// Octets of a whole answer at most (RFC 1812, 4.3.2.3; RFC 4443, 2.4c).
const LARGEST_V4: usize = 576;
const LARGEST_V6: usize = 1280;

/// The answer to a packet, as a whole IP packet from an address of this side's. None where there
/// must be none: to ICMP errors, later fragments, and what comes from or goes to more than one
/// host; or where `from` is of another family.
pub fn answer(packet: &[u8], parsed: &Parsed, from: IpAddr, reason: Reason) -> Option<Vec<u8>> {
    if parsed.is_later_fragment() || is_error(parsed) || !is_one_host(parsed.source) {
        return None;
    }
    let packet = packet.get(..parsed.total_length)?;
    match (from, parsed.source) {
        (IpAddr::V4(from), IpAddr::V4(to)) if is_one_host(parsed.destination) => {
            let (code, mtu) = match reason {
                Reason::TooBig(mtu) => (4, u16::try_from(mtu).unwrap_or(u16::MAX)),
                Reason::Prohibited => (13, 0),
                Reason::NoRoute => (0, 0),
            };
            let quote = packet.get(..LARGEST_V4 - 28).unwrap_or(packet);
            let length = (28 + quote.len()) as u16;
            let mut answer = Vec::with_capacity(usize::from(length));
            // Internetwork control, don't fragment.
            answer.extend_from_slice(&[0x45, 0xc0]);
            answer.extend_from_slice(&length.to_be_bytes());
            answer.extend_from_slice(&[0, 0, 0x40, 0, 64, protocol::ICMP, 0, 0]);
            answer.extend_from_slice(&from.octets());
            answer.extend_from_slice(&to.octets());
            let sum = Sum::default().with(&answer).finish();
            super::replace(&mut answer, 10, sum.to_be_bytes());
            let mtu = mtu.to_be_bytes();
            let [m0, m1] = mtu;
            answer.extend_from_slice(&[3, code, 0, 0, 0, 0, m0, m1]);
            answer.extend_from_slice(quote);
            let sum = Sum::default().with(answer.get(20..)?).finish();
            super::replace(&mut answer, 22, sum.to_be_bytes());
            Some(answer)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let (kind, code, mtu) = match reason {
                // Below 1,280 no host would go (RFC 8200, 5).
                Reason::TooBig(mtu) => (2, 0, u32::try_from(mtu.max(LARGEST_V6)).ok()?),
                Reason::Prohibited => (1, 1, 0),
                Reason::NoRoute => (1, 0, 0),
            };
            if parsed.destination.is_multicast() && kind != 2 {
                return None;
            }
            let quote = packet.get(..LARGEST_V6 - 48).unwrap_or(packet);
            let length = 8 + quote.len();
            let mut answer = Vec::with_capacity(40 + length);
            answer.extend_from_slice(&[0x6c, 0, 0, 0]);
            answer.extend_from_slice(&(length as u16).to_be_bytes());
            answer.extend_from_slice(&[protocol::ICMPV6, 64]);
            answer.extend_from_slice(&from.octets());
            answer.extend_from_slice(&to.octets());
            let pseudo = pseudo(answer.get(8..40)?, protocol::ICMPV6, length);
            answer.extend_from_slice(&[kind, code, 0, 0]);
            answer.extend_from_slice(&mtu.to_be_bytes());
            answer.extend_from_slice(quote);
            let sum = pseudo.with(answer.get(40..)?).finish();
            super::replace(&mut answer, 42, sum.to_be_bytes());
            Some(answer)
        }
        _ => None,
    }
}

/// Whether it is itself an answer of this kind, or an ICMPv6 redirect.
fn is_error(parsed: &Parsed) -> bool {
    let is_icmp = matches!(parsed.protocol, protocol::ICMP | protocol::ICMPV6);
    match parsed.ports {
        Some((kind, _)) if is_icmp => {
            let kind = (kind >> 8) as u8;
            is_icmp_error(parsed.protocol, kind)
                || parsed.protocol == protocol::ICMPV6 && kind == 137
        }
        // It has no type, so who knows.
        None => is_icmp,
        _ => false,
    }
}

fn is_one_host(address: IpAddr) -> bool {
    !address.is_unspecified()
        && !address.is_multicast()
        && !address.is_loopback()
        && address != IpAddr::V4(Ipv4Addr::BROADCAST)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sample;

    const FROM_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn from_v6() -> IpAddr {
        "fd0f::1".parse().unwrap()
    }

    fn answered(packet: &[u8], from: IpAddr, reason: Reason) -> Option<Vec<u8>> {
        answer(packet, &Parsed::new(packet).unwrap(), from, reason)
    }

    #[test]
    fn too_big_has_the_mtu_and_the_packets_beginning() {
        let big = sample::v4(protocol::UDP, &[], &sample::udp(&[7; 3000]));
        let out = answered(&big, FROM_V4, Reason::TooBig(1438)).unwrap();
        sample::assert_good(&out);
        assert_eq!(out.len(), 576);
        assert_eq!(out[20..22], [3, 4]);
        assert_eq!(out[24..28], [0, 0, 0x05, 0x9e]);
        assert_eq!(out[28..], big[..548]);
        let parsed = Parsed::new(&out).unwrap();
        assert_eq!((parsed.source, parsed.destination), (FROM_V4, IpAddr::from([10, 1, 0, 1])));

        let big = sample::v6(protocol::UDP, &sample::udp(&[7; 3000]));
        let out = answered(&big, from_v6(), Reason::TooBig(1418)).unwrap();
        sample::assert_good(&out);
        assert_eq!(out.len(), 1280);
        assert_eq!(out[40..42], [2, 0]);
        assert_eq!(out[44..48], 1418_u32.to_be_bytes());
        assert_eq!(out[48..], big[..1232]);
    }

    #[test]
    fn other_reasons_have_their_codes() {
        let v4 = sample::v4(protocol::UDP, &[], &sample::udp(b"x"));
        let v6 = sample::v6(protocol::UDP, &sample::udp(b"x"));
        for (reason, four, six) in
            [(Reason::Prohibited, [3, 13], [1, 1]), (Reason::NoRoute, [3, 0], [1, 0])]
        {
            let out = answered(&v4, FROM_V4, reason).unwrap();
            sample::assert_good(&out);
            assert_eq!(out[20..22], four);
            let out = answered(&v6, from_v6(), reason).unwrap();
            sample::assert_good(&out);
            assert_eq!(out[40..42], six);
        }
    }

    #[test]
    fn what_must_not_be_answered_is_not() {
        let udp = sample::v4(protocol::UDP, &[], &sample::udp(b"x"));
        let changed = |place: usize, octets: &[u8]| {
            let mut packet = udp.clone();
            packet[place..place + octets.len()].copy_from_slice(octets);
            packet
        };
        for packet in [
            sample::v4(protocol::ICMP, &[], &sample::icmp(3, 1, &[0; 20])),
            sample::v6(protocol::ICMPV6, &sample::icmp(1, 1, &[0; 40])),
            sample::v6(protocol::ICMPV6, &sample::icmp(137, 0, &[0; 40])),
            changed(7, &[4]),
            changed(12, &[0, 0, 0, 0]),
            changed(12, &[224, 0, 0, 1]),
            changed(16, &[224, 0, 0, 1]),
            changed(16, &[255; 4]),
        ] {
            for from in [FROM_V4, from_v6()] {
                assert_eq!(answered(&packet, from, Reason::NoRoute), None);
            }
        }
        assert_eq!(answered(&udp, from_v6(), Reason::NoRoute), None);
        let echo = sample::v4(protocol::ICMP, &[], &sample::icmp(8, 0, &[0; 20]));
        assert!(answered(&echo, FROM_V4, Reason::NoRoute).is_some());
    }

    proptest! {
        #[test]
        fn junk_does_no_harm(packet in sample::junk(), mtu: usize) {
            if let Some(parsed) = Parsed::new(&packet) {
                for from in [FROM_V4, from_v6()] {
                    if let Some(out) = answer(&packet, &parsed, from, Reason::TooBig(mtu)) {
                        sample::assert_good(&out);
                    }
                }
            }
        }
    }
}
