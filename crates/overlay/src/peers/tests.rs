use std::net::Ipv4Addr;

use super::*;
use crate::key::PrivateKey;

/// One interface.
struct End {
    private: PrivateKey,
    peers: Peers,
    address: SocketAddr,
}

fn end(number: u8) -> End {
    let private = PrivateKey::new([number; 32]);
    let address = SocketAddr::from((Ipv4Addr::new(192, 0, 2, number), 51_820));
    End { peers: Peers::new(&private, u32::from(number) * 1000), private, address }
}

fn wanted(other: &End, allowed: &[&str], knows: bool) -> Wanted {
    Wanted {
        key: other.private.public(),
        endpoint: knows.then_some(other.address),
        allowed: allowed.iter().map(|text| text.parse().unwrap()).collect(),
        keepalive: None,
    }
}

impl End {
    fn set(&mut self, wanted: &[Wanted]) -> Vec<PeersError> {
        let (peers, errors) = self.peers.replaced(wanted, Instant::now());
        self.peers = peers;
        errors
    }

    /// Sends a packet: the datagram.
    fn send(&self, packet: &[u8]) -> Result<Vec<u8>, Option<Dropped>> {
        let destination = IpAddr::from(*packet[16..].first_chunk::<4>().unwrap());
        let peer = self.peers.to(destination).ok_or(Some(Dropped::NoPeer))?;
        let mut buffer = vec![0; 2000];
        let sealed = peer.lock().seal(packet, packet.len(), Instant::now(), &mut buffer);
        match sealed {
            Sealed::Datagram(length) | Sealed::Begins(length) => {
                buffer.truncate(length);
                Ok(buffer)
            }
            Sealed::Waits => Err(None),
            Sealed::Dropped(dropped) => Err(Some(dropped)),
        }
    }

    /// Takes a datagram: packets that were in it, and datagrams to be sent back.
    fn take(&self, datagram: &[u8], from: SocketAddr) -> Result<Taken, Dropped> {
        let now = Instant::now();
        let (mut answer, mut buffer) = ([0; ANSWER], vec![0; 2000]);
        let mut taken = Taken::default();
        match self.peers.find(datagram, from, now, &mut answer) {
            Incoming::Dropped(dropped) => return Err(dropped),
            Incoming::Answer(length) => taken.back.push(answer[..length].to_vec()),
            Incoming::Of(peer) => {
                let mut session = peer.lock();
                let way = Way { remote: from, local: None };
                match session.open(datagram, way, now, &mut buffer) {
                    Opened::Packet(length, source) => {
                        if !self.peers.may_send(peer, source) {
                            return Err(Dropped::NotAllowed);
                        }
                        taken.packets.push(buffer[..length].to_vec());
                    }
                    Opened::Answer(length) => taken.back.push(buffer[..length].to_vec()),
                    Opened::Nothing => {}
                    Opened::Dropped(dropped) => return Err(dropped),
                }
                while session.waits() {
                    let Some(length) = session.next_waiting(now, &mut buffer) else { break };
                    taken.back.push(buffer[..length].to_vec());
                }
            }
        }
        Ok(taken)
    }
}

#[derive(Debug, Default)]
struct Taken {
    packets: Vec<Vec<u8>>,
    back: Vec<Vec<u8>>,
}

fn packet(from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
    let mut packet = vec![0; 60];
    packet[0] = 0x45;
    packet[3] = 60;
    packet[12..16].copy_from_slice(&from);
    packet[16..20].copy_from_slice(&to);
    packet
}

/// Passes datagrams to and fro until there are none: packets that came out at both.
fn settle(one: &End, two: &End, first: Vec<u8>) -> Vec<Vec<u8>> {
    let (mut to_two, mut to_one, mut packets) = (vec![first], Vec::new(), Vec::new());
    for _ in 0..20 {
        for datagram in std::mem::take(&mut to_two) {
            let taken = two.take(&datagram, one.address).unwrap();
            packets.extend(taken.packets);
            to_one.extend(taken.back);
        }
        for datagram in std::mem::take(&mut to_one) {
            let taken = one.take(&datagram, two.address).unwrap();
            packets.extend(taken.packets);
            to_two.extend(taken.back);
        }
    }
    packets
}

const ONE: [u8; 4] = [10, 0, 0, 1];
const TWO: [u8; 4] = [10, 0, 0, 2];

/// Two ends, the first of which knows where the second is; a handshake is done.
fn pair() -> (End, End) {
    let (mut one, mut two) = (end(1), end(2));
    assert_eq!(one.set(&[wanted(&two, &["10.0.0.2/32"], true)]), []);
    assert_eq!(two.set(&[wanted(&one, &["10.0.0.1/32"], false)]), []);
    let first = one.send(&packet(ONE, TWO)).unwrap();
    assert_eq!(settle(&one, &two, first), [packet(ONE, TWO)], "it has waited for the handshake");
    (one, two)
}

