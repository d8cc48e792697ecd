//! The algorithms of an SA: cipher and proof in one, for both directions.

use aes::Aes128;
use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{
    self, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey,
};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use cbc::cipher::array::Array;
use cbc::cipher::{
    BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, InnerIvInit, KeyInit, typenum,
};
use des::TdesEde3;
use model::suite::{Encryption, Integrity};

use super::EspError;
use super::HEADER;
use super::TRAILER;
use crate::crypto::CryptoError;
use crate::crypto::rng::Rng;
use crate::sa::{EspKeys, EspSuite};

/// Sizes, in octets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Of the IV on the wire.
    pub(crate) iv: usize,
    /// What is encrypted is a multiple of it.
    pub(crate) block: usize,
    /// Of the proof at the end.
    pub(crate) icv: usize,
}

impl Shape {
    /// Of the ESP packet around so many octets.
    pub(crate) fn sealed(&self, inner: usize) -> usize {
        HEADER + self.iv + (inner + TRAILER).next_multiple_of(self.block) + self.icv
    }

    /// The most octets that fit into an ESP packet of this size.
    pub(crate) fn largest_inner(&self, packet: usize) -> usize {
        let room = packet.saturating_sub(HEADER + self.iv + self.icv);
        (room - room % self.block).saturating_sub(TRAILER)
    }
}

/// A cipher and its proof, with keys.
pub(crate) enum Transform {
    /// One algorithm for both.
    Aead { key: LessSafeKey, salt: [u8; 4] },
    /// Encrypt, then MAC.
    Cbc { cipher: Cbc, mac: Box<hmac::Key>, icv: usize },
}

/// A cipher in CBC mode without padding of its own.
pub(crate) enum Cbc {
    /// AES, to seal. `iv` makes IVs.
    AesSeal { key: Box<EncryptingKey>, iv: Box<Aes128> },
    /// AES, to open.
    AesOpen(Box<DecryptingKey>),
    /// 3DES. `iv` makes IVs.
    TripleDes { key: Box<TdesEde3>, iv: Box<Aes128> },
}

/// Which way packets go.
pub(crate) enum Direction<'a> {
    /// They leave; IVs need a key that nobody can guess.
    Out(&'a mut dyn Rng),
    /// They come.
    In,
}

impl Transform {
    pub(crate) fn new(
        suite: EspSuite,
        keys: &EspKeys,
        direction: Direction<'_>,
    ) -> Result<(Self, Shape), CryptoError> {
        let algorithm = match suite.encryption {
            Encryption::Aes128Gcm16 => Some(&aead::AES_128_GCM),
            Encryption::Aes256Gcm16 => Some(&aead::AES_256_GCM),
            Encryption::ChaCha20Poly1305 => Some(&aead::CHACHA20_POLY1305),
            _ => None,
        };
        if let Some(algorithm) = algorithm {
            let key = UnboundKey::new(algorithm, &keys.encryption)
                .map_err(|_| unfit("the AEAD", &keys.encryption))?;
            let salt = keys
                .salt
                .as_slice()
                .try_into()
                .map_err(|_| unfit("the AEAD's salt", &keys.salt))?;
            let shape = Shape { iv: 8, block: 4, icv: 16 };
            return Ok((Self::Aead { key: LessSafeKey::new(key), salt }, shape));
        }
        let (mac, icv) = match suite.integrity {
            Some(Integrity::HmacSha256) => (hmac::HMAC_SHA256, 16),
            Some(Integrity::HmacSha384) => (hmac::HMAC_SHA384, 24),
            Some(Integrity::HmacSha512) => (hmac::HMAC_SHA512, 32),
            Some(Integrity::HmacSha1) => (hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, 12),
            None => return Err(CryptoError::Suite("integrity algorithm")),
        };
        if keys.integrity.len() != mac.tag_len() {
            return Err(unfit("HMAC", &keys.integrity));
        }
        let mac = Box::new(hmac::Key::new(mac, &keys.integrity));
        let cipher = Cbc::new(suite.encryption, &keys.encryption, direction)?;
        let block = cipher.block();
        Ok((Self::Cbc { cipher, mac, icv }, Shape { iv: block, block, icv }))
    }

