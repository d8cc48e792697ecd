//! What holds for any message, and for messages with faults.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::selector::TrafficSelector;

fn octets(length: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), length)
}

fn any_transform() -> impl Strategy<Value = Transform> {
    (any::<u8>(), any::<u16>(), any::<Option<u16>>()).prop_map(|(kind, id, key_bits)| Transform {
        kind,
        id,
        key_bits,
        unknown_attribute: false,
    })
}

fn any_sa() -> impl Strategy<Value = Payload> {
    let spi = prop_oneof![
        Just((1, vec![])),
        octets(8..9).prop_map(|spi| (1, spi)),
        octets(4..5).prop_map(|spi| (3, spi)),
        octets(0..20).prop_map(|spi| (200, spi)),
    ];
    vec((spi, vec(any_transform(), 0..8)), 1..6).prop_map(|proposals| {
        let numbered = (1..).zip(proposals);
        let proposals = numbered.map(|(number, ((protocol, spi), transforms))| WireProposal {
            number,
            protocol,
            spi,
            transforms,
        });
        Payload::Sa(proposals.collect())
    })
}

fn any_identity() -> impl Strategy<Value = Identity> {
    prop_oneof![
        any::<Ipv4Addr>().prop_map(|address| Identity::from(std::net::IpAddr::from(address))),
        any::<Ipv6Addr>().prop_map(|address| Identity::from(std::net::IpAddr::from(address))),
        (prop::sample::select(vec![2u8, 3, 9, 11]), octets(0..40))
            .prop_map(|(kind, data)| Identity { kind, data }),
    ]
}

fn any_selector() -> impl Strategy<Value = TrafficSelector> {
    let addresses = prop_oneof![
        (any::<Ipv4Addr>(), any::<Ipv4Addr>())
            .prop_map(|(a, b)| (a.min(b).into(), a.max(b).into())),
        (any::<Ipv6Addr>(), any::<Ipv6Addr>())
            .prop_map(|(a, b)| (a.min(b).into(), a.max(b).into())),
    ];
    let ports = prop_oneof![
        Just((u16::MAX, 0)),
        any::<(u16, u16)>().prop_map(|(a, b)| (a.min(b), a.max(b))),
    ];
    (any::<u8>(), ports, addresses).prop_map(
        |(protocol, (first_port, last_port), (first, last))| TrafficSelector {
            protocol,
            first_port,
            last_port,
            first,
            last,
        },
    )
}

fn any_notify() -> impl Strategy<Value = Notify> {
    let spi = prop_oneof![
        any::<u8>().prop_map(|protocol| (protocol, vec![])),
        octets(8..9).prop_map(|spi| (1, spi)),
        octets(4..5).prop_map(|spi| (3, spi)),
    ];
    (spi, any::<u16>(), octets(0..60)).prop_map(|((protocol, spi), kind, data)| Notify {
        protocol,
        kind,
        spi,
        data,
    })
}

fn any_payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        any_sa(),
        (any::<u16>(), octets(1..80))
            .prop_map(|(group, data)| Payload::KeyExchange { group, data }),
        any_identity().prop_map(Payload::IdInitiator),
        any_identity().prop_map(Payload::IdResponder),
        (any::<u8>(), octets(0..80))
            .prop_map(|(encoding, data)| Payload::Certificate(encoding, data)),
        (any::<u8>(), octets(0..80))
            .prop_map(|(encoding, data)| Payload::CertificateRequest(encoding, data)),
        (any::<u8>(), octets(0..80)).prop_map(|(method, data)| Payload::Auth(method, data)),
        octets(16..257).prop_map(Payload::Nonce),
        any_notify().prop_map(Payload::Notify),
        Just(Payload::Delete { protocol: 1, spis: vec![] }),
        (2u8..=3, vec(any::<u32>(), 0..9))
            .prop_map(|(protocol, spis)| Payload::Delete { protocol, spis }),
        octets(0..40).prop_map(Payload::VendorId),
        vec(any_selector(), 1..9).prop_map(Payload::TsInitiator),
        vec(any_selector(), 1..9).prop_map(Payload::TsResponder),
        (prop_oneof![1u8..33, 47u8..53, 54u8..=255], octets(0..40))
            .prop_map(|(kind, data)| Payload::Other(kind, data)),
    ]
}

