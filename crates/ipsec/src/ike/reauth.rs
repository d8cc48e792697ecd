//! Reauthentication without a gap: a new IKE SA with all child SAs first, then the old one goes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connection;
use super::engine::Engine;
use super::event::DownReason;
use super::init;
use super::sa::{IkeSa, Phase, Task};

/// Without success it is begun again after this.
const AGAIN: Duration = Duration::from_secs(60);

/// Begins it. False if this end doesn't know where to begin it.
pub(super) fn begin(engine: &mut Engine, now: Instant, sa: &mut IkeSa) -> bool {
    let Some(config) = sa.config.clone() else { return false };
    if !sa.is_established() || config.remote.is_empty() || engine.shutdown {
        return false;
    }
    sa.rekey_at = Some(now + AGAIN);
    let Some(state) = engine.connections.get(&config.name) else { return false };
    let under_way = state.ikes.iter().filter_map(|id| engine.sas.get(id)).find(|one| {
        let is_younger = one.is_established() && one.since > sa.since;
        is_younger || one.upkeep.replaces == Some(sa.id) && !matches!(one.phase, Phase::Ending(_))
    });
    if let Some(id) = under_way.map(|one| one.id) {
        engine.with_sa(now, id, |engine, one| go_on(engine, now, one));
        return true;
    }
    let known = state.ikes.clone();
    init::begin(engine, now, Arc::clone(&config), sa.path, None);
    let Some(state) = engine.connections.get(&config.name) else { return false };
    let begun = state.ikes.iter().copied().find(|id| !known.contains(id));
    let Some(begun) = begun.and_then(|id| engine.sas.get_mut(&id)) else { return false };
    begun.upkeep.replaces = Some(sa.id);
    true
}

/// An IKE SA is established, or has got a child SA: if it is there to take the place of another
/// one, it gets what that has, and then that one goes.
pub(super) fn go_on(engine: &mut Engine, now: Instant, sa: &mut IkeSa) {
    let Some(old) = sa.upkeep.replaces else { return };
    let Some(known) = engine.sas.get(&old) else {
        sa.upkeep.replaces = None;
        let in_use = sa.connection().and_then(|name| connection::in_use(engine, name));
        if in_use.is_some() && sa.since == Some(now) {
            // The other end has been faster, and what came of that is there.
            sa.end_politely(DownReason::Replaced);
        }
        return;
    };
    let missing: Vec<_> = known
        .children
        .iter()
        .map(|one| one.config.name.clone())
        .filter(|name| sa.children.iter().all(|one| one.config.name != *name))
        .collect();
    if !sa.is_established() {
        return;
    }
    if missing.is_empty() {
        sa.upkeep.replaces = None;
        engine.with_sa(now, old, |_, old| old.end_politely(DownReason::Replaced));
        return;
    }
    for name in missing {
        sa.enqueue(Task::CreateChild(name));
    }
}
