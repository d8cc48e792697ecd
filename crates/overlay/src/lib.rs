//! What an overlay's two ends say to each other, without I/O.
//!
//! **What it is:** keys and the addresses that are made of them ([`key`]), WireGuard's peers with
//! the networks that each may use ([`peers`]), sealed messages between agents and edges and among
//! edges ([`probe`]), and which edge a node uses, as follows from them ([`choice`]).
//!
//! **What it is not:** interfaces and sockets (the `wireguard` crate), or what follows for routes
//! (`plan`). Time is a parameter except in WireGuard's own timers, which boringtun keeps.
//!
//! It rests on the WireGuard paper (<https://www.wireguard.com/papers/wireguard.pdf>) by way of
//! boringtun's noise module, X25519 (RFC 7748), HKDF (RFC 5869) and AES-256-GCM (RFC 5116).

#![warn(clippy::indexing_slicing)]

pub mod choice;
pub mod key;
pub mod peers;
pub mod probe;

pub use key::{PrivateKey, overlay_address};
