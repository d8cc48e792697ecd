//! What a packet of 1,400 octets costs in the data path, in nanoseconds, without system calls:
//! `cargo run --release -p tidegate-ipsec --example esp_cost`.

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use ipsec::crypto::rng::SystemRng;
use ipsec::esp::{IPV4, Inbound, Opened, Outbound};
use ipsec::packet::checksum::Sum;
use ipsec::packet::nat::{Rule, Side, translate};
use ipsec::packet::{Coalescer, Parsed, Segments, VnetHeader, vnet};
use ipsec::sa::{EspKeys, EspSuite, Spi};
use model::suite::{Encryption, Integrity};

/// TCP with timestamps: 52 octets of headers, 1,348 of payload.
const SIZE: usize = 1348;
const COUNT: usize = 48;
const ROUNDS: usize = 2000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut super_packet = super_packet();
    let vnet = VnetHeader {
        flags: vnet::NEEDS_CHECKSUM,
        gso_type: vnet::TCP_V4,
        gso_size: SIZE as u16,
        ..VnetHeader::default()
    };
    println!("ns per packet of {} octets, {COUNT} a batch", SIZE + 52);

    let each = time(|| {
        let sum = super_packet.chunks(SIZE).map(|chunk| Sum::default().with(chunk).finish());
        black_box(sum.fold(0, u16::wrapping_add));
    });
    println!("{:28}{each:8.1}", "checksum");
    let packets: Vec<Vec<u8>> =
        Segments::new(&vnet, &mut super_packet)?.map(|segment| segment.to_vec()).collect();
    let each = time(|| packets.iter().for_each(|packet| seen(Parsed::new(packet))));
    println!("{:28}{each:8.1}", "parse");
    let rules = [Rule::new("10.0.0.0/24".parse()?, "172.16.5.0/24".parse()?)?];
    let mut packet = packets.first().ok_or("no packet")?.clone();
    let parsed = Parsed::new(&packet).ok_or("no packet")?;
    let each = time(|| {
        for _ in 0..COUNT {
            let mut parsed = black_box(parsed);
            black_box(translate(&mut packet, &mut parsed, Side::Source, &rules));
        }
    });
    println!("{:28}{each:8.1}", "NAT");
    let each = time(|| {
        if let Ok(segments) = Segments::new(&vnet, &mut super_packet) {
            segments.for_each(seen);
        }
    });
    println!("{:28}{each:8.1}", "segment");
    let mut coalescer = Coalescer::new(vnet::SIZE, true);
    let each = time(|| {
        packets.iter().for_each(|packet| coalescer.push(packet));
        coalescer.flush(|write| seen(write));
    });
    println!("{:28}{each:8.1}", "coalesce");

    let suites = [
        (Encryption::Aes128Gcm16, None, 16, 0),
        (Encryption::Aes256Gcm16, None, 32, 0),
        (Encryption::ChaCha20Poly1305, None, 32, 0),
        (Encryption::Aes128Cbc, Some(Integrity::HmacSha256), 16, 32),
        (Encryption::Aes256Cbc, Some(Integrity::HmacSha512), 32, 64),
        (Encryption::TripleDesCbc, Some(Integrity::HmacSha1), 24, 20),
    ];
    for (encryption, integrity, key, mac) in suites {
        let name = format!("{encryption:?}");
        let keys = EspKeys {
            encryption: (0..key).collect(),
            salt: if encryption.is_aead() { vec![7; 4] } else { Vec::new() },
            integrity: vec![9; mac],
        };
        let suite = EspSuite { encryption, integrity, esn: true };
        let spi = Spi::new(0x1000).ok_or("reserved SPI")?;
        let sa = Outbound::new(suite, &keys, spi, &mut SystemRng)?;
        let mut out = Vec::new();
        let algorithm = match encryption {
            Encryption::Aes128Gcm16 => Some(&aws_lc_rs::aead::AES_128_GCM),
            Encryption::ChaCha20Poly1305 => Some(&aws_lc_rs::aead::CHACHA20_POLY1305),
            _ => None,
        };
        if let Some(algorithm) = algorithm {
            use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce, UnboundKey};
            let key = LessSafeKey::new(UnboundKey::new(algorithm, &keys.encryption)?);
            let mut buffer = vec![0; SIZE + 52];
            let each = time(|| {
                for _ in 0..COUNT {
                    let nonce = Nonce::assume_unique_for_key([0; 12]);
                    let aad = Aad::from([0; 12]);
                    seen(key.seal_in_place_separate_tag(nonce, aad, &mut buffer));
                }
            });
            println!("{name:20}{:8}{each:8.1}", "alone");
        }
        let each = time(|| {
            out.clear();
            let first = sa.reserve(COUNT as u32).unwrap_or(0);
            for (sequence, packet) in (first..).zip(&packets) {
                sa.seal(sequence, IPV4, &[packet], &mut out);
            }
        });
        println!("{name:20}{:8}{each:8.1}", "seal");
        let each = time(|| {
            out.clear();
            let Ok(segments) = Segments::new(&vnet, &mut super_packet) else { return };
            let first = sa.reserve(segments.len() as u32).unwrap_or(0);
            for (sequence, segment) in (first..).zip(segments) {
                sa.seal(sequence, IPV4, &segment.parts(), &mut out);
            }
        });
        println!("{name:20}{:8}{each:8.1}", "+segment");

        // Fresh numbers, and the buffers filled outside of what is timed.
        let inbound = Inbound::new(suite, &keys, spi, 1024)?;
        let (mut opening, mut coalescing) = (0.0, 0.0);
        let mut replay = inbound.replay();
        let rounds = if key == 24 { 20 } else { ROUNDS / 4 };
        for with in [false, true] {
            let mut each = f64::INFINITY;
            for _ in 0..rounds {
                let first = sa.reserve(COUNT as u32)?;
                out.clear();
                for (sequence, packet) in (first..).zip(&packets) {
                    sa.seal(sequence, IPV4, &[packet], &mut out);
                }
                let begin = Instant::now();
                for sealed in out.chunks_mut(sa.sealed_len(SIZE + 52)) {
                    match inbound.open(&mut replay, sealed)? {
                        Opened::Packet { inner, .. } if with => coalescer.push(inner),
                        opened => seen(opened),
                    }
                }
                coalescer.flush(|write| seen(write));
                each = each.min(begin.elapsed().as_nanos() as f64 / COUNT as f64);
            }
            *(if with { &mut coalescing } else { &mut opening }) = each;
        }
        println!("{name:20}{:8}{opening:8.1}", "open");
        println!("{name:20}{:8}{coalescing:8.1}", "+coal.");
    }
    Ok(())
}

