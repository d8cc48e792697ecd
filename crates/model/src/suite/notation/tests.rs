#![allow(clippy::unwrap_used)] // reason: a test fails by panicking

use super::*;

fn ike(text: &str) -> Result<Proposal, NotationError> {
    Proposal::parse(text, Purpose::Ike, false)
}

fn esp(text: &str) -> Result<Proposal, NotationError> {
    Proposal::parse(text, Purpose::Esp, false)
}

#[test]
fn a_proposal_is_read() {
    let proposal = ike("aes256gcm16-prfsha384-x25519").unwrap();
    assert_eq!(proposal.encryption, [Encryption::Aes256Gcm16]);
    assert_eq!(proposal.prf, [Prf::HmacSha384]);
    assert_eq!(proposal.groups, [Group::X25519]);
    assert!(proposal.integrity.is_empty() && proposal.esn.is_empty());

    let proposal = esp("aes128-sha256").unwrap();
    assert_eq!(proposal.encryption, [Encryption::Aes128Cbc]);
    assert_eq!(proposal.integrity, [Integrity::HmacSha256]);
    assert_eq!(proposal.esn, [Esn::Yes, Esn::No]);
    assert!(proposal.prf.is_empty() && proposal.groups.is_empty());
}

#[test]
fn other_words_mean_the_same() {
    for (one, other) in [
        ("aes128gcm", "aes128gcm16"),
        ("aes128gcm128", "aes128gcm16"),
        ("AES256GCM", "aes256gcm16"),
        ("aes-sha2_256", "aes128-sha256"),
        (" aes256cbc-sha512-curve25519 ", "aes256-sha512-x25519"),
        ("aes128-sha256-esn-noesn", "aes128-sha256"),
        ("aes128-aes128-sha256", "aes128-sha256"),
    ] {
        assert_eq!(esp(one), esp(other), "{one}");
        assert!(esp(one).is_ok(), "{one}");
    }
}

#[test]
fn a_prf_left_out_follows_from_the_rest() {
    let prf = |text| ike(text).unwrap().prf;
    assert_eq!(prf("aes128-sha384-ecp256"), [Prf::HmacSha384]);
    assert_eq!(prf("aes128-sha256-sha512-ecp256"), [Prf::HmacSha256, Prf::HmacSha512]);
    assert_eq!(prf("aes128-sha256-prfsha512-ecp256"), [Prf::HmacSha512]);
    let all = [Prf::HmacSha256, Prf::HmacSha384, Prf::HmacSha512];
    assert_eq!(prf("aes128gcm16-ecp256"), all);
}

#[test]
fn additional_key_exchanges_have_numbers() {
    let proposal = ike("aes256gcm16-prfsha256-x25519-ke1_mlkem768-ke3_ecp256-ke3_ecp384").unwrap();
    let expected = [vec![Group::MlKem768], vec![], vec![Group::P256, Group::P384]];
    assert_eq!(proposal.additional, expected);
    assert!(ike("aes256gcm16-prfsha256-mlkem768").is_err());
    assert!(ike("aes256gcm16-prfsha256-x25519-ke8_mlkem768").is_err());
    assert!(ike("aes256gcm16-prfsha256-x25519-ke0_mlkem768").is_err());
    assert!(ike("aes256gcm16-prfsha256-x25519-ke1_ke1_mlkem768").is_err());
    assert!(ike("aes256gcm16-prfsha256-x25519-ke1_aes128").is_err());
    assert!(esp("aes256gcm16-ke1_mlkem768").is_err());
}

