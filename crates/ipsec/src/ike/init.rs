//! IKE_SA_INIT (RFC 7296, 1.2): key exchange and proposals, cookies, NAT detection, what each end
//! can do.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::suite::{Group, Proposal, Purpose};

use super::config::Connection;
use super::connection::{self, candidates};
use super::engine::Engine;
use super::event::{DownReason, Failure};
use super::exchange::{fingerprint, protocol};
use super::limits::Verdict;
use super::message::{
    self, DecodeError, Exchange, Header, Message, Notify, Payload, WireProposal, notify,
};
use super::sa::{Answered, IkeSa, Ongoing, Peer, Phase, find_error, find_notify};
use super::{intermediate, nat, transmit};
use crate::crypto::auth::SIGNATURE_HASHES;
use crate::crypto::kex::{self, KeyExchange};
use crate::crypto::keys::IkeKeys;
use crate::sa::{ConnectionName, Path};

/// What an IKE SA needs only until it is established.
pub(super) struct Handshake {
    pub(super) ni: Vec<u8>,
    pub(super) nr: Vec<u8>,
    /// The IKE_SA_INIT messages as they went over the wire: both ends sign theirs.
    pub(super) request: Vec<u8>,
    pub(super) response: Vec<u8>,
    /// Additional key exchanges that are still to be done (RFC 9370).
    pub(super) additional: VecDeque<Group>,
    /// What both ends sign of IKE_INTERMEDIATE (RFC 9242): initiator, responder.
    pub(super) int_auth: Option<(Vec<u8>, Vec<u8>)>,
    /// Keys that hold once the answer has gone.
    pub(super) next_keys: Option<IkeKeys>,
    /// Whether this end has sent its proof.
    pub(super) sent_auth: bool,
    kex: Option<KeyExchange>,
    tried: Vec<Group>,
    cookie: Option<Vec<u8>>,
    cookies: u8,
    /// An error that anyone may have sent. It is told at once, and believed if nothing else comes.
    doubt: Option<Failure>,
}

/// How long another answer is waited for after an error that anyone may have sent.
const DOUBT: Duration = Duration::from_secs(3);
/// Cookies are brought back so often at most.
const COOKIES: u8 = 3;

impl Handshake {
    pub(super) fn new(ni: Vec<u8>, nr: Vec<u8>) -> Self {
        Self {
            ni,
            nr,
            request: Vec::new(),
            response: Vec::new(),
            additional: VecDeque::new(),
            int_auth: None,
            next_keys: None,
            sent_auth: false,
            kex: None,
            tried: Vec::new(),
            cookie: None,
            cookies: 0,
            doubt: None,
        }
    }
}

/// Begins an IKE SA. `paced` is the address under which [`super::limits::Pace`] counts it.
pub(super) fn begin(
    engine: &mut Engine,
    now: Instant,
    config: Arc<Connection>,
    path: Path,
    paced: Option<IpAddr>,
) {
    let hint = engine.connections.get(&config.name).and_then(|state| state.group);
    let offered = || config.proposals.iter().flat_map(|one| &one.groups).copied();
    let Some(group) = hint.filter(|hint| offered().any(|one| one == *hint)).or(offered().next())
    else {
        let what = "no key exchange is configured".to_owned();
        if let Some(remote) = paced {
            connection::next_in_line(engine, now, remote);
        }
        engine.fail(Some(&config.name), path, protocol(what));
        return;
    };
    let spi = engine.new_spi();
    let nonce = engine.nonce();
    let phase = Phase::Handshake(Box::new(Handshake::new(nonce, Vec::new())));
    let mut sa = Box::new(IkeSa::new(engine.new_ike_id(), now, true, path, (spi, 0), phase));
    sa.keepalive = Some(engine.settings.nat_keepalive).filter(|every| !every.is_zero());
    sa.paced = paced;
    engine.by_spi.insert(spi, sa.id);
    if let Some(state) = engine.connections.get_mut(&config.name) {
        state.ikes.push(sa.id);
    }
    sa.config = Some(config);
    ask(engine, now, &mut sa, group);
    engine.put_back(now, sa);
}

