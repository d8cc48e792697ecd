//! IKE_INTERMEDIATE (RFC 9242): additional key exchanges (RFC 9370) between IKE_SA_INIT and
//! IKE_AUTH.

use std::time::Instant;

use model::suite::Group;

use super::auth;
use super::engine::Engine;
use super::event::DownReason;
use super::exchange::protocol;
use super::message::{self, Exchange, Header, Notify, Payload, notify};
use super::sa::{IkeSa, Ongoing, Phase, Received};
use super::{connection, transmit};
use crate::crypto::kex::{self, KeyExchange};
use crate::crypto::keys::{IkeKeys, int_auth};

/// What the initiator needs when the response comes.
pub(super) struct Waiting {
    kex: KeyExchange,
}

/// Does the next additional key exchange; IKE_AUTH if there is none.
pub(super) fn begin(engine: &mut Engine, now: Instant, sa: &mut IkeSa) {
    let Phase::Handshake(shake) = &mut sa.phase else { return };
    let Some(group) = shake.additional.pop_front() else {
        auth::begin(engine, now, sa);
        return;
    };
    let Ok((kex, public)) = KeyExchange::begin(group) else {
        fail(engine, sa, format!("no key of {} can be made", group.name()));
        return;
    };
    let payloads = [Payload::KeyExchange { group: group.number(), data: public }];
    let header = transmit::header(sa, Exchange::Intermediate, sa.send_id, false);
    let (inner, plain) = message::encode_payloads(&payloads);
    sign(sa, &header, inner, &plain);
    let waiting = Ongoing::Intermediate(Waiting { kex });
    engine.request(now, sa, Exchange::Intermediate, &payloads, waiting);
}

/// Adds a message to what both ends sign, with the keys that it was sent under.
fn sign(sa: &mut IkeSa, header: &Header, inner: u8, plain: &[u8]) {
    let prf = sa.prf();
    let (Phase::Handshake(shake), Some(keys), Some(prf)) = (&mut sa.phase, &sa.keys, prf) else {
        return;
    };
    let chain = shake.int_auth.get_or_insert_default();
    let (of, key) = if header.from_initiator {
        (&mut chain.0, &keys.sk_pi)
    } else {
        (&mut chain.1, &keys.sk_pr)
    };
    let associated = message::sk_header(header, inner, plain.len());
    *of = int_auth(prf, key, of, &associated, plain).to_vec();
}

fn fail(engine: &mut Engine, sa: &mut IkeSa, what: String) {
    engine.fail(sa.connection().cloned().as_ref(), sa.path, protocol(what));
    sa.end(DownReason::Dead);
}

fn key_exchange(received: &Received) -> Option<(u16, &[u8])> {
    received.payloads.iter().find_map(|payload| match payload {
        Payload::KeyExchange { group, data } => Some((*group, data.as_slice())),
        _ => None,
    })
}

/// The keys after another key exchange.
fn mixed(sa: &IkeSa, shared: &[u8]) -> Option<IkeKeys> {
    let (Phase::Handshake(shake), Some(keys), Some(suite)) = (&sa.phase, &sa.keys, &sa.suite)
    else {
        return None;
    };
    keys.mix(suite, shared, &shake.ni, &shake.nr, sa.spi_i, sa.spi_r).ok()
}

pub(super) fn response(
    engine: &mut Engine,
    now: Instant,
    sa: &mut IkeSa,
    waiting: Waiting,
    received: &Received,
) {
    if let Some(error) = received.error() {
        let failure = connection::notified(error);
        engine.fail(sa.connection().cloned().as_ref(), sa.path, failure);
        sa.end(DownReason::Dead);
        return;
    }
    sign(sa, &received.header, received.inner, &received.plain);
    let wanted = waiting.kex.group().number();
    let public = key_exchange(received).filter(|(group, _)| *group == wanted);
    let keys = public
        .and_then(|(_, public)| waiting.kex.finish(public).ok())
        .and_then(|shared| mixed(sa, &shared));
    if keys.is_none() {
        fail(engine, sa, "an additional key exchange was not answered with its own".to_owned());
        return;
    }
    sa.keys = keys;
    begin(engine, now, sa);
}

pub(super) fn answer(
    engine: &mut Engine,
    now: Instant,
    sa: &mut IkeSa,
    request: &Received,
) -> Vec<Payload> {
    sign(sa, &request.header, request.inner, &request.plain);
    let Phase::Handshake(shake) = &mut sa.phase else { return Vec::new() };
    let Some((group, public)) = key_exchange(request) else { return Vec::new() };
    let expected = shake.additional.pop_front();
    let made = Group::from_number(group)
        .filter(|group| expected == Some(*group))
        .and_then(|group| kex::respond(group, public).ok())
        .and_then(|(public, shared)| mixed(sa, &shared).map(|keys| (public, keys)));
    let Some((public, keys)) = made else {
        let what = "an additional key exchange that was not agreed on".to_owned();
        engine.fail_unproven(now, None, sa.path, protocol(what));
        sa.end(DownReason::Dead);
        return vec![Payload::Notify(Notify::new(notify::INVALID_SYNTAX, Vec::new()))];
    };
    if let Phase::Handshake(shake) = &mut sa.phase {
        shake.next_keys = Some(keys);
    }
    vec![Payload::KeyExchange { group, data: public }]
}

/// The answer is sealed, still with the old keys: the new ones hold from now on.
pub(super) fn answered(sa: &mut IkeSa, header: &Header, payloads: &[Payload]) {
    let (inner, plain) = message::encode_payloads(payloads);
    sign(sa, header, inner, &plain);
    if let Phase::Handshake(shake) = &mut sa.phase
        && let Some(keys) = shake.next_keys.take()
    {
        sa.keys = Some(keys);
    }
}
