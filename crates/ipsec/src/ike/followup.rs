//! IKE_FOLLOWUP_KE (RFC 9370, 2.2.4): the additional key exchanges of CREATE_CHILD_SA, one after
//! the other.

use std::time::{Duration, Instant};

use model::suite::Group;

use super::child;
use super::child::refusal;
use super::engine::Engine;
use super::exchange::protocol;
use super::message::{Exchange, Notify, Payload, notify};
use super::rekey;
use super::rekey_ike;
use super::sa::{IkeSa, Ongoing, Received, Task};
use crate::crypto::kex::{self, KeyExchange};
use crate::sa::Spi;
use zeroize::Zeroizing;

/// What is being made.
pub(super) enum Work {
    Child(Box<child::Agreed>),
    Ike(Box<rekey_ike::Agreed>),
}

impl Work {
    /// What has to be given back if nothing comes of it.
    pub(super) fn inbound_spi(&self) -> Option<Spi> {
        match self {
            Self::Child(agreed) => Some(agreed.inbound_spi),
            Self::Ike(_) => None,
        }
    }

    fn add(&mut self, shared: Zeroizing<Vec<u8>>) {
        match self {
            Self::Child(agreed) => agreed.additional.push(shared),
            Self::Ike(agreed) => agreed.additional.push(shared),
        }
    }

    fn complete(self, engine: &mut Engine, now: Instant, sa: &mut IkeSa) {
        match self {
            Self::Child(agreed) => {
                child::complete(engine, now, sa, *agreed);
            }
            Self::Ike(agreed) => rekey_ike::complete(engine, now, sa, *agreed),
        }
    }
}

/// The other end has so long to go on.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the response needs.
pub(super) struct Waiting {
    pub(super) work: Work,
    exchange: KeyExchange,
    /// Those still to come.
    rest: Vec<Group>,
}

/// What this end has answered so far.
pub(super) struct HalfDone {
    pub(super) work: Work,
    since: Instant,
    link: Vec<u8>,
    rest: Vec<Group>,
}

/// Begins the first additional key exchange.
pub(super) fn begin(
    engine: &mut Engine,
    now: Instant,
    sa: &mut IkeSa,
    work: Work,
    groups: Vec<Group>,
    received: &Received,
) {
    let link = received.notify(notify::ADDITIONAL_KEY_EXCHANGE).map(|link| link.data.clone());
    let mut rest = groups;
    let started = link.filter(|_| !rest.is_empty()).and_then(|link| {
        let (exchange, data) = KeyExchange::begin(rest.remove(0)).ok()?;
        Some((link, exchange, data))
    });
    let Some((link, exchange, data)) = started else {
        fail(engine, now, sa, work, "an additional key exchange was agreed on and not begun");
        return;
    };
    let payloads = [
        Payload::KeyExchange { group: exchange.group().number(), data },
        Payload::Notify(Notify::new(notify::ADDITIONAL_KEY_EXCHANGE, link)),
    ];
    let ongoing = Ongoing::FollowupKe(Box::new(Waiting { work, exchange, rest }));
    engine.request(now, sa, Exchange::FollowupKe, &payloads, ongoing);
}

/// The other end has answered.
pub(super) fn response(
    engine: &mut Engine,
    now: Instant,
    sa: &mut IkeSa,
    waiting: Waiting,
    received: &Received,
) {
    let Waiting { mut work, exchange, rest } = waiting;
    let group = exchange.group().number();
    let shared = received.payloads.iter().find_map(|payload| match payload {
        Payload::KeyExchange { group: theirs, data } if *theirs == group => Some(data),
        _ => None,
    });
    let shared = match (received.error(), shared) {
        (None, Some(data)) => exchange.finish(data).ok(),
        _ => None,
    };
    let Some(shared) = shared else {
        fail(engine, now, sa, work, "an additional key exchange has failed");
        return;
    };
    work.add(shared);
    if rest.is_empty() {
        work.complete(engine, now, sa);
    } else {
        begin(engine, now, sa, work, rest, received);
    }
}

