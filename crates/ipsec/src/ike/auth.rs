//! IKE_AUTH (RFC 7296, 1.2 and 2.15): who the ends are, and the first child SA.

use std::sync::Arc;
use std::time::Instant;

use model::suite::{Prf, Purpose};

use super::config::{self, Connection};
use super::connection::{self, Mode, candidates};
use super::engine::Engine;
use super::event::{DownReason, Failure};
use super::exchange::protocol;
use super::first_child::{self, Offer};
use super::identity::Identity;
use super::init::{Handshake, status};
use super::message::{self, Exchange, Notify, Payload, notify};
use super::mobike;
use super::sa::{IkeSa, Ongoing, Phase, Received, Task};
use crate::crypto::CryptoError;
use crate::crypto::auth::{METHOD_SHARED_KEY, psk_auth, psk_verify};
use crate::crypto::keys::IkeKeys;

/// What the initiator needs when the response comes.
pub(super) struct Waiting {
    offer: Option<Offer>,
    /// The keys with the PPK in them, should the other end use it.
    with_ppk: Option<IkeKeys>,
}

impl Waiting {
    /// The SPI of the child SA that was offered.
    pub(super) fn offered_spi(&self) -> Option<crate::sa::Spi> {
        self.offer.as_ref().map(|offer| offer.spi)
    }
}

/// X.509 certificate, signature.
const X509: u8 = 4;
/// PPK_ID_FIXED (RFC 8784, 5.1).
const PPK_FIXED: u8 = 2;

/// No identity of an unproven end is longer: it is told to people.
const LONGEST_ID: usize = 4096;

/// Which end's proof.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Initiator,
    Responder,
}

/// CERTREQ of the connections that believe certificates.
pub(super) fn requests(candidates: &[Arc<Connection>]) -> Vec<Payload> {
    let mut hashes: Vec<u8> = Vec::new();
    for config in candidates {
        if let config::Auth::Certificate { verifier, .. } = &config.auth {
            for hash in verifier.requests().chunks(20) {
                if !hashes.chunks(20).any(|known| known == hash) {
                    hashes.extend_from_slice(hash);
                }
            }
        }
    }
    if hashes.is_empty() { Vec::new() } else { vec![Payload::CertificateRequest(X509, hashes)] }
}

/// The octets that an end signs. `message_id` is of the IKE_AUTH exchange.
fn signed_octets(
    shake: &Handshake,
    prf_of: Prf,
    keys: &IkeKeys,
    side: Side,
    id: &Identity,
    message_id: u32,
) -> Vec<u8> {
    let (message, nonce, key) = match side {
        Side::Initiator => (&shake.request, &shake.nr, &keys.sk_pi),
        Side::Responder => (&shake.response, &shake.ni, &keys.sk_pr),
    };
    let mut int_auth = Vec::new();
    if let Some((of_initiator, of_responder)) = &shake.int_auth {
        int_auth.extend_from_slice(of_initiator);
        int_auth.extend_from_slice(of_responder);
        int_auth.extend_from_slice(&message_id.to_be_bytes());
    }
    crate::crypto::auth::signed_octets(message, nonce, prf_of, key, id, &int_auth)
}

/// This end's proof: method and data.
fn prove(
    config: &Connection,
    prf_of: Prf,
    octets: &[u8],
    hashes: &[u16],
) -> Result<(u8, Vec<u8>), CryptoError> {
    match &config.auth {
        config::Auth::Psk(key) => Ok((METHOD_SHARED_KEY, psk_auth(prf_of, key, octets))),
        config::Auth::Certificate { signer, .. } => signer.sign(octets, hashes),
    }
}

/// CERT payloads.
fn certificates(config: &Connection) -> Vec<Payload> {
    match &config.auth {
        config::Auth::Psk(_) => Vec::new(),
        config::Auth::Certificate { signer, .. } => {
            signer.chain().iter().map(|one| Payload::Certificate(X509, one.clone())).collect()
        }
    }
}

/// The other end's proof, as it came.
struct Proof<'a> {
    id: &'a Identity,
    method: u8,
    data: &'a [u8],
    chain: Vec<Vec<u8>>,
}

