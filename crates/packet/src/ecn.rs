//! Type of service of outer and inner header: DSCP (RFC 4301, 5.1.2) and ECN (RFC 6040).

use super::Parsed;
use super::checksum::updated;
use super::replace;

/// The DSCP of outer headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dscp {
    /// The inner packet's.
    #[default]
    Copy,
    /// Always this one.
    Set(u8),
}

const NOT_ECT: u8 = 0;
const ECT_1: u8 = 1;
const CE: u8 = 3;

/// The outer header's octet for an inner one's. ECN is copied ("normal mode", RFC 6040, 4.1).
pub fn outer_tos(inner: u8, dscp: Dscp) -> u8 {
    match dscp {
        Dscp::Copy => inner,
        Dscp::Set(dscp) => dscp << 2 | inner & CE,
    }
}

/// The ECN field that a packet goes on with (RFC 6040, 4.2). None: it has to be dropped, since
/// congestion was met and its sender does not know of such marks.
pub fn inner_ecn(inner: u8, outer: u8) -> Option<u8> {
    match (inner & CE, outer & CE) {
        (NOT_ECT, CE) => None,
        (NOT_ECT, _) => Some(NOT_ECT),
        (_, CE) => Some(CE),
        (CE, _) => Some(CE),
        (_, ECT_1) => Some(ECT_1),
        (inner, _) => Some(inner),
    }
}

/// Brings what the outer header's ECN field says into a decrypted packet. False: it has to be
/// dropped.
pub fn decapsulate(packet: &mut [u8], parsed: &mut Parsed, outer_tos: u8) -> bool {
    let Some(ecn) = inner_ecn(parsed.ecn(), outer_tos) else { return false };
    if ecn == parsed.ecn() {
        return true;
    }
    parsed.tos = parsed.tos & !CE | ecn;
    let Some([a, b]) = packet.first_chunk().copied() else { return false };
    if parsed.source.is_ipv4() {
        let word = [a, parsed.tos];
        replace(packet, 0, word);
        if let Some(field) = packet.get_mut(10..).and_then(<[u8]>::first_chunk_mut) {
            *field = updated(u16::from_be_bytes(*field), &[a, b], &word).to_be_bytes();
        }
    } else {
        // The traffic class lies across both octets.
        replace(packet, 0, [a, b & 0x0f | parsed.tos << 4]);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{protocol, sample};

    #[test]
    fn the_table_of_the_rfc() {
        const ECT_0: u8 = 2;
        // Rows: inner; columns: outer Not-ECT, ECT(0), ECT(1), CE.
        for (inner, row) in [
            (NOT_ECT, [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None]),
            (ECT_0, [Some(ECT_0), Some(ECT_0), Some(ECT_1), Some(CE)]),
            (ECT_1, [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)]),
            (CE, [Some(CE), Some(CE), Some(CE), Some(CE)]),
        ] {
            for (outer, expected) in [NOT_ECT, ECT_0, ECT_1, CE].into_iter().zip(row) {
                assert_eq!(inner_ecn(inner, 0xb8 | outer), expected, "{inner} in {outer}");
            }
        }
    }

    #[test]
    fn the_dscp_is_copied_or_set_and_ecn_always_copied() {
        assert_eq!(outer_tos(0xba, Dscp::Copy), 0xba);
        assert_eq!(outer_tos(0xba, Dscp::Set(10)), 10 << 2 | 2);
    }

    #[test]
    fn a_mark_is_brought_in_with_the_checksum() {
        let payload = sample::tcp(1, 0x10, &[], b"x");
        for mut packet in
            [sample::v4(protocol::TCP, &[], &payload), sample::v6(protocol::TCP, &payload)]
        {
            if packet[0] >> 4 == 4 {
                packet[1] = 0x12;
                packet[10..12].fill(0);
                let sum = crate::checksum::Sum::default().with(&packet[..20]).finish();
                packet[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            let mut packet = sample::completed(packet);
            let mut parsed = Parsed::new(&packet).unwrap();
            assert_eq!(parsed.tos, 0x12);
            assert!(decapsulate(&mut packet, &mut parsed, 0xff));
            sample::assert_good(&packet);
            assert_eq!(Parsed::new(&packet), Some(parsed));
            assert_eq!(parsed.tos, 0x13);
        }
        let mut packet = sample::v4(protocol::TCP, &[], &payload);
        let mut parsed = Parsed::new(&packet).unwrap();
        assert!(!decapsulate(&mut packet, &mut parsed, CE));
        assert!(decapsulate(&mut packet, &mut parsed, ECT_1));
    }
}
