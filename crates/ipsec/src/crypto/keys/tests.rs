use model::suite::{Encryption, Integrity};

use super::*;
use crate::crypto::rng::SeededRng;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn suite(encryption: Encryption, integrity: Option<Integrity>) -> Proposal {
    Proposal {
        encryption: vec![encryption],
        integrity: integrity.into_iter().collect(),
        prf: vec![Prf::HmacSha256],
        ..Proposal::default()
    }
}

const NI: &[u8] = &[1; 32];
const NR: &[u8] = &[2; 24];

fn derived(suite: &Proposal) -> IkeKeys {
    IkeKeys::derive(suite, &[9; 32], NI, NR, 0x0102_0304_0506_0708, 0x1112_1314_1516_1718).unwrap()
}

#[test]
fn ike_keys_are_as_python_derives_them() {
    let gcm = derived(&suite(Encryption::Aes256Gcm16, None));
    assert_eq!(*gcm.sk_d, hex("b09814f8e0a45d0ace6589bbad4a5d1c4abfb83e2286c3480eb2a348b23d1dc3"));
    assert_eq!(*gcm.sk_pi, hex("3b3d89ddbed3bff5f3774b7b00ab36b59e7d4ddc6557a3eb7d560e4f5cdddc28"));
    assert_eq!(*gcm.sk_pr, hex("e99f47ba8b3409e53c857978cc499a169c5b6c7c1d158e8b094b3a3c2584d68c"));
    let suite = suite(Encryption::Aes128Cbc, Some(Integrity::HmacSha256));
    let cbc = derived(&suite);
    assert_eq!(*cbc.sk_d, hex("b09814f8e0a45d0ace6589bbad4a5d1c4abfb83e2286c3480eb2a348b23d1dc3"));
    assert_eq!(*cbc.sk_pi, hex("7d560e4f5cdddc28e99f47ba8b3409e53c857978cc499a169c5b6c7c1d158e8b"));
    assert_eq!(*cbc.sk_pr, hex("094b3a3c2584d68c3f854f30ab59fd434800d4a1f7fda2fc47f2411bef7bb152"));
    let (ai, ar, ei, er) = (
        hex("bba408ab8b70b3e8f02be82d5ea7842bd54ade065c0f145cd957e4f600206809"),
        hex("cdea4462cdf1d36269bdc8166ef23c8e5cf68861ff478b673324d508701a532a"),
        hex("55e03c8d146abdbe3b3d89ddbed3bff5"),
        hex("f3774b7b00ab36b59e7d4ddc6557a3eb"),
    );
    let mut rng = SeededRng::new(1);
    for (cipher, e, a) in [(&cbc.initiator, ei, ai), (&cbc.responder, er, ar)] {
        let same = SkCipher::new(suite.encryption[0], Some(suite.integrity[0]), &e, &a).unwrap();
        let sealed = same.seal(&mut rng, b"a", b"b");
        assert_eq!(**cipher.open(b"a", &sealed).unwrap(), *b"b");
    }
}

#[test]
fn rekeying_mixing_and_ppks_are_as_python_derives_them() {
    let suite = suite(Encryption::Aes256Gcm16, None);
    let keys = derived(&suite);
    let (spi_i, spi_r) = (0x0102_0304_0506_0708, 0x1112_1314_1516_1718);
    let rekeyed = IkeKeys::rekey(&suite, Prf::HmacSha512, &[5; 64], &[9; 32], NI, NR, spi_i, spi_r);
    assert_eq!(
        *rekeyed.unwrap().sk_d,
        hex("45f1cad3d645a18ac663bd765bfa0882543aaf51ae499a5b766ff39d2f6d6043")
    );
    let more = [Zeroizing::new(vec![8; 32]), Zeroizing::new(vec![7; 32])];
    let rekeyed = IkeKeys::rekey_with(
        &suite,
        Prf::HmacSha512,
        &[5; 64],
        &[9; 32],
        &more,
        NI,
        NR,
        spi_i,
        spi_r,
    );
    assert_eq!(
        *rekeyed.unwrap().sk_d,
        hex("203355795c5c9008ad4bd646a40e41ade488b3b8ae8ced1408e766d9a29733fb")
    );
    let mixed = keys.mix(&suite, &[8; 32], NI, NR, spi_i, spi_r).unwrap();
    assert_eq!(
        *mixed.sk_d,
        hex("b252fe4117e6e23471dd1a80500ed322f255daee1c09f791310b2b0d0dbae88c")
    );
    let ppk = keys.with_ppk(Prf::HmacSha256, b"post-quantum");
    assert_eq!(*ppk.sk_d, hex("73b4f0ba5e60893362c246e78b9c28fc1fcbd41894bf5588edad3f3eb7187c74"));
    assert_eq!(*ppk.sk_pi, hex("cac00e3465c824b7f0dcb63865ab31dde66f19edc046a0c392c643acaaa83b12"));
    assert_eq!(*ppk.sk_pr, hex("6f993fea743f534b2fb3b3dd286910821e749bedb849693b4220f47dee67bfd3"));
    let sealed = keys.initiator.seal(&mut SeededRng::new(1), b"", b"x");
    assert!(ppk.initiator.open(b"", &sealed).is_ok());
    assert!(mixed.initiator.open(b"", &sealed).is_err());
}

