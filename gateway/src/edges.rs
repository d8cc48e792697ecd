//! This edge among several: what it holds, and until when.

use std::collections::BTreeSet;
use std::time::Instant;

use holding::Claim;

/// What this edge holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// All of it.
    pub claims: BTreeSet<Claim>,
    /// Until when at most, unless there is newer word. Who acts on it gives everything up by
    /// itself then. None: for ever, as without a cluster.
    pub until: Option<Instant>,
    /// The edge's own incarnation, and so the epoch that it stands for.
    pub incarnation: u64,
}

impl Holdings {
    /// Whether this is held at a time.
    pub fn has(&self, claim: &Claim, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until) && self.claims.contains(claim)
    }
}
