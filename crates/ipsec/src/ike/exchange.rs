//! Requests and responses of an IKE SA (RFC 7296, 2.1 to 2.4): one request at a time in each
//! direction, each answered once and again from memory, each sent again until it is answered.

use std::hash::BuildHasher;
use std::time::{Duration, Instant};

use super::engine::Engine;
use super::event::{DownReason, Failure};
use super::message::{Datagram, DecodeError, Exchange, Message, Notify, Payload, notify};
use super::sa::{Answered, IkeSa, Ongoing, Pending, Phase, Received, Task, find_error};
use super::transmit::{self, OpenError};
use super::{
    auth, child_answer, connection, create_child, followup, informational, init, intermediate,
    mobike, rekey, rekey_ike, upkeep,
};
use crate::sa::{IkeSaId, Path};

#[cfg(test)]
mod tests;

/// Begins what waits, if nothing is under way.
pub(super) fn begin_tasks(engine: &mut Engine, now: Instant, sa: &mut IkeSa) {
    while sa.gone.is_none() && sa.pending.is_none() {
        let Some(task) = sa.queue.pop_front() else { return };
        if followup::holds_back(now, sa, &task) {
            sa.enqueue_later(now + Duration::from_secs(1), task);
            continue;
        }
        begin_task(engine, now, sa, task);
    }
}

fn begin_task(engine: &mut Engine, now: Instant, sa: &mut IkeSa, task: Task) {
    match task {
        Task::CreateChild(child) => create_child::begin(engine, now, sa, &child),
        Task::RekeyChild(id) => create_child::begin_rekey(engine, now, sa, id),
        Task::DeleteChild(id) => create_child::begin_delete(engine, now, sa, id),
        Task::DeleteSpi(spi) => create_child::begin_delete_spi(engine, now, sa, spi),
        Task::RekeyIke => rekey_ike::begin(engine, now, sa),
        Task::UpdateAddresses => mobike::begin_update(engine, now, sa),
        Task::CheckPath => mobike::begin_check(engine, now, sa),
        Task::Liveness => informational::begin_liveness(engine, now, sa),
        Task::DeleteIke => informational::begin_delete_ike(engine, now, sa),
    }
}

fn answer(engine: &mut Engine, now: Instant, sa: &mut IkeSa, request: &Received) -> Vec<Payload> {
    let is_handshake = matches!(sa.phase, Phase::Handshake(_));
    // Only the initiator asks for these.
    let is_responding = is_handshake && !sa.initiator;
    match request.header.exchange {
        Exchange::Intermediate if is_responding => intermediate::answer(engine, now, sa, request),
        Exchange::Auth if is_responding => auth::answer(engine, now, sa, request),
        Exchange::Informational => informational::answer(engine, now, sa, request),
        Exchange::CreateChildSa if !is_handshake => {
            rekey_ike::chosen_by_peer(engine, now, sa);
            child_answer::answer(engine, now, sa, request)
        }
        Exchange::FollowupKe if !is_handshake => followup::answer(engine, now, sa, request),
        _ => vec![Payload::Notify(Notify::new(notify::INVALID_SYNTAX, Vec::new()))],
    }
}

fn response(
    engine: &mut Engine,
    now: Instant,
    sa: &mut IkeSa,
    ongoing: Ongoing,
    received: &Received,
) {
    match ongoing {
        // Those come in the clear: init::receive_response.
        Ongoing::Init => {}
        Ongoing::Intermediate(waiting) => {
            intermediate::response(engine, now, sa, waiting, received);
        }
        Ongoing::Auth(waiting) => auth::response(engine, now, sa, *waiting, received),
        Ongoing::CreateChild(waiting) => {
            create_child::response(engine, now, sa, *waiting, received);
        }
        Ongoing::RekeyIke(waiting) => rekey_ike::response(engine, now, sa, *waiting, received),
        Ongoing::FollowupKe(waiting) => followup::response(engine, now, sa, *waiting, received),
        Ongoing::DeleteChild(id) => create_child::deleted(engine, sa, id),
        Ongoing::UpdateAddresses(told) => mobike::updated(engine, sa, told, received),
        Ongoing::CheckPath(cookie) => mobike::checked(engine, sa, &cookie, received),
        Ongoing::Liveness => {}
        Ongoing::DeleteIke => informational::deleted_ike(sa),
    }
}

