//! IKEv2 and ESP without I/O.
//!
//! **What it is:** the IKEv2 engine ([`ike`], RFC 7296), the algorithms behind it ([`crypto`]),
//! ESP ([`esp`], RFC 4303), what is done to the packets inside ([`packet`]: selectors, NAT,
//! segmentation), and the types that both sides of the house share ([`sa`], [`selector`]).
//! Time and randomness are handed in.
//!
//! **What it is not:** sockets, timers, interfaces or configuration files: those are the
//! gateway's `vpn`.

pub mod crypto;
pub mod esp;
pub mod ike;
pub mod sa;
pub mod selector;

pub use packet;
