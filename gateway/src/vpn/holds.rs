//! Which connections are this edge's, where several share them.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use holding::Claim;
use model::ObjectKey;
use plan::vpn::{ConnectionPlan, VpnPlan};
use tokio::sync::watch;

use crate::edges::Holdings;

/// What this edge holds.
#[derive(Debug, Default)]
pub(super) struct Holds {
    /// None where there is no other edge.
    pub(super) holdings: Option<watch::Receiver<Arc<Holdings>>>,
    /// When the time was over of what was held.
    lapsed: bool,
}

/// By which claim a connection is held: its VIP's, or its own.
pub(crate) fn claim(key: &ObjectKey, plan: &ConnectionPlan) -> Claim {
    plan.vip.map_or_else(|| Claim::Vpn(key.clone()), Claim::Vip)
}

impl Holds {
    /// Whether something else is held than before.
    pub(super) fn look(&mut self, now: Instant) -> bool {
        let Some(holdings) = &mut self.holdings else { return false };
        let changed = holdings.has_changed().unwrap_or(false);
        let until = holdings.borrow_and_update().until;
        let lapsed = until.is_some_and(|until| until <= now);
        changed || std::mem::replace(&mut self.lapsed, lapsed) != lapsed
    }

    /// When it is over, unless there is newer word.
    pub(super) fn next(&self) -> Option<Instant> {
        self.holdings.as_ref()?.borrow().until.filter(|_| !self.lapsed)
    }

    /// The plan with the connections alone that are held.
    pub(super) fn own<'a>(&self, now: Instant, plan: &'a VpnPlan) -> Cow<'a, VpnPlan> {
        let Some(holdings) = &self.holdings else { return Cow::Borrowed(plan) };
        let holdings = Arc::clone(&holdings.borrow());
        let mut own = plan.clone();
        own.connections.retain(|key, plan| holdings.has(&claim(key, plan), now));
        Cow::Owned(own)
    }
}
