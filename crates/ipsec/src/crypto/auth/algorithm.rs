//! Algorithms of signatures as RFC 7427 writes them.

use aws_lc_rs::signature::{self, VerificationAlgorithm};
use x509_parser::asn1_rs::Oid;
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

/// A hash, with IANA's number of it (RFC 7427, 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Hash {
    Sha1 = 1,
    Sha256 = 2,
    Sha384 = 3,
    Sha512 = 4,
}

/// The number of "identity" (RFC 8420): nothing is hashed before.
pub(super) const HASH_IDENTITY: u16 = 5;

/// An algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    RsaPss(Hash),
    RsaPkcs1(Hash),
    Ecdsa(Hash),
    Ed25519,
}

/// What kind of key a certificate has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    Rsa,
    P256,
    P384,
    P521,
    Ed25519,
}

const RSA: &str = "1.2.840.113549.1.1.1";
const RSA_PSS: &str = "1.2.840.113549.1.1.10";
const ED25519: &str = "1.3.101.112";

impl KeyKind {
    pub(super) fn of(key: &SubjectPublicKeyInfo<'_>) -> Option<Self> {
        let id = &key.algorithm;
        let curve = || id.parameters.as_ref().and_then(|any| Oid::try_from(any).ok());
        Some(match id.algorithm.to_id_string().as_str() {
            RSA | RSA_PSS => Self::Rsa,
            ED25519 => Self::Ed25519,
            "1.2.840.10045.2.1" => match curve()?.to_id_string().as_str() {
                "1.2.840.10045.3.1.7" => Self::P256,
                "1.3.132.0.34" => Self::P384,
                "1.3.132.0.35" => Self::P521,
                _ => return None,
            },
            _ => return None,
        })
    }
}

impl Hash {
    /// Octets of what it makes, and of the salt of RSA-PSS.
    fn length(self) -> u8 {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

const SEQUENCE: u8 = 0x30;
const OID: u8 = 6;
const NULL: &[u8] = &[5, 0];
/// 1.2.840.113549.1.1
const PKCS1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
/// 1.2.840.10045.4.3
const ECDSA_SHA2: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
/// 2.16.840.1.101.3.4.2
const SHA2: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];

/// A DER value of up to 127 octets.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u8::try_from(content.len()).unwrap_or(0);
    [&[tag, length], content.as_slice()].concat()
}

impl Algorithm {
    /// All that are known.
    fn all() -> impl Iterator<Item = Self> {
        let sha2 = [Hash::Sha256, Hash::Sha384, Hash::Sha512].into_iter();
        sha2.flat_map(|hash| [Self::RsaPss(hash), Self::RsaPkcs1(hash), Self::Ecdsa(hash)])
            .chain([Self::Ed25519, Self::RsaPkcs1(Hash::Sha1)])
    }

    /// Its AlgorithmIdentifier (RFC 7427, A).
    pub(super) fn encode(self) -> Vec<u8> {
        self.spellings().into_iter().next().unwrap_or_default()
    }

    /// Its AlgorithmIdentifier in each way that others write it, the right one first: NULL where
    /// nothing should stand and the other way round, and PSS with its default trailer.
    fn spellings(self) -> Vec<Vec<u8>> {
        // The last arcs of the names count on from SHA-256, as IANA's numbers do.
        let last =
            |sha256: u8, hash: Hash| [sha256 + (hash as u8).saturating_sub(Hash::Sha256 as u8)];
        match self {
            Self::RsaPkcs1(hash) => {
                let last = if hash == Hash::Sha1 { [5] } else { last(11, hash) };
                let oid = der(OID, &[PKCS1, &last]);
                vec![der(SEQUENCE, &[&oid, NULL]), der(SEQUENCE, &[&oid])]
            }
            Self::Ecdsa(hash) => {
                let oid = der(OID, &[ECDSA_SHA2, &last(2, hash)]);
                vec![der(SEQUENCE, &[&oid]), der(SEQUENCE, &[&oid, NULL])]
            }
            Self::Ed25519 => vec![der(SEQUENCE, &[&der(OID, &[&[0x2b, 0x65, 0x70]])])],
            Self::RsaPss(hash) => {
                let oid = der(OID, &[SHA2, &last(1, hash)]);
                let hashes = [der(SEQUENCE, &[&oid, NULL]), der(SEQUENCE, &[&oid])];
                let mgf = der(OID, &[PKCS1, &[8]]);
                let salt = der(0xa2, &[&der(2, &[&[hash.length()]])]);
                let mut found = Vec::new();
                for trailer in [&[][..], &[0xa3, 3, 2, 1, 1]] {
                    for outer in &hashes {
                        for inner in &hashes {
                            let mask = der(0xa1, &[&der(SEQUENCE, &[&mgf, inner])]);
                            let parts = [&der(0xa0, &[outer]), &mask, &salt, trailer];
                            let parameters = der(SEQUENCE, &parts);
                            found.push(der(SEQUENCE, &[&der(OID, &[PKCS1, &[10]]), &parameters]));
                        }
                    }
                }
                found
            }
        }
    }

