use model::suite::{Encryption, Integrity};
use proptest::prelude::*;

use super::*;
use crate::crypto::rng::SeededRng;
use crate::sa::{EspKeys, EspSuite, Spi};

mod vectors;

const SUITES: [(Encryption, Option<Integrity>); 12] = [
    (Encryption::Aes128Gcm16, None),
    (Encryption::Aes256Gcm16, None),
    (Encryption::ChaCha20Poly1305, None),
    (Encryption::Aes128Cbc, Some(Integrity::HmacSha256)),
    (Encryption::Aes192Cbc, Some(Integrity::HmacSha256)),
    (Encryption::Aes256Cbc, Some(Integrity::HmacSha256)),
    (Encryption::Aes256Cbc, Some(Integrity::HmacSha384)),
    (Encryption::Aes256Cbc, Some(Integrity::HmacSha512)),
    (Encryption::Aes128Cbc, Some(Integrity::HmacSha1)),
    (Encryption::TripleDesCbc, Some(Integrity::HmacSha1)),
    (Encryption::TripleDesCbc, Some(Integrity::HmacSha256)),
    (Encryption::Aes128Cbc, Some(Integrity::HmacSha512)),
];

fn keys((encryption, integrity): (Encryption, Option<Integrity>)) -> EspKeys {
    let length = match encryption {
        Encryption::Aes128Gcm16 | Encryption::Aes128Cbc => 16,
        Encryption::Aes192Cbc | Encryption::TripleDesCbc => 24,
        _ => 32,
    };
    let integrity = match integrity {
        None => 0,
        Some(Integrity::HmacSha1) => 20,
        Some(Integrity::HmacSha256) => 32,
        Some(Integrity::HmacSha384) => 48,
        Some(Integrity::HmacSha512) => 64,
    };
    EspKeys {
        encryption: (0..length).map(|octet| octet * 3 + 1).collect(),
        salt: if encryption.is_aead() { vec![0xca, 0xfe, 0xba, 0xbe] } else { Vec::new() },
        integrity: (0..integrity).collect(),
    }
}

fn pair(suite: (Encryption, Option<Integrity>), esn: bool) -> (Outbound, Inbound, Replay) {
    let keys = keys(suite);
    let suite = EspSuite { encryption: suite.0, integrity: suite.1, esn };
    let spi = Spi::new(0x1234_5678).unwrap();
    let outbound = Outbound::new(suite, &keys, spi, &mut SeededRng::new(1)).unwrap();
    let inbound = Inbound::new(suite, &keys, spi, 1024).unwrap();
    let replay = inbound.replay();
    (outbound, inbound, replay)
}

/// An IPv4 packet of this size.
fn packet(length: u16) -> Vec<u8> {
    let mut packet: Vec<u8> = (0..length).map(|octet| octet as u8).collect();
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet
}

fn sealed(outbound: &Outbound, inner: &[u8]) -> Vec<u8> {
    let mut out = vec![0xee; 3];
    outbound.seal(outbound.reserve(1).unwrap(), IPV4, &[inner], &mut out);
    assert_eq!(out.len(), 3 + outbound.sealed_len(inner.len()));
    out.split_off(3)
}

#[test]
fn what_is_sealed_opens_with_every_suite() {
    for suite in SUITES {
        for esn in [false, true] {
            let (outbound, inbound, mut replay) = pair(suite, esn);
            for length in [20, 21, 22, 23, 40, 1400, 65_000] {
                let inner = packet(length);
                let mut out = Vec::new();
                let (head, tail) = inner.split_at(usize::from(length) / 3);
                let sequence = outbound.reserve(1).unwrap();
                outbound.seal(sequence, IPV4, &[head, tail], &mut out);
                assert_eq!(out.len(), outbound.sealed_len(inner.len()));
                assert!(!out.windows(20).any(|octets| octets == &inner[..20]), "{suite:?}");
                let opened = inbound.open(&mut replay, &mut out).unwrap();
                let mut expected = inner.clone();
                assert_eq!(
                    opened,
                    Opened::Packet { inner: &mut expected, next_header: IPV4 },
                    "{suite:?}, {length}"
                );
            }
            assert_eq!(replay.top(), 7);
        }
    }
}

