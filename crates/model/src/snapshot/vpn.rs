//! VpnConnections, parsed.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::diagnostic::Location;
use crate::suite::Proposal;

pub mod nat;

/// One VpnConnection. Its Secrets have been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VpnConnection {
    /// Who begins.
    pub auto: Auto,
    /// For IKE SAs, in order of preference. Not empty.
    pub ike: Vec<Proposal>,
    /// For the child SAs that have none of their own. Not empty.
    pub esp: Vec<Proposal>,
    /// How both ends prove who they are.
    pub auth: VpnAuth,
    /// A post-quantum preshared key (RFC 8784).
    pub ppk: Option<Ppk>,
    /// This end.
    pub local: LocalEnd,
    /// The other end.
    pub remote: RemoteEnd,
    /// The child SAs, by name; at least one. Without `children` in the object there is one of
    /// the connection's own name, with `local.subnets` and `remote.subnets`.
    pub children: Vec<VpnChild>,
    /// `localSubnetNAT`: what is inside, and what the remote end sees. Of equal size.
    pub local_nat: Vec<NatPair>,
    /// `remoteSubnetNAT`: `inside` is what pods see, `outside` the real remote. Of equal size.
    pub remote_nat: Vec<NatPair>,
    /// The one address that everything leaves from, if `enableSingleSourceIP`.
    pub single_source: Option<IpAddr>,
    /// Hosts behind the edge that the remote end may reach.
    pub non_cluster: Vec<IpNet>,
    /// Only nodes of this zone route through it.
    pub zone: Option<String>,
    /// Dead peer detection.
    pub dpd: Dpd,
    /// How long SAs live.
    pub lifetimes: Lifetimes,
    /// What follows if the other end closes.
    pub close_action: CloseAction,
    /// ESP in UDP even where no NAT is seen.
    pub force_udp: bool,
    /// IKE fragmentation (RFC 7383).
    pub fragmentation: bool,
    /// Address updates (RFC 4555).
    pub mobike: bool,
    /// An IKE SA first, and child SAs as they are needed (RFC 6023).
    pub childless: bool,
    /// A new IKE SA with authentication in place of a rekeying of the old one.
    pub reauthentication: bool,
    /// Sequence numbers that the replay window spans; 0 for no check.
    pub replay_window: u32,
    /// Where it was read.
    pub location: Option<Location>,
}

/// Who begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auto {
    /// The other end.
    Add,
    /// This end, at once.
    #[default]
    Start,
    /// This end, on the first packet.
    Route,
}

/// A secret that no log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(pub Vec<u8>);

impl std::fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

/// How both ends prove who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VpnAuth {
    /// By a preshared key.
    Psk(SecretBytes),
    /// By certificates. All PEM.
    Certificate {
        /// This end's chain, its own first.
        chain: Vec<u8>,
        /// Its private key.
        key: SecretBytes,
        /// Certificates of the authorities that the other end's must come from.
        authorities: Vec<u8>,
        /// Their revocation lists; perhaps empty.
        revoked: Vec<u8>,
    },
}

/// A post-quantum preshared key (RFC 8784).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ppk {
    /// Its name on the wire.
    pub id: String,
    /// The key.
    pub key: SecretBytes,
    /// Whether a connection without is refused.
    pub required: bool,
}

/// This end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalEnd {
    /// Where it listens and sends from.
    pub address: LocalAddress,
    /// Its name. None: its address, or its certificate's subject.
    pub id: Option<String>,
}

/// Where a connection listens and sends from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalAddress {
    /// The address that the route to the other end gives.
    Route,
    /// This one.
    Address(IpAddr),
    /// A VIP out of the pool of this name.
    Pool(String),
}

/// The other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteEnd {
    /// Where it is.
    pub gateway: RemoteGateway,
    /// Its name. None: its address; of `%any` it must be there.
    pub id: Option<String>,
}

/// Where the other end is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoteGateway {
    /// `%any`: it comes to us.
    Any,
    /// At an address.
    Address(IpAddr),
    /// At a DNS name's address.
    Name(String),
}

/// One child SA that is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VpnChild {
    /// Its name.
    pub name: String,
    /// Networks inside, before `localSubnetNAT`.
    pub local: Vec<IpNet>,
    /// Networks of the other end as they really are, after `remoteSubnetNAT`.
    pub remote: Vec<IpNet>,
    /// Of its own; the connection's if empty.
    pub esp: Vec<Proposal>,
}

/// `inside=outside`, of equal size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NatPair {
    /// As this side's hosts see it.
    pub inside: IpNet,
    /// As it is in the tunnel.
    pub outside: IpNet,
}

/// Dead peer detection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dpd {
    /// After so long without a sign of life one is asked for; zero for never.
    pub delay: Duration,
    /// After so long without an answer the other end is dead.
    pub timeout: Duration,
    /// What follows.
    pub action: CloseAction,
}

/// What follows when a connection has ended that nobody here wanted to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CloseAction {
    /// It is begun again.
    #[default]
    Restart,
    /// It waits for its first packet (`auto: route`) or for the other end.
    Clear,
    /// Nothing.
    None,
}

/// How long SAs live, before jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// An IKE SA.
    pub ike: Duration,
    /// A child SA.
    pub child: Duration,
    /// A child SA, in octets.
    pub bytes: Option<u64>,
    /// A child SA, in packets.
    pub packets: Option<u64>,
}