fn proof_of<'a>(received: &'a Received, side: Side) -> Option<Proof<'a>> {
    let id = received.payloads.iter().find_map(|payload| match (payload, side) {
        (Payload::IdInitiator(id), Side::Initiator)
        | (Payload::IdResponder(id), Side::Responder) => Some(id),
        _ => None,
    })?;
    let (method, data) = received.payloads.iter().find_map(|payload| match payload {
        Payload::Auth(method, data) => Some((*method, data.as_slice())),
        _ => None,
    })?;
    let chain = received.payloads.iter().filter_map(|payload| match payload {
        Payload::Certificate(X509, data) => Some(data.clone()),
        _ => None,
    });
    Some(Proof { id, method, data, chain: chain.collect() })
}

/// Checks a proof of the other end.
///
/// # Errors
/// What is wrong, in words.
fn check(
    engine: &Engine,
    now: Instant,
    config: &Connection,
    prf_of: Prf,
    proof: &Proof<'_>,
    octets: &[u8],
) -> Result<(), String> {
    match &config.auth {
        config::Auth::Psk(key) if proof.method == METHOD_SHARED_KEY => {
            if psk_verify(prf_of, key, octets, proof.data) {
                Ok(())
            } else {
                Err("the preshared key differs".to_owned())
            }
        }
        config::Auth::Psk(_) => {
            Err("it proves itself by a certificate, and a preshared key is configured".to_owned())
        }
        config::Auth::Certificate { .. } if proof.method == METHOD_SHARED_KEY => {
            Err("it proves itself by a preshared key, and a certificate is configured".to_owned())
        }
        config::Auth::Certificate { verifier, .. } => {
            // Whoever allows SHA-1 as prf allows it here, too.
            let allow_sha1 = prf_of == Prf::HmacSha1;
            let time = engine.unix_time(now);
            verifier
                .verify(&proof.chain, proof.id, proof.method, proof.data, octets, time, allow_sha1)
                .map_err(|error| error.to_string())
        }
    }
}

/// Begins IKE_AUTH.
pub(super) fn begin(engine: &mut Engine, now: Instant, sa: &mut IkeSa) {
    let (Some(config), Some(prf_of), Some(keys)) = (sa.config.clone(), sa.prf(), sa.keys.clone())
    else {
        return;
    };
    let name = &config.name;
    let ppk = config.ppk.as_ref().filter(|_| sa.peer.ppk);
    if config.ppk.as_ref().is_some_and(|ppk| ppk.required) && ppk.is_none() {
        let what = "the other end does not use post-quantum preshared keys".to_owned();
        engine.fail(Some(name), sa.path, protocol(what));
        sa.end(DownReason::Dead);
        return;
    }
    let with_ppk = ppk.map(|ppk| keys.with_ppk(prf_of, &ppk.key));
    let child = first_child_of(engine, sa, &config);
    sa.first_wanted = engine.connections.get(name).and_then(|state| state.acquired.clone());
    let message_id = sa.send_id;
    let Phase::Handshake(shake) = &mut sa.phase else { return };
    let id = &config.local_id;
    let proof = |keys: &IkeKeys| {
        let octets = signed_octets(shake, prf_of, keys, Side::Initiator, id, message_id);
        prove(&config, prf_of, &octets, &sa.peer.hashes)
    };
    let (main, plain) = match &with_ppk {
        None => (proof(&keys), None),
        Some(with_ppk) => (proof(with_ppk), Some(proof(&keys))),
    };
    let (method, data) = match main {
        Ok(proof) => proof,
        Err(error) => {
            engine.fail(Some(name), sa.path, protocol(error.to_string()));
            sa.end(DownReason::Dead);
            return;
        }
    };
    shake.sent_auth = true;
    let mut payloads = vec![Payload::IdInitiator(id.clone())];
    payloads.extend(certificates(&config));
    payloads.extend(requests(std::slice::from_ref(&config)));
    payloads.extend(config.remote_id.clone().map(Payload::IdResponder));
    payloads.push(Payload::Auth(method, data));
    if let Some(ppk) = ppk {
        let mut id = vec![PPK_FIXED];
        id.extend_from_slice(&ppk.id);
        payloads.push(Payload::Notify(Notify::new(notify::PPK_IDENTITY, id)));
        if let Some(Ok((_, data))) = plain.filter(|_| !ppk.required) {
            payloads.push(Payload::Notify(Notify::new(notify::NO_PPK_AUTH, data)));
        }
    }
    if is_first_contact(engine, &config) {
        payloads.push(status(notify::INITIAL_CONTACT));
    }
    if config.mobike {
        payloads.push(status(notify::MOBIKE_SUPPORTED));
    }
    let offer = child.map(|child| {
        let (offer, more) = first_child::offer(engine, child);
        payloads.extend(more);
        offer
    });
    let waiting = Ongoing::Auth(Box::new(Waiting { offer, with_ppk }));
    engine.request(now, sa, Exchange::Auth, &payloads, waiting);
}

