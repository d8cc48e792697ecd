//! Messages in sealed datagrams: an agent asks an edge whether it is there and what it holds;
//! edges ask each other whether they live, and for promises.
//!
//! A datagram is `TGP1`, the beginning of SHA-256 of the receiver's and of the sender's public
//! key (8 octets each), a random nonce (12), and the message, sealed with AES-256-GCM under a key
//! that HKDF-SHA256 makes of the X25519 secret of both. What stands before the message is
//! authenticated with it, so that one's own messages are not taken for the other's.
//!
//! An answer repeats the nonce of what it answers; nothing else is an answer. A request has a
//! sequence (a clock's microseconds will do) that the receiver has [`Fresh`] check. Who is behind its
//! own last one is told ([`Body::Behind`]), and goes on from there ([`next_sequence`]).

use std::collections::BTreeMap;
use std::net::IpAddr;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, UnboundKey};
use aws_lc_rs::{digest, hkdf};
use model::{ObjectKey, PublicKey};
use thiserror::Error;

use crate::key::{PrivateKey, hint};

mod wire;

pub use wire::MAX_NAME;

/// Octets of the longest datagram; IP fragments it where it has to.
pub const LARGEST: usize = 32 * 1024;

const MAGIC: [u8; 4] = *b"TGP1";
const HINT: usize = 8;
/// Before the sealed message.
const HEADER: usize = MAGIC.len() + 2 * HINT + NONCE_LEN;
const TAG: usize = 16;
/// How many senders [`Fresh`] remembers.
const SENDERS: usize = 65_536;

/// What makes a message's sealing unique: random octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce(pub [u8; NONCE_LEN]);

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Greater than that of all the sender's earlier messages, also before it was started anew.
    pub sequence: u64,
    /// The nonce of what it answers; none of a request.
    pub answers: Option<Nonce>,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// An agent asks an edge.
    Probe(Probe),
    /// An edge answers an agent.
    Answer(Answer),
    /// An edge asks another whether it lives: the incarnation that it would fence, or 0.
    AliveAsked(u64),
    /// It does, in this incarnation.
    Alive(u64),
    /// An edge asks another for a promise; what for is none of this module's business.
    PromiseAsked(Vec<u8>),
    /// The answer.
    Promise(Vec<u8>),
    /// Of a request with a sequence that isn't greater than this one: the asker's clock was set
    /// back, or somebody repeats what it has said. It does no harm to whoever goes on from there.
    Behind(u64),
}

impl Body {
    /// Whether it answers something.
    pub fn is_answer(&self) -> bool {
        matches!(self, Self::Answer(_) | Self::Alive(_) | Self::Promise(_) | Self::Behind(_))
    }
}

/// An agent asks an edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The Node.
    pub node: String,
    /// Grows with every key that the node makes: of two keys, that of the greater generation is
    /// the newer one.
    pub generation: u64,
    /// Whether the node wants its packets sent to the key that this is sealed with.
    pub use_key: bool,
    /// [`Holds::hash`] of what it knows of the edge, 0 for nothing: it is not repeated.
    pub knows: u64,
}

/// An edge answers an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The EdgeGateway.
    pub edge: String,
    /// Grows with every start of the edge.
    pub incarnation: u64,
    /// Whether it wants to be left.
    pub drain: bool,
    /// [`Holds::hash`] of what it holds.
    pub hash: u64,
    /// What it holds; none if the agent knows.
    pub holds: Option<Holds>,
}

/// What an edge holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holds {
    /// VpnConnections, each with its claim's epoch.
    pub vpn: BTreeMap<ObjectKey, u64>,
    /// VIPs, sorted.
    pub vips: Vec<IpAddr>,
}

impl Holds {
    /// Tells one from another; never 0.
    pub fn hash(&self) -> u64 {
        let mut octets = Vec::new();
        wire::push_holds(&mut octets, self);
        let digest = digest::digest(&digest::SHA256, &octets);
        let first = digest.as_ref().first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
        first.max(1)
    }
}

/// A datagram that is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProbeError {
    /// It is none of these, or cut off.
    #[error("is no probe")]
    NoProbe,
    /// It is between two others.
    #[error("is for another key")]
    OtherKey,
    /// It was not sealed with this key, or has been changed.
    #[error("is not authentic")]
    Unauthentic,
    /// Sealed rightly, but not understood.
    #[error("is malformed")]
    Malformed,
    /// It would be too long.
    #[error("has more than {LARGEST} octets, or a name of more than {MAX_NAME}")]
    TooLong,
}

/// A public key that nothing can be sealed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("key {0} is of low order: nothing can be sealed for it; make another with `wg genkey`")]
pub struct WeakKey(pub PublicKey);

/// A key's shortened form, as it stands in datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hint([u8; HINT]);

impl Hint {
    /// That of a key.
    pub fn of(key: &PublicKey) -> Self {
        Self(hint(key))
    }
}

/// Between whom a datagram is, as it says itself: it tells which [`Pair`] may open it.
///
/// # Errors
/// [`ProbeError::NoProbe`].
pub fn parties(datagram: &[u8]) -> Result<(Hint, Hint), ProbeError> {
    if datagram.len() < HEADER + TAG || datagram.len() > LARGEST {
        return Err(ProbeError::NoProbe);
    }
    let rest = datagram.strip_prefix(&MAGIC).ok_or(ProbeError::NoProbe)?;
    let (to, rest) = rest.split_first_chunk::<HINT>().ok_or(ProbeError::NoProbe)?;
    let from = rest.first_chunk::<HINT>().ok_or(ProbeError::NoProbe)?;
    Ok((Hint(*from), Hint(*to)))
}

