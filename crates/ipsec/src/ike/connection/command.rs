//! Commands.

use std::time::Instant;

use super::{Mode, begin, end_all, has_child, make_child, stranger};
use crate::ike::engine::Engine;
use crate::ike::event::{Command, DownReason};
use crate::ike::informational;
use crate::ike::install;
use crate::sa::{ChildName, ConnectionName};

/// See [`Engine::command`].
pub(in crate::ike) fn command(engine: &mut Engine, now: Instant, command: Command) {
    match command {
        Command::Initiate { connection, child } => {
            let Some(state) = engine.connections.get_mut(&connection) else { return };
            let was_down = state.mode == Mode::Down;
            if child.is_none() || was_down {
                state.mode = Mode::Up;
            }
            state.acquired.clone_from(&child);
            match child {
                Some(child) if make_child(engine, now, &connection, &child) => {}
                _ => begin(engine, now, &connection),
            }
        }
        Command::Terminate { connection } => {
            let Some(state) = engine.connections.get_mut(&connection) else { return };
            state.mode = Mode::Down;
            state.next_try = None;
            end_all(engine, now, &connection, &DownReason::Asked);
        }
        Command::Acquire { connection, child } => acquire(engine, now, &connection, &child),
        Command::UnknownSpi { path, spi: _ } => stranger(engine, now, path),
        Command::Alive { sa } => {
            if let Some(ike) = engine.by_child.get(&sa).copied() {
                engine.with_sa(now, ike, |engine, ike| {
                    ike.last_heard = now;
                    install::alive(engine, now, ike, sa);
                });
            }
        }
        Command::Rekey { connection, what } => install::rekey(engine, now, &connection, &what),
        Command::Worn { sa } => {
            if let Some(ike) = engine.by_child.get(&sa).copied() {
                engine.with_sa(now, ike, |engine, ike| install::worn(engine, now, ike, sa));
            }
        }
        Command::Moved { sa, path } => {
            if let Some(ike) = engine.by_child.get(&sa).copied() {
                engine.with_sa(now, ike, |engine, ike| {
                    informational::moved(engine, now, ike, path);
                });
            }
        }
        Command::AddressChanged { from, to } => {
            informational::address_changed(engine, now, from, to);
        }
        Command::Shutdown => {
            engine.shutdown = true;
            let mut all: Vec<_> = engine.sas.keys().copied().collect();
            all.sort_unstable();
            for id in all {
                engine.with_sa(now, id, |_, sa| sa.end_politely(DownReason::Asked));
            }
        }
    }
}

/// A packet asks for a child SA.
fn acquire(engine: &mut Engine, now: Instant, name: &ConnectionName, child: &ChildName) {
    if has_child(engine, name, child) {
        return;
    }
    let Some(state) = engine.connections.get_mut(name) else { return };
    let is_wanted = matches!(state.mode, Mode::Trap | Mode::Up);
    if !is_wanted || state.config.children.iter().all(|one| one.name != *child) {
        return;
    }
    if make_child(engine, now, name, child) {
        return;
    }
    let Some(state) = engine.connections.get_mut(name) else { return };
    if state.next_try.is_none_or(|at| at <= now) {
        state.acquired = Some(child.clone());
        begin(engine, now, name);
    }
}