/// Sends the request with a key exchange of this group.
fn ask(engine: &mut Engine, now: Instant, sa: &mut IkeSa, group: Group) {
    let begun = KeyExchange::begin(group);
    let (Phase::Handshake(shake), Some(config)) = (&mut sa.phase, &sa.config) else { return };
    let Ok((kex, public)) = begun else {
        engine.fail(
            Some(&config.name),
            sa.path,
            protocol(format!("no key of {} can be made", group.name())),
        );
        sa.end(DownReason::Dead);
        return;
    };
    shake.kex = Some(kex);
    shake.tried.push(group);
    let mut payloads = Vec::new();
    if let Some(cookie) = &shake.cookie {
        payloads.push(Payload::Notify(Notify::new(notify::COOKIE, cookie.clone())));
    }
    payloads.push(Payload::Sa(message::offer(&config.proposals, Purpose::Ike, &[])));
    payloads.push(Payload::KeyExchange { group: group.number(), data: public });
    payloads.push(Payload::Nonce(shake.ni.clone()));
    let spis = (sa.spi_i, 0);
    payloads.extend(nat::payloads(engine.rng.as_mut(), spis, sa.path, config.force_udp));
    payloads.extend(abilities(config.fragmentation));
    if config.proposals.iter().any(|one| !one.additional.is_empty()) {
        payloads.push(status(notify::INTERMEDIATE_EXCHANGE_SUPPORTED));
    }
    if config.ppk.is_some() {
        payloads.push(status(notify::USE_PPK));
    }
    sa.send_id = 0;
    let header = transmit::header(sa, Exchange::SaInit, 0, false);
    let octets = Message { header, payloads }.encode();
    if let Phase::Handshake(shake) = &mut sa.phase {
        shake.request.clone_from(&octets);
    }
    transmit::capture_clear(engine, now, sa.path, true, &octets);
    engine.request_as(now, sa, Exchange::SaInit, vec![octets], Ongoing::Init);
}

/// A notification without data.
pub(super) fn status(kind: u16) -> Payload {
    Payload::Notify(Notify::new(kind, Vec::new()))
}

/// What both ends say of themselves.
fn abilities(fragmentation: bool) -> Vec<Payload> {
    let hashes = SIGNATURE_HASHES.iter().flat_map(|hash| hash.to_be_bytes()).collect();
    let mut payloads =
        vec![Payload::Notify(Notify::new(notify::SIGNATURE_HASH_ALGORITHMS, hashes))];
    if fragmentation {
        payloads.push(status(notify::IKEV2_FRAGMENTATION_SUPPORTED));
    }
    payloads
}

/// What the other end says of itself.
fn abilities_of(payloads: &[Payload], fragmentation: bool) -> Peer {
    let has = |kind| find_notify(payloads, kind).is_some();
    let hashes = find_notify(payloads, notify::SIGNATURE_HASH_ALGORITHMS);
    Peer {
        fragmentation: fragmentation && has(notify::IKEV2_FRAGMENTATION_SUPPORTED),
        mobike: false,
        childless: has(notify::CHILDLESS_IKEV2_SUPPORTED),
        ppk: has(notify::USE_PPK),
        hashes: hashes
            .map(|one| one.data.as_chunks::<2>().0.iter().map(|two| u16::from_be_bytes(*two)))
            .map(Iterator::collect)
            .unwrap_or_default(),
    }
}

/// The payloads that make a request or response what it is.
struct Core<'a> {
    proposals: &'a [WireProposal],
    group: u16,
    public: &'a [u8],
    nonce: &'a [u8],
}

