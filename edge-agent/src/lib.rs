//! The agent on the nodes: its node's end of the overlay.
//!
//! **What it is:** a shell. It reads its own Node, the EdgeGateways and the VpnConnections, makes
//! keys and tells their public halves, asks the edges whether they are there ([`probe`]), has
//! [`plan::overlay::node`] say what follows, and has `wireguard` put that in force ([`control`]).
//! What is in force stays when it stops, unless it is told otherwise.
//!
//! **What it is not:** rules. Which network goes by which edge is decided in `plan` and `overlay`.

pub mod admin;
pub mod agent;
pub mod commands;
pub mod config;
pub mod control;
pub mod host;
pub mod kept;
pub mod keys;
pub mod metrics;
pub mod numbers;
pub mod probe;
pub mod publish;
pub mod source;
pub mod state;
pub mod view;
