//! Connections: what they are told to be, when they are begun, and what follows when an IKE SA
//! of theirs ends.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::suite::Group;

use super::config::{Close, Connection, Start};
use super::engine::{Engine, Timer};
use super::event::{DownReason, Event, Failure};
use super::init;
use super::install::{self, LINGER};
use super::message::{Notify, notify};
use super::reauth;
use super::sa::{IkeSa, Phase, Task};
use super::upkeep;
use crate::sa::{ChildName, ConnectionName, IkeSaId, Path};

mod command;
mod same;
mod status;

pub(super) use command::command;
pub(super) use status::status;

/// A connection and its state.
pub(super) struct ConnectionState {
    pub(super) config: Arc<Connection>,
    pub(super) mode: Mode,
    /// Its IKE SAs.
    pub(super) ikes: Vec<IkeSaId>,
    /// Not begun again by itself before this.
    pub(super) next_try: Option<Instant>,
    /// Whether it is its turn now, after others with the same address.
    is_waiting: bool,
    /// How often in a row it could not be begun.
    pub(super) failures: u32,
    /// Which of the other end's addresses is next.
    pub(super) turn: usize,
    /// The child whose packet asks for it: the first one to be made.
    pub(super) acquired: Option<ChildName>,
    /// When doubles and missing children are looked for.
    pub(super) check_at: Option<Instant>,
    /// How often in a row a child SA could not be made.
    pub(super) child_failures: u32,
    /// The key exchange that it was established with.
    pub(super) group: Option<Group>,
    /// When a stranger's ESP or IKE made us begin.
    prompted: Option<Instant>,
    pub(super) last_failure: Option<Failure>,
    pub(super) rekeys: (u64, u64),
    pub(super) restarts: u64,
}

/// What a connection is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Down,
    Wait,
    Trap,
    Up,
}

/// After so long doubles and missing children are looked for.
const SETTLE: Duration = Duration::from_secs(5);
/// ESP with unknown SPIs makes us begin at most so often.
const PROMPT_EVERY: Duration = Duration::from_secs(10);

impl ConnectionState {
    fn new(config: Arc<Connection>) -> Self {
        let mode = match config.start {
            Start::Wait => Mode::Wait,
            Start::Now => Mode::Up,
            Start::Trap => Mode::Trap,
        };
        Self {
            config,
            mode,
            ikes: Vec::new(),
            next_try: None,
            is_waiting: false,
            failures: 0,
            turn: 0,
            acquired: None,
            check_at: None,
            child_failures: 0,
            group: None,
            prompted: None,
            last_failure: None,
            rekeys: (0, 0),
            restarts: 0,
        }
    }
}

/// See [`Engine::configure`].
pub(super) fn configure(
    engine: &mut Engine,
    now: Instant,
    connections: BTreeMap<ConnectionName, Arc<Connection>>,
) {
    let gone: Vec<_> = engine
        .connections
        .keys()
        .filter(|name| !connections.contains_key(*name))
        .cloned()
        .collect();
    for name in gone {
        end_all(engine, now, &name, &DownReason::Asked);
        engine.connections.remove(&name);
    }
    let mut fresh = Vec::new();
    for (name, config) in connections {
        let Some(state) = engine.connections.get_mut(&name) else {
            engine.connections.insert(name.clone(), ConnectionState::new(config));
            fresh.push(name);
            continue;
        };
        // MOBIKE may have taken the IKE SAs to the new address already.
        let is_local = state.config.local == config.local
            || config.local.is_some_and(|local| {
                let mut sas = state.ikes.iter().filter_map(|id| engine.sas.get(id));
                !state.ikes.is_empty() && sas.all(|sa| sa.path.local.ip() == local)
            });
        if is_local && same::is_same(&state.config, &config) {
            let is_new_start = state.config.start != config.start;
            state.config = Arc::clone(&config);
            if is_new_start {
                state.mode = ConnectionState::new(Arc::clone(&config)).mode;
                fresh.push(name.clone());
            }
            for id in state.ikes.clone() {
                if let Some(sa) = engine.sas.get_mut(&id) {
                    sa.config = Some(Arc::clone(&config));
                }
            }
            continue;
        }
        end_all(engine, now, &name, &DownReason::Asked);
        if let Some(state) = engine.connections.get_mut(&name) {
            let ikes = std::mem::take(&mut state.ikes);
            let old = std::mem::replace(state, ConnectionState::new(config));
            *state = ConnectionState {
                ikes,
                rekeys: old.rekeys,
                restarts: old.restarts,
                ..ConnectionState::new(Arc::clone(&state.config))
            };
        }
        fresh.push(name);
    }
    index(engine);
    for name in fresh {
        if engine.connections.get(&name).is_some_and(|state| state.mode == Mode::Up) {
            begin(engine, now, &name);
        }
    }
}

