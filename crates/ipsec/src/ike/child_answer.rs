//! CREATE_CHILD_SA by the other end.

use std::time::Instant;

use model::suite::{Group, Purpose};

use super::child::{self, Agreed, Parts, refusal};
use super::config::Child;
use super::engine::Engine;
use super::event::Failure;
use super::exchange::protocol;
use super::followup::{self, Work};
use super::message::{self, Payload, notify};
use super::narrow::{Narrowed, narrow, narrow_both};
use super::rekey;
use super::rekey_ike;
use super::sa::{IkeSa, Ongoing, Received};
use crate::crypto::kex;
use crate::sa::{ChildSaId, Spi};

/// No more child SAs for each configured one: what is being rekeyed, twice over.
const PER_CHILD: usize = 8;

/// Answers CREATE_CHILD_SA, whatever it is for.
pub(super) fn answer(
    engine: &mut Engine,
    now: Instant,
    sa: &mut IkeSa,
    request: &Received,
) -> Vec<Payload> {
    let parts = match Parts::of(request) {
        Ok(parts) => parts,
        Err(what) => {
            let failure = protocol(what.to_owned());
            engine.fail(sa.connection().cloned().as_ref(), sa.path, failure);
            return refusal(notify::INVALID_SYNTAX, Vec::new());
        }
    };
    if !sa.is_established() {
        return refusal(notify::TEMPORARY_FAILURE, Vec::new());
    }
    if parts.proposals.iter().any(|one| one.protocol == 1) {
        return rekey_ike::answer(engine, now, sa, &parts);
    }
    // RFC 7296, 2.25.2: no child SA while the IKE SA is rekeyed.
    if rekey_ike::is_under_way(sa) {
        return refusal(notify::TEMPORARY_FAILURE, Vec::new());
    }
    match agree(engine, sa, request, &parts) {
        Ok((agreed, mut payloads)) => {
            let groups = child::additional_groups(&agreed.suite);
            if groups.is_empty() {
                child::complete(engine, now, sa, agreed);
            } else {
                payloads.push(followup::await_more(
                    engine,
                    now,
                    sa,
                    Work::Child(Box::new(agreed)),
                    groups,
                ));
            }
            payloads
        }
        Err((payloads, failure)) => {
            if let Some(failure) = failure {
                engine.fail(sa.connection().cloned().as_ref(), sa.path, failure);
            }
            payloads
        }
    }
}

/// What is answered in place, and what people should know.
type Refused = (Vec<Payload>, Option<Failure>);

fn agree(
    engine: &mut Engine,
    sa: &mut IkeSa,
    request: &Received,
    parts: &Parts<'_>,
) -> Result<(Agreed, Vec<Payload>), Refused> {
    let old = rekeyed(sa, request)?;
    let configured = sa.config.as_ref().map(|one| one.children.as_slice()).unwrap_or_default();
    if sa.children.len() >= (configured.len() + 1) * PER_CHILD {
        return Err((refusal(notify::NO_ADDITIONAL_SAS, Vec::new()), None));
    }
    let Some((config, narrowed)) = fit(sa, configured, old, parts) else {
        let failure = Failure::NoSelectors {
            local: configured.iter().flat_map(|one| one.local.clone()).collect(),
            remote: configured.iter().flat_map(|one| one.remote.clone()).collect(),
            theirs: Some((parts.initiator.to_vec(), parts.responder.to_vec())),
        };
        return Err((refusal(notify::TS_UNACCEPTABLE, Vec::new()), Some(failure)));
    };
    let prefer = parts.exchange.and_then(|(number, _)| Group::from_number(number));
    let chosen = message::choose(&config.proposals, Purpose::Esp, parts.proposals, prefer);
    let spi = chosen.as_ref().and_then(|chosen| child::esp_spi(&chosen.wire));
    let (Some(chosen), Some(outbound_spi)) = (chosen, spi) else {
        let failure = Failure::NoProposal {
            ike: false,
            ours: config.proposals.clone(),
            theirs: Some(message::describe(parts.proposals)),
        };
        return Err((refusal(notify::NO_PROPOSAL_CHOSEN, Vec::new()), Some(failure)));
    };
    let shared = respond(chosen.suite.groups.first().copied(), parts)?;
    let inbound_spi = engine.take_esp_spi();
    let nonce = engine.nonce();
    let wire = chosen.answer(&inbound_spi.get().to_be_bytes());
    let mut payloads = vec![Payload::Sa(vec![wire]), Payload::Nonce(nonce.clone())];
    let shared = shared.map(|(exchange, shared)| {
        payloads.push(exchange);
        shared
    });
    payloads.push(Payload::TsInitiator(narrowed.remote.clone()));
    payloads.push(Payload::TsResponder(narrowed.local.clone()));
    let agreed = Agreed {
        config,
        old,
        suite: chosen.suite,
        inbound_spi,
        outbound_spi,
        local: narrowed.local,
        remote: narrowed.remote,
        nonces: (parts.nonce.to_vec(), nonce),
        shared,
        additional: Vec::new(),
        began: false,
        collision: None,
    };
    Ok((agreed, payloads))
}

