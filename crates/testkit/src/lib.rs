//! Peers and launchers for tests of the whole `gateway` binary.
//!
//! **What it is:** everything around the gateway in a test: a [`Gateway`] process with its
//! configuration and manifests in a folder of its own, [`Backend`]s that record each byte and
//! answer by script, a [`Client`] that sends exactly the bytes it is told to (over TCP or TLS), a
//! [`Authority`] that issues certificates, [`manifest`] builders, and a [`Lab`] of network namespaces
//! for what needs a network of its own.
//!
//! **What it is not:** a second HTTP implementation to build upon. Its parsing is naive on
//! purpose, and shares no code with what it tests. It panics where something is not as the test
//! needs it, so it is a dev-dependency only.
//!
//! Every listener of a test has a loopback address of its own out of 127.0.0.0/8, made from the
//! process id, so that tests run side by side without looking for free ports.

// The whole crate is for tests: a broken assumption has to fail them, by a panic that says why.
#![allow(clippy::unwrap_used, clippy::panic)]

mod backend;
mod client;
pub mod cluster_lab;
mod gateway;
pub mod lab;
pub mod manifest;
mod message;
mod net;
mod program;
mod retype;
mod strongswan;
mod tls;
pub mod vpn_lab;

pub use backend::{Backend, Connection, Request};
pub use client::{Client, End, get};
pub use cluster_lab::ClusterLab;
pub use gateway::{FifoReader, Gateway, GatewayBuilder};
pub use lab::{Lab, Namespace};
pub use message::{Head, Incomplete, Response};
pub use net::{DEADLINE, Socket, eventually, sockets, unique_address};
pub use program::{Program, sibling};
pub use strongswan::{StrongSwan, SwanBuilder, SwanConnection};
pub use tls::{Authority, Pair, TlsSettings};
pub use vpn_lab::VpnLab;

#[cfg(test)]
mod tests;
