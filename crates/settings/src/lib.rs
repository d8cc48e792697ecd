//! Configuration files: how one is read, the values that stand in it as text, and what is said of
//! faults in it.
//!
//! **What it is:** what the gateway's and the agent's configuration have in common: [`document`]
//! turns a file into a type, [`values`] are times, networks, ports and the like, and a
//! [`ConfigError`] names file, line, key, value and remedy.
//!
//! **What it is not:** the configurations themselves, or what must hold between their parts.

pub mod document;
pub mod error;
pub mod values;

pub use error::ConfigError;