fn core(payloads: &[Payload]) -> Option<Core<'_>> {
    let proposals = payloads.iter().find_map(|payload| match payload {
        Payload::Sa(proposals) => Some(proposals.as_slice()),
        _ => None,
    })?;
    let (group, public) = payloads.iter().find_map(|payload| match payload {
        Payload::KeyExchange { group, data } => Some((*group, data.as_slice())),
        _ => None,
    })?;
    let nonce = payloads.iter().find_map(|payload| match payload {
        Payload::Nonce(nonce) if (16..=256).contains(&nonce.len()) => Some(nonce.as_slice()),
        _ => None,
    })?;
    Some(Core { proposals, group, public, nonce })
}

/// A response has come.
pub(super) fn receive_response(
    engine: &mut Engine,
    now: Instant,
    path: Path,
    message: Message,
    datagram: &[u8],
) {
    let header = message.header;
    let is_ours = engine.by_spi.get(&header.initiator_spi).copied().filter(|id| {
        engine.sas.get(id).is_some_and(|sa| {
            sa.initiator
                && sa.path.remote.ip() == path.remote.ip()
                && !header.from_initiator
                && header.message_id == 0
                && matches!(&sa.pending, Some(one) if matches!(one.ongoing, Ongoing::Init))
        })
    });
    let Some(id) = is_ours else {
        engine.counters.out_of_window += 1;
        return;
    };
    transmit::capture_clear(engine, now, path, false, datagram);
    engine.with_sa(now, id, |engine, sa| response(engine, now, sa, path, &message, datagram));
}

fn response(
    engine: &mut Engine,
    now: Instant,
    sa: &mut IkeSa,
    path: Path,
    message: &Message,
    datagram: &[u8],
) {
    let Some(config) = sa.config.clone() else { return };
    let Phase::Handshake(shake) = &mut sa.phase else { return };
    let payloads = &message.payloads;
    if let Some(cookie) = find_notify(payloads, notify::COOKIE)
        && core(payloads).is_none()
    {
        let is_fit = (1..=64).contains(&cookie.data.len());
        if is_fit && shake.cookies < COOKIES && shake.cookie.as_ref() != Some(&cookie.data) {
            shake.cookies += 1;
            shake.cookie = Some(cookie.data.clone());
            // The same request with the cookie before it: same nonce, same key exchange.
            if let Some(group) = shake.tried.pop() {
                ask(engine, now, sa, group);
            }
        }
        return;
    }
    if let Some(refused) = find_notify(payloads, notify::INVALID_KE_PAYLOAD) {
        let wanted = refused.data.first_chunk::<2>().map(|two| u16::from_be_bytes(*two));
        let group = wanted.and_then(Group::from_number);
        let mut offered = config.proposals.iter().flat_map(|one| &one.groups);
        if let Some(group) = group.filter(|group| offered.any(|one| one == group))
            && !shake.tried.contains(&group)
        {
            ask(engine, now, sa, group);
            return;
        }
    }
    if find_error(payloads).is_some() {
        doubt(engine, now, sa, path, message);
        return;
    }
    let accepted = core(payloads).filter(|_| message.header.responder_spi != 0).and_then(|core| {
        let [proposal] = core.proposals else { return None };
        let suite = message::accept(&config.proposals, Purpose::Ike, proposal)?;
        let group = shake.kex.as_ref()?.group();
        let is_fit = suite.groups.first() == Some(&group) && core.group == group.number();
        is_fit.then_some((core, suite))
    });
    let Some((core, suite)) = accepted else {
        let what = "the answer to IKE_SA_INIT is not one to our request".to_owned();
        doubted(engine, now, sa, path, protocol(what));
        return;
    };
    let Some(kex) = shake.kex.take() else { return };
    let keys = kex.finish(core.public).and_then(|shared| {
        let spi_r = message.header.responder_spi;
        IkeKeys::derive(&suite, &shared, &shake.ni, core.nonce, sa.spi_i, spi_r)
    });
    let keys = match keys {
        Ok(keys) => keys,
        Err(error) => {
            engine.fail(Some(&config.name), path, protocol(error.to_string()));
            sa.end(DownReason::Dead);
            return;
        }
    };
    shake.nr = core.nonce.to_vec();
    shake.response = datagram.to_vec();
    shake.additional = suite.additional.iter().filter_map(|one| one.first().copied()).collect();
    shake.doubt = None;
    let nat = nat::detect(payloads, (sa.spi_i, message.header.responder_spi), path);
    sa.spi_r = message.header.responder_spi;
    sa.keys = Some(keys);
    sa.suite = Some(suite);
    sa.peer = abilities_of(payloads, config.fragmentation);
    sa.pending = None;
    sa.path = path;
    sa.last_heard = now;
    // An unspecified address of ours is no sign of NAT.
    sa.nat = nat.unwrap_or_default();
    sa.udp = nat.is_some_and(|(here, there)| here || there || config.force_udp);
    if sa.udp || (nat.is_some() && config.mobike) {
        sa.path = nat::to_nat_port(&engine.settings, path);
    }
    intermediate::begin(engine, now, sa);
}