fn index(engine: &mut Engine) {
    engine.by_remote.clear();
    engine.of_any.clear();
    for (name, state) in &engine.connections {
        for remote in &state.config.remote {
            let names = engine.by_remote.entry(remote.ip()).or_default();
            if names.last() != Some(name) {
                names.push(name.clone());
            }
        }
        if state.config.remote.is_empty() {
            engine.of_any.push(name.clone());
        }
    }
}

/// The connections that a peer on this path may want: those of its address first.
pub(super) fn candidates(engine: &Engine, path: Path) -> Vec<Arc<Connection>> {
    let named = engine.by_remote.get(&path.remote.ip()).into_iter().flatten();
    named
        .chain(&engine.of_any)
        .filter_map(|name| engine.connections.get(name))
        .filter(|state| state.mode != Mode::Down)
        .map(|state| &state.config)
        .filter(|config| config.local.is_none_or(|local| local == path.local.ip()))
        .cloned()
        .collect()
}

/// Ends all IKE SAs of a connection with DELETEs.
pub(super) fn end_all(
    engine: &mut Engine,
    now: Instant,
    name: &ConnectionName,
    reason: &DownReason,
) {
    let Some(state) = engine.connections.get(name) else { return };
    for id in state.ikes.clone() {
        engine.with_sa(now, id, |_, sa| sa.end_politely(reason.clone()));
    }
}

/// Begins a connection, unless it is there or beginning; then its missing children.
pub(super) fn begin(engine: &mut Engine, now: Instant, name: &ConnectionName) {
    let Some(state) = engine.connections.get_mut(name) else { return };
    let config = Arc::clone(&state.config);
    let ikes = state.ikes.clone();
    state.next_try = None;
    let turn = state.turn;
    let is_there = ikes.iter().filter_map(|id| engine.sas.get(id)).any(|sa| match sa.phase {
        Phase::Handshake(_) => sa.initiator,
        Phase::Established => true,
        Phase::Ending(_) => false,
    });
    if engine.shutdown {
        return;
    }
    if is_there {
        make_children(engine, now, name);
        return;
    }
    let turn = turn.checked_rem(config.remote.len()).unwrap_or(0);
    let Some(remote) = config.remote.get(turn).copied() else { return };
    let any = match remote.ip() {
        IpAddr::V4(_) => IpAddr::from([0_u8; 4]),
        IpAddr::V6(_) => IpAddr::from([0_u8; 16]),
    };
    if !engine.pace.begins(remote.ip(), name) {
        // Its turn comes when another one is done.
        return;
    }
    let port = engine.settings.port;
    let path = Path { local: (config.local.unwrap_or(any), port).into(), remote };
    init::begin(engine, now, config, path, Some(remote.ip()));
}

/// Has the child SAs made that are missing, in the IKE SA that is in use.
pub(super) fn make_children(engine: &mut Engine, now: Instant, name: &ConnectionName) {
    let Some(state) = engine.connections.get(name) else { return };
    if state.mode != Mode::Up {
        return;
    }
    let missing: Vec<_> = state
        .config
        .children
        .iter()
        .map(|child| child.name.clone())
        .filter(|child| !has_child(engine, name, child))
        .collect();
    for child in missing {
        make_child(engine, now, name, &child);
    }
}

/// Has one child SA made in the IKE SA that is in use. False if there is none.
pub(super) fn make_child(
    engine: &mut Engine,
    now: Instant,
    name: &ConnectionName,
    child: &ChildName,
) -> bool {
    let Some(id) = in_use(engine, name) else { return false };
    if !has_child(engine, name, child) {
        engine.with_sa(now, id, |_, sa| sa.enqueue(Task::CreateChild(child.clone())));
    }
    true
}

/// Whether a child SA of this name is there, in the engine's map.
pub(super) fn has_child(engine: &Engine, name: &ConnectionName, child: &ChildName) -> bool {
    engine.connections.get(name).is_some_and(|state| {
        state
            .ikes
            .iter()
            .filter_map(|id| engine.sas.get(id))
            .filter(|sa| sa.is_established())
            .any(|sa| sa.children.iter().any(|one| one.config.name == *child))
    })
}

