//! Addresses that no machine can be given for others to reach (IANA's special-purpose registries,
//! RFC 6890).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use model::snapshot::AddressRange;

const UNICAST: &str = "write unicast addresses";

/// First and last address, what they are, and what to write instead.
const V4: [(Ipv4Addr, Ipv4Addr, &str, &str); 4] = [
    (
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::new(0, 255, 255, 255),
        "\"this network\", 0.0.0.0/8",
        UNICAST,
    ),
    (Ipv4Addr::new(127, 0, 0, 0), Ipv4Addr::new(127, 255, 255, 255), "loopback addresses", UNICAST),
    (
        Ipv4Addr::new(224, 0, 0, 0),
        Ipv4Addr::new(239, 255, 255, 255),
        "multicast addresses",
        UNICAST,
    ),
    (Ipv4Addr::BROADCAST, Ipv4Addr::BROADCAST, "the broadcast address", UNICAST),
];
const V6: [(Ipv6Addr, Ipv6Addr, &str, &str); 4] = [
    (Ipv6Addr::UNSPECIFIED, Ipv6Addr::LOCALHOST, "the unspecified or loopback address", UNICAST),
    (
        Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0),
        Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0xffff, 0xffff),
        "IPv4 addresses mapped into IPv6",
        "write them as IPv4",
    ),
    (
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0),
        Ipv6Addr::new(0xfebf, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff),
        "link-local addresses",
        UNICAST,
    ),
    (
        Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0),
        Ipv6Addr::new(0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff),
        "multicast addresses",
        UNICAST,
    ),
];

/// What of them is in the range, and what to write instead.
pub(super) fn among(range: &AddressRange) -> Option<(&'static str, &'static str)> {
    match (range.first, range.last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => V4
            .into_iter()
            .find(|(from, to, ..)| first <= *to && *from <= last)
            .map(|(.., what, remedy)| (what, remedy)),
        (IpAddr::V6(first), IpAddr::V6(last)) => V6
            .into_iter()
            .find(|(from, to, ..)| first <= *to && *from <= last)
            .map(|(.., what, remedy)| (what, remedy)),
        _ => None,
    }
}
