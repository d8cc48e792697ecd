//! Rekeying of the IKE SA (RFC 7296, 1.3.2, 2.8.2, 2.18): a new one is made, the child SAs move to
//! it, and the old one is deleted.

use std::time::{Duration, Instant};

use model::suite::{Group, Proposal, Purpose};
use zeroize::Zeroizing;

use super::child::{self, Parts, refusal};
use super::child_answer::{is_busy_with_children, respond};
use super::connection;
use super::engine::Engine;
use super::event::{DownReason, Failure};
use super::exchange::protocol;
use super::followup::{self, Work};
use super::message::{self, Exchange, Notify, Payload, WireProposal, notify};
use super::reauth;
use super::rekey::loses;
use super::sa::{IkeSa, Ongoing, Phase, Received, Task};
use super::upkeep::DELETE_PATIENCE;
use crate::crypto::kex::KeyExchange;
use crate::crypto::keys::IkeKeys;
use crate::sa::IkeSaId;

/// What the response needs.
pub(super) struct Waiting {
    pub(super) spi: u64,
    pub(super) nonce: Vec<u8>,
    pub(super) exchange: KeyExchange,
    pub(super) retried: bool,
    pub(super) collision: Option<Collision>,
}

/// The other end has rekeyed, too.
pub(super) struct Collision {
    /// The IKE SA that came of it.
    pub(super) ike: IkeSaId,
    /// Of the exchange's initiator and responder.
    pub(super) nonces: (Vec<u8>, Vec<u8>),
}

/// All that a new IKE SA is made of, but for what additional key exchanges still give.
pub(super) struct Agreed {
    pub(super) suite: Proposal,
    pub(super) spis: (u64, u64),
    pub(super) nonces: (Vec<u8>, Vec<u8>),
    pub(super) shared: Zeroizing<Vec<u8>>,
    pub(super) additional: Vec<Zeroizing<Vec<u8>>>,
    pub(super) began: bool,
    pub(super) collision: Option<Collision>,
}

/// Whether this end has asked for it.
pub(super) fn is_under_way(sa: &IkeSa) -> bool {
    match sa.pending.as_ref().map(|pending| &pending.ongoing) {
        Some(Ongoing::RekeyIke(_)) => true,
        Some(Ongoing::FollowupKe(waiting)) => matches!(waiting.work, Work::Ike(_)),
        _ => false,
    }
}

/// Asks for a new IKE SA.
pub(super) fn begin(engine: &mut Engine, now: Instant, sa: &mut IkeSa) {
    if !sa.is_established() {
        return;
    }
    let used = sa.suite.as_ref().and_then(|suite| suite.groups.first().copied());
    request(engine, now, sa, used, false);
}

fn request(engine: &mut Engine, now: Instant, sa: &mut IkeSa, wish: Option<Group>, retried: bool) {
    sa.rekey_at = None;
    let Some(config) = sa.config.clone() else { return };
    let group = wish
        .filter(|group| config.proposals.iter().any(|one| one.groups.contains(group)))
        .or_else(|| config.proposals.first()?.groups.first().copied());
    let Some(Ok((exchange, data))) = group.map(KeyExchange::begin) else {
        again(engine, now, sa, None);
        return;
    };
    let spi = engine.new_spi();
    let nonce = engine.nonce();
    let payloads = [
        Payload::Sa(message::offer(&config.proposals, Purpose::Ike, &spi.to_be_bytes())),
        Payload::Nonce(nonce.clone()),
        Payload::KeyExchange { group: exchange.group().number(), data },
    ];
    let waiting = Waiting { spi, nonce, exchange, retried, collision: None };
    let ongoing = Ongoing::RekeyIke(Box::new(waiting));
    engine.request(now, sa, Exchange::CreateChildSa, &payloads, ongoing);
}

/// It is tried again, before the IKE SA expires.
fn again(engine: &mut Engine, now: Instant, sa: &mut IkeSa, delay: Option<Duration>) {
    if !sa.is_established() {
        return;
    }
    let left =
        sa.expires().map_or(Duration::from_secs(240), |at| at.saturating_duration_since(now));
    let pause = delay.unwrap_or_else(|| (left / 4).min(Duration::from_secs(60)));
    let pause = pause.max(Duration::from_millis(500)).mul_f64(engine.random_between(0.9, 1.1));
    sa.rekey_at = Some(now + pause);
}

/// So many that came one of the other and are not deleted yet: more have to wait.
const IN_A_ROW: usize = 8;

