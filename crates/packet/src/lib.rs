//! What is done to the IP packets inside a tunnel.
//!
//! **What it is:** pure functions on octets: none of them panics, whatever the octets are.
//! Outbound the order is: read from the TUN, [`mss`], [`nat`], [`segment`] (which makes the
//! checksums of offloaded packets anew, so that what came before may change headers freely),
//! sealing. Inbound: opening, who may send what, [`ecn`], [`nat`], [`mss`], [`coalesce`], write to
//! the TUN.
//!
//! **What it is not:** tunnels: ESP is `ipsec`'s, WireGuard `overlay`'s.
//!
//! It rests on IPv4 (RFC 791), IPv6 (RFC 8200), TCP (RFC 9293), UDP (RFC 768), ICMP (RFC 792, RFC
//! 4443), ECN in tunnels (RFC 6040), and `linux/virtio_net.h`.

#![warn(clippy::indexing_slicing)]

pub mod checksum;
pub mod coalesce;
pub mod ecn;
pub mod fragment;
pub mod header;
pub mod icmp;
pub mod mss;
pub mod nat;
#[cfg(test)]
mod sample;
pub mod segment;
pub mod vnet;

pub use coalesce::Coalescer;
pub use header::Parsed;
pub use segment::{Segment, Segments};
pub use vnet::VnetHeader;

use thiserror::Error;

/// A packet that is not what it says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("malformed packet")]
pub struct Malformed;

/// Overwrites a field; one beyond the packet's end isn't there. What stood there before.
#[inline]
fn replace<const N: usize>(packet: &mut [u8], at: usize, value: [u8; N]) -> Option<[u8; N]> {
    let field = packet.get_mut(at..)?.first_chunk_mut::<N>()?;
    Some(std::mem::replace(field, value))
}

/// Whether an ICMP or ICMPv6 message of this type is about another packet, which it quotes.
fn is_icmp_error(protocol: u8, kind: u8) -> bool {
    match protocol {
        protocol::ICMP => matches!(kind, 3 | 4 | 5 | 11 | 12),
        protocol::ICMPV6 => (1..=4).contains(&kind),
        _ => false,
    }
}

/// IP protocol numbers.
pub(crate) mod protocol {
    pub(crate) const HOP_BY_HOP: u8 = 0;
    pub(crate) const ICMP: u8 = 1;
    pub(crate) const TCP: u8 = 6;
    pub(crate) const UDP: u8 = 17;
    pub(crate) const DCCP: u8 = 33;
    pub(crate) const ROUTING: u8 = 43;
    pub(crate) const FRAGMENT: u8 = 44;
    pub(crate) const AUTHENTICATION: u8 = 51;
    pub(crate) const ICMPV6: u8 = 58;
    pub(crate) const DESTINATION: u8 = 60;
    pub(crate) const SCTP: u8 = 132;
    pub(crate) const UDP_LITE: u8 = 136;
}
