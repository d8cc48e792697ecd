use super::*;
use crate::netlink::message::Attributes;

fn networks(count: u32) -> Vec<IpNet> {
    let net = |number: u32| format!("10.{}.{}.0/24", number >> 8, number & 0xff).parse().unwrap();
    (0..count).map(net).collect()
}

/// Reads back what was written: the kernel's answers have the same form.
fn read(messages: &[Vec<u8>]) -> Device {
    let mut device = Device::default();
    for message in messages {
        message::read(message, &mut device);
    }
    device
}

#[test]
fn the_family_is_asked_for_by_name() {
    let expected = [&[3, 1, 0, 0, 14, 0, 2, 0][..], b"wireguard\0\0\0"].concat();
    assert_eq!(family_request(), expected);
}

#[test]
fn a_change_is_written_as_wg_writes_it() {
    let change = Change {
        key: Some(Zeroizing::new([7; 32])),
        port: Some(51_820),
        mark: None,
        peers: vec![PeerChange {
            endpoint: Some("192.0.2.1:51821".parse().unwrap()),
            keepalive: Some(25),
            allowed: vec!["10.1.0.0/16".parse().unwrap()],
            replace_allowed: true,
            ..PeerChange::new([9; 32])
        }],
    };
    let messages = message::changes(SET_DEVICE, "wg0", &change);
    let mut expected = vec![1, 1, 0, 0];
    expected.extend_from_slice(&[8, 0, 2, 0, b'w', b'g', b'0', 0]);
    expected.extend_from_slice(&[36, 0, 3, 0]);
    expected.extend_from_slice(&[7; 32]);
    expected.extend_from_slice(&[6, 0, 6, 0, 0x6c, 0xca, 0, 0]);
    // Peers, a peer, its key.
    expected.extend_from_slice(&[112, 0, 8, 0x80, 108, 0, 0, 0x80, 36, 0, 1, 0]);
    expected.extend_from_slice(&[9; 32]);
    // Flags, endpoint, keepalive.
    expected.extend_from_slice(&[8, 0, 3, 0, 2, 0, 0, 0]);
    expected.extend_from_slice(&[20, 0, 4, 0, 2, 0, 0xca, 0x6d, 192, 0, 2, 1]);
    expected.extend_from_slice(&[0; 8]);
    expected.extend_from_slice(&[6, 0, 5, 0, 25, 0, 0, 0]);
    // Networks, a network: family, address, length.
    expected.extend_from_slice(&[32, 0, 9, 0x80, 28, 0, 0, 0x80]);
    expected.extend_from_slice(&[6, 0, 1, 0, 2, 0, 0, 0]);
    expected.extend_from_slice(&[8, 0, 2, 0, 10, 1, 0, 0]);
    expected.extend_from_slice(&[5, 0, 3, 0, 16, 0, 0, 0]);
    assert_eq!(messages, [expected]);
}

#[test]
fn a_long_list_is_spread_over_messages_and_read_together_again() {
    let peers: Vec<PeerChange> = (0..50_u8)
        .map(|number| PeerChange {
            allowed: networks(if number == 3 { 3000 } else { u32::from(number) }),
            endpoint: Some(format!("[2001:db8::{number}]:51820").parse().unwrap()),
            keepalive: Some(u16::from(number)),
            replace_allowed: true,
            ..PeerChange::new([number; 32])
        })
        .collect();
    let change = Change { mark: Some(0x70), peers: peers.clone(), ..Change::default() };
    let messages = message::changes(SET_DEVICE, "tidegate-wg", &change);
    assert!(messages.len() > 3, "{}", messages.len());
    for message in &messages {
        assert!(message.len() < 40_000, "{}", message.len());
    }
    let device = read(&messages);
    assert_eq!(device.mark, 0x70);
    assert_eq!(device.peers.len(), peers.len());
    for (read, written) in device.peers.iter().zip(&peers) {
        assert_eq!(read.key, written.key);
        assert_eq!(read.allowed, written.allowed);
        assert_eq!((read.endpoint, Some(read.keepalive)), (written.endpoint, written.keepalive));
    }
    // Networks are replaced with the first part of a peer alone.
    let mut replaced = 0;
    for message in &messages {
        for (_, peers) in Attributes::new(&message[4..]).filter(|(kind, _)| *kind == 8) {
            for (_, peer) in Attributes::new(peers) {
                replaced += Attributes::new(peer).filter(|(kind, _)| *kind == 3).count();
            }
        }
    }
    assert_eq!(replaced, peers.len());
}

#[test]
fn a_peer_that_goes_has_a_key_and_a_flag() {
    let gone = PeerChange { remove: true, allowed: networks(3), ..PeerChange::new([1; 32]) };
    let change = Change { peers: vec![gone], ..Change::default() };
    let messages = message::changes(SET_DEVICE, "wg0", &change);
    let tail =
        [&[52, 0, 8, 0x80, 48, 0, 0, 0x80, 36, 0, 1, 0][..], &[1; 32], &[8, 0, 3, 0, 1, 0, 0, 0]];
    assert!(messages[0].ends_with(&tail.concat()));
}

#[test]
fn what_a_peer_has_done_is_read() {
    let mut peer = Vec::new();
    push_attribute(&mut peer, 1, &[5; 32]);
    push_attribute(&mut peer, 6, &[100_u64.to_ne_bytes(), 7_u64.to_ne_bytes()].concat());
    push_attribute(&mut peer, 7, &1000_u64.to_ne_bytes());
    push_attribute(&mut peer, 8, &2000_u64.to_ne_bytes());
    let mut message = vec![0, 1, 0, 0];
    let (mut one, mut all) = (Vec::new(), Vec::new());
    push_attribute(&mut one, 0, &peer);
    all.extend(one);
    push_attribute(&mut message, 8, &all);
    let device = read(&[message]);
    let found = &device.peers[0];
    assert_eq!((found.received, found.sent), (1000, 2000));
    assert_eq!(found.last_handshake, Some(Duration::new(100, 7)));
    // A message that is cut off says what it has.
    assert_eq!(read(&[vec![0, 1]]), Device::default());
}