/// The child SA that IKE_AUTH makes: the one a packet waits for, or the first.
fn first_child_of(engine: &Engine, sa: &IkeSa, config: &Connection) -> Option<config::Child> {
    if config.childless && sa.peer.childless {
        return None;
    }
    let wanted = engine.connections.get(&config.name).and_then(|state| state.acquired.as_ref());
    let wanted = config.children.iter().find(|child| Some(&child.name) == wanted);
    wanted.or(config.children.first()).cloned()
}

/// Whether this end knows of no other IKE SA with the same ends.
fn is_first_contact(engine: &Engine, config: &Connection) -> bool {
    engine.connections.get(&config.name).is_some_and(|state| {
        state.ikes.iter().filter_map(|id| engine.sas.get(id)).all(|sa| sa.since.is_none())
    })
}

/// The response has come.
pub(super) fn response(
    engine: &mut Engine,
    now: Instant,
    sa: &mut IkeSa,
    waiting: Waiting,
    received: &Received,
) {
    let Waiting { offer, with_ppk } = waiting;
    let Some(config) = sa.config.clone() else { return };
    match accept(engine, now, sa, &config, with_ppk, received) {
        Ok(remote_id) => sa.remote_id = Some(remote_id),
        Err(refusal) => {
            if let Some(offer) = offer {
                engine.free_esp_spi(offer.spi);
            }
            engine.fail(Some(&config.name), sa.path, refusal.failure);
            if refusal.is_theirs {
                sa.end(DownReason::Dead);
            } else {
                // The other end believes that the IKE SA is there (RFC 7296, 2.21.2).
                sa.phase = Phase::Ending(DownReason::Dead);
                let payloads = [
                    status(notify::AUTHENTICATION_FAILED),
                    Payload::Delete { protocol: 1, spis: Vec::new() },
                ];
                let exchange = Exchange::Informational;
                engine.request(now, sa, exchange, &payloads, Ongoing::DeleteIke);
            }
            return;
        }
    }
    sa.peer.mobike = config.mobike && received.notify(notify::MOBIKE_SUPPORTED).is_some();
    mobike::note_addresses(sa, &received.payloads);
    let nonces = nonces(sa);
    connection::established(engine, now, sa, false);
    if let (Some(offer), Some((ni, nr))) = (offer, nonces) {
        first_child::accept(engine, now, sa, offer, received, &ni, &nr);
    }
    more_children(engine, sa, &config);
}

fn nonces(sa: &IkeSa) -> Option<(Vec<u8>, Vec<u8>)> {
    match &sa.phase {
        Phase::Handshake(shake) => Some((shake.ni.clone(), shake.nr.clone())),
        _ => None,
    }
}

/// Children beside the first: all of a connection that is to be up, else what a packet waits for.
fn more_children(engine: &Engine, sa: &mut IkeSa, config: &Connection) {
    let Some(state) = engine.connections.get(&config.name) else { return };
    for child in &config.children {
        let is_wanted = state.mode == Mode::Up || sa.first_wanted.as_ref() == Some(&child.name);
        let is_tried = sa.first_tried.as_ref() == Some(&child.name);
        if is_wanted && !is_tried && sa.children.iter().all(|one| one.config.name != child.name) {
            sa.enqueue(Task::CreateChild(child.name.clone()));
        }
    }
}

