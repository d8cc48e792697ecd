//! This edge among several: what it holds, and until when.
//!
//! **What it is:** the shell of [`holding`]'s engine: one task that reads and writes the Leases,
//! speaks with the other edges, and tells the planes what this edge holds ([`start`]).
//!
//! **What it is not:** decisions who holds what (`holding`), or what follows from holding
//! something (the planes).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use holding::Claim;

mod leases;
pub mod mail;
mod metrics;
mod task;
mod wanted;

pub use metrics::metrics;
pub use task::{Acted, Counts, Handle, Options, Report, ReportEdge, start};
pub use wanted::{offers, wanted};

/// What this edge holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// All of it.
    pub claims: BTreeSet<Claim>,
    /// Until when at most, unless there is newer word. Who acts on it gives everything up by
    /// itself then. None: for ever, as without a cluster.
    pub until: Option<Instant>,
    /// The edge's own incarnation.
    pub incarnation: u64,
    /// How often each claim's holder has changed.
    pub epochs: BTreeMap<Claim, u32>,
    /// Those that nobody is known to have let go of: the network is better asked about them.
    pub unsure: BTreeSet<Claim>,
    /// Counts up when the claims change.
    pub revision: u64,
}

impl Holdings {
    /// Whether this is held at a time.
    pub fn has(&self, claim: &Claim, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until) && self.claims.contains(claim)
    }
}
