use std::process::Command;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData,
    RevokedCertParams, RsaKeySize, SanType, SerialNumber, SignatureAlgorithm, date_time_ymd,
};

use super::algorithm::{Algorithm, Hash};
use super::*;

/// 2026-01-01
const NOW: Duration = Duration::from_secs(1_767_225_600);
const ALL: &[u16] = &SIGNATURE_HASHES;
const OCTETS: &[u8] = b"octets that are signed";

type Authority = CertifiedIssuer<'static, KeyPair>;

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Tidegate");
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    params
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn authority(name: &str) -> Authority {
    CertifiedIssuer::self_signed(authority_params(name), KeyPair::generate().unwrap()).unwrap()
}

fn peer_params() -> CertificateParams {
    let mut params = params("peer");
    params.serial_number = Some(SerialNumber::from(77));
    params.subject_alt_names = vec![
        SanType::DnsName("peer.example.com".try_into().unwrap()),
        SanType::Rfc822Name("vpn@example.com".try_into().unwrap()),
        SanType::IpAddress("192.0.2.7".parse().unwrap()),
        SanType::IpAddress("2001:db8::7".parse().unwrap()),
    ];
    params
}

fn key(algorithm: &'static SignatureAlgorithm) -> KeyPair {
    KeyPair::generate_for(algorithm).unwrap()
}

fn kinds() -> Vec<KeyPair> {
    vec![
        key(&rcgen::PKCS_ECDSA_P256_SHA256),
        key(&rcgen::PKCS_ECDSA_P384_SHA384),
        key(&rcgen::PKCS_ECDSA_P521_SHA512),
        key(&rcgen::PKCS_ED25519),
        KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap(),
    ]
}

/// A peer with a P-256 key, changed as wanted.
fn peer(issuer: &Authority, change: impl FnOnce(&mut CertificateParams)) -> Signer {
    let key = KeyPair::generate().unwrap();
    let mut params = peer_params();
    change(&mut params);
    let certificate = params.signed_by(&key, issuer).unwrap();
    Signer::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap()
}

fn fqdn() -> Identity {
    Identity { kind: 2, data: b"peer.example.com".to_vec() }
}

fn trusting(issuer: &Authority) -> Verifier {
    Verifier::from_pem(issuer.pem().as_bytes(), b"").unwrap()
}

fn check_as(verifier: &Verifier, signer: &Signer, id: &Identity) -> Result<(), AuthError> {
    let (method, auth) = signer.sign(OCTETS, ALL).unwrap();
    verifier.verify(signer.chain(), id, method, &auth, OCTETS, NOW, false)
}

fn check(verifier: &Verifier, signer: &Signer) -> Result<(), AuthError> {
    check_as(verifier, signer, &fqdn())
}

#[test]
fn every_kind_of_key_is_believed() {
    let root = authority("root");
    let verifier = trusting(&root);
    for key in kinds() {
        let certificate = peer_params().signed_by(&key, &root).unwrap();
        let signer =
            Signer::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        let (method, auth) = signer.sign(OCTETS, ALL).unwrap();
        assert_eq!(method, METHOD_SIGNATURE);
        let verify = |method, auth: &[u8], octets: &[u8]| {
            verifier.verify(signer.chain(), &fqdn(), method, auth, octets, NOW, false)
        };
        verify(method, &auth, OCTETS).unwrap();
        assert_eq!(verify(method, &auth, b"others"), Err(AuthError::Signature));
        for at in 0..auth.len() {
            let mut changed = auth.clone();
            changed[at] ^= 1;
            assert!(verify(method, &changed, OCTETS).is_err(), "{:?} {at}", key.algorithm());
            assert!(verify(method, &auth[..at], OCTETS).is_err());
        }
    }
}

