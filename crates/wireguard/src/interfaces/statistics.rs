//! What interfaces and peers have done.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use model::PublicKey;

/// What a peer has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerStatistics {
    /// Where it is, as far as known; it may have roamed.
    pub endpoint: Option<SocketAddr>,
    /// How long ago the last handshake was.
    pub last_handshake: Option<Duration>,
    /// Octets received: of packets; where the kernel counts, of datagrams.
    pub received_bytes: u64,
    /// Octets sent.
    pub sent_bytes: u64,
    /// Packets received; the kernel doesn't count them.
    pub received_packets: u64,
    /// Packets sent.
    pub sent_packets: u64,
}

/// What an interface has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceStatistics {
    /// By key.
    pub peers: BTreeMap<PublicKey, PeerStatistics>,
    /// Packets that were not passed on, by reason; the kernel doesn't say.
    pub drops: BTreeMap<&'static str, u64>,
}