/// The other end asks for it.
pub(super) fn answer(
    engine: &mut Engine,
    now: Instant,
    sa: &mut IkeSa,
    parts: &Parts<'_>,
) -> Vec<Payload> {
    // RFC 7296, 2.25.2: not while this end makes, rekeys or closes a child SA.
    if is_busy_with_children(sa) {
        return refusal(notify::TEMPORARY_FAILURE, Vec::new());
    }
    let Some(config) = sa.config.clone() else {
        return refusal(notify::NO_ADDITIONAL_SAS, Vec::new());
    };
    let ikes = engine.connections.get(&config.name).map(|state| state.ikes.as_slice());
    let known = ikes.unwrap_or_default().iter().filter_map(|id| engine.sas.get(id));
    if known.filter(|other| other.root_spi == sa.root_spi).count() >= IN_A_ROW {
        return refusal(notify::TEMPORARY_FAILURE, Vec::new());
    }
    let prefer = parts.exchange.and_then(|(number, _)| Group::from_number(number));
    let chosen = message::choose(&config.proposals, Purpose::Ike, parts.proposals, prefer);
    let spi = chosen.as_ref().and_then(|chosen| ike_spi(&chosen.wire));
    let (Some(chosen), Some(theirs)) = (chosen, spi) else {
        let failure = Failure::NoProposal {
            ike: true,
            ours: config.proposals.clone(),
            theirs: Some(message::describe(parts.proposals)),
        };
        engine.fail(Some(&config.name), sa.path, failure);
        return refusal(notify::NO_PROPOSAL_CHOSEN, Vec::new());
    };
    let shared = match respond(chosen.suite.groups.first().copied(), parts) {
        Ok(Some(shared)) => shared,
        Ok(None) => return refusal(notify::INVALID_SYNTAX, Vec::new()),
        Err((payloads, failure)) => {
            if let Some(failure) = failure {
                engine.fail(Some(&config.name), sa.path, failure);
            }
            return payloads;
        }
    };
    let spi = engine.new_spi();
    let nonce = engine.nonce();
    let (exchange, shared) = shared;
    let mut payloads = vec![
        Payload::Sa(vec![chosen.answer(&spi.to_be_bytes())]),
        Payload::Nonce(nonce.clone()),
        exchange,
    ];
    let groups = child::additional_groups(&chosen.suite);
    let agreed = Agreed {
        suite: chosen.suite,
        spis: (theirs, spi),
        nonces: (parts.nonce.to_vec(), nonce),
        shared,
        additional: Vec::new(),
        began: false,
        collision: None,
    };
    if groups.is_empty() {
        complete(engine, now, sa, agreed);
    } else {
        let work = Work::Ike(Box::new(agreed));
        payloads.push(followup::await_more(engine, now, sa, work, groups));
    }
    payloads
}

fn ike_spi(proposal: &WireProposal) -> Option<u64> {
    let octets = proposal.spi.as_slice().try_into().ok()?;
    Some(u64::from_be_bytes(octets)).filter(|spi| *spi != 0)
}

/// The other end has answered.
pub(super) fn response(
    engine: &mut Engine,
    now: Instant,
    sa: &mut IkeSa,
    waiting: Waiting,
    received: &Received,
) {
    if let Some(error) = received.error() {
        refused(engine, now, sa, waiting, error);
        return;
    }
    let Some(config) = sa.config.clone() else { return };
    match agree(&config.proposals, waiting, received) {
        Ok(agreed) => {
            let groups = child::additional_groups(&agreed.suite);
            if groups.is_empty() {
                complete(engine, now, sa, agreed);
            } else {
                followup::begin(engine, now, sa, Work::Ike(Box::new(agreed)), groups, received);
            }
        }
        Err(failure) => {
            engine.fail(Some(&config.name), sa.path, failure);
            if !reauth::begin(engine, now, sa) {
                again(engine, now, sa, None);
            }
        }
    }
}

fn agree(ours: &[Proposal], waiting: Waiting, received: &Received) -> Result<Agreed, Failure> {
    let parts = Parts::of(received).map_err(|what| protocol(what.to_owned()))?;
    let [wire] = parts.proposals else {
        return Err(protocol("the answer has several proposals".to_owned()));
    };
    let suite = message::accept(ours, Purpose::Ike, wire).ok_or_else(|| Failure::NoProposal {
        ike: true,
        ours: ours.to_vec(),
        theirs: Some(message::describe(parts.proposals)),
    })?;
    let theirs = ike_spi(wire).ok_or_else(|| protocol("the answer has no IKE SPI".to_owned()))?;
    let group = waiting.exchange.group();
    let data = match parts.exchange {
        Some((number, data)) if number == group.number() => data,
        _ => return Err(protocol("the answer's key exchange is not the one asked for".to_owned())),
    };
    if suite.groups.first() != Some(&group) {
        return Err(protocol("the answer's key exchange is not the one asked for".to_owned()));
    }
    let shared = waiting.exchange.finish(data).map_err(|error| protocol(error.to_string()))?;
    Ok(Agreed {
        suite,
        spis: (waiting.spi, theirs),
        nonces: (waiting.nonce, parts.nonce.to_vec()),
        shared,
        additional: Vec::new(),
        began: true,
        collision: waiting.collision,
    })
}