/// The IKE SA that new child SAs are made in: the youngest.
pub(super) fn in_use(engine: &Engine, name: &ConnectionName) -> Option<IkeSaId> {
    let state = engine.connections.get(name)?;
    let sas = state.ikes.iter().filter_map(|id| engine.sas.get(id));
    sas.filter(|sa| sa.is_established()).max_by_key(|sa| (sa.since, sa.id)).map(|sa| sa.id)
}

/// An IKE SA is established: by IKE_AUTH, or in place of another one.
pub(super) fn established(engine: &mut Engine, now: Instant, sa: &mut IkeSa, is_rekeyed: bool) {
    let Some(config) = sa.config.clone() else { return };
    forget_half_open(engine, now, sa);
    sa.phase = Phase::Established;
    sa.half_open_until = None;
    sa.since = Some(now);
    sa.last_heard = now;
    sa.rekey_at = install::rekey_time(engine, now, config.ike_lifetime, sa.initiator);
    if let (Some(suite), Some(remote_id)) = (sa.suite.clone(), sa.remote_id.clone()) {
        engine.tell(Event::IkeUp {
            connection: config.name.clone(),
            ike: sa.id,
            remote_id,
            path: sa.path,
            suite,
            rekeyed: is_rekeyed,
        });
    }
    let Some(state) = engine.connections.get_mut(&config.name) else { return };
    if !state.ikes.contains(&sa.id) {
        state.ikes.push(sa.id);
    }
    if sa.initiator {
        // Before this anyone could say that another one is wanted.
        state.group = sa.suite.as_ref().and_then(|suite| suite.groups.first().copied());
    }
    state.failures = 0;
    state.child_failures = 0;
    state.next_try = None;
    state.last_failure = None;
    state.acquired = None;
    check_later(engine, &config.name, now + SETTLE);
    if is_rekeyed {
        return;
    }
    sa.root_spi = sa.spi_i;
    reauth::go_on(engine, now, sa);
    // What this end began meanwhile and has not proven itself in yet is not needed any more.
    let others = engine.connections.get(&config.name).map(|state| state.ikes.clone());
    for id in others.into_iter().flatten().filter(|id| *id != sa.id) {
        let is_early = engine.sas.get(&id).is_some_and(|other| {
            other.initiator && matches!(&other.phase, Phase::Handshake(one) if !one.sent_auth)
        });
        if is_early {
            engine.with_sa(now, id, |_, other| other.end(DownReason::Replaced));
        }
    }
}

/// Has a connection looked after at a time.
pub(super) fn check_later(engine: &mut Engine, name: &ConnectionName, at: Instant) {
    if let Some(state) = engine.connections.get_mut(name) {
        state.check_at = Some(state.check_at.map_or(at, |known| known.min(at)));
        engine.set_timer(at, Timer::Connection(name.clone()));
    }
}

/// A child SA could not be made: it is tried again later.
pub(super) fn child_failed(engine: &mut Engine, now: Instant, name: &ConnectionName) {
    let Some(state) = engine.connections.get_mut(name) else { return };
    state.child_failures = state.child_failures.saturating_add(1);
    let failures = state.child_failures;
    let pause = backoff(engine, failures.saturating_add(2));
    check_later(engine, name, now + pause);
}

/// How long to wait after so many failures in a row.
fn backoff(engine: &mut Engine, failures: u32) -> Duration {
    let settings = &engine.settings;
    let factor = 1_u32 << failures.saturating_sub(1).min(16);
    let pause = settings.retry_first.saturating_mul(factor).min(settings.retry_max);
    pause.mul_f64(engine.random_between(0.8, 1.2))
}

/// A timer of a connection has come.
pub(super) fn timeout(engine: &mut Engine, now: Instant, name: &ConnectionName) {
    let Some(state) = engine.connections.get_mut(name) else { return };
    let is_check = state.check_at.take_if(|at| *at <= now).is_some();
    let is_try = state.next_try.take_if(|at| *at <= now).is_some() && state.mode == Mode::Up;
    let is_try = std::mem::take(&mut state.is_waiting) && state.mode != Mode::Down || is_try;
    if is_check {
        end_double(engine, now, name);
        make_children(engine, now, name);
    }
    if is_try {
        begin(engine, now, name);
    }
}

