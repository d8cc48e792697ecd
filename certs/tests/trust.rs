//! What a TLS client makes of the certificates.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use certs::{Authority, KeyKind, LeafRequest, Validity};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{ServerName, UnixTime};

/// What a client that trusts the CA says to the leaf under the name.
fn verify(ca: &Authority, leaf: &certs::Leaf, name: &str) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.certificate().clone()).expect("the CA is a trust anchor");
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .expect("the roots make a verifier");
    let name = ServerName::try_from(name.to_owned()).expect("a server name");
    verifier.verify_server_cert(leaf.certificate(), &[], &name, &[], UnixTime::now()).map(drop)
}

#[test]
fn every_kind_of_key_makes_a_leaf_that_the_ca_vouches_for() {
    let ca = Authority::new("Test CA").unwrap();
    for kind in [KeyKind::EcdsaP256, KeyKind::Rsa2048, KeyKind::Ed25519] {
        let leaf = ca.issue(&LeafRequest::new(["www.example.test"]).unwrap().key(kind)).unwrap();
        verify(&ca, &leaf, "www.example.test").unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        let key = aws_lc_rs::sign::any_supported_type(&leaf.key()).unwrap();
        rustls::sign::CertifiedKey::new(vec![leaf.certificate().clone()], key)
            .keys_match()
            .unwrap_or_else(|error| panic!("{kind:?}: {error}"));
    }
}

#[test]
fn a_leaf_is_good_for_its_names_and_no_others() {
    let ca = Authority::new("Test CA").unwrap();
    let request = LeafRequest::new(["*.example.test", "192.0.2.1", "::1"]).unwrap();
    let leaf = ca.issue(&request).unwrap();
    for name in ["a.example.test", "192.0.2.1", "::1"] {
        verify(&ca, &leaf, name).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    for name in ["example.test", "a.b.example.test", "192.0.2.2"] {
        assert!(verify(&ca, &leaf, name).is_err(), "{name}");
    }
}

#[test]
fn an_expired_leaf_is_refused() {
    let ca = Authority::new("Test CA").unwrap();
    let now = SystemTime::now();
    let day = Duration::from_secs(86_400);
    let request = LeafRequest::new(["www.example.test"])
        .unwrap()
        .validity(Validity::between(now - 2 * day, now - day).unwrap());
    let refusal = verify(&ca, &ca.issue(&request).unwrap(), "www.example.test").unwrap_err();
    assert!(format!("{refusal:?}").contains("Expired"), "{refusal:?}");
}

#[test]
fn a_validity_that_ends_before_it_begins_is_refused() {
    let now = SystemTime::now();
    assert!(Validity::between(now, now - Duration::from_secs(1)).is_err());
}

#[test]
fn a_leaf_of_another_ca_is_refused() {
    let (ca, other) = (Authority::new("Test CA").unwrap(), Authority::new("Test CA").unwrap());
    let leaf = other.issue(&LeafRequest::new(["www.example.test"]).unwrap()).unwrap();
    assert!(verify(&ca, &leaf, "www.example.test").is_err());
}

#[test]
fn a_ca_read_back_from_pem_signs_for_the_same_clients() {
    let ca = Authority::new("Test CA").unwrap();
    let again = Authority::from_pem(ca.certificate_pem(), &ca.key_pem()).unwrap();
    let leaf = again.issue(&LeafRequest::new(["www.example.test"]).unwrap()).unwrap();
    verify(&ca, &leaf, "www.example.test").unwrap();
}

#[test]
fn a_ca_with_the_key_of_another_is_refused() {
    let (ca, other) = (Authority::new("Test CA").unwrap(), Authority::new("Test CA").unwrap());
    let refusal = Authority::from_pem(ca.certificate_pem(), &other.key_pem()).unwrap_err();
    assert!(matches!(refusal, certs::Error::Mismatch), "{refusal}");
}
