//! A child SA that both ends have agreed on by CREATE_CHILD_SA.

use std::time::{Duration, Instant};

use model::suite::{Group, Proposal, Purpose};
use zeroize::Zeroizing;

use super::config::Child;
use super::connection;
use super::engine::Engine;
use super::event::{DownReason, Failure};
use super::exchange::protocol;
use super::install::{self, NewChild};
use super::message::{self, Notify, Payload, WireProposal};
use super::rekey::{self, Collision};
use super::sa::{IkeSa, Received, Task};
use crate::crypto::keys;
use crate::sa::{ChildSaId, Spi};
use crate::selector::TrafficSelector;

/// All that a child SA is made of, but for what additional key exchanges still give.
pub(super) struct Agreed {
    pub(super) config: Child,
    /// The one that it takes the place of.
    pub(super) old: Option<ChildSaId>,
    /// One of each kind.
    pub(super) suite: Proposal,
    pub(super) inbound_spi: Spi,
    pub(super) outbound_spi: Spi,
    pub(super) local: Vec<TrafficSelector>,
    pub(super) remote: Vec<TrafficSelector>,
    /// Of the exchange's initiator and responder.
    pub(super) nonces: (Vec<u8>, Vec<u8>),
    pub(super) shared: Option<Zeroizing<Vec<u8>>>,
    pub(super) additional: Vec<Zeroizing<Vec<u8>>>,
    /// Whether this end began the exchange.
    pub(super) began: bool,
    /// The other end's exchange for the same purpose, at the same time.
    pub(super) collision: Option<Collision>,
}

/// The additional key exchanges of a suite, in order.
pub(super) fn additional_groups(suite: &Proposal) -> Vec<Group> {
    suite.additional.iter().filter_map(|choice| choice.first().copied()).collect()
}

/// Makes the child SA, and sees to the one that it replaces.
pub(super) fn complete(
    engine: &mut Engine,
    now: Instant,
    sa: &mut IkeSa,
    agreed: Agreed,
) -> Option<ChildSaId> {
    let made = sa.prf().zip(sa.keys.as_ref()).and_then(|(prf, ike)| {
        let shared = agreed.shared.as_ref().map(|shared| shared.as_slice());
        let (ni, nr) = &agreed.nonces;
        keys::child_keys(&agreed.suite, prf, &ike.sk_d, shared, &agreed.additional, ni, nr).ok()
    });
    let Some(keys) = made else {
        engine.free_esp_spi(agreed.inbound_spi);
        let failure = protocol("no keys can be made for the child SA".to_owned());
        engine.fail(sa.connection().cloned().as_ref(), sa.path, failure);
        return None;
    };
    let old = agreed.old.filter(|old| sa.children.iter().any(|one| one.sa.id == *old));
    let current = install::current(engine, sa, &agreed.config.name);
    let loses =
        agreed.collision.as_ref().is_some_and(|other| rekey::loses(&agreed.nonces, &other.nonces));
    let new = NewChild {
        config: agreed.config,
        suite: agreed.suite,
        inbound_spi: agreed.inbound_spi,
        outbound_spi: agreed.outbound_spi,
        keys,
        began: agreed.began,
        local: agreed.local,
        remote: agreed.remote,
        // The responder of an exchange doesn't know yet whether its answer will arrive.
        send: if agreed.began { !loses } else { current.is_none() },
        replaces: old.or(current),
    };
    let id = install::install(engine, now, sa, new)?;
    if agreed.began {
        rekey::settle(now, sa, old, id, loses, agreed.collision);
    } else {
        rekey::follow(sa, agreed.old, id, agreed.nonces);
    }
    Some(id)
}

/// What a message says about a child SA.
pub(super) struct Parts<'a> {
    pub(super) proposals: &'a [WireProposal],
    pub(super) nonce: &'a [u8],
    /// Its group's number, and the public value.
    pub(super) exchange: Option<(u16, &'a [u8])>,
    pub(super) initiator: &'a [TrafficSelector],
    pub(super) responder: &'a [TrafficSelector],
}