/// Both ends have begun at once, and both IKE SAs live. Both ends know which one is to go, that
/// with the higher SPI, and its initiator has it go, once the other has all of its child SAs.
fn end_double(engine: &mut Engine, now: Instant, name: &ConnectionName) {
    let Some(state) = engine.connections.get(name) else { return };
    let sas: Vec<&IkeSa> = state
        .ikes
        .iter()
        .filter_map(|id| engine.sas.get(id))
        .map(AsRef::as_ref)
        .filter(|sa| sa.is_established() && sa.root_spi != 0 && sa.upkeep.replaces.is_none())
        .collect();
    let mut doubles = Vec::new();
    for ours in sas.iter().filter(|sa| sa.is_first_initiator) {
        let stays = sas.iter().find(|theirs| {
            !theirs.is_first_initiator
                && theirs.remote_id == ours.remote_id
                && theirs.root_spi < ours.root_spi
        });
        let Some(stays) = stays else { continue };
        let missing: Vec<_> = ours
            .children
            .iter()
            .map(|child| &child.config.name)
            .filter(|name| stays.children.iter().all(|one| one.config.name != **name))
            .cloned()
            .collect();
        doubles.push((ours.id, stays.id, missing));
    }
    for (goes, stays, missing) in doubles {
        if missing.is_empty() {
            engine.with_sa(now, goes, |_, sa| sa.end_politely(DownReason::Replaced));
            continue;
        }
        engine.with_sa(now, stays, |_, sa| {
            missing.into_iter().for_each(|child| sa.enqueue(Task::CreateChild(child)));
        });
        check_later(engine, name, now + SETTLE);
    }
}

/// One that this end began with an address is there or has failed: the next one may begin.
pub(super) fn next_in_line(engine: &mut Engine, now: Instant, remote: IpAddr) {
    engine.pace.ended(remote);
    loop {
        let next = engine.pace.next(remote);
        if next.is_empty() {
            return;
        }
        let mut is_any_wanted = false;
        for name in next {
            let is_there = in_use(engine, &name).is_some();
            let state = engine.connections.get_mut(&name);
            if let Some(state) = state.filter(|state| state.mode != Mode::Down && !is_there) {
                state.is_waiting = true;
                engine.set_timer(now, Timer::Connection(name));
                is_any_wanted = true;
            }
        }
        if is_any_wanted {
            return;
        }
    }
}

/// It no longer counts as half open, or as being begun.
pub(super) fn forget_half_open(engine: &mut Engine, now: Instant, sa: &mut IkeSa) {
    if let Some(remote) = sa.paced.take() {
        next_in_line(engine, now, remote);
    }
    if let Some((source, spi)) = sa.counted.take() {
        engine.limits.remove(source);
        engine.by_request.remove(&(source, spi));
    }
}

/// An IKE SA has ended: everything of it goes, and the connection does what it is to do then.
pub(super) fn bury(engine: &mut Engine, now: Instant, mut sa: Box<IkeSa>) {
    let reason = sa.gone.clone().unwrap_or(DownReason::Asked);
    if let Some(at) = sa.wake.take() {
        engine.clear_timer(at, Timer::Ike(sa.id));
    }
    forget_half_open(engine, now, &mut sa);
    if engine.by_spi.get(&sa.own_spi()) == Some(&sa.id) {
        engine.by_spi.remove(&sa.own_spi());
    }
    if let Some(answered) = sa.answered.take() {
        engine.keep_ghost(now, sa.own_spi(), answered);
    }
    let linger = if reason == DownReason::Dead { Duration::ZERO } else { LINGER };
    install::remove_all(engine, &mut sa, linger, &reason);
    upkeep::release(engine, &mut sa);
    let Some(config) = sa.config.clone() else { return };
    if sa.since.is_some() {
        engine.tell(Event::IkeDown {
            connection: config.name.clone(),
            ike: sa.id,
            reason: reason.clone(),
        });
    }
    let Some(state) = engine.connections.get_mut(&config.name) else { return };
    state.ikes.retain(|id| *id != sa.id);
    // An SA of a configuration that is past has nothing to say about what follows.
    if !Arc::ptr_eq(&state.config, &config) || engine.shutdown {
        return;
    }
    if sa.since.is_some() {
        after_end(engine, now, &config, &reason)
    } else if sa.initiator && reason != DownReason::Replaced && reason != DownReason::Asked {
        after_failure(engine, now, &config.name);
    }
}

