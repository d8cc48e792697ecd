//! The child SA that IKE_AUTH makes: without key exchange of its own.

use std::time::Instant;

use model::suite::Purpose;

use super::config::Child;
use super::connection;
use super::engine::Engine;
use super::event::Failure;
use super::exchange::protocol;
use super::init::status;
use super::install::{self, NewChild};
use super::message::{self, Payload, WireProposal, notify};
use super::narrow;
use super::sa::{IkeSa, Received};
use crate::crypto::keys::child_keys;
use crate::sa::{EspKeys, Spi};
use crate::selector::TrafficSelector;

/// What this end has offered.
pub(super) struct Offer {
    child: Child,
    pub(super) spi: Spi,
}

/// Offers a child SA: SA, TSi, TSr.
pub(super) fn offer(engine: &mut Engine, child: Child) -> (Offer, Vec<Payload>) {
    let spi = engine.take_esp_spi();
    let proposals = message::without_key_exchange(&child.proposals);
    let payloads = vec![
        Payload::Sa(message::offer(&proposals, Purpose::Esp, &spi.get().to_be_bytes())),
        Payload::TsInitiator(child.local.clone()),
        Payload::TsResponder(child.remote.clone()),
    ];
    (Offer { child, spi }, payloads)
}

/// What a message says of a child SA.
struct Asked<'a> {
    proposals: &'a [WireProposal],
    of_initiator: &'a [TrafficSelector],
    of_responder: &'a [TrafficSelector],
}

fn asked(received: &Received) -> Option<Asked<'_>> {
    let mut proposals = None;
    let mut of_initiator: &[_] = &[];
    let mut of_responder: &[_] = &[];
    for payload in &received.payloads {
        match payload {
            Payload::Sa(one) => proposals = Some(one.as_slice()),
            Payload::TsInitiator(one) => of_initiator = one,
            Payload::TsResponder(one) => of_responder = one,
            _ => {}
        }
    }
    Some(Asked { proposals: proposals?, of_initiator, of_responder })
}

fn keys(
    sa: &IkeSa,
    suite: &model::suite::Proposal,
    ni: &[u8],
    nr: &[u8],
) -> Option<(EspKeys, EspKeys)> {
    let sk_d = &sa.keys.as_ref()?.sk_d;
    child_keys(suite, sa.prf()?, sk_d, None, &[], ni, nr).ok()
}

fn spi_of(proposal: &WireProposal) -> Option<Spi> {
    let four = <[u8; 4]>::try_from(proposal.spi.as_slice()).ok()?;
    Spi::new(u32::from_be_bytes(four))
}

/// The response to an offer has come.
pub(super) fn accept(
    engine: &mut Engine,
    now: Instant,
    sa: &mut IkeSa,
    offer: Offer,
    received: &Received,
    ni: &[u8],
    nr: &[u8],
) {
    let Some(name) = sa.connection().cloned() else { return };
    let Offer { child, spi } = offer;
    match accepted(sa, &child, spi, received, ni, nr) {
        Ok(mut new) => {
            new.replaces = install::current(engine, sa, &new.config.name);
            install::install(engine, now, sa, new);
        }
        Err(failure) => {
            sa.first_tried = Some(child.name);
            engine.free_esp_spi(spi);
            engine.fail(Some(&name), sa.path, failure);
            connection::child_failed(engine, now, &name);
        }
    }
}