fn fail(engine: &mut Engine, now: Instant, sa: &mut IkeSa, work: Work, what: &str) {
    engine.fail(sa.connection().cloned().as_ref(), sa.path, protocol(what.to_owned()));
    match work {
        Work::Child(agreed) => {
            engine.free_esp_spi(agreed.inbound_spi);
            match &agreed.collision {
                Some(collision) => rekey::give_way(sa, agreed.old, collision),
                None => child::not_made(engine, now, sa, &agreed.config, agreed.old, None),
            }
        }
        Work::Ike(agreed) => rekey_ike::failed(engine, now, sa, agreed.collision),
    }
}

/// Keeps what was answered until the other end goes on. The notification that it does so with.
pub(super) fn await_more(
    engine: &mut Engine,
    now: Instant,
    sa: &mut IkeSa,
    work: Work,
    groups: Vec<Group>,
) -> Payload {
    let mut link = vec![0; 8];
    engine.rng.fill(&mut link);
    forget(engine, sa);
    sa.upkeep.half_done = Some(HalfDone { work, since: now, link: link.clone(), rest: groups });
    Payload::Notify(Notify::new(notify::ADDITIONAL_KEY_EXCHANGE, link))
}

/// Gives up what was half done.
fn forget(engine: &mut Engine, sa: &mut IkeSa) {
    if let Some(spi) = sa.upkeep.half_done.take().and_then(|half| half.work.inbound_spi()) {
        engine.free_esp_spi(spi);
    }
}

/// The other end goes on.
pub(super) fn answer(
    engine: &mut Engine,
    now: Instant,
    sa: &mut IkeSa,
    request: &Received,
) -> Vec<Payload> {
    let link = request.notify(notify::ADDITIONAL_KEY_EXCHANGE).map(|link| link.data.as_slice());
    let is_established = sa.is_established();
    let half =
        sa.upkeep.half_done.take_if(|half| is_established && Some(half.link.as_slice()) == link);
    let Some(mut half) = half else {
        return refusal(notify::STATE_NOT_FOUND, Vec::new());
    };
    let shared = (!half.rest.is_empty()).then(|| half.rest.remove(0)).and_then(|group| {
        request.payloads.iter().find_map(|payload| match payload {
            Payload::KeyExchange { group: number, data } if *number == group.number() => {
                Some((group, kex::respond(group, data).ok()?))
            }
            _ => None,
        })
    });
    let Some((group, (data, shared))) = shared else {
        sa.upkeep.half_done = Some(half);
        forget(engine, sa);
        return refusal(notify::INVALID_SYNTAX, Vec::new());
    };
    let is_outdated = match &half.work {
        Work::Child(agreed) => {
            rekey_ike::is_under_way(sa)
                || agreed.old.is_some_and(|old| sa.child(old).is_none_or(|one| one.is_leaving()))
        }
        Work::Ike(_) => super::child_answer::is_busy_with_children(sa),
    };
    if is_outdated {
        sa.upkeep.half_done = Some(half);
        forget(engine, sa);
        return refusal(notify::TEMPORARY_FAILURE, Vec::new());
    }
    half.work.add(shared);
    let mut payloads = vec![Payload::KeyExchange { group: group.number(), data }];
    if half.rest.is_empty() {
        half.work.complete(engine, now, sa);
    } else {
        payloads.push(await_more(engine, now, sa, half.work, half.rest));
    }
    payloads
}

/// Whether a task has to wait until the other end is done.
pub(super) fn holds_back(now: Instant, sa: &IkeSa, task: &Task) -> bool {
    let half = sa.upkeep.half_done.as_ref().filter(|half| now < half.since + PATIENCE);
    let Some(half) = half else { return false };
    match (&half.work, task) {
        (Work::Ike(_), Task::RekeyIke | Task::CreateChild(_) | Task::RekeyChild(_)) => true,
        (Work::Child(agreed), Task::RekeyChild(old)) => agreed.old == Some(*old),
        (Work::Child(_), Task::RekeyIke) => true,
        _ => false,
    }
}