/// What follows when an IKE SA has ended that was there.
fn after_end(engine: &mut Engine, now: Instant, config: &Connection, reason: &DownReason) {
    if in_use(engine, &config.name).is_some() {
        // Others of it live; they take over the children it had.
        check_later(engine, &config.name, now + Duration::from_secs(1));
        return;
    }
    let Some(state) = engine.connections.get_mut(&config.name) else { return };
    let action = match reason {
        DownReason::Asked | DownReason::PeerRestarted | DownReason::Replaced => return,
        DownReason::Peer if config.start == Start::Wait => Close::Clear,
        DownReason::Peer => config.close_action,
        DownReason::Dead => config.dpd_action,
        DownReason::Expired => Close::Restart,
    };
    if state.mode == Mode::Down {
        return;
    }
    match action {
        Close::Restart => {
            state.mode = Mode::Up;
            state.restarts += 1;
            begin(engine, now, &config.name);
        }
        Close::Clear => {
            state.mode = if config.start == Start::Wait { Mode::Wait } else { Mode::Trap };
        }
        Close::None => state.mode = Mode::Wait,
    }
}

/// An IKE SA could not be begun.
fn after_failure(engine: &mut Engine, now: Instant, name: &ConnectionName) {
    let Some(state) = engine.connections.get_mut(name) else { return };
    state.failures = state.failures.saturating_add(1);
    state.turn = state.turn.wrapping_add(1);
    let tried = state.failures;
    // Each of the other end's addresses gets its turn before the pause grows.
    let rounds = tried.div_ceil(u32::try_from(state.config.remote.len().max(1)).unwrap_or(1));
    let at = now + backoff(engine, rounds);
    if let Some(state) = engine.connections.get_mut(name) {
        state.next_try = Some(at);
        engine.set_timer(at, Timer::Connection(name.clone()));
    }
}

/// ESP or IKE has come that belongs to nothing here. If it is from a connection's other end, this
/// end has lost its state, and begins anew at once.
pub(super) fn stranger(engine: &mut Engine, now: Instant, path: Path) {
    let names = engine.by_remote.get(&path.remote.ip()).cloned().unwrap_or_default();
    for name in names {
        let Some(state) = engine.connections.get_mut(&name) else { continue };
        let is_recent = state.prompted.is_some_and(|at| now < at + PROMPT_EVERY);
        let is_ours = state.config.local.is_none_or(|local| local == path.local.ip());
        if state.mode == Mode::Down || !state.ikes.is_empty() || is_recent || !is_ours {
            continue;
        }
        state.prompted = Some(now);
        begin(engine, now, &name);
    }
}

/// The failure that an error notification means.
pub(super) fn notified(notify: &Notify) -> Failure {
    Failure::Notified { kind: notify.kind, name: name(notify.kind) }
}

/// The name of an error notification (RFC 7296, 3.10.1).
fn name(kind: u16) -> &'static str {
    match kind {
        notify::UNSUPPORTED_CRITICAL_PAYLOAD => "UNSUPPORTED_CRITICAL_PAYLOAD",
        notify::INVALID_IKE_SPI => "INVALID_IKE_SPI",
        notify::INVALID_MAJOR_VERSION => "INVALID_MAJOR_VERSION",
        notify::INVALID_SYNTAX => "INVALID_SYNTAX",
        notify::INVALID_MESSAGE_ID => "INVALID_MESSAGE_ID",
        notify::INVALID_SPI => "INVALID_SPI",
        notify::NO_PROPOSAL_CHOSEN => "NO_PROPOSAL_CHOSEN",
        notify::INVALID_KE_PAYLOAD => "INVALID_KE_PAYLOAD",
        notify::AUTHENTICATION_FAILED => "AUTHENTICATION_FAILED",
        notify::SINGLE_PAIR_REQUIRED => "SINGLE_PAIR_REQUIRED",
        notify::NO_ADDITIONAL_SAS => "NO_ADDITIONAL_SAS",
        notify::INTERNAL_ADDRESS_FAILURE => "INTERNAL_ADDRESS_FAILURE",
        notify::FAILED_CP_REQUIRED => "FAILED_CP_REQUIRED",
        notify::TS_UNACCEPTABLE => "TS_UNACCEPTABLE",
        notify::INVALID_SELECTORS => "INVALID_SELECTORS",
        notify::UNACCEPTABLE_ADDRESSES => "UNACCEPTABLE_ADDRESSES",
        notify::TEMPORARY_FAILURE => "TEMPORARY_FAILURE",
        notify::CHILD_SA_NOT_FOUND => "CHILD_SA_NOT_FOUND",
        notify::STATE_NOT_FOUND => "STATE_NOT_FOUND",
        _ => "an unknown error",
    }
}
