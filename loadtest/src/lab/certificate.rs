//! The lab's certificates: self-made for each run, one for all hosts with each kind of key.

use std::path::{Path, PathBuf};

use anyhow::Context;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize};
use rustls::pki_types::CertificateDer;

use super::write;

/// The domain of all hosts. `.test` never exists outside (RFC 6761).
pub(super) const DOMAIN: &str = "bench.test";

/// The kind of a certificate's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// ECDSA on P-256.
    Ecdsa,
    /// RSA, 2,048 bits.
    Rsa,
}

impl Key {
    fn name(self) -> &'static str {
        match self {
            Self::Ecdsa => "ecdsa",
            Self::Rsa => "rsa",
        }
    }

    fn generate(self) -> Result<KeyPair, rcgen::Error> {
        match self {
            Self::Ecdsa => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
            Self::Rsa => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
        }
    }
}

/// A certificate with its key in files.
#[derive(Debug)]
pub(super) struct Certificate {
    /// The certificate, PEM.
    pub(super) chain: PathBuf,
    /// Its key, PEM.
    pub(super) key: PathBuf,
    /// Both, as HAProxy wants them.
    pub(super) pair: PathBuf,
    /// The certificate itself.
    pub(super) der: CertificateDer<'static>,
}

impl Certificate {
    /// Makes a certificate with a key of this kind and writes it into a folder.
    pub(super) fn make(folder: &Path, kind: Key) -> anyhow::Result<Self> {
        let key = kind.generate().context("the lab's key")?;
        let names = vec![format!("*.{DOMAIN}"), DOMAIN.to_owned()];
        let certificate = CertificateParams::new(names)
            .and_then(|parameters| parameters.self_signed(&key))
            .context("the lab's certificate")?;
        let file = |what: &str| folder.join(format!("{}-{what}.pem", kind.name()));
        let made = Self {
            chain: file("certificate"),
            key: file("key"),
            pair: file("pair"),
            der: certificate.der().clone(),
        };
        let (chain, key) = (certificate.pem(), key.serialize_pem());
        write(&made.chain, &chain)?;
        write(&made.key, &key)?;
        write(&made.pair, chain + &key)?;
        Ok(made)
    }
}
