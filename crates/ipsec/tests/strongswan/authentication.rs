//! How the ends prove who they are.

use std::sync::Arc;

use ipsec::crypto::auth::{Signer, Verifier};
use ipsec::ike::config::{Auth, Ppk, Start};
use ipsec::ike::event::Failure;
use ipsec::ike::identity::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, RsaKeySize, SanType,
    SignatureAlgorithm,
};
use testkit::SwanBuilder;

use crate::KEY;
use crate::peer::{Ends, Swan, connection, psk};

/// A certificate and its key.
struct Pair {
    certificate: String,
    key: String,
}

fn key(algorithm: &'static SignatureAlgorithm) -> KeyPair {
    if algorithm == &rcgen::PKCS_RSA_SHA256 {
        KeyPair::generate_rsa_for(algorithm, RsaKeySize::_2048).unwrap()
    } else {
        KeyPair::generate_for(algorithm).unwrap()
    }
}

fn authority() -> (Issuer<'static, KeyPair>, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "Lab CA");
    let key = key(&rcgen::PKCS_ECDSA_P256_SHA256);
    let certificate = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), certificate)
}

fn issue(
    authority: &Issuer<'static, KeyPair>,
    name: &str,
    algorithm: &'static SignatureAlgorithm,
) -> Pair {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())];
    // To be long enough for fragments.
    for number in 0..40 {
        let name = format!("alternative-name-{number}.{name}");
        params.subject_alt_names.push(SanType::DnsName(name.try_into().unwrap()));
    }
    let key = key(algorithm);
    let certificate = params.signed_by(&key, authority).unwrap().pem();
    Pair { certificate, key: key.serialize_pem() }
}

/// strongSwan's side with a certificate.
fn with_certificate(starts: bool) -> Swan {
    Swan {
        auth: (
            "auth = pubkey\ncerts = b.pem\nid = b.test".to_owned(),
            "auth = pubkey\ncacerts = ca.pem\nid = a.test".to_owned(),
        ),
        starts,
        ..Swan::default()
    }
}

fn files(builder: SwanBuilder, ca: &str, pair: &Pair) -> SwanBuilder {
    builder
        .file("x509ca/ca.pem", ca)
        .file("x509/b.pem", &pair.certificate)
        .file("private/b.pem", &pair.key)
}

fn certificate(ca: &str, pair: &Pair) -> Auth {
    Auth::Certificate {
        signer: Arc::new(
            Signer::from_pem(pair.certificate.as_bytes(), pair.key.as_bytes()).unwrap(),
        ),
        verifier: Arc::new(Verifier::from_pem(ca.as_bytes(), b"").unwrap()),
    }
}

#[track_caller]
fn certificates(algorithm: &'static SignatureAlgorithm) {
    for starts in [false, true] {
        let (issuer, ca) = authority();
        let (a, b) = (issue(&issuer, "a.test", algorithm), issue(&issuer, "b.test", algorithm));
        let mut ours = connection();
        ours.auth = certificate(&ca, &a);
        ours.start = if starts { Start::Wait } else { Start::Now };
        let builder = files(with_certificate(starts).builder(), &ca, &b);
        let mut ends = Ends::new(builder, ours);
        ends.until_up(1);
        assert!(ends.largest <= 1280, "messages are cut up: {}", ends.largest);
    }
}

#[test]
fn ecdsa_certificates() {
    certificates(&rcgen::PKCS_ECDSA_P256_SHA256);
    certificates(&rcgen::PKCS_ECDSA_P384_SHA384);
}

#[test]
fn rsa_certificates() {
    certificates(&rcgen::PKCS_RSA_SHA256);
}

#[test]
fn ed25519_certificates() {
    certificates(&rcgen::PKCS_ED25519);
}

#[test]
fn without_fragmentation_large_messages_go_whole() {
    let (issuer, ca) = authority();
    let algorithm = &rcgen::PKCS_ECDSA_P256_SHA256;
    let (a, b) = (issue(&issuer, "a.test", algorithm), issue(&issuer, "b.test", algorithm));
    let mut ours = connection();
    ours.auth = certificate(&ca, &a);
    ours.fragmentation = false;
    let mut ends = Ends::new(files(with_certificate(false).builder(), &ca, &b), ours);
    ends.until_up(1);
    assert!(ends.largest > 1280);
}

#[test]
fn certificates_of_another_authority_are_refused() {
    let ((issuer, ca), (stranger, other)) = (authority(), authority());
    let algorithm = &rcgen::PKCS_ECDSA_P256_SHA256;
    let (a, b) = (issue(&issuer, "a.test", algorithm), issue(&stranger, "b.test", algorithm));
    let mut ours = connection();
    ours.auth = certificate(&ca, &a);
    let builder = files(with_certificate(false).builder(), &other, &b).file("x509ca/a.pem", &ca);
    let builder = builder.file("x509/none.pem", &a.certificate);
    let mut ends = Ends::new(builder, ours);
    ends.until("the failure is told", |ends| {
        ends.failures.iter().any(|failure| {
            matches!(failure, Failure::BadProof { .. } | Failure::RefusedByPeer { .. })
        })
    });
    assert!(ends.children.is_empty());
}

#[test]
fn another_preshared_key_is_told() {
    for starts in [false, true] {
        let mut ours = connection();
        ours.auth = psk("another preshared key");
        ours.start = if starts { Start::Wait } else { Start::Now };
        let swan = Swan { starts, ..Swan::default() };
        let mut ends = Ends::new(swan.builder(), ours);
        ends.until("the failure is told", |ends| {
            ends.failures.iter().any(|failure| match failure {
                Failure::RefusedByPeer { .. } => !starts,
                Failure::BadProof { .. } => starts,
                _ => false,
            })
        });
        assert!(ends.children.is_empty());
        assert_eq!(ends.swan.installed(), 0);
    }
}

#[test]
fn another_identity_is_told() {
    let mut ours = connection();
    ours.remote_id = Some(Identity::parse("c.test").unwrap());
    let mut ends = Ends::new(Swan::default().builder().psk("a.test", "c.test", KEY), ours);
    ends.until("the failure is told", |ends| !ends.failures.is_empty());
    assert!(ends.children.is_empty());
}

#[test]
fn a_post_quantum_preshared_key() {
    for (starts, required) in [(false, true), (true, true), (false, false)] {
        let swan = Swan {
            lines: format!(
                "ppk_id = lab-ppk\nppk_required = {}",
                if required { "yes" } else { "no" }
            ),
            starts,
            ..Swan::default()
        };
        let builder = swan.builder().ppk("lab-ppk", "a post-quantum preshared key");
        let mut ours = connection();
        ours.start = if starts { Start::Wait } else { Start::Now };
        ours.ppk = Some(Ppk {
            id: b"lab-ppk".to_vec(),
            key: Arc::new(b"a post-quantum preshared key".to_vec().into()),
            required,
        });
        let mut ends = Ends::new(builder, ours);
        ends.until_up(1);
        assert!(ends.swan.log().contains("PPK"), "{}", ends.swan.log());
    }
}

#[test]
fn a_peer_without_post_quantum_key_is_taken_if_none_is_required() {
    let mut ours = connection();
    ours.ppk = Some(Ppk {
        id: b"lab-ppk".to_vec(),
        key: Arc::new(b"a post-quantum preshared key".to_vec().into()),
        required: false,
    });
    let mut ends = Ends::new(Swan::default().builder(), ours);
    ends.until_up(1);
}
