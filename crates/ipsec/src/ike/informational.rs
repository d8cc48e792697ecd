//! INFORMATIONAL: liveness, DELETE (RFC 7296, 1.4, 2.4), address updates.

use std::net::IpAddr;
use std::time::Instant;

use super::child;
use super::engine::Engine;
use super::event::DownReason;
use super::install::{self, LINGER};
use super::message::{Exchange, Payload, notify};
use super::mobike;
use super::rekey_ike;
use super::sa::{IkeSa, Ongoing, Phase, Received};
use crate::sa::{Path, Spi};

pub(super) fn begin_liveness(engine: &mut Engine, now: Instant, sa: &mut IkeSa) {
    engine.request(now, sa, Exchange::Informational, &[], Ongoing::Liveness);
}

pub(super) fn begin_delete_ike(engine: &mut Engine, now: Instant, sa: &mut IkeSa) {
    let delete = Payload::Delete { protocol: 1, spis: Vec::new() };
    engine.request(now, sa, Exchange::Informational, &[delete], Ongoing::DeleteIke);
}

pub(super) fn deleted_ike(sa: &mut IkeSa) {
    let reason = match &sa.phase {
        Phase::Ending(reason) => reason.clone(),
        _ => DownReason::Asked,
    };
    sa.end(reason);
}

pub(super) fn answer(
    engine: &mut Engine,
    now: Instant,
    sa: &mut IkeSa,
    request: &Received,
) -> Vec<Payload> {
    // An initiator that doesn't believe our proof may say only that (RFC 7296, 2.21.2).
    let deletes_ike =
        request.payloads.iter().any(|one| matches!(one, Payload::Delete { protocol: 1, .. }))
            || request.notify(notify::AUTHENTICATION_FAILED).is_some();
    if deletes_ike {
        let has_moved = rekey_ike::before_delete(engine, now, sa);
        let reason = match &sa.phase {
            Phase::Ending(reason) => reason.clone(),
            _ if has_moved => DownReason::Replaced,
            _ => DownReason::Peer,
        };
        sa.end(reason);
        return Vec::new();
    }
    rekey_ike::chosen_by_peer(engine, now, sa);
    let mut payloads = Vec::new();
    let mut spis = Vec::new();
    for payload in &request.payloads {
        let Payload::Delete { protocol: 3, spis: theirs } = payload else { continue };
        for spi in theirs {
            spis.extend(delete_child(engine, now, sa, *spi));
        }
    }
    if !spis.is_empty() {
        payloads.push(Payload::Delete { protocol: 3, spis });
    }
    mobike::answer(engine, sa, request, &mut payloads);
    payloads
}

/// The other end closes a child SA; `spi` is what this end writes into packets. This end's SPI, if
/// it isn't closing it itself (RFC 7296, 1.4.1).
fn delete_child(engine: &mut Engine, now: Instant, sa: &mut IkeSa, spi: u32) -> Option<u32> {
    let spi = Spi::new(spi)?;
    let child = sa.children.iter().find(|one| one.sa.outbound_spi == spi)?;
    if child.leaving.is_some() {
        return None;
    }
    let (id, own_spi, config) = (child.sa.id, child.sa.inbound_spi, child.config.clone());
    let has_successor = install::has_successor(engine, sa, id);
    install::remove(engine, sa, id, LINGER, child::reason_of_delete(has_successor));
    if !has_successor {
        child::closed(now, sa, &config);
    }
    Some(own_spi.get())
}

/// Authentic ESP has come on another path.
pub(super) fn moved(engine: &mut Engine, now: Instant, sa: &mut IkeSa, path: Path) {
    sa.last_heard = now;
    mobike::follow(engine, sa, path);
}

/// An address of this end has another one in its place.
pub(super) fn address_changed(engine: &mut Engine, now: Instant, from: IpAddr, to: IpAddr) {
    mobike::address_changed(engine, now, from, to);
}
