//! The keys of IKE SAs and child SAs (RFC 7296, 2.14 to 2.18), with PPKs (RFC 8784) and
//! additional key exchanges (RFC 9242, RFC 9370).

use std::fmt;

use model::suite::{Prf, Proposal};
use zeroize::Zeroizing;

use super::CryptoError;
use super::prf::{self, prf, prf_plus};
use super::sk::{SkCipher, integrity_length, key_length};
use crate::sa::EspKeys;

/// All keys of an IKE SA.
#[derive(Clone)]
pub struct IkeKeys {
    /// For child SAs, and for the IKE SA that takes its place.
    pub sk_d: Zeroizing<Vec<u8>>,
    /// For the initiator's AUTH.
    pub sk_pi: Zeroizing<Vec<u8>>,
    /// For the responder's AUTH.
    pub sk_pr: Zeroizing<Vec<u8>>,
    /// What the initiator seals with.
    pub initiator: SkCipher,
    /// What the responder seals with.
    pub responder: SkCipher,
}

impl fmt::Debug for IkeKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(keys)")
    }
}

impl IkeKeys {
    /// Of a first IKE SA, after IKE_SA_INIT. `suite` is what was chosen, one of each kind.
    ///
    /// # Errors
    /// The suite lacks something.
    pub fn derive(
        suite: &Proposal,
        shared: &[u8],
        ni: &[u8],
        nr: &[u8],
        spi_i: u64,
        spi_r: u64,
    ) -> Result<Self, CryptoError> {
        let prf = suite_prf(suite)?;
        let seed = self::prf(prf, &[ni, nr].concat(), &[shared]);
        Self::expand(suite, &seed, ni, nr, spi_i, spi_r)
    }

    /// Of one that takes the place of another (2.18), whose prf and SK_d these are.
    ///
    /// # Errors
    /// See [`IkeKeys::derive`].
    #[allow(clippy::too_many_arguments)]
    pub fn rekey(
        suite: &Proposal,
        old_prf: Prf,
        old_sk_d: &[u8],
        shared: &[u8],
        ni: &[u8],
        nr: &[u8],
        spi_i: u64,
        spi_r: u64,
    ) -> Result<Self, CryptoError> {
        Self::rekey_with(suite, old_prf, old_sk_d, shared, &[], ni, nr, spi_i, spi_r)
    }

    /// The same, with the secrets of additional key exchanges (RFC 9370, 2.2.4).
    ///
    /// # Errors
    /// See [`IkeKeys::derive`].
    #[allow(clippy::too_many_arguments)]
    pub fn rekey_with(
        suite: &Proposal,
        old_prf: Prf,
        old_sk_d: &[u8],
        shared: &[u8],
        additional: &[Zeroizing<Vec<u8>>],
        ni: &[u8],
        nr: &[u8],
        spi_i: u64,
        spi_r: u64,
    ) -> Result<Self, CryptoError> {
        let mut parts = vec![shared, ni, nr];
        parts.extend(additional.iter().map(|secret| secret.as_slice()));
        let seed = self::prf(old_prf, old_sk_d, &parts);
        Self::expand(suite, &seed, ni, nr, spi_i, spi_r)
    }

    /// After an IKE_INTERMEDIATE with an additional key exchange (RFC 9370, 2.2.2).
    ///
    /// # Errors
    /// See [`IkeKeys::derive`].
    pub fn mix(
        &self,
        suite: &Proposal,
        shared: &[u8],
        ni: &[u8],
        nr: &[u8],
        spi_i: u64,
        spi_r: u64,
    ) -> Result<Self, CryptoError> {
        let seed = self::prf(suite_prf(suite)?, &self.sk_d, &[shared, ni, nr]);
        Self::expand(suite, &seed, ni, nr, spi_i, spi_r)
    }

    /// With a PPK mixed in (RFC 8784, 3): SK_d, SK_pi and SK_pr are others, the ciphers the same.
    #[must_use]
    pub fn with_ppk(&self, prf: Prf, ppk: &[u8]) -> Self {
        let mixed = |key: &[u8]| prf_plus(prf, ppk, &[key], prf::length(prf));
        Self {
            sk_d: mixed(&self.sk_d),
            sk_pi: mixed(&self.sk_pi),
            sk_pr: mixed(&self.sk_pr),
            initiator: self.initiator.clone(),
            responder: self.responder.clone(),
        }
    }

