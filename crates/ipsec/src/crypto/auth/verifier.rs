//! Whom of the other side is believed.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::{digest, signature};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, TrustAnchor, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, ExtendedKeyUsageValidator,
    KeyPurposeIdIter, OwnedCertRevocationList, RequiredEkuNotFoundContext, RevocationCheckDepth,
    RevocationOptionsBuilder, UnknownStatusPolicy,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::time::ASN1Time;

use super::algorithm::{Algorithm, Hash, KeyKind};
use super::{AuthError, METHOD_ECDSA_256, METHOD_ECDSA_384, METHOD_ECDSA_521, METHOD_RSA};
use super::{METHOD_SIGNATURE, certificate};
use crate::crypto::CryptoError;
use crate::ike::identity::Identity;

/// Whom of the other side is believed: authorities, single certificates, and what was revoked.
///
/// A certificate that stands among the authorities is believed itself, whatever it is: that is
/// how self-signed ones are pinned. It vouches for others only if it is an authority's (basic
/// constraints say so, and its key usage, if any, allows signing certificates). An authority without a CRL revokes nothing. A CRL past its
/// next update still counts: dropping it would free what it lists, refusing everybody would end
/// connections for a file that nobody renewed; see [`Verifier::stale_crls`].
pub struct Verifier {
    authorities: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
    crls: Vec<CertRevocationList<'static>>,
    /// Issuer and next update of each.
    updates: Vec<(String, Option<i64>)>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subjects: Vec<_> = self.subjects().collect();
        f.debug_tuple("Verifier").field(&subjects).finish()
    }
}