    /// What an AlgorithmIdentifier names: only what is written as one of [`Self::spellings`], so
    /// that nothing hides in its parameters.
    pub(super) fn decode(octets: &[u8]) -> Result<Self, String> {
        let mut all = Self::all();
        all.find(|known| known.spellings().iter().any(|name| name == octets)).ok_or_else(|| {
            match AlgorithmIdentifier::from_der(octets) {
                Ok((_, id)) if id.algorithm.to_id_string() == RSA_PSS => {
                    "RSA-PSS other than with SHA-256, SHA-384 or SHA-512, MGF1 of the same hash \
                     and a salt of its length"
                        .to_owned()
                }
                Ok((_, id)) => format!("{} is not known", id.algorithm),
                Err(_) => "its name can't be read".to_owned(),
            }
        })
    }

    /// aws-lc's algorithm for it with such a key.
    pub(super) fn verification(
        self,
        key: KeyKind,
    ) -> Result<&'static dyn VerificationAlgorithm, String> {
        use signature as s;
        Ok(match (self, key) {
            (Self::RsaPkcs1(Hash::Sha1), KeyKind::Rsa) => {
                &s::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY
            }
            (Self::RsaPkcs1(Hash::Sha256), KeyKind::Rsa) => &s::RSA_PKCS1_2048_8192_SHA256,
            (Self::RsaPkcs1(Hash::Sha384), KeyKind::Rsa) => &s::RSA_PKCS1_2048_8192_SHA384,
            (Self::RsaPkcs1(Hash::Sha512), KeyKind::Rsa) => &s::RSA_PKCS1_2048_8192_SHA512,
            (Self::RsaPss(Hash::Sha256), KeyKind::Rsa) => &s::RSA_PSS_2048_8192_SHA256,
            (Self::RsaPss(Hash::Sha384), KeyKind::Rsa) => &s::RSA_PSS_2048_8192_SHA384,
            (Self::RsaPss(Hash::Sha512), KeyKind::Rsa) => &s::RSA_PSS_2048_8192_SHA512,
            (Self::Ecdsa(Hash::Sha256), KeyKind::P256) => &s::ECDSA_P256_SHA256_ASN1,
            (Self::Ecdsa(Hash::Sha384), KeyKind::P256) => &s::ECDSA_P256_SHA384_ASN1,
            (Self::Ecdsa(Hash::Sha512), KeyKind::P256) => &s::ECDSA_P256_SHA512_ASN1,
            (Self::Ecdsa(Hash::Sha256), KeyKind::P384) => &s::ECDSA_P384_SHA256_ASN1,
            (Self::Ecdsa(Hash::Sha384), KeyKind::P384) => &s::ECDSA_P384_SHA384_ASN1,
            (Self::Ecdsa(Hash::Sha512), KeyKind::P384) => &s::ECDSA_P384_SHA512_ASN1,
            (Self::Ecdsa(Hash::Sha256), KeyKind::P521) => &s::ECDSA_P521_SHA256_ASN1,
            (Self::Ecdsa(Hash::Sha384), KeyKind::P521) => &s::ECDSA_P521_SHA384_ASN1,
            (Self::Ecdsa(Hash::Sha512), KeyKind::P521) => &s::ECDSA_P521_SHA512_ASN1,
            (Self::Ed25519, KeyKind::Ed25519) => &s::ED25519,
            _ => return Err(format!("{self:?} does not go with the certificate's key ({key:?})")),
        })
    }
}
