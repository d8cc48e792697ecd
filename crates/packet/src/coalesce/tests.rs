use proptest::prelude::*;

use super::*;
use crate::{Segments, sample};

const FIN: u8 = 0x01;

/// What was written, without the header, and the header.
fn flushed(coalescer: &mut Coalescer) -> Vec<(VnetHeader, Vec<u8>)> {
    let mut writes = Vec::new();
    coalescer.flush(|write| {
        let mut write = write.to_vec();
        let (header, packet) = VnetHeader::split(&mut write, vnet::SIZE).unwrap();
        writes.push((header, packet.to_vec()));
    });
    assert!(coalescer.is_empty());
    writes
}

/// What comes out when `packets` go in.
fn coalesced(packets: &[Vec<u8>]) -> Vec<(VnetHeader, Vec<u8>)> {
    let mut coalescer = Coalescer::new(vnet::SIZE, true);
    packets.iter().for_each(|packet| coalescer.push(packet));
    flushed(&mut coalescer)
}

/// What a kernel makes of the writes again.
fn segmented(writes: Vec<(VnetHeader, Vec<u8>)>) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for (header, mut packet) in writes {
        let segments = Segments::new(&header, &mut packet).unwrap();
        packets.extend(segments.map(|segment| segment.to_vec()));
    }
    packets
}

fn tcp(sequence: u32, flags: u8, payload: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..payload).map(|octet| octet as u8).collect();
    let options = [1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 8];
    let mut packet =
        sample::v4(protocol::TCP, &[], &sample::tcp(sequence, flags, &options, &payload));
    packet[6] = 0x40;
    fixed(packet)
}

