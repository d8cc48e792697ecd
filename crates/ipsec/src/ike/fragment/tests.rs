use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;

fn piece(octets: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(octets.to_vec())
}

/// AES-CBC with HMAC-SHA-256-128: IV, padding to blocks, pad length, checksum.
fn cbc(plain: usize) -> usize {
    16 + (16 - (plain + 1) % 16) % 16 + 1 + 16
}

#[test]
fn a_full_fragment_fills_the_packet_and_never_more() {
    for size in 576..1600 {
        for (remote, ip) in
            [(IpAddr::V4(Ipv4Addr::LOCALHOST), 20), (IpAddr::V6(Ipv6Addr::LOCALHOST), 40)]
        {
            for overhead in [cbc, |_| 8 + 1 + 16] {
                let plain = capacity(remote, size, overhead);
                let packet = |plain: usize| ip + 8 + 4 + 28 + 8 + plain + overhead(plain);
                assert!(packet(plain) <= size, "{size}");
                assert!(packet(plain + 1) > size, "{size}");
            }
        }
    }
    assert_eq!(capacity(IpAddr::V4(Ipv4Addr::LOCALHOST), 0, cbc), SMALLEST);
}

#[test]
fn pieces_in_any_order_with_duplicates_make_the_message_once() {
    let plain: Vec<u8> = (0..1000u32).map(|n| n as u8).collect();
    for seed in 0..100 {
        let mut random = fastrand::Rng::with_seed(seed);
        let pieces = cut(&plain, random.usize(100..600)).unwrap();
        let total = pieces.len() as u16;
        let mut order: Vec<usize> = (0..pieces.len()).chain(0..pieces.len()).collect();
        random.shuffle(&mut order);
        let mut reassembly = Reassembly::default();
        let mut wholes = Vec::new();
        for place in order {
            if !wholes.is_empty() {
                break;
            }
            let inner = if place == 0 { 33 } else { 0 };
            wholes.extend(reassembly.add(7, place as u16 + 1, total, inner, piece(pieces[place])));
        }
        assert_eq!(wholes, [Whole { inner: 33, plain: piece(&plain) }], "seed {seed}");
        assert_eq!(reassembly.octets(), 0);
    }
}

#[test]
fn a_finer_cut_replaces_what_was_there_and_a_coarser_one_is_ignored() {
    let mut reassembly = Reassembly::default();
    assert_eq!(reassembly.add(1, 1, 2, 33, piece(b"abcd")), None);
    assert_eq!(reassembly.add(1, 2, 3, 0, piece(b"cd")), None);
    assert!(!reassembly.wants(1, 2, 2));
    assert_eq!(reassembly.add(1, 2, 2, 0, piece(b"ef")), None);
    assert_eq!(reassembly.add(1, 3, 3, 0, piece(b"ef")), None);
    let whole = reassembly.add(1, 1, 3, 33, piece(b"ab")).unwrap();
    assert_eq!(*whole.plain, b"abcdef");
}

#[test]
fn nonsense_is_refused_and_memory_is_bounded() {
    let mut reassembly = Reassembly::default();
    for (number, total) in [(0, 1), (2, 1), (0, 0), (1, MAX_FRAGMENTS + 1), (1, u16::MAX)] {
        assert!(!reassembly.wants(0, number, total), "{number} of {total}");
        assert_eq!(reassembly.add(0, number, total, 0, piece(b"x")), None);
    }
    assert_eq!(reassembly.octets(), 0);
    let large = vec![0; 40_000];
    assert_eq!(reassembly.add(0, 1, 3, 33, piece(&large)), None);
    assert_eq!(reassembly.add(0, 2, 3, 0, piece(&large)), None);
    assert_eq!(reassembly.octets(), 0, "more than a message may have");
    assert_eq!(reassembly.add(1, 1, 2, 33, piece(b"a")), None);
    assert_eq!(reassembly.add(2, 1, 2, 33, piece(b"b")), None, "another message");
    assert_eq!(*reassembly.add(2, 2, 2, 0, piece(b"c")).unwrap().plain, b"bc");
}
