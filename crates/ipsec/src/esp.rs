//! ESP in tunnel mode (RFC 4303): sealing and opening, sequence numbers, replay window.
//!
//! AES-GCM (RFC 4106), ChaCha20-Poly1305 (RFC 7634), AES-CBC (RFC 3602) and 3DES-CBC (RFC 2451)
//! with HMAC-SHA-2 (RFC 4868) or HMAC-SHA-1 (RFC 2404). What works on octets from the network
//! never panics.
//!
//! **IVs.** An AEAD's IV is the packet's 64-bit sequence number, which is counted up for every
//! packet and given out once ([`Outbound::reserve`]). Keys live in one [`Outbound`] alone and are
//! never written down: a restart or another edge that takes over makes new keys by IKE, so no IV
//! comes twice for a key. An IV of CBC is that number encrypted under an AES key of its own, made
//! from the [`Rng`](crate::crypto::rng::Rng) and thrown away with the SA: it can't be predicted.

#![warn(clippy::indexing_slicing)]

mod error;
mod inbound;
mod outbound;
mod replay;
#[cfg(test)]
mod tests;
mod transform;

pub use error::{EspError, Exhausted};
pub use inbound::{Inbound, Opened};
pub use outbound::Outbound;
pub use replay::Replay;

/// Next header: an IPv4 packet is inside.
pub const IPV4: u8 = 4;
/// Next header: an IPv6 packet is inside.
pub const IPV6: u8 = 41;
/// Next header: nothing is inside, the packet only hides how much traffic there is (RFC 4303,
/// 2.6).
pub const DUMMY: u8 = 59;

/// SPI and sequence number.
const HEADER: usize = 8;
/// Pad length and next header.
const TRAILER: usize = 2;