    /// SK_d | SK_ai | SK_ar | SK_ei | SK_er | SK_pi | SK_pr
    fn expand(
        suite: &Proposal,
        seed: &[u8],
        ni: &[u8],
        nr: &[u8],
        spi_i: u64,
        spi_r: u64,
    ) -> Result<Self, CryptoError> {
        let prf = suite_prf(suite)?;
        let encryption = *suite.encryption.first().ok_or(CryptoError::Suite("cipher"))?;
        let integrity = suite.integrity.first().copied().filter(|_| !encryption.is_aead());
        let (key, salt) = key_length(encryption);
        let (encryption_length, integrity_length) =
            (key + salt, integrity.map_or(0, |integrity| integrity_length(integrity).0));
        let preferred = prf::length(prf);
        let length = 3 * preferred + 2 * (integrity_length + encryption_length);
        let (spi_i, spi_r) = (spi_i.to_be_bytes(), spi_r.to_be_bytes());
        let material = prf_plus(prf, seed, &[ni, nr, &spi_i, &spi_r], length);
        let mut material = Material(&material);
        let sk_d = material.take(preferred)?;
        let (sk_ai, sk_ar) = (material.take(integrity_length)?, material.take(integrity_length)?);
        let (sk_ei, sk_er) = (material.take(encryption_length)?, material.take(encryption_length)?);
        let (sk_pi, sk_pr) = (material.take(preferred)?, material.take(preferred)?);
        let owned = |key: &[u8]| Zeroizing::new(key.to_vec());
        Ok(Self {
            sk_d: owned(sk_d),
            sk_pi: owned(sk_pi),
            sk_pr: owned(sk_pr),
            initiator: SkCipher::new(encryption, integrity, sk_ei, sk_ai)?,
            responder: SkCipher::new(encryption, integrity, sk_er, sk_ar)?,
        })
    }
}

/// Of a child SA (2.17): from the initiator of the exchange to its responder, and back. `shared`
/// with forward secrecy, `additional` by RFC 9370, 2.2.4.
///
/// # Errors
/// The suite lacks something.
pub fn child_keys(
    suite: &Proposal,
    prf: Prf,
    sk_d: &[u8],
    shared: Option<&[u8]>,
    additional: &[Zeroizing<Vec<u8>>],
    ni: &[u8],
    nr: &[u8],
) -> Result<(EspKeys, EspKeys), CryptoError> {
    let encryption = *suite.encryption.first().ok_or(CryptoError::Suite("cipher"))?;
    let (key, salt) = key_length(encryption);
    let integrity = if encryption.is_aead() {
        0
    } else {
        let first = suite.integrity.first().ok_or(CryptoError::Suite("integrity algorithm"))?;
        integrity_length(*first).0
    };
    let mut seed: Vec<&[u8]> = shared.into_iter().chain([ni, nr]).collect();
    seed.extend(additional.iter().map(|secret| secret.as_slice()));
    let material = prf_plus(prf, sk_d, &seed, 2 * (key + salt + integrity));
    let mut material = Material(&material);
    let mut direction = || {
        Ok(EspKeys {
            encryption: material.take(key)?.to_vec(),
            salt: material.take(salt)?.to_vec(),
            integrity: material.take(integrity)?.to_vec(),
        })
    };
    Ok((direction()?, direction()?))
}

/// The next link of the chain that makes IntAuth (RFC 9242, 3.3.2): `previous` is the one before
/// of the same direction, empty at first; `associated` and `plain` are as of the SK payload, also
/// where the message went in fragments (then as if it had gone in one). The lengths in
/// `associated` are set here.
pub fn int_auth(
    prf: Prf,
    sk_p: &[u8],
    previous: &[u8],
    associated: &[u8],
    plain: &[u8],
) -> Zeroizing<Vec<u8>> {
    let mut associated = associated.to_vec();
    let message = u32::try_from(associated.len() + plain.len()).unwrap_or(u32::MAX);
    if let Some(field) = associated.get_mut(24..28) {
        field.copy_from_slice(&message.to_be_bytes());
    }
    let payload = u16::try_from(plain.len() + 4).unwrap_or(u16::MAX);
    if let Some(field) = associated.last_chunk_mut::<2>() {
        *field = payload.to_be_bytes();
    }
    self::prf(prf, sk_p, &[previous, &associated, plain])
}

fn suite_prf(suite: &Proposal) -> Result<Prf, CryptoError> {
    suite.prf.first().copied().ok_or(CryptoError::Suite("pseudorandom function"))
}

/// Key material that is cut up from the front.
struct Material<'a>(&'a [u8]);

impl<'a> Material<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], CryptoError> {
        let (taken, rest) =
            self.0.split_at_checked(length).ok_or(CryptoError::Failed("cutting up keys"))?;
        self.0 = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests;
