//! The engine against a real strongSwan: IKE alone, over UDP between two namespaces. What goes
//! through tunnels is tested with the whole gateway.

#![allow(clippy::unwrap_used, clippy::panic)] // reason: a test fails by panicking

mod authentication;
mod handshakes;
mod later;
mod peer;

/// The preshared key.
const KEY: &str = "a preshared key of some length";