#[test]
fn packets_go_both_ways_once_there_was_a_handshake() {
    let (one, two) = pair();
    let datagram = two.send(&packet(TWO, ONE)).unwrap();
    assert_eq!(datagram.len(), 60 + OVERHEAD);
    assert_eq!(one.take(&datagram, two.address).unwrap().packets, [packet(TWO, ONE)]);
    let statistics = one.peers.iter().next().unwrap().statistics();
    assert_eq!((statistics.sent_packets, statistics.received_packets), (1, 1));
    assert_eq!(statistics.endpoint, Some(two.address));
    assert!(statistics.last_handshake.is_some());
}

#[test]
fn a_peer_sends_from_its_own_networks_alone() {
    let (one, two) = pair();
    let datagram = one.send(&packet([10, 0, 0, 9], TWO)).unwrap();
    assert_eq!(two.take(&datagram, one.address).unwrap_err(), Dropped::NotAllowed);
    assert_eq!(one.send(&packet(ONE, [10, 0, 0, 3])), Err(Some(Dropped::NoPeer)));
}

#[test]
fn a_datagram_is_taken_once() {
    let (one, two) = pair();
    let datagram = one.send(&packet(ONE, TWO)).unwrap();
    assert!(two.take(&datagram, one.address).is_ok());
    assert_eq!(two.take(&datagram, one.address).unwrap_err(), Dropped::Replayed);
}

#[test]
fn a_peer_roams_with_authentic_packets_alone() {
    let (one, two) = pair();
    let elsewhere = SocketAddr::from(([198, 51, 100, 7], 4));
    let endpoint = || two.peers.iter().next().unwrap().statistics().endpoint;
    let datagram = one.send(&packet(ONE, TWO)).unwrap();
    let mut forged = datagram.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(two.take(&forged, elsewhere).unwrap_err(), Dropped::Unauthentic);
    assert_eq!(endpoint(), Some(one.address));
    assert!(two.take(&datagram, elsewhere).is_ok());
    assert_eq!(endpoint(), Some(elsewhere));
    // Nor does an old one bring it back.
    assert_eq!(two.take(&datagram, one.address).unwrap_err(), Dropped::Replayed);
    assert_eq!(endpoint(), Some(elsewhere));
}

#[test]
fn a_replaced_table_keeps_sessions_and_where_peers_have_roamed_to() {
    let (one, mut two) = pair();
    let elsewhere = SocketAddr::from(([198, 51, 100, 7], 4));
    let datagram = one.send(&packet(ONE, TWO)).unwrap();
    two.take(&datagram, elsewhere).unwrap();
    let same = wanted(&one, &["10.0.0.1/32", "10.1.0.0/16"], false);
    two.set(std::slice::from_ref(&same));
    let statistics = two.peers.iter().next().unwrap().statistics();
    assert_eq!(statistics.endpoint, Some(elsewhere));
    let datagram = two.send(&packet(TWO, ONE)).unwrap();
    assert_eq!(one.take(&datagram, two.address).unwrap().packets.len(), 1);
    // Unless it is said to be elsewhere now.
    two.set(&[Wanted { endpoint: Some(one.address), ..same }]);
    let statistics = two.peers.iter().next().unwrap().statistics();
    assert_eq!(statistics.endpoint, Some(one.address));
}

#[test]
fn a_network_moves_to_another_key_with_the_table() {
    let (one, mut two) = pair();
    let mut new = end(3);
    assert_eq!(new.set(&[wanted(&two, &["10.0.0.2/32"], true)]), []);
    two.set(&[wanted(&one, &["10.0.0.1/32"], false), wanted(&new, &[], false)]);
    // Its handshake is done before it has any network.
    let first = new.send(&packet(ONE, TWO)).unwrap();
    let back = two.take(&first, new.address).unwrap().back;
    for datagram in new.take(&back[0], two.address).unwrap().back {
        let taken = two.take(&datagram, new.address);
        assert!(matches!(taken, Ok(_) | Err(Dropped::NotAllowed)), "{taken:?}");
    }
    two.set(&[wanted(&one, &[], false), wanted(&new, &["10.0.0.1/32"], false)]);
    let datagram = two.send(&packet(TWO, ONE)).unwrap();
    assert_eq!(new.take(&datagram, two.address).unwrap().packets, [packet(TWO, ONE)]);
    let old = one.send(&packet(ONE, TWO)).unwrap();
    assert_eq!(two.take(&old, one.address).unwrap_err(), Dropped::NotAllowed);
}