#[test]
fn child_keys_go_initiator_first() {
    let aead = suite(Encryption::Aes256Gcm16, None);
    let (there, back) = child_keys(&aead, Prf::HmacSha256, &[6; 32], None, &[], NI, NR).unwrap();
    let material = hex("8f97aa5723f5d10dcbb9dc2b3d0ec3eb94647716379e90924e016d08fb6838bd\
         09b82e82bee65397946495fd8028d0a5d7161e4513b38f815c18fb42e29c574b\
         4baf482028e8913b");
    assert_eq!(there.encryption, material[..32]);
    assert_eq!(there.salt, material[32..36]);
    assert_eq!(back.encryption, material[36..68]);
    assert_eq!(back.salt, material[68..72]);
    assert!(there.integrity.is_empty() && back.integrity.is_empty());
    let cbc = suite(Encryption::Aes128Cbc, Some(Integrity::HmacSha256));
    let more = [Zeroizing::new(vec![8; 32])];
    let (there, back) =
        child_keys(&cbc, Prf::HmacSha256, &[6; 32], Some(&[9; 32]), &more, NI, NR).unwrap();
    let material = hex("3755ca990f1d21b4057bed0cbc6f96d597eaecc98c2b8c7d123e511960f4347c\
         89436795e1c903d52bd2bad2280b26f6553f84609ae24d2ea913b1250ce80d84\
         4cfe31bfa9cc29b11922618004241569e4e7186032be3841c1d553707fb729c5");
    assert_eq!(there.encryption, material[..16]);
    assert_eq!(there.integrity, material[16..48]);
    assert_eq!(back.encryption, material[48..64]);
    assert_eq!(back.integrity, material[64..96]);
    assert!(there.salt.is_empty() && back.salt.is_empty());
}

#[test]
fn int_auth_counts_what_is_plain() {
    let mut associated = vec![3; 32];
    let made = int_auth(Prf::HmacSha256, &[4; 32], &[], &associated, b"payloads");
    assert_eq!(*made, hex("0c2bb37d57a8f7969a4c59786ad97624db6923f1946eebfd7290b3457c08e07b"));
    // The lengths as they were on the wire make no difference.
    associated[24..28].copy_from_slice(&[0, 0, 1, 1]);
    associated[30..].copy_from_slice(&[1, 1]);
    assert_eq!(int_auth(Prf::HmacSha256, &[4; 32], &[], &associated, b"payloads"), made);
    let second = int_auth(Prf::HmacSha256, &[4; 32], &made, &associated, b"more");
    assert_eq!(*second, hex("1f92278f038b4ce4daec4379544fcef298444434c0ef47d464a0561fc77ead51"));
    int_auth(Prf::HmacSha256, &[], &[], &[1], &[]);
}

#[test]
fn suites_that_lack_something_are_refused() {
    let none = Proposal::default();
    assert!(IkeKeys::derive(&none, &[], NI, NR, 1, 2).is_err());
    let no_mac = suite(Encryption::Aes128Cbc, None);
    assert!(IkeKeys::derive(&no_mac, &[], NI, NR, 1, 2).is_err());
    assert!(child_keys(&no_mac, Prf::HmacSha256, &[], None, &[], NI, NR).is_err());
}

#[test]
fn debug_shows_no_key() {
    let keys = derived(&suite(Encryption::Aes256Gcm16, None));
    assert_eq!(format!("{keys:?}"), "(keys)");
}