#[test]
fn packets_of_another_implementation_open_and_ours_are_the_same() {
    for (encryption, integrity, esn, hex) in vectors::VECTORS {
        let octet = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let expected: Vec<u8> = (0..hex.len()).step_by(2).map(octet).collect();
        let (outbound, inbound, mut replay) = pair((encryption, integrity), esn);
        let sequence = if esn { 0x1_0000_0005 } else { 5 };
        assert!(replay.accept(sequence - 1));
        let mut inner = packet(41);
        if esn && encryption.is_aead() {
            let mut out = Vec::new();
            outbound.seal(sequence, IPV4, &[&inner], &mut out);
            assert_eq!(out, expected, "{encryption:?}");
        }
        let mut theirs = expected;
        let opened = inbound.open(&mut replay, &mut theirs);
        let expected = Opened::Packet { inner: &mut inner, next_header: IPV4 };
        assert_eq!(opened, Ok(expected), "{encryption:?}, {integrity:?}, {esn}");
    }
}

#[test]
fn a_changed_octet_is_not_authentic_and_moves_no_window() {
    for suite in SUITES {
        for esn in [false, true] {
            let (outbound, inbound, mut replay) = pair(suite, esn);
            let good = sealed(&outbound, &packet(60));
            for place in 4..good.len() {
                let mut bad = good.clone();
                bad[place] ^= 0x10;
                let error = inbound.open(&mut replay, &mut bad).unwrap_err();
                assert_eq!(error, EspError::Unauthentic, "{suite:?} octet {place}");
            }
            assert_eq!(replay.top(), 0);
            assert!(inbound.open(&mut replay, &mut good.clone()).is_ok());
            let again = inbound.open(&mut replay, &mut good.clone()).unwrap_err();
            assert_eq!(again, EspError::Replayed);
            let mut other = good;
            other[0] ^= 1;
            assert_eq!(inbound.open(&mut replay, &mut other).unwrap_err(), EspError::OtherSpi);
        }
    }
}

#[test]
fn sequence_numbers_pass_the_32_bit_border_with_esn_and_end_there_without() {
    for suite in SUITES {
        let (outbound, inbound, mut replay) = pair(suite, true);
        let first = outbound.reserve(u32::MAX).unwrap();
        assert_eq!(first, 1);
        assert!(replay.accept(u64::from(u32::MAX) - 3));
        let before = 0xffff_fffe;
        let mut out = Vec::new();
        outbound.seal(before, IPV4, &[&packet(40)], &mut out);
        let mut late = std::mem::take(&mut out);
        outbound.seal(outbound.reserve(1).unwrap(), IPV4, &[&packet(40)], &mut out);
        assert_eq!(&out[4..8], &[0, 0, 0, 0]);
        assert!(inbound.open(&mut replay, &mut out).is_ok(), "{suite:?}");
        assert_eq!(replay.top(), 1 << 32);
        assert!(inbound.open(&mut replay, &mut late).is_ok(), "{suite:?}");

        let (outbound, ..) = pair(suite, false);
        assert!(!outbound.is_worn());
        assert_eq!(outbound.reserve(u32::MAX - 1), Ok(1));
        assert!(outbound.is_worn());
        assert_eq!(outbound.reserve(2), Err(Exhausted));
        assert_eq!(outbound.reserve(1), Ok(u64::from(u32::MAX)));
        assert_eq!(outbound.reserve(1), Err(Exhausted));
    }
}

#[test]
fn dummies_and_padded_packets_are_understood() {
    for suite in SUITES {
        let (outbound, inbound, mut replay) = pair(suite, false);
        let mut out = Vec::new();
        outbound.seal(1, DUMMY, &[&[9; 100]], &mut out);
        assert_eq!(inbound.open(&mut replay, &mut out), Ok(Opened::Dummy));
        let mut v4 = packet(40);
        out.clear();
        outbound.seal(2, IPV4, &[&v4, &[0; 200]], &mut out);
        let opened = inbound.open(&mut replay, &mut out);
        assert_eq!(opened, Ok(Opened::Packet { inner: &mut v4, next_header: IPV4 }));
        let mut v6 = vec![0; 48];
        (v6[0], v6[5]) = (0x60, 8);
        out.clear();
        outbound.seal(3, IPV6, &[&v6, &[0; 33]], &mut out);
        let opened = inbound.open(&mut replay, &mut out);
        assert_eq!(opened, Ok(Opened::Packet { inner: &mut v6, next_header: IPV6 }));
        for (sequence, next_header, inner) in
            [(4, IPV4, &packet(41)[..40]), (5, IPV6, &v6[..47]), (6, IPV4, &v6), (7, IPV6, &v4)]
        {
            out.clear();
            outbound.seal(sequence, next_header, &[inner], &mut out);
            let opened = inbound.open(&mut replay, &mut out);
            assert_eq!(opened, Err(EspError::Malformed));
        }
    }
}

