//! When child SAs are rekeyed, and which of two new ones stays (RFC 7296, 2.8, 2.8.1).
//!
//! Nothing is lost to it: the responder takes what comes on the new SA before it answers; the
//! initiator sends on it as soon as the answer is there, and deletes the old one; the responder
//! sends on it when something comes on it, or the old one is deleted. What comes on the old one is
//! taken a while longer.

use std::time::{Duration, Instant};

use super::child;
use super::child_answer::note_collision;
use super::engine::Engine;
use super::event::DownReason;
use super::followup::Work;
use super::install::{self, LINGER};
use super::sa::{IkeSa, Ongoing, Task};
use crate::sa::ChildSaId;

/// The other end's exchange for the same purpose as one of this end.
pub(super) struct Collision {
    /// The child SA that came of it.
    pub(super) sa: ChildSaId,
    /// Of the exchange's initiator and responder.
    pub(super) nonces: (Vec<u8>, Vec<u8>),
}

/// How long the other end may take to delete its own child SA that gives way.
const PATIENCE: Duration = Duration::from_secs(180);

/// Whether the exchange with these nonces is the one that gives way: it has the lowest of four.
pub(super) fn loses(ours: &(Vec<u8>, Vec<u8>), theirs: &(Vec<u8>, Vec<u8>)) -> bool {
    ours.0.as_slice().min(&ours.1) < theirs.0.as_slice().min(&theirs.1)
}

/// This end's exchange has made a child SA: one of those that there are now has to go.
pub(super) fn settle(
    now: Instant,
    sa: &mut IkeSa,
    old: Option<ChildSaId>,
    new: ChildSaId,
    loses: bool,
    collision: Option<Collision>,
) {
    let other = collision.map(|collision| collision.sa);
    if loses {
        // The other end deletes the old one, however long it takes for its answer to come.
        if let Some(child) = sa.child_mut(new) {
            child.replaced_by = other;
            child.rekey_at = None;
        }
        if let Some(old) = old {
            replace(sa, old, other);
        }
        sa.enqueue_first(Task::DeleteChild(new));
        return;
    }
    if let Some(other) = other {
        replace(sa, other, Some(new));
        sa.enqueue_later(now + PATIENCE, Task::DeleteChild(other));
    }
    if let Some(old) = old {
        replace(sa, old, Some(new));
        sa.enqueue_first(Task::DeleteChild(old));
    }
}

fn replace(sa: &mut IkeSa, old: ChildSaId, by: Option<ChildSaId>) {
    if let Some(child) = sa.child_mut(old) {
        child.replaced_by = by.or(child.replaced_by);
        child.rekey_at = None;
    }
}

/// The other end's exchange has made a child SA.
pub(super) fn follow(
    sa: &mut IkeSa,
    old: Option<ChildSaId>,
    new: ChildSaId,
    nonces: (Vec<u8>, Vec<u8>),
) {
    let Some(name) = sa.child(new).map(|child| child.config.name.clone()) else { return };
    let is_same = |other: Option<ChildSaId>, config: &super::config::Child| {
        other == old && (old.is_some() || config.name == name)
    };
    if !note_collision(sa, is_same, Collision { sa: new, nonces })
        && let Some(old) = old
    {
        replace(sa, old, Some(new));
    }
}

/// The other end refuses to rekey since it was first: its new child SA stays.
pub(super) fn give_way(sa: &mut IkeSa, old: Option<ChildSaId>, collision: &Collision) {
    if let Some(old) = old {
        replace(sa, old, Some(collision.sa));
    }
}

/// The child SA that takes the place of one as far as is known: also that of a rekeying by the
/// other end while one of this end is still under way.
pub(super) fn heir(sa: &IkeSa, id: ChildSaId) -> Option<ChildSaId> {
    let child = sa.child(id)?;
    let known = match sa.pending.as_ref().map(|pending| &pending.ongoing) {
        Some(Ongoing::CreateChild(waiting)) if waiting.old == Some(id) => {
            waiting.collision.as_ref()
        }
        Some(Ongoing::FollowupKe(waiting)) => match &waiting.work {
            Work::Child(agreed) if agreed.old == Some(id) => agreed.collision.as_ref(),
            _ => None,
        },
        _ => None,
    };
    child
        .replaced_by
        .or(known.map(|collision| collision.sa))
        .filter(|heir| sa.child(*heir).is_some_and(|heir| heir.leaving.is_none()))
}

/// ESP has come on a child SA: the other end sends on it, and takes what is sent on it.
pub(super) fn alive(engine: &mut Engine, now: Instant, sa: &mut IkeSa, id: ChildSaId) {
    sa.last_heard = now;
    if let Some(child) = sa.child_mut(id) {
        child.unconfirmed = None;
    }
    if sa.child(id).is_some_and(|child| !child.sending && !child.is_leaving()) {
        install::send_on(engine, sa, id);
    }
}

/// A child SA has nearly used up its octets or sequence numbers.
pub(super) fn worn(sa: &mut IkeSa, id: ChildSaId) {
    if sa.child(id).is_some_and(|child| !child.is_leaving()) {
        sa.enqueue(Task::RekeyChild(id));
    }
}

/// A command wants child SAs rekeyed: all, or those of one name.
pub(super) fn rekey_children(sa: &mut IkeSa, name: Option<&str>) {
    let ids: Vec<_> = sa
        .children
        .iter()
        .filter(|one| !one.is_leaving() && name.is_none_or(|name| *one.config.name == *name))
        .map(|one| one.sa.id)
        .collect();
    for id in ids {
        sa.enqueue(Task::RekeyChild(id));
    }
}

/// Looks which child SAs are to be rekeyed or have expired.
pub(super) fn children_due(engine: &mut Engine, now: Instant, sa: &mut IkeSa) {
    let due: Vec<_> = sa
        .children
        .iter()
        .filter(|one| one.next_deadline().is_some_and(|at| at <= now))
        .map(|one| (one.sa.id, one.expires <= now))
        .collect();
    for (id, is_over) in due {
        if is_over {
            expire(engine, now, sa, id);
        } else if let Some(child) = sa.child_mut(id) {
            child.rekey_at = None;
            sa.enqueue(Task::RekeyChild(id));
        }
    }
}

/// Keys are used no longer than agreed on, whatever the other end says.
fn expire(engine: &mut Engine, now: Instant, sa: &mut IkeSa, id: ChildSaId) {
    let Some(child) = sa.child(id) else { return };
    let (config, spi) = (child.config.clone(), child.sa.inbound_spi);
    let is_leaving = child.is_leaving();
    let has_successor = install::has_successor(engine, sa, id);
    if has_successor {
        install::remove(engine, sa, id, LINGER, DownReason::Replaced);
    } else {
        install::remove(engine, sa, id, Duration::ZERO, DownReason::Expired);
    }
    if !is_leaving {
        sa.enqueue(Task::DeleteSpi(spi));
    }
    if !has_successor {
        sa.enqueue(Task::CreateChild(config.name.clone()));
        child::not_made(engine, now, sa, &config, None, Some(Duration::from_secs(5)));
    }
}
