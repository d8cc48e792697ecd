use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SignatureAlgorithm};

use super::*;

struct Made {
    certificate: String,
    key: String,
}

fn make(algorithm: &'static SignatureAlgorithm) -> Made {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let names = vec!["A.test".to_owned(), "*.b.test".to_owned(), "10.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    Made { certificate: certificate.pem(), key: key.serialize_pem() }
}

fn secret(chain: &str, key: &str) -> Secret {
    let field = |name: &str, value: &str| (name.to_owned(), ByteString(value.as_bytes().to_vec()));
    Secret {
        data: Some(BTreeMap::from([field(CHAIN, chain), field(KEY, key)])),
        type_: Some("kubernetes.io/tls".to_owned()),
        ..Secret::default()
    }
}

fn checked(secret: &Secret) -> Result<TlsPair, Fault> {
    check(secret, &rustls::crypto::aws_lc_rs::default_provider())
}

#[test]
fn good_pair_has_its_names_in_lower_case_and_its_validity() {
    for algorithm in [&PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let made = make(algorithm);
        let pair = checked(&secret(&made.certificate, &made.key)).unwrap();
        assert_eq!(*pair.names, ["*.b.test", "a.test"]);
        assert!(pair.validity.0 < pair.validity.1);
        assert_eq!(pair.chain.len(), 1);
    }
}

#[test]
fn whole_chain_is_kept_in_order() {
    let (leaf, issuer) = (make(&PKCS_ED25519), make(&PKCS_ED25519));
    let chain = format!("{}{}", leaf.certificate, issuer.certificate);
    assert_eq!(checked(&secret(&chain, &leaf.key)).unwrap().chain.len(), 2);
    let fault = checked(&secret(&chain, &issuer.key)).unwrap_err();
    assert!(fault.reason.contains("does not belong"), "{fault}");
}

#[test]
fn faults_quote_nothing_out_of_the_secret() {
    let made = make(&PKCS_ED25519);
    let torn = made.key.replace("-----END", "-----ENDE");
    let private: Vec<&str> = made.key.lines().filter(|line| !line.starts_with("-----")).collect();
    let secrets = [
        secret(&made.certificate, &torn),
        secret(&made.certificate, &made.key.replace("PRIVATE", "PUBLIC")),
        secret(&made.certificate, &make(&PKCS_ED25519).key),
        secret(&made.key, &made.certificate),
        secret(&torn, &made.key),
        secret(&format!("-----BEGIN {}", private.concat()), &made.key),
    ];
    for secret in &secrets {
        let fault = checked(secret).unwrap_err();
        let shown = format!("{fault:?}");
        assert!(private.iter().all(|line| !shown.contains(line)), "{shown}");
    }
}

#[test]
fn remembered_pair_follows_its_secret() {
    let key = ObjectKey::new("shop", "web");
    let (one, two) = (make(&PKCS_ED25519), make(&PKCS_ED25519));
    let good = secret(&one.certificate, &one.key);
    let mut objects = ObjectSet::default();
    let mut memo = TlsMemo::default();
    let look_up = |objects: &ObjectSet, memo: &mut TlsMemo| {
        let origins = BTreeMap::new();
        let mut report = Report::new(&origins);
        let mut certificates = Certificates::new(objects, memo);
        let lookup = certificates.look_up(&key, &mut report);
        (lookup, certificates.finish().into_values().next(), report.finish().len())
    };
    assert_eq!(look_up(&objects, &mut memo), (Lookup::Missing, None, 0));

    objects.secrets.insert(key.clone(), good.clone().into());
    let (lookup, pair, findings) = look_up(&objects, &mut memo);
    assert_eq!((lookup, findings), (Lookup::Good, 0));
    assert_eq!(look_up(&objects, &mut memo), (Lookup::Good, pair.clone(), 0));

    objects.secrets.insert(key.clone(), secret(&one.certificate, &two.key).into());
    // What is wrong is said each time, also from memory.
    for _ in 0..2 {
        let (lookup, kept, findings) = look_up(&objects, &mut memo);
        assert_eq!((lookup, &kept, findings), (Lookup::Good, &pair, 1));
    }
    // Broken in another way, it is still the last good pair that counts.
    objects.secrets.insert(key.clone(), secret("", "").into());
    assert_eq!(look_up(&objects, &mut memo), (Lookup::Good, pair, 1));

    objects.secrets.insert(key.clone(), secret(&two.certificate, &two.key).into());
    let (lookup, pair, findings) = look_up(&objects, &mut memo);
    assert_eq!((lookup, findings), (Lookup::Good, 0));
    assert_eq!(pair, checked(&secret(&two.certificate, &two.key)).ok());

    objects.secrets.clear();
    assert_eq!(look_up(&objects, &mut memo), (Lookup::Missing, None, 0));
    assert!(memo.checked.is_empty());
    // One that comes back broken has no past.
    objects.secrets.insert(key.clone(), secret(&one.certificate, &two.key).into());
    assert_eq!(look_up(&objects, &mut memo), (Lookup::Broken, None, 1));
}

#[test]
fn finding_tells_which_certificate_is_shown_meanwhile() {
    let key = ObjectKey::new("shop", "web");
    let made = make(&PKCS_ED25519);
    let mut memo = TlsMemo::default();
    let mut reason = |secret: Secret| {
        let objects =
            ObjectSet { secrets: [(key.clone(), secret.into())].into(), ..ObjectSet::default() };
        let origins = BTreeMap::new();
        let mut report = Report::new(&origins);
        let mut certificates = Certificates::new(&objects, &mut memo);
        certificates.look_up(&key, &mut report);
        certificates.finish();
        report.finish().pop().map(|finding| finding.reason)
    };
    let broken = secret(&made.certificate, "");
    let told = reason(broken.clone()).unwrap();
    assert!(told.ends_with("the default certificate is used instead"), "{told}");
    assert_eq!(reason(secret(&made.certificate, &made.key)), None);
    let told = reason(broken).unwrap();
    assert!(told.contains("the last good pair stays in use until it is mended"), "{told}");
    assert!(told.contains("after a restart the default certificate"), "{told}");
}