    /// The IV of a packet, written into a field of the right size.
    pub(crate) fn write_iv(&self, sequence: u64, field: &mut [u8]) {
        match self {
            Self::Aead { .. } => field.copy_from_slice(&sequence.to_be_bytes()),
            Self::Cbc { cipher: Cbc::AesSeal { iv, .. } | Cbc::TripleDes { iv, .. }, .. } => {
                let mut block = [0; 16];
                block.iter_mut().zip(sequence.to_be_bytes()).for_each(|(to, from)| *to = from);
                let mut block = Array::from(block);
                iv.encrypt_block(&mut block);
                field.iter_mut().zip(block).for_each(|(to, from)| *to = from);
            }
            Self::Cbc { .. } => {}
        }
    }

    /// Encrypts in place. `packet` is SPI, sequence number, IV and what is to be secret; the proof
    /// is added. False if it can't be done, which no packet's size allows.
    pub(crate) fn seal(
        &self,
        shape: &Shape,
        high: Option<u32>,
        out: &mut Vec<u8>,
        start: usize,
    ) -> bool {
        let Some(packet) = out.get_mut(start..) else { return false };
        match self {
            Self::Aead { key, salt } => {
                let Some((header, rest)) = packet.split_first_chunk_mut::<HEADER>() else {
                    return false;
                };
                let Some((iv, secret)) = rest.split_first_chunk_mut::<8>() else { return false };
                let nonce = nonce(*salt, *iv);
                let sealed = match high {
                    None => key.seal_in_place_separate_tag(nonce, Aad::from(*header), secret),
                    Some(high) => {
                        let associated = Aad::from(associated(*header, high));
                        key.seal_in_place_separate_tag(nonce, associated, secret)
                    }
                };
                let Ok(tag) = sealed else { return false };
                out.extend_from_slice(tag.as_ref());
            }
            Self::Cbc { cipher, mac, icv } => {
                let Some((iv, secret)) =
                    packet.get_mut(HEADER..).and_then(|rest| rest.split_at_mut_checked(shape.iv))
                else {
                    return false;
                };
                if !cipher.encrypt(iv, secret) {
                    return false;
                }
                let tag = authenticate(mac, high, packet);
                let Some(tag) = tag.as_ref().get(..*icv) else { return false };
                out.extend_from_slice(tag);
            }
        }
        true
    }

    /// Checks and decrypts in place: what was secret comes out.
    pub(crate) fn open<'a>(
        &self,
        shape: &Shape,
        high: Option<u32>,
        packet: &'a mut [u8],
    ) -> Result<&'a mut [u8], EspError> {
        let end = packet.len().checked_sub(shape.icv).ok_or(EspError::Truncated)?;
        let (packet, tag) = packet.split_at_mut_checked(end).ok_or(EspError::Truncated)?;
        match self {
            Self::Aead { key, salt } => {
                let (header, rest) =
                    packet.split_first_chunk_mut::<HEADER>().ok_or(EspError::Truncated)?;
                let (iv, secret) = rest.split_first_chunk_mut::<8>().ok_or(EspError::Truncated)?;
                if secret.is_empty() || !secret.len().is_multiple_of(shape.block) {
                    return Err(EspError::Truncated);
                }
                let nonce = nonce(*salt, *iv);
                match high {
                    None => key.open_in_place_separate_tag(nonce, Aad::from(*header), tag, secret),
                    Some(high) => {
                        let associated = Aad::from(associated(*header, high));
                        key.open_in_place_separate_tag(nonce, associated, tag, secret)
                    }
                }
                .map_err(|_| EspError::Unauthentic)
            }
            Self::Cbc { cipher, mac, icv } => {
                let secret = packet.len().saturating_sub(HEADER + shape.iv);
                if secret == 0 || !secret.is_multiple_of(shape.block) {
                    return Err(EspError::Truncated);
                }
                let expected = authenticate(mac, high, packet);
                let expected = expected.as_ref().get(..*icv).ok_or(EspError::Unauthentic)?;
                verify_slices_are_equal(expected, tag).map_err(|_| EspError::Unauthentic)?;
                let (iv, secret) = packet
                    .get_mut(HEADER..)
                    .and_then(|rest| rest.split_at_mut_checked(shape.iv))
                    .ok_or(EspError::Truncated)?;
                if !cipher.decrypt(iv, secret) {
                    return Err(EspError::Truncated);
                }
                Ok(secret)
            }
        }
    }
}

