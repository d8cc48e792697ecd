use proptest::prelude::*;

use super::*;

const ALL: [Group; 10] = [
    Group::Modp1024,
    Group::Modp1536,
    Group::Modp2048,
    Group::Modp3072,
    Group::Modp4096,
    Group::P256,
    Group::P384,
    Group::P521,
    Group::X25519,
    Group::MlKem768,
];

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Octets of the initiator's and the responder's public value, and of the shared secret.
fn lengths(group: Group) -> (usize, usize, usize) {
    match group {
        Group::Modp1024 => (128, 128, 128),
        Group::Modp1536 => (192, 192, 192),
        Group::Modp2048 => (256, 256, 256),
        Group::Modp3072 => (384, 384, 384),
        Group::Modp4096 => (512, 512, 512),
        Group::P256 => (64, 64, 32),
        Group::P384 => (96, 96, 48),
        Group::P521 => (132, 132, 66),
        Group::X25519 => (32, 32, 32),
        Group::MlKem768 => (1184, 1088, 32),
    }
}

#[test]
fn both_ends_agree() {
    for group in ALL {
        let (exchange, initiator) = KeyExchange::begin(group).unwrap();
        let (responder, secret) = respond(group, &initiator).unwrap();
        let found = (initiator.len(), responder.len(), secret.len());
        assert_eq!(found, lengths(group), "{group:?}");
        assert_eq!(*exchange.finish(&responder).unwrap(), *secret, "{group:?}");
    }
}

#[test]
fn two_exchanges_differ() {
    for group in ALL {
        let (_, one) = KeyExchange::begin(group).unwrap();
        let (_, two) = KeyExchange::begin(group).unwrap();
        assert_ne!(one, two, "{group:?}");
    }
}

#[test]
fn values_of_another_length_are_refused() {
    for group in ALL {
        for change in [-1, 1] {
            let (exchange, mut initiator) = KeyExchange::begin(group).unwrap();
            let (mut responder, _) = respond(group, &initiator).unwrap();
            let resized = |value: &mut Vec<u8>| {
                let length = value.len().checked_add_signed(change).unwrap();
                value.resize(length, 1);
            };
            resized(&mut initiator);
            resized(&mut responder);
            assert!(respond(group, &initiator).is_err(), "{group:?}");
            assert!(exchange.finish(&responder).is_err(), "{group:?}");
        }
        assert!(respond(group, &[]).is_err());
        assert!(KeyExchange::begin(group).unwrap().0.finish(&[]).is_err());
    }
}

#[test]
fn weak_values_are_refused() {
    let refused = |group, value: &[u8]| {
        let (exchange, _) = KeyExchange::begin(group).unwrap();
        let error = CryptoError::PublicValue { group, length: value.len() };
        assert_eq!(exchange.finish(value).err(), Some(error), "{group:?}");
    };
    for group in &ALL[..5] {
        let length = lengths(*group).0;
        let number = |last| [vec![0; length - 1], vec![last]].concat();
        // 0, 1, p − 1, p and more: p begins and ends with 64 ones.
        let mut p = hex(match group {
            Group::Modp1024 => primes::P1024,
            Group::Modp1536 => primes::P1536,
            Group::Modp2048 => primes::P2048,
            Group::Modp3072 => primes::P3072,
            _ => primes::P4096,
        });
        refused(*group, &number(0));
        refused(*group, &number(1));
        refused(*group, &p);
        *p.last_mut().unwrap() = 0xfe;
        refused(*group, &p);
        refused(*group, &vec![0xff; length]);
        *p.last_mut().unwrap() = 0xfd;
        for fine in [p, number(2)] {
            let (exchange, _) = KeyExchange::begin(*group).unwrap();
            assert!(exchange.finish(&fine).is_ok());
        }
    }
    // Of small order; the last is a point that only another octet order would hide.
    refused(Group::X25519, &[0; 32]);
    refused(Group::X25519, &[vec![1], vec![0; 31]].concat());
    refused(
        Group::X25519,
        &hex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    );
    for group in [Group::P256, Group::P384, Group::P521] {
        let (_, public) = KeyExchange::begin(group).unwrap();
        let mut off = public.clone();
        *off.last_mut().unwrap() ^= 1;
        refused(group, &off);
        refused(group, &vec![0; public.len()]);
        refused(group, &vec![0xff; public.len()]);
    }
    // Coefficients of 4,095 are not reduced (FIPS 203, 7.2).
    assert!(respond(Group::MlKem768, &[0xff; 1184]).is_err());
}