impl<'a> Parts<'a> {
    /// Those of a CREATE_CHILD_SA message. What is missing is empty.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) fn of(received: &'a Received) -> Result<Self, &'static str> {
        let mut parts =
            Self { proposals: &[], nonce: &[], exchange: None, initiator: &[], responder: &[] };
        for payload in &received.payloads {
            match payload {
                Payload::Sa(proposals) => parts.proposals = proposals,
                Payload::Nonce(nonce) => parts.nonce = nonce,
                Payload::KeyExchange { group, data } => parts.exchange = Some((*group, data)),
                Payload::TsInitiator(selectors) => parts.initiator = selectors,
                Payload::TsResponder(selectors) => parts.responder = selectors,
                _ => {}
            }
        }
        if parts.proposals.is_empty() {
            return Err("CREATE_CHILD_SA has no proposal");
        }
        if !(16..=256).contains(&parts.nonce.len()) {
            return Err("CREATE_CHILD_SA has no nonce of 16 to 256 octets");
        }
        Ok(parts)
    }
}

/// The SPI of an ESP proposal.
pub(super) fn esp_spi(proposal: &WireProposal) -> Option<Spi> {
    Spi::new(u32::from_be_bytes(proposal.spi.as_slice().try_into().ok()?))
}

/// What the responder has answered, checked.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read_answer(config: &Child, parts: &Parts<'_>) -> Result<(Proposal, Spi), Failure> {
    let [wire] = parts.proposals else {
        return Err(protocol("the answer has several proposals".to_owned()));
    };
    let suite = message::accept(&config.proposals, Purpose::Esp, wire).ok_or_else(|| {
        Failure::NoProposal {
            ike: false,
            ours: config.proposals.clone(),
            theirs: Some(message::describe(parts.proposals)),
        }
    })?;
    let spi = esp_spi(wire).ok_or_else(|| protocol("the answer has no ESP SPI".to_owned()))?;
    Ok((suite, spi))
}

/// A child SA of ours did not come to be: what follows.
pub(super) fn not_made(
    engine: &mut Engine,
    now: Instant,
    sa: &mut IkeSa,
    config: &Child,
    old: Option<ChildSaId>,
    delay: Option<Duration>,
) {
    if let Some(old) = old {
        // As long as it lives there is time.
        let Some(child) = sa.children.iter_mut().find(|one| one.sa.id == old) else { return };
        if child.is_leaving() {
            return;
        }
        let left = child.expires.saturating_duration_since(now);
        let pause = delay.unwrap_or_else(|| (left / 4).min(Duration::from_secs(60)));
        child.rekey_at = Some(now + pause.max(Duration::from_millis(500)));
        return;
    }
    if let Some(delay) = delay {
        sa.enqueue_later(now + delay, Task::CreateChild(config.name.clone()));
    } else if let Some(name) = sa.connection().cloned() {
        connection::child_failed(engine, now, &name);
    }
}

/// The notification of an error.
pub(super) fn refusal(kind: u16, data: Vec<u8>) -> Vec<Payload> {
    vec![Payload::Notify(Notify::new(kind, data))]
}

/// What happens to a child SA that the other end has closed and nobody here wanted closed.
pub(super) fn closed(now: Instant, sa: &mut IkeSa, config: &Child) {
    use super::config::Close;
    let action = sa.config.as_ref().map_or(Close::None, |config| config.close_action);
    if action == Close::Restart {
        sa.enqueue_later(now + Duration::from_secs(1), Task::CreateChild(config.name.clone()));
    }
}

/// Why a child SA that is deleted in favour of another one, or not, is gone.
pub(super) fn reason_of_delete(has_successor: bool) -> DownReason {
    if has_successor { DownReason::Replaced } else { DownReason::Peer }
}
