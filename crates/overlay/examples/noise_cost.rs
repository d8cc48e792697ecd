//! What sealing and opening a packet costs, by boringtun's noise module:
//! `cargo run --release -p tidegate-overlay --example noise_cost`.

#![allow(clippy::print_stdout)] // reason: that is what it is for

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use overlay::PrivateKey;
use overlay::peers::{ANSWER, Incoming, Opened, Peers, Sealed, Wanted, Way};

const SIZE: usize = 1420;
/// A batch, as one super-packet is.
const BATCH: usize = 45;
const BATCHES: usize = 4000;

fn main() {
    let now = Instant::now();
    let addresses = [1, 2].map(|number| SocketAddr::from(([192, 0, 2, number], 51_820)));
    let keys = [1, 2].map(|number| PrivateKey::new([number; 32]));
    let peers = |own: usize, other: usize| {
        let wanted = Wanted {
            key: keys[other].public(),
            endpoint: Some(addresses[other]),
            allowed: vec!["10.0.0.0/8".parse().expect("a network")],
            keepalive: None,
        };
        Peers::new(&keys[own], 7).replaced(&[wanted], now).0
    };
    let ends = [peers(0, 1), peers(1, 0)];
    let mut packet = vec![0; SIZE];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(SIZE as u16).to_be_bytes());
    packet[12] = 10;
    packet[16] = 10;
    let (mut buffer, mut answer) = (vec![0; 4096], [0; ANSWER]);
    let peer = ends[0].iter().next().expect("there is one");
    let Sealed::Begins(length) = peer.lock().seal(&packet, SIZE, now, &mut buffer) else {
        return eprintln!("no handshake begins");
    };
    let mut datagram = buffer[..length].to_vec();
    for turn in [1, 0, 1] {
        let Incoming::Of(peer) = ends[turn].find(&datagram, addresses[1 - turn], now, &mut answer)
        else {
            return eprintln!("no peer");
        };
        let way = Way { remote: addresses[1 - turn], local: None };
        if let Opened::Answer(length) = peer.lock().open(&datagram, way, now, &mut buffer) {
            datagram = buffer[..length].to_vec();
        }
    }
    let (mut sealing, mut opening) = (Duration::ZERO, Duration::ZERO);
    let mut batch = vec![vec![0; 4096]; BATCH];
    let mut lengths = [0; BATCH];
    for _ in 0..BATCHES {
        let began = Instant::now();
        {
            let mut session = peer.lock();
            for (buffer, length) in batch.iter_mut().zip(&mut lengths) {
                if let Sealed::Datagram(sealed) = session.seal(&packet, SIZE, now, buffer) {
                    *length = sealed;
                }
            }
        }
        sealing += began.elapsed();
        let began = Instant::now();
        let way = Way { remote: addresses[0], local: None };
        let other = ends[1].iter().next().expect("there is one");
        let mut session = other.lock();
        for (datagram, length) in batch.iter().zip(&lengths) {
            let opened = session.open(&datagram[..*length], way, now, &mut buffer);
            assert!(matches!(opened, Opened::Packet(SIZE, _)), "{opened:?}");
        }
        opening += began.elapsed();
    }
    let packets = (BATCH * BATCHES) as f64;
    for (what, time) in [("seal", sealing), ("open", opening)] {
        let each = time.as_nanos() as f64 / packets;
        println!("{what}: {each:.0} ns for {SIZE} octets, {:.2} GB/s", SIZE as f64 / each);
    }
}