/// An error notification in the clear has come for an unfinished IKE SA: anyone may have sent it,
/// so what is true may still come (RFC 7296, 2.21.1).
pub(super) fn doubt(
    engine: &mut Engine,
    now: Instant,
    sa: &mut IkeSa,
    path: Path,
    message: &Message,
) {
    let (Some(config), Some(error)) = (&sa.config, find_error(&message.payloads)) else { return };
    let failure = match error.kind {
        notify::NO_PROPOSAL_CHOSEN => {
            Failure::NoProposal { ike: true, ours: config.proposals.clone(), theirs: None }
        }
        notify::INVALID_MAJOR_VERSION => Failure::OldVersion,
        _ => connection::notified(error),
    };
    doubted(engine, now, sa, path, failure);
}

fn doubted(engine: &mut Engine, now: Instant, sa: &mut IkeSa, path: Path, failure: Failure) {
    let name = sa.connection().cloned();
    let (Phase::Handshake(shake), Some(pending)) = (&mut sa.phase, &mut sa.pending) else { return };
    if shake.doubt.is_none() {
        shake.doubt = Some(failure.clone());
        pending.give_up = Some(now + DOUBT);
        engine.fail(name.as_ref(), path, failure);
    }
}

/// A request of an unfinished IKE SA was never answered.
pub(super) fn unanswered(engine: &mut Engine, now: Instant, sa: &mut IkeSa, ongoing: &Ongoing) {
    let _ = now;
    let Phase::Handshake(shake) = &sa.phase else { return };
    if shake.doubt.is_none() {
        let is_on_nat_port = sa.path.local.port() == engine.settings.nat_port;
        let to_nat_port = is_on_nat_port && !matches!(ongoing, Ongoing::Init);
        engine.fail(sa.connection().cloned().as_ref(), sa.path, Failure::NoAnswer { to_nat_port });
    }
    sa.end(DownReason::Dead);
}

/// A half-open IKE SA has not been finished in time.
pub(super) fn expired(engine: &mut Engine, now: Instant, sa: &mut IkeSa) {
    let _ = (engine, now);
    sa.end(DownReason::Dead);
}

/// A request has come.
pub(super) fn receive_request(
    engine: &mut Engine,
    now: Instant,
    path: Path,
    message: Message,
    datagram: &[u8],
) {
    let header = message.header;
    let source = path.remote.ip();
    if let Some(id) = engine.by_request.get(&(source, header.initiator_spi)).copied() {
        again(engine, now, id, path, datagram);
        return;
    }
    let is_first = header.initiator_spi != 0
        && header.responder_spi == 0
        && header.message_id == 0
        && header.from_initiator;
    let Some(core) = core(&message.payloads).filter(|_| is_first) else {
        engine.counters.malformed += 1;
        return;
    };
    if is_own(engine, &header) {
        engine.counters.unauthentic += 1;
        return;
    }
    if engine.shutdown {
        return;
    }
    match engine.limits.verdict(&engine.settings, source) {
        Verdict::Welcome if engine.cookies.are_wanted(now) => {
            if !has_cookie(engine, now, path, &message, core.nonce) {
                return;
            }
        }
        Verdict::Welcome => {}
        Verdict::Refused => {
            engine.counters.limited += 1;
            return;
        }
        Verdict::Cookie => {
            if !has_cookie(engine, now, path, &message, core.nonce) {
                return;
            }
        }
    }
    transmit::capture_clear(engine, now, path, false, datagram);
    answer(engine, now, path, &message, &core, datagram);
}