fn any_header() -> impl Strategy<Value = Header> {
    let exchange = prop::sample::select(vec![34u8, 35, 36, 37, 43, 44]);
    let flags = any::<(bool, bool)>();
    (1u64.., any::<u64>(), exchange, flags, any::<u32>()).prop_map(
        |(initiator_spi, responder_spi, exchange, (from_initiator, response), message_id)| Header {
            initiator_spi,
            responder_spi,
            exchange: Exchange::from_number(exchange).unwrap(),
            from_initiator,
            response,
            message_id,
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(header in any_header(), payloads in vec(any_payload(), 0..8)) {
        let message = Message { header, payloads };
        let octets = message.encode();
        prop_assert_eq!(read(&octets), Ok(Datagram::Clear(message.clone())));
        let (first, inside) = encode_payloads(&message.payloads);
        prop_assert_eq!(read_payloads(first, &inside), Ok(message.payloads));
    }

    #[test]
    fn sealed_messages_are_taken_apart_as_they_were_built(
        header in any_header(), inner in any::<u8>(), numbers in any::<(u16, u16)>(),
        sealed in octets(0..100),
    ) {
        let mut octets = sk_header(&header, inner, sealed.len());
        let head = octets.len();
        octets.extend_from_slice(&sealed);
        let expected = Datagram::Encrypted {
            header, inner, associated: &octets[..head], sealed: &sealed,
        };
        prop_assert_eq!(read(&octets), Ok(expected));

        let (number, total) = (numbers.0.min(numbers.1).max(1), numbers.0.max(numbers.1).max(1));
        let mut octets = skf_header(&header, inner, number, total, sealed.len());
        let head = octets.len();
        octets.extend_from_slice(&sealed);
        let inner = if number == 1 { inner } else { 0 };
        let expected = Datagram::Fragment {
            header, inner, number, total, associated: &octets[..head], sealed: &sealed,
        };
        prop_assert_eq!(read(&octets), Ok(expected));
    }

    #[test]
    fn no_octets_make_it_panic(first in any::<u8>(), octets in octets(0..200)) {
        let _ = (read(&octets), read_payloads(first, &octets));
        let known = 33 + first % 13;
        let length = u8::try_from(octets.len() + 4).unwrap();
        let framed = [&[0, 0, 0, length], octets.as_slice()].concat();
        if let Ok(payloads) = read_payloads(known, &framed) {
            // Written anew it is the same, but for selectors and attributes that we don't know.
            let (first, again) = encode_payloads(&payloads);
            let _ = read_payloads(first, &again);
        }
    }
}

#[test]
fn no_message_that_is_cut_short_is_read() {
    let message = message(everything()).encode();
    let (first, inside) = encode_payloads(&everything());
    for length in 0..message.len() {
        let mut cut = message[..length].to_vec();
        assert!(read(&cut).is_err(), "{length}");
        if length >= 28 {
            // The header agrees, the payloads don't.
            cut[24..28].copy_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
            assert!(read(&cut).is_err(), "{length}");
        }
    }
    for length in 0..inside.len() {
        assert!(read_payloads(first, &inside[..length]).is_err(), "{length}");
    }
}

#[test]
fn no_changed_octet_makes_it_panic() {
    let message = message(everything()).encode();
    for index in 0..message.len() {
        for change in [1, 2, 4, 8, 16, 32, 64, 128, 0xff, 0x7f] {
            let mut changed = message.clone();
            changed[index] ^= change;
            if let Ok(Datagram::Clear(read_one)) = read(&changed) {
                let again = read_one.encode();
                assert!(again.len() <= changed.len());
            }
        }
    }
}
