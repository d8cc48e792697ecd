//! The HTTP engine: thread per core, HTTP/1.1 by our own hand, TLS by rustls.
//!
//! Each worker is a thread with its own event loop, listeners (`SO_REUSEPORT`), buffer pool,
//! timers, idle upstream connections and counters. What workers share is one table, swapped as a
//! whole ([`table::Shared`]).

pub(crate) mod balance;
pub(crate) mod buffer;
mod connection;
mod context;
pub(crate) mod date;
mod gate;
mod names;
mod pump;
mod recycled;
pub(crate) mod relay;
mod request;
mod response;
mod settings;
pub mod table;
pub(crate) mod timer;
pub mod tls;
pub(crate) mod transport;
pub(crate) mod upstream;
pub mod worker;

pub use worker::listeners::Listeners;
pub use worker::{AlbListeners, Engine};
