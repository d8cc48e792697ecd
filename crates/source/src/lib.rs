//! Objects out of a directory of manifests.
//!
//! **What it is:** [`directory`], watched or read once, and [`store`], which keeps what was last
//! good of each file. Both give [`Delivery`]s; the latest one stands in a
//! [`tokio::sync::watch`] channel: who is late sees the newest state and none of those between.
//!
//! **What it is not:** decisions, or what reads objects out of the Kubernetes API (`cluster`).

pub use ingest::Delivery;

pub mod directory;
pub mod store;
