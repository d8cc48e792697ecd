//! The IKEv2 engine (RFC 7296): many connections, no I/O.

pub mod config;
pub mod event;
pub mod fragment;
pub mod identity;
pub mod message;
pub mod narrow;

mod auth;
mod child;
mod child_answer;
mod connection;
mod cookie;
mod create_child;
mod engine;
mod exchange;
mod first_child;
mod followup;
mod informational;
mod init;
mod install;
mod intermediate;
mod limits;
mod mobike;
mod nat;
mod reauth;
mod rekey;
mod rekey_ike;
mod sa;
mod transmit;
mod upkeep;

pub use engine::{Captured, Engine};