/// Whether a request is one of this end's that somebody has sent back: this end would prove to
/// itself that it has the key.
fn is_own(engine: &Engine, header: &Header) -> bool {
    let id = engine.by_spi.get(&header.initiator_spi);
    id.and_then(|id| engine.sas.get(id)).is_some_and(|sa| sa.initiator)
}

/// A request that was answered has come again.
fn again(engine: &mut Engine, now: Instant, id: crate::sa::IkeSaId, path: Path, datagram: &[u8]) {
    engine.with_sa(now, id, |engine, sa| {
        let request = fingerprint(datagram);
        match sa.answered.take() {
            Some(mut answered) if answered.message_id == 0 && answered.request == request => {
                if answered.may_go_again() {
                    engine.counters.retransmitted_answers += 1;
                    transmit::send_to(engine, now, sa, path, &answered.datagrams);
                }
                sa.answered = Some(answered);
            }
            other => {
                sa.answered = other;
                engine.counters.out_of_window += 1;
            }
        }
    });
}

/// Whether a request has a good cookie. If not, it gets one.
fn has_cookie(
    engine: &mut Engine,
    now: Instant,
    path: Path,
    message: &Message,
    nonce: &[u8],
) -> bool {
    engine.cookies.rotate(engine.rng.as_mut(), now);
    let (source, spi) = (path.remote.ip(), message.header.initiator_spi);
    if let Some(cookie) = find_notify(&message.payloads, notify::COOKIE) {
        if engine.cookies.is_good(&cookie.data, source, spi, nonce) {
            return true;
        }
        engine.counters.cookies_wrong += 1;
    }
    engine.counters.cookies_sent += 1;
    let cookie = engine.cookies.make(source, spi, nonce);
    refuse(engine, now, path, &message.header, Notify::new(notify::COOKIE, cookie));
    false
}

/// Answers an IKE_SA_INIT request with a notification, without any state.
fn refuse(engine: &mut Engine, now: Instant, path: Path, to: &Header, notify: Notify) {
    let header = Header { from_initiator: false, response: true, ..*to };
    let payloads = vec![Payload::Notify(notify)];
    transmit::send_clear(engine, now, path, &Message { header, payloads });
}

/// What a responder has chosen, and for the sake of which connections.
struct Choice {
    chosen: message::Chosen,
    candidates: Vec<Arc<Connection>>,
}

fn choose(engine: &mut Engine, path: Path, message: &Message, core: &Core<'_>) -> Option<Choice> {
    let candidates = candidates(engine, path);
    if candidates.is_empty() {
        engine.counters.unknown_peer += 1;
        return None;
    }
    let has_intermediate =
        find_notify(&message.payloads, notify::INTERMEDIATE_EXCHANGE_SUPPORTED).is_some();
    let usable = |config: &Connection| -> Vec<Proposal> {
        let all = config.proposals.iter();
        all.filter(|one| has_intermediate || one.additional.is_empty()).cloned().collect()
    };
    let prefer = Group::from_number(core.group);
    // Many connections have the same proposals, and the other end may send long lists.
    let mut tried: Vec<&[Proposal]> = Vec::new();
    let chosen = candidates.iter().find_map(|config| {
        if tried.contains(&config.proposals.as_slice()) {
            return None;
        }
        tried.push(&config.proposals);
        message::choose(&usable(config), Purpose::Ike, core.proposals, prefer)
    })?;
    Some(Choice { chosen, candidates })
}

