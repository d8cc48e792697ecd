//! The CA and the leaf certificates, in memory.

use std::fmt;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::error::Error;
use crate::names::{SecretName, SubjectName};

const DAY: Duration = Duration::from_secs(86_400);
/// How far a certificate's beginning lies in the past, for clients whose clock is slow.
const CLOCK_SKEW: Duration = Duration::from_secs(3_600);
const AUTHORITY_DAYS: u32 = 3_650;
/// Public CAs may not go beyond 398 days, and some clients hold private ones to it, too.
const LEAF_DAYS: u32 = 397;

/// A leaf's kind of key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA on P-256, what every client of today takes and the cheapest to sign with.
    #[default]
    EcdsaP256,
    /// RSA of 2,048 bits, for old clients.
    Rsa2048,
    /// Ed25519 (RFC 8410), which browsers don't take.
    Ed25519,
}

impl KeyKind {
    fn generate(self) -> Result<KeyPair, Error> {
        Ok(KeyPair::generate_for(match self {
            Self::EcdsaP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Self::Rsa2048 => &rcgen::PKCS_RSA_SHA256,
            Self::Ed25519 => &rcgen::PKCS_ED25519,
        })?)
    }
}

/// From when until when a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    not_before: SystemTime,
    not_after: SystemTime,
}

impl Validity {
    /// From an hour ago until the given number of days from now.
    pub fn days(days: u32) -> Self {
        let now = SystemTime::now();
        Self { not_before: now - CLOCK_SKEW, not_after: now + DAY * days }
    }

    /// Any span, also one that is over, for tests of what is refused.
    ///
    /// # Errors
    /// [`Error::Validity`] if it ends before it begins, or begins before 1970 or ends after 9999
    /// (RFC 5280, section 4.1.2.5).
    pub fn between(not_before: SystemTime, not_after: SystemTime) -> Result<Self, Error> {
        const YEAR_10000: Duration = Duration::from_secs(253_402_300_800);
        if not_after < not_before {
            return Err(Error::Validity("ends before it begins"));
        }
        if not_before < SystemTime::UNIX_EPOCH {
            return Err(Error::Validity("begins before 1970"));
        }
        if not_after >= SystemTime::UNIX_EPOCH + YEAR_10000 {
            return Err(Error::Validity("ends after the year 9999"));
        }
        Ok(Self { not_before, not_after })
    }

    fn apply(self, params: &mut CertificateParams) -> Result<(), Error> {
        let since_epoch = |time: SystemTime| {
            time.duration_since(SystemTime::UNIX_EPOCH)
                .map_err(|_| Error::Validity("begins before 1970"))
        };
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + since_epoch(self.not_before)?;
        params.not_after = epoch + since_epoch(self.not_after)?;
        Ok(())
    }
}

/// What a leaf certificate shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafRequest {
    names: Vec<SubjectName>,
    key: KeyKind,
    validity: Validity,
}

impl LeafRequest {
    /// A certificate for these names, the first one its common name too: with an ECDSA key,
    /// valid for 397 days.
    ///
    /// # Errors
    /// [`Error::NoName`] or [`Error::Subject`].
    pub fn new<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Result<Self, Error> {
        let names = names
            .into_iter()
            .map(|name| SubjectName::parse(name.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        if names.is_empty() {
            return Err(Error::NoName);
        }
        Ok(Self { names, key: KeyKind::default(), validity: Validity::days(LEAF_DAYS) })
    }

    /// With another kind of key.
    #[must_use]
    pub fn key(mut self, key: KeyKind) -> Self {
        self.key = key;
        self
    }

    /// With another validity.
    #[must_use]
    pub fn validity(mut self, validity: Validity) -> Self {
        self.validity = validity;
        self
    }

    /// The names, at least one.
    pub fn names(&self) -> &[SubjectName] {
        &self.names
    }
}

/// A CA with its key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
}

impl Authority {
    /// A new CA of that common name, with an ECDSA key, valid for ten years.
    ///
    /// # Errors
    /// [`Error::X509`] if the system yields no randomness.
    pub fn new(common_name: &str) -> Result<Self, Error> {
        let key = KeyKind::EcdsaP256.generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name_only(common_name);
        // Leaf certificates only: no other CA below this one.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Validity::days(AUTHORITY_DAYS).apply(&mut params)?;
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            certificate_pem: certificate.pem(),
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        })
    }

    /// A CA made earlier, from its two PEM texts.
    ///
    /// # Errors
    /// [`Error::X509`] if one of them can't be read, [`Error::Mismatch`] if they don't belong
    /// together.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, Error> {
        let der = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
        let key = KeyPair::from_pem(key)?;
        // The certificate holds its public key as one DER element, the same as the key pair's.
        let public_key = key.subject_public_key_info();
        if !der.windows(public_key.len()).any(|window| window == public_key) {
            return Err(Error::Mismatch);
        }
        Ok(Self {
            issuer: Issuer::from_ca_cert_der(&der, key)?,
            certificate: der,
            certificate_pem: certificate.to_owned(),
        })
    }

    /// Makes a key and signs a certificate for it.
    ///
    /// # Errors
    /// [`Error::X509`] if the system yields no randomness, [`Error::Validity`] for a span that
    /// X.509 can't say.
    pub fn issue(&self, request: &LeafRequest) -> Result<Leaf, Error> {
        let key = request.key.generate()?;
        let mut params = CertificateParams::default();
        if let Some(first) = request.names.first() {
            params.distinguished_name = common_name_only(&first.to_string());
        }
        params.subject_alt_names = request.names.iter().map(alt_name).collect::<Result<_, _>>()?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if request.key == KeyKind::Rsa2048 {
            // For TLS 1.2's key exchange by RSA: clients that check usages ask for this bit.
            params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
        }
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        request.validity.apply(&mut params)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Leaf { certificate_pem: certificate.pem(), certificate: certificate.der().clone(), key })
    }

    /// The CA's certificate in DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The CA's certificate in PEM, for a client's trust store.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The CA's private key in PEM (PKCS#8).
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// A leaf certificate with its key.
pub struct Leaf {
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    key: KeyPair,
}

impl Leaf {
    /// The certificate in DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The private key in DER (PKCS#8).
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }

    /// The certificate in PEM; without the CA's, which clients have themselves.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The private key in PEM (PKCS#8).
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// The `kubernetes.io/tls` Secret of certificate and key, as YAML. It holds the private key.
    pub fn secret_manifest(&self, secret: &SecretName) -> String {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {}\n  namespace: {}\n\
             type: kubernetes.io/tls\ndata:\n  tls.crt: {}\n  tls.key: {}\n",
            secret.name(),
            secret.namespace(),
            STANDARD.encode(&self.certificate_pem),
            STANDARD.encode(self.key_pem()),
        )
    }
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaf").finish_non_exhaustive()
    }
}

fn common_name_only(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn alt_name(name: &SubjectName) -> Result<SanType, rcgen::Error> {
    Ok(match name {
        SubjectName::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
        SubjectName::Ip(address) => SanType::IpAddress(*address),
    })
}