#[test]
fn threads_that_share_an_sa_get_different_numbers() {
    let (outbound, inbound, mut replay) = pair(SUITES[0], true);
    let seal = || {
        let mut sealed = Vec::new();
        for _ in 0..200 {
            let first = outbound.reserve(3).unwrap();
            for sequence in first..first + 3 {
                let mut out = Vec::new();
                outbound.seal(sequence, IPV4, &[&packet(40)], &mut out);
                sealed.push(out);
            }
        }
        sealed
    };
    let all = std::thread::scope(|scope| {
        let threads = [scope.spawn(seal), scope.spawn(seal)];
        threads.map(|thread| thread.join().unwrap()).concat()
    });
    let mut ivs: Vec<_> = all.iter().map(|packet| packet[8..16].to_vec()).collect();
    ivs.sort_unstable();
    ivs.dedup();
    assert_eq!(ivs.len(), 1200);
    let mut last = all.last().unwrap().clone();
    assert!(inbound.open(&mut replay, &mut last).is_ok());
}

#[test]
fn sizes_fit_each_other() {
    for suite in SUITES {
        let (outbound, ..) = pair(suite, true);
        for datagram in 0..3000 {
            let inner = outbound.largest_inner(datagram);
            if inner > 0 {
                assert!(outbound.sealed_len(inner) <= datagram, "{suite:?}");
                assert!(outbound.sealed_len(inner + 1) > datagram, "{suite:?}");
            }
        }
    }
    let (gcm, ..) = pair(SUITES[0], true);
    assert_eq!(gcm.largest_inner(1500 - 20 - 8), 1438, "ESP in UDP on Ethernet");
}

#[test]
fn ivs_differ_and_those_of_cbc_tell_nothing() {
    for suite in SUITES {
        let (outbound, ..) = pair(suite, false);
        let size = if suite.0.is_aead() || suite.0 == Encryption::TripleDesCbc { 8 } else { 16 };
        let mut ivs = std::collections::BTreeSet::new();
        for sequence in 1_u64..200 {
            let out = sealed(&outbound, &packet(40));
            let iv = out[8..8 + size].to_vec();
            if suite.0.is_aead() {
                assert_eq!(iv, sequence.to_be_bytes());
            } else {
                let zeros = iv.iter().filter(|octet| **octet == 0).count();
                assert!(zeros < size / 2, "{suite:?}");
            }
            assert!(ivs.insert(iv));
        }
    }
}

#[test]
fn keys_of_a_wrong_size_are_refused() {
    for suite in SUITES {
        let mut short = keys(suite);
        short.encryption.pop();
        let spi = Spi::new(256).unwrap();
        let wanted = EspSuite { encryption: suite.0, integrity: suite.1, esn: false };
        assert!(Inbound::new(wanted, &short, spi, 0).is_err());
        let mut short = keys(suite);
        let _ = short.salt.pop().or(short.integrity.pop());
        assert!(Inbound::new(wanted, &short, spi, 0).is_err());
    }
    let bare = EspSuite { encryption: Encryption::Aes128Cbc, integrity: None, esn: false };
    let keys = keys((Encryption::Aes128Cbc, None));
    assert!(Inbound::new(bare, &keys, Spi::new(256).unwrap(), 0).is_err());
}

proptest! {
    #[test]
    fn junk_is_dropped(
        suite in 0..SUITES.len(), esn: bool, mut junk in prop::collection::vec(any::<u8>(), 0..200)
    ) {
        let (_, inbound, mut replay) = pair(SUITES[suite], esn);
        if let Some(spi) = junk.get_mut(..4) {
            spi.copy_from_slice(&inbound.spi().get().to_be_bytes());
        }
        prop_assert!(inbound.open(&mut replay, &mut junk).is_err());
        prop_assert_eq!(replay.top(), 0);
    }

    #[test]
    fn authentic_junk_is_malformed_or_opened_within_its_bounds(
        next_header: u8, junk in prop::collection::vec(any::<u8>(), 0..200)
    ) {
        let (outbound, inbound, mut replay) = pair(SUITES[0], true);
        let mut out = Vec::new();
        outbound.seal(1, next_header, &[&junk], &mut out);
        if let Ok(Opened::Packet { inner, .. }) = inbound.open(&mut replay, &mut out) {
            prop_assert!(inner.len() <= junk.len());
        }
    }
}
