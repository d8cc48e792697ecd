//! Packets as bytes.

use std::net::IpAddr;

use plan::policy::{Packet, State};

/// A packet's bytes, with its number in the IPv4 identification or the IPv6 flow label, and 77 as
/// its TTL.
pub(crate) fn bytes(packet: &Packet, number: u16) -> Vec<u8> {
    let payload = payload(packet, number);
    let length = u16::try_from(payload.len()).unwrap();
    match (packet.source, packet.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut bytes = vec![0x45, 0];
            bytes.extend((length + 20).to_be_bytes());
            bytes.extend(number.to_be_bytes());
            bytes.extend([0x40, 0, 77, packet.protocol, 0, 0]);
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
            let sum = checksum(&bytes).to_be_bytes();
            bytes[10..12].copy_from_slice(&sum);
            bytes.extend(payload);
            bytes
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut bytes = vec![0x60, 0];
            bytes.extend(number.to_be_bytes());
            bytes.extend(length.to_be_bytes());
            bytes.extend([packet.protocol, 77]);
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
            bytes.extend(payload);
            bytes
        }
        _ => panic!("two families in {packet:?}"),
    }
}

fn payload(packet: &Packet, number: u16) -> Vec<u8> {
    let ports = [packet.source_port, packet.destination_port];
    let mut bytes: Vec<u8> = ports.iter().flatten().flat_map(|port| port.to_be_bytes()).collect();
    match packet.protocol {
        1 | 58 => {
            let (kind, code) = packet.icmp.unwrap();
            bytes.extend([kind, code, 0, 0]);
            // The identifier: every echo is a connection of its own.
            bytes.extend(number.to_be_bytes());
            bytes.extend([0, 1]);
            bytes.extend([0; 16]);
            let sum = checksum(&bytes).to_be_bytes();
            bytes[2..4].copy_from_slice(&sum);
        }
        // No flags at all are invalid; SYN makes a connection.
        6 => {
            let flags = if packet.state == State::Invalid { 0 } else { 2 };
            bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0x20, 0, 0, 0, 0, 0]);
        }
        17 => bytes.extend([0, 8, 0, 0]),
        136 => bytes.extend([0, 8, 0, 1]),
        // An INIT chunk.
        132 => {
            bytes.extend([0; 8]);
            bytes.extend([1, 0, 0, 20, 0, 0, 0, 9, 0, 0, 0x20, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
        }
        _ => bytes.extend([0; 24]),
    }
    bytes
}

fn checksum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}
