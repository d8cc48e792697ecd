//! This end's certificate chain and private key.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::RsaEncoding;
use aws_lc_rs::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroizing;

use super::algorithm::{Algorithm, HASH_IDENTITY, Hash, KeyKind};
use super::certificate;
use super::rsa_sha1::LegacyKey;
use super::{METHOD_ECDSA_256, METHOD_ECDSA_384, METHOD_ECDSA_521, METHOD_RSA, METHOD_SIGNATURE};
use crate::crypto::CryptoError;
use crate::ike::identity::Identity;

/// This end's certificate chain and private key.
pub struct Signer {
    chain: Vec<Vec<u8>>,
    subject: Identity,
    name: String,
    key: Key,
    pkcs1: bool,
    sha1: bool,
}

enum Key {
    Rsa(Box<RsaKeyPair>, Option<LegacyKey>),
    Ecdsa {
        /// Best first: hashes and keys for RFC 7427.
        named: Vec<(Hash, EcdsaKeyPair)>,
        /// For RFC 4754.
        method: u8,
        fixed: Box<EcdsaKeyPair>,
    },
    Ed25519(Box<Ed25519KeyPair>),
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.name)
    }
}

impl Signer {
    /// From certificates (this end's own, and authorities between it and the trusted one) and the
    /// key of one of them (PKCS#8, PKCS#1 or SEC1), all in PEM.
    ///
    /// # Errors
    /// What is wrong and what to do: nothing to be read, an encrypted key, an unknown kind of key,
    /// a key of no certificate.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, CryptoError> {
        let certificates = certificate::read("certificate", chain)?;
        let private = Zeroizing::new(read_key(key)?);
        let mut chain: Vec<Vec<u8>> = certificates.iter().map(|der| der.to_vec()).collect();
        let found = chain.iter().enumerate().find_map(|(at, der)| {
            let parsed = certificate::parse(der)?;
            let key = Key::load(KeyKind::of(parsed.public_key())?, &private)?;
            let public = parsed.public_key().subject_public_key.data.as_ref();
            (key.public() == public).then_some((at, key))
        });
        let (at, key) = found.ok_or_else(|| {
            let first = chain.first().and_then(|der| certificate::parse(der));
            CryptoError::PrivateKey(format!(
                "the private key does not belong to the certificate of \"{}\"; give the key that \
                 the certificate was made for (RSA from 2048 bits on, ECDSA with P-256, P-384 or \
                 P-521, or Ed25519)",
                first.map_or_else(String::new, |first| first.subject().to_string()),
            ))
        })?;
        // The end entity's own goes first.
        chain.get_mut(..=at).unwrap_or_default().rotate_right(1);
        let (subject, name) = chain
            .first()
            .and_then(|der| certificate::parse(der))
            .map(|own| (own.subject().as_raw().to_vec(), own.subject().to_string()))
            .unwrap_or_default();
        Ok(Self {
            chain,
            subject: Identity { kind: 9, data: subject },
            name,
            key,
            pkcs1: false,
            sha1: false,
        })
    }

    /// With an RSA key: signs with PKCS#1 padding in place of PSS, for other ends that can't read
    /// PSS although RFC 8247 wants it.
    #[must_use]
    pub fn with_pkcs1(mut self, pkcs1: bool) -> Self {
        self.pkcs1 = pkcs1;
        self
    }

    /// With an RSA key: signs with SHA-1 (method 1) where the other end names no hash algorithms.
    #[must_use]
    pub fn with_sha1(mut self, sha1: bool) -> Self {
        self.sha1 = sha1;
        self
    }

    /// The certificates in DER, this end's own first.
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// The subject of its own certificate.
    pub fn subject(&self) -> Identity {
        self.subject.clone()
    }

    /// Until when its own certificate is valid, in time since 1970.
    pub fn expires(&self) -> Option<Duration> {
        let own = certificate::parse(self.chain.first()?)?;
        let at = u64::try_from(own.validity().not_after.timestamp()).ok()?;
        Some(Duration::from_secs(at))
    }

    /// Whether the certificate has it, so that the other end will believe it.
    pub fn has_identity(&self, id: &Identity) -> bool {
        let own = self.chain.first().and_then(|der| certificate::parse(der));
        own.is_some_and(|own| certificate::has_identity(&own, id))
    }

    /// The AUTH payload's method and data. `peer_hashes` are the other end's
    /// SIGNATURE_HASH_ALGORITHMS, empty if it has sent none.
    ///
    /// # Errors
    /// [`CryptoError::NoSignature`] if it can verify nothing that this key signs.
    pub fn sign(&self, octets: &[u8], peer_hashes: &[u16]) -> Result<(u8, Vec<u8>), CryptoError> {
        let known = |hash: &Hash| peer_hashes.contains(&(*hash as u16));
        let refused = |wanted: &str| {
            let names = match peer_hashes {
                [] => "no hash algorithms".to_owned(),
                some => format!("only the hash algorithms {some:?}"),
            };
            Err(CryptoError::NoSignature(format!(
                "the other end names {names} for signatures (RFC 7427), the key of \"{}\" needs \
                 {wanted}",
                self.name
            )))
        };
        let (algorithm, signature) = match &self.key {
            Key::Ed25519(_) if !peer_hashes.contains(&HASH_IDENTITY) => {
                return refused("identity (5): use an ECDSA or RSA certificate");
            }
            Key::Ed25519(key) => (Algorithm::Ed25519, key.sign(octets).as_ref().to_vec()),
            Key::Ecdsa { method, fixed, .. } if peer_hashes.is_empty() => {
                return Ok((*method, sign_ecdsa(fixed, octets)?));
            }
            Key::Ecdsa { named, .. } => {
                let Some((hash, key)) = named.iter().find(|(hash, _)| known(hash)) else {
                    return refused("the hash of its curve's size");
                };
                (Algorithm::Ecdsa(*hash), sign_ecdsa(key, octets)?)
            }
            Key::Rsa(key, Some(legacy)) if self.sha1 && peer_hashes.is_empty() => {
                let signature = legacy.sign(octets, key.public_key().as_ref());
                return Ok((METHOD_RSA, signature.ok_or(CryptoError::Failed("signing"))?));
            }
            Key::Rsa(key, _) => {
                let hashes = [Hash::Sha256, Hash::Sha384, Hash::Sha512];
                let Some(hash) = hashes.into_iter().find(known) else {
                    return refused(
                        "SHA-256, SHA-384 or SHA-512 (SHA-1 only if legacy is allowed): use an ECDSA \
                         certificate or a preshared key",
                    );
                };
                let (algorithm, encoding) = rsa_encoding(hash, self.pkcs1);
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(encoding, &SystemRandom::new(), octets, &mut signature)
                    .map_err(|_| CryptoError::Failed("signing"))?;
                (algorithm, signature)
            }
        };
        let name = algorithm.encode();
        let length = u8::try_from(name.len()).map_err(|_| CryptoError::Failed("signing"))?;
        Ok((METHOD_SIGNATURE, [&[length], name.as_slice(), &signature].concat()))
    }
}

