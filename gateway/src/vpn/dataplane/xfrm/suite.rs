//! Algorithms as the kernel names them.

use ipsec::sa::{EspKeys, EspSuite};
use model::suite::{Encryption, Integrity};
use netdev::xfrm::Algorithms;
use zeroize::Zeroizing;

/// Keys of one direction, as the kernel wants them.
pub(super) struct Keyed<'a> {
    suite: EspSuite,
    keys: &'a EspKeys,
    /// Key and salt of an AEAD.
    joined: Zeroizing<Vec<u8>>,
}

impl<'a> Keyed<'a> {
    pub(super) fn new(suite: EspSuite, keys: &'a EspKeys) -> Self {
        let mut joined = Zeroizing::new(Vec::with_capacity(64));
        joined.extend_from_slice(&keys.encryption);
        joined.extend_from_slice(&keys.salt);
        Self { suite, keys, joined }
    }

    /// None for a cipher without authentication, which is never agreed on.
    pub(super) fn algorithms(&self) -> Option<Algorithms<'_>> {
        let cipher = match self.suite.encryption {
            Encryption::Aes128Gcm16 | Encryption::Aes256Gcm16 => {
                let name = "rfc4106(gcm(aes))";
                return Some(Algorithms::Aead { name, key: &self.joined, tag: 16 });
            }
            Encryption::ChaCha20Poly1305 => {
                let name = "rfc7539esp(chacha20,poly1305)";
                return Some(Algorithms::Aead { name, key: &self.joined, tag: 16 });
            }
            Encryption::Aes128Cbc | Encryption::Aes192Cbc | Encryption::Aes256Cbc => "cbc(aes)",
            Encryption::TripleDesCbc => "cbc(des3_ede)",
        };
        let (integrity, tag) = match self.suite.integrity? {
            Integrity::HmacSha256 => ("hmac(sha256)", 16),
            Integrity::HmacSha384 => ("hmac(sha384)", 24),
            Integrity::HmacSha512 => ("hmac(sha512)", 32),
            Integrity::HmacSha1 => ("hmac(sha1)", 12),
        };
        let (key, integrity_key) = (&self.keys.encryption, &self.keys.integrity);
        Some(Algorithms::Both { cipher, key, integrity, integrity_key, tag })
    }
}
