//! The IKEv2 engine (RFC 7296): many connections, no I/O.

pub mod config;
pub mod event;
pub mod fragment;
pub mod identity;
pub mod message;
pub mod narrow;

mod auth;
mod connection;
mod cookie;
mod create_child;
mod engine;
mod exchange;
mod first_child;
mod informational;
mod init;
mod install;
mod intermediate;
mod limits;
mod nat;
mod sa;
mod transmit;

pub use engine::{Captured, Engine};
