//! Addresses that change: MOBIKE (RFC 4555), and NAT that has been set anew (RFC 7296, 2.23).

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::connection;
use super::engine::Engine;
use super::event::DownReason;
use super::exchange::protocol;
use super::message::{Exchange, Notify, Payload, notify};
use super::nat;
use super::sa::{IkeSa, Ongoing, Received, Task};
use crate::sa::Path;

/// So many other addresses of the other end are remembered.
const MAX_ADDRESSES: usize = 8;
/// A request that was sent again so often goes to another address of the other end, if there is
/// one.
const TRIES: u32 = 3;

/// The other end is at another address than before, by an authentic message or ESP.
pub(super) fn follow(engine: &mut Engine, sa: &mut IkeSa, path: Path) {
    if !sa.is_established() || path == sa.path {
        return;
    }
    if sa.peer.mobike && sa.is_first_initiator {
        // It is for this end to say which addresses are used (RFC 4555, 3.5).
        if path.remote != sa.path.remote && !sa.nat.0 {
            // On the way somebody may have changed the source: without an answer from there it goes
            // back, see `try_another`.
            let known = sa.path.remote.ip();
            sa.upkeep.addresses.retain(|one| *one != known);
            sa.upkeep.addresses.insert(0, known);
            sa.upkeep.addresses.truncate(MAX_ADDRESSES);
            sa.set_path(engine, Path { remote: path.remote, ..sa.path }, sa.udp);
            sa.enqueue(Task::UpdateAddresses);
        }
        return;
    }
    // The NAT before the other end has given it another port or address. An end that is behind NAT
    // itself lets the one that began decide.
    if sa.nat.1 && !(sa.nat.0 && sa.is_first_initiator) {
        sa.set_path(engine, path, sa.udp);
    }
}

/// An address of this end has another one in its place.
pub(super) fn address_changed(engine: &mut Engine, now: Instant, from: IpAddr, to: IpAddr) {
    let mut ids: Vec<_> =
        engine.sas.values().filter(|sa| sa.path.local.ip() == from).map(|sa| sa.id).collect();
    ids.sort_unstable();
    for id in ids {
        engine.with_sa(now, id, |engine, sa| go_to(engine, now, sa, to));
    }
}

fn go_to(engine: &mut Engine, now: Instant, sa: &mut IkeSa, to: IpAddr) {
    if to.is_ipv4() != sa.path.remote.is_ipv4() {
        sa.end(DownReason::Dead);
        return;
    }
    let path = Path { local: SocketAddr::new(to, sa.path.local.port()), ..sa.path };
    sa.set_path(engine, path, sa.udp);
    // What is under way goes once more, from there.
    if let Some(pending) = &mut sa.pending {
        pending.next = now;
    }
    if !sa.is_established() {
        return;
    }
    match (sa.peer.mobike, sa.is_first_initiator) {
        (true, true) => sa.enqueue_first(Task::UpdateAddresses),
        // Only the one that began may update; it sees the new address by this.
        (true, false) => sa.enqueue_first(Task::Liveness),
        // The other end knows no other way than beginning anew.
        (false, _) => sa.end_politely(DownReason::Expired),
    }
}

/// Tells the other end where this end is.
pub(super) fn begin_update(engine: &mut Engine, now: Instant, sa: &mut IkeSa) {
    let spis = (sa.spi_i, sa.spi_r);
    let hidden = sa.config.as_ref().is_some_and(|config| config.force_udp);
    let mut payloads = vec![Payload::Notify(Notify::new(notify::UPDATE_SA_ADDRESSES, Vec::new()))];
    payloads.extend(nat::payloads(engine.rng.as_mut(), spis, sa.path, hidden));
    let ongoing = Ongoing::UpdateAddresses(sa.path);
    engine.request(now, sa, Exchange::Informational, &payloads, ongoing);
}

/// The other end has answered that.
pub(super) fn updated(engine: &mut Engine, sa: &mut IkeSa, told: Path, received: &Received) {
    if told != sa.path {
        // Outdated meanwhile.
        sa.enqueue_first(Task::UpdateAddresses);
        return;
    }
    if let Some(error) = received.error() {
        let failure = connection::notified(error);
        engine.fail(sa.connection().cloned().as_ref(), sa.path, failure);
        return;
    }
    detect(engine, sa, received, sa.path);
}