/// The other end refuses.
fn refused(engine: &mut Engine, now: Instant, sa: &mut IkeSa, waiting: Waiting, error: &Notify) {
    if let Some(collision) = waiting.collision {
        // It was first.
        give_way(engine, now, sa, &collision);
        return;
    }
    let wish = match *error.data.as_slice() {
        [high, low] => Group::from_number(u16::from_be_bytes([high, low])),
        _ => None,
    };
    match error.kind {
        notify::INVALID_KE_PAYLOAD if !waiting.retried && wish.is_some() && sa.is_established() => {
            request(engine, now, sa, wish, true);
        }
        notify::TEMPORARY_FAILURE => {
            let pause = Duration::from_secs_f64(engine.random_between(0.5, 3.0));
            again(engine, now, sa, Some(pause));
        }
        _ => {
            let failure = connection::notified(error);
            engine.fail(sa.connection().cloned().as_ref(), sa.path, failure);
            if !reauth::begin(engine, now, sa) {
                again(engine, now, sa, None);
            }
        }
    }
}

/// Makes the new IKE SA.
pub(super) fn complete(engine: &mut Engine, now: Instant, sa: &mut IkeSa, agreed: Agreed) {
    let Agreed { suite, spis, nonces, shared, additional, began, collision } = agreed;
    let keys = sa.prf().zip(sa.keys.as_ref()).and_then(|(prf, old)| {
        let (ni, nr) = (&nonces.0, &nonces.1);
        IkeKeys::rekey_with(&suite, prf, &old.sk_d, &shared, &additional, ni, nr, spis.0, spis.1)
            .ok()
    });
    let Some(keys) = keys else {
        let failure = protocol("no keys can be made for the IKE SA".to_owned());
        engine.fail(sa.connection().cloned().as_ref(), sa.path, failure);
        again(engine, now, sa, None);
        return;
    };
    let id = engine.new_ike_id();
    let mut heir = Box::new(IkeSa::new(id, now, began, sa.path, spis, Phase::Established));
    heir.config.clone_from(&sa.config);
    heir.suite = Some(suite);
    heir.keys = Some(keys);
    heir.peer = sa.peer.clone();
    heir.nat = sa.nat;
    heir.udp = sa.udp;
    heir.remote_id.clone_from(&sa.remote_id);
    heir.keepalive = sa.keepalive;
    heir.round_trip = sa.round_trip;
    heir.is_first_initiator = sa.is_first_initiator;
    heir.root_spi = sa.root_spi;
    heir.upkeep.heir_of = Some(sa.id);
    engine.by_spi.insert(heir.own_spi(), id);
    if began {
        settle(engine, now, sa, heir, collision, &nonces);
    } else {
        follow(engine, now, sa, heir, nonces);
    }
}

/// This end's exchange has made an IKE SA.
fn settle(
    engine: &mut Engine,
    now: Instant,
    sa: &mut IkeSa,
    mut heir: Box<IkeSa>,
    collision: Option<Collision>,
    nonces: &(Vec<u8>, Vec<u8>),
) {
    let other = collision
        .filter(|other| engine.sas.get(&other.ike).is_some_and(|other| other.is_established()));
    let gives_way =
        !sa.is_established() || other.as_ref().is_some_and(|other| loses(nonces, &other.nonces));
    if gives_way {
        if let Some(other) = other {
            engine.with_sa(now, other.ike, |engine, heir| adopt(engine, now, sa, heir));
        }
        sa.await_delete(now);
        heir.end_politely(DownReason::Replaced);
        engine.put_back(now, heir);
        return;
    }
    adopt(engine, now, sa, &mut heir);
    sa.end_politely(DownReason::Replaced);
    engine.put_back(now, heir);
    if let Some(other) = other {
        engine.with_sa(now, other.ike, |_, other| other.await_delete(now));
    }
}

