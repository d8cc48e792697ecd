use proptest::prelude::*;

use super::*;
use crate::sample;

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