fn accepted(
    sa: &IkeSa,
    child: &Child,
    spi: Spi,
    received: &Received,
    ni: &[u8],
    nr: &[u8],
) -> Result<NewChild, Failure> {
    let Some(asked) = asked(received) else {
        return Err(match received.error() {
            Some(error) => refused(child, error),
            None => protocol("IKE_AUTH was answered without a child SA".to_owned()),
        });
    };
    let ours = message::without_key_exchange(&child.proposals);
    let wrong = || protocol("the child SA in the answer is not what was asked for".to_owned());
    let [wire] = asked.proposals else { return Err(wrong()) };
    let suite = message::accept(&ours, Purpose::Esp, wire).ok_or_else(wrong)?;
    let outbound_spi = spi_of(wire).ok_or_else(wrong)?;
    let (local, remote) = (asked.of_initiator, asked.of_responder);
    if !narrow::is_within(local, &child.local) || !narrow::is_within(remote, &child.remote) {
        return Err(Failure::NoSelectors {
            local: child.local.clone(),
            remote: child.remote.clone(),
            theirs: Some((remote.to_vec(), local.to_vec())),
        });
    }
    Ok(NewChild {
        keys: keys(sa, &suite, ni, nr).ok_or_else(wrong)?,
        config: child.clone(),
        suite,
        inbound_spi: spi,
        outbound_spi,
        began: true,
        local: local.to_vec(),
        remote: remote.to_vec(),
        send: true,
        replaces: None,
    })
}

/// The failure that a refusal of a child SA means.
pub(super) fn refused(child: &Child, error: &message::Notify) -> Failure {
    match error.kind {
        notify::NO_PROPOSAL_CHOSEN => {
            Failure::NoProposal { ike: false, ours: child.proposals.clone(), theirs: None }
        }
        notify::TS_UNACCEPTABLE => Failure::NoSelectors {
            local: child.local.clone(),
            remote: child.remote.clone(),
            theirs: None,
        },
        _ => connection::notified(error),
    }
}

/// A request may ask for a child SA.
pub(super) fn answer(
    engine: &mut Engine,
    now: Instant,
    sa: &mut IkeSa,
    request: &Received,
    ni: &[u8],
    nr: &[u8],
) -> Vec<Payload> {
    let Some(config) = sa.config.clone() else { return Vec::new() };
    let Some(asked) = asked(request) else { return Vec::new() };
    let narrowed = narrow::narrow_both(&config.children, asked.of_responder, asked.of_initiator);
    let found = narrowed.and_then(|narrowed| {
        config.children.get(narrowed.child).map(|child| (child.clone(), narrowed))
    });
    let Some((child, narrowed)) = found else {
        let failure = Failure::NoSelectors {
            local: config.children.iter().flat_map(|child| child.local.clone()).collect(),
            remote: config.children.iter().flat_map(|child| child.remote.clone()).collect(),
            theirs: Some((asked.of_initiator.to_vec(), asked.of_responder.to_vec())),
        };
        engine.fail(Some(&config.name), sa.path, failure);
        return vec![status(notify::TS_UNACCEPTABLE)];
    };
    let mut theirs = asked.proposals.to_vec();
    theirs.iter_mut().for_each(WireProposal::strip_key_exchange);
    let ours = message::without_key_exchange(&child.proposals);
    let chosen = message::choose(&ours, Purpose::Esp, &theirs, None);
    let made = chosen.and_then(|chosen| {
        let outbound_spi = spi_of(&chosen.wire)?;
        let keys = keys(sa, &chosen.suite, ni, nr)?;
        Some((chosen, outbound_spi, keys))
    });
    let Some((chosen, outbound_spi, keys)) = made else {
        let failure = Failure::NoProposal {
            ike: false,
            ours: child.proposals,
            theirs: Some(message::describe(asked.proposals)),
        };
        engine.fail(Some(&config.name), sa.path, failure);
        return vec![status(notify::NO_PROPOSAL_CHOSEN)];
    };
    let spi = engine.take_esp_spi();
    let replaces = install::current(engine, sa, &child.name);
    let payloads = vec![
        Payload::Sa(vec![chosen.answer(&spi.get().to_be_bytes())]),
        Payload::TsInitiator(narrowed.remote.clone()),
        Payload::TsResponder(narrowed.local.clone()),
    ];
    let new = NewChild {
        config: child,
        suite: chosen.suite,
        inbound_spi: spi,
        outbound_spi,
        keys,
        began: false,
        local: narrowed.local,
        remote: narrowed.remote,
        // The other end authenticates anew: it has the old one until it deletes it.
        send: replaces.is_none(),
        replaces,
    };
    install::install(engine, now, sa, new);
    payloads
}
