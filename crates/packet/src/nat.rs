//! One-to-one translation of addresses, prefix by prefix, with all checksums.

use std::net::IpAddr;

use ipnet::IpNet;
use model::snapshot::vpn::NatPair;
use thiserror::Error;

use super::checksum::updated;
use super::{Parsed, is_icmp_error, protocol, replace};

/// Addresses of one network become those of another, of equal size: host bits stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    is_v4: bool,
    length: u8,
    host: u128,
    from: u128,
    to: u128,
}

/// Which address of a packet is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
}

/// Networks of different family or size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{from} can't become {to} one to one: write two networks of the same family and size")]
pub struct Unequal {
    from: IpNet,
    to: IpNet,
}

impl Rule {
    /// From one network to the other.
    ///
    /// # Errors
    /// They are of different family or size.
    pub fn new(from: IpNet, to: IpNet) -> Result<Self, Unequal> {
        let is_v4 = from.addr().is_ipv4();
        if is_v4 != to.addr().is_ipv4() || from.prefix_len() != to.prefix_len() {
            return Err(Unequal { from, to });
        }
        let network = bits(from.network());
        let host = bits(from.broadcast()) ^ network;
        let length = from.prefix_len();
        Ok(Self { is_v4, length, host, from: network, to: bits(to.network()) })
    }

    /// As packets leave: from inside to outside.
    ///
    /// # Errors
    /// See [`Self::new`].
    pub fn outbound(pair: &NatPair) -> Result<Self, Unequal> {
        Self::new(pair.inside, pair.outside)
    }

    /// As packets come: from outside to inside.
    ///
    /// # Errors
    /// See [`Self::new`].
    pub fn inbound(pair: &NatPair) -> Result<Self, Unequal> {
        Self::new(pair.outside, pair.inside)
    }

    /// What an address becomes; none if it isn't in the first network.
    #[inline]
    pub fn map(&self, address: IpAddr) -> Option<IpAddr> {
        let octets = bits(address);
        if address.is_ipv4() != self.is_v4 || octets & !self.host != self.from {
            return None;
        }
        let mapped = self.to | octets & self.host;
        Some(match self.is_v4 {
            true => IpAddr::V4((mapped as u32).into()),
            false => IpAddr::V6(mapped.into()),
        })
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// What an address becomes by the rule of the longest prefix that has it.
#[inline]
pub fn mapped(rules: &[Rule], address: IpAddr) -> Option<IpAddr> {
    let fitting = rules.iter().filter_map(|rule| Some((rule.length, rule.map(address)?)));
    fitting.max_by_key(|(length, _)| *length).map(|(_, address)| address)
}

/// Translates one address of a packet, and in an ICMP error the opposite one of the packet that
/// it quotes. Checksums of IPv4, TCP, UDP and ICMPv6 follow; a UDP checksum of zero stays zero.
/// True if anything changed; `parsed` has the new address then.
///
/// A checksum that is left to an offload must be made from nothing afterwards, as
/// [`Segments`](super::Segments) does.
pub fn translate(packet: &mut [u8], parsed: &mut Parsed, side: Side, rules: &[Rule]) -> bool {
    if rules.is_empty() {
        return false;
    }
    let address = match side {
        Side::Source => parsed.source,
        Side::Destination => parsed.destination,
    };
    let mut changed = false;
    if let Some(new) = mapped(rules, address) {
        rewrite(packet, parsed, side, new);
        match side {
            Side::Source => parsed.source = new,
            Side::Destination => parsed.destination = new,
        }
        changed = true;
    }
    if matches!(parsed.protocol, protocol::ICMP | protocol::ICMPV6) {
        changed |= translate_quote(packet, parsed, side, rules);
    }
    changed
}

/// Changes the address in the headers of a packet of its own.
fn rewrite(packet: &mut [u8], parsed: &Parsed, side: Side, new: IpAddr) {
    match (side, new) {
        (Side::Source, IpAddr::V4(new)) => swap(packet, parsed, 12, new.octets()),
        (Side::Destination, IpAddr::V4(new)) => swap(packet, parsed, 16, new.octets()),
        (Side::Source, IpAddr::V6(new)) => swap(packet, parsed, 8, new.octets()),
        (Side::Destination, IpAddr::V6(new)) => swap(packet, parsed, 24, new.octets()),
    }
}

/// Writes an address, and brings the checksums that cover it up to date.
fn swap<const N: usize>(packet: &mut [u8], parsed: &Parsed, at: usize, new: [u8; N]) {
    let Some(old) = replace(packet, at, new) else { return };
    let mut update = |place: usize, is_udp: bool| {
        let field = packet.get_mut(place..).and_then(<[u8]>::first_chunk_mut);
        let Some(field) = field else { return };
        let sum = u16::from_be_bytes(*field);
        // UDP's zero stands for none, and a sum of zero for itself as its other form.
        if is_udp && sum == 0 {
            return;
        }
        *field = match updated(sum, &old, &new) {
            0 if is_udp => [0xff; 2],
            sum => sum.to_be_bytes(),
        };
    };
    if N == 4 {
        update(10, false);
    }
    if let Some(place) = checksum_of(parsed) {
        update(place, parsed.protocol == protocol::UDP);
    }
}

/// Where the checksum stands that has the addresses in it, if the packet has one.
fn checksum_of(parsed: &Parsed) -> Option<usize> {
    if parsed.is_later_fragment() {
        return None;
    }
    let offset = match parsed.protocol {
        protocol::TCP => 16,
        protocol::UDP | protocol::UDP_LITE => 6,
        protocol::ICMPV6 => 2,
        _ => return None,
    };
    let place = parsed.header_length + offset;
    (place + 2 <= parsed.total_length).then_some(place)
}

/// Translates the quote in an ICMP error: it went the other way.
fn translate_quote(packet: &mut [u8], parsed: &Parsed, side: Side, rules: &[Rule]) -> bool {
    let Some((kind, _)) = parsed.ports else { return false };
    if parsed.fragment.is_some() || !is_icmp_error(parsed.protocol, (kind >> 8) as u8) {
        return false;
    }
    let Some((headers, quote)) = packet
        .get_mut(parsed.header_length..parsed.total_length)
        .and_then(|message| message.split_at_mut_checked(8))
    else {
        return false;
    };
    let Some(inner) = Parsed::quoted(quote) else { return false };
    let (side, address) = match side {
        Side::Source => (Side::Destination, inner.destination),
        Side::Destination => (Side::Source, inner.source),
    };
    let Some(new) = mapped(rules, address) else { return false };
    // At most these octets change: the IP header, and the checksum behind it.
    let end = (inner.header_length + 18).min(quote.len() & !1);
    let mut before = [0; QUOTED];
    let Some((before, now)) = before.get_mut(..end).zip(quote.get(..end)) else { return false };
    before.copy_from_slice(now);
    rewrite(quote, &inner, side, new);
    let now = quote.get(..end).unwrap_or_default();
    if let Some(field) = headers.get_mut(2..).and_then(<[u8]>::first_chunk_mut) {
        *field = updated(u16::from_be_bytes(*field), before, now).to_be_bytes();
    }
    true
}

/// Headers of a quoted packet that are translated: what is longer stays, and is of no use to
/// anybody.
const QUOTED: usize = 256;

#[cfg(test)]
mod tests;
