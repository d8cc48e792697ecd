//! Addresses as numbers: ranges of them are cut, never listed, since an IPv6 pool may be a /64.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use model::snapshot::AddressRange;

/// Addresses of one family from the first to the last, both included. Sorted by family first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub(super) v6: bool,
    pub(super) first: u128,
    pub(super) last: u128,
}

impl Span {
    pub(super) fn one(address: IpAddr) -> Self {
        let (v6, number) = number(address);
        Self { v6, first: number, last: number }
    }

    pub(super) fn network(network: IpNet) -> Self {
        let (v6, first) = number(network.network());
        let (_, last) = number(network.broadcast());
        Self { v6, first, last }
    }

    /// How many addresses it has; saturates.
    pub(super) fn count(self) -> u64 {
        u64::try_from((self.last - self.first).saturating_add(1)).unwrap_or(u64::MAX)
    }

    /// Whether it is all of a CIDR with more than two addresses.
    pub(super) fn is_subnet(self) -> bool {
        let hosts = self.last - self.first;
        hosts > 1 && hosts & hosts.wrapping_add(1) == 0 && self.first & hosts == 0
    }

    pub(super) fn overlap(self, other: Self) -> Option<Self> {
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        (self.v6 == other.v6 && first <= last).then_some(Self { v6: self.v6, first, last })
    }

    /// What is left of it without `holes`, which are sorted and don't overlap.
    pub(super) fn without(self, holes: &[Self]) -> Vec<Self> {
        let mut left = Vec::new();
        let mut rest = self;
        let begin = holes.partition_point(|hole| (hole.v6, hole.last) < (self.v6, self.first));
        for hole in holes.iter().skip(begin).map_while(|hole| hole.overlap(self)) {
            if hole.first > rest.first {
                left.push(Self { last: hole.first - 1, ..rest });
            }
            match hole.last.checked_add(1) {
                Some(next) if next <= self.last => rest.first = next,
                _ => return left,
            }
        }
        left.push(rest);
        left
    }
}

impl From<&AddressRange> for Span {
    fn from(range: &AddressRange) -> Self {
        let ((v6, first), (_, last)) = (number(range.first), number(range.last));
        Self { v6, first, last: last.max(first) }
    }
}

impl fmt::Display for Span {
    /// `198.51.100.19-198.51.100.22`, or the one address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        address(self.v6, self.first).fmt(f)?;
        if self.first < self.last {
            write!(f, "-{}", address(self.v6, self.last))?;
        }
        Ok(())
    }
}

/// Whether an address is one of IPv6, and its number.
pub(super) fn number(address: IpAddr) -> (bool, u128) {
    match address {
        IpAddr::V4(v4) => (false, v4.to_bits().into()),
        IpAddr::V6(v6) => (true, v6.to_bits()),
    }
}

/// The address with this number.
pub(super) fn address(v6: bool, number: u128) -> IpAddr {
    match u32::try_from(number) {
        Ok(number) if !v6 => IpAddr::V4(Ipv4Addr::from_bits(number)),
        _ => IpAddr::V6(Ipv6Addr::from_bits(number)),
    }
}

/// `IPv4` or `IPv6`.
pub(super) fn family(v6: bool) -> &'static str {
    if v6 { "IPv6" } else { "IPv4" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(text: &str) -> Span {
        Span::network(text.parse().unwrap())
    }

    #[test]
    fn what_is_left_of_a_span_has_no_hole_in_it() {
        let holes = [span("192.0.2.0/32"), span("192.0.2.2/31"), span("192.0.2.7/32")];
        let left = span("192.0.2.0/29").without(&holes);
        let shown: Vec<String> = left.iter().map(Span::to_string).collect();
        assert_eq!(shown, ["192.0.2.1", "192.0.2.4-192.0.2.6"]);
        assert_eq!(span("192.0.2.4/30").without(&[span("192.0.2.0/24")]), []);
        assert_eq!(span("192.0.2.4/30").without(&[span("::/0")]), [span("192.0.2.4/30")]);
    }

    #[test]
    fn ends_of_both_families_are_addresses_too() {
        let all = span("0.0.0.0/0");
        assert_eq!(all.without(&[span("255.255.255.255/32")])[0].count(), u64::from(u32::MAX));
        assert_eq!(span("::/0").count(), u64::MAX);
        assert_eq!(span("2001:db8::/64").count(), u64::MAX);
        assert_eq!(span("::/0").without(&[span("ffff::/16")])[0].last >> 112, 0xfffe);
    }
}
