//! Two engines under a virtual clock.

mod handshake;
mod hostile;
mod lifecycle;
mod pair;
