//! WireGuard's peers of one interface, and the networks that each may use.
//!
//! [`Peers`] is a table that isn't changed but replaced whole ([`Peers::replaced`]), so that a
//! network moves from one peer to another without a moment in which it is nobody's. What a peer is
//! in the middle of ([`Peer::lock`]) goes over into the next table.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet, TunnResult};
use boringtun::x25519;
use ipnet::IpNet;
use model::PublicKey;
use thiserror::Error;

use crate::key::PrivateKey;

mod limit;
mod networks;
mod peer;

pub use networks::Networks;
pub use peer::{Opened, Peer, Sealed, Session, Statistics, Way};

use limit::PerSource;

/// Octets that a datagram has beyond its packet.
pub const OVERHEAD: usize = 32;
/// Octets that any answer fits in: the longest is a handshake initiation.
pub const ANSWER: usize = 148;
/// Handshakes that are taken in a second before the other end has to prove its address.
const HANDSHAKES: u64 = 200;
/// So many peers have indices.
const INDICES: u32 = 1 << 24;

/// What is wanted of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its key.
    pub key: PublicKey,
    /// Where it is; none if it will come by itself. It may roam from there.
    pub endpoint: Option<SocketAddr>,
    /// Sources that it may send from, and destinations that go to it.
    pub allowed: Vec<IpNet>,
    /// Seconds after which something is sent anyway.
    pub keepalive: Option<u16>,
}

/// What of a table is not as it was wanted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PeersError {
    /// A network is another peer's already.
    #[error("network {network} of peer {peer} is that of peer {other} already")]
    Taken {
        /// The network.
        network: IpNet,
        /// Who doesn't get it.
        peer: PublicKey,
        /// Who has it.
        other: PublicKey,
    },
    /// The peer is this end itself, or there twice.
    #[error("peer {0} is this interface's own key, or stands there twice")]
    NoPeer(PublicKey),
    /// The peer's key is of low order.
    #[error("peer {0} has a key of low order; make another with `wg genkey`")]
    Weak(PublicKey),
    /// There is no index left.
    #[error("there are too many peers")]
    TooMany,
}

impl PeersError {
    /// The peer concerned.
    pub fn peer(&self) -> Option<&PublicKey> {
        match self {
            Self::Taken { peer, .. } | Self::NoPeer(peer) | Self::Weak(peer) => Some(peer),
            Self::TooMany => None,
        }
    }
}

/// Why something is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dropped {
    /// No packet of WireGuard's, or none of IP inside of it.
    Malformed,
    /// Of no peer.
    UnknownPeer,
    /// Of a session that is over, or never was.
    NoSession,
    /// Not authentic.
    Unauthentic,
    /// It has been there before.
    Replayed,
    /// There are too many handshakes from this address.
    Limited,
    /// Its source is not in its peer's networks.
    NotAllowed,
    /// Its destination is in no peer's networks.
    NoPeer,
    /// Nobody knows where the peer is.
    NoEndpoint,
}

impl Dropped {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Malformed,
        Self::UnknownPeer,
        Self::NoSession,
        Self::Unauthentic,
        Self::Replayed,
        Self::Limited,
        Self::NotAllowed,
        Self::NoPeer,
        Self::NoEndpoint,
    ];

    /// As a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownPeer => "unknown_peer",
            Self::NoSession => "no_session",
            Self::Unauthentic => "unauthentic",
            Self::Replayed => "replayed",
            Self::Limited => "limited",
            Self::NotAllowed => "not_allowed",
            Self::NoPeer => "no_peer",
            Self::NoEndpoint => "no_endpoint",
        }
    }
}

/// What a datagram is.
#[derive(Debug)]
pub enum Incoming<'a> {
    /// A peer's, as it says: [`Session::open`] finds out.
    Of(&'a Arc<Peer>),
    /// Of somebody who has to prove the address first: so many octets of the buffer are to be sent
    /// back.
    Answer(usize),
    /// Nobody's.
    Dropped(Dropped),
}

