//! Certificates: reading them, and whose they are.

use std::net::{Ipv4Addr, Ipv6Addr};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certificate::{BasicExtension, X509Certificate};
use x509_parser::extensions::{GeneralName, KeyUsage, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use crate::crypto::CryptoError;
use crate::ike::identity::{Identity, is_unseen};

/// All certificates in a PEM text, or the one in DER.
pub(super) fn read(what: &str, octets: &[u8]) -> Result<Vec<CertificateDer<'static>>, CryptoError> {
    let refused = |why: String| CryptoError::Certificate(format!("{what}: {why}"));
    let found = if is_pem(octets) {
        CertificateDer::pem_slice_iter(octets)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| refused(format!("PEM that can't be read ({error})")))?
    } else if octets.is_empty() {
        Vec::new()
    } else {
        vec![CertificateDer::from(octets.to_vec())]
    };
    if found.is_empty() {
        return Err(refused(
            "no certificate in it; give PEM with \"-----BEGIN CERTIFICATE-----\"".to_owned(),
        ));
    }
    for (at, der) in found.iter().enumerate() {
        parse(der).ok_or_else(|| {
            refused(format!("certificate {} is not X.509; give PEM or DER", at + 1))
        })?;
    }
    Ok(found)
}

/// Whether it is text with a PEM header.
pub(super) fn is_pem(octets: &[u8]) -> bool {
    octets.windows(11).any(|window| window == b"-----BEGIN ")
}

/// Text out of a certificate, for logs: whoever wrote it may not write lines or escapes there.
pub(super) fn plain(text: impl std::fmt::Display) -> String {
    const LONGEST: usize = 200;
    let text = text.to_string();
    let mut out: String = text.chars().flat_map(shown).take(LONGEST).collect();
    if text.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out
}

fn shown(c: char) -> impl Iterator<Item = char> {
    let escaped = is_unseen(c).then(|| c.escape_default());
    let itself = escaped.is_none().then_some(c);
    escaped.into_iter().flatten().chain(itself)
}

/// Whether it may sign other certificates.
pub(super) fn is_authority(certificate: &X509Certificate<'_>) -> bool {
    let may_sign = |usage: Option<BasicExtension<&KeyUsage>>| {
        usage.is_none_or(|usage| usage.value.key_cert_sign())
    };
    certificate.is_ca() && certificate.key_usage().is_ok_and(may_sign)
}

/// None if it is none, or something follows it.
pub(super) fn parse(der: &[u8]) -> Option<X509Certificate<'_>> {
    X509Certificate::from_der(der).ok().filter(|(rest, _)| rest.is_empty()).map(|(_, it)| it)
}

/// Whether this identity stands in the certificate: a DN as its subject; an address, a name or a
/// mail address as a subjectAltName; a key ID as the subjectKeyIdentifier. A common name counts
/// for nothing.
pub(super) fn has_identity(certificate: &X509Certificate<'_>, id: &Identity) -> bool {
    let same_text = |name: &str| name.as_bytes().eq_ignore_ascii_case(&id.data);
    match id.kind {
        9 => match X509Name::from_der(&id.data) {
            Ok(([], name)) => same_name(&name, certificate.subject()),
            _ => false,
        },
        11 => certificate.extensions().iter().any(|extension| {
            matches!(extension.parsed_extension(),
                ParsedExtension::SubjectKeyIdentifier(key) if key.0 == id.data)
        }),
        _ => alternative_names(certificate).any(|name| match (id.kind, name) {
            (1 | 5, GeneralName::IPAddress(address)) => *address == id.data,
            (2, GeneralName::DNSName(name)) => same_text(name),
            (3, GeneralName::RFC822Name(name)) => same_text(name),
            _ => false,
        }),
    }
}

/// The identities that are in it, for people.
pub(super) fn identities(certificate: &X509Certificate<'_>) -> String {
    let mut found = vec![format!("subject \"{}\"", certificate.subject())];
    found.extend(alternative_names(certificate).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(format!("DNS:{name}")),
        GeneralName::RFC822Name(name) => Some(format!("email:{name}")),
        GeneralName::IPAddress(octets) => {
            let v4 = <[u8; 4]>::try_from(*octets).map(|v4| Ipv4Addr::from(v4).to_string());
            let v6 = <[u8; 16]>::try_from(*octets).map(|v6| Ipv6Addr::from(v6).to_string());
            v4.or(v6).ok().map(|address| format!("IP:{address}"))
        }
        _ => None,
    }));
    plain(found.join(", "))
}

fn alternative_names<'a>(
    certificate: &'a X509Certificate<'_>,
) -> impl Iterator<Item = &'a GeneralName<'a>> {
    certificate
        .extensions()
        .iter()
        .filter_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
            _ => None,
        })
        .flatten()
}

/// The same attributes in the same order; the strings' types, case and spaces around them don't
/// count (RFC 5280, 7.1, simplified).
fn same_name(one: &X509Name<'_>, other: &X509Name<'_>) -> bool {
    if one.as_raw() == other.as_raw() {
        return true;
    }
    let flat = |name: &X509Name<'_>| -> Vec<Vec<(String, Vec<u8>)>> {
        name.iter()
            .map(|set| {
                set.iter()
                    .map(|attribute| {
                        let value = attribute.as_str().map_or_else(
                            |_| attribute.as_slice().to_vec(),
                            |text| text.trim().to_lowercase().into_bytes(),
                        );
                        (attribute.attr_type().to_id_string(), value)
                    })
                    .collect()
            })
            .collect()
    };
    flat(one) == flat(other)
}