#[test]
fn rsa_signs_with_each_hash_and_padding() {
    let root = authority("root");
    let key = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let pem = peer_params().signed_by(&key, &root).unwrap().pem();
    for pkcs1 in [false, true] {
        let signer = Signer::from_pem(pem.as_bytes(), key.serialize_pem().as_bytes())
            .unwrap()
            .with_pkcs1(pkcs1);
        for hash in [2, 3, 4] {
            let (method, auth) = signer.sign(OCTETS, &[1, hash]).unwrap();
            trusting(&root)
                .verify(signer.chain(), &fqdn(), method, &auth, OCTETS, NOW, false)
                .unwrap();
        }
        let error = signer.sign(OCTETS, &[1]).unwrap_err().to_string();
        assert!(error.contains("needs SHA-256"), "{error}");
        assert!(signer.sign(OCTETS, &[]).is_err());
    }
}

#[test]
fn without_hashes_ecdsa_signs_by_rfc_4754() {
    let root = authority("root");
    let methods = [METHOD_ECDSA_256, METHOD_ECDSA_384, METHOD_ECDSA_521];
    for ((key, expected), length) in kinds().into_iter().zip(methods).zip([64, 96, 132]) {
        let pem = peer_params().signed_by(&key, &root).unwrap().pem();
        let signer = Signer::from_pem(pem.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        let (method, auth) = signer.sign(OCTETS, &[]).unwrap();
        assert_eq!((method, auth.len()), (expected, length));
        let verifier = trusting(&root);
        let verify = |method, octets: &[u8]| {
            verifier.verify(signer.chain(), &fqdn(), method, &auth, octets, NOW, false)
        };
        verify(method, OCTETS).unwrap();
        assert_eq!(verify(method, b"others"), Err(AuthError::Signature));
        for other in [METHOD_RSA, METHOD_ECDSA_256, METHOD_ECDSA_384, METHOD_ECDSA_521] {
            assert!(other == method || verify(other, OCTETS).is_err());
        }
        assert_eq!(verify(METHOD_SHARED_KEY, OCTETS), Err(AuthError::Method(2)));
        assert!(signer.sign(OCTETS, &[1]).is_err());
    }
}

#[test]
fn ed25519_needs_a_peer_that_knows_it() {
    let root = authority("root");
    let key = key(&rcgen::PKCS_ED25519);
    let pem = peer_params().signed_by(&key, &root).unwrap().pem();
    let signer = Signer::from_pem(pem.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    let error = signer.sign(OCTETS, &[2, 3, 4]).unwrap_err().to_string();
    assert!(error.contains("identity (5)"), "{error}");
}

#[test]
fn sha1_is_believed_only_where_allowed() {
    // Signed by the openssl tool and by ours: RSA with PKCS#1 padding is the same each time.
    let folder = std::env::temp_dir().join(format!("ipsec-auth-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let root = authority("root");
    let key = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    std::fs::write(folder.join("key"), key.serialize_pem()).unwrap();
    std::fs::write(folder.join("octets"), OCTETS).unwrap();
    let output = Command::new("openssl")
        .args(["dgst", "-sha1", "-sign", "key", "octets"])
        .current_dir(&folder)
        .output();
    std::fs::remove_dir_all(&folder).unwrap();
    let auth =
        output.ok().filter(|output| output.status.success()).expect("needs the openssl tool");
    let certificate = peer_params().signed_by(&key, &root).unwrap();
    let chain = [certificate.der().to_vec()];
    let verifier = trusting(&root);
    let signer =
        Signer::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    assert!(signer.sign(OCTETS, &[]).is_err());
    let signer = signer.with_sha1(true);
    assert_eq!(signer.sign(OCTETS, &[]).unwrap(), (METHOD_RSA, auth.stdout.clone()));
    assert_eq!(signer.sign(OCTETS, ALL).unwrap().0, METHOD_SIGNATURE);
    let named = {
        let mut name = Algorithm::RsaPkcs1(Hash::Sha256).encode();
        name[12] = 5;
        [&[15], name.as_slice(), &auth.stdout].concat()
    };
    for (method, auth) in [(METHOD_RSA, &auth.stdout), (METHOD_SIGNATURE, &named)] {
        let verify = |allow| verifier.verify(&chain, &fqdn(), method, auth, OCTETS, NOW, allow);
        assert!(matches!(verify(false), Err(AuthError::Algorithm(why)) if why.contains("SHA-1")));
        verify(true).unwrap();
    }
}

#[test]
fn names_of_algorithms_are_rfc_7427s() {
    // Appendix A.1.2, A.3.2, A.4.3 without the trailer, and RFC 8410's.
    let cases = [
        (Algorithm::RsaPkcs1(Hash::Sha256), "300d06092a864886f70d01010b0500"),
        (Algorithm::RsaPkcs1(Hash::Sha512), "300d06092a864886f70d01010d0500"),
        (Algorithm::Ecdsa(Hash::Sha256), "300a06082a8648ce3d040302"),
        (Algorithm::Ecdsa(Hash::Sha384), "300a06082a8648ce3d040303"),
        (Algorithm::Ed25519, "300506032b6570"),
        (
            Algorithm::RsaPss(Hash::Sha256),
            "304106092a864886f70d01010a3034a00f300d06096086480165030402010500a11c301a06092a864886f7\
             0d010108300d06096086480165030402010500a203020120",
        ),
    ];
    for (algorithm, expected) in cases {
        assert_eq!(algorithm.encode(), hex(expected));
    }
    for hash in [Hash::Sha256, Hash::Sha384, Hash::Sha512] {
        for algorithm in
            [Algorithm::RsaPkcs1(hash), Algorithm::RsaPss(hash), Algorithm::Ecdsa(hash)]
        {
            let name = algorithm.encode();
            assert_eq!(Algorithm::decode(&name), Ok(algorithm));
            for at in 0..name.len() {
                assert!(Algorithm::decode(&name[..at]).is_err());
                let mut changed = name.clone();
                changed[at] ^= 0x20;
                assert_ne!(Algorithm::decode(&changed), Ok(algorithm), "{algorithm:?} {at}");
            }
            assert!(Algorithm::decode(&[&name[..], &[0]].concat()).is_err());
        }
    }
    // A.4.3 has the default trailer; some leave out NULL.
    let written = [
        "304606092a864886f70d01010a3039a00f300d06096086480165030402010500a11c301a06092a864886f70d01\
         0108300d06096086480165030402010500a203020120a303020101",
        "303d06092a864886f70d01010a3030a00d300b0609608648016503040201a11a301806092a864886f70d010108\
         300b0609608648016503040201a203020120",
    ];
    for name in written {
        assert_eq!(Algorithm::decode(&hex(name)), Ok(Algorithm::RsaPss(Hash::Sha256)));
    }
    // RSA-PSS with all defaults is SHA-1 (A.4.1).
    let defaults = [0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 0x0a, 0x30, 0];
    assert!(Algorithm::decode(&defaults).is_err());
}

#[test]
fn identities_are_bound_to_the_certificate() {
    let root = authority("root");
    let verifier = trusting(&root);
    let signer = peer(&root, |_| ());
    let subject = signer.subject();
    assert_eq!(subject.kind, 9);
    let fine = [
        fqdn(),
        Identity { kind: 2, data: b"PEER.example.COM".to_vec() },
        Identity { kind: 3, data: b"vpn@example.com".to_vec() },
        Identity { kind: 1, data: vec![192, 0, 2, 7] },
        Identity { kind: 5, data: [&[0x20, 1, 0x0d, 0xb8], &[0; 11][..], &[7]].concat() },
        subject.clone(),
    ];
    for id in fine {
        assert!(signer.has_identity(&id), "{id:?}");
        check_as(&verifier, &signer, &id).unwrap();
    }
    let mut printable = subject.clone();
    let utf8 = printable.data.iter().position(|octet| *octet == 0x0c).unwrap();
    printable.data[utf8] = 0x13;
    check_as(&verifier, &signer, &printable).unwrap();
    let wrong = [
        // The common name, as a name: no.
        Identity { kind: 2, data: b"peer".to_vec() },
        Identity { kind: 2, data: b"other.example.com".to_vec() },
        Identity { kind: 3, data: b"peer.example.com".to_vec() },
        Identity { kind: 1, data: vec![192, 0, 2, 8] },
        Identity { kind: 9, data: subject.data[..subject.data.len() - 1].to_vec() },
        Identity { kind: 9, data: Vec::new() },
        Identity { kind: 11, data: b"peer".to_vec() },
        peer(&root, |params| params.distinguished_name.push(DnType::CommonName, "no")).subject(),
    ];
    for id in wrong {
        assert!(!signer.has_identity(&id), "{id:?}");
        let error = check_as(&verifier, &signer, &id).unwrap_err();
        assert!(
            matches!(&error, AuthError::WrongId { has, .. }
            if has.contains("DNS:peer.example.com") && has.contains("IP:2001:db8::7")
                && has.contains("email:vpn@example.com")),
            "{error}"
        );
    }
}

#[test]
fn times_are_checked() {
    let root = authority("root");
    let verifier = trusting(&root);
    let old = peer(&root, |params| params.not_after = date_time_ymd(2025, 6, 1));
    let error = check(&verifier, &old).unwrap_err();
    assert!(matches!(&error, AuthError::Expired { .. }));
    let text = error.to_string();
    assert!(text.contains("CN=peer expired at Jun  1 00:00:00 2025"), "{text}");
    let new = peer(&root, |params| params.not_before = date_time_ymd(2026, 6, 1));
    assert!(matches!(check(&verifier, &new), Err(AuthError::NotYetValid { .. })));
}

#[test]
fn authorities_grow_too_old_as_well() {
    let mut params = authority_params("root");
    params.not_after = date_time_ymd(2025, 6, 1);
    let key = KeyPair::generate().unwrap();
    let renewed = authority_params("root").self_signed(&key).unwrap().pem();
    let root = CertifiedIssuer::self_signed(params, key).unwrap();
    let signer = peer(&root, |_| ());
    let error = check(&trusting(&root), &signer).unwrap_err();
    assert!(matches!(&error, AuthError::Expired { subject, .. } if subject.ends_with("CN=root")));
    for both in [renewed.clone() + &root.pem(), root.pem() + &renewed] {
        check(&Verifier::from_pem(both.as_bytes(), b"").unwrap(), &signer).unwrap();
    }
}

#[test]
fn chains_go_over_intermediate_authorities() {
    let root = authority("root");
    let verifier = trusting(&root);
    let middle = |change: fn(&mut CertificateParams)| -> Authority {
        let mut params = authority_params("middle");
        change(&mut params);
        CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &root).unwrap()
    };
    let signer = |middle: &Authority, with: bool| {
        let key = KeyPair::generate().unwrap();
        let own = peer_params().signed_by(&key, middle).unwrap().pem();
        // The own one last: it is found by its key.
        let chain = if with { middle.pem() + &own } else { own };
        Signer::from_pem(chain.as_bytes(), key.serialize_pem().as_bytes()).unwrap()
    };
    let fine = middle(|_| ());
    check(&verifier, &signer(&fine, true)).unwrap();
    let error = check(&verifier, &signer(&fine, false)).unwrap_err();
    assert_eq!(error, AuthError::UnknownAuthority { issuer: "O=Tidegate, CN=middle".to_owned() });
    let other = trusting(&authority("other"));
    let error = check(&other, &signer(&fine, true)).unwrap_err();
    assert_eq!(error, AuthError::UnknownAuthority { issuer: "O=Tidegate, CN=root".to_owned() });
    let old = middle(|params| params.not_after = date_time_ymd(2025, 6, 1));
    let error = check(&verifier, &signer(&old, true)).unwrap_err();
    assert!(error.to_string().contains("an authority above"), "{error}");
    let none = middle(|params| params.is_ca = IsCa::ExplicitNoCa);
    assert!(check(&verifier, &signer(&none, true)).is_err());
}

#[test]
fn an_authority_of_the_same_name_is_another() {
    let signer = peer(&authority("root"), |_| ());
    let error = check(&trusting(&authority("root")), &signer).unwrap_err();
    assert!(!matches!(error, AuthError::Signature), "{error}");
}

#[test]
fn usages_for_ike_and_tls_and_none_are_fine() {
    use ExtendedKeyUsagePurpose as Usage;
    let root = authority("root");
    let verifier = trusting(&root);
    let with = |usages: Vec<Usage>| {
        check(&verifier, &peer(&root, |params| params.extended_key_usages = usages))
    };
    with(vec![]).unwrap();
    for fine in [
        Usage::Any,
        Usage::ServerAuth,
        Usage::ClientAuth,
        Usage::Other(vec![1, 3, 6, 1, 5, 5, 7, 3, 17]),
        Usage::Other(vec![1, 3, 6, 1, 5, 5, 8, 2, 2]),
    ] {
        with(vec![fine.clone()]).unwrap();
        with(vec![Usage::CodeSigning, fine]).unwrap();
    }
    assert!(matches!(with(vec![Usage::CodeSigning]), Err(AuthError::Usage { .. })));
}

#[test]
fn self_signed_certificates_can_be_pinned() {
    for ca in [IsCa::NoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
        let key = KeyPair::generate().unwrap();
        let mut params = peer_params();
        params.is_ca = ca;
        let pem = params.self_signed(&key).unwrap().pem();
        let signer = Signer::from_pem(pem.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        let verifier = Verifier::from_pem(pem.as_bytes(), b"").unwrap();
        check(&verifier, &signer).unwrap();
        // Also if the other end doesn't send it.
        let (method, auth) = signer.sign(OCTETS, ALL).unwrap();
        let verify =
            |id: &Identity, now| verifier.verify(&[], id, method, &auth, OCTETS, now, false);
        verify(&fqdn(), NOW).unwrap();
        let other = Identity { kind: 2, data: b"other".to_vec() };
        assert_eq!(verify(&other, NOW), Err(AuthError::NoCertificate));
        assert!(matches!(verify(&fqdn(), NOW * 2), Err(AuthError::Expired { .. })));
        // Another of the same name with another key is not believed.
        let again = KeyPair::generate().unwrap();
        let pem = params.self_signed(&again).unwrap().pem();
        let again = Signer::from_pem(pem.as_bytes(), again.serialize_pem().as_bytes()).unwrap();
        assert!(check(&verifier, &again).is_err());
    }
}

#[test]
fn a_pinned_end_entity_vouches_for_nobody() {
    let mut params = peer_params();
    // Not said to be an authority's, and one whose key may not sign certificates.
    let none = params.clone();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    for params in [none, params] {
        let pinned = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let verifier = trusting(&pinned);
        assert!(matches!(
            check(&verifier, &peer(&pinned, |_| ())),
            Err(AuthError::UnknownAuthority { .. })
        ));
    }
}

#[test]
fn short_rsa_keys_are_refused() {
    let folder = std::env::temp_dir().join(format!("ipsec-short-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:1024", "-nodes", "-subj", "/CN=short"])
        .args(["-addext", "subjectAltName=DNS:peer.example.com", "-days", "2"])
        .args(["-keyout", "key", "-out", "certificate"])
        .current_dir(&folder)
        .output();
    let pem = std::fs::read(folder.join("certificate"));
    let key = std::fs::read(folder.join("key"));
    std::fs::remove_dir_all(&folder).unwrap();
    made.expect("needs the openssl tool");
    let (pem, key) = (pem.unwrap(), key.unwrap());
    assert!(Signer::from_pem(&pem, &key).is_err());
    let verifier = Verifier::from_pem(&pem, b"").unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let found = verifier.verify(&[], &fqdn(), METHOD_RSA, &[0; 128], OCTETS, now, true);
    assert!(matches!(found, Err(AuthError::Algorithm(why)) if why.contains("1024 bits")));
}

#[test]
fn names_write_no_lines_into_logs() {
    let root = authority("root");
    let signer = peer(&root, |params| {
        params.not_after = date_time_ymd(2025, 6, 1);
        let name = format!("a\n\u{1b}[31m{}", "x".repeat(500));
        params.distinguished_name.push(DnType::CommonName, name);
    });
    let text = check(&trusting(&root), &signer).unwrap_err().to_string();
    assert!(!text.contains(char::is_control) && text.len() < 400, "{text}");
    assert!(text.contains("a\\n"), "{text}");
}

#[test]
fn revoked_certificates_are_refused() {
    let root = authority("root");
    let crl = |serial: u64| {
        CertificateRevocationListParams {
            this_update: date_time_ymd(2025, 1, 1),
            next_update: date_time_ymd(2025, 2, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(serial),
                revocation_time: date_time_ymd(2025, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        }
        .signed_by(&root)
        .unwrap()
    };
    let signer = peer(&root, |_| ());
    let verifier = |crls: &[u8]| Verifier::from_pem(root.pem().as_bytes(), crls).unwrap();
    for crls in [crl(77).pem().unwrap().into_bytes(), crl(77).der().to_vec()] {
        // Past its next update it counts as well.
        let error = check(&verifier(&crls), &signer).unwrap_err();
        assert_eq!(error, AuthError::Revoked { subject: "O=Tidegate, CN=peer".to_owned() });
        assert_eq!(verifier(&crls).stale_crls(NOW), ["O=Tidegate, CN=root"]);
        assert!(verifier(&crls).stale_crls(NOW / 2).is_empty());
    }
    check(&verifier(crl(78).der()), &signer).unwrap();
    // Another authority's says nothing about this one's.
    let other = authority("other");
    let both = root.pem() + &other.pem();
    let both = Verifier::from_pem(both.as_bytes(), crl(78).der()).unwrap();
    check(&both, &peer(&other, |_| ())).unwrap();
}

#[test]
fn requests_are_hashes_of_keys() {
    let (one, two) = (authority("one"), authority("two"));
    let pem = one.pem() + &two.pem();
    let verifier = Verifier::from_pem(pem.as_bytes(), b"").unwrap();
    let sha1 = &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY;
    let hash = |authority: &Authority| {
        aws_lc_rs::digest::digest(sha1, &authority.key().subject_public_key_info())
    };
    let expected = [hash(&one).as_ref(), hash(&two).as_ref()].concat();
    assert_eq!(verifier.requests(), expected);
    assert_eq!(
        format!("{verifier:?}"),
        r#"Verifier(["O=Tidegate, CN=one", "O=Tidegate, CN=two"])"#
    );
}

#[test]
fn keys_of_all_formats_are_read() {
    // PKCS#1 and SEC1, made by the openssl tool out of PKCS#8.
    let root = authority("root");
    for key in [kinds().remove(4), kinds().remove(1)] {
        let folder = std::env::temp_dir().join(format!("ipsec-keys-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("key"), key.serialize_pem()).unwrap();
        let output = Command::new("openssl")
            .args(["pkey", "-in", "key", "-traditional"])
            .current_dir(&folder)
            .output();
        std::fs::remove_dir_all(&folder).unwrap();
        let output =
            output.ok().filter(|output| output.status.success()).expect("needs the openssl tool");
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        assert!(text.contains("RSA PRIVATE KEY") || text.contains("EC PRIVATE KEY"), "{text}");
        let pem = peer_params().signed_by(&key, &root).unwrap().pem();
        let signer = Signer::from_pem(pem.as_bytes(), &output.stdout).unwrap();
        check(&trusting(&root), &signer).unwrap();
    }
}

#[test]
fn what_is_configured_wrongly_is_told() {
    let root = authority("root");
    let key = KeyPair::generate().unwrap();
    let pem = peer_params().signed_by(&key, &root).unwrap().pem();
    let own = key.serialize_pem();
    let error = |chain: &str, key: &str| {
        Signer::from_pem(chain.as_bytes(), key.as_bytes()).unwrap_err().to_string()
    };
    let other = KeyPair::generate().unwrap().serialize_pem();
    for other in [other, kinds().remove(4).serialize_pem()] {
        let text = error(&pem, &other);
        assert!(text.contains("does not belong to the certificate of \"O=Tidegate, CN=peer\""));
    }
    assert!(error("", &own).contains("no certificate in it"));
    assert!(error(&own, &own).contains("no certificate in it"));
    assert!(error("text", &own).contains("not X.509"));
    assert!(error(&pem, &pem).contains("BEGIN PRIVATE KEY"));
    assert!(error(&pem, "").contains("BEGIN PRIVATE KEY"));
    let encrypted = own.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    assert!(error(&pem, &encrypted).contains("openssl pkey"));
    let verifier = |authorities: &str, crls: &str| {
        Verifier::from_pem(authorities.as_bytes(), crls.as_bytes()).unwrap_err().to_string()
    };
    assert!(verifier("", "").contains("no certificate in it"));
    assert!(verifier(&root.pem(), "junk").contains("CRL"));
    let signer = Signer::from_pem(pem.as_bytes(), own.as_bytes()).unwrap();
    assert_eq!(format!("{signer:?}"), "Signer(O=Tidegate, CN=peer)");
    // 2027-01-01
    assert_eq!(signer.expires(), Some(Duration::from_secs(1_798_761_600)));
}

#[test]
fn junk_is_refused() {
    let root = authority("root");
    let verifier = trusting(&root);
    let signer = peer(&root, |_| ());
    let (method, auth) = signer.sign(OCTETS, ALL).unwrap();
    let verify = |chain: &[Vec<u8>], auth: &[u8]| {
        verifier.verify(chain, &fqdn(), method, auth, OCTETS, NOW, true)
    };
    assert_eq!(verify(&[], &auth), Err(AuthError::NoCertificate));
    assert!(matches!(verify(&[vec![1, 2, 3]], &auth), Err(AuthError::Malformed(_))));
    let whole = &signer.chain()[0];
    for length in (0..whole.len()).step_by(7) {
        assert!(verify(&[whole[..length].to_vec()], &auth).is_err());
    }
    for at in (0..whole.len()).step_by(3) {
        let mut changed = whole.clone();
        changed[at] ^= 0x10;
        assert!(verify(&[changed], &auth).is_err(), "{at}");
    }
    // Junk behind the chain hurts nobody.
    verify(&[whole.clone(), vec![1, 2, 3]], &auth).unwrap();
    for auth in [&[][..], &[0], &[255], &[1, 0x30], &[200; 200]] {
        assert!(matches!(verify(signer.chain(), auth), Err(AuthError::Algorithm(_))));
    }
}

#[test]
fn preshared_keys_are_as_python_computes_them() {
    let id = Identity { kind: 2, data: b"peer".to_vec() };
    let octets = signed_octets(b"message", b"nonce", Prf::HmacSha256, &[1; 32], &id, b"int");
    let auth = psk_auth(Prf::HmacSha256, b"secret", &octets);
    assert_eq!(
        octets,
        hex(
            "6d6573736167656e6f6e636504522f250059d9323d8144c9059adc15e41c4799390df5326446d394783bb087696e74"
        )
    );
    assert_eq!(auth, hex("9a1d7533b42ed1148a381adab3f05485936fba4c2e34112e6ec4712d7ecfca61"));
    assert!(psk_verify(Prf::HmacSha256, b"secret", &octets, &auth));
    assert!(!psk_verify(Prf::HmacSha256, b"other", &octets, &auth));
    assert!(!psk_verify(Prf::HmacSha256, b"secret", &octets, &auth[..31]));
    assert!(!psk_verify(Prf::HmacSha256, b"secret", &octets, &[]));
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
