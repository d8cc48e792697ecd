//! IKE_AUTH with certificates.

use std::sync::Arc;
use std::time::Duration;

use ipsec::crypto::auth::{Signer, Verifier};
use ipsec::ike::config::{Auth, Connection};
use ipsec::ike::event::{Failure, State};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType,
    SignatureAlgorithm,
};

use crate::pair::{Pair, connection, id};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn authority(name: &str) -> Authority {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn signer(name: &str, issuer: &Authority, algorithm: &'static SignatureAlgorithm) -> Arc<Signer> {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let mut params = params(name);
    params.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())];
    let certificate = params.signed_by(&key, issuer).unwrap();
    let signer =
        Signer::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    Arc::new(signer)
}

fn trusting(issuer: &Authority) -> Arc<Verifier> {
    Arc::new(Verifier::from_pem(issuer.pem().as_bytes(), b"").unwrap())
}

fn with(end: usize, signer: &Arc<Signer>, verifier: &Arc<Verifier>) -> Connection {
    let auth = Auth::Certificate { signer: Arc::clone(signer), verifier: Arc::clone(verifier) };
    Connection { auth, ..connection(end) }
}

#[test]
fn certificates_bring_both_ends_up() {
    let authority = authority("authority");
    let verifier = trusting(&authority);
    for algorithm in
        [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519]
    {
        let left = signer("left.example", &authority, algorithm);
        let right = signer("right.example", &authority, &rcgen::PKCS_ECDSA_P256_SHA256);
        let mut pair = Pair::new(with(0, &left, &verifier), with(1, &right, &verifier));
        pair.settle();
        pair.assert_up();
    }
}

#[test]
fn anyone_that_the_authority_vouches_for_may_come_if_told_so() {
    let authority = authority("authority");
    let verifier = trusting(&authority);
    let left = signer("left.example", &authority, &rcgen::PKCS_ED25519);
    let right = signer("right.example", &authority, &rcgen::PKCS_ED25519);
    let mut listener = with(1, &right, &verifier);
    listener.remote.clear();
    listener.remote_id = None;
    let mut pair = Pair::new(with(0, &left, &verifier), listener);
    pair.settle();
    pair.assert_up();
    assert_eq!(pair.status(1).ike[0].remote_id, Some(id("left.example")));
}

#[test]
fn somebody_of_another_authority_is_refused_by_the_responder() {
    let (ours, other) = (authority("ours"), authority("other"));
    let left = signer("left.example", &other, &rcgen::PKCS_ED25519);
    let right = signer("right.example", &ours, &rcgen::PKCS_ED25519);
    let mut pair = Pair::new(with(0, &left, &trusting(&ours)), with(1, &right, &trusting(&ours)));
    pair.settle();
    let [Failure::BadProof { their_id, why }] = &pair.failures(1)[..] else {
        panic!("{:?}", pair.failures(1));
    };
    assert_eq!(*their_id, id("left.example"));
    assert!(why.contains("unknown authority"), "{why}");
    assert!(matches!(pair.failures(0)[..], [Failure::RefusedByPeer { .. }]));
    assert!(pair.ends.iter().all(|end| end.sas.is_empty()));
}

#[test]
fn an_initiator_that_refuses_the_responder_takes_everything_back() {
    let (ours, other) = (authority("ours"), authority("other"));
    let left = signer("left.example", &ours, &rcgen::PKCS_ED25519);
    let right = signer("right.example", &other, &rcgen::PKCS_ED25519);
    let mut pair = Pair::new(with(0, &left, &trusting(&ours)), with(1, &right, &trusting(&ours)));
    pair.settle();
    assert!(matches!(pair.failures(0)[..], [Failure::BadProof { .. }]), "{:?}", pair.failures(0));
    for end in 0..2 {
        assert!(pair.ends[end].sas.is_empty(), "end {end}");
        assert!(pair.status(end).ike.is_empty(), "end {end}");
    }
    assert_eq!(pair.state(0), State::Connecting);
    assert!(pair.status(0).next_try.unwrap() < pair.now + Duration::from_secs(2));
}

#[test]
fn a_certificate_of_somebody_else_is_refused() {
    let authority = authority("authority");
    let verifier = trusting(&authority);
    let left = signer("mallory.example", &authority, &rcgen::PKCS_ED25519);
    let right = signer("right.example", &authority, &rcgen::PKCS_ED25519);
    let mut pair = Pair::new(with(0, &left, &verifier), with(1, &right, &verifier));
    pair.settle();
    assert!(matches!(pair.failures(1)[..], [Failure::BadProof { .. }]), "{:?}", pair.failures(1));
    assert!(pair.ends[1].sas.is_empty());
}

#[test]
fn a_key_on_one_end_and_a_certificate_on_the_other_is_told() {
    let authority = authority("authority");
    let left = signer("left.example", &authority, &rcgen::PKCS_ED25519);
    let mut pair = Pair::new(with(0, &left, &trusting(&authority)), connection(1));
    pair.settle();
    let [Failure::BadProof { why, .. }] = &pair.failures(1)[..] else {
        panic!("{:?}", pair.failures(1));
    };
    assert!(why.contains("preshared key is configured"), "{why}");
}
