//! Signing with RSA, PKCS#1 padding and SHA-1 (AUTH method 1), which aws-lc-rs doesn't offer: for
//! other ends without RFC 7427, where legacy algorithms are allowed.

use std::fmt;

use aws_lc_rs::{digest, signature};
use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, Odd};
use rustls_pki_types::PrivateKeyDer;
use zeroize::Zeroizing;

/// What RFC 8017, 9.2 puts before a SHA-1 hash.
const DIGEST_INFO: [u8; 15] = [0x30, 33, 0x30, 9, 6, 5, 0x2b, 0x0e, 3, 2, 0x1a, 5, 0, 4, 20];

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 2;
const OCTETS: u8 = 4;

/// Modulus and private exponent.
pub(super) struct LegacyKey {
    modulus: Vec<u8>,
    exponent: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for LegacyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(key)")
    }
}

impl LegacyKey {
    /// None if it is not an RSA key.
    pub(super) fn of(key: &PrivateKeyDer<'_>) -> Option<Self> {
        let key = match key {
            PrivateKeyDer::Pkcs1(der) => der.secret_pkcs1_der(),
            PrivateKeyDer::Pkcs8(der) => {
                let (content, _) = value(SEQUENCE, der.secret_pkcs8_der())?;
                let (_, rest) = value(INTEGER, content)?;
                let (_, rest) = value(SEQUENCE, rest)?;
                value(OCTETS, rest)?.0
            }
            _ => return None,
        };
        let (content, _) = value(SEQUENCE, key)?;
        let (_, rest) = value(INTEGER, content)?;
        let (modulus, rest) = value(INTEGER, rest)?;
        let (_, rest) = value(INTEGER, rest)?;
        let (exponent, _) = value(INTEGER, rest)?;
        Some(Self {
            modulus: without_zeros(modulus).to_vec(),
            exponent: Zeroizing::new(without_zeros(exponent).to_vec()),
        })
    }

    /// The signature, if `public` (as it stands in the certificate) finds it right: a fault while
    /// computing could give the key away.
    pub(super) fn sign(&self, octets: &[u8], public: &[u8]) -> Option<Vec<u8>> {
        let length = self.modulus.len();
        let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, octets);
        let filling = length.checked_sub(DIGEST_INFO.len() + hash.as_ref().len() + 3)?;
        let padded =
            [&[0, 1], vec![0xff; filling].as_slice(), &[0], &DIGEST_INFO, hash.as_ref()].concat();
        let bits = u32::try_from(length * 8).ok()?;
        let number = |octets: &[u8]| BoxedUint::from_be_slice_truncated(octets, bits);
        let modulus = Odd::new(number(&self.modulus)).into_option()?;
        let params = BoxedMontyParams::new_vartime(modulus);
        let exponent = Zeroizing::new(number(&self.exponent));
        let power = BoxedMontyForm::new(number(&padded), &params).pow(&exponent).retrieve();
        let power = power.to_be_bytes();
        let signature = power.get(power.len().checked_sub(length)?..)?.to_vec();
        let algorithm = &signature::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY;
        let public = signature::UnparsedPublicKey::new(algorithm, public);
        public.verify(octets, &signature).is_ok().then_some(signature)
    }
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|octet| **octet == 0).count();
    number.get(zeros..).unwrap_or_default()
}

/// The content of a DER value with this tag, and what follows it.
fn value(tag: u8, octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, rest) = octets.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = if *first < 0x80 {
        (usize::from(*first), rest)
    } else {
        let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if length.len() > 4 {
            return None;
        }
        (length.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet)), rest)
    };
    if *found == tag { rest.split_at_checked(length) } else { None }
}
