//! The VPN plane of the whole binary with a real strongSwan at the other end: packets go from a
//! host behind the one to a host behind the other, and each end sees the addresses that it should.

#![allow(clippy::unwrap_used, clippy::panic)] // reason: a test fails by panicking

mod certificates;
mod loss;
mod mixed;
mod nat;
mod roles;
mod strangers;
