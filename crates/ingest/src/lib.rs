//! From Kubernetes objects to the [`model::Snapshot`].
//!
//! **What it is:** two pure steps. [`manifest`] turns a file's bytes into objects; [`ingest`]
//! turns an [`ObjectSet`] into a snapshot and diagnostics.
//!
//! **What it is not:** a watcher or a client. Sources (a directory, the Kubernetes API) fill the
//! [`ObjectSet`].

pub mod annotations;
mod build;
pub mod calico;
pub mod classes;
pub mod crds;
#[cfg(test)]
mod fixture;
mod ingresses;
mod machines;
pub mod manifest;
mod names;
pub mod objects;
pub mod overlay;
mod pools;
mod report;
mod secrets;
mod services;
pub mod spelling;
mod vpn;
pub mod yaml;

pub use build::{Memo, ingest, ingest_with};
pub use ingresses::IngressMemo;
pub use objects::{Delivery, ObjectSet};
pub use secrets::TlsMemo;