impl Cbc {
    fn new(
        encryption: Encryption,
        key: &[u8],
        direction: Direction<'_>,
    ) -> Result<Self, CryptoError> {
        let algorithm = match encryption {
            Encryption::Aes128Cbc => Some(&cipher::AES_128),
            Encryption::Aes192Cbc => Some(&cipher::AES_192),
            Encryption::Aes256Cbc => Some(&cipher::AES_256),
            _ => None,
        };
        let iv = |direction: Direction<'_>| {
            let mut key = zeroize::Zeroizing::new([0; 16]);
            if let Direction::Out(rng) = direction {
                rng.fill(&mut key[..]);
            }
            Aes128::new(&Array::from(*key))
        };
        let Some(algorithm) = algorithm else {
            let key = TdesEde3::new_from_slice(key).map_err(|_| unfit("3DES", key))?;
            return Ok(Self::TripleDes { key: Box::new(key), iv: Box::new(iv(direction)) });
        };
        let unfit = |_| unfit("AES-CBC", key);
        let key = UnboundCipherKey::new(algorithm, key).map_err(unfit)?;
        match direction {
            Direction::Out(_) => {
                let key = EncryptingKey::cbc(key).map_err(unfit)?;
                Ok(Self::AesSeal { key: Box::new(key), iv: Box::new(iv(direction)) })
            }
            Direction::In => {
                let key = DecryptingKey::cbc(key).map_err(unfit)?;
                Ok(Self::AesOpen(Box::new(key)))
            }
        }
    }

    fn block(&self) -> usize {
        match self {
            Self::AesSeal { .. } | Self::AesOpen(_) => 16,
            Self::TripleDes { .. } => 8,
        }
    }

    fn encrypt(&self, iv: &[u8], secret: &mut [u8]) -> bool {
        match self {
            Self::AesSeal { key, .. } => FixedLength::try_from(iv).is_ok_and(|iv| {
                key.less_safe_encrypt(secret, EncryptionContext::Iv128(iv)).is_ok()
            }),
            Self::AesOpen(_) => false,
            Self::TripleDes { key, .. } => {
                let Ok(mut cbc) = cbc::Encryptor::<&TdesEde3>::inner_iv_slice_init(key, iv) else {
                    return false;
                };
                let (blocks, rest) = Array::<u8, typenum::U8>::slice_as_chunks_mut(secret);
                cbc.encrypt_blocks(blocks);
                rest.is_empty()
            }
        }
    }

    fn decrypt(&self, iv: &[u8], secret: &mut [u8]) -> bool {
        match self {
            Self::AesOpen(key) => FixedLength::try_from(iv)
                .is_ok_and(|iv| key.decrypt(secret, DecryptionContext::Iv128(iv)).is_ok()),
            Self::AesSeal { .. } => false,
            Self::TripleDes { key, .. } => {
                let Ok(mut cbc) = cbc::Decryptor::<&TdesEde3>::inner_iv_slice_init(key, iv) else {
                    return false;
                };
                let (blocks, rest) = Array::<u8, typenum::U8>::slice_as_chunks_mut(secret);
                cbc.decrypt_blocks(blocks);
                rest.is_empty()
            }
        }
    }
}

/// Salt and IV (RFC 4106, 4; RFC 7634, 2).
fn nonce(salt: [u8; 4], iv: [u8; 8]) -> Nonce {
    let (salt, iv) = (u32::from_be_bytes(salt), u64::from_be_bytes(iv));
    let nonce = u128::from(salt) << 64 | u128::from(iv);
    let [_, _, _, _, nonce @ ..] = nonce.to_be_bytes();
    Nonce::assume_unique_for_key(nonce)
}

/// With 64-bit sequence numbers: SPI, high half, low half (RFC 4106, 5).
fn associated([a, b, c, d, e, f, g, h]: [u8; HEADER], high: u32) -> [u8; 12] {
    let [i, j, k, l] = high.to_be_bytes();
    [a, b, c, d, i, j, k, l, e, f, g, h]
}

/// The HMAC over the packet and the high half of its number, if it has one (RFC 4303, 2.8).
fn authenticate(mac: &hmac::Key, high: Option<u32>, packet: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(mac);
    context.update(packet);
    if let Some(high) = high {
        context.update(&high.to_be_bytes());
    }
    context.sign()
}

/// A key that doesn't fit the suite.
fn unfit(algorithm: &'static str, key: &[u8]) -> CryptoError {
    CryptoError::KeyLength { algorithm, length: key.len() }
}