/// Nanoseconds for one of `COUNT` packets: the fastest round within a tenth of a second.
fn time(mut round: impl FnMut()) -> f64 {
    let (begin, mut best) = (Instant::now(), f64::INFINITY);
    while begin.elapsed().as_millis() < 100 {
        let begin = Instant::now();
        (0..4).for_each(|_| round());
        best = best.min(begin.elapsed().as_nanos() as f64 / (4 * COUNT) as f64);
    }
    best
}

/// Keeps the compiler from leaving out what made it.
fn seen<T>(value: T) {
    black_box(&value);
}

fn super_packet() -> Vec<u8> {
    let payload = SIZE * COUNT;
    let mut packet = vec![0x45, 0, 0, 0, 0x11, 0x11, 0x40, 0, 64, 6, 0, 0];
    packet.extend_from_slice(&[10, 0, 0, 1, 10, 0, 1, 2]);
    packet.extend_from_slice(&[0x1f, 0x90, 0xc0, 0x01, 0, 0, 0, 1, 0, 0, 0, 2, 0x80, 0x10]);
    packet.extend_from_slice(&[2, 0, 0, 0, 0, 0, 1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
    packet.extend((0..payload).map(|octet| (octet * 31) as u8));
    let length = (packet.len() as u16).to_be_bytes();
    packet.iter_mut().skip(2).zip(length).for_each(|(to, from)| *to = from);
    packet
}
