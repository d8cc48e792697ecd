//! CREATE_CHILD_SA for child SAs, new and rekeyed ones (RFC 7296, 1.3.1, 1.3.3), by this end.

use std::time::{Duration, Instant};

use model::suite::{Group, Purpose};

use super::child::{self, Agreed, Parts};
use super::config::Child;
use super::connection;
use super::engine::Engine;
use super::event::{DownReason, Failure};
use super::exchange::protocol;
use super::followup::{self, Work};
use super::install;
use super::message::{self, Exchange, Notify, Payload, notify};
use super::narrow::is_within;
use super::reauth;
use super::rekey::{self, Collision};
use super::sa::{IkeSa, Ongoing, Received, Task};
use crate::crypto::kex::KeyExchange;
use crate::sa::{ChildName, ChildSaId, Spi};

/// What the response needs.
pub(super) struct Waiting {
    pub(super) config: Child,
    /// The one that is rekeyed.
    pub(super) old: Option<ChildSaId>,
    pub(super) spi: Spi,
    pub(super) nonce: Vec<u8>,
    pub(super) exchange: Option<KeyExchange>,
    /// Whether the other end has asked for another group already.
    pub(super) retried: bool,
    /// The other end has asked for the same in the meantime.
    pub(super) collision: Option<Collision>,
}

/// Asks for a child SA of the configuration, unless it is there.
pub(super) fn begin(engine: &mut Engine, now: Instant, sa: &mut IkeSa, name: &ChildName) {
    let Some(config) = configured(sa, name) else { return };
    if sa.children.iter().any(|one| one.config.name == *name && !one.is_leaving()) {
        return;
    }
    let group = first_group(&config);
    request(engine, now, sa, Request { config, old: None, group, retried: false });
}

/// Asks for another one in the place of a child SA.
pub(super) fn begin_rekey(engine: &mut Engine, now: Instant, sa: &mut IkeSa, old: ChildSaId) {
    let receive_id = sa.receive_id;
    let Some(state) = sa.child_mut(old).filter(|one| !one.is_leaving()) else { return };
    if state.is_unconfirmed(now, receive_id) {
        sa.enqueue_later(now + Duration::from_secs(1), Task::RekeyChild(old));
        return;
    }
    state.rekey_at = None;
    let (name, used) = (state.config.name.clone(), state.suite.groups.first().copied());
    let known = state.config.clone();
    let config = configured(sa, &name).unwrap_or(known);
    let group = used.filter(|group| has_group(&config, *group)).or_else(|| first_group(&config));
    request(engine, now, sa, Request { config, old: Some(old), group, retried: false });
}

struct Request {
    config: Child,
    old: Option<ChildSaId>,
    group: Option<Group>,
    retried: bool,
}

fn configured(sa: &IkeSa, name: &ChildName) -> Option<Child> {
    sa.config.as_ref()?.children.iter().find(|one| one.name == *name).cloned()
}

fn first_group(config: &Child) -> Option<Group> {
    config.proposals.first()?.groups.first().copied()
}

fn has_group(config: &Child, group: Group) -> bool {
    config.proposals.iter().any(|proposal| proposal.groups.contains(&group))
}

fn request(engine: &mut Engine, now: Instant, sa: &mut IkeSa, request: Request) {
    let Request { config, old, group, retried } = request;
    let exchange = match group.map(KeyExchange::begin).transpose() {
        Ok(exchange) => exchange,
        Err(error) => {
            let failure = protocol(error.to_string());
            engine.fail(sa.connection().cloned().as_ref(), sa.path, failure);
            child::not_made(engine, now, sa, &config, old, None);
            return;
        }
    };
    let spi = engine.take_esp_spi();
    let nonce = engine.nonce();
    let mut payloads = Vec::with_capacity(6);
    if let Some(old) = old.and_then(|old| sa.child(old)) {
        payloads.push(Payload::Notify(Notify {
            protocol: 3,
            kind: notify::REKEY_SA,
            spi: old.sa.inbound_spi.get().to_be_bytes().to_vec(),
            data: Vec::new(),
        }));
    }
    let octets = spi.get().to_be_bytes();
    payloads.push(Payload::Sa(message::offer(&config.proposals, Purpose::Esp, &octets)));
    payloads.push(Payload::Nonce(nonce.clone()));
    let exchange = exchange.map(|(exchange, data)| {
        payloads.push(Payload::KeyExchange { group: exchange.group().number(), data });
        exchange
    });
    payloads.push(Payload::TsInitiator(config.local.clone()));
    payloads.push(Payload::TsResponder(config.remote.clone()));
    let waiting = Waiting { config, old, spi, nonce, exchange, retried, collision: None };
    let ongoing = Ongoing::CreateChild(Box::new(waiting));
    engine.request(now, sa, Exchange::CreateChildSa, &payloads, ongoing);
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
        engine.free_esp_spi(waiting.spi);
        refused(engine, now, sa, waiting, error);
        return;
    }
    let (spi, config, old) = (waiting.spi, waiting.config.clone(), waiting.old);
    let collided = waiting.collision.is_some();
    match agree(waiting, received) {
        Ok(agreed) => {
            let groups = child::additional_groups(&agreed.suite);
            if groups.is_empty() {
                child::complete(engine, now, sa, agreed);
            } else {
                followup::begin(engine, now, sa, Work::Child(Box::new(agreed)), groups, received);
            }
        }
        Err(failure) => {
            // The other end has made one: it has to go.
            engine.free_esp_spi(spi);
            sa.enqueue_first(Task::DeleteSpi(spi));
            engine.fail(sa.connection().cloned().as_ref(), sa.path, failure);
            if !collided {
                child::not_made(engine, now, sa, &config, old, None);
            }
        }
    }
}