#[test]
fn what_does_not_fit_says_what_to_write() {
    for (result, part) in [
        (ike("aes256gcm16-sha256-x25519"), "write prfsha256"),
        (esp("aes256gcm16-sha256"), "leave sha256 out"),
        (ike("aes256-sha256"), "add x25519"),
        (esp("aes256"), "add sha256"),
        (esp("sha256"), "add aes256gcm16"),
        (esp("aes256-sha256-prfsha256"), "leave it out"),
        (ike("aes256-sha256-x25519-esn"), "leave them out"),
        (esp("aes256gcm16-aes256-sha256"), "write two"),
        (esp("aes192gcm16"), "write aes256gcm16"),
        (ike("aes256-sha256-modp8192"), "write modp4096"),
        (ike("aes256gcm16-prfsha256-x25519-ke1_none"), "second proposal"),
    ] {
        let error = result.unwrap_err();
        assert!(matches!(error, NotationError::Unfit { .. }), "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn an_unknown_word_is_named() {
    for text in ["aes256gcm16-foo", "aes256gcm16-", "", "aes256gcm16_x25519", "aes256gcm16--esn"] {
        assert!(matches!(esp(text), Err(NotationError::Unknown { .. })), "{text}");
    }
    assert_eq!(esp("aes128-Bär"), Err(NotationError::Unknown { word: "Bär".to_owned() }));
}

#[test]
fn weak_algorithms_need_a_setting() {
    for text in [
        "3des-sha256-modp2048",
        "aes128-sha1-modp2048",
        "aes128-sha256-modp1024",
        "aes128-sha256-modp1536",
        "aes128-sha256-prfsha1-modp2048",
        "aes128-sha256-modp2048-ke1_modp1024",
    ] {
        let error = ike(text).unwrap_err();
        assert!(matches!(error, NotationError::Legacy { .. }), "{text}");
        assert!(error.instead().is_some());
        assert!(Proposal::parse(text, Purpose::Ike, true).is_ok(), "{text}");
    }
}

#[test]
fn broken_algorithms_are_never_used() {
    for word in ["md5", "des", "null", "modp768", "modp2048s256", "prfmd5"] {
        let result = Proposal::parse(&format!("aes128-{word}"), Purpose::Ike, true);
        assert!(matches!(result, Err(NotationError::Forbidden { .. })), "{word}");
    }
}

#[test]
fn the_defaults_are_the_best_first_and_all_valid() {
    for (purpose, proposals) in [(Purpose::Ike, default_ike()), (Purpose::Esp, default_esp())] {
        for proposal in with_ml_kem(&proposals) {
            let again = Proposal::parse(&proposal.to_string(), purpose, false);
            assert_eq!(again.as_ref(), Ok(&proposal), "{proposal}");
        }
        let first = proposals.first().unwrap();
        assert_eq!(first.groups.first(), Some(&Group::X25519));
        assert!(first.encryption.iter().all(|one| one.is_aead()));
        assert_eq!(Proposal::parse("default", purpose, false).as_ref(), Ok(first));
        assert_eq!(parse_list("default", purpose, false).as_ref(), Ok(&proposals));
    }
    let list = parse_list("aes128gcm16, default", Purpose::Esp, false).unwrap();
    assert_eq!(list.len(), 1 + default_esp().len());
}

/// All lists of up to two different ones.
fn choices<T: Copy + PartialEq>(all: &[T]) -> Vec<Vec<T>> {
    let pairs = all.iter().flat_map(|one| all.iter().map(move |other| (*one, *other)));
    let pairs = pairs.map(|(one, other)| if one == other { vec![one] } else { vec![one, other] });
    pairs.collect()
}

#[test]
fn what_is_written_is_read_back() {
    let (aead, other): (Vec<_>, Vec<_>) = Encryption::ALL.iter().partition(|one| one.is_aead());
    let groups: Vec<_> = Group::ALL.into_iter().filter(|one| *one != Group::MlKem768).collect();
    let read = |proposal: &Proposal, purpose| {
        let again = Proposal::parse(&proposal.to_string(), purpose, true);
        assert_eq!(again.as_ref(), Ok(proposal), "{proposal}");
    };
    for groups in choices(&groups) {
        for prf in choices(&Prf::ALL) {
            for encryption in choices(&aead) {
                let (groups, prf, additional) =
                    (groups.clone(), prf.clone(), vec![vec![], vec![Group::MlKem768]]);
                let proposal =
                    Proposal { encryption, groups, prf, additional, ..Proposal::default() };
                read(&proposal, Purpose::Ike);
            }
        }
        for encryption in choices(&other) {
            for integrity in choices(&Integrity::ALL) {
                for esn in choices(&[Esn::Yes, Esn::No]) {
                    let (encryption, groups) = (encryption.clone(), groups.clone());
                    let integrity = integrity.clone();
                    let proposal =
                        Proposal { encryption, integrity, groups, esn, ..Proposal::default() };
                    read(&proposal, Purpose::Esp);
                }
            }
        }
    }
}

#[test]
fn numbers_name_the_algorithms() {
    for one in Encryption::ALL {
        assert_eq!(Encryption::from_number(one.number(), one.key_bits()), Some(one));
        assert!(one.key_bits().is_none_or(|bits| usize::from(bits) == one.key_len() * 8));
    }
    assert_eq!(Encryption::from_number(28, Some(256)), Some(Encryption::ChaCha20Poly1305));
    assert_eq!(Encryption::from_number(12, None), None);
    assert_eq!(Encryption::from_number(20, Some(192)), None);
    for one in Integrity::ALL {
        assert_eq!(Integrity::from_number(one.number()), Some(one));
    }
    for one in Prf::ALL {
        assert_eq!(Prf::from_number(one.number()), Some(one));
    }
    for one in Group::ALL {
        assert_eq!(Group::from_number(one.number()), Some(one));
    }
}
