//! Names of algorithms of IKEv2 and ESP, and proposals made of them.
//!
//! The notation is swanctl's (`aes256gcm16-prfsha384-x25519`, `aes128-sha256-modp2048`); numbers
//! are IANA's "Internet Key Exchange Version 2 (IKEv2) Parameters".

use std::fmt;

mod name;
mod notation;
mod number;

pub use notation::{NotationError, default_esp, default_ike, parse_list, with_ml_kem};

/// How much of a datagram is kept secret, by which cipher (transform type 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encryption {
    /// AES-GCM with a 16-octet tag, 128-bit key (RFC 4106, RFC 5282).
    Aes128Gcm16,
    /// The same, 256-bit key.
    Aes256Gcm16,
    /// ChaCha20-Poly1305 (RFC 7634).
    ChaCha20Poly1305,
    /// AES-CBC, 128-bit key (RFC 3602).
    Aes128Cbc,
    /// The same, 192-bit key.
    Aes192Cbc,
    /// The same, 256-bit key.
    Aes256Cbc,
    /// 3DES-CBC. Legacy.
    TripleDesCbc,
}

impl Encryption {
    /// Whether it authenticates, too, so that it needs no [`Integrity`].
    pub fn is_aead(self) -> bool {
        matches!(self, Self::Aes128Gcm16 | Self::Aes256Gcm16 | Self::ChaCha20Poly1305)
    }
}

/// What proves that a message was not changed (transform type 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Integrity {
    /// HMAC-SHA-256-128 (RFC 4868).
    HmacSha256,
    /// HMAC-SHA-384-192.
    HmacSha384,
    /// HMAC-SHA-512-256.
    HmacSha512,
    /// HMAC-SHA-1-96. Legacy.
    HmacSha1,
}

/// The pseudorandom function of an IKE SA (transform type 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Prf {
    /// PRF-HMAC-SHA2-256 (RFC 4868).
    HmacSha256,
    /// PRF-HMAC-SHA2-384.
    HmacSha384,
    /// PRF-HMAC-SHA2-512.
    HmacSha512,
    /// PRF-HMAC-SHA1. Legacy.
    HmacSha1,
}

/// A key exchange (transform types 4 and 6 to 12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// 2: 1024-bit MODP. Legacy.
    Modp1024,
    /// 5: 1536-bit MODP. Legacy.
    Modp1536,
    /// 14: 2048-bit MODP (RFC 3526).
    Modp2048,
    /// 15: 3072-bit MODP.
    Modp3072,
    /// 16: 4096-bit MODP.
    Modp4096,
    /// 19: NIST P-256 (RFC 5903).
    P256,
    /// 20: NIST P-384.
    P384,
    /// 21: NIST P-521.
    P521,
    /// 31: Curve25519 (RFC 8031).
    X25519,
    /// 36: ML-KEM-768, only as an additional key exchange (RFC 9370).
    MlKem768,
}

/// One proposal: of each kind any one may be chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Proposal {
    /// Ciphers, all with or all without authentication of their own.
    pub encryption: Vec<Encryption>,
    /// Empty with ciphers that authenticate.
    pub integrity: Vec<Integrity>,
    /// Only for an IKE SA.
    pub prf: Vec<Prf>,
    /// Key exchanges; for ESP perhaps none, then a rekeying has no forward secrecy.
    pub groups: Vec<Group>,
    /// Additional key exchanges 1 to 7 in order (RFC 9370), each a choice.
    pub additional: Vec<Vec<Group>>,
    /// Only for ESP: whether 64-bit sequence numbers may be used, in order of preference. Never
    /// empty there; `[Esn::Yes, Esn::No]` unless the notation says otherwise.
    pub esn: Vec<Esn>,
}

/// Sequence numbers' size (transform type 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Esn {
    /// 32 bits.
    No,
    /// 64 bits.
    Yes,
}

/// What a [`Proposal`] is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// An IKE SA.
    Ike,
    /// A child SA with ESP.
    Esp,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ike => "ike",
            Self::Esp => "esp",
        })
    }
}