/// A request was never answered.
fn unanswered(engine: &mut Engine, now: Instant, sa: &mut IkeSa, ongoing: &Ongoing) {
    match (&sa.phase, ongoing) {
        (Phase::Ending(reason), _) => {
            let reason = reason.clone();
            sa.end(reason);
        }
        (Phase::Handshake(_), _) => init::unanswered(engine, now, sa, ongoing),
        (Phase::Established, _) => sa.end(DownReason::Dead),
    }
}

/// Something has come due.
pub(super) fn timeout(engine: &mut Engine, now: Instant, sa: &mut IkeSa) {
    resend_if_due(engine, now, sa);
    if sa.gone.is_none() && sa.half_open_until.is_some_and(|until| until <= now) {
        init::expired(engine, now, sa);
    }
    if sa.gone.is_none() && sa.liveness_at().is_some_and(|at| at <= now) {
        sa.enqueue(Task::Liveness);
    }
    if sa.gone.is_none() && sa.keepalive_at().is_some_and(|at| at <= now) {
        transmit::send(engine, now, sa, &[vec![0xff]]);
    }
    if sa.gone.is_none() && sa.rekey_at.is_some_and(|at| at <= now) {
        // Whoever rekeys sets it anew.
        sa.rekey_at = None;
        rekey_ike::is_old(engine, now, sa);
    }
    if sa.gone.is_none() {
        rekey::children_due(engine, now, sa);
    }
    if sa.gone.is_none() && sa.expires().is_some_and(|at| at <= now) {
        sa.end_politely(DownReason::Expired);
    }
    if sa.gone.is_none() {
        upkeep::due(now, sa);
    }
}

impl Engine {
    /// Sends a request. No other may be under way.
    pub(super) fn request(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        exchange: Exchange,
        payloads: &[Payload],
        ongoing: Ongoing,
    ) {
        let header = transmit::header(sa, exchange, sa.send_id, false);
        let datagrams = transmit::seal(self, now, sa, &header, payloads);
        self.request_as(now, sa, exchange, datagrams, ongoing);
    }

    /// Sends a request that is sealed already, or in the clear.
    pub(super) fn request_as(
        &mut self,
        now: Instant,
        sa: &mut IkeSa,
        exchange: Exchange,
        datagrams: Vec<Vec<u8>>,
        ongoing: Ongoing,
    ) {
        transmit::send(self, now, sa, &datagrams);
        let timeout = sa.config.as_ref().map_or(Duration::ZERO, |config| config.dpd_timeout);
        let is_handshake = matches!(sa.phase, Phase::Handshake(_));
        sa.pending = Some(Pending {
            message_id: sa.send_id,
            exchange,
            datagrams,
            ongoing,
            sent: now,
            resent: 0,
            next: now + retransmission_delay(self, exchange, 0),
            give_up: (!is_handshake && !timeout.is_zero()).then(|| now + timeout),
        });
        sa.send_id = sa.send_id.wrapping_add(1);
    }
}

/// IKE_SA_INIT goes at least so often: the other end may be back any moment.
const INIT_AGAIN: Duration = Duration::from_secs(4);

/// How long to wait after a request was sent again so many times.
fn retransmission_delay(engine: &mut Engine, exchange: Exchange, resent: u32) -> Duration {
    let settings = &engine.settings;
    let exponent = i32::try_from(resent.min(32)).unwrap_or(32);
    let factor = settings.retransmit_base.max(1.0).powi(exponent).min(1e6);
    let most = match exchange {
        Exchange::SaInit => settings.retransmit_max.min(INIT_AGAIN),
        _ => settings.retransmit_max,
    };
    let delay = settings.retransmit_first.mul_f64(factor).min(most);
    delay.mul_f64(engine.random_between(0.9, 1.1))
}

fn resend_if_due(engine: &mut Engine, now: Instant, sa: &mut IkeSa) {
    let Some(mut pending) = sa.pending.take() else { return };
    let is_over = pending.give_up.is_some_and(|at| at <= now)
        || (pending.next <= now && pending.resent >= engine.settings.retransmit_tries);
    if is_over {
        unanswered(engine, now, sa, &pending.ongoing);
        upkeep::release_spi(engine, &pending.ongoing);
        return;
    }
    if pending.next <= now {
        pending.resent += 1;
        engine.counters.retransmitted_requests += 1;
        transmit::send(engine, now, sa, &pending.datagrams);
        pending.next = now + retransmission_delay(engine, pending.exchange, pending.resent);
        sa.pending = Some(pending);
        mobike::try_another(engine, sa);
        return;
    }
    sa.pending = Some(pending);
}

