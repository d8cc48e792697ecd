#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // reason: a test fails by panicking

use super::*;
use crate::ike::identity::Identity;

mod framing;
mod offers;
mod properties;

/// A header with an exchange's usual flags.
fn header(exchange: Exchange) -> Header {
    Header {
        initiator_spi: 0x01f8_c3d4_bb77_3f2f,
        responder_spi: 0,
        exchange,
        from_initiator: true,
        response: false,
        message_id: 0,
    }
}

fn message(payloads: Vec<Payload>) -> Message {
    Message { header: header(Exchange::SaInit), payloads }
}

fn transform(kind: u8, id: u16) -> Transform {
    Transform { kind, id, key_bits: None, unknown_attribute: false }
}

/// One of each payload.
fn everything() -> Vec<Payload> {
    let selector = |text: &str| crate::selector::TrafficSelector::network(text.parse().unwrap());
    let aes = Transform { key_bits: Some(128), ..transform(1, 12) };
    let ike = WireProposal {
        number: 1,
        protocol: 1,
        spi: vec![9; 8],
        transforms: vec![aes, transform(2, 5), transform(3, 12), transform(4, 31)],
    };
    let esp = WireProposal {
        number: 2,
        protocol: 3,
        spi: vec![1, 2, 3, 4],
        transforms: vec![transform(1, 28), transform(5, 1), transform(5, 0)],
    };
    vec![
        Payload::Sa(vec![ike, esp]),
        Payload::KeyExchange { group: 31, data: vec![7; 32] },
        Payload::IdInitiator(Identity::parse("edge.example.net").unwrap()),
        Payload::IdResponder(Identity::parse("192.0.2.1").unwrap()),
        Payload::Certificate(4, vec![0x30, 0]),
        Payload::CertificateRequest(4, vec![5; 20]),
        Payload::Auth(14, vec![6; 40]),
        Payload::Nonce(vec![8; 32]),
        Payload::Notify(Notify::new(notify::COOKIE, vec![1; 9])),
        Payload::Notify(Notify {
            protocol: 3,
            kind: notify::REKEY_SA,
            spi: vec![1, 2, 3, 4],
            data: vec![],
        }),
        Payload::Delete { protocol: 3, spis: vec![0x1234_5678, 0x9abc_def0] },
        Payload::Delete { protocol: 1, spis: vec![] },
        Payload::VendorId(b"tidegate".to_vec()),
        Payload::TsInitiator(vec![selector("10.0.0.0/8"), selector("2001:db8::/32")]),
        Payload::TsResponder(vec![selector("192.0.2.7/32")]),
        Payload::Other(47, vec![1, 0, 0, 0]),
        Payload::Other(200, vec![]),
    ]
}
