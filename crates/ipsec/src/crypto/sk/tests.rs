use proptest::prelude::*;

use super::*;
use crate::crypto::rng::SeededRng;

const SUITES: [(Encryption, Option<Integrity>); 9] = [
    (Encryption::Aes128Gcm16, None),
    (Encryption::Aes256Gcm16, None),
    (Encryption::ChaCha20Poly1305, None),
    (Encryption::Aes128Cbc, Some(Integrity::HmacSha256)),
    (Encryption::Aes192Cbc, Some(Integrity::HmacSha384)),
    (Encryption::Aes256Cbc, Some(Integrity::HmacSha512)),
    (Encryption::Aes128Cbc, Some(Integrity::HmacSha1)),
    (Encryption::TripleDesCbc, Some(Integrity::HmacSha1)),
    (Encryption::TripleDesCbc, Some(Integrity::HmacSha256)),
];

fn cipher((encryption, integrity): (Encryption, Option<Integrity>), seed: u8) -> SkCipher {
    let (key, salt) = key_length(encryption);
    let mac = integrity.map_or(0, |integrity| integrity_length(integrity).0);
    let sk_e: Vec<u8> = (0..key + salt).map(|at| at as u8 ^ seed).collect();
    SkCipher::new(encryption, integrity, &sk_e, &vec![seed; mac]).unwrap()
}

proptest! {
    #[test]
    fn what_is_sealed_opens(
        at in 0..SUITES.len(), seed: u8, random: u64,
        associated in prop::collection::vec(any::<u8>(), 0..60),
        plain in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let mut rng = SeededRng::new(random);
        let cipher = cipher(SUITES[at], seed);
        let sealed = cipher.seal(&mut rng, &associated, &plain);
        prop_assert_eq!(sealed.len(), plain.len() + cipher.overhead(plain.len()));
        prop_assert_eq!(&*cipher.open(&associated, &sealed).unwrap(), &plain);
        prop_assert!(cipher.open(&associated, &sealed[..sealed.len() - 1]).is_err());
    }

    #[test]
    fn nothing_panics(at in 0..SUITES.len(), sealed in prop::collection::vec(any::<u8>(), 0..100)) {
        let cipher = cipher(SUITES[at], 1);
        prop_assert!(cipher.open(b"", &sealed).is_err());
    }
}

#[test]
fn every_changed_octet_is_refused() {
    for suite in SUITES {
        let cipher = cipher(suite, 3);
        let mut sealed = cipher.seal(&mut SeededRng::new(1), b"header", b"payloads inside");
        for at in 0..sealed.len() {
            sealed[at] ^= 0x40;
            assert_eq!(cipher.open(b"header", &sealed).err(), Some(CryptoError::Unauthentic));
            sealed[at] ^= 0x40;
        }
        for at in 0..6 {
            let mut header = *b"header";
            header[at] ^= 1;
            assert_eq!(cipher.open(&header, &sealed).err(), Some(CryptoError::Unauthentic));
        }
        for length in 0..sealed.len() {
            assert!(cipher.open(b"header", &sealed[..length]).is_err(), "{suite:?} {length}");
        }
        assert!(self::cipher(suite, 4).open(b"header", &sealed).is_err());
        assert!(cipher.open(b"header", &sealed).is_ok());
    }
}

#[test]
fn ivs_count_on_over_clones() {
    let mut rng = SeededRng::new(9);
    for suite in SUITES.into_iter().filter(|suite| suite.0.is_aead()) {
        let first = cipher(suite, 1);
        let second = first.clone();
        let mut iv = |cipher: &SkCipher| {
            let sealed = cipher.seal(&mut rng, b"", b"same");
            u64::from_be_bytes(*sealed.first_chunk().unwrap())
        };
        let (a, b, c) = (iv(&first), iv(&second), iv(&first));
        assert_eq!((b, c), (a.wrapping_add(1), a.wrapping_add(2)));
    }
}

#[test]
fn gcm_is_as_others_make_it() {
    // By Python's cryptography: key 00…0f, salt 10…13, IV 8 octets of 0x22.
    let cipher = cipher((Encryption::Aes128Gcm16, None), 0);
    let sealed =
        hex("222222222222222208fb58000f9cb022d145f9eee6d6f4d3fb65fb66d728c10c97cd6a692b8d7a68");
    assert_eq!(&**cipher.open(b"header", &sealed).unwrap(), b"payloads inside");
}

#[test]
fn chacha20_poly1305_is_as_others_make_it() {
    let cipher = cipher((Encryption::ChaCha20Poly1305, None), 0);
    let sealed =
        hex("2222222222222222a8e6215c499294f4765044190d43c91dc672f8add37e48f34129d07693e6e6a7");
    assert_eq!(&**cipher.open(b"header", &sealed).unwrap(), b"payloads inside");
}

#[test]
fn cbc_is_as_others_make_it() {
    // By Python's cryptography: keys 00…0f and 00…17, IVs of 0x22, HMAC keys of zeros.
    let cipher = cipher((Encryption::Aes128Cbc, Some(Integrity::HmacSha256)), 0);
    let sealed = hex(
        "22222222222222222222222222222222158145f54a3dd9a79cf3928dba40787d20a2d20dd8c9200ffcfe3452b65fca18",
    );
    assert_eq!(&**cipher.open(b"header", &sealed).unwrap(), b"payloads inside");
    let cipher = self::cipher((Encryption::TripleDesCbc, Some(Integrity::HmacSha1)), 0);
    let sealed = hex("22222222222222229aa050d60556ea5e682b0b51c54b4a772637687b52b2457aa0da1ea5");
    assert_eq!(&**cipher.open(b"header", &sealed).unwrap(), b"payloads inside");
}

#[test]
fn longer_padding_is_read() {
    // 255 octets of padding, as an end may send that hides lengths.
    let suite = (Encryption::Aes128Cbc, Some(Integrity::HmacSha256));
    let cipher = cipher(suite, 0);
    let Inner::Cbc { key, mac, tag, .. } = &*cipher.0 else { unreachable!() };
    let seal = |text: &[u8]| {
        let mut out = [&[5; 16], text].concat();
        let (iv, rest) = out.split_at_mut(16);
        cbc::encrypt(suite.0, key, iv, rest).unwrap();
        let sum = checksum(mac, b"", &out);
        out.extend(&sum.as_ref()[..*tag]);
        out
    };
    let text = [&[1; 16][..], &[0; 255], &[255]].concat();
    assert_eq!(*cipher.open(b"", &seal(&text)).unwrap(), vec![1; 16]);
    // Padding longer than all, no block at all, half a block.
    assert_eq!(cipher.open(b"", &seal(&[16; 16])).err(), Some(CryptoError::Padding));
    assert_eq!(cipher.open(b"", &seal(&[])).err(), Some(CryptoError::Padding));
}

#[test]
fn wrong_keys_are_refused() {
    let new = SkCipher::new;
    assert!(new(Encryption::Aes128Gcm16, None, &[0; 16], &[]).is_err());
    assert!(new(Encryption::Aes128Gcm16, None, &[0; 21], &[]).is_err());
    assert!(new(Encryption::Aes128Cbc, None, &[0; 16], &[]).is_err());
    assert!(new(Encryption::Aes128Cbc, Some(Integrity::HmacSha1), &[0; 17], &[0; 20]).is_err());
    assert!(new(Encryption::Aes128Cbc, Some(Integrity::HmacSha1), &[0; 16], &[0; 19]).is_err());
}

#[test]
fn debug_shows_no_key() {
    assert_eq!(format!("{:?}", cipher(SUITES[0], 1)), "(keys)");
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
