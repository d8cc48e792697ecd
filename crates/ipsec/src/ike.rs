//! The IKEv2 engine (RFC 7296): many connections, no I/O.

pub mod config;
pub mod event;
pub mod fragment;
pub mod identity;
pub mod message;
pub mod narrow;
pub mod window;