fn agree(waiting: Waiting, received: &Received) -> Result<Agreed, Failure> {
    let parts = Parts::of(received).map_err(|what| protocol(what.to_owned()))?;
    let (suite, outbound_spi) = child::read_answer(&waiting.config, &parts)?;
    let shared = match (suite.groups.first(), waiting.exchange, parts.exchange) {
        (None, _, _) => None,
        (Some(group), Some(exchange), Some((number, data)))
            if exchange.group() == *group && number == group.number() =>
        {
            Some(exchange.finish(data).map_err(|error| protocol(error.to_string()))?)
        }
        _ => return Err(protocol("the answer's key exchange is not the one asked for".to_owned())),
    };
    if !is_within(parts.initiator, &waiting.config.local)
        || !is_within(parts.responder, &waiting.config.remote)
    {
        return Err(Failure::NoSelectors {
            local: waiting.config.local,
            remote: waiting.config.remote,
            theirs: Some((parts.responder.to_vec(), parts.initiator.to_vec())),
        });
    }
    Ok(Agreed {
        config: waiting.config,
        old: waiting.old,
        suite,
        inbound_spi: waiting.spi,
        outbound_spi,
        local: parts.initiator.to_vec(),
        remote: parts.responder.to_vec(),
        nonces: (waiting.nonce, parts.nonce.to_vec()),
        shared,
        additional: Vec::new(),
        began: true,
        collision: waiting.collision,
    })
}

/// The other end refuses.
fn refused(engine: &mut Engine, now: Instant, sa: &mut IkeSa, waiting: Waiting, error: &Notify) {
    let Waiting { config, old, .. } = waiting;
    if let Some(collision) = waiting.collision {
        // It has asked for the same, and was first.
        rekey::give_way(sa, old, &collision);
        return;
    }
    let wish = match *error.data.as_slice() {
        [high, low] => Group::from_number(u16::from_be_bytes([high, low])),
        _ => None,
    };
    match error.kind {
        notify::INVALID_KE_PAYLOAD if !waiting.retried => {
            let used = waiting.exchange.as_ref().map(KeyExchange::group);
            if let Some(group) = wish.filter(|one| has_group(&config, *one) && used != Some(*one)) {
                let group = Some(group);
                request(engine, now, sa, Request { config, old, group, retried: true });
                return;
            }
        }
        notify::TEMPORARY_FAILURE => {
            let pause = Duration::from_secs_f64(engine.random_between(0.5, 3.0));
            child::not_made(engine, now, sa, &config, old, Some(pause));
            return;
        }
        notify::CHILD_SA_NOT_FOUND => {
            if let Some(old) = old.filter(|old| sa.child(*old).is_some()) {
                // RFC 7296, 2.25.1: it is gone there, so it is gone.
                let has_successor = install::has_successor(engine, sa, old);
                let reason = child::reason_of_delete(has_successor);
                install::remove(engine, sa, old, install::LINGER, reason);
                if !has_successor {
                    sa.enqueue_first(Task::CreateChild(config.name));
                }
            }
            return;
        }
        notify::NO_ADDITIONAL_SAS if old.is_some() && reauth::begin(engine, now, sa) => return,
        _ => {}
    }
    let failure = match error.kind {
        notify::NO_PROPOSAL_CHOSEN => {
            Failure::NoProposal { ike: false, ours: config.proposals.clone(), theirs: None }
        }
        notify::TS_UNACCEPTABLE => Failure::NoSelectors {
            local: config.local.clone(),
            remote: config.remote.clone(),
            theirs: None,
        },
        _ => connection::notified(error),
    };
    engine.fail(sa.connection().cloned().as_ref(), sa.path, failure);
    child::not_made(engine, now, sa, &config, old, None);
}

/// A command or a timer wants a child SA to go.
pub(super) fn begin_delete(engine: &mut Engine, now: Instant, sa: &mut IkeSa, id: ChildSaId) {
    let Some(child) = sa.child(id).filter(|one| one.leaving.is_none()) else { return };
    let spi = child.sa.inbound_spi;
    let has_successor = child.replaced_by.is_some() || install::has_successor(engine, sa, id);
    install::hand_over(engine, sa, id);
    if let Some(child) = sa.child_mut(id) {
        let reason = if has_successor { DownReason::Replaced } else { DownReason::Asked };
        child.leaving = Some(reason);
        child.rekey_at = None;
    }
    request_delete(engine, now, sa, spi, Some(id));
}

/// The other end has made one that this end has not.
pub(super) fn begin_delete_spi(engine: &mut Engine, now: Instant, sa: &mut IkeSa, spi: Spi) {
    request_delete(engine, now, sa, spi, None);
}

fn request_delete(
    engine: &mut Engine,
    now: Instant,
    sa: &mut IkeSa,
    spi: Spi,
    id: Option<ChildSaId>,
) {
    let delete = Payload::Delete { protocol: 3, spis: vec![spi.get()] };
    engine.request(now, sa, Exchange::Informational, &[delete], Ongoing::DeleteChild(id));
}

/// It is gone at the other end, too.
pub(super) fn deleted(engine: &mut Engine, sa: &mut IkeSa, id: Option<ChildSaId>) {
    let Some(id) = id else { return };
    let reason = sa.child(id).and_then(|one| one.leaving.clone()).unwrap_or(DownReason::Asked);
    install::remove(engine, sa, id, install::LINGER, reason);
}