/// The other end's exchange has made an IKE SA.
fn follow(
    engine: &mut Engine,
    now: Instant,
    sa: &mut IkeSa,
    mut heir: Box<IkeSa>,
    nonces: (Vec<u8>, Vec<u8>),
) {
    let slot = match sa.pending.as_mut().map(|pending| &mut pending.ongoing) {
        Some(Ongoing::RekeyIke(waiting)) => Some(&mut waiting.collision),
        Some(Ongoing::FollowupKe(waiting)) => match &mut waiting.work {
            Work::Ike(agreed) => Some(&mut agreed.collision),
            Work::Child(_) => None,
        },
        _ => None,
    };
    if let Some(slot) = slot {
        // Which one stays is clear when this end's request is answered.
        *slot = Some(Collision { ike: heir.id, nonces });
        heir.upkeep.drop_at = Some(now + 2 * DELETE_PATIENCE);
    } else {
        adopt(engine, now, sa, &mut heir);
        sa.await_delete(now);
    }
    engine.put_back(now, heir);
}

/// The new IKE SA takes what the old one has.
fn adopt(engine: &mut Engine, now: Instant, old: &mut IkeSa, heir: &mut IkeSa) {
    if heir.upkeep.heir_of.take().is_none() {
        return;
    }
    heir.upkeep.drop_at = None;
    heir.config.clone_from(&old.config);
    heir.set_path(engine, old.path, old.udp);
    heir.nat = old.nat;
    heir.last_heard = now;
    for mut child in old.children.drain(..) {
        child.unconfirmed = None;
        engine.by_child.insert(child.sa.id, heir.id);
        heir.children.push(child);
    }
    let stays = |task: &Task| !matches!(task, Task::RekeyIke | Task::DeleteIke);
    heir.queue.extend(old.queue.drain(..).filter(stays));
    heir.upkeep.later.extend(old.upkeep.later.drain(..).filter(|(_, task)| stays(task)));
    let state = heir.connection().and_then(|name| engine.connections.get_mut(name));
    if let Some(state) = state {
        state.rekeys.0 += 1;
    }
    connection::established(engine, now, heir, true);
}

/// Something has come on an IKE SA that is perhaps not to stay: if it isn't its end, the other end
/// has decided for it.
pub(super) fn chosen_by_peer(engine: &mut Engine, now: Instant, sa: &mut IkeSa) {
    let Some(old) = sa.upkeep.heir_of else { return };
    let found = engine.with_sa(now, old, |engine, old| {
        adopt(engine, now, old, sa);
        old.await_delete(now);
    });
    if found.is_none() {
        sa.upkeep.heir_of = None;
        sa.end_politely(DownReason::Replaced);
    }
}

/// The other end deletes an IKE SA: if it has rekeyed it meanwhile, the child SAs move.
pub(super) fn before_delete(engine: &mut Engine, now: Instant, sa: &mut IkeSa) -> bool {
    let collision = match sa.pending.as_mut().map(|pending| &mut pending.ongoing) {
        Some(Ongoing::RekeyIke(waiting)) => waiting.collision.take(),
        Some(Ongoing::FollowupKe(waiting)) => match &mut waiting.work {
            Work::Ike(agreed) => agreed.collision.take(),
            Work::Child(_) => None,
        },
        _ => None,
    };
    let Some(collision) = collision else { return false };
    engine.with_sa(now, collision.ike, |engine, heir| adopt(engine, now, sa, heir)).is_some()
}

/// The IKE SA's `rekey_at` has come.
pub(super) fn is_old(engine: &mut Engine, now: Instant, sa: &mut IkeSa) {
    let reauthenticates = sa.config.as_ref().is_some_and(|config| config.reauthentication);
    if !(reauthenticates && reauth::begin(engine, now, sa)) {
        sa.enqueue(Task::RekeyIke);
    }
}

/// An additional key exchange has failed.
pub(super) fn failed(
    engine: &mut Engine,
    now: Instant,
    sa: &mut IkeSa,
    collision: Option<Collision>,
) {
    if let Some(collision) = collision {
        give_way(engine, now, sa, &collision);
    } else {
        again(engine, now, sa, None);
    }
}

/// The IKE SA that the other end has made stays, unless it has ended it meanwhile.
fn give_way(engine: &mut Engine, now: Instant, sa: &mut IkeSa, collision: &Collision) {
    let heir = engine.with_sa(now, collision.ike, |engine, heir| {
        let is_there = heir.is_established();
        if is_there {
            adopt(engine, now, sa, heir);
        }
        is_there
    });
    if heir == Some(true) {
        sa.await_delete(now);
    } else {
        again(engine, now, sa, Some(Duration::from_secs(1)));
    }
}
