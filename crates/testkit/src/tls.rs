//! A certificate authority for one test, and clients that trust it.

use std::fmt;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::CertificateDer;

use crate::retype;

/// A chain and its key, PEM.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
    /// The certificate, DER.
    pub der: CertificateDer<'static>,
}

/// A CA that lives as long as its test.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority")
    }
}

impl Authority {
    /// With a new key.
    #[allow(clippy::new_without_default)] // reason: each call makes another one
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "Tidegate test CA");
        let key = KeyPair::generate().unwrap();
        Self { issuer: CertifiedIssuer::self_signed(params, key).unwrap() }
    }

    /// Its own certificate, PEM.
    pub fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// A leaf for these names, with a new ECDSA P-256 key.
    pub fn issue(&self, names: &[&str]) -> Pair {
        let names: Vec<String> = names.iter().map(|&n| n.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        Pair { certificate: leaf.pem(), key: key.serialize_pem(), der: leaf.der().clone() }
    }

    /// A client that trusts this CA alone, with TLS 1.2 and 1.3.
    pub fn client(&self) -> TlsSettings {
        self.client_with(rustls::ALL_VERSIONS, &[])
    }

    /// The same with these versions and ALPN protocols.
    pub fn client_with(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        alpn: &[&str],
    ) -> TlsSettings {
        self.client_of(aws_lc_rs::default_provider(), versions, alpn)
    }

    /// A client whose first flight has a key share for X25519MLKEM768, as browsers send it.
    pub fn hybrid_client(&self) -> TlsSettings {
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups = vec![aws_lc_rs::kx_group::X25519MLKEM768, aws_lc_rs::kx_group::X25519];
        self.client_of(provider, rustls::ALL_VERSIONS, &[])
    }

    fn client_of(
        &self,
        provider: CryptoProvider,
        versions: &[&'static SupportedProtocolVersion],
        alpn: &[&str],
    ) -> TlsSettings {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        TlsSettings::new(config, alpn)
    }
}

/// How a client speaks TLS. Sessions are remembered in it, for resumption by a later client.
#[derive(Clone, Debug)]
pub struct TlsSettings(Arc<ClientConfig>);

impl TlsSettings {
    fn new(mut config: ClientConfig, alpn: &[&str]) -> Self {
        config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        Self(Arc::new(config))
    }

    /// A client that takes any certificate, to look at the one it is shown. It checks the
    /// handshake's signature all the same.
    pub fn trusting_anyone() -> Self {
        Self::trusting_anyone_with(rustls::ALL_VERSIONS)
    }

    /// The same with these versions.
    pub fn trusting_anyone_with(versions: &[&'static SupportedProtocolVersion]) -> Self {
        Self::trusting_anyone_of(aws_lc_rs::default_provider(), versions)
    }

    fn trusting_anyone_of(
        provider: CryptoProvider,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let provider = Arc::new(provider);
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(anyone::Anyone(provider)))
            .with_no_client_auth();
        Self::new(config, &[])
    }

    /// A client that takes any certificate and can send handshake messages piece by piece, which
    /// rustls itself never does: see [`crate::Client::send_with_handshake`]. TLS 1.3.
    pub fn sending_handshakes() -> Self {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites = vec![retype::suite()];
        Self::trusting_anyone_of(provider, &[&rustls::version::TLS13])
    }

    /// The same without SNI.
    #[must_use]
    pub fn without_sni(&self) -> Self {
        let mut config = ClientConfig::clone(&self.0);
        config.enable_sni = false;
        Self(Arc::new(config))
    }

    /// As rustls has it.
    pub fn config(&self) -> &Arc<ClientConfig> {
        &self.0
    }
}

mod anyone {
    use std::sync::Arc;

    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};
    use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

    #[derive(Debug)]
    pub(super) struct Anyone(pub(super) Arc<CryptoProvider>);

    impl ServerCertVerifier for Anyone {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = &self.0.signature_verification_algorithms;
            verify_tls12_signature(message, cert, signature, algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = &self.0.signature_verification_algorithms;
            verify_tls13_signature(message, cert, signature, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
}
