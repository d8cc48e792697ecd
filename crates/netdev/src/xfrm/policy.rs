//! Policies: which packets need which SA.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::ESP;
use super::layout::{address_at, family, family_at, push_address, push_lifetime};
use super::sa::XFRMA_IF_ID;
use crate::netlink::message::{Message, be16, push_attribute, u32_at};
use crate::rule::AF_INET;

const NEW: u16 = 0x13;
pub(super) const DELETE: u16 = 0x14;
pub(super) const GET: u16 = 0x15;
pub(super) const UPDATE: u16 = 0x19;
pub(super) const XFRMA_TMPL: u16 = 5;

const MODE_TUNNEL: u8 = 1;
/// `struct xfrm_userpolicy_info`.
pub(super) const INFO: usize = 168;
const AT_DIRECTION: usize = 160;
/// Where `struct xfrm_user_tmpl` has the reqid.
pub(super) const AT_REQID: usize = 44;

/// Which way packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// They come, for whomever: the interface looks at them.
    In,
    /// They are sent or forwarded into the interface.
    Out,
    /// They have come and are forwarded.
    Forward,
}

impl Direction {
    fn number(self) -> u8 {
        match self {
            Self::In => 0,
            Self::Out => 1,
            Self::Forward => 2,
        }
    }

    fn new(number: u8) -> Option<Self> {
        [Self::In, Self::Out, Self::Forward].into_iter().find(|one| one.number() == number)
    }
}

/// Ports whose bits under the mask are these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports {
    /// The bits.
    pub bits: u16,
    /// Which of them count. Zero: all ports.
    pub mask: u16,
}

impl Ports {
    /// Those that make up a range together.
    pub fn range(first: u16, last: u16) -> Vec<Self> {
        let (mut next, end) = (u32::from(first), u32::from(last) + 1);
        let mut all = Vec::new();
        while next < end {
            // The largest block that begins here and ends in time.
            let aligned = if next == 0 { 16 } else { next.trailing_zeros().min(16) };
            let fits = (end - next).ilog2();
            let size = 1_u32 << aligned.min(fits);
            all.push(Self { bits: next as u16, mask: !((size - 1) as u16) });
            next += size;
        }
        all
    }
}

/// For which packets a policy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    /// Where they come from.
    pub source: IpNet,
    /// Where they go, of the same family.
    pub destination: IpNet,
    /// 0 for all.
    pub protocol: u8,
    /// From which ports.
    pub source_ports: Ports,
    /// To which ports.
    pub destination_ports: Ports,
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.source, self.destination)?;
        match self.protocol {
            0 => Ok(()),
            protocol => write!(f, ", protocol {protocol}"),
        }
    }
}

impl Selector {
    /// `struct xfrm_selector` (56 octets).
    fn push(&self, bytes: &mut Vec<u8>) {
        let end = bytes.len() + 56;
        push_address(bytes, self.destination.network());
        push_address(bytes, self.source.network());
        for ports in [self.destination_ports, self.source_ports] {
            bytes.extend_from_slice(&ports.bits.to_be_bytes());
            bytes.extend_from_slice(&ports.mask.to_be_bytes());
        }
        let family = u16::from(family(self.destination.addr()));
        bytes.extend_from_slice(&family.to_ne_bytes());
        let lengths = [self.destination.prefix_len(), self.source.prefix_len()];
        bytes.extend_from_slice(&lengths);
        bytes.push(self.protocol);
        bytes.resize(end, 0);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let family = match family_at(bytes, 40)? {
            0 => AF_INET,
            family => family,
        };
        let network =
            |at, length| IpNet::new(address_at(bytes, at, family)?, *bytes.get(length)?).ok();
        let ports = |at: usize| {
            Some(Ports { bits: be16(bytes.get(at..)?)?, mask: be16(bytes.get(at + 2..)?)? })
        };
        Some(Self {
            destination: network(0, 42)?,
            source: network(16, 43)?,
            protocol: *bytes.get(44)?,
            destination_ports: ports(32)?,
            source_ports: ports(36)?,
        })
    }
}

/// Which SA packets need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template {
    /// From where ESP comes; unspecified for any, of the right family.
    pub source: IpAddr,
    /// Where it goes; unspecified for any, where packets come.
    pub destination: IpAddr,
    /// The SA's SPI; 0 for any.
    pub spi: u32,
    /// The SA's number.
    pub reqid: u32,
}

/// What becomes of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// They pass by an SA, and never without.
    Protect(Template),
    /// They are dropped.
    Block,
}

/// A policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Which way.
    pub direction: Direction,
    /// Which packets.
    pub selector: Selector,
    /// The lowest of those that fit counts.
    pub priority: u32,
    /// What becomes of them.
    pub action: Action,
    /// Of which interface.
    pub if_id: u32,
}

