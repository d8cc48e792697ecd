//! Packets for tests.

use proptest::prelude::*;

use super::checksum::{Sum, pseudo};
use super::{Parsed, protocol};

/// From 10.1.0.1 to 10.2.0.2, with a good header checksum.
pub(crate) fn v4(protocol: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let header = 20 + options.len();
    let mut packet = vec![0x40 | (header / 4) as u8, 0, 0, 0, 0x11, 0x11, 0, 0, 61, protocol];
    packet.extend_from_slice(&[0, 0, 10, 1, 0, 1, 10, 2, 0, 2]);
    packet.extend_from_slice(options);
    packet[2..4].copy_from_slice(&((header + payload.len()) as u16).to_be_bytes());
    let sum = Sum::default().with(&packet).finish();
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

/// From fd01::1 to fd02::2.
pub(crate) fn v6(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x61, 0x20, 0, 9, 0, 0, protocol, 61, 0xfd, 1];
    packet[4..6].copy_from_slice(&(payload.len() as u16).to_be_bytes());
    packet.extend_from_slice(&[0; 13]);
    packet.extend_from_slice(&[1, 0xfd, 2]);
    packet.extend_from_slice(&[0; 13]);
    packet.push(2);
    packet.extend_from_slice(payload);
    packet
}

/// A TCP segment, with these options, flags and payload; its checksum is zero.
pub(crate) fn tcp(sequence: u32, flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut segment = vec![0x1f, 0x90, 0xc0, 0x01];
    segment.extend_from_slice(&sequence.to_be_bytes());
    segment.extend_from_slice(&0x0102_0304_u32.to_be_bytes());
    segment.extend_from_slice(&[((20 + options.len()) / 4) as u8 * 16, flags, 0x20, 0, 0, 0, 0, 0]);
    segment.extend_from_slice(options);
    segment.extend_from_slice(payload);
    segment
}

/// A UDP datagram; its checksum is zero.
pub(crate) fn udp(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u16 + 8).to_be_bytes();
    let mut datagram = vec![0x30, 0x39, 0, 53, length[0], length[1], 0, 0];
    datagram.extend_from_slice(payload);
    datagram
}

/// An ICMP message; its checksum is zero.
pub(crate) fn icmp(kind: u8, code: u8, payload: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(payload);
    message
}

/// Makes the transport's checksum good.
pub(crate) fn completed(mut packet: Vec<u8>) -> Vec<u8> {
    let parsed = Parsed::new(&packet).unwrap();
    let field = parsed.header_length + field(parsed.protocol);
    packet[field..field + 2].fill(0);
    let mut sum = transport_sum(&packet).finish();
    if sum == 0 && parsed.protocol == protocol::UDP {
        sum = 0xffff;
    }
    packet[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// Whether the header's and the transport's checksums are good.
#[track_caller]
pub(crate) fn assert_good(packet: &[u8]) {
    let parsed = Parsed::new(packet).expect("well-formed");
    if parsed.source.is_ipv4() {
        let header = Sum::default().with(&packet[..parsed.header_length]);
        assert_eq!(header.partial(), 0xffff, "IPv4 header checksum");
    }
    if parsed.fragment.is_none() {
        assert_eq!(transport_sum(packet).partial(), 0xffff, "transport checksum");
    }
}

fn field(protocol: u8) -> usize {
    match protocol {
        protocol::TCP => 16,
        protocol::UDP => 6,
        _ => 2,
    }
}

fn transport_sum(packet: &[u8]) -> Sum {
    let parsed = Parsed::new(packet).unwrap();
    let addresses = if parsed.source.is_ipv4() { &packet[12..20] } else { &packet[8..40] };
    let transport = parsed.transport(packet);
    let sum = match parsed.protocol {
        protocol::ICMP => Sum::default(),
        protocol => pseudo(addresses, protocol, transport.len()),
    };
    sum.with(transport)
}

/// Octets that often look like packets.
pub(crate) fn junk() -> impl Strategy<Value = Vec<u8>> {
    let heads = prop::sample::select(vec![
        Vec::new(),
        v4(protocol::TCP, &[], &[]),
        v4(protocol::UDP, &[], &[]),
        v4(protocol::ICMP, &[1; 8], &[]),
        v6(protocol::TCP, &[]),
        v6(protocol::HOP_BY_HOP, &[]),
        v6(protocol::FRAGMENT, &[]),
        v6(protocol::ICMPV6, &[]),
        [v4(protocol::ICMP, &[], &[]), icmp(3, 4, &v4(protocol::UDP, &[], &[]))].concat(),
        [v6(protocol::ICMPV6, &[]), icmp(1, 4, &v6(protocol::TCP, &[]))].concat(),
    ]);
    let tail = prop::collection::vec(any::<u8>(), 0..120);
    let changes = prop::collection::vec((0_usize..100, any::<u8>()), 0..3);
    (heads, tail, changes, any::<bool>()).prop_map(|(mut packet, tail, changes, fitted)| {
        packet.extend_from_slice(&tail);
        let length = packet.len();
        match packet.first().map(|octet| octet >> 4) {
            Some(4) if fitted && length >= 20 => {
                packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            }
            Some(6) if fitted && length >= 40 => {
                packet[4..6].copy_from_slice(&(length as u16 - 40).to_be_bytes());
            }
            _ => {}
        }
        for (place, octet) in changes {
            if let Some(place) = packet.get_mut(place) {
                *place = octet;
            }
        }
        packet
    })
}
