//! What the engine is told to hold up.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use model::suite::Proposal;
use zeroize::Zeroizing;

use super::identity::Identity;
use crate::crypto::auth::{Signer, Verifier};
use crate::sa::{ChildName, ConnectionName};
use crate::selector::TrafficSelector;

/// What holds for all connections.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The port for IKE, 500.
    pub port: u16,
    /// The port for IKE and ESP behind NAT, 4500.
    pub nat_port: u16,
    /// Half-open IKE SAs from which on cookies are asked for (RFC 8019).
    pub cookie_threshold: usize,
    /// Half-open IKE SAs beyond which new ones are not answered.
    pub half_open_limit: usize,
    /// The same for one source (an address, or the /64 of an IPv6 one).
    pub half_open_per_source: usize,
    /// How long an unfinished one is kept.
    pub half_open_lifetime: Duration,
    /// The first retransmission; each further one after `retransmit_base` times as long, at most
    /// `retransmit_max`.
    pub retransmit_first: Duration,
    /// See there.
    pub retransmit_base: f64,
    /// See there.
    pub retransmit_max: Duration,
    /// After so many the other end is dead, unless `dpd.timeout` comes first.
    pub retransmit_tries: u32,
    /// The largest IP packet of an IKE message before it is cut up (RFC 7383), for IPv4.
    pub fragment_size: usize,
    /// NAT keepalives on paths behind NAT (RFC 3948), zero for none.
    pub nat_keepalive: Duration,
    /// A connection that could not be begun is tried again after this, then after twice, …
    pub retry_first: Duration,
    /// At most.
    pub retry_max: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            port: 500,
            nat_port: 4500,
            cookie_threshold: 30,
            half_open_limit: 1000,
            half_open_per_source: 10,
            half_open_lifetime: Duration::from_secs(30),
            retransmit_first: Duration::from_millis(500),
            retransmit_base: 1.8,
            retransmit_max: Duration::from_secs(20),
            retransmit_tries: 6,
            fragment_size: 1280,
            nat_keepalive: Duration::from_secs(20),
            retry_first: Duration::from_secs(1),
            retry_max: Duration::from_secs(60),
        }
    }
}

/// One connection.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Its name.
    pub name: ConnectionName,
    /// This end's address. None: whatever the peer came to, or the shell's route for
    /// [`super::event::Command::Initiate`] gives.
    pub local: Option<IpAddr>,
    /// The other end's addresses, tried in turn; empty for `%any`: listen only.
    pub remote: Vec<SocketAddr>,
    /// Who we are.
    pub local_id: Identity,
    /// Who the other end must be. None: anyone that the authorities vouch for, or who has the key
    /// and comes from `remote`.
    pub remote_id: Option<Identity>,
    /// How both prove it.
    pub auth: Auth,
    /// A post-quantum preshared key (RFC 8784).
    pub ppk: Option<Ppk>,
    /// For IKE SAs, in order of preference.
    pub proposals: Vec<Proposal>,
    /// The child SAs.
    pub children: Vec<Child>,
    /// Who begins.
    pub start: Start,
    /// Without a sign of life for so long one is asked for; zero for never.
    pub dpd_delay: Duration,
    /// Without an answer for so long the other end is dead.
    pub dpd_timeout: Duration,
    /// What follows then.
    pub dpd_action: Close,
    /// What follows when the other end closes.
    pub close_action: Close,
    /// Of an IKE SA, before jitter.
    pub ike_lifetime: Duration,
    /// Authenticate anew in place of rekeying: the new IKE SA first, then the old one goes.
    pub reauthentication: bool,
    /// ESP in UDP even where no NAT is seen.
    pub force_udp: bool,
    /// IKE fragmentation (RFC 7383).
    pub fragmentation: bool,
    /// Address updates (RFC 4555).
    pub mobike: bool,
    /// An IKE SA without child SA first, if the other end can (RFC 6023).
    pub childless: bool,
    /// Of ESP.
    pub replay_window: u32,
}

/// Who begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The other end.
    Wait,
    /// This end, at once, and again until it works.
    Now,
    /// This end, when [`super::event::Command::Acquire`] says that there is a packet.
    Trap,
}

/// What follows when it has ended, and nobody here wanted that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// It is begun again.
    Restart,
    /// It waits for a packet or the other end.
    Clear,
    /// Nothing.
    None,
}

/// How both ends prove who they are.
#[derive(Clone, Debug)]
pub enum Auth {
    /// By a preshared key.
    Psk(Arc<Zeroizing<Vec<u8>>>),
    /// By certificates (RFC 7427).
    Certificate {
        /// This end's chain and key.
        signer: Arc<Signer>,
        /// Whom of the other side is believed.
        verifier: Arc<Verifier>,
    },
}

/// A post-quantum preshared key (RFC 8784).
#[derive(Clone, Debug)]
pub struct Ppk {
    /// Its name on the wire.
    pub id: Vec<u8>,
    /// The key.
    pub key: Arc<Zeroizing<Vec<u8>>>,
    /// Whether a connection without is refused.
    pub required: bool,
}

/// One child SA that is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Child {
    /// Its name.
    pub name: ChildName,
    /// This end's selectors, after NAT.
    pub local: Vec<TrafficSelector>,
    /// The other end's.
    pub remote: Vec<TrafficSelector>,
    /// In order of preference.
    pub proposals: Vec<Proposal>,
    /// Before jitter.
    pub lifetime: Duration,
}