#[test]
fn modp_2048_is_as_python_computes_it() {
    let modulus = modp::Modulus::of(Group::Modp2048).unwrap();
    let exponent: Vec<u8> = (1..=40).collect();
    let theirs = hex("6fb56555ff179b30bc0eee14608e8a2069942449a68183df7df114967c77f7c1\
         d8342b82d56f3406f6382744e310c514f8823b24bc9f833d45c60065a10934c1\
         cdba707111d24b3069321f3bd9bb8812ce2ead8eadb886a6a390b93d2e80deb5\
         609d8928623ca9ef8279f039ccaa19e9bf0c7c5b003fb97f00ae2d43e49bc66f\
         0cd80c5dd0b3eb00e1a1c196315388c3a381739fcf11360610ff3d3e89af39ba\
         5e708dda957ffc14918e990600209780911eeffeec3f1203101ca7aa7f86547d\
         4012380f6cdd39740681907ff814fbf8df28a6efcfe5a86557cff94d91db4d78\
         ce81dd1c95c1e8921d58416323d981ffe827fe5f87018b77111c9650db8ed11e");
    let shared = modulus.private(&exponent).finish(&theirs).unwrap();
    assert_eq!(
        *shared,
        hex("c0b5dcf2e8437a328b72e55b65c803f35f482165e6b436b83ec3993736ea3c7c\
         429a079e65b8791a24d178a86e3b833c829d6724429bced1163b045587a6cea8\
         3f67e75b6421348170cbc7b231bef5fe97ae5b9f31eb2ff6d483c05bb989e3a5\
         e5a1b3f5b8dfbaf20cb2250f9424c307cb08ceb699c1aba8a592a2441eaf5310\
         de3577ffc5b5675211df72bb85463bac97f0fd006018cb62e9003f73d807edda\
         13af000a907761568dc7ed81a3154bcbb9ab86ee495586546585b6163afc28a6\
         389dd0cac1a73b74407594cdbd8d79dd7e0fbbe5b054ab3b0da09477b3f91ceb\
         4c38e11ccb0bf2f8c701e4900750f52dbf58720e2a0ea556f7f7ec1a88ff9031")
    );
}

#[test]
fn x25519_is_as_in_rfc_7748() {
    // Section 5.2.
    let private = hex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4");
    let theirs = hex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c");
    let private = agreement::PrivateKey::from_private_key(&agreement::X25519, &private).unwrap();
    let exchange = KeyExchange { group: Group::X25519, private: Private::Curve(private) };
    assert_eq!(
        *exchange.finish(&theirs).unwrap(),
        hex("c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552")
    );
}

#[test]
fn p256_is_as_in_rfc_5903() {
    // Section 8.1.
    let private = hex("C88F01F510D9AC3F70A292DAA2316DE544E9AAB8AFE84049C62A9C57862D1433");
    let theirs = hex("D12DFB5289C8D4F81208B70270398C342296970A0BCCB74C736FC7554494BF63\
         56FBF3CA366CC23E8157854C13C58D6AAC23F046ADA30F8353E74F33039872AB");
    let private = agreement::PrivateKey::from_private_key(&agreement::ECDH_P256, &private).unwrap();
    let exchange = KeyExchange { group: Group::P256, private: Private::Curve(private) };
    let secret = exchange.finish(&theirs).unwrap();
    assert_eq!(*secret, hex("D6840F6B42F6EDAFD13116E0E12565202FEF8E9ECE7DCE03812464D04B9442DE"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn nothing_panics(value in prop::collection::vec(any::<u8>(), 0..1200)) {
        for group in [Group::P256, Group::P384, Group::P521, Group::X25519, Group::MlKem768] {
            for length in [lengths(group).0, lengths(group).1, value.len()] {
                let mut value = value.clone();
                value.resize(length, 0x55);
                let _ = respond(group, &value);
                let _ = KeyExchange::begin(group).unwrap().0.finish(&value);
            }
        }
    }
}
