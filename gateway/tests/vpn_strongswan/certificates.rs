//! Certificates on both ends.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType, SignatureAlgorithm,
};
use testkit::vpn_lab::Site;

use crate::mixed::{Ends, wait_ping};

fn issue(
    issuer: &Issuer<'static, KeyPair>,
    name: &str,
    algorithm: &'static SignatureAlgorithm,
) -> (String, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())];
    let key = KeyPair::generate_for(algorithm).unwrap();
    (params.signed_by(&key, issuer).unwrap().pem(), key.serialize_pem())
}

fn indented(pem: &str) -> String {
    pem.lines().map(|line| format!("    {line}\n")).collect()
}

#[test]
fn certificates_prove_both_ends() {
    let algorithms =
        [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ED25519, &rcgen::PKCS_RSA_SHA256];
    for (number, algorithm) in algorithms.into_iter().enumerate() {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Lab CA");
        let key = KeyPair::generate_for(algorithm).unwrap();
        let ca = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let (certificate, key) = issue(&issuer, "a.test", algorithm);
        let (theirs, their_key) = issue(&issuer, "b.test", algorithm);
        let ends = Ends {
            we_begin: number % 2 == 0,
            auth: "certificate: {secretName: edge-cert, caSecretName: hq-ca}".into(),
            objects: format!(
                "---\napiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\n\
                 metadata: {{name: edge-cert, namespace: default}}\nstringData:\n  tls.crt: |\n{}  tls.key: |\n{}\
                 ---\napiVersion: v1\nkind: Secret\nmetadata: {{name: hq-ca, namespace: default}}\n\
                 stringData:\n  ca.crt: |\n{}",
                indented(&certificate),
                indented(&key),
                indented(&ca)
            ),
            swan_auth: [
                "auth = pubkey\ncerts = b.pem\nid = b.test".into(),
                "auth = pubkey\ncacerts = ca.pem\nid = a.test".into(),
            ],
            files: vec![
                ("x509ca/ca.pem".into(), ca.clone()),
                ("x509/b.pem".into(), theirs),
                ("private/b.pem".into(), their_key),
            ],
            ..Ends::default()
        };
        let mixed = ends.up();
        wait_ping(mixed.lab.host(Site::A), "10.2.0.2");
    }
}
