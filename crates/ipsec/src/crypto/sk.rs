//! What is in an SK payload (RFC 7296, 3.14): sealing and opening it.
//!
//! AEADs by RFC 5282: 4 octets of salt from the key, 8 of IV on the wire, a counter from a random
//! start. CBC with HMAC: encrypted first, then authenticated with all that goes before.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use aws_lc_rs::{aead, constant_time, hmac};
use model::suite::{Encryption, Integrity};
use zeroize::Zeroizing;

use super::rng::Rng;
use super::{CryptoError, cbc};

/// The explicit IV of an AEAD.
const AEAD_IV: usize = 8;
/// Its checksum.
const AEAD_TAG: usize = 16;

/// The cipher of one direction of an IKE SA. Clones share the counter, so that no IV comes twice.
#[derive(Clone)]
pub struct SkCipher(Arc<Inner>);

enum Inner {
    Aead { key: aead::LessSafeKey, salt: [u8; 4], ivs: Ivs },
    Cbc { encryption: Encryption, key: Zeroizing<Vec<u8>>, mac: Box<hmac::Key>, tag: usize },
}

/// Where the counter began, and how many there have been.
#[derive(Default)]
struct Ivs {
    start: OnceLock<u64>,
    used: AtomicU64,
}

impl Ivs {
    fn next(&self, rng: &mut dyn Rng) -> [u8; AEAD_IV] {
        let start = self.start.get_or_init(|| {
            let mut start = [0; AEAD_IV];
            rng.fill(&mut start);
            u64::from_be_bytes(start)
        });
        start.wrapping_add(self.used.fetch_add(1, Ordering::Relaxed)).to_be_bytes()
    }
}

impl fmt::Debug for SkCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(keys)")
    }
}

/// Octets of a cipher's key, and of its salt.
pub fn key_length(encryption: Encryption) -> (usize, usize) {
    match encryption {
        Encryption::Aes128Gcm16 => (16, 4),
        Encryption::Aes256Gcm16 | Encryption::ChaCha20Poly1305 => (32, 4),
        Encryption::Aes128Cbc => (16, 0),
        Encryption::Aes192Cbc | Encryption::TripleDesCbc => (24, 0),
        Encryption::Aes256Cbc => (32, 0),
    }
}

/// Octets of an HMAC's key, and of the checksum that is sent of it.
pub fn integrity_length(integrity: Integrity) -> (usize, usize) {
    match integrity {
        Integrity::HmacSha256 => (32, 16),
        Integrity::HmacSha384 => (48, 24),
        Integrity::HmacSha512 => (64, 32),
        Integrity::HmacSha1 => (20, 12),
    }
}

fn hmac_algorithm(integrity: Integrity) -> hmac::Algorithm {
    match integrity {
        Integrity::HmacSha256 => hmac::HMAC_SHA256,
        Integrity::HmacSha384 => hmac::HMAC_SHA384,
        Integrity::HmacSha512 => hmac::HMAC_SHA512,
        Integrity::HmacSha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
    }
}

fn aead_key(encryption: Encryption, key: &[u8]) -> Result<aead::LessSafeKey, CryptoError> {
    let algorithm = match encryption {
        Encryption::Aes128Gcm16 => &aead::AES_128_GCM,
        Encryption::Aes256Gcm16 => &aead::AES_256_GCM,
        Encryption::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        _ => return Err(CryptoError::Suite("AEAD")),
    };
    aead::UnboundKey::new(algorithm, key)
        .map(aead::LessSafeKey::new)
        .map_err(|_| CryptoError::KeyLength { algorithm: "AEAD", length: key.len() })
}

fn nonce(salt: [u8; 4], iv: &[u8]) -> aead::Nonce {
    let mut nonce = [0; 12];
    nonce.iter_mut().zip(salt.iter().chain(iv)).for_each(|(to, from)| *to = *from);
    aead::Nonce::assume_unique_for_key(nonce)
}

impl SkCipher {
    /// From SK_e (with an AEAD's salt behind the key) and SK_a (empty with an AEAD).
    ///
    /// # Errors
    /// CBC without an HMAC, or a key of another length than the algorithm takes.
    pub fn new(
        encryption: Encryption,
        integrity: Option<Integrity>,
        sk_e: &[u8],
        sk_a: &[u8],
    ) -> Result<Self, CryptoError> {
        let (length, _) = key_length(encryption);
        let wrong = |algorithm, key: &[u8]| CryptoError::KeyLength { algorithm, length: key.len() };
        let (key, salt) = sk_e.split_at_checked(length).ok_or_else(|| wrong("SK_e", sk_e))?;
        let inner = if encryption.is_aead() {
            let salt = salt.try_into().map_err(|_| wrong("SK_e", sk_e))?;
            Inner::Aead { key: aead_key(encryption, key)?, salt, ivs: Ivs::default() }
        } else {
            let integrity = integrity.ok_or(CryptoError::Suite("integrity algorithm"))?;
            let (mac, tag) = integrity_length(integrity);
            if !salt.is_empty() {
                return Err(wrong("SK_e", sk_e));
            }
            if sk_a.len() != mac {
                return Err(wrong("SK_a", sk_a));
            }
            let mac = Box::new(hmac::Key::new(hmac_algorithm(integrity), sk_a));
            Inner::Cbc { encryption, key: Zeroizing::new(key.to_vec()), mac, tag }
        };
        Ok(Self(Arc::new(inner)))
    }