fn answer(
    engine: &mut Engine,
    now: Instant,
    path: Path,
    message: &Message,
    core: &Core<'_>,
    datagram: &[u8],
) {
    let header = &message.header;
    let Some(Choice { chosen, candidates }) = choose(engine, path, message, core) else {
        tell_no_proposal(engine, now, path, core.proposals);
        engine.cookies.note_waste(now);
        refuse(engine, now, path, header, Notify::new(notify::NO_PROPOSAL_CHOSEN, Vec::new()));
        return;
    };
    let Some(group) = chosen.suite.groups.first().copied() else { return };
    if group.number() != core.group {
        let wanted = group.number().to_be_bytes().to_vec();
        refuse(engine, now, path, header, Notify::new(notify::INVALID_KE_PAYLOAD, wanted));
        return;
    }
    let spi_r = engine.new_spi();
    let nonce = engine.nonce();
    let made = kex::respond(group, core.public).and_then(|(public, shared)| {
        let spi_i = header.initiator_spi;
        IkeKeys::derive(&chosen.suite, &shared, core.nonce, &nonce, spi_i, spi_r)
            .map(|keys| (public, keys))
    });
    let Ok((public, keys)) = made else {
        engine.counters.malformed += 1;
        engine.cookies.note_waste(now);
        refuse(engine, now, path, header, Notify::new(notify::INVALID_SYNTAX, Vec::new()));
        return;
    };
    let spis = (header.initiator_spi, spi_r);
    let is_forced = candidates.iter().any(|config| config.force_udp);
    let nat = nat::detect(&message.payloads, spis_of_request(spis), path);
    let mut payloads = vec![
        Payload::Sa(vec![chosen.answer(&[])]),
        Payload::KeyExchange { group: group.number(), data: public },
        Payload::Nonce(nonce.clone()),
    ];
    if nat.is_some() {
        payloads.extend(nat::payloads(engine.rng.as_mut(), spis, path, is_forced));
    }
    payloads.extend(more_of_answer(message, &candidates, &chosen.suite));
    let mut shake = Box::new(Handshake::new(core.nonce.to_vec(), nonce));
    shake.request = datagram.to_vec();
    shake.additional =
        chosen.suite.additional.iter().filter_map(|one| one.first().copied()).collect();
    let answer_header =
        Header { responder_spi: spi_r, from_initiator: false, response: true, ..*header };
    let octets = Message { header: answer_header, payloads }.encode();
    shake.response.clone_from(&octets);
    let phase = Phase::Handshake(shake);
    let mut sa = Box::new(IkeSa::new(engine.new_ike_id(), now, false, path, spis, phase));
    sa.suite = Some(chosen.suite);
    sa.keys = Some(keys);
    sa.peer = abilities_of(&message.payloads, candidates.iter().any(|one| one.fragmentation));
    sa.nat = nat.unwrap_or_default();
    sa.udp = nat.is_some_and(|(here, there)| here || there || is_forced);
    sa.receive_id = 1;
    sa.half_open_until = Some(now + engine.settings.half_open_lifetime);
    sa.keepalive = Some(engine.settings.nat_keepalive).filter(|every| !every.is_zero());
    sa.counted = Some((path.remote.ip(), header.initiator_spi));
    engine.limits.add(path.remote.ip());
    engine.by_request.insert((path.remote.ip(), header.initiator_spi), sa.id);
    engine.by_spi.insert(spi_r, sa.id);
    transmit::capture_clear(engine, now, path, true, &octets);
    let datagrams = vec![octets];
    transmit::send(engine, now, &mut sa, &datagrams);
    sa.answered = Some(Answered::new(0, fingerprint(datagram), datagrams));
    engine.put_back(now, sa);
}

/// In the hashes of a request the responder's SPI is still 0.
fn spis_of_request(spis: (u64, u64)) -> (u64, u64) {
    (spis.0, 0)
}