/// This end, and what is known of all others that may come.
struct Own {
    private: x25519::StaticSecret,
    public: x25519::PublicKey,
    limiter: RateLimiter,
    per_source: PerSource,
    /// What peers have beside it: it never refuses.
    unlimited: Arc<RateLimiter>,
}

/// The peers of one interface.
#[derive(Clone)]
pub struct Peers {
    own: Arc<Own>,
    by_key: BTreeMap<PublicKey, Arc<Peer>>,
    by_index: BTreeMap<u32, Arc<Peer>>,
    networks: Networks<Arc<Peer>>,
    next_index: u32,
}

impl std::fmt::Debug for Peers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peers").field("by_key", &self.by_key).finish_non_exhaustive()
    }
}

impl Peers {
    /// None yet, of an interface with this key. `seed` is random: peers' numbers begin there.
    pub fn new(own: &PrivateKey, seed: u32) -> Self {
        let private = own.secret();
        let public = x25519::PublicKey::from(&private);
        let own = Own {
            limiter: RateLimiter::new(&public, HANDSHAKES),
            unlimited: Arc::new(RateLimiter::new(&public, u64::MAX)),
            per_source: PerSource::default(),
            private,
            public,
        };
        Self {
            own: Arc::new(own),
            by_key: BTreeMap::new(),
            by_index: BTreeMap::new(),
            networks: Networks::default(),
            next_index: seed % INDICES,
        }
    }

    /// The interface's own public key.
    pub fn key(&self) -> PublicKey {
        PublicKey(self.own.public.to_bytes())
    }

    /// The table with these peers alone, and what of them can't be. Peers that stay go on with
    /// their sessions, and stay where they have roamed to unless another endpoint is wanted than
    /// before.
    pub fn replaced(&self, wanted: &[Wanted], now: Instant) -> (Self, Vec<PeersError>) {
        let mut next = Self {
            own: Arc::clone(&self.own),
            by_key: BTreeMap::new(),
            by_index: BTreeMap::new(),
            networks: Networks::default(),
            next_index: self.next_index,
        };
        let mut errors = Vec::new();
        let mut taken: BTreeMap<IpNet, PublicKey> = BTreeMap::new();
        for peer in wanted {
            if peer.key == self.key() || next.by_key.contains_key(&peer.key) {
                errors.push(PeersError::NoPeer(peer.key));
                continue;
            }
            let found = match self.by_key.get(&peer.key) {
                Some(found) => Arc::clone(found),
                None => match next.make(self, peer.key, now) {
                    Ok(made) => made,
                    Err(error) => {
                        errors.push(error);
                        continue;
                    }
                },
            };
            found.lock().want(peer.endpoint, peer.keepalive);
            next.by_index.insert(found.index(), Arc::clone(&found));
            for network in peer.allowed.iter().map(IpNet::trunc).collect::<BTreeSet<_>>() {
                match taken.get(&network) {
                    Some(other) => {
                        let (peer, other) = (peer.key, *other);
                        errors.push(PeersError::Taken { network, peer, other });
                    }
                    None => {
                        taken.insert(network, peer.key);
                        next.networks.insert(network, Arc::clone(&found));
                    }
                }
            }
            next.by_key.insert(peer.key, found);
        }
        (next, errors)
    }

    fn make(
        &mut self,
        before: &Self,
        key: PublicKey,
        now: Instant,
    ) -> Result<Arc<Peer>, PeersError> {
        let public = x25519::PublicKey::from(key.0);
        if !self.own.private.diffie_hellman(&public).was_contributory() {
            return Err(PeersError::Weak(key));
        }
        let is_free = |index: &u32| {
            !before.by_index.contains_key(index) && !self.by_index.contains_key(index)
        };
        // An odd step goes through all of them.
        let mut indices = (0..INDICES)
            .map(|number| self.next_index.wrapping_add(number.wrapping_mul(0x009e_3779)) % INDICES);
        let index = indices.find(is_free).ok_or(PeersError::TooMany)?;
        self.next_index = index.wrapping_add(0x009e_3779) % INDICES;
        let unlimited = Arc::clone(&self.own.unlimited);
        Ok(Arc::new(Peer::new(self.own.private.clone(), key, index, unlimited, now)))
    }

