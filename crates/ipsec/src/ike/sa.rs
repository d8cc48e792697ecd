//! One IKE SA.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::suite::{Prf, Proposal};

use super::auth;
use super::config::Connection;
use super::engine::Engine;
use super::event::{DownReason, Event};
use super::fragment::Reassembly;
use super::identity::Identity;
use super::init::Handshake;
use super::install::ChildState;
use super::message::{Exchange, Header, Notify, Payload};
use super::upkeep::Upkeep;
use super::{create_child, followup, rekey_ike};
use crate::crypto::keys::IkeKeys;
use crate::sa::{ChildName, ChildSaId, ConnectionName, IkeSaId, Path, Spi};

/// An IKE SA, from the first message on.
pub(super) struct IkeSa {
    pub(super) id: IkeSaId,
    /// The responder knows it from IKE_AUTH on.
    pub(super) config: Option<Arc<Connection>>,
    /// Whether this end is the original initiator: it sets the header's flag, and chooses keys.
    pub(super) initiator: bool,
    /// Whether this end began the first of a row of IKE SAs by rekeying: it chooses addresses
    /// (RFC 4555).
    pub(super) is_first_initiator: bool,
    pub(super) path: Path,
    pub(super) spi_i: u64,
    /// 0 until the responder has answered.
    pub(super) spi_r: u64,
    pub(super) phase: Phase,
    pub(super) suite: Option<Proposal>,
    pub(super) keys: Option<IkeKeys>,
    pub(super) peer: Peer,
    /// NAT before this end, and before the other.
    pub(super) nat: (bool, bool),
    /// ESP and all IKE messages after IKE_SA_INIT go in UDP on the NAT port.
    pub(super) udp: bool,
    /// Of the next request of this end.
    pub(super) send_id: u32,
    /// Of the next request of the other end.
    pub(super) receive_id: u32,
    pub(super) answered: Option<Answered>,
    pub(super) request_pieces: Reassembly,
    pub(super) response_pieces: Reassembly,
    pub(super) pending: Option<Pending>,
    pub(super) queue: VecDeque<Task>,
    pub(super) children: Vec<ChildState>,
    /// The child that a packet waits for as it is begun, and the one that IKE_AUTH could not make.
    pub(super) first_wanted: Option<ChildName>,
    pub(super) first_tried: Option<ChildName>,
    /// Who the other end has proven to be.
    pub(super) remote_id: Option<Identity>,
    /// Since when there is anything of it.
    pub(super) begun: Instant,
    /// Since when it is established.
    pub(super) since: Option<Instant>,
    pub(super) rekey_at: Option<Instant>,
    /// An unfinished one is dropped then.
    pub(super) half_open_until: Option<Instant>,
    /// When something authentic came last: IKE, or ESP.
    pub(super) last_heard: Instant,
    /// When something was sent last, for NAT keepalives.
    pub(super) last_sent: Instant,
    /// How often NAT keepalives are sent where there is NAT; none for never.
    pub(super) keepalive: Option<Duration>,
    pub(super) round_trip: Option<Duration>,
    /// The source under which it counts in the limits for half-open ones, and the initiator's SPI.
    pub(super) counted: Option<(IpAddr, u64)>,
    /// The initiator's SPI of the IKE SA that authentication made, from which this one came by
    /// rekeying; 0 until then.
    pub(super) root_spi: u64,
    /// Under which it counts among what this end begins.
    pub(super) paced: Option<IpAddr>,
    pub(super) upkeep: Upkeep,
    /// It has ended.
    pub(super) gone: Option<DownReason>,
    /// Set by the engine: for when the timer stands.
    pub(super) wake: Option<Instant>,
}

/// How far it is.
pub(super) enum Phase {
    /// Until IKE_AUTH is done.
    Handshake(Box<Handshake>),
    Established,
    /// Another one has taken its place or it was told to go: only its DELETE is still to come.
    Ending(DownReason),
}

/// What the other end can do.
#[derive(Clone, Debug, Default)]
pub(super) struct Peer {
    pub(super) fragmentation: bool,
    pub(super) mobike: bool,
    pub(super) childless: bool,
    pub(super) ppk: bool,
    /// RFC 7427's hash numbers; empty if it can't.
    pub(super) hashes: Vec<u16>,
}