impl Policy {
    /// `struct xfrm_userpolicy_info` and attributes.
    pub(super) fn payload(&self) -> Vec<u8> {
        let mut payload = Vec::new();
        self.selector.push(&mut payload);
        push_lifetime(&mut payload, None, None);
        // What it has carried.
        payload.resize(152, 0);
        payload.extend_from_slice(&self.priority.to_ne_bytes());
        // The kernel gives it a number.
        payload.extend_from_slice(&[0; 4]);
        let blocks = self.action == Action::Block;
        payload.extend_from_slice(&[self.direction.number(), u8::from(blocks)]);
        payload.resize(INFO, 0);
        if let Action::Protect(template) = &self.action {
            push_attribute(&mut payload, XFRMA_TMPL, &template.bytes());
        }
        push_attribute(&mut payload, XFRMA_IF_ID, &self.if_id.to_ne_bytes());
        payload
    }
}

impl Template {
    /// `struct xfrm_user_tmpl`.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64);
        push_address(&mut bytes, self.destination);
        bytes.extend_from_slice(&self.spi.to_be_bytes());
        bytes.extend_from_slice(&[ESP, 0, 0, 0]);
        bytes.extend_from_slice(&u16::from(family(self.destination)).to_ne_bytes());
        bytes.extend_from_slice(&[0; 2]);
        push_address(&mut bytes, self.source);
        bytes.extend_from_slice(&self.reqid.to_ne_bytes());
        // Shared with anybody, and not optional.
        bytes.extend_from_slice(&[MODE_TUNNEL, 0, 0, 0]);
        // All algorithms.
        bytes.resize(64, 0xff);
        bytes
    }
}

/// `struct xfrm_userpolicy_id` and attributes.
pub(super) fn id(direction: Direction, selector: &Selector, if_id: u32) -> Vec<u8> {
    let mut payload = Vec::new();
    selector.push(&mut payload);
    payload.extend_from_slice(&[0, 0, 0, 0, direction.number(), 0, 0, 0]);
    push_attribute(&mut payload, XFRMA_IF_ID, &if_id.to_ne_bytes());
    payload
}

/// A policy that the kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Which way.
    pub direction: Direction,
    /// Which packets.
    pub selector: Selector,
    /// Of which interface.
    pub if_id: u32,
    /// It drops them.
    pub blocks: bool,
}

/// The policy of a message; none of a socket's.
pub(super) fn read(message: &Message<'_>) -> Option<Installed> {
    if message.kind != NEW {
        return None;
    }
    let [direction, action] = *message.payload.get(AT_DIRECTION..)?.first_chunk::<2>()?;
    let mut attributes = message.attributes(INFO);
    let if_id = attributes.find(|(kind, _)| *kind == XFRMA_IF_ID);
    Some(Installed {
        direction: Direction::new(direction)?,
        selector: Selector::read(message.payload)?,
        if_id: if_id.and_then(|(_, value)| u32_at(value, 0)).unwrap_or(0),
        blocks: action != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message::{Messages, push};

    #[test]
    fn what_is_written_is_what_is_read() {
        for networks in [["10.1.0.0/16", "10.2.0.0/24"], ["fd00:1::/48", "::/0"]] {
            let [source, destination] = networks.map(|network| network.parse().unwrap());
            let selector = Selector {
                source,
                destination,
                protocol: 6,
                source_ports: Ports::default(),
                destination_ports: Ports { bits: 443, mask: u16::MAX },
            };
            let unspecified: IpAddr = [0; 4].into();
            let template =
                Template { source: unspecified, destination: unspecified, spi: 0, reqid: 3 };
            let policy = Policy {
                direction: Direction::Forward,
                selector,
                priority: 5,
                action: Action::Protect(template),
                if_id: 9,
            };
            assert_eq!(template.bytes().len(), 64);
            let mut bytes = Vec::new();
            push(&mut bytes, NEW, 0, 1, &policy.payload());
            let message = Messages::new(&bytes).next().unwrap();
            let expected =
                Installed { direction: Direction::Forward, selector, if_id: 9, blocks: false };
            assert_eq!(read(&message), Some(expected));
        }
    }

    #[test]
    fn ranges_of_ports_are_made_of_blocks() {
        let all = Ports::range(0, u16::MAX);
        assert_eq!(all, [Ports::default()]);
        assert_eq!(Ports::range(80, 80), [Ports { bits: 80, mask: u16::MAX }]);
        for (first, last) in [(1, 6), (1000, 2000), (65_000, 65_535), (0, 65_534)] {
            let blocks = Ports::range(first, last);
            for port in 0..=u16::MAX {
                let within = blocks.iter().filter(|block| port & block.mask == block.bits).count();
                assert_eq!(within, usize::from((first..=last).contains(&port)), "{port}");
            }
        }
    }
}