    /// All peers by their keys.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.by_key.values()
    }

    /// A peer.
    pub fn get(&self, key: &PublicKey) -> Option<&Arc<Peer>> {
        self.by_key.get(key)
    }

    /// Whom packets to an address go to.
    #[inline]
    pub fn to(&self, destination: IpAddr) -> Option<&Arc<Peer>> {
        self.networks.get(destination)
    }

    /// Whether a peer may send from an address: if packets to it would go to that peer.
    #[inline]
    pub fn may_send(&self, peer: &Arc<Peer>, source: IpAddr) -> bool {
        self.networks.get(source).is_some_and(|owner| Arc::ptr_eq(owner, peer))
    }

    /// Whose a datagram is. What is to be sent back is put into `answer`.
    #[inline]
    pub fn find(
        &self,
        datagram: &[u8],
        from: SocketAddr,
        now: Instant,
        answer: &mut [u8; ANSWER],
    ) -> Incoming<'_> {
        let Some([kind, 0, 0, 0, a, b, c, d]) = datagram.first_chunk::<8>() else {
            return Incoming::Dropped(Dropped::Malformed);
        };
        let index = u32::from_le_bytes([*a, *b, *c, *d]);
        match kind {
            // Its last bits are the session's number.
            4 if datagram.len() >= OVERHEAD => self.at(index),
            3 if datagram.len() == 64 => self.at(index),
            1 | 2 => self.handshake(datagram, from, now, answer),
            _ => Incoming::Dropped(Dropped::Malformed),
        }
    }

    #[inline]
    fn at(&self, receiver: u32) -> Incoming<'_> {
        let found = self.by_index.get(&(receiver >> 8));
        found.map_or(Incoming::Dropped(Dropped::UnknownPeer), Incoming::Of)
    }

    #[cold]
    fn handshake(
        &self,
        datagram: &[u8],
        from: SocketAddr,
        now: Instant,
        answer: &mut [u8; ANSWER],
    ) -> Incoming<'_> {
        let own = &*self.own;
        // First what costs little: whoever sends this has to know this end's key, and under load
        // be able to hear what is sent to its address.
        match own.limiter.verify_packet(Some(from.ip()), datagram, answer) {
            Ok(Packet::HandshakeInit(_)) if !own.per_source.allows(from.ip(), now) => {
                Incoming::Dropped(Dropped::Limited)
            }
            Ok(Packet::HandshakeInit(initiation)) => {
                match parse_handshake_anon(&own.private, &own.public, &initiation) {
                    Ok(half) => {
                        let found = self.by_key.get(&PublicKey(half.peer_static_public));
                        found.map_or(Incoming::Dropped(Dropped::UnknownPeer), Incoming::Of)
                    }
                    Err(_) => Incoming::Dropped(Dropped::Unauthentic),
                }
            }
            Ok(Packet::HandshakeResponse(response)) => self.at(response.receiver_idx),
            Ok(_) => Incoming::Dropped(Dropped::Malformed),
            Err(TunnResult::WriteToNetwork(cookie)) => Incoming::Answer(cookie.len()),
            Err(TunnResult::Err(error)) => Incoming::Dropped(peer::dropped(&error)),
            Err(_) => Incoming::Dropped(Dropped::Malformed),
        }
    }

    /// Has to be called about every second, besides [`Session::tick`] of all peers.
    pub fn tick(&self) {
        self.own.limiter.reset_count();
    }
}

#[cfg(test)]
mod tests;
