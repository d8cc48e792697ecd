//! Traffic selectors (RFC 7296, 3.13.1): which packets an SA is for.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// One selector: addresses of one family, a protocol, ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrafficSelector {
    /// IP protocol, 0 for all.
    pub protocol: u8,
    /// The lowest port, or ICMP type and code as `type << 8 | code`. `0..=65535` for all;
    /// `65535, 0` is OPAQUE.
    pub first_port: u16,
    /// The highest.
    pub last_port: u16,
    /// The lowest address.
    pub first: IpAddr,
    /// The highest, of the same family.
    pub last: IpAddr,
}

impl TrafficSelector {
    /// All packets of a network.
    pub fn network(network: IpNet) -> Self {
        Self {
            protocol: 0,
            first_port: 0,
            last_port: u16::MAX,
            first: network.network(),
            last: network.broadcast(),
        }
    }

    /// Whether an address is in it.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.first.is_ipv4() == address.is_ipv4() && (self.first..=self.last).contains(&address)
    }

    /// Whether a packet's address, protocol and port (of this selector's side; none if the packet
    /// has no ports or is a later fragment) are in it.
    pub fn matches(&self, address: IpAddr, protocol: u8, port: Option<u16>) -> bool {
        self.has_address(address)
            && (self.protocol == 0 || self.protocol == protocol)
            && match port {
                _ if (self.first_port, self.last_port) == (0, u16::MAX) => true,
                Some(port) => (self.first_port..=self.last_port).contains(&port),
                None => (self.first_port, self.last_port) == (u16::MAX, 0),
            }
    }

    /// What is in both; none if nothing is.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        if self.first.is_ipv4() != other.first.is_ipv4() {
            return None;
        }
        let protocol = match (self.protocol, other.protocol) {
            (0, protocol) | (protocol, 0) => protocol,
            (one, another) if one == another => one,
            _ => return None,
        };
        let common = Self {
            protocol,
            first_port: self.first_port.max(other.first_port),
            last_port: self.last_port.min(other.last_port),
            first: self.first.max(other.first),
            last: self.last.min(other.last),
        };
        let opaque = (self.first_port, self.last_port) == (u16::MAX, 0)
            && (other.first_port, other.last_port) == (u16::MAX, 0);
        let is_empty =
            common.first > common.last || (common.first_port > common.last_port && !opaque);
        (!is_empty).then_some(common)
    }

    /// Whether all of another one is in it.
    pub fn contains(&self, other: &Self) -> bool {
        self.intersection(other) == Some(*other)
    }
}

impl fmt::Display for TrafficSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let networks = match (self.first, self.last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                let mut subnets = ipnet::Ipv4Subnets::new(first, last, 0);
                subnets.next().filter(|_| subnets.next().is_none()).map(IpNet::V4)
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                let mut subnets = ipnet::Ipv6Subnets::new(first, last, 0);
                subnets.next().filter(|_| subnets.next().is_none()).map(IpNet::V6)
            }
            _ => None,
        };
        match networks {
            Some(network) => write!(f, "{network}")?,
            None => write!(f, "{}-{}", self.first, self.last)?,
        }
        match (self.protocol, self.first_port, self.last_port) {
            (0, 0, u16::MAX) => Ok(()),
            (protocol, 0, u16::MAX) => write!(f, "[{protocol}]"),
            (protocol, u16::MAX, 0) => write!(f, "[{protocol}/opaque]"),
            (protocol, first, last) if first == last => write!(f, "[{protocol}/{first}]"),
            (protocol, first, last) => write!(f, "[{protocol}/{first}-{last}]"),
        }
    }
}