/// A request of this end that isn't answered yet.
pub(super) struct Pending {
    pub(super) message_id: u32,
    pub(super) exchange: Exchange,
    /// As sent: one, or the fragments.
    pub(super) datagrams: Vec<Vec<u8>>,
    pub(super) ongoing: Ongoing,
    pub(super) sent: Instant,
    /// How often it was sent again.
    pub(super) resent: u32,
    pub(super) next: Instant,
    /// No later than this it counts as unanswered.
    pub(super) give_up: Option<Instant>,
}

/// The last answer of this end.
pub(super) struct Answered {
    pub(super) message_id: u32,
    /// Of the (first) datagram of the request.
    pub(super) request: u64,
    pub(super) datagrams: Vec<Vec<u8>>,
    /// How often it was sent again.
    resent: u32,
}

/// No answer is sent again more often: the request that asks for it may be a copy, with the address
/// of somebody who is to be flooded.
const ANSWER_AGAIN: u32 = 32;

impl Answered {
    pub(super) fn new(message_id: u32, request: u64, datagrams: Vec<Vec<u8>>) -> Self {
        Self { message_id, request, datagrams, resent: 0 }
    }

    /// Whether it may be sent once more; that counts.
    pub(super) fn may_go_again(&mut self) -> bool {
        self.resent = self.resent.saturating_add(1);
        self.resent <= ANSWER_AGAIN
    }
}

/// What waits until the request before it is answered.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Task {
    /// A child SA of the configuration by CREATE_CHILD_SA.
    CreateChild(ChildName),
    /// Another child SA in the place of this one.
    RekeyChild(ChildSaId),
    /// DELETE of a child SA.
    DeleteChild(ChildSaId),
    /// DELETE of one that only the other end has.
    DeleteSpi(Spi),
    /// Another IKE SA in the place of this one.
    RekeyIke,
    /// MOBIKE's UPDATE_SA_ADDRESSES.
    UpdateAddresses,
    /// MOBIKE's COOKIE2.
    CheckPath,
    /// Liveness.
    Liveness,
    /// DELETE of the IKE SA; nothing comes after it.
    DeleteIke,
}

/// What a request was for, with what its response needs.
pub(super) enum Ongoing {
    Init,
    Intermediate(super::intermediate::Waiting),
    Auth(Box<auth::Waiting>),
    CreateChild(Box<create_child::Waiting>),
    RekeyIke(Box<rekey_ike::Waiting>),
    FollowupKe(Box<followup::Waiting>),
    DeleteChild(Option<ChildSaId>),
    UpdateAddresses(Path),
    CheckPath(Vec<u8>),
    Liveness,
    DeleteIke,
}

/// An authentic message.
pub(super) struct Received {
    pub(super) path: Path,
    pub(super) header: Header,
    pub(super) payloads: Vec<Payload>,
    /// The type of the first payload, and all of them as they were: for RFC 9242.
    pub(super) inner: u8,
    pub(super) plain: zeroize::Zeroizing<Vec<u8>>,
}

impl Received {
    /// The first notification of a type.
    pub(super) fn notify(&self, kind: u16) -> Option<&Notify> {
        find_notify(&self.payloads, kind)
    }

    /// The first notification that tells of an error.
    pub(super) fn error(&self) -> Option<&Notify> {
        find_error(&self.payloads)
    }
}

pub(super) fn find_notify(payloads: &[Payload], kind: u16) -> Option<&Notify> {
    payloads.iter().find_map(|payload| match payload {
        Payload::Notify(notify) if notify.kind == kind => Some(notify),
        _ => None,
    })
}

pub(super) fn find_error(payloads: &[Payload]) -> Option<&Notify> {
    payloads.iter().find_map(|payload| match payload {
        Payload::Notify(notify) if notify.is_error() => Some(notify),
        _ => None,
    })
}

impl IkeSa {
    /// One that knows only where it goes to. `spi` is this end's.
    pub(super) fn new(
        id: IkeSaId,
        now: Instant,
        initiator: bool,
        path: Path,
        spis: (u64, u64),
        phase: Phase,
    ) -> Self {
        Self {
            id,
            config: None,
            initiator,
            is_first_initiator: initiator,
            path,
            spi_i: spis.0,
            spi_r: spis.1,
            phase,
            suite: None,
            keys: None,
            peer: Peer::default(),
            nat: (false, false),
            udp: false,
            send_id: 0,
            receive_id: 0,
            answered: None,
            request_pieces: Reassembly::default(),
            response_pieces: Reassembly::default(),
            pending: None,
            queue: VecDeque::new(),
            children: Vec::new(),
            first_wanted: None,
            first_tried: None,
            remote_id: None,
            begun: now,
            since: None,
            rekey_at: None,
            half_open_until: None,
            last_heard: now,
            last_sent: now,
            keepalive: None,
            round_trip: None,
            counted: None,
            root_spi: 0,
            paced: None,
            upkeep: Upkeep::default(),
            gone: None,
            wake: None,
        }
    }

