//! What must hold for any input at all. The fuzz targets search for inputs that break it, and
//! `tests/corpus.rs` replays the inputs kept.

#![allow(dead_code)] // reason: each fuzz target includes this file and calls one of its checks

use ipsec::crypto::rng::SeededRng;
use ipsec::esp::{IPV4, Inbound, Opened, Outbound};
use ipsec::ike::identity::Identity;
use ipsec::ike::message::{
    Datagram, Message, Payload, accept, choose, describe, encode_payloads, offer, read,
    read_payloads,
};
use ipsec::sa::{EspKeys, EspSuite, Spi};
use model::suite::{
    Encryption, Integrity, Proposal, Purpose, default_esp, default_ike, parse_list,
};

/// A datagram, as it is and with its length put right; and the same octets as what was in SK. The
/// first one is the type of the first payload there.
pub(crate) fn message(data: &[u8]) {
    datagram(data);
    let mut whole = data.to_vec();
    if let (Some(field), Ok(length)) = (whole.get_mut(24..28), u32::try_from(data.len())) {
        field.copy_from_slice(&length.to_be_bytes());
        datagram(&whole);
    }
    if let Some((first, octets)) = data.split_first()
        && let Ok(read) = read_payloads(*first, octets)
    {
        payloads(&read);
    }
}

fn datagram(data: &[u8]) {
    match read(data) {
        Ok(Datagram::Clear(message)) => {
            payloads(&message.payloads);
            let again = message.encode();
            assert!(again.len() <= data.len(), "nothing is added");
            if let Some(plain) = written(&message.payloads) {
                let header = message.header;
                assert_eq!(read(&again), Ok(Datagram::Clear(Message { header, payloads: plain })));
            }
        }
        Ok(
            Datagram::Encrypted { associated, sealed, .. }
            | Datagram::Fragment { associated, sealed, .. },
        ) => assert_eq!([associated, sealed].concat(), data, "nothing is lost"),
        Err(_) => {}
    }
}

/// What was read is written and read again; proposals in it are chosen from.
fn payloads(all: &[Payload]) {
    let (first, octets) = encode_payloads(all);
    if let Some(plain) = written(all) {
        assert_eq!(read_payloads(first, &octets), Ok(plain));
    }
    for payload in all {
        let Payload::Sa(theirs) = payload else { continue };
        assert!(describe(theirs).chars().count() < 64 * 1024);
        for (ours, purpose) in [(default_ike(), Purpose::Ike), (default_esp(), Purpose::Esp)] {
            let Some(chosen) = choose(&ours, purpose, theirs, None) else { continue };
            one_of_each(&chosen.suite, purpose);
            assert!(theirs.iter().any(|one| one.number == chosen.wire.number));
        }
    }
}

/// What is expected when payloads are written and read again: attributes that we don't know are
/// not written, and lists of no selectors that we know are not read.
fn written(payloads: &[Payload]) -> Option<Vec<Payload>> {
    let mut all = payloads.to_vec();
    for payload in &mut all {
        match payload {
            Payload::TsInitiator(all) | Payload::TsResponder(all) if all.is_empty() => return None,
            Payload::Sa(proposals) => {
                let transforms = proposals.iter_mut().flat_map(|one| &mut one.transforms);
                transforms.for_each(|one| one.unknown_attribute = false);
            }
            _ => {}
        }
    }
    Some(all)
}

fn one_of_each(suite: &Proposal, purpose: Purpose) {
    assert_eq!(suite.encryption.len(), 1);
    let aead = suite.encryption.iter().all(|one| one.is_aead());
    assert_eq!(suite.integrity.len(), usize::from(!aead));
    assert_eq!(suite.prf.len(), usize::from(purpose == Purpose::Ike));
    assert_eq!(suite.esn.len(), usize::from(purpose == Purpose::Esp));
    assert!(suite.groups.len() <= 1 && (purpose == Purpose::Esp || suite.groups.len() == 1));
    assert!(suite.additional.iter().all(|choice| choice.len() <= 1));
}