/// What the responder says of itself.
fn more_of_answer(
    message: &Message,
    candidates: &[Arc<Connection>],
    suite: &Proposal,
) -> Vec<Payload> {
    let asks = |kind| find_notify(&message.payloads, kind).is_some();
    let any = |has: fn(&Connection) -> bool| candidates.iter().any(|config| has(config));
    let fragmentation = asks(notify::IKEV2_FRAGMENTATION_SUPPORTED) && any(|one| one.fragmentation);
    let mut payloads = super::auth::requests(candidates);
    payloads.extend(abilities(fragmentation));
    payloads.push(status(notify::CHILDLESS_IKEV2_SUPPORTED));
    if !suite.additional.is_empty() {
        payloads.push(status(notify::INTERMEDIATE_EXCHANGE_SUPPORTED));
    }
    if asks(notify::USE_PPK) && any(|one| one.ppk.is_some()) {
        payloads.push(status(notify::USE_PPK));
    }
    payloads
}

fn tell_no_proposal(engine: &mut Engine, now: Instant, path: Path, theirs: &[WireProposal]) {
    if !engine.strangers.allows(now) {
        return;
    }
    let candidates = candidates(engine, path);
    let failure = match candidates.first() {
        Some(config) => Failure::NoProposal {
            ike: true,
            ours: config.proposals.clone(),
            theirs: Some(message::describe(theirs)),
        },
        None => protocol(format!("no connection is configured with {}", path.remote.ip())),
    };
    let name: Option<ConnectionName> = candidates.first().map(|config| config.name.clone());
    engine.fail(name.as_ref(), path, failure);
}

/// A message of another version of IKE (RFC 7296, 2.5): above all of IKEv1 (RFC 9395).
pub(super) fn receive_other_version(
    engine: &mut Engine,
    now: Instant,
    path: Path,
    major: u8,
    datagram: &[u8],
) {
    engine.counters.old_version += 1;
    if !engine.clear_answers.allows(now) {
        return;
    }
    let source = path.remote.ip();
    if major == 1 && !engine.old_peers.contains(&source) {
        if engine.old_peers.len() >= 1024 {
            engine.old_peers.clear();
        }
        engine.old_peers.insert(source);
        let name = candidates(engine, path).first().map(|config| config.name.clone());
        engine.fail_unproven(now, name.as_ref(), path, Failure::OldVersion);
    }
    let is_answer = major > 1 && datagram.get(19).is_some_and(|flags| flags & 0x20 != 0);
    let Some((spis, _)) = datagram.split_first_chunk::<16>().filter(|_| !is_answer) else { return };
    let [spi_i, spi_r] = *spis.as_chunks::<8>().0 else { return };
    let header = Header {
        initiator_spi: u64::from_be_bytes(spi_i),
        responder_spi: u64::from_be_bytes(spi_r),
        exchange: Exchange::Informational,
        from_initiator: false,
        response: true,
        message_id: 0,
    };
    let payloads = vec![status(notify::INVALID_MAJOR_VERSION)];
    transmit::send_clear(engine, now, path, &Message { header, payloads });
}

/// A message that can't be read: the answer to an IKE_SA_INIT request says so where the reason
/// is a critical payload that isn't known (RFC 7296, 2.5).
pub(super) fn receive_malformed(
    engine: &mut Engine,
    now: Instant,
    path: Path,
    error: &DecodeError,
    datagram: &[u8],
) {
    let DecodeError::Critical(kind) = error else { return };
    let Some(head) = datagram.first_chunk::<28>() else { return };
    let ([spi_i, ..], [exchange, flags]) = (head.as_chunks::<8>().0, [head[18], head[19]]) else {
        return;
    };
    let is_request = exchange == 34 && flags & 0x28 == 0x08;
    if !is_request || !engine.clear_answers.allows(now) {
        return;
    }
    let header = Header {
        initiator_spi: u64::from_be_bytes(*spi_i),
        responder_spi: 0,
        exchange: Exchange::SaInit,
        from_initiator: false,
        response: true,
        message_id: 0,
    };
    let notify = Notify::new(notify::UNSUPPORTED_CRITICAL_PAYLOAD, vec![*kind]);
    refuse(engine, now, path, &header, notify);
}
