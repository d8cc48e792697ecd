//! Algorithms of signatures as RFC 7427 writes them.

use aws_lc_rs::signature::{self, VerificationAlgorithm};
use x509_parser::asn1_rs::Oid;
use x509_parser::prelude::FromDer;
use x509_parser::signature_algorithm::RsaSsaPssParams;
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
const RSA_SHA1: &str = "1.2.840.113549.1.1.5";
const RSA_PSS: &str = "1.2.840.113549.1.1.10";
const MGF1: &str = "1.2.840.113549.1.1.8";
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
    fn of(oid: &Oid<'_>) -> Option<Self> {
        Some(match oid.to_id_string().as_str() {
            "1.3.14.3.2.26" => Self::Sha1,
            "2.16.840.1.101.3.4.2.1" => Self::Sha256,
            "2.16.840.1.101.3.4.2.2" => Self::Sha384,
            "2.16.840.1.101.3.4.2.3" => Self::Sha512,
            _ => return None,
        })
    }

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

/// A DER value of up to 127 octets.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u8::try_from(content.len()).unwrap_or(0);
    [&[tag, length], content.as_slice()].concat()
}

impl Algorithm {
    /// Its AlgorithmIdentifier (RFC 7427, A). SHA-1 is not written.
    pub(super) fn encode(self) -> Vec<u8> {
        const SEQUENCE: u8 = 0x30;
        const OID: u8 = 6;
        const NULL: &[u8] = &[5, 0];
        const PKCS1: [u8; 8] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
        // The last arcs of the hashes' names count from 1 for SHA-256 on, as IANA's from 2.
        let from_sha256 = |hash: Hash| (hash as u8).saturating_sub(Hash::Sha256 as u8);
        match self {
            Self::RsaPkcs1(hash) => {
                let oid = der(OID, &[&PKCS1, &[11 + from_sha256(hash)]]);
                der(SEQUENCE, &[&oid, NULL])
            }
            Self::Ecdsa(hash) => {
                let last = 2 + from_sha256(hash);
                let oid = der(OID, &[&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, last]]);
                der(SEQUENCE, &[&oid])
            }
            Self::Ed25519 => der(SEQUENCE, &[&der(OID, &[&[0x2b, 0x65, 0x70]])]),
            Self::RsaPss(hash) => {
                let last = 1 + from_sha256(hash);
                let oid = der(OID, &[&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, last]]);
                let hash_id = der(SEQUENCE, &[&oid, NULL]);
                let mgf = der(SEQUENCE, &[&der(OID, &[&PKCS1, &[8]]), &hash_id]);
                let salt = der(2, &[&[hash.length()]]);
                let (hash_id, mgf, salt) =
                    (der(0xa0, &[&hash_id]), der(0xa1, &[&mgf]), der(0xa2, &[&salt]));
                let parameters = der(SEQUENCE, &[&hash_id, &mgf, &salt]);
                der(SEQUENCE, &[&der(OID, &[&PKCS1, &[10]]), &parameters])
            }
        }
    }

    /// What an AlgorithmIdentifier names.
    pub(super) fn decode(octets: &[u8]) -> Result<Self, String> {
        let (rest, id) = AlgorithmIdentifier::from_der(octets)
            .map_err(|_| "its name can't be read".to_owned())?;
        if !rest.is_empty() {
            return Err("octets after its name".to_owned());
        }
        let oid = id.algorithm.to_id_string();
        Ok(match oid.as_str() {
            RSA_SHA1 => Self::RsaPkcs1(Hash::Sha1),
            "1.2.840.113549.1.1.11" => Self::RsaPkcs1(Hash::Sha256),
            "1.2.840.113549.1.1.12" => Self::RsaPkcs1(Hash::Sha384),
            "1.2.840.113549.1.1.13" => Self::RsaPkcs1(Hash::Sha512),
            "1.2.840.10045.4.3.2" => Self::Ecdsa(Hash::Sha256),
            "1.2.840.10045.4.3.3" => Self::Ecdsa(Hash::Sha384),
            "1.2.840.10045.4.3.4" => Self::Ecdsa(Hash::Sha512),
            ED25519 => Self::Ed25519,
            RSA_PSS => pss(&id).ok_or("RSA-PSS with parameters other than the usual ones")?,
            _ => return Err(format!("{oid} is not known")),
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

/// Only with MGF1 of the same hash, and a salt as long as the hash (RFC 7427, A.4; RFC 8247).
fn pss(id: &AlgorithmIdentifier<'_>) -> Option<Algorithm> {
    let parameters = RsaSsaPssParams::try_from(id.parameters.as_ref()?).ok()?;
    let hash = Hash::of(parameters.hash_algorithm_oid()).filter(|hash| *hash != Hash::Sha1)?;
    let mask = parameters.mask_gen_algorithm().ok()?;
    let usual = mask.mgf.to_id_string() == MGF1
        && Hash::of(&mask.hash) == Some(hash)
        && parameters.salt_length() == u32::from(hash.length())
        && parameters.trailer_field() == 1;
    usual.then_some(Algorithm::RsaPss(hash))
}