/// Why the other end is not accepted.
struct Refusal {
    failure: Failure,
    /// The other end has refused us.
    is_theirs: bool,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self { failure, is_theirs: false }
    }
}

/// Checks the responder's proof; then the IKE SA has its final keys.
fn accept(
    engine: &Engine,
    now: Instant,
    sa: &mut IkeSa,
    config: &Connection,
    with_ppk: Option<IkeKeys>,
    received: &Received,
) -> Result<Identity, Refusal> {
    let (Some(prf_of), Some(keys)) = (sa.prf(), sa.keys.as_ref()) else {
        return Err(protocol("no keys".to_owned()).into());
    };
    let Some(proof) = proof_of(received, Side::Responder) else {
        let failure = match received.error() {
            Some(error) if error.kind == notify::AUTHENTICATION_FAILED => Failure::RefusedByPeer {
                our_id: config.local_id.clone(),
                their_id: config.remote_id.clone(),
            },
            Some(error) => connection::notified(error),
            None => protocol("IKE_AUTH was answered without a proof".to_owned()),
        };
        return Err(Refusal { failure, is_theirs: received.error().is_some() });
    };
    if config.remote_id.as_ref().is_some_and(|expected| !expected.is(proof.id)) {
        let expected = config.remote_id.clone();
        return Err(Failure::WrongId { theirs: proof.id.clone(), expected }.into());
    }
    let uses_ppk = received.notify(notify::PPK_IDENTITY).is_some();
    let with_ppk = with_ppk.filter(|_| uses_ppk);
    if config.ppk.as_ref().is_some_and(|ppk| ppk.required) && with_ppk.is_none() {
        let what = "the other end does not use the post-quantum preshared key".to_owned();
        return Err(protocol(what).into());
    }
    let keys = with_ppk.as_ref().unwrap_or(keys);
    let Phase::Handshake(shake) = &sa.phase else {
        return Err(protocol("IKE_AUTH came twice".to_owned()).into());
    };
    let message_id = received.header.message_id;
    let octets = signed_octets(shake, prf_of, keys, Side::Responder, proof.id, message_id);
    check(engine, now, config, prf_of, &proof, &octets)
        .map_err(|why| Failure::BadProof { their_id: proof.id.clone(), why })?;
    let remote_id = proof.id.clone();
    if let Some(keys) = with_ppk {
        sa.keys = Some(keys);
    }
    Ok(remote_id)
}

/// What the responder has found good.
struct Accepted {
    config: Arc<Connection>,
    remote_id: Identity,
    keys: IkeKeys,
    uses_ppk: bool,
}

/// A request has come.
pub(super) fn answer(
    engine: &mut Engine,
    now: Instant,
    sa: &mut IkeSa,
    request: &Received,
) -> Vec<Payload> {
    let refused = vec![status(notify::AUTHENTICATION_FAILED)];
    let accepted = match examine(engine, now, sa, request) {
        Ok(accepted) => accepted,
        Err((config, failure)) => {
            let name = config.map(|config| config.name.clone());
            engine.fail_unproven(now, name.as_ref(), sa.path, failure);
            sa.end(DownReason::Dead);
            return refused;
        }
    };
    let Accepted { config, remote_id, keys, uses_ppk } = accepted;
    let own = own_proof(sa, &config, &keys, request.header.message_id);
    let (method, data) = match own {
        Ok(proof) => proof,
        Err(what) => {
            engine.fail(Some(&config.name), sa.path, protocol(what));
            sa.end(DownReason::Dead);
            return refused;
        }
    };
    let nonces = nonces(sa);
    sa.keys = Some(keys);
    sa.remote_id = Some(remote_id);
    sa.peer.mobike = config.mobike && request.notify(notify::MOBIKE_SUPPORTED).is_some();
    mobike::note_addresses(sa, &request.payloads);
    sa.peer.fragmentation &= config.fragmentation;
    sa.config = Some(Arc::clone(&config));
    if request.notify(notify::INITIAL_CONTACT).is_some() {
        end_older(engine, now, sa, &config);
    }
    end_surplus(engine, now, sa, &config);
    let mut payloads = vec![Payload::IdResponder(config.local_id.clone())];
    payloads.extend(certificates(&config));
    payloads.push(Payload::Auth(method, data));
    if uses_ppk {
        payloads.push(status(notify::PPK_IDENTITY));
    }
    if sa.peer.mobike {
        payloads.push(status(notify::MOBIKE_SUPPORTED));
    }
    connection::established(engine, now, sa, false);
    if let Some((ni, nr)) = nonces {
        payloads.extend(first_child::answer(engine, now, sa, request, &ni, &nr));
    }
    payloads
}