/// With good checksums.
fn fixed(mut packet: Vec<u8>) -> Vec<u8> {
    if packet[0] >> 4 == 4 {
        packet[10..12].fill(0);
        let sum = Sum::default().with(&packet[..20]).finish();
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    sample::completed(packet)
}

fn numbered(mut packet: Vec<u8>, id: u16) -> Vec<u8> {
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    fixed(packet)
}

#[test]
fn segments_in_a_row_become_one() {
    let v4: Vec<_> = (0..4).map(|n| numbered(tcp(1000 * n, ACK, 1000), 7 + n as u16)).collect();
    let v6: Vec<_> = (0..4)
        .map(|n| {
            let segment = sample::tcp(1000 * n, ACK, &[], &vec![n as u8; 1000]);
            sample::completed(sample::v6(protocol::TCP, &segment))
        })
        .collect();
    for (packets, gso_type, headers) in [(v4, vnet::TCP_V4, 52), (v6, vnet::TCP_V6, 60)] {
        let writes = coalesced(&packets);
        assert_eq!(writes.len(), 1);
        let (header, packet) = &writes[0];
        assert_eq!(header.gso_type, gso_type);
        assert_eq!(header.gso_size, 1000);
        assert_eq!(header.flags, vnet::NEEDS_CHECKSUM);
        assert_eq!(usize::from(header.header_length), headers);
        assert_eq!(header.checksum_offset, 16);
        assert_eq!(packet.len(), headers + 4000);
        assert_eq!(segmented(writes), packets);
    }
}

#[test]
fn the_open_checksum_is_the_pseudo_headers_sum() {
    let writes = coalesced(&[tcp(0, ACK, 100), tcp(100, ACK, 100)]);
    let (header, packet) = &writes[0];
    let start = usize::from(header.checksum_start);
    // What the kernel does with it: the sum over all from there, into the field.
    let sum = Sum::default().with(&packet[start..]).finish();
    let mut done = packet.clone();
    done[start + 16..start + 18].copy_from_slice(&sum.to_be_bytes());
    sample::assert_good(&done);
}

#[test]
fn a_push_or_a_short_segment_ends_a_super_packet() {
    let packets = [
        tcp(0, ACK, 100),
        tcp(100, ACK | PSH, 100),
        tcp(200, ACK, 100),
        tcp(300, ACK, 50),
        tcp(350, ACK, 50),
    ];
    let writes = coalesced(&packets);
    let lengths: Vec<_> = writes.iter().map(|(_, packet)| packet.len() - 52).collect();
    assert_eq!(lengths, [200, 150, 50]);
    assert_eq!(writes[0].1[33], ACK | PSH);
    assert_eq!(writes[1].1[33], ACK);
    let bytes = |packets: &[Vec<u8>]| {
        packets.iter().flat_map(|packet| packet[52..].to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(bytes(&segmented(writes)), bytes(&packets));
}

#[test]
fn what_differs_is_not_put_together() {
    let first = tcp(0, ACK, 100);
    let next = tcp(100, ACK, 100);
    assert_eq!(coalesced(&[first.clone(), next.clone()]).len(), 1);
    let changed = |place: usize, octet: u8| {
        let mut packet = next.clone();
        packet[place] = octet;
        fixed(packet)
    };
    let cases = [
        ("TOS", changed(1, 3)),
        ("DF", changed(6, 0)),
        ("TTL", changed(8, 3)),
        ("source", changed(15, 77)),
        ("port", changed(21, 77)),
        ("acknowledgement", changed(31, 77)),
        ("window", changed(35, 77)),
        ("reserved bits", changed(32, 0x81)),
        ("timestamp", changed(47, 77)),
        ("FIN", changed(33, ACK | FIN)),
        ("CWR", changed(33, ACK | 0x80)),
        ("ECE", changed(33, ACK | ECE)),
        ("urgent", changed(33, ACK | 0x20)),
        ("a gap", tcp(101, ACK, 100)),
        ("again", tcp(0, ACK, 100)),
        ("larger", tcp(100, ACK, 101)),
        ("empty", tcp(100, ACK, 0)),
        ("other options", {
            let segment = sample::tcp(100, ACK, &[], &[0; 100]);
            fixed(sample::v4(protocol::TCP, &[], &segment))
        }),
    ];
    for (what, packet) in cases {
        let packets = [first.clone(), packet];
        let writes = coalesced(&packets);
        assert_eq!(writes.len(), 2, "{what}");
        for ((header, packet), expected) in writes.iter().zip(&packets) {
            assert_eq!(*header, VnetHeader::default(), "{what}");
            assert_eq!(packet, expected, "{what}");
        }
    }
}

#[test]
fn packets_with_a_bad_checksum_stay_as_they_came() {
    for bad in [0, 1] {
        for place in [10, 11, 36, 60, 151] {
            let mut packets = [tcp(0, ACK, 100), tcp(100, ACK, 100), tcp(200, ACK, 100)];
            packets[bad][place] ^= 0x40;
            let writes = coalesced(&packets);
            let whole = writes.iter().any(|(header, packet)| {
                *packet == packets[bad] && *header == VnetHeader::default()
            });
            assert!(whole, "packet {bad}, octet {place}");
        }
    }
}

#[test]
fn flows_are_kept_apart_and_each_in_order() {
    let other = |packet: Vec<u8>| {
        let mut packet = packet;
        packet[21] = 99;
        fixed(packet)
    };
    let icmp = sample::completed(sample::v4(protocol::ICMP, &[], &sample::icmp(8, 0, &[1; 40])));
    let packets = [
        tcp(0, ACK, 100),
        other(tcp(5000, ACK, 90)),
        icmp.clone(),
        tcp(100, ACK, 100),
        other(tcp(5090, ACK, 90)),
        tcp(200, ACK | FIN, 0),
        tcp(200, ACK, 10),
    ];
    let writes = coalesced(&packets);
    let lengths: Vec<_> = writes.iter().map(|(_, packet)| packet.len()).collect();
    assert_eq!(lengths, [252, 232, icmp.len(), 52, 62]);
}

#[test]
fn a_fragment_holds_no_later_packet_back() {
    let mut fragment = sample::v4(protocol::UDP, &[], &[0; 64]);
    fragment[7] = 9;
    let packets = [tcp(0, ACK, 100), fragment, tcp(100, ACK, 100)];
    let writes = coalesced(&packets);
    assert_eq!(writes.len(), 3);
}

#[test]
fn a_super_packet_fits_into_its_length_field() {
    let packets: Vec<_> = (0..100).map(|n| tcp(n * 1400, ACK, 1400)).collect();
    let writes = coalesced(&packets);
    assert_eq!(writes.len(), 3);
    assert!(writes.iter().all(|(_, packet)| packet.len() <= LARGEST));
    assert_eq!(segmented(writes).len(), 100);
}

#[test]
fn identifications_count_only_where_packets_may_be_cut() {
    let may_be_cut = |sequence, id| {
        let mut packet = tcp(sequence, ACK, 100);
        packet[6] = 0;
        numbered(packet, id)
    };
    assert_eq!(coalesced(&[may_be_cut(0, 1), may_be_cut(100, 2)]).len(), 1);
    assert_eq!(coalesced(&[may_be_cut(0, 1), may_be_cut(100, 3)]).len(), 2);
    assert_eq!(coalesced(&[tcp(0, ACK, 100), numbered(tcp(100, ACK, 100), 0)]).len(), 1);
}

#[test]
fn datagrams_of_one_size_become_one_if_wanted() {
    let datagram = |size: usize, id: u16| {
        numbered(sample::v4(protocol::UDP, &[], &sample::udp(&vec![9; size])), id)
    };
    let packets = [datagram(500, 1), datagram(500, 2), datagram(400, 3), datagram(400, 4)];
    let writes = coalesced(&packets);
    assert_eq!(writes.len(), 2);
    assert_eq!(writes[0].0.gso_type, vnet::UDP_L4);
    assert_eq!(segmented(writes), packets);
    let mut without = Coalescer::new(vnet::SIZE_WITH_BUFFERS, false);
    packets.iter().for_each(|packet| without.push(packet));
    let mut count = 0;
    without.flush(|write| {
        assert_eq!(write.len(), 12 + packets[count].len());
        count += 1;
    });
    assert_eq!(count, 4);
    let mut open = packets[1].clone();
    open[26..28].fill(0);
    assert_eq!(coalesced(&[packets[0].clone(), open]).len(), 2, "no checksum, no proof");
}

#[test]
fn buffers_are_used_again_and_large_ones_given_back() {
    let mut coalescer = Coalescer::new(vnet::SIZE, true);
    for round in 0..3 {
        for n in 0..400 {
            coalescer.push(&numbered(tcp(n * 3000 + round, ACK | PSH, 2500), n as u16));
        }
        assert_eq!(flushed(&mut coalescer).len(), 400);
    }
    assert!(coalescer.slots.len() <= KEPT);
    let large = coalescer.slots.iter().filter(|slot| slot.buffer.capacity() > SMALL);
    assert!(large.count() <= LARGE_KEPT);
}

proptest! {
    #[test]
    fn junk_comes_out_as_it_went_in_or_not_cut_shorter_than_it_says(
        packets in prop::collection::vec(sample::junk(), 0..12)
    ) {
        let writes = coalesced(&packets);
        prop_assert!(writes.len() <= packets.len());
        for (header, packet) in &writes {
            if *header == VnetHeader::default() {
                prop_assert!(packets.iter().any(|one| one.starts_with(packet)));
            }
        }
    }

    #[test]
    fn a_batch_of_good_packets_comes_out_of_the_kernel_as_it_went_in(
        choices in prop::collection::vec((0_u32..6, 0_usize..3, any::<bool>(), 0_u8..4), 0..40)
    ) {
        let mut next = [0_u32; 6];
        let mut packets = Vec::new();
        for (flow, size, push, kind) in choices {
            let size = [1, 100, 100][size];
            let flags = if push { ACK | PSH } else { ACK };
            let sequence = &mut next[flow as usize];
            let mut packet = tcp(*sequence, flags, size);
            packet[21] = flow as u8;
            if kind == 0 {
                packet[47] ^= 1;
            }
            *sequence = sequence.wrapping_add(size as u32);
            packets.push(fixed(packet));
        }
        let out = segmented(coalesced(&packets));
        for flow in 0..6 {
            // Identifications are the kernel's own.
            let of = |packets: &[Vec<u8>]| {
                let of = packets.iter().filter(|packet| packet[21] == flow);
                of.map(|packet| numbered(packet.clone(), 0)).collect::<Vec<_>>()
            };
            prop_assert_eq!(of(&out), of(&packets));
        }
    }
}
