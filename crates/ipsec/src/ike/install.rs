//! Child SAs of an IKE SA: how they come and go, and when they are due.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::suite::{Esn, Proposal};

use super::config::Child;
use super::engine::Engine;
use super::event::{DownReason, Event, Rekey};
use super::reauth;
use super::rekey;
use super::rekey_ike;
use super::sa::IkeSa;
use crate::sa::{ChildName, ChildSa, ChildSaId, ConnectionName, EspKeys, EspSuite, Spi};
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
    /// The one that takes its place.
    pub(super) replaced_by: Option<ChildSaId>,
    /// The answer to this request of the other end made it: the other end has it for sure when it
    /// asks for something else, or sends on it.
    pub(super) unconfirmed: Option<u32>,
    /// This end has sent its DELETE; what will be told then.
    pub(super) leaving: Option<DownReason>,
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
    /// Whether another one is in its place, or it is being deleted.
    pub(super) fn is_leaving(&self) -> bool {
        self.replaced_by.is_some() || self.leaving.is_some()
    }

    /// Whether the other end perhaps doesn't have it yet.
    pub(super) fn is_unconfirmed(&self, now: Instant, receive_id: u32) -> bool {
        self.unconfirmed == Some(receive_id) && now < self.since + CONFIRMED
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        Some(self.rekey_at.map_or(self.expires, |at| at.min(self.expires)))
    }
}

/// After so long the other end has got the answer that made a child SA.
const CONFIRMED: Duration = Duration::from_secs(60);

/// How long an SA lives whose lifetime is zero: no limit.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

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
    if new.replaces.is_some()
        && let Some(state) = engine.connections.get_mut(&config.name)
    {
        state.rekeys.1 += 1;
    }
    engine.by_child.insert(id, sa.id);
    engine.tell(Event::ChildInstall {
        sa: Arc::clone(&child),
        send: new.send,
        replaces: new.replaces,
    });
    let rekey_at = rekey_time(engine, now, lifetime, new.began);
    if new.send {
        stop_others(engine, sa, id, &new.config.name);
    }
    sa.children.push(ChildState {
        sa: child,
        config: new.config,
        suite: new.suite,
        since: now,
        rekey_at,
        expires: if lifetime.is_zero() { now + FOREVER } else { now + lifetime },
        sending: new.send,
        replaced_by: None,
        unconfirmed: (!new.began).then_some(sa.receive_id),
        leaving: None,
    });
    reauth::go_on(engine, now, sa);
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
    let reason = if has_successor(engine, sa, id) { DownReason::Replaced } else { reason };
    hand_over(engine, sa, id);
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

/// When in its lifetime something is rekeyed: earlier by the end that has made it, and by chance,
/// so that both ends rarely do it at once, nor one end all at once.
pub(super) fn rekey_time(
    engine: &mut Engine,
    now: Instant,
    lifetime: Duration,
    began: bool,
) -> Option<Instant> {
    let (least, most) = if began { (0.8, 0.87) } else { (0.89, 0.95) };
    let share = engine.random_between(least, most);
    (!lifetime.is_zero()).then(|| now + lifetime.mul_f64(share))
}

/// The IKE SAs of the same connection, but for this one.
fn others<'a>(engine: &'a Engine, sa: &'a IkeSa) -> impl Iterator<Item = &'a IkeSa> {
    let state = sa.connection().and_then(|name| engine.connections.get(name));
    let ids = state.map(|state| state.ikes.as_slice()).unwrap_or_default();
    ids.iter().filter(|id| **id != sa.id).filter_map(|id| engine.sas.get(id)).map(AsRef::as_ref)
}

/// The child SA of this name on which packets are sent now.
pub(super) fn current(engine: &Engine, sa: &IkeSa, name: &ChildName) -> Option<ChildSaId> {
    let sends = |sa: &IkeSa| {
        let mut found = sa.children.iter().filter(|one| one.sending && one.config.name == *name);
        found.next().map(|one| one.sa.id)
    };
    sends(sa).or_else(|| others(engine, sa).find_map(sends))
}

/// The one that packets go to when they can't go to this one any more.
fn successor(engine: &Engine, sa: &IkeSa, id: ChildSaId) -> Option<ChildSaId> {
    if let Some(heir) = rekey::heir(sa, id) {
        return Some(heir);
    }
    let name = &sa.child(id)?.config.name;
    let youngest = |sa: &IkeSa| {
        let stays =
            |one: &&ChildState| one.sa.id != id && one.config.name == *name && !one.is_leaving();
        sa.children.iter().filter(stays).map(|one| one.sa.id).max()
    };
    youngest(sa).or_else(|| others(engine, sa).filter(|sa| sa.is_established()).find_map(youngest))
}

/// Whether packets have somewhere to go when this one is gone.
pub(super) fn has_successor(engine: &Engine, sa: &IkeSa, id: ChildSaId) -> bool {
    successor(engine, sa, id).is_some()
}

/// Packets are sent on another one from now on, if there is one.
pub(super) fn hand_over(engine: &mut Engine, sa: &mut IkeSa, id: ChildSaId) {
    if sa.child(id).is_some_and(|child| child.sending)
        && let Some(successor) = successor(engine, sa, id)
    {
        send_on(engine, sa, successor);
    }
}

/// Packets are sent on this one from now on.
pub(super) fn send_on(engine: &mut Engine, sa: &mut IkeSa, id: ChildSaId) {
    let elsewhere = engine.by_child.get(&id).copied().filter(|ike| *ike != sa.id);
    let child = match elsewhere {
        None => sa.child_mut(id),
        Some(ike) => engine.sas.get_mut(&ike).and_then(|other| other.child_mut(id)),
    };
    let Some(child) = child else { return };
    let is_new = !std::mem::replace(&mut child.sending, true);
    let name = child.config.name.clone();
    stop_others(engine, sa, id, &name);
    if is_new {
        engine.tell(Event::ChildSend { sa: id });
    }
}

/// Notes that packets are sent on no other child SA of this name.
fn stop_others(engine: &mut Engine, sa: &mut IkeSa, id: ChildSaId, name: &ChildName) {
    let stop = |children: &mut [ChildState]| {
        for child in children {
            child.sending &= child.sa.id == id || child.config.name != *name;
        }
    };
    stop(&mut sa.children);
    let state = sa.connection().and_then(|name| engine.connections.get(name));
    for ike in state.map(|state| state.ikes.clone()).unwrap_or_default() {
        if let Some(other) = engine.sas.get_mut(&ike) {
            stop(&mut other.children);
        }
    }
}

/// Authentic ESP has come on a child SA.
pub(super) fn alive(engine: &mut Engine, now: Instant, sa: &mut IkeSa, id: ChildSaId) {
    rekey::alive(engine, now, sa, id);
}

/// A child SA is nearly used up.
pub(super) fn worn(engine: &mut Engine, now: Instant, sa: &mut IkeSa, id: ChildSaId) {
    let _ = (engine, now);
    rekey::worn(sa, id);
}

/// People want something rekeyed.
pub(super) fn rekey(engine: &mut Engine, now: Instant, name: &ConnectionName, what: &Rekey) {
    let ids = engine.connections.get(name).map(|state| state.ikes.clone()).unwrap_or_default();
    for id in ids {
        engine.with_sa(now, id, |engine, sa| match what {
            Rekey::Ike if sa.is_established() => rekey_ike::is_old(engine, now, sa),
            Rekey::Ike => {}
            Rekey::Child(name) => rekey::rekey_children(sa, Some(name)),
            Rekey::Children => rekey::rekey_children(sa, None),
        });
    }
}
