//! Networks as numbers.

use std::net::IpAddr;

use ipnet::IpNet;

/// A network as a number.
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
