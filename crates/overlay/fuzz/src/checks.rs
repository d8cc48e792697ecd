//! What must hold for any input at all. The fuzz targets search for inputs that break it, and
//! `tests/corpus.rs` replays the inputs kept.

#![allow(dead_code)] // reason: each fuzz target includes this file and calls one of its checks

use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::time::Instant;

use overlay::PrivateKey;
use overlay::peers::{ANSWER, Incoming, OVERHEAD, Opened, Peers, Sealed, Wanted, Way};
use overlay::probe::{Nonce, Pair, decode, encode, parties};

/// A message as it is when sealed, and a datagram. There is one spelling of each message, and
/// nothing opens that was not sealed.
pub(crate) fn probe(data: &[u8]) {
    static PAIRS: OnceLock<(Pair, Pair)> = OnceLock::new();
    let (one, two) = PAIRS.get_or_init(|| {
        let (one, two) = (PrivateKey::new([1; 32]), PrivateKey::new([2; 32]));
        let pair = |own, other: &PrivateKey| Pair::new(own, &other.public()).expect("a good key");
        (pair(&one, &two), pair(&two, &one))
    });
    let _ = parties(data);
    assert!(two.open(data).is_err(), "it was not sealed");
    // With the right parties before it.
    if let Ok(sealed) = one.seal(Nonce([3; 12]), &sample()) {
        let forged = [sealed.get(..32).unwrap_or_default(), data].concat();
        assert!(two.open(&forged).is_err() || forged == sealed, "it was not sealed");
    }
    if let Ok(message) = decode(data) {
        assert_eq!(encode(&message).as_deref(), Ok(data), "two spellings of {message:?}");
        let sealed = one.seal(Nonce([5; 12]), &message);
        if let Ok(sealed) = sealed {
            assert_eq!(two.open(&sealed), Ok((Nonce([5; 12]), message)));
        }
    }
}

fn sample() -> overlay::probe::Message {
    let body = overlay::probe::Body::AliveAsked(1);
    overlay::probe::Message { sequence: 1, answers: None, body }
}

/// Two ends with a session; what comes to one of them, also with the beginning of what it would
/// take. Nothing comes out, and the other end stays where it is.
pub(crate) fn peers(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    let (one, two) = ends();
    let now = Instant::now();
    let (mut buffer, mut answer) = (vec![0; 70_000], [0; ANSWER]);
    let mut datagram = rest.to_vec();
    if choice & 1 == 1 {
        // As of a session: an index that is there.
        let peer = one.iter().next().expect("there is one");
        let packet = [0x45; 20];
        if let Sealed::Datagram(length) | Sealed::Begins(length) =
            peer.lock().seal(&packet, 20, now, &mut buffer)
        {
            let whole = buffer.get(..length).unwrap_or_default();
            for (place, octet) in whole.iter().enumerate().take(usize::from(choice >> 1)) {
                match datagram.get_mut(place) {
                    Some(there) => *there = *octet,
                    None => datagram.push(*octet),
                }
            }
            if datagram == whole {
                return;
            }
        }
    }
    let from = SocketAddr::from(([198, 51, 100, 1], 7));
    match two.find(&datagram, from, now, &mut answer) {
        Incoming::Answer(length) => assert!(length <= datagram.len(), "more than was sent"),
        Incoming::Dropped(_) => {}
        Incoming::Of(peer) => {
            let way = Way { remote: from, local: None };
            let mut session = peer.lock();
            let opened = session.open(&datagram, way, now, &mut buffer);
            assert!(matches!(opened, Opened::Dropped(_) | Opened::Nothing), "{opened:?}");
            assert_ne!(session.way(), Some(way), "it moved");
        }
    }
    // And as what was in a packet.
    if let Some(peer) = one.iter().next() {
        let sealed = peer.lock().seal(rest, rest.len(), now, &mut buffer);
        if let Sealed::Datagram(length) = sealed {
            let datagram = buffer.get(..length).unwrap_or_default().to_vec();
            assert_eq!(length, rest.len() + OVERHEAD);
            if let Incoming::Of(peer) = two.find(&datagram, address(1), now, &mut answer) {
                let way = Way { remote: address(1), local: None };
                let opened = peer.lock().open(&datagram, way, now, &mut buffer);
                if let Opened::Packet(length, source) = opened {
                    assert!(length <= rest.len());
                    let _ = two.may_send(peer, source);
                }
            }
        }
    }
}

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number], 51_820))
}

/// Two ends, after a handshake.
fn ends() -> &'static (Peers, Peers) {
    static ENDS: OnceLock<(Peers, Peers)> = OnceLock::new();
    ENDS.get_or_init(|| {
        let now = Instant::now();
        let keys = [1, 2].map(|number| PrivateKey::new([number; 32]));
        let [one, two] = [(0, 1), (1, 0)].map(|(own, other): (usize, usize)| {
            let wanted = Wanted {
                key: keys.get(other).expect("of two").public(),
                endpoint: Some(address(other as u8 + 1)),
                allowed: vec!["10.0.0.0/8".parse().expect("a network")],
                keepalive: None,
            };
            let peers = Peers::new(keys.get(own).expect("of two"), 7);
            peers.replaced(&[wanted], now).0
        });
        let (mut buffer, mut answer) = (vec![0; 2000], [0; ANSWER]);
        let mut packet = vec![0; 20];
        packet.splice(..4, [0x45, 0, 0, 20]);
        let peer = one.to(IpAddr::from([10, 0, 0, 1])).expect("there is one");
        let Sealed::Begins(length) = peer.lock().seal(&packet, 20, now, &mut buffer) else {
            panic!("no handshake");
        };
        let mut datagram = buffer.get(..length).expect("as long").to_vec();
        for number in 0..3_u8 {
            let (from, to) = if number % 2 == 0 { (1, &two) } else { (2, &one) };
            let Incoming::Of(peer) = to.find(&datagram, address(from), now, &mut answer) else {
                panic!("no peer");
            };
            let way = Way { remote: address(from), local: None };
            match peer.lock().open(&datagram, way, now, &mut buffer) {
                Opened::Answer(length) => {
                    datagram = buffer.get(..length).expect("as long").to_vec()
                }
                Opened::Nothing => {}
                other => panic!("{other:?}"),
            }
        }
        (one, two)
    })
}
