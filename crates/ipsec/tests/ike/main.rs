//! Two engines under a virtual clock.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod certificates;
mod forger;
mod handshake;
mod hostile;
mod lifecycle;
mod pair;
mod unproven;
