//! The Kubernetes API as Tidegate uses it.
//!
//! **What it is:** a thin shell around kube's client: [`connect()`] makes one, [`mod@watch`] keeps an
//! [`ingest::ObjectSet`] that follows the cluster, [`access`] asks what may be done,
//! [`mod@write`] writes back.
//!
//! **What it is not:** rules. What objects mean is ingest's business, and who writes what is
//! decided by the programs.
//!
//! Reference: <https://kubernetes.io/docs/reference/using-api/api-concepts/>.

pub mod access;
pub mod connect;
pub mod kind;
pub mod watch;
pub mod write;

pub use connect::{Cluster, ConnectError, Options, connect};
pub use kind::Kind;
