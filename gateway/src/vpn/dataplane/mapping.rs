//! How addresses change on the way into a tunnel and out of it (`localSubnetNAT`,
//! `remoteSubnetNAT`).

use std::net::IpAddr;

use ipnet::IpNet;
use model::snapshot::vpn::NatPair;
use plan::vpn::Policy;

/// The address changes of a child.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mapping {
    local: Pairs,
    remote: Pairs,
}

/// Pairs in the orders that they are searched in: longest prefixes first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Pairs {
    by_inside: Vec<(Prefix, Prefix)>,
    by_outside: Vec<(Prefix, Prefix)>,
}

/// A network as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    is_ipv4: bool,
    bits: u128,
    mask: u128,
}

impl Prefix {
    pub(super) fn new(network: IpNet) -> Self {
        let mask = bits(network.netmask());
        Self { is_ipv4: network.addr().is_ipv4(), bits: bits(network.network()), mask }
    }

    #[inline]
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.is_ipv4 && bits(address) & self.mask == self.bits
    }

    /// Its bits, and those that count.
    pub(super) fn key(&self) -> (u128, u128) {
        (self.bits, self.mask)
    }
}

/// An address as a number.
#[inline]
pub(super) fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl Pairs {
    fn new(pairs: &[NatPair]) -> Self {
        let all = pairs.iter().filter(|pair| {
            pair.inside.max_prefix_len() == pair.outside.max_prefix_len()
                && pair.inside.prefix_len() == pair.outside.prefix_len()
        });
        let mut by_inside: Vec<_> =
            all.map(|pair| (Prefix::new(pair.inside), Prefix::new(pair.outside))).collect();
        by_inside.sort_by_key(|(inside, _)| std::cmp::Reverse(inside.mask));
        let by_outside = by_inside.iter().map(|(inside, outside)| (*outside, *inside)).collect();
        Self { by_inside, by_outside }
    }
}

#[inline]
fn change(pairs: &[(Prefix, Prefix)], address: IpAddr) -> IpAddr {
    let Some((from, to)) = pairs.iter().find(|(from, _)| from.contains(address)) else {
        return address;
    };
    let changed = to.bits | (bits(address) & !from.mask);
    match address {
        // The mask of IPv4 is 32 bits, so that what it leaves out has to be cut off.
        IpAddr::V4(_) => IpAddr::V4((changed as u32).into()),
        IpAddr::V6(_) => IpAddr::V6(changed.into()),
    }
}

impl Mapping {
    pub(super) fn new(policy: &Policy) -> Self {
        Self { local: Pairs::new(&policy.local_nat), remote: Pairs::new(&policy.remote_nat) }
    }

    /// Whether no address changes.
    pub(super) fn is_none(&self) -> bool {
        self.local.by_inside.is_empty() && self.remote.by_inside.is_empty()
    }

    /// Source and destination in the tunnel, of a packet that goes out.
    #[inline]
    pub(super) fn outward(&self, source: IpAddr, destination: IpAddr) -> (IpAddr, IpAddr) {
        (change(&self.local.by_inside, source), change(&self.remote.by_inside, destination))
    }

    /// Source and destination on this side, of a packet that has come.
    #[inline]
    pub(super) fn inward(&self, source: IpAddr, destination: IpAddr) -> (IpAddr, IpAddr) {
        (change(&self.remote.by_outside, source), change(&self.local.by_outside, destination))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(inside: &str, outside: &str) -> NatPair {
        NatPair { inside: inside.parse().unwrap(), outside: outside.parse().unwrap() }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_longest_prefix_counts_both_ways() {
        let mapping = Mapping {
            local: Pairs::new(&[
                pair("10.0.0.0/16", "172.16.0.0/16"),
                pair("10.0.3.7/32", "192.0.2.9/32"),
            ]),
            remote: Pairs::new(&[pair("10.99.0.0/24", "10.0.0.0/24")]),
        };
        let outward = |source, destination| mapping.outward(ip(source), ip(destination));
        let inward = |source, destination| mapping.inward(ip(source), ip(destination));
        assert_eq!(outward("10.0.3.6", "10.99.0.5"), (ip("172.16.3.6"), ip("10.0.0.5")));
        assert_eq!(outward("10.0.3.7", "10.98.0.5"), (ip("192.0.2.9"), ip("10.98.0.5")));
        assert_eq!(inward("10.0.0.5", "172.16.3.6"), (ip("10.99.0.5"), ip("10.0.3.6")));
        assert_eq!(inward("10.0.0.5", "192.0.2.9"), (ip("10.99.0.5"), ip("10.0.3.7")));
        assert_eq!(outward("2001:db8::1", "::1"), (ip("2001:db8::1"), ip("::1")));
    }

    #[test]
    fn ipv6_keeps_the_host_part() {
        let mapping = Mapping {
            local: Pairs::new(&[pair("fd00:1::/48", "2001:db8:7::/48")]),
            remote: Pairs::default(),
        };
        let (source, _) = mapping.outward(ip("fd00:1::5:6"), ip("::1"));
        assert_eq!(source, ip("2001:db8:7::5:6"));
    }
}