impl Verifier {
    /// From authorities in PEM (or one in DER), and CRLs in PEM or one in DER; empty for none.
    ///
    /// # Errors
    /// What can't be read, and what to give.
    pub fn from_pem(authorities: &[u8], crls: &[u8]) -> Result<Self, CryptoError> {
        let authorities = certificate::read("authorities", authorities)?;
        let mut anchors = Vec::new();
        // A pinned end entity vouches for nobody else.
        let is_authority = |der: &&CertificateDer<'_>| {
            certificate::parse(der).is_some_and(|it| certificate::is_authority(&it))
        };
        for der in authorities.iter().filter(is_authority) {
            let anchor = webpki::anchor_from_trusted_cert(der).map_err(|error| {
                CryptoError::Certificate(format!("authorities: a certificate is refused: {error}"))
            })?;
            anchors.push(anchor.to_owned());
        }
        let refused = |why: String| CryptoError::Certificate(format!("CRL: {why}"));
        let crls = if certificate::is_pem(crls) {
            CertificateRevocationListDer::pem_slice_iter(crls)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| refused(format!("PEM that can't be read ({error})")))?
        } else if crls.is_empty() {
            Vec::new()
        } else {
            vec![CertificateRevocationListDer::from(crls.to_vec())]
        };
        let mut updates = Vec::new();
        let mut lists = Vec::new();
        for der in &crls {
            let list = OwnedCertRevocationList::from_der(der)
                .map_err(|error| refused(format!("{error}; give a complete CRL in PEM or DER")))?;
            lists.push(CertRevocationList::from(list));
            if let Ok((_, list)) = CertificateRevocationList::from_der(der) {
                let next = list.next_update().map(|time| time.timestamp());
                updates.push((list.issuer().to_string(), next));
            }
        }
        Ok(Self { authorities, anchors, crls: lists, updates })
    }

    /// The subjects of what is trusted, for people.
    pub fn subjects(&self) -> impl Iterator<Item = String> {
        let parsed = self.authorities.iter().filter_map(|der| certificate::parse(der));
        parsed.map(|authority| authority.subject().to_string())
    }

    /// Issuers of CRLs whose next update is past: people should renew them.
    pub fn stale_crls(&self, unix_now: Duration) -> Vec<String> {
        let stale = |next: &Option<i64>| next.is_some_and(|next| next < seconds(unix_now));
        let found = self.updates.iter().filter(|(_, next)| stale(next));
        found.map(|(issuer, _)| issuer.clone()).collect()
    }

    /// The data of a CERTREQ payload: SHA-1 of each authority's SubjectPublicKeyInfo.
    pub fn requests(&self) -> Vec<u8> {
        let parsed = self.authorities.iter().filter_map(|der| certificate::parse(der));
        parsed
            .flat_map(|authority| {
                let key = authority.public_key().raw;
                digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, key).as_ref().to_vec()
            })
            .collect()
    }

    /// Whether the other end is who it says it is: its certificates (DER, its own first; none if
    /// it relies on our having it) lead to an authority, have the identity, and their key has
    /// signed these octets.
    ///
    /// # Errors
    /// Why not.
    #[allow(clippy::too_many_arguments)]
    pub fn verify(
        &self,
        chain: &[Vec<u8>],
        id: &Identity,
        method: u8,
        auth: &[u8],
        octets: &[u8],
        unix_now: Duration,
        allow_sha1: bool,
    ) -> Result<(), AuthError> {
        let own = match chain.first() {
            Some(own) => own.as_slice(),
            None => self.pinned_for(id).ok_or(AuthError::NoCertificate)?,
        };
        let parsed = certificate::parse(own)
            .ok_or_else(|| AuthError::Malformed("it is not X.509".to_owned()))?;
        check_time(&parsed, unix_now)?;
        if !self.authorities.iter().any(|trusted| trusted.as_ref() == own) {
            self.check_chain(&parsed, own, chain.get(1..).unwrap_or_default(), unix_now)?;
        }
        if !certificate::has_identity(&parsed, id) {
            let has = certificate::identities(&parsed);
            return Err(AuthError::WrongId { id: certificate::plain(id), has });
        }
        check_signature(&parsed, method, auth, octets, allow_sha1)
    }

    fn pinned_for(&self, id: &Identity) -> Option<&[u8]> {
        let mut ders = self.authorities.iter().map(AsRef::as_ref);
        ders.find(|der| {
            certificate::parse(der).is_some_and(|own| certificate::has_identity(&own, id))
        })
    }

    fn check_chain(
        &self,
        parsed: &X509Certificate<'_>,
        own: &[u8],
        others: &[Vec<u8>],
        unix_now: Duration,
    ) -> Result<(), AuthError> {
        let subject = || certificate::plain(parsed.subject());
        let own = CertificateDer::from(own);
        let others: Vec<_> =
            others.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let lists: Vec<_> = self.crls.iter().collect();
        // None without CRLs.
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
            options
                .with_depth(RevocationCheckDepth::Chain)
                .with_status_policy(UnknownStatusPolicy::Allow)
                .with_expiration_policy(ExpirationPolicy::Ignore)
                .build()
        });
        let refused = |error| match error {
            webpki::Error::UnknownIssuer => {
                AuthError::UnknownAuthority { issuer: missing_issuer(parsed, &others) }
            }
            webpki::Error::CertRevoked => AuthError::Revoked { subject: subject() },
            webpki::Error::RequiredEkuNotFoundContext(_) => AuthError::Usage { subject: subject() },
            // Its own time was checked before.
            webpki::Error::CertExpired { not_after, .. } => AuthError::Expired {
                subject: format!("an authority above {}", subject()),
                at: time(not_after),
            },
            webpki::Error::CertNotValidYet { not_before, .. } => AuthError::NotYetValid {
                subject: format!("an authority above {}", subject()),
                from: time(not_before),
            },
            webpki::Error::CaUsedAsEndEntity => AuthError::Chain {
                subject: subject(),
                why: "it is an authority's; use an end entity's, or add it to the authorities \
                      itself"
                    .to_owned(),
            },
            webpki::Error::InvalidSignatureForPublicKey => AuthError::Chain {
                subject: subject(),
                why: "an authority of its issuer's name is trusted, but has not signed it"
                    .to_owned(),
            },
            error => AuthError::Chain { subject: subject(), why: error.to_string() },
        };
        let entity = EndEntityCert::try_from(&own).map_err(refused)?;
        let path = entity
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &self.anchors,
                &others,
                UnixTime::since_unix_epoch(unix_now),
                IkeUsage,
                revocation,
                None,
            )
            .map_err(refused)?;
        self.check_anchor(path.anchor(), unix_now)
    }

    /// webpki doesn't look at how old what is trusted is. Of several for one key (an authority's
    /// certificate that was renewed) one has to be valid.
    fn check_anchor(&self, anchor: &TrustAnchor<'_>, unix_now: Duration) -> Result<(), AuthError> {
        let parsed = self.authorities.iter().filter_map(|der| certificate::parse(der));
        // The anchor has both without their outer tags.
        let same = parsed.filter(|authority| {
            authority.subject().as_raw().ends_with(&anchor.subject)
                && authority.public_key().raw.ends_with(&anchor.subject_public_key_info)
        });
        let mut result = Ok(());
        for authority in same {
            result = check_time(&authority, unix_now);
            if result.is_ok() {
                break;
            }
        }
        result
    }
}

/// No extended key usage at all, or one of those that are in use for IKE (RFC 4945, 5.1.3.12).
struct IkeUsage;

impl ExtendedKeyUsageValidator for IkeUsage {
    fn validate(&self, iter: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        const FINE: [&[usize]; 5] = [
            &[1, 3, 6, 1, 5, 5, 7, 3, 1],
            &[1, 3, 6, 1, 5, 5, 7, 3, 2],
            // id-kp-ipsecIKE
            &[1, 3, 6, 1, 5, 5, 7, 3, 17],
            // iKEIntermediate
            &[1, 3, 6, 1, 5, 5, 8, 2, 2],
            // anyExtendedKeyUsage
            &[2, 5, 29, 37, 0],
        ];
        let mut present = Vec::new();
        for usage in iter {
            present.push(usage?.to_decoded_oid());
        }
        if present.is_empty() || present.iter().any(|usage| FINE.contains(&usage.as_slice())) {
            return Ok(());
        }
        Err(webpki::Error::RequiredEkuNotFoundContext(RequiredEkuNotFoundContext {
            required: webpki::KeyUsage::server_auth(),
            present,
        }))
    }
}