fn rsa_encoding(hash: Hash, pkcs1: bool) -> (Algorithm, &'static dyn RsaEncoding) {
    use signature as s;
    match (hash, pkcs1) {
        (Hash::Sha384, false) => (Algorithm::RsaPss(hash), &s::RSA_PSS_SHA384),
        (Hash::Sha512, false) => (Algorithm::RsaPss(hash), &s::RSA_PSS_SHA512),
        (Hash::Sha384, true) => (Algorithm::RsaPkcs1(hash), &s::RSA_PKCS1_SHA384),
        (Hash::Sha512, true) => (Algorithm::RsaPkcs1(hash), &s::RSA_PKCS1_SHA512),
        (_, false) => (Algorithm::RsaPss(Hash::Sha256), &s::RSA_PSS_SHA256),
        (_, true) => (Algorithm::RsaPkcs1(Hash::Sha256), &s::RSA_PKCS1_SHA256),
    }
}

fn sign_ecdsa(key: &EcdsaKeyPair, octets: &[u8]) -> Result<Vec<u8>, CryptoError> {
    key.sign(&SystemRandom::new(), octets)
        .map(|signature| signature.as_ref().to_vec())
        .map_err(|_| CryptoError::Failed("signing"))
}

fn read_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, CryptoError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| {
        let encrypted = pem.windows(9).any(|window| window == b"ENCRYPTED");
        CryptoError::PrivateKey(if encrypted {
            "private key: it is encrypted; decrypt it with `openssl pkey -in KEY -out PLAIN`"
                .to_owned()
        } else {
            format!(
                "private key: none in it that can be read ({error}); give PEM with \"-----BEGIN \
                 PRIVATE KEY-----\""
            )
        })
    })
}

impl Key {
    /// None if it is not of this kind.
    fn load(kind: KeyKind, der: &PrivateKeyDer<'_>) -> Option<Self> {
        let ecdsa = |algorithm: &'static EcdsaSigningAlgorithm| match der {
            PrivateKeyDer::Pkcs8(der) => {
                EcdsaKeyPair::from_pkcs8(algorithm, der.secret_pkcs8_der()).ok()
            }
            PrivateKeyDer::Sec1(der) => {
                EcdsaKeyPair::from_private_key_der(algorithm, der.secret_sec1_der()).ok()
            }
            _ => None,
        };
        let (method, fixed, named): (u8, _, &[(Hash, _)]) = match kind {
            KeyKind::Rsa => {
                let key = match der {
                    PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
                    PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
                    _ => return None,
                };
                return Some(Self::Rsa(Box::new(key.ok()?), LegacyKey::of(der)));
            }
            KeyKind::Ed25519 => {
                let PrivateKeyDer::Pkcs8(der) = der else { return None };
                let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der());
                return Some(Self::Ed25519(Box::new(key.ok()?)));
            }
            KeyKind::P256 => (
                METHOD_ECDSA_256,
                &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
                &[(Hash::Sha256, &signature::ECDSA_P256_SHA256_ASN1_SIGNING)],
            ),
            KeyKind::P384 => (
                METHOD_ECDSA_384,
                &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
                &[(Hash::Sha384, &signature::ECDSA_P384_SHA384_ASN1_SIGNING)],
            ),
            KeyKind::P521 => (
                METHOD_ECDSA_521,
                &signature::ECDSA_P521_SHA512_FIXED_SIGNING,
                &[
                    (Hash::Sha512, &signature::ECDSA_P521_SHA512_ASN1_SIGNING),
                    (Hash::Sha384, &signature::ECDSA_P521_SHA384_ASN1_SIGNING),
                    (Hash::Sha256, &signature::ECDSA_P521_SHA256_ASN1_SIGNING),
                ],
            ),
        };
        let named: Option<Vec<_>> =
            named.iter().map(|(hash, algorithm)| Some((*hash, ecdsa(algorithm)?))).collect();
        Some(Self::Ecdsa { named: named?, method, fixed: Box::new(ecdsa(fixed)?) })
    }

    /// As it stands in a certificate.
    fn public(&self) -> &[u8] {
        match self {
            Self::Rsa(key, _) => key.public_key().as_ref(),
            Self::Ecdsa { fixed, .. } => fixed.public_key().as_ref(),
            Self::Ed25519(key) => key.public_key().as_ref(),
        }
    }
}
