//! Structures of `linux/xfrm.h` as bytes.

use std::net::IpAddr;

use crate::netlink::message::{octets, u16_at};
use crate::rule::{AF_INET, AF_INET6};

/// `xfrm_address_t`: 16 octets, of which IPv4 takes the first four.
pub(super) fn push_address(bytes: &mut Vec<u8>, ip: IpAddr) {
    let end = bytes.len() + 16;
    bytes.extend_from_slice(&octets(ip));
    bytes.resize(end, 0);
}

/// The address at a place, of a family.
pub(super) fn address_at(bytes: &[u8], at: usize, family: u8) -> Option<IpAddr> {
    let bytes = bytes.get(at..)?;
    match family {
        AF_INET => bytes.first_chunk::<4>().map(|octets| (*octets).into()),
        AF_INET6 => bytes.first_chunk::<16>().map(|octets| (*octets).into()),
        _ => None,
    }
}

/// A number of eight octets, of the machine's byte order.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The family at a place, as 16 bits.
pub(super) fn family_at(bytes: &[u8], at: usize) -> Option<u8> {
    u8::try_from(u16_at(bytes, at)?).ok()
}

/// The number of an address's family.
pub(super) fn family(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { AF_INET } else { AF_INET6 }
}

/// `struct xfrm_lifetime_cfg` (64 octets): when it is said that something wears out, and no end.
pub(super) fn push_lifetime(
    bytes: &mut Vec<u8>,
    soft_bytes: Option<u64>,
    soft_packets: Option<u64>,
) {
    // A limit of zero would be reached at once.
    for soft in [soft_bytes, soft_packets] {
        for limit in [soft, None] {
            let limit = limit.map_or(u64::MAX, |limit| limit.max(1));
            bytes.extend_from_slice(&limit.to_ne_bytes());
        }
    }
    // No limits of time.
    bytes.resize(bytes.len() + 32, 0);
}
