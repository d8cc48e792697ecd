//! What is read, and what is refused.

use super::*;

fn octets(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().filter_map(|char| char.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
}

/// A datagram of a header and payloads, the length put right.
fn datagram(first: u8, payloads: &str) -> Vec<u8> {
    let mut octets = octets(&format!(
        "01f8c3d4bb773f2f 0000000000000000 {first:02x} 20 22 08 00000000 00000000 {payloads}"
    ));
    let length = u32::try_from(octets.len()).unwrap();
    octets[24..28].copy_from_slice(&length.to_be_bytes());
    octets
}

fn clear(octets: &[u8]) -> Vec<Payload> {
    match read(octets) {
        Ok(Datagram::Clear(message)) => message.payloads,
        other => panic!("{other:?}"),
    }
}

fn malformed(octets: &[u8]) -> &'static str {
    match read(octets) {
        Err(DecodeError::Malformed(what)) => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_first_message_is_read() {
    let octets = datagram(
        33,
        "22000030 0000002c 01010004 0300000c 01000014800e0080 03000008 02000005
         03000008 0400001e 00000008 0400001f
         28000010 001f0000 0102030405060708
         29000014 000102030405060708090a0b0c0d0e0f
         2900000c 00004004 deadbeef
         00000008 0000402e",
    );
    let payloads = clear(&octets);
    let aes = Transform { key_bits: Some(128), ..transform(1, 20) };
    let transforms = vec![aes, transform(2, 5), transform(4, 30), transform(4, 31)];
    let proposal = WireProposal { number: 1, protocol: 1, spi: vec![], transforms };
    let expected = vec![
        Payload::Sa(vec![proposal]),
        Payload::KeyExchange { group: 31, data: (1..=8).collect() },
        Payload::Nonce((0..16).collect()),
        Payload::Notify(Notify::new(notify::NAT_DETECTION_SOURCE_IP, octets_of(0xdead_beef))),
        Payload::Notify(Notify::new(notify::IKEV2_FRAGMENTATION_SUPPORTED, vec![])),
    ];
    assert_eq!(payloads, expected);
    assert_eq!(message(expected).encode(), octets);
}

fn octets_of(number: u32) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

#[test]
fn every_payload_is_read_back() {
    let message = message(everything());
    assert_eq!(read(&message.encode()), Ok(Datagram::Clear(message.clone())));
    let (first, inside) = encode_payloads(&message.payloads);
    assert_eq!(read_payloads(first, &inside), Ok(message.payloads));
    assert_eq!(read_payloads(0, &[]), Ok(vec![]));
}

#[test]
fn every_flag_and_exchange_is_read_back() {
    for number in 0..=255 {
        let Some(exchange) = Exchange::from_number(number) else {
            let mut octets = message(vec![]).encode();
            octets[18] = number;
            assert_eq!(read(&octets), Err(DecodeError::Exchange(number)));
            continue;
        };
        for (from_initiator, response) in [(true, true), (true, false), (false, true)] {
            let header =
                Header { from_initiator, response, message_id: 77, ..super::header(exchange) };
            let message = Message { header, payloads: vec![] };
            assert_eq!(read(&message.encode()), Ok(Datagram::Clear(message)));
        }
    }
}

#[test]
fn other_versions_are_told_apart() {
    let mut octets = message(vec![Payload::Nonce(vec![0; 16])]).encode();
    octets[17] = 0x2f;
    assert!(read(&octets).is_ok());
    octets[17] = 0x10;
    assert_eq!(read(&octets), Err(DecodeError::Version(1, 0)));
    octets[17] = 0x31;
    assert_eq!(read(&octets), Err(DecodeError::Version(3, 1)));
}

#[test]
fn the_length_must_be_the_messages() {
    let octets = message(everything()).encode();
    for length in [0, 27, 28, octets.len() - 1, octets.len() + 1, usize::from(u16::MAX)] {
        let mut octets = octets.clone();
        octets[24..28].copy_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
        malformed(&octets);
    }
    let mut longer = octets.clone();
    longer.push(0);
    malformed(&longer);
    malformed(&octets_of(0));
    assert!(octets.len() < MAX_MESSAGE);
    malformed(&vec![0; MAX_MESSAGE + 1]);
    let mut none = octets;
    none[..8].fill(0);
    malformed(&none);
}

#[test]
fn unknown_payloads_are_kept_unless_critical() {
    assert_eq!(clear(&datagram(200, "00000006 0102")), [Payload::Other(200, vec![1, 2])]);
    assert_eq!(read(&datagram(200, "00800006 0102")), Err(DecodeError::Critical(200)));
    assert_eq!(read_payloads(1, &octets("00800004")), Err(DecodeError::Critical(1)));
    // The bit says nothing about types that RFC 7296 has.
    assert_eq!(clear(&datagram(48, "00800006 0102")), [Payload::Other(48, vec![1, 2])]);
    assert_eq!(clear(&datagram(43, "00800006 0102")), [Payload::VendorId(vec![1, 2])]);
}

#[test]
fn lengths_inside_are_checked() {
    for (first, payloads) in [
        (43, ""),                                                      // nothing there
        (43, "00000003"),                                              // shorter than its header
        (43, "00000005"),                                              // longer than the message
        (43, "00000004 00"),                                           // something after the last
        (43, "2b000004"),                                              // another is announced
        (34, "00000008 001f0000"),                                     // no public value
        (34, "00000006 001f"),                                         // cut short
        (35, "00000007 010000"),                                       // cut short
        (35, "0000000b 01000000 010203"),                              // three octets of an address
        (35, "0000000c 05000000 01020304"),                            // four of sixteen
        (37, "00000004"),                                              // no encoding
        (39, "00000007 0e0000"),                                       // cut short
        (40, "00000013 000000000000000000000000000000"),               // a nonce of 15
        (41, "00000007 000040"),                                       // cut short
        (41, "0000000a 0304 4009 0102"),                               // an SPI of two
        (41, "0000000b 0303 4009 010203"),                             // an SPI of three
        (42, "00000008 01000000 2a"),                                  // something follows
        (42, "0000000c 03040002 01020304"),                            // two are announced
        (42, "0000000c 03040000 01020304"),                            // none is announced
        (42, "00000010 03080001 0102030405060708"),                    // SPIs of eight
        (42, "0000000c 01000000 01020304"),                            // IKE SAs have none here
        (42, "00000008 09040000"),                                     // no protocol of ours
        (44, "00000008 00000000"),                                     // no selector
        (44, "00000018 02000000 07000010 0000ffff 01020304 01020305"), // one of two
        (44, "00000018 01000000 07000014 0000ffff 01020304 01020305"), // its length
        (44, "0000001c 01000000 07000014 0000ffff 01020304 01020305 00000000"),
        (44, "00000018 01000000 07000003 0000ffff 01020304 01020305"),
        (44, "00000018 01000000 07000010 0000ffff 01020305 01020304"), // reversed
        (44, "00000018 01000000 07000010 00020001 01020304 01020304"), // reversed ports
    ] {
        malformed(&datagram(first, payloads));
    }
    let mut long = vec![0, 0, 1, 5];
    long.resize(4 + 257, 1);
    assert!(read_payloads(40, &long).is_err());
    long.pop();
    long[3] = 4;
    assert!(read_payloads(40, &long).is_ok());
}

#[test]
fn proposals_are_checked() {
    let sa = |proposals: &str| {
        let content = octets(proposals);
        let length = u8::try_from(content.len() + 4).unwrap();
        read_payloads(33, &[&[0, 0, 0, length], content.as_slice()].concat())
    };
    assert!(sa("00000010 01010001 00000008 01000014").is_ok());
    // An answer keeps the number; several begin at 1.
    assert!(sa("00000010 07010001 00000008 01000014").is_ok());
    assert!(sa("02000010 01010001 00000008 01000014 00000010 02010001 00000008 01000014").is_ok());
    // An attribute that we don't know, of each format.
    for attribute in ["80010002", "00010002 aaaa", "800e0080 00010000"] {
        let length = 8 + attribute.replace(' ', "").len() / 2;
        let text =
            format!("000000{:02x} 01010001 000000{length:02x} 01000014 {attribute}", length + 8);
        match sa(&text).unwrap().as_slice() {
            [Payload::Sa(proposals)] => {
                assert!(proposals[0].transforms[0].unknown_attribute, "{attribute}");
            }
            other => panic!("{other:?}"),
        }
    }
    for wrong in [
        "",
        "00000010 00010001 00000008 01000014", // number 0
        "02000010 01010001 00000008 01000014", // another is announced
        "00000010 01010001 03000008 01000014", // another transform, too
        "00000010 01010001 00000007 01000014", // its length
        "00000010 01010001 00000009 01000014",
        "00000010 01010002 03000008 01000014", // two of one
        "00000010 01010000 00000008 01000014", // none of one
        "00000014 01010001 00000008 01000014 00000000", // a rest
        "00000014 01010401 01020304 00000008 01000014", // an SPI of four for IKE
        "00000010 01030001 00000008 01000014", // none for ESP
        "02000010 02010001 00000008 01000014 00000010 03010001 00000008 01000014",
        "02000010 01010001 00000008 01000014 00000010 03010001 00000008 01000014",
        "00000010 01010001 00000008 01000014 00000010 02010001 00000008 01000014",
        "00000014 01010001 0000000c 01000014 000e0080", // an attribute's length
        "00000018 01010001 00000010 01000014 800e0080 800e0100", // two key lengths
        "0000000f 01010001 00000008 010000",
    ] {
        assert!(matches!(sa(wrong), Err(DecodeError::Malformed(_))), "{wrong}");
    }
}

#[test]
fn selectors_of_unknown_types_are_left_out() {
    let payloads =
        octets("00000020 02000000 0a000008 61626364 07000010 0000ffff 01020304 01020304");
    match read_payloads(45, &payloads).unwrap().as_slice() {
        [Payload::TsResponder(selectors)] => {
            assert_eq!(selectors.len(), 1);
            assert_eq!(selectors[0].to_string(), "1.2.3.4/32");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn opaque_ports_are_read() {
    let payloads = octets("00000018 01000000 07110010 ffff0000 01020304 01020304");
    assert!(read_payloads(45, &payloads).is_ok());
}

#[test]
fn an_encrypted_message_is_taken_apart() {
    let header = Header { message_id: 1, ..header(Exchange::Auth) };
    let mut octets = sk_header(&header, 35, 40);
    assert_eq!(octets.len(), 32);
    octets.extend_from_slice(&[0xaa; 40]);
    let (associated, sealed) = octets.split_at(32);
    let expected = Datagram::Encrypted { header, inner: 35, associated, sealed };
    assert_eq!(read(&octets), Ok(expected));
    assert_eq!(read(&octets).unwrap().header(), &header);

    // Others before it are ignored; after it there is nothing.
    let mut before = datagram(43, "2e000005 01 23000006 0102");
    before[18] = 35;
    match read(&before).unwrap() {
        Datagram::Encrypted { inner: 35, associated, sealed: [1, 2], .. } => {
            assert_eq!(associated.len(), before.len() - 2);
        }
        other => panic!("{other:?}"),
    }
    malformed(&datagram(46, "23000006 0102 00000004"));
    malformed(&datagram(46, "2e000006 0102 2e000006 0102"));
    assert!(read_payloads(46, &[0, 0, 0, 5, 1]).is_err());
    assert!(read_payloads(53, &[0, 0, 0, 9, 0, 1, 0, 1, 1]).is_err());
}

#[test]
fn a_fragment_is_taken_apart() {
    let header = header(Exchange::Auth);
    for (number, inner) in [(1, 35), (2, 0)] {
        let mut octets = skf_header(&header, 35, number, 2, 9);
        octets.extend_from_slice(&[0xaa; 9]);
        let (associated, sealed) = octets.split_at(36);
        let expected = Datagram::Fragment { header, inner, number, total: 2, associated, sealed };
        assert_eq!(read(&octets), Ok(expected));
    }
    for numbers in ["0000 0001", "0002 0001", "0000 0000", "0001"] {
        let length = 4 + numbers.replace(' ', "").len() / 2;
        malformed(&datagram(53, &format!("230000{length:02x} {numbers}")));
    }
}

#[test]
fn more_payloads_than_any_message_has_are_refused() {
    let many = [43, 0, 0, 4].repeat(600);
    assert!(read_payloads(43, &many).is_err());
}

#[test]
fn what_is_too_long_to_be_written_is_not_read() {
    let message = message(vec![Payload::VendorId(vec![0; 70_000])]);
    assert!(read(&message.encode()).is_err());
    let (first, octets) = encode_payloads(&[Payload::VendorId(vec![0; 65_600])]);
    assert!(read_payloads(first, &octets).is_err());
}
