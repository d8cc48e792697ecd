//! What is done to the IP packets inside a tunnel.
//!
//! Pure functions on octets: none of them panics, whatever the octets are.
//!
//! Outbound the order is: read from the TUN, [`mss`], [`nat`], [`segment`] (which makes the
//! checksums of offloaded packets anew, so that what came before may change headers freely), ESP.
//! Inbound: ESP, selectors, [`ecn`], [`nat`], [`mss`], [`coalesce`], write to the TUN.

#![warn(clippy::indexing_slicing)]

pub mod checksum;
pub mod coalesce;
pub mod header;
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