/// From the end entity up through what was sent: the first issuer that isn't there.
fn missing_issuer(own: &X509Certificate<'_>, others: &[CertificateDer<'_>]) -> String {
    let others: Vec<_> = others.iter().filter_map(|der| certificate::parse(der)).collect();
    let mut issuer = own.issuer();
    for _ in 0..others.len() {
        let above = others.iter().find(|other| other.subject() == issuer);
        match above.filter(|above| above.issuer() != issuer) {
            Some(above) => issuer = above.issuer(),
            None => break,
        }
    }
    certificate::plain(issuer)
}

fn check_time(own: &X509Certificate<'_>, unix_now: Duration) -> Result<(), AuthError> {
    let (now, validity) = (seconds(unix_now), own.validity());
    let subject = || certificate::plain(own.subject());
    if now > validity.not_after.timestamp() {
        let at = validity.not_after.to_string();
        return Err(AuthError::Expired { subject: subject(), at });
    }
    if now < validity.not_before.timestamp() {
        let from = validity.not_before.to_string();
        return Err(AuthError::NotYetValid { subject: subject(), from });
    }
    Ok(())
}

fn seconds(unix: Duration) -> i64 {
    i64::try_from(unix.as_secs()).unwrap_or(i64::MAX)
}

fn time(unix: UnixTime) -> String {
    let seconds = i64::try_from(unix.as_secs()).unwrap_or(i64::MAX);
    ASN1Time::from_timestamp(seconds)
        .map_or_else(|_| format!("second {seconds}"), |time| time.to_string())
}

fn check_signature(
    own: &X509Certificate<'_>,
    method: u8,
    auth: &[u8],
    octets: &[u8],
    allow_sha1: bool,
) -> Result<(), AuthError> {
    let key = own.public_key();
    let kind = KeyKind::of(key).ok_or_else(|| {
        AuthError::Algorithm(
            "the certificate's key is not RSA, P-256, P-384, P-521 or Ed25519".to_owned(),
        )
    })?;
    let public = key.subject_public_key.data.as_ref();
    if let (KeyKind::Rsa, Ok(PublicKey::RSA(rsa))) = (kind, key.parsed())
        && rsa.key_size() < 2048
    {
        return Err(AuthError::Algorithm(format!(
            "an RSA key of {} bits; 2048 are the least",
            rsa.key_size()
        )));
    }
    let (algorithm, signature): (&dyn signature::VerificationAlgorithm, _) = match (method, kind) {
        (METHOD_RSA, KeyKind::Rsa) => {
            (named(Algorithm::RsaPkcs1(Hash::Sha1), kind, allow_sha1)?, auth)
        }
        (METHOD_ECDSA_256, KeyKind::P256) => (&signature::ECDSA_P256_SHA256_FIXED, auth),
        (METHOD_ECDSA_384, KeyKind::P384) => (&signature::ECDSA_P384_SHA384_FIXED, auth),
        (METHOD_ECDSA_521, KeyKind::P521) => (&signature::ECDSA_P521_SHA512_FIXED, auth),
        (METHOD_SIGNATURE, _) => {
            let malformed = || AuthError::Algorithm("its name is cut short".to_owned());
            let (length, rest) = auth.split_first().ok_or_else(malformed)?;
            let (name, signature) =
                rest.split_at_checked(usize::from(*length)).ok_or_else(malformed)?;
            let algorithm = Algorithm::decode(name).map_err(AuthError::Algorithm)?;
            (named(algorithm, kind, allow_sha1)?, signature)
        }
        (METHOD_RSA | METHOD_ECDSA_256 | METHOD_ECDSA_384 | METHOD_ECDSA_521, _) => {
            return Err(AuthError::Algorithm(format!(
                "method {method} does not go with the certificate's key ({kind:?})"
            )));
        }
        _ => return Err(AuthError::Method(method)),
    };
    signature::UnparsedPublicKey::new(algorithm, public)
        .verify(octets, signature)
        .map_err(|_| AuthError::Signature)
}

fn named(
    algorithm: Algorithm,
    kind: KeyKind,
    allow_sha1: bool,
) -> Result<&'static dyn signature::VerificationAlgorithm, AuthError> {
    if algorithm == Algorithm::RsaPkcs1(Hash::Sha1) && !allow_sha1 {
        return Err(AuthError::Algorithm(
            "RSA with SHA-1; have the other end use RFC 7427 with SHA-256, or allow legacy \
             algorithms"
                .to_owned(),
        ));
    }
    algorithm.verification(kind).map_err(AuthError::Algorithm)
}