/// A sealed message has come.
pub(super) fn receive_sealed(
    engine: &mut Engine,
    now: Instant,
    path: Path,
    datagram: &Datagram<'_>,
    octets: &[u8],
) {
    let header = *datagram.header();
    let own_spi = if header.from_initiator { header.responder_spi } else { header.initiator_spi };
    let known = engine.by_spi.get(&own_spi).copied().filter(|id| {
        engine.sas.get(id).is_some_and(|sa| {
            (sa.spi_i, sa.spi_r) == (header.initiator_spi, header.responder_spi)
                && sa.initiator != header.from_initiator
        })
    });
    let Some(id) = known else {
        if engine.answer_as_ghost(path, own_spi, fingerprint(octets)) {
            return;
        }
        engine.counters.unknown_spi += 1;
        if !header.response && engine.clear_answers.allows(now) {
            refuse_spi(engine, now, path, &header);
        }
        connection::stranger(engine, now, path);
        return;
    };
    engine.with_sa(now, id, |engine, sa| {
        if header.response {
            receive_response(engine, now, sa, path, datagram);
        } else {
            receive_request(engine, now, sa, path, datagram, octets);
        }
    });
}

/// RFC 7296, 2.21.4: the same SPIs and message ID, in the clear, so that nobody believes it.
fn refuse_spi(engine: &mut Engine, now: Instant, path: Path, to: &super::message::Header) {
    let mut header = *to;
    header.from_initiator = !to.from_initiator;
    header.response = true;
    let payload = Payload::Notify(Notify::new(notify::INVALID_IKE_SPI, Vec::new()));
    transmit::send_clear(engine, now, path, &Message { header, payloads: vec![payload] });
}

fn receive_request(
    engine: &mut Engine,
    now: Instant,
    sa: &mut IkeSa,
    path: Path,
    datagram: &Datagram<'_>,
    octets: &[u8],
) {
    let header = *datagram.header();
    let is_repeated = sa.answered.as_ref().is_some_and(|one| one.message_id == header.message_id);
    if is_repeated {
        answer_again(engine, now, sa, path, datagram, octets);
        return;
    }
    if header.message_id != sa.receive_id {
        engine.counters.out_of_window += 1;
        return;
    }
    let inside = match transmit::open(sa, datagram) {
        Ok(inside) => inside,
        Err(OpenError::Incomplete) => return,
        Err(OpenError::Unauthentic) => {
            engine.counters.unauthentic += 1;
            return;
        }
    };
    sa.receive_id = sa.receive_id.wrapping_add(1);
    sa.last_heard = now;
    follow(engine, sa, path);
    transmit::capture(engine, now, path, false, &header, inside.0, &inside.1);
    // The whole request counts as seen by its first datagram: fragments are sent again as a whole.
    let request = fingerprint(octets);
    let payloads = match transmit::read_inside(&inside) {
        Ok(payloads) => {
            let (inner, plain) = inside;
            let received = Received { path, header, payloads, inner, plain };
            answer(engine, now, sa, &received)
        }
        Err(error) => unreadable(engine, now, sa, path, &error),
    };
    let header = transmit::header(sa, header.exchange, header.message_id, true);
    let datagrams = transmit::seal(engine, now, sa, &header, &payloads);
    if header.exchange == Exchange::Intermediate {
        intermediate::answered(sa, &header, &payloads);
    }
    transmit::send_to(engine, now, sa, path, &datagrams);
    sa.answered = Some(Answered::new(header.message_id, request, datagrams));
}

/// A request that is authentic and can't be read (RFC 7296, 2.21.3).
fn unreadable(
    engine: &mut Engine,
    now: Instant,
    sa: &mut IkeSa,
    path: Path,
    error: &DecodeError,
) -> Vec<Payload> {
    engine.counters.malformed += 1;
    let notify = match error {
        DecodeError::Critical(kind) => {
            Notify::new(notify::UNSUPPORTED_CRITICAL_PAYLOAD, vec![*kind])
        }
        _ => Notify::new(notify::INVALID_SYNTAX, Vec::new()),
    };
    let failure = protocol(error.to_string());
    match sa.connection().cloned() {
        Some(name) => engine.fail(Some(&name), path, failure),
        None => engine.fail_unproven(now, None, path, failure),
    }
    if matches!(sa.phase, Phase::Handshake(_)) || notify.kind == notify::INVALID_SYNTAX {
        sa.end(DownReason::Peer);
    }
    vec![Payload::Notify(notify)]
}

