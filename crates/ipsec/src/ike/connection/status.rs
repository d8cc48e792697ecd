//! What people are shown of a connection.

use std::time::Instant;

use super::{ConnectionState, Mode};
use crate::ike::engine::Engine;
use crate::ike::event::{ChildStatus, ConnectionStatus, IkeStatus, State};
use crate::ike::sa::{IkeSa, Phase};

/// See [`Engine::status`].
pub(in crate::ike) fn status(engine: &Engine, now: Instant) -> Vec<ConnectionStatus> {
    let _ = now;
    engine.connections.values().map(|state| of_connection(engine, state)).collect()
}

fn of_connection(engine: &Engine, state: &ConnectionState) -> ConnectionStatus {
    let mut sas: Vec<_> =
        state.ikes.iter().filter_map(|id| engine.sas.get(id)).map(AsRef::as_ref).collect();
    sas.sort_by_key(|sa| std::cmp::Reverse((sa.is_established(), sa.since, sa.id)));
    let children = sas.iter().flat_map(|sa| &sa.children).map(|child| ChildStatus {
        sa: child.sa.clone(),
        since: child.since,
        rekey_at: child.rekey_at,
        sending: child.sending,
    });
    let children: Vec<_> = children.collect();
    let has_all = state
        .config
        .children
        .iter()
        .all(|child| children.iter().any(|one| one.sa.child == child.name));
    let is_established = sas.iter().any(|sa| sa.is_established());
    let is_beginning = sas.iter().any(|sa| matches!(sa.phase, Phase::Handshake(_)));
    ConnectionStatus {
        name: state.config.name.clone(),
        state: match state.mode {
            _ if is_established && has_all => State::Up,
            _ if is_established => State::Partial,
            Mode::Down => State::Down,
            _ if is_beginning => State::Connecting,
            Mode::Up if state.config.remote.is_empty() => State::Listening,
            Mode::Up => State::Connecting,
            Mode::Trap => State::Trapped,
            Mode::Wait => State::Listening,
        },
        ike: sas.iter().map(|sa| of_ike(sa)).collect(),
        children,
        next_try: state.next_try,
        last_failure: state.last_failure.clone(),
        rekeys: state.rekeys,
        restarts: state.restarts,
    }
}

fn of_ike(sa: &IkeSa) -> IkeStatus {
    IkeStatus {
        id: sa.id,
        initiator: sa.initiator,
        path: sa.path,
        spis: (sa.spi_i, sa.spi_r),
        remote_id: sa.remote_id.clone(),
        suite: sa.suite.clone(),
        since: sa.since,
        rekey_at: sa.rekey_at,
        round_trip: sa.round_trip,
        nat: sa.nat,
    }
}