    /// The connection's name; unknown to a responder before IKE_AUTH.
    pub(super) fn connection(&self) -> Option<&ConnectionName> {
        self.config.as_ref().map(|config| &config.name)
    }

    pub(super) fn own_spi(&self) -> u64 {
        if self.initiator { self.spi_i } else { self.spi_r }
    }

    pub(super) fn is_established(&self) -> bool {
        matches!(self.phase, Phase::Established)
    }

    /// One of its child SAs.
    pub(super) fn child(&self, id: ChildSaId) -> Option<&ChildState> {
        self.children.iter().find(|one| one.sa.id == id)
    }

    /// The same, to be changed.
    pub(super) fn child_mut(&mut self, id: ChildSaId) -> Option<&mut ChildState> {
        self.children.iter_mut().find(|one| one.sa.id == id)
    }

    /// When it must go, rekeyed or not.
    pub(super) fn expires(&self) -> Option<Instant> {
        let lifetime = self.config.as_ref()?.ike_lifetime;
        self.since.filter(|_| self.is_established() && !lifetime.is_zero()).map(|at| at + lifetime)
    }

    /// The PRF that was agreed on.
    pub(super) fn prf(&self) -> Option<Prf> {
        self.suite.as_ref()?.prf.first().copied()
    }

    /// Ends it at once: it is buried as soon as the engine has it back. The first reason counts.
    pub(super) fn end(&mut self, reason: DownReason) {
        self.gone.get_or_insert(reason);
    }

    /// Ends it with a DELETE. What it still waited to do is forgotten. `reason` is what will be
    /// told.
    pub(super) fn end_politely(&mut self, reason: DownReason) {
        match self.phase {
            Phase::Handshake(_) => self.end(reason),
            Phase::Ending(_) => {}
            Phase::Established => {
                self.phase = Phase::Ending(reason);
                self.rekey_at = None;
                self.queue.clear();
                self.queue.push_back(Task::DeleteIke);
            }
        }
    }

    /// Queues something unless it is queued already.
    pub(super) fn enqueue(&mut self, task: Task) {
        if self.is_established() && !self.queue.contains(&task) {
            self.queue.push_back(task);
        }
    }

    /// When something is due: the earliest of all deadlines.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let pending = self.pending.as_ref().map(|pending| match pending.give_up {
            Some(give_up) => give_up.min(pending.next),
            None => pending.next,
        });
        let liveness = self.liveness_at();
        let upkeep = self.upkeep.next_deadline();
        let keepalive = self.keepalive_at();
        [pending, self.half_open_until, keepalive, liveness, self.rekey_at, self.expires(), upkeep]
            .into_iter()
            .flatten()
            .chain(self.children.iter().filter_map(ChildState::next_deadline))
            .min()
    }

    /// When a sign of life is asked for.
    pub(super) fn liveness_at(&self) -> Option<Instant> {
        let delay = self.config.as_ref()?.dpd_delay;
        (self.is_established() && self.pending.is_none() && !delay.is_zero())
            .then(|| self.last_heard + delay)
    }

    /// When a NAT keepalive is due, if this end is behind NAT.
    pub(super) fn keepalive_at(&self) -> Option<Instant> {
        let Phase::Established = self.phase else { return None };
        self.keepalive.filter(|_| self.nat.0).map(|every| self.last_sent + every)
    }

    /// Its datagrams and those of its children go another way from now on.
    pub(super) fn set_path(&mut self, engine: &mut Engine, path: Path, udp: bool) {
        if (self.path, self.udp) == (path, udp) {
            return;
        }
        self.path = path;
        self.udp = udp;
        let children: Vec<_> = self.children.iter().map(|child| child.sa.id).collect();
        for child in &mut self.children {
            let sa = Arc::make_mut(&mut child.sa);
            sa.path = path;
            sa.udp = udp;
        }
        if !children.is_empty() {
            engine.tell(Event::PathChanged { children, path, udp });
        }
    }
}
