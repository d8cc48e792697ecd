//! `kubernetes.io/tls` Secrets: certificate chains with the keys that belong to them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use model::snapshot::TlsPair;
use model::{Diagnostic, ObjectKey, ObjectRef};
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, InconsistentKeys};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::ObjectSet;
use crate::report::Report;

const CHAIN: &str = "tls.crt";
const KEY: &str = "tls.key";

/// What is known of the Secrets that the last snapshot used.
///
/// Checking a key costs up to a millisecond, and most Secrets are the same in the next snapshot.
/// And one that has been broken since keeps its last good pair in use: a slip while a certificate
/// is renewed must not show clients the default one.
#[derive(Debug, Default)]
pub struct TlsMemo {
    checked: BTreeMap<ObjectKey, Checked>,
}

#[derive(Debug)]
struct Checked {
    /// As it was checked.
    secret: Arc<Secret>,
    result: Result<TlsPair, Fault>,
    /// The pair from before, where the Secret is broken now.
    last_good: Option<TlsPair>,
}

/// What is wrong with a Secret. Never holds anything out of its key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct Fault {
    pub(crate) field: String,
    pub(crate) reason: String,
    pub(crate) remedy: &'static str,
}

/// How a Secret could be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// In the snapshot: its own pair, or its last good one with a diagnostic about the Secret.
    Good,
    /// There, but broken; a diagnostic about the Secret says so.
    Broken,
    /// Not there.
    Missing,
}

/// Checks the Secrets that are asked for, each once.
pub(crate) struct Certificates<'a> {
    objects: &'a ObjectSet,
    memo: &'a mut TlsMemo,
    provider: CryptoProvider,
    /// None for a broken one.
    looked_up: BTreeMap<ObjectKey, Option<TlsPair>>,
    /// How often somebody has asked.
    asked: u64,
}

impl<'a> Certificates<'a> {
    pub(crate) fn new(objects: &'a ObjectSet, memo: &'a mut TlsMemo) -> Self {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        Self { objects, memo, provider, looked_up: BTreeMap::new(), asked: 0 }
    }

    /// How often somebody has asked for a Secret.
    pub(crate) fn asked(&self) -> u64 {
        self.asked
    }

    /// Checks a Secret and reports what is wrong with it.
    pub(crate) fn look_up(&mut self, key: &ObjectKey, report: &mut Report<'_>) -> Lookup {
        self.asked += 1;
        if let Some(pair) = self.looked_up.get(key) {
            return if pair.is_some() { Lookup::Good } else { Lookup::Broken };
        }
        let Some(secret) = self.objects.secrets.get(key) else { return Lookup::Missing };
        let checked = self.checked(key, secret);
        let pair = match &checked.result {
            Ok(pair) => Some(pair),
            Err(fault) => {
                let outcome = match checked.last_good {
                    Some(_) => {
                        "the last good pair stays in use until it is mended; after a restart the \
                         default certificate would be used"
                    }
                    None => "the default certificate is used instead",
                };
                let object = ObjectRef::namespaced("Secret", key);
                report.push(
                    Diagnostic::error(object, fault.field.clone(), format!("{fault}; {outcome}"))
                        .remedy(fault.remedy),
                );
                checked.last_good.as_ref()
            }
        };
        let pair = pair.cloned();
        let lookup = if pair.is_some() { Lookup::Good } else { Lookup::Broken };
        self.looked_up.insert(key.clone(), pair);
        lookup
    }

    /// What is known of the Secret, checked anew if it has changed.
    fn checked(&mut self, key: &ObjectKey, secret: &Arc<Secret>) -> &Checked {
        let fresh = |last_good: Option<TlsPair>| {
            let result = check(secret, &self.provider);
            let last_good = last_good.filter(|_| result.is_err());
            Checked { secret: Arc::clone(secret), result, last_good }
        };
        match self.memo.checked.entry(key.clone()) {
            Entry::Vacant(entry) => entry.insert(fresh(None)),
            Entry::Occupied(entry) => {
                let known = entry.into_mut();
                if !Arc::ptr_eq(&known.secret, secret) && known.secret != *secret {
                    let last_good = known.result.clone().ok().or_else(|| known.last_good.take());
                    *known = fresh(last_good);
                }
                known
            }
        }
    }

    /// The pair of a Secret that was looked up, if there is one to be used.
    pub(crate) fn get(&self, key: &ObjectKey) -> Option<&TlsPair> {
        self.looked_up.get(key)?.as_ref()
    }

    /// All pairs in use. What wasn't asked for this time is forgotten.
    pub(crate) fn finish(self) -> BTreeMap<ObjectKey, TlsPair> {
        let looked_up = &self.looked_up;
        self.memo.checked.retain(|key, _| looked_up.contains_key(key));
        self.looked_up.into_iter().filter_map(|(key, pair)| Some((key, pair?))).collect()
    }
}

impl Fault {
    fn new(field: &str, reason: impl Into<String>, remedy: &'static str) -> Self {
        Self { field: key_of(field), reason: reason.into(), remedy }
    }
}