fn own_proof(
    sa: &IkeSa,
    config: &Connection,
    keys: &IkeKeys,
    message_id: u32,
) -> Result<(u8, Vec<u8>), String> {
    let (Phase::Handshake(shake), Some(prf_of)) = (&sa.phase, sa.prf()) else {
        return Err("IKE_AUTH came twice".to_owned());
    };
    let id = &config.local_id;
    let octets = signed_octets(shake, prf_of, keys, Side::Responder, id, message_id);
    prove(config, prf_of, &octets, &sa.peer.hashes).map_err(|error| error.to_string())
}

/// The other end has begun anew: its older IKE SAs are no more.
fn end_older(engine: &mut Engine, now: Instant, sa: &IkeSa, config: &Connection) {
    let Some(state) = engine.connections.get(&config.name) else { return };
    for id in state.ikes.clone() {
        engine.with_sa(now, id, |_, other| {
            let is_older = other.since.is_some_and(|since| since <= sa.begun);
            let is_same = match (&other.remote_id, &sa.remote_id) {
                (Some(one), Some(other)) => one.is(other),
                _ => false,
            };
            if is_older && is_same {
                other.end(DownReason::PeerRestarted);
            }
        });
    }
}

/// So many IKE SAs of a connection with the same other end are left when it makes another one.
const AT_ONCE: usize = 8;

/// Whoever authenticates again and again gets no more than its share: the oldest ones go.
fn end_surplus(engine: &mut Engine, now: Instant, sa: &IkeSa, config: &Connection) {
    let Some(state) = engine.connections.get(&config.name) else { return };
    let ikes = state.ikes.iter().filter_map(|id| engine.sas.get(id));
    let mut same: Vec<_> = ikes
        .filter(|other| other.is_established() && other.remote_id == sa.remote_id)
        .map(|other| (other.since, other.id))
        .collect();
    same.sort_unstable();
    let surplus = (same.len() + 1).saturating_sub(AT_ONCE);
    for (_, id) in same.into_iter().take(surplus) {
        engine.with_sa(now, id, |_, other| other.end_politely(DownReason::Replaced));
    }
}

type Examined = Result<Accepted, (Option<Arc<Connection>>, Failure)>;