    /// Octets that sealing adds to so many: IV, padding with its length octet, checksum.
    pub fn overhead(&self, plain: usize) -> usize {
        match &*self.0 {
            Inner::Aead { .. } => AEAD_IV + 1 + AEAD_TAG,
            Inner::Cbc { encryption, tag, .. } => {
                let block = cbc::block(*encryption);
                block + padding(block, plain) + 1 + tag
            }
        }
    }

    /// IV ‖ ciphertext ‖ checksum. `associated` is all of the message that goes before.
    pub fn seal(&self, rng: &mut dyn Rng, associated: &[u8], plain: &[u8]) -> Vec<u8> {
        self.try_seal(rng, associated, plain)
            .expect("invariant: lengths were checked by `new`, messages are under 64 KiB")
    }

    fn try_seal(
        &self,
        rng: &mut dyn Rng,
        associated: &[u8],
        plain: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        // All of it at once: growing would leave the plain text behind.
        let mut out = Vec::with_capacity(plain.len() + self.overhead(plain.len()));
        match &*self.0 {
            Inner::Aead { key, salt, ivs } => {
                let iv = ivs.next(rng);
                out.extend(iv);
                out.extend(plain);
                out.push(0);
                let (_, text) = out.split_at_mut(AEAD_IV);
                let aad = aead::Aad::from(associated);
                let tag = key
                    .seal_in_place_separate_tag(nonce(*salt, &iv), aad, text)
                    .map_err(|_| CryptoError::Failed("sealing"))?;
                out.extend(tag.as_ref());
            }
            Inner::Cbc { encryption, key, mac, tag } => {
                let block = cbc::block(*encryption);
                let padding = padding(block, plain.len());
                out.resize(block, 0);
                rng.fill(&mut out);
                out.extend(plain);
                out.resize(out.len() + padding, 0);
                out.push(u8::try_from(padding).unwrap_or(0));
                let (iv, text) = out.split_at_mut(block);
                cbc::encrypt(*encryption, key, iv, text)?;
                let sum = checksum(mac, associated, &out);
                out.extend(sum.as_ref().iter().take(*tag));
            }
        }
        Ok(out)
    }

    /// What was sealed.
    ///
    /// # Errors
    /// [`CryptoError::Unauthentic`]; [`CryptoError::Padding`] from an end that has the keys and
    /// writes nonsense.
    pub fn open(
        &self,
        associated: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        let mut text;
        match &*self.0 {
            Inner::Aead { key, salt, .. } => {
                let (iv, rest) =
                    sealed.split_at_checked(AEAD_IV).ok_or(CryptoError::Unauthentic)?;
                text = Zeroizing::new(rest.to_vec());
                let aad = aead::Aad::from(associated);
                let length = key
                    .open_in_place(nonce(*salt, iv), aad, &mut text)
                    .map_err(|_| CryptoError::Unauthentic)?
                    .len();
                text.truncate(length);
            }
            Inner::Cbc { encryption, key, mac, tag } => {
                let (authentic, sum) = sealed
                    .len()
                    .checked_sub(*tag)
                    .and_then(|at| sealed.split_at_checked(at))
                    .ok_or(CryptoError::Unauthentic)?;
                let expected = checksum(mac, associated, authentic);
                let expected = expected.as_ref().get(..*tag).unwrap_or_default();
                constant_time::verify_slices_are_equal(expected, sum)
                    .map_err(|_| CryptoError::Unauthentic)?;
                let (iv, rest) = authentic
                    .split_at_checked(cbc::block(*encryption))
                    .ok_or(CryptoError::Padding)?;
                text = Zeroizing::new(rest.to_vec());
                cbc::decrypt(*encryption, key, iv, &mut text).map_err(|_| CryptoError::Padding)?;
            }
        }
        let padding = text.last().map(|padding| usize::from(*padding) + 1);
        let length = padding.and_then(|padding| text.len().checked_sub(padding));
        text.truncate(length.ok_or(CryptoError::Padding)?);
        Ok(text)
    }
}

fn checksum(mac: &hmac::Key, associated: &[u8], sealed: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(mac);
    context.update(associated);
    context.update(sealed);
    context.sign()
}

/// So many octets are missing until the text with its length octet fills blocks.
fn padding(block: usize, plain: usize) -> usize {
    (plain + 1).next_multiple_of(block.max(1)) - plain - 1
}

#[cfg(test)]
mod tests;
