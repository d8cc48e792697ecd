//! INFORMATIONAL: liveness and DELETE.

use std::net::IpAddr;
use std::time::Instant;

use super::engine::Engine;
use super::event::DownReason;
use super::message::{Exchange, Payload};
use super::sa::{IkeSa, Ongoing, Phase, Received};
use crate::sa::Path;

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
    let _ = (engine, now);
    for payload in &request.payloads {
        if matches!(payload, Payload::Delete { protocol: 1, .. }) {
            let reason = match &sa.phase {
                Phase::Ending(reason) => reason.clone(),
                _ => DownReason::Peer,
            };
            sa.end(reason);
        }
    }
    Vec::new()
}

/// Authentic ESP has come on another path.
pub(super) fn moved(engine: &mut Engine, now: Instant, sa: &mut IkeSa, path: Path) {
    let _ = (engine, now, sa, path);
}

/// An address of this end has another one in its place.
pub(super) fn address_changed(engine: &mut Engine, now: Instant, from: IpAddr, to: IpAddr) {
    let _ = (engine, now, from, to);
}