/// Finds out anew where NAT is.
fn detect(engine: &mut Engine, sa: &mut IkeSa, received: &Received, path: Path) {
    let seen = nat::detect(&received.payloads, (sa.spi_i, sa.spi_r), received.path);
    let forced = sa.config.as_ref().is_some_and(|config| config.force_udp);
    let udp = match seen {
        Some(nat) => {
            sa.nat = nat;
            forced || nat.0 || nat.1
        }
        None => sa.udp,
    };
    sa.set_path(engine, path, udp);
}

/// What a request says about addresses, and what is answered.
pub(super) fn answer(
    engine: &mut Engine,
    sa: &mut IkeSa,
    request: &Received,
    payloads: &mut Vec<Payload>,
) {
    if let Some(cookie) = request.notify(notify::COOKIE2) {
        payloads.push(Payload::Notify(Notify::new(notify::COOKIE2, cookie.data.clone())));
    }
    if !sa.peer.mobike {
        return;
    }
    note_addresses(sa, &request.payloads);
    let update = request.notify(notify::UPDATE_SA_ADDRESSES).is_some();
    let asks = request.notify(notify::NAT_DETECTION_SOURCE_IP).is_some();
    if update && !sa.is_first_initiator && sa.is_established() {
        detect(engine, sa, request, request.path);
        sa.enqueue_first(Task::CheckPath);
    }
    if update || asks {
        let spis = (sa.spi_i, sa.spi_r);
        let hidden = sa.config.as_ref().is_some_and(|config| config.force_udp);
        payloads.extend(nat::payloads(engine.rng.as_mut(), spis, request.path, hidden));
    }
}

/// Whether the other end really is where it says (RFC 4555, 3.7).
pub(super) fn begin_check(engine: &mut Engine, now: Instant, sa: &mut IkeSa) {
    let mut cookie = vec![0; 16];
    engine.rng.fill(&mut cookie);
    let payload = Payload::Notify(Notify::new(notify::COOKIE2, cookie.clone()));
    let ongoing = Ongoing::CheckPath(cookie);
    engine.request(now, sa, Exchange::Informational, &[payload], ongoing);
}

/// It has answered.
pub(super) fn checked(engine: &mut Engine, sa: &mut IkeSa, cookie: &[u8], received: &Received) {
    if received.notify(notify::COOKIE2).is_some_and(|one| one.data == cookie) {
        return;
    }
    let failure = protocol("COOKIE2 did not come back as it was sent".to_owned());
    engine.fail(sa.connection().cloned().as_ref(), sa.path, failure);
    sa.end_politely(DownReason::Dead);
}

/// Remembers the other addresses of the other end.
pub(super) fn note_addresses(sa: &mut IkeSa, payloads: &[Payload]) {
    let mut addresses = Vec::new();
    let mut is_list = false;
    for payload in payloads {
        let Payload::Notify(one) = payload else { continue };
        let address = match one.kind {
            notify::ADDITIONAL_IP4_ADDRESS => {
                <[u8; 4]>::try_from(one.data.as_slice()).ok().map(IpAddr::from)
            }
            notify::ADDITIONAL_IP6_ADDRESS => {
                <[u8; 16]>::try_from(one.data.as_slice()).ok().map(IpAddr::from)
            }
            notify::NO_ADDITIONAL_ADDRESSES => None,
            _ => continue,
        };
        is_list = true;
        addresses.extend(address.filter(|_| addresses.len() < MAX_ADDRESSES));
    }
    if is_list {
        sa.upkeep.addresses = addresses;
    }
}

/// A request was sent again: perhaps another address of the other end answers.
pub(super) fn try_another(engine: &mut Engine, sa: &mut IkeSa) {
    let resent = sa.pending.as_ref().map_or(0, |pending| pending.resent);
    if resent < TRIES || !sa.is_established() || !sa.peer.mobike || !sa.is_first_initiator {
        return;
    }
    let family = sa.path.local.is_ipv4();
    let addresses = &mut sa.upkeep.addresses;
    let Some(place) = addresses.iter().position(|one| one.is_ipv4() == family) else { return };
    let address = addresses.remove(place);
    addresses.push(sa.path.remote.ip());
    let path = Path { remote: SocketAddr::new(address, sa.path.remote.port()), ..sa.path };
    sa.set_path(engine, path, sa.udp);
    sa.enqueue_first(Task::UpdateAddresses);
}
