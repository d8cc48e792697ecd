//! Tidegate's edge gateway: composition and I/O shells around the pure crates.
//!
//! **What it is:** sources of objects, the engines' threads, the admin side and the commands.
//!
//! **What it is not:** rules about objects (`ingest`, `plan`) or protocol grammar (`http1`).

pub mod access_log;
pub mod admin;
pub mod app;
pub mod commands;
pub mod config;
pub mod demo;
pub mod dns;
pub mod edges;
pub mod in_cluster;
pub mod l4;
pub mod l7;
pub mod machines;
pub mod metrics;
pub mod overlay;
pub mod reconcile;
pub mod signals;
pub mod source;
pub mod status;
pub mod stream;
pub mod vpn;
