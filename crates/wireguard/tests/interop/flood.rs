//! Strangers that send a lot.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::lab::{Lab, THEIR_IP, eventually, pings};

/// Junk: of all kinds, none of which is authentic.
fn junk(number: u64, key: &model::PublicKey) -> Vec<u8> {
    let mix = |at: u64| (number.wrapping_mul(6_364_136_223_846_793_005) >> (at % 48)) as u8;
    let length = match number % 5 {
        0 => 148,
        1 => 92,
        2 => 64,
        3 => 32 + (number % 1400) as usize,
        _ => (number % 40) as usize,
    };
    let mut datagram: Vec<u8> = (0..length as u64).map(mix).collect();
    if let Some(begin) = datagram.first_chunk_mut::<4>() {
        *begin = [(number % 5 + 1).min(4) as u8, 0, 0, 0];
    }
    // Data for sessions that are there.
    if number.is_multiple_of(7)
        && let Some(index) = datagram.get_mut(4..8)
    {
        index.copy_from_slice(&[number as u8, key.0[0], 0, 0]);
    }
    datagram
}

#[test]
fn a_flood_of_junk_and_of_handshakes_is_dropped_and_the_peer_is_heard() {
    let mut lab = Lab::new();
    assert!(pings(&lab.ours, THEIR_IP, &[]));
    let endpoint = lab.endpoint();
    let key = lab.key.public();
    let stop = AtomicBool::new(false);
    let sent = AtomicU64::new(0);
    let socket = lab.theirs.run(|| UdpSocket::bind("192.0.2.2:0")).unwrap();
    // A stranger's handshakes, which have a right first MAC.
    let stranger = overlay::peers::Peers::new(&wireguard::random::private_key(), 1);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let number = sent.fetch_add(1, Ordering::Relaxed);
                let mut datagram = junk(number, &key);
                if number.is_multiple_of(50) {
                    let wanted = overlay::peers::Wanted {
                        key,
                        endpoint: Some("192.0.2.1:51820".parse().unwrap()),
                        allowed: Vec::new(),
                        keepalive: None,
                    };
                    let now = std::time::Instant::now();
                    let (peers, _) = stranger.replaced(&[wanted], now);
                    let mut buffer = [0; 200];
                    let peer = peers.iter().next().unwrap();
                    if let overlay::peers::Sealed::Begins(length) =
                        peer.lock().seal(&[0x45; 20], 20, now, &mut buffer)
                    {
                        datagram = buffer[..length].to_vec();
                    }
                }
                let _ = socket.send_to(&datagram, "192.0.2.1:51820");
            }
        });
        eventually("much is sent", || (sent.load(Ordering::Relaxed) > 20_000).then_some(()));
        let heard = (0..5).filter(|_| pings(&lab.ours, THEIR_IP, &[])).count();
        stop.store(true, Ordering::Relaxed);
        assert!(heard >= 4, "{heard} of 5");
    });
    assert_eq!(lab.endpoint(), endpoint, "a stranger moved the peer");
    let drops = lab.interfaces.statistics()["tgwg0"].drops.clone();
    for reason in ["malformed", "unknown_peer", "unauthentic"] {
        assert!(drops.get(reason).is_some_and(|count| *count > 0), "{reason}: {drops:?}");
    }
    // And a new handshake is done afterwards: the session's key is made anew.
    let next = wireguard::random::private_key();
    lab.set_their_key(&next);
    lab.tunnel.peers[0].key = next.public();
    assert_eq!(lab.apply(), []);
    eventually("a handshake", || pings(&lab.ours, THEIR_IP, &[]).then_some(()));
}