/// Two ends that seal for each other.
pub struct Pair {
    key: LessSafeKey,
    own: Hint,
    other: Hint,
    other_key: PublicKey,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("other", &self.other_key).finish_non_exhaustive()
    }
}

impl Pair {
    /// Of one's own key and the other's.
    ///
    /// # Errors
    /// [`WeakKey`].
    pub fn new(own: &PrivateKey, other: &PublicKey) -> Result<Self, WeakKey> {
        let secret = own.secret().diffie_hellman(&boringtun::x25519::PublicKey::from(other.0));
        if !secret.was_contributory() {
            return Err(WeakKey(*other));
        }
        let public = own.public();
        let (first, second) = if public < *other { (&public, other) } else { (other, &public) };
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"tidegate probes, version 1");
        let info = [first.0.as_slice(), second.0.as_slice()];
        let key = salt
            .extract(secret.as_bytes())
            .expand(&info, &AES_256_GCM)
            .map(UnboundKey::from)
            .expect("invariant: a key is no longer than HKDF gives");
        let (own, to) = (Hint::of(&public), Hint::of(other));
        Ok(Self { key: LessSafeKey::new(key), own, other: to, other_key: *other })
    }

    /// The other's key.
    pub fn other(&self) -> &PublicKey {
        &self.other_key
    }

    /// A datagram to the other. The nonce must be random, and is used once.
    ///
    /// # Errors
    /// [`ProbeError::TooLong`].
    pub fn seal(&self, nonce: Nonce, message: &Message) -> Result<Vec<u8>, ProbeError> {
        let mut sealed = wire::encode(message)?;
        let header = header(&self.other, &self.own, &nonce);
        let unique = aws_lc_rs::aead::Nonce::assume_unique_for_key(nonce.0);
        self.key
            .seal_in_place_append_tag(unique, Aad::from(&header), &mut sealed)
            .map_err(|_| ProbeError::TooLong)?;
        let datagram = [header.as_slice(), &sealed].concat();
        if datagram.len() > LARGEST { Err(ProbeError::TooLong) } else { Ok(datagram) }
    }

    /// What the other says, and its nonce, which an answer has to repeat.
    ///
    /// # Errors
    /// [`ProbeError`].
    pub fn open(&self, datagram: &[u8]) -> Result<(Nonce, Message), ProbeError> {
        let (from, to) = parties(datagram)?;
        if from != self.other || to != self.own {
            return Err(ProbeError::OtherKey);
        }
        let (header, sealed) = datagram.split_first_chunk::<HEADER>().ok_or(ProbeError::NoProbe)?;
        let nonce = Nonce(*header.last_chunk().ok_or(ProbeError::NoProbe)?);
        let mut sealed = sealed.to_vec();
        let unique = aws_lc_rs::aead::Nonce::assume_unique_for_key(nonce.0);
        let opened = self
            .key
            .open_in_place(unique, Aad::from(header), &mut sealed)
            .map_err(|_| ProbeError::Unauthentic)?;
        Ok((nonce, wire::decode(opened)?))
    }
}

fn header(to: &Hint, from: &Hint, nonce: &Nonce) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let octets = MAGIC.iter().chain(&to.0).chain(&from.0).chain(&nonce.0);
    for (place, octet) in header.iter_mut().zip(octets) {
        *place = *octet;
    }
    header
}

/// Requests that have not been there before, by their senders' sequences. A sender's first one is
/// taken whatever its sequence is.
#[derive(Clone, Debug, Default)]
pub struct Fresh {
    last: BTreeMap<PublicKey, u64>,
}

impl Fresh {
    /// Whether it is later than all before. It has to be authentic.
    pub fn accept(&mut self, sender: &PublicKey, sequence: u64) -> bool {
        match self.last.get_mut(sender) {
            Some(last) if *last >= sequence => false,
            Some(last) => {
                *last = sequence;
                true
            }
            None => {
                // Keys of those who may send at all are few; this is a bound, no cache.
                if self.last.len() < SENDERS {
                    self.last.insert(*sender, sequence);
                }
                true
            }
        }
    }

    /// The last one's, where there is one.
    pub fn last(&self, sender: &PublicKey) -> Option<u64> {
        self.last.get(sender).copied()
    }

    /// Forgets senders that are none any more.
    pub fn retain(&mut self, is_sender: impl Fn(&PublicKey) -> bool) {
        self.last.retain(|key, _| is_sender(key));
    }
}

/// The sequence of the next request: greater than that of the last one, also before whoever sends
/// it was started anew, as long as clocks (`micros` since 1970) aren't set back.
pub fn next_sequence(before: u64, micros: u64) -> u64 {
    micros.max(before.saturating_add(1))
}

/// Where to go on if the other end says that one is `behind`. Clocks that are wrong by more than a
/// year are not gone after: nobody may have all sequences used up.
pub fn caught_up(before: u64, behind: u64, micros: u64) -> u64 {
    const YEAR: u64 = 366 * 24 * 3600 * 1_000_000;
    if behind <= micros.saturating_add(YEAR) { before.max(behind) } else { before }
}

/// What is left after taking a message's octets; for fuzzing.
#[doc(hidden)]
pub fn decode(octets: &[u8]) -> Result<Message, ProbeError> {
    wire::decode(octets)
}

/// A message's octets; for fuzzing.
#[doc(hidden)]
pub fn encode(message: &Message) -> Result<Vec<u8>, ProbeError> {
    wire::encode(message)
}

#[cfg(test)]
mod tests;
