//! The lab's certificate: self-made for each run, ECDSA on P-256, one for all hosts.

use std::path::{Path, PathBuf};

use anyhow::Context;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::CertificateDer;

use super::write;

/// The domain of all hosts. `.test` never exists outside (RFC 6761).
pub(super) const DOMAIN: &str = "bench.test";

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
    /// Makes a certificate and writes it into a folder.
    pub(super) fn make(folder: &Path) -> anyhow::Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("the lab's key")?;
        let names = vec![format!("*.{DOMAIN}"), DOMAIN.to_owned()];
        let certificate = CertificateParams::new(names)
            .and_then(|parameters| parameters.self_signed(&key))
            .context("the lab's certificate")?;
        let file = |name: &str| folder.join(name);
        let made = Self {
            chain: file("certificate.pem"),
            key: file("key.pem"),
            pair: file("pair.pem"),
            der: certificate.der().clone(),
        };
        let (chain, key) = (certificate.pem(), key.serialize_pem());
        write(&made.chain, &chain)?;
        write(&made.key, &key)?;
        write(&made.pair, chain + &key)?;
        Ok(made)
    }
}