#[test]
fn a_peer_that_is_not_heard_is_asked_for_a_handshake() {
    let (one, two) = pair();
    let peer = one.peers.iter().next().unwrap();
    let mut buffer = [0; ANSWER];
    let began = Instant::now();
    let mut tick = |after: u64| {
        let at = began + std::time::Duration::from_millis(after);
        peer.lock().tick(at, &mut buffer)
    };
    assert_eq!(tick(10_000), None, "nothing was sent");
    let datagram = one.send(&packet(ONE, TWO)).unwrap();
    assert_eq!(tick(1_500), None);
    assert_eq!(tick(2_500), Some(148));
    assert_eq!(tick(4_000), None);
    assert_eq!(tick(7_500), Some(148));
    two.take(&datagram, one.address).unwrap();
    let datagram = two.send(&packet(TWO, ONE)).unwrap();
    one.take(&datagram, two.address).unwrap();
    assert_eq!(tick(20_000), None, "it was heard");
}

#[test]
fn what_can_not_be_a_peer_is_said() {
    let (mut one, two, three) = (end(1), end(2), end(3));
    let own = Wanted { key: one.private.public(), ..wanted(&two, &[], false) };
    let weak = Wanted { key: PublicKey([0; 32]), ..wanted(&two, &[], false) };
    let key = |end: &End| end.private.public();
    let errors = one.set(&[
        own.clone(),
        weak,
        wanted(&two, &["10.0.0.2/32", "10.0.0.2/32"], false),
        wanted(&two, &[], false),
        wanted(&three, &["10.0.0.2/32", "10.0.0.3/32"], false),
    ]);
    assert_eq!(
        errors,
        [
            PeersError::NoPeer(own.key),
            PeersError::Weak(PublicKey([0; 32])),
            PeersError::NoPeer(key(&two)),
            PeersError::Taken {
                network: "10.0.0.2/32".parse().unwrap(),
                peer: key(&three),
                other: key(&two)
            },
        ]
    );
    assert_eq!(one.peers.to("10.0.0.3".parse().unwrap()).unwrap().key(), &key(&three));
    assert_eq!(one.send(&packet(ONE, TWO)), Err(Some(Dropped::NoEndpoint)));
}

#[test]
fn under_a_flood_an_address_has_to_be_proven_and_whoever_does_gets_through() {
    let (mut one, mut two) = (end(1), end(2));
    one.set(&[wanted(&two, &["10.0.0.2/32"], true)]);
    two.set(&[wanted(&one, &["10.0.0.1/32"], false)]);
    // Somebody who knows the key, from everywhere.
    let mut answers = 0;
    for number in 0..1000_u32 {
        let mut stranger = end(9);
        stranger.set(&[wanted(&two, &["10.0.0.2/32"], true)]);
        let initiation = stranger.send(&packet(ONE, TWO)).unwrap();
        let from = SocketAddr::from((Ipv4Addr::from_bits(0x0a00_0000 + number), 1));
        match two.take(&initiation, from) {
            Err(Dropped::UnknownPeer) => {}
            Ok(taken) => {
                assert_eq!(taken.back[0].len(), 64, "a cookie, less than was sent");
                answers += 1;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(answers, 1000 - HANDSHAKES);
    let initiation = one.send(&packet(ONE, TWO)).unwrap();
    let cookie = two.take(&initiation, one.address).unwrap().back;
    assert_eq!(cookie[0].len(), 64);
    let before = one.peers.iter().next().unwrap().statistics().endpoint;
    assert!(
        one.take(&cookie[0], SocketAddr::from(([198, 51, 100, 7], 4))).unwrap().back.is_empty()
    );
    // That was no sign of where it is.
    assert_eq!(one.peers.iter().next().unwrap().statistics().endpoint, before);
}

#[test]
fn one_address_can_not_keep_it_busy() {
    let (mut two, stranger_of) = (end(2), |two: &End| {
        let mut stranger = end(9);
        stranger.set(&[wanted(two, &["10.0.0.2/32"], true)]);
        stranger
    });
    two.set(&[]);
    let limited = (0..100).filter(|_| {
        let stranger = stranger_of(&two);
        let initiation = stranger.send(&packet(ONE, TWO)).unwrap();
        two.take(&initiation, stranger.address).unwrap_err() == Dropped::Limited
    });
    assert!(limited.count() >= 60);
}

#[test]
fn junk_is_nobodys() {
    let (_, two) = pair();
    let from = SocketAddr::from(([198, 51, 100, 7], 4));
    for junk in [&[][..], &[4], &[4, 0, 0, 0], &[0; 32], &[1; 148], &[4; 2000]] {
        assert_eq!(two.take(junk, from).unwrap_err(), Dropped::Malformed, "{junk:?}");
    }
    let mut data = [0; 64];
    data[0] = 4;
    assert_eq!(two.take(&data, from).unwrap_err(), Dropped::UnknownPeer);
    let mut initiation = [0; 148];
    initiation[0] = 1;
    assert_eq!(two.take(&initiation, from).unwrap_err(), Dropped::Unauthentic);
}
