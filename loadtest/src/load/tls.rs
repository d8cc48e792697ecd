//! The TLS client: what is offered, what is trusted, what is resumed.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionMemoryCache, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// The one version of [`Offer::OneSuite`].
const TLS13_ONLY: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
/// Server names whose sessions are kept at once.
const SESSIONS: usize = 4096;

/// Which servers are believed.
#[derive(Clone, Debug)]
pub(crate) enum Trust {
    /// Exactly this certificate. Its signature over the handshake is not verified: that would cost
    /// only the generator, and a server without the key can't be what a lab has started.
    Exactly(CertificateDer<'static>),
    /// Chains up to the certificates in a PEM file.
    Authorities(RootCertStore),
    /// Anybody.
    Anyone,
}

impl Trust {
    /// Reads a PEM file of authorities.
    pub(crate) fn from_pem_file(path: &Path) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(path)
            .with_context(|| format!("{}: can't read certificates", path.display()))?
        {
            let certificate =
                certificate.with_context(|| format!("{}: not PEM", path.display()))?;
            roots.add(certificate).with_context(|| format!("{}", path.display()))?;
        }
        if roots.is_empty() {
            bail!("{}: holds no certificate", path.display());
        }
        Ok(Self::Authorities(roots))
    }
}

/// What is offered in the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// Everything that rustls has, hybrid key exchange first.
    All,
    /// TLS 1.3 with X25519 and AES-128-GCM only, so that every target does the same work.
    OneSuite,
}

/// The client configuration for one run.
pub(crate) fn client_config(
    trust: Trust,
    offer: Offer,
    resume: bool,
) -> anyhow::Result<Arc<ClientConfig>> {
    ClientTls { offer, resume, ..ClientTls::new(trust) }.config()
}

/// All that can be chosen of the client's side.
#[derive(Clone, Debug)]
pub(crate) struct ClientTls {
    /// Which servers are believed.
    pub(crate) trust: Trust,
    /// Groups and cipher suites.
    pub(crate) offer: Offer,
    /// Whether sessions are resumed.
    pub(crate) resume: bool,
    /// Versions; [`Offer::OneSuite`] has its own.
    pub(crate) versions: Vec<&'static rustls::SupportedProtocolVersion>,
    /// Protocols offered by ALPN, the preferred one first; none if empty.
    pub(crate) alpn: Vec<Vec<u8>>,
}

impl ClientTls {
    /// Everything is offered, nothing resumed.
    pub(crate) fn new(trust: Trust) -> Self {
        let versions = rustls::ALL_VERSIONS.to_vec();
        Self { trust, offer: Offer::All, resume: false, versions, alpn: Vec::new() }
    }

    /// The configuration.
    pub(crate) fn config(self) -> anyhow::Result<Arc<ClientConfig>> {
        let mut provider = aws_lc_rs::default_provider();
        let mut versions = self.versions.as_slice();
        if self.offer == Offer::OneSuite {
            provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
            provider.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
            versions = TLS13_ONLY;
        }
        let provider = Arc::new(provider);
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .context("TLS versions")?;
        let pinned = |certificate| {
            let verifier = Arc::new(Pinned { certificate, provider });
            builder.clone().dangerous().with_custom_certificate_verifier(verifier)
        };
        let mut config = match self.trust {
            Trust::Authorities(roots) => {
                builder.with_root_certificates(roots).with_no_client_auth()
            }
            Trust::Exactly(certificate) => pinned(Some(certificate)).with_no_client_auth(),
            Trust::Anyone => pinned(None).with_no_client_auth(),
        };
        config.resumption = if self.resume {
            Resumption::store(Arc::new(ClientSessionMemoryCache::new(SESSIONS)))
        } else {
            Resumption::disabled()
        };
        config.alpn_protocols = self.alpn;
        Ok(Arc::new(config))
    }
}

/// The version of TLS that is written so.
pub(crate) fn version(text: &str) -> Option<&'static rustls::SupportedProtocolVersion> {
    match text {
        "1.2" => Some(&rustls::version::TLS12),
        "1.3" => Some(&rustls::version::TLS13),
        _ => None,
    }
}

/// Believes one certificate, or any.
#[derive(Debug)]
struct Pinned {
    certificate: Option<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.certificate {
            Some(expected) if expected.as_ref() != end_entity.as_ref() => {
                Err(rustls::Error::General("the server shows another certificate".to_owned()))
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
