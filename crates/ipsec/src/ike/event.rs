//! What the engine is asked to do, what it asks for, and what it tells.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::suite::Proposal;

use super::identity::Identity;
use crate::sa::{ChildName, ChildSa, ChildSaId, ConnectionName, IkeSaId, Path, Spi};
use crate::selector::TrafficSelector;

/// A datagram that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// From where to where. From the NAT port the shell puts the non-ESP marker (four zero
    /// octets, RFC 3948, 2.2) before it.
    pub path: Path,
    /// An IKE message, or a NAT keepalive (one octet 0xff, which gets no marker).
    pub payload: Vec<u8>,
}

/// Something that the engine is told.
#[derive(Clone, Debug)]
pub enum Command {
    /// Begins a connection, or one child of it.
    Initiate {
        /// Which.
        connection: ConnectionName,
        /// All of its children if none.
        child: Option<ChildName>,
    },
    /// Ends a connection; it stays down until it is initiated again or reconfigured.
    Terminate {
        /// Which.
        connection: ConnectionName,
    },
    /// Rekeys now.
    Rekey {
        /// Of which connection.
        connection: ConnectionName,
        /// What of it.
        what: Rekey,
    },
    /// There is a packet for a child SA that isn't there.
    Acquire {
        /// Of which connection.
        connection: ConnectionName,
        /// Which child.
        child: ChildName,
    },
    /// A child SA has nearly used up its octets, packets or sequence numbers.
    Worn {
        /// Which.
        sa: ChildSaId,
    },
    /// ESP has come with an SPI that nobody knows: this end has perhaps lost its state.
    UnknownSpi {
        /// From where to where.
        path: Path,
        /// What stood in it.
        spi: Spi,
    },
    /// ESP that was authentic has come on another path than before (RFC 3948: the NAT in between
    /// has moved the other end; RFC 7296, 2.23).
    Moved {
        /// On which SA.
        sa: ChildSaId,
        /// From where to where now.
        path: Path,
    },
    /// ESP that was authentic has come: a sign of life, and for a rekeyed SA the sign that the
    /// other end sends on the new one.
    Alive {
        /// On which SA.
        sa: ChildSaId,
    },
    /// An address of this end is gone or new; paths that began with `from` may begin with `to`
    /// (RFC 4555).
    AddressChanged {
        /// The one that is gone.
        from: IpAddr,
        /// The one in its place.
        to: IpAddr,
    },
    /// Ends everything with DELETEs, for the gateway's end.
    Shutdown,
}

/// What is to be rekeyed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rekey {
    /// The IKE SA.
    Ike,
    /// One child SA.
    Child(ChildName),
    /// All child SAs.
    Children,
}

/// Something that the engine tells. In order: the shell acts on each before it sends what
/// the engine wants to transmit after it.
#[derive(Clone, Debug)]
pub enum Event {
    /// An IKE SA is there.
    IkeUp {
        /// Of which connection.
        connection: ConnectionName,
        /// Its number.
        ike: IkeSaId,
        /// Who the other end is.
        remote_id: Identity,
        /// From where to where.
        path: Path,
        /// What was agreed on.
        suite: Proposal,
        /// Whether it takes the place of one that was rekeyed.
        rekeyed: bool,
    },
    /// An IKE SA is gone.
    IkeDown {
        /// Of which connection.
        connection: ConnectionName,
        /// Its number.
        ike: IkeSaId,
        /// Why.
        reason: DownReason,
    },
    /// Packets that come on this SA are to be taken from now on. They are sent on it only if
    /// `send`, or after [`Event::ChildSend`].
    ChildInstall {
        /// The pair.
        sa: Arc<ChildSa>,
        /// Whether it is for sending at once.
        send: bool,
        /// The one that it takes the place of.
        replaces: Option<ChildSaId>,
    },
    /// Packets are sent on this SA from now on, and no longer on the one it replaces.
    ChildSend {
        /// Which.
        sa: ChildSaId,
    },
    /// Nothing is sent on this SA any more; what comes is taken for `linger`, then it is gone.
    ChildRemove {
        /// Which.
        sa: ChildSaId,
        /// For what was under way.
        linger: Duration,
        /// Why.
        reason: DownReason,
    },
    /// Datagrams go another way now.
    PathChanged {
        /// The child SAs for which.
        children: Vec<ChildSaId>,
        /// From where to where.
        path: Path,
        /// ESP in UDP now.
        udp: bool,
    },
    /// An exchange has failed; people should know.
    Failed {
        /// Of which connection; none if no connection fits the peer.
        connection: Option<ConnectionName>,
        /// With whom.
        path: Path,
        /// What was seen.
        failure: Failure,
    },
}

/// Why an SA is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DownReason {
    /// A command, or another configuration.
    Asked,
    /// The other end has deleted it.
    Peer,
    /// The other end doesn't answer.
    Dead,
    /// Another one is in its place.
    Replaced,
    /// It is too old or its sequence numbers are used up, and rekeying has failed.
    Expired,
    /// The other end has begun anew (INITIAL_CONTACT).
    PeerRestarted,
}