fn check(secret: &Secret, provider: &CryptoProvider) -> Result<TlsPair, Fault> {
    let kind = secret.type_.as_deref().unwrap_or("Opaque");
    if kind != "kubernetes.io/tls" {
        return Err(Fault {
            field: "type".to_owned(),
            reason: format!("the Secret's type is {kind}"),
            remedy: "make it with `kubectl create secret tls`, of type kubernetes.io/tls",
        });
    }
    pair(secret, provider)
}

/// The same of a Secret of any type.
fn pair(secret: &Secret, provider: &CryptoProvider) -> Result<TlsPair, Fault> {
    let chain = chain(field(secret, CHAIN)?)?;
    let (names, validity) = leaf(&chain[0])?;
    let key = PrivateKeyDer::from_pem_slice(field(secret, KEY)?).map_err(|_| {
        // The library's own words may quote lines of the file.
        Fault::new(
            KEY,
            "there is no readable private key in PEM",
            "write an unencrypted PKCS#8, PKCS#1 or SEC1 key in PEM",
        )
    })?;
    let der = key.secret_der().to_vec();
    CertifiedKey::from_der(chain.clone(), key, provider).map_err(|error| match error {
        TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch) => Fault::new(
            KEY,
            "the key does not belong to the first certificate of tls.crt",
            "put in the key that the certificate was issued for, and the leaf first",
        ),
        TlsError::InvalidCertificate(error) => Fault::new(
            CHAIN,
            format!("the first certificate can't be used: {error:?}"),
            "put in an X.509 version 3 certificate",
        ),
        _ => Fault::new(
            KEY,
            "the key can't be used",
            "write an RSA key of 2048 to 8192 bits, ECDSA P-256, P-384 or P-521, or Ed25519",
        ),
    })?;
    let chain = chain.iter().map(|certificate| certificate.to_vec()).collect();
    Ok(TlsPair { chain: Arc::new(chain), key: Arc::new(der), names: Arc::new(names), validity })
}

/// What a VPN peer shows: the chain and its key, as they are written, in PEM.
pub(crate) struct PeerCertificate {
    pub(crate) chain: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

/// Checks the chain and the key of a Secret of any type.
pub(crate) fn peer_certificate(secret: &Secret) -> Result<PeerCertificate, Fault> {
    pair(secret, &rustls::crypto::aws_lc_rs::default_provider())?;
    Ok(PeerCertificate { chain: field(secret, CHAIN)?.to_vec(), key: field(secret, KEY)?.to_vec() })
}

/// Checks authorities and their revocation lists; as they are written, in PEM.
pub(crate) fn authorities(secret: &Secret) -> Result<(Vec<u8>, Vec<u8>), Fault> {
    const AUTHORITIES: &str = "ca.crt";
    let authorities = field(secret, AUTHORITIES)?;
    chain(authorities).map_err(|fault| Fault { field: key_of(AUTHORITIES), ..fault })?;
    let mut revoked = Vec::new();
    for name in ["ca.crl", "crl.pem"] {
        let Ok(pem) = field(secret, name) else { continue };
        let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem).collect();
        if !lists.is_ok_and(|lists| !lists.is_empty()) {
            let remedy = "put in the authority's revocation list in PEM (X509 CRL)";
            return Err(Fault::new(name, "there is no revocation list in it", remedy));
        }
        revoked.extend_from_slice(pem);
        revoked.push(b'\n');
    }
    Ok((authorities.to_vec(), revoked))
}

fn key_of(name: &str) -> String {
    format!("data[{name:?}]")
}

fn field<'a>(secret: &'a Secret, name: &str) -> Result<&'a [u8], Fault> {
    let bytes = secret.data.as_ref().and_then(|data| data.get(name)).map(|bytes| &*bytes.0);
    bytes.filter(|bytes| !bytes.is_empty()).ok_or_else(|| {
        Fault::new(name, "it is missing or empty", "put in the PEM file, encoded in base64")
    })
}

fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Fault> {
    const REMEDY: &str = "put in the leaf's certificate in PEM, then its issuers'";
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        // Somebody may have put the key here, so nothing of it is quoted.
        .map_err(|_| Fault::new(CHAIN, "it is not PEM", REMEDY))?;
    if chain.is_empty() {
        return Err(Fault::new(CHAIN, "there is no certificate in it", REMEDY));
    }
    for (index, certificate) in chain.iter().enumerate() {
        if X509Certificate::from_der(certificate).is_err() {
            let reason = format!("certificate {} in it is not X.509", index + 1);
            return Err(Fault::new(CHAIN, reason, REMEDY));
        }
    }
    Ok(chain)
}

/// The leaf's DNS names, lower-case, and its notBefore and notAfter.
fn leaf(der: &CertificateDer<'_>) -> Result<(Vec<String>, (i64, i64)), Fault> {
    let broken = || {
        let remedy = "issue the certificate anew";
        Fault::new(CHAIN, "the first certificate's extensions are broken", remedy)
    };
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| broken())?;
    let alternative = certificate.subject_alternative_name().map_err(|_| broken())?;
    let mut names: Vec<String> = alternative
        .into_iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        })
        .collect();
    names.sort();
    names.dedup();
    let validity = certificate.validity();
    Ok((names, (validity.not_before.timestamp(), validity.not_after.timestamp())))
}

#[cfg(test)]
mod tests;