/// Finds the connection that the initiator means, and checks its proof.
fn examine(engine: &mut Engine, now: Instant, sa: &IkeSa, request: &Received) -> Examined {
    let nobody = |what: &str| Err((None, protocol(what.to_owned())));
    let (Phase::Handshake(shake), Some(suite)) = (&sa.phase, &sa.suite) else {
        return nobody("IKE_AUTH came twice");
    };
    if !shake.additional.is_empty() {
        return nobody("IKE_AUTH came before the additional key exchanges");
    }
    let Some(proof) = proof_of(request, Side::Initiator) else {
        // Without AUTH it asks for EAP.
        return nobody("the other end wants EAP, or sent no proof");
    };
    if proof.id.data.len() > LONGEST_ID {
        return nobody("the other end's identity is longer than any");
    }
    let asked = request.payloads.iter().find_map(|payload| match payload {
        Payload::IdResponder(id) => Some(id),
        _ => None,
    });
    let wire = message::offer(std::slice::from_ref(suite), Purpose::Ike, &[]);
    let fitting: Vec<_> = candidates(engine, sa.path)
        .into_iter()
        .filter(|one| message::choose(&one.proposals, Purpose::Ike, &wire, None).is_some())
        .collect();
    let knows = |config: &&Arc<Connection>| {
        config.remote_id.as_ref().is_none_or(|expected| expected.is(proof.id))
    };
    let is_asked = |config: &&Arc<Connection>| asked.is_none_or(|asked| asked.is(&config.local_id));
    let mut ranked: Vec<_> = fitting.iter().filter(knows).filter(is_asked).collect();
    // Whom a connection names comes before whom it takes among others; the order by address
    // stays otherwise.
    ranked.sort_by_key(|config| config.remote_id.is_none());
    let Some(first) = ranked.first().map(|config| Arc::clone(config)) else {
        engine.counters.unknown_peer += 1;
        return Err(match (fitting.iter().find(knows), asked) {
            (Some(config), Some(asked)) => {
                let (asked, ours) = (asked.clone(), config.local_id.clone());
                (Some(Arc::clone(config)), Failure::AskedForAnother { asked, ours })
            }
            _ => {
                let first = fitting.first().cloned();
                let expected = first.as_ref().and_then(|config| config.remote_id.clone());
                (first, Failure::WrongId { theirs: proof.id.clone(), expected })
            }
        });
    };
    let mut worst = None;
    for config in ranked {
        match examine_for(engine, now, sa, request, &proof, config) {
            Ok(accepted) => return Ok(accepted),
            Err(failure) => {
                worst.get_or_insert(failure);
            }
        }
    }
    Err((Some(first), worst.unwrap_or_else(|| protocol("no proof".to_owned()))))
}

fn examine_for(
    engine: &Engine,
    now: Instant,
    sa: &IkeSa,
    request: &Received,
    proof: &Proof<'_>,
    config: &Arc<Connection>,
) -> Result<Accepted, Failure> {
    let (Phase::Handshake(shake), Some(prf_of), Some(keys)) = (&sa.phase, sa.prf(), &sa.keys)
    else {
        return Err(protocol("IKE_AUTH came twice".to_owned()));
    };
    let named = request.notify(notify::PPK_IDENTITY).map(|notify| notify.data.as_slice());
    let ppk = config.ppk.as_ref().filter(|ppk| {
        matches!(named.and_then(|named| named.split_first()),
            Some((_, id)) if sa.peer.ppk && *id == ppk.id)
    });
    let bad = |why: String| Failure::BadProof { their_id: proof.id.clone(), why };
    if config.ppk.as_ref().is_some_and(|ppk| ppk.required) && ppk.is_none() {
        return Err(bad("it does not use the post-quantum preshared key".to_owned()));
    }
    let message_id = request.header.message_id;
    let octets =
        |keys: &IkeKeys| signed_octets(shake, prf_of, keys, Side::Initiator, proof.id, message_id);
    let accepted = |keys: IkeKeys, uses_ppk| Accepted {
        config: Arc::clone(config),
        remote_id: proof.id.clone(),
        keys,
        uses_ppk,
    };
    if let Some(ppk) = ppk {
        let with_ppk = keys.with_ppk(prf_of, &ppk.key);
        check(engine, now, config, prf_of, proof, &octets(&with_ppk)).map_err(|why| {
            let plain = request.notify(notify::NO_PPK_AUTH).is_some_and(|notify| {
                let proof = Proof { data: &notify.data, chain: proof.chain.clone(), ..*proof };
                check(engine, now, config, prf_of, &proof, &octets(keys)).is_ok()
            });
            bad(if plain { "the post-quantum preshared key differs".to_owned() } else { why })
        })?;
        return Ok(accepted(with_ppk, true));
    }
    let without = match (named, request.notify(notify::NO_PPK_AUTH)) {
        (None, _) => Proof { chain: proof.chain.clone(), ..*proof },
        (Some(_), Some(notify)) => {
            Proof { data: &notify.data, chain: proof.chain.clone(), ..*proof }
        }
        (Some(_), None) => {
            return Err(bad("it demands a post-quantum preshared key that is unknown".to_owned()));
        }
    };
    check(engine, now, config, prf_of, &without, &octets(keys)).map_err(bad)?;
    Ok(accepted(keys.clone(), false))
}