/// What went wrong in an exchange, with what `diagnose` needs. Never a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No answer at all; `to_nat_port` if IKE_SA_INIT was answered and IKE_AUTH, on UDP 4500, was
    /// not.
    NoAnswer {
        /// Only on the NAT port.
        to_nat_port: bool,
    },
    /// No common proposal.
    NoProposal {
        /// For an IKE SA (or else a child SA).
        ike: bool,
        /// Ours.
        ours: Vec<Proposal>,
        /// The other end's; unknown if it refused ours.
        theirs: Option<String>,
    },
    /// The other end refuses us (AUTHENTICATION_FAILED): key, certificate or ID are not what it
    /// expects.
    RefusedByPeer {
        /// Who we said we are.
        our_id: Identity,
        /// Whom we asked for.
        their_id: Option<Identity>,
    },
    /// The other end's proof is wrong: with PSK, the key differs.
    BadProof {
        /// Who it said it is.
        their_id: Identity,
        /// What exactly: "the preshared key differs", "certificate expired at …".
        why: String,
    },
    /// The other end is somebody else than we expect.
    WrongId {
        /// Who it said it is.
        theirs: Identity,
        /// Whom we expect.
        expected: Option<Identity>,
    },
    /// The other end asks for somebody else than we are.
    AskedForAnother {
        /// For whom.
        asked: Identity,
        /// Who we are.
        ours: Identity,
    },
    /// No common selectors.
    NoSelectors {
        /// Of this end, as we have them.
        local: Vec<TrafficSelector>,
        /// Of the other end, as we have them.
        remote: Vec<TrafficSelector>,
        /// What the other end asked for, for itself and for us; unknown if it refused ours.
        theirs: Option<(Vec<TrafficSelector>, Vec<TrafficSelector>)>,
    },
    /// The other end was there, and has stopped answering. Told by [`Event::IkeDown`].
    Dead,
    /// IKEv1 came (RFC 9395).
    OldVersion,
    /// The other end refuses with this notification (number of RFC 7296, 3.10.1).
    Notified {
        /// The number.
        kind: u16,
        /// Its name.
        name: &'static str,
    },
    /// A message that breaks the protocol.
    Protocol {
        /// What is wrong.
        what: String,
    },
}

/// What of a connection is there, for people.
#[derive(Clone, Debug)]
pub struct ConnectionStatus {
    /// Which.
    pub name: ConnectionName,
    /// What it is up to.
    pub state: State,
    /// Its IKE SAs, the one in use first.
    pub ike: Vec<IkeStatus>,
    /// Its child SAs.
    pub children: Vec<ChildStatus>,
    /// When it is tried again.
    pub next_try: Option<Instant>,
    /// What went wrong last.
    pub last_failure: Option<Failure>,
    /// How often anything was rekeyed: IKE SAs, child SAs.
    pub rekeys: (u64, u64),
    /// How often it was lost and begun again.
    pub restarts: u64,
}

/// What a connection is up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Told to be down.
    Down,
    /// Waits for the other end.
    Listening,
    /// Waits for a packet.
    Trapped,
    /// Begins.
    Connecting,
    /// All child SAs are there.
    Up,
    /// An IKE SA is there, and not all child SAs.
    Partial,
}

/// One IKE SA.
#[derive(Clone, Debug)]
pub struct IkeStatus {
    /// Its number.
    pub id: IkeSaId,
    /// Whether this end began.
    pub initiator: bool,
    /// From where to where.
    pub path: Path,
    /// SPIs of initiator and responder.
    pub spis: (u64, u64),
    /// Who the other end is.
    pub remote_id: Option<Identity>,
    /// What was agreed on.
    pub suite: Option<Proposal>,
    /// Since when it is there.
    pub since: Option<Instant>,
    /// When it is rekeyed.
    pub rekey_at: Option<Instant>,
    /// Of the last liveness check.
    pub round_trip: Option<Duration>,
    /// Whether there is NAT: before us, before the other end.
    pub nat: (bool, bool),
}

/// One child SA.
#[derive(Clone, Debug)]
pub struct ChildStatus {
    /// The pair.
    pub sa: Arc<ChildSa>,
    /// Since when it is there.
    pub since: Instant,
    /// When it is rekeyed.
    pub rekey_at: Option<Instant>,
    /// Whether packets are sent on it.
    pub sending: bool,
}

/// What came from the network and was not good, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Not parseable.
    pub malformed: u64,
    /// Not authentic.
    pub unauthentic: u64,
    /// For an IKE SA that isn't there.
    pub unknown_spi: u64,
    /// Outside the window of message IDs, or seen before with other content.
    pub out_of_window: u64,
    /// IKE_SA_INIT answered with a cookie.
    pub cookies_sent: u64,
    /// IKE_SA_INIT with a wrong cookie.
    pub cookies_wrong: u64,
    /// IKE_SA_INIT that limits refused.
    pub limited: u64,
    /// For which no connection is configured.
    pub unknown_peer: u64,
    /// IKEv1.
    pub old_version: u64,
    /// Messages answered from memory.
    pub retransmitted_answers: u64,
    /// Requests sent again.
    pub retransmitted_requests: u64,
    /// IKE SAs that are half open now.
    pub half_open: u64,
    /// IKE SAs that are there now.
    pub established: u64,
}
