//! TLS towards clients: one configuration per listener, certificates from the table in force.

use std::fmt;
use std::sync::Arc;

use foldhash::HashMap;
use model::{AlbKind, Diagnostic, ObjectKey, ObjectRef};
use plan::l7::Certificates;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion};

use super::table::Shared;

pub(crate) mod stream;

/// TLS could not be set up at all: nothing about an object.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// rustls refused the configuration.
    #[error("TLS configuration: {0}")]
    Config(#[from] rustls::Error),
    /// The default certificate could not be made.
    #[error("self-made default certificate: {0}")]
    SelfMade(#[from] rcgen::Error),
}

/// An ALB's certificates, ready to sign.
#[derive(Debug)]
pub(crate) struct CertTable {
    /// Which one is for which name.
    names: Certificates,
    /// By position in [`Certificates::pairs`]; none where a pair can't be used.
    keys: Vec<Option<Arc<CertifiedKey>>>,
    self_made: Arc<CertifiedKey>,
}

impl CertTable {
    /// The certificate for a name as sent in SNI: exact, then wildcard, then the default.
    pub(crate) fn find(&self, name: Option<&str>) -> Arc<CertifiedKey> {
        let lower = name.map(|name| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase());
        let found = self.names.find(lower.as_deref()).and_then(|at| self.keys.get(at)?.as_ref());
        Arc::clone(found.unwrap_or(&self.self_made))
    }
}

/// Certificates that were made ready before, by Secret, so that a change of one object does not
/// parse all keys again.
#[derive(Debug, Default)]
pub(crate) struct CertCache(HashMap<ObjectKey, (model::snapshot::TlsPair, Arc<CertifiedKey>)>);

impl CertCache {
    /// Makes a table of a plan. A pair that can't be used is left out and reported; its names are
    /// served with the default certificate.
    pub(crate) fn table(
        &mut self,
        plan: &Certificates,
        self_made: &Arc<CertifiedKey>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> CertTable {
        let keys: Vec<Option<Arc<CertifiedKey>>> = plan
            .pairs
            .iter()
            .map(|entry| match self.certified(&entry.secret, &entry.pair) {
                Ok(key) => Some(key),
                Err(error) => {
                    let object = ObjectRef::namespaced("Secret", &entry.secret);
                    diagnostics.push(
                        Diagnostic::error(object, "data", error.to_string())
                            .remedy("store a PEM certificate chain and its unencrypted key"),
                    );
                    None
                }
            })
            .collect();
        CertTable { names: plan.clone(), keys, self_made: Arc::clone(self_made) }
    }

    /// Forgets Secrets that no plan has any more.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&ObjectKey) -> bool) {
        self.0.retain(|secret, _| keep(secret));
    }

    fn certified(
        &mut self,
        secret: &ObjectKey,
        pair: &model::snapshot::TlsPair,
    ) -> Result<Arc<CertifiedKey>, rustls::Error> {
        if let Some((known, key)) = self.0.get(secret)
            && known == pair
        {
            return Ok(Arc::clone(key));
        }
        let key = certified(pair)?;
        self.0.insert(secret.clone(), (pair.clone(), Arc::clone(&key)));
        Ok(key)
    }
}

/// A pair, ready to sign.
///
/// # Errors
/// Where rustls can't use it.
pub(crate) fn certified(
    pair: &model::snapshot::TlsPair,
) -> Result<Arc<CertifiedKey>, rustls::Error> {
    let chain = pair.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    let key = PrivateKeyDer::try_from(pair.key.to_vec())
        .map_err(|reason| rustls::Error::General(reason.to_owned()))?;
    Ok(Arc::new(CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())?))
}

/// Finds a handshake's certificate in the table in force.
struct Resolver {
    shared: Arc<Shared>,
    kind: AlbKind,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let table = self.shared.table.load();
        table.alb(self.kind).map(|alb| alb.certificates.find(hello.server_name()))
    }
}

/// The configuration of an ALB's TLS listeners; shared by all workers, tickets included.
///
/// # Errors
/// Where rustls or its provider can't do what is asked.
pub(crate) fn server_config(shared: Arc<Shared>, kind: AlbKind) -> Result<ServerConfig, TlsError> {
    let mut config = config(Arc::new(Resolver { shared, kind }))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// A configuration without ALPN: TLS 1.2 and 1.3, X25519MLKEM768 first; session tickets under keys
/// that rustls rotates.
///
/// # Errors
/// Where rustls or its provider can't do what is asked.
pub(crate) fn config(resolver: Arc<dyn ResolvesServerCert>) -> Result<ServerConfig, TlsError> {
    const VERSIONS: [&SupportedProtocolVersion; 2] =
        [&rustls::version::TLS13, &rustls::version::TLS12];
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![
        aws_lc_rs::kx_group::X25519MLKEM768,
        aws_lc_rs::kx_group::X25519,
        aws_lc_rs::kx_group::SECP256R1,
        aws_lc_rs::kx_group::SECP384R1,
    ];
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&VERSIONS)?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    // Tickets carry the sessions, for both versions.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// A certificate for names that have none, made anew at each start.
///
/// # Errors
/// Where key generation or signing fails.
pub(crate) fn self_made_certificate() -> Result<Arc<CertifiedKey>, TlsError> {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["tidegate.invalid".to_owned()])?;
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let chain = vec![cert.der().clone()];
    Ok(Arc::new(CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())?))
}
