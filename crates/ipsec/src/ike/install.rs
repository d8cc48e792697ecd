//! Child SAs of an IKE SA: how they come and go, and when they are due.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::suite::{Esn, Proposal};

use super::config::Child;
use super::engine::Engine;
use super::event::{DownReason, Event, Rekey};
use super::sa::{IkeSa, Task};
use crate::sa::{ChildSa, ChildSaId, ConnectionName, EspKeys, EspSuite, Spi};
use crate::selector::TrafficSelector;

/// A child SA, as its IKE SA knows it.
pub(super) struct ChildState {
    pub(super) sa: Arc<ChildSa>,
    /// What of the configuration it is.
    pub(super) config: Child,
    /// What was agreed on, one of each kind.
    pub(super) suite: Proposal,
    pub(super) since: Instant,
    pub(super) rekey_at: Option<Instant>,
    /// It is gone by then, rekeyed or not.
    pub(super) expires: Instant,
    pub(super) sending: bool,
}

/// What a new child SA is made of.
pub(super) struct NewChild {
    pub(super) config: Child,
    pub(super) suite: Proposal,
    pub(super) inbound_spi: Spi,
    pub(super) outbound_spi: Spi,
    /// Keys of what the initiator *of the exchange* sends, and the responder.
    pub(super) keys: (EspKeys, EspKeys),
    /// Whether this end began the exchange.
    pub(super) began: bool,
    pub(super) local: Vec<TrafficSelector>,
    pub(super) remote: Vec<TrafficSelector>,
    /// Whether packets are sent on it at once.
    pub(super) send: bool,
    pub(super) replaces: Option<ChildSaId>,
}

/// What comes on a removed SA is still taken for so long.
pub(super) const LINGER: Duration = Duration::from_secs(5);

impl ChildState {
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        Some(self.rekey_at.map_or(self.expires, |at| at.min(self.expires)))
    }
}

/// Makes a child SA and tells the data path.
pub(super) fn install(
    engine: &mut Engine,
    now: Instant,
    sa: &mut IkeSa,
    new: NewChild,
) -> Option<ChildSaId> {
    let config = sa.config.as_ref()?;
    let id = engine.new_child_id();
    let (inbound, outbound) =
        if new.began { (new.keys.1, new.keys.0) } else { (new.keys.0, new.keys.1) };
    let suite = EspSuite {
        encryption: *new.suite.encryption.first()?,
        integrity: new.suite.integrity.first().copied(),
        esn: new.suite.esn.first() == Some(&Esn::Yes),
    };
    let child = Arc::new(ChildSa {
        id,
        connection: config.name.clone(),
        child: new.config.name.clone(),
        suite,
        inbound_spi: new.inbound_spi,
        outbound_spi: new.outbound_spi,
        inbound,
        outbound,
        local: new.local,
        remote: new.remote,
        path: sa.path,
        udp: sa.udp,
        replay_window: config.replay_window,
    });
    let lifetime = new.config.lifetime;
    engine.by_child.insert(id, sa.id);
    engine.tell(Event::ChildInstall {
        sa: Arc::clone(&child),
        send: new.send,
        replaces: new.replaces,
    });
    // A tenth before its end, and up to a tenth earlier by chance, so that many don't coincide.
    let rekey_at = now + lifetime.mul_f64(engine.random_between(0.8, 0.9));
    sa.children.push(ChildState {
        sa: child,
        config: new.config,
        suite: new.suite,
        since: now,
        rekey_at: Some(rekey_at),
        expires: now + lifetime,
        sending: new.send,
    });
    Some(id)
}

/// Takes a child SA away. `linger` for what is still under way.
pub(super) fn remove(
    engine: &mut Engine,
    sa: &mut IkeSa,
    id: ChildSaId,
    linger: Duration,
    reason: DownReason,
) {
    let Some(at) = sa.children.iter().position(|child| child.sa.id == id) else { return };
    let child = sa.children.swap_remove(at);
    engine.by_child.remove(&id);
    engine.free_esp_spi(child.sa.inbound_spi);
    engine.tell(Event::ChildRemove { sa: id, linger, reason });
}

/// Takes all child SAs away.
pub(super) fn remove_all(
    engine: &mut Engine,
    sa: &mut IkeSa,
    linger: Duration,
    reason: &DownReason,
) {
    let ids: Vec<_> = sa.children.iter().map(|child| child.sa.id).collect();
    for id in ids {
        remove(engine, sa, id, linger, reason.clone());
    }
}

/// The IKE SA's `rekey_at` has come.
pub(super) fn ike_is_old(engine: &mut Engine, now: Instant, sa: &mut IkeSa) {
    // child: rekeying, or reauthentication.
    let _ = (engine, now, sa);
}

/// Looks which child SAs are to be rekeyed or have expired.
pub(super) fn children_due(engine: &mut Engine, now: Instant, sa: &mut IkeSa) {
    // child: rekeying where `rekey_at` has come; set it to None then.
    let expired: Vec<_> = sa
        .children
        .iter()
        .filter(|child| child.expires <= now)
        .map(|child| (child.sa.id, child.config.name.clone()))
        .collect();
    for (id, name) in expired {
        remove(engine, sa, id, Duration::ZERO, DownReason::Expired);
        sa.enqueue(Task::CreateChild(name));
    }
    for child in &mut sa.children {
        if child.rekey_at.is_some_and(|at| at <= now) {
            child.rekey_at = None;
        }
    }
}

/// Authentic ESP has come on a child SA.
pub(super) fn alive(engine: &mut Engine, now: Instant, sa: &mut IkeSa, id: ChildSaId) {
    // child: a sign that the other end sends on a rekeyed one.
    let _ = (engine, now, sa, id);
}

/// A child SA is nearly used up.
pub(super) fn worn(engine: &mut Engine, now: Instant, sa: &mut IkeSa, id: ChildSaId) {
    // child: rekeying.
    let _ = (engine, now, sa, id);
}

/// People want something rekeyed.
pub(super) fn rekey(engine: &mut Engine, now: Instant, name: &ConnectionName, what: &Rekey) {
    // child: tasks for it.
    let _ = (engine, now, name, what);
}