/// Sends the answer again. A request that is not the same to the octet may be the same one cut up
/// otherwise, but has to be authentic.
fn answer_again(
    engine: &mut Engine,
    now: Instant,
    sa: &mut IkeSa,
    path: Path,
    datagram: &Datagram<'_>,
    octets: &[u8],
) {
    if matches!(datagram, Datagram::Fragment { number, .. } if *number != 1) {
        return;
    }
    let is_same = sa.answered.as_ref().is_some_and(|one| one.request == fingerprint(octets));
    if !is_same && transmit::authenticate(sa, datagram).is_err() {
        engine.counters.out_of_window += 1;
        return;
    }
    if let Some(mut answered) = sa.answered.take() {
        if answered.may_go_again() {
            engine.counters.retransmitted_answers += 1;
            transmit::send_to(engine, now, sa, path, &answered.datagrams);
        }
        sa.answered = Some(answered);
    }
}

fn receive_response(
    engine: &mut Engine,
    now: Instant,
    sa: &mut IkeSa,
    path: Path,
    datagram: &Datagram<'_>,
) {
    let header = *datagram.header();
    let is_expected = sa.pending.as_ref().is_some_and(|pending| {
        (pending.message_id, pending.exchange) == (header.message_id, header.exchange)
            && !matches!(pending.ongoing, Ongoing::Init)
    });
    if !is_expected {
        engine.counters.out_of_window += 1;
        return;
    }
    let inside = match transmit::open(sa, datagram) {
        Ok(inside) => inside,
        Err(OpenError::Incomplete) => return,
        Err(OpenError::Unauthentic) => {
            engine.counters.unauthentic += 1;
            return;
        }
    };
    let Some(pending) = sa.pending.take() else { return };
    sa.last_heard = now;
    follow(engine, sa, path);
    if pending.resent == 0 {
        sa.round_trip = Some(now.saturating_duration_since(pending.sent));
    }
    transmit::capture(engine, now, path, false, &header, inside.0, &inside.1);
    match transmit::read_inside(&inside) {
        Ok(payloads) => {
            let (inner, plain) = inside;
            let received = Received { path, header, payloads, inner, plain };
            response(engine, now, sa, pending.ongoing, &received);
        }
        Err(error) => {
            engine.counters.malformed += 1;
            engine.fail(sa.connection().cloned().as_ref(), path, protocol(error.to_string()));
            // RFC 7296, 2.21.3: there is nothing to be done with an end that answers like this.
            sa.end_politely(DownReason::Dead);
        }
    }
}

/// A new message has come, perhaps on another path than before.
fn follow(engine: &mut Engine, sa: &mut IkeSa, path: Path) {
    if let Phase::Handshake(_) = sa.phase {
        // The initiator may have gone to the NAT port.
        sa.path = path;
    }
    mobike::follow(engine, sa, path);
}

/// A message in the clear that isn't IKE_SA_INIT: a notification about an SPI, which anyone may
/// have sent. An IKE SA that it is about asks for a sign of life.
pub(super) fn receive_clear(engine: &mut Engine, now: Instant, path: Path, message: &Message) {
    let header = &message.header;
    let own_spi = if header.from_initiator { header.responder_spi } else { header.initiator_spi };
    let id: Option<IkeSaId> = engine.by_spi.get(&own_spi).copied();
    let is_refusal = header.response && find_error(&message.payloads).is_some();
    let (Some(id), true) = (id, is_refusal) else {
        engine.counters.unknown_spi += 1;
        return;
    };
    engine.counters.unauthentic += 1;
    engine.with_sa(now, id, |engine, sa| match sa.phase {
        Phase::Handshake(_) => init::doubt(engine, now, sa, path, message),
        Phase::Established
            if now > sa.last_heard + Duration::from_secs(2) && sa.pending.is_none() =>
        {
            sa.enqueue(Task::Liveness);
        }
        _ => {}
    });
}

pub(super) fn protocol(what: String) -> Failure {
    Failure::Protocol { what }
}

pub(super) fn fingerprint(octets: &[u8]) -> u64 {
    foldhash::fast::FixedState::default().hash_one(octets)
}