/// This end's part of a key exchange: the KE payload, and what is shared.
pub(super) type Shared = (Payload, zeroize::Zeroizing<Vec<u8>>);

/// Answers the key exchange that was agreed on.
///
/// # Errors
/// Another group came, or nonsense.
pub(super) fn respond(group: Option<Group>, parts: &Parts<'_>) -> Result<Option<Shared>, Refused> {
    let Some(group) = group else { return Ok(None) };
    match parts.exchange {
        Some((number, data)) if number == group.number() => {
            let (data, shared) = kex::respond(group, data).map_err(|error| {
                (refusal(notify::INVALID_SYNTAX, Vec::new()), Some(protocol(error.to_string())))
            })?;
            let exchange = Payload::KeyExchange { group: number, data };
            Ok(Some((exchange, shared)))
        }
        _ => {
            let wish = group.number().to_be_bytes().to_vec();
            Err((refusal(notify::INVALID_KE_PAYLOAD, wish), None))
        }
    }
}

/// Which child SA a request rekeys, if any (RFC 7296, 2.25.1).
fn rekeyed(sa: &IkeSa, request: &Received) -> Result<Option<ChildSaId>, Refused> {
    let Some(rekey) = request.notify(notify::REKEY_SA) else { return Ok(None) };
    let spi = <[u8; 4]>::try_from(rekey.spi.as_slice())
        .ok()
        .and_then(|octets| Spi::new(u32::from_be_bytes(octets)));
    let child = sa.children.iter().find(|one| Some(one.sa.outbound_spi) == spi);
    match child {
        // Perhaps it is what this end has asked for, and the answer is still on its way.
        None if is_busy_with_children(sa) => {
            Err((refusal(notify::TEMPORARY_FAILURE, Vec::new()), None))
        }
        None => {
            let mut payloads = refusal(notify::CHILD_SA_NOT_FOUND, Vec::new());
            if let Some(Payload::Notify(notify)) = payloads.first_mut() {
                notify.protocol = 3;
                notify.spi.clone_from(&rekey.spi);
            }
            Err((payloads, None))
        }
        Some(child) if child.is_leaving() => {
            Err((refusal(notify::TEMPORARY_FAILURE, Vec::new()), None))
        }
        Some(child) => Ok(Some(child.sa.id)),
    }
}

/// The configured child that fits, and its selectors. One that is rekeyed stays what it is.
fn fit(
    sa: &IkeSa,
    configured: &[Child],
    old: Option<ChildSaId>,
    parts: &Parts<'_>,
) -> Option<(Child, Narrowed)> {
    if let Some(old) = old.and_then(|old| sa.child(old)) {
        let newer = configured.iter().find(|one| one.name == old.config.name);
        let config = newer.unwrap_or(&old.config);
        let local = narrow(&config.local, parts.responder);
        let remote = narrow(&config.remote, parts.initiator);
        return (!local.is_empty() && !remote.is_empty())
            .then(|| (config.clone(), Narrowed { child: 0, local, remote }));
    }
    let narrowed = narrow_both(configured, parts.responder, parts.initiator)?;
    Some((configured.get(narrowed.child)?.clone(), narrowed))
}

/// Whether this end is about to make, rekey or close a child SA.
pub(super) fn is_busy_with_children(sa: &IkeSa) -> bool {
    match sa.pending.as_ref().map(|pending| &pending.ongoing) {
        Some(Ongoing::CreateChild(_) | Ongoing::DeleteChild(_)) => true,
        Some(Ongoing::FollowupKe(waiting)) => matches!(waiting.work, Work::Child(_)),
        _ => false,
    }
}

/// Keeps what was learnt about a collision with a request of this end.
pub(super) fn note_collision(
    sa: &mut IkeSa,
    is_same: impl Fn(Option<ChildSaId>, &Child) -> bool,
    collision: rekey::Collision,
) -> bool {
    let slot = match sa.pending.as_mut().map(|pending| &mut pending.ongoing) {
        Some(Ongoing::CreateChild(waiting)) if is_same(waiting.old, &waiting.config) => {
            &mut waiting.collision
        }
        Some(Ongoing::FollowupKe(waiting)) => match &mut waiting.work {
            Work::Child(agreed) if is_same(agreed.old, &agreed.config) => &mut agreed.collision,
            _ => return false,
        },
        _ => return false,
    };
    *slot = Some(collision);
    true
}