/// The notation of proposals: what is read is shown and read again; it can be agreed on with
/// itself.
pub(crate) fn proposal(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for purpose in [Purpose::Ike, Purpose::Esp] {
        let Ok(proposals) = parse_list(text, purpose, true) else { continue };
        for proposal in &proposals {
            let shown = proposal.to_string();
            assert_eq!(Proposal::parse(&shown, purpose, true).as_ref(), Ok(proposal), "{shown}");
        }
        let sent = offer(&proposals, purpose, &[1, 2, 3, 4]);
        assert!(!describe(&sent).is_empty());
        if let Some(chosen) = choose(&proposals, purpose, &sent, None) {
            one_of_each(&chosen.suite, purpose);
            assert_eq!(accept(&proposals, purpose, &chosen.answer(&[5; 4])), Some(chosen.suite));
        } else {
            // Only if a key exchange would have to be done twice.
            assert!(proposals.iter().all(|one| !one.additional.is_empty()));
        }
    }
}

/// An identity as people write it, and one from the wire (the first octet is its kind).
pub(crate) fn identity(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(identity) = Identity::parse(text)
    {
        shown(&identity);
    }
    if let Some((kind, data)) = data.split_first() {
        shown(&Identity { kind: *kind, data: data.to_vec() });
        shown(&Identity { kind: Identity::DN, data: data.to_vec() });
    }
}

fn shown(identity: &Identity) {
    let text = identity.to_string();
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!(identity.is(identity));
    if !text.starts_with("type") && !identity.data.is_empty() {
        let again = Identity::parse(&text).expect("what is shown can be read");
        assert!(again.is(identity), "{text:?}");
    }
}

/// An ESP packet: nothing that we didn't seal opens, and what we did opens to the same.
pub(crate) fn esp(data: &[u8]) {
    for (encryption, integrity, esn) in [
        (Encryption::Aes128Gcm16, None, true),
        (Encryption::ChaCha20Poly1305, None, false),
        (Encryption::Aes256Cbc, Some(Integrity::HmacSha256), true),
        (Encryption::TripleDesCbc, Some(Integrity::HmacSha1), false),
    ] {
        let keys = EspKeys {
            encryption: (1..).take(encryption.key_len()).collect(),
            salt: vec![9; encryption.salt_len()],
            integrity: vec![7; integrity.map_or(0, Integrity::key_len)],
        };
        let suite = EspSuite { encryption, integrity, esn };
        let spi = Spi::new(0x1234_5678).expect("invariant: above 255");
        let inbound = Inbound::new(suite, &keys, spi, 1024).expect("the keys fit");
        let mut replay = inbound.replay();
        assert!(inbound.open(&mut replay, &mut data.to_vec()).is_err());
        let ours = [&0x1234_5678_u32.to_be_bytes(), data].concat();
        assert!(inbound.open(&mut replay, &mut ours.clone()).is_err());
        assert_eq!(replay.top(), 0, "no window moves");

        let outbound =
            Outbound::new(suite, &keys, spi, &mut SeededRng::new(1)).expect("the keys fit");
        let sequence = outbound.reserve(1).expect("a fresh SA has numbers left");
        // Not an IP packet, so its length says nothing.
        let mut packet = Vec::new();
        outbound.seal(sequence, 200, &[data], &mut packet);
        assert_eq!(packet.len(), outbound.sealed_len(data.len()));
        assert!(outbound.largest_inner(packet.len()) >= data.len());
        let opened = inbound.open(&mut replay, &mut packet).expect("what is sealed opens");
        assert_eq!(opened, Opened::Packet { inner: &mut data.to_vec(), next_header: 200 });

        // The same as IPv4: whatever it is, it isn't longer than what went in.
        let sequence = outbound.reserve(1).expect("a fresh SA has numbers left");
        let mut packet = Vec::new();
        outbound.seal(sequence, IPV4, &[data], &mut packet);
        if let Ok(Opened::Packet { inner, .. }) = inbound.open(&mut replay, &mut packet) {
            assert!(data.starts_with(inner));
        }
    }
}
