//! Two engines under a virtual clock.

mod certificates;
mod handshake;
mod hostile;
mod lifecycle;
mod pair;
