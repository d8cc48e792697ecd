//! Tidegate's own view of the cluster.
//!
//! **What it is:** the names, settings, diagnostics and the [`Snapshot`] that every planner reads.
//! Everything here is plain data with a deterministic order: the same input gives the same bytes.
//!
//! **What it is not:** Kubernetes' types (those stay in `ingest`), rules about what follows from
//! the data (those are in `plan`), or anything with I/O, clocks or randomness.

pub mod diagnostic;
pub mod key;
pub mod names;
pub mod net;
pub mod settings;
pub mod shared;
pub mod snapshot;
pub mod suite;

pub use diagnostic::{Diagnostic, Location, Severity};
pub use key::PublicKey;
pub use names::{ObjectKey, ObjectRef};
pub use net::{PortRange, Protocol, Visibility};
pub use settings::{
    AlbKind, AlbSettings, HostAddress, L4Settings, OverlaySettings, Settings, VpnSettings,
};
pub use shared::{Shared, SharedMap};
pub use snapshot::Snapshot;
