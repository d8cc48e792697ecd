#![allow(clippy::unwrap_used)] // reason: a test fails by panicking

use proptest::prelude::*;
use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue};

use super::*;

fn read(text: &str) -> Identity {
    Identity::parse(text).unwrap()
}

#[test]
fn what_people_write_is_read() {
    for (text, kind, data) in [
        ("192.0.2.1", 1, b"\xc0\x00\x02\x01".as_slice()),
        ("2001:db8::1", 5, b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"),
        ("hq.example.net", 2, b"hq.example.net"),
        ("@hq.example.net", 2, b"hq.example.net"),
        ("@192.0.2.1", 2, b"192.0.2.1"),
        ("fqdn:192.0.2.1", 2, b"192.0.2.1"),
        ("user@example.net", 3, b"user@example.net"),
        ("@@user@example.net", 3, b"user@example.net"),
        ("email:user", 3, b"user"),
        ("keyid:0a1B", 11, b"0a1B"),
        ("keyid:#0a1B", 11, b"\x0a\x1b"),
        ("ipv4:192.0.2.1", 1, b"\xc0\x00\x02\x01"),
        ("DNS: hq", 2, b"hq"),
        ("keyid:0x0a:1b", 11, b"\x0a\x1b"),
        ("keyid:peer one", 11, b"peer one"),
        ("@#0a1b", 11, b"\x0a\x1b"),
    ] {
        assert_eq!(read(text), Identity { kind, data: data.to_vec() }, "{text}");
    }
}

#[test]
fn anyone_is_nobody() {
    assert_eq!(Identity::parse_or_any("%any"), Ok(None));
    assert!(Identity::parse("%any").is_err());
    assert_eq!(Identity::parse_or_any("hq"), Ok(Some(read("hq"))));
}

#[test]
fn what_names_nobody_is_refused() {
    for text in [
        "",
        " ",
        "@",
        "@#",
        "@#0",
        "@#xy",
        "keyid:",
        "keyid:0xzz",
        "keyid:#",
        "ipv4:hq",
        "ipv6:192.0.2.1",
        "fqdn:",
        "CN=",
        "=x",
        "CN=a,",
        "CN=a, b",
        "dn:a",
        "XX=1",
        "CN=\"a",
        "CN=a\\",
        "1.2=a",
        "3.1.1=a",
        "CN=\\ff",
    ] {
        assert!(Identity::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_distinguished_name_is_der() {
    let name = read("C=DE, CN=hq");
    let expected = b"\x30\x1a\x31\x0b\x30\x09\x06\x03\x55\x04\x06\x13\x02DE\
                     \x31\x0b\x30\x09\x06\x03\x55\x04\x03\x13\x02hq";
    assert_eq!(name, Identity { kind: 9, data: expected.to_vec() });
    assert_eq!(name.to_string(), "C=DE, CN=hq");
    assert_eq!(read("/C=DE/CN=hq"), name);
    assert_eq!(read("c=DE,cn=hq"), name);
    assert_eq!(read("2.5.4.6=DE,2.5.4.3=hq"), name);
    assert_eq!(read("SN=7, S=Doe"), read("serialnumber=7, surname=Doe"));
}

#[test]
fn values_may_be_quoted_and_escaped() {
    let one = read(r#"O="Example, Inc.", CN=a\+b\=c"#);
    assert_eq!(one, read(r"O=Example\, Inc., CN=a\+b\=c"));
    assert_eq!(one, read(r"O=Example\2c Inc., CN=a+b\3dc"));
    assert_eq!(one.to_string(), r"O=Example\, Inc., CN=a\+b\=c");
    assert_eq!(read("CN=a+UID=b"), read("UID=b+CN=a"));
    assert_eq!(read("CN=a+UID=b").to_string(), "CN=a+UID=b");
    assert_eq!(read("1.2.3.4=x").to_string(), "1.2.3.4=x");
    let long = format!("CN={}", "x".repeat(300));
    assert_eq!(read(&long).to_string(), long);
}

#[test]
fn names_are_compared_as_they_are_meant() {
    assert!(read("HQ.example.net").is(&read("hq.Example.net")));
    assert!(!read("hq.example.net").is(&read("hq2.example.net")));
    assert!(!read("hq").is(&read("keyid:hq")));
    assert!(read("O=Example  Net, CN=HQ").is(&read("O=example net, CN=hq")));
    assert!(!read("O=Example, CN=hq").is(&read("CN=hq, O=Example")));
    assert!(!read("O=Example, CN=hq").is(&read("O=Example")));
    assert!(!read("CN=hq").is(&read("OU=hq")));
    // Another type of string.
    let utf8 = Identity {
        kind: 9,
        data: b"\x30\x0d\x31\x0b\x30\x09\x06\x03\x55\x04\x03\x0c\x02hq".into(),
    };
    let bmp = Identity {
        kind: 9,
        data: b"\x30\x0f\x31\x0d\x30\x0b\x06\x03\x55\x04\x03\x1e\x04\0h\0q".into(),
    };
    assert!(utf8.is(&read("CN=hq")) && bmp.is(&utf8));
    let broken = Identity { kind: 9, data: b"\x30\x0d\x31\x0b".into() };
    assert!(broken.is(&broken.clone()) && !broken.is(&utf8));
    assert_eq!(broken.to_string(), "type9:0x300d310b");
    // Something hides behind the attribute.
    let more = b"\x30\x0f\x31\x0d\x30\x0b\x06\x03\x55\x04\x03\x0c\x02hqxx";
    let more = Identity { kind: 9, data: more.to_vec() };
    assert!(!more.is(&utf8) && more.to_string().starts_with("type9:"));
}

#[test]
fn a_certificates_subject_is_the_name_that_is_written() {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CountryName, DnValue::PrintableString("DE".try_into().unwrap()));
    name.push(DnType::OrganizationName, "Example, Inc.");
    name.push(DnType::CommonName, "Zürich");
    params.distinguished_name = name;
    let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate.der()).unwrap();
    let subject = Identity { kind: 9, data: parsed.subject().as_raw().to_vec() };
    assert_eq!(subject.to_string(), r"C=DE, O=Example\, Inc., CN=Zürich");
    assert!(subject.is(&read(&subject.to_string())));
}

proptest! {
    #[test]
    fn what_is_shown_is_read_back(kind in prop::sample::select(vec![1u8, 2, 3, 5, 9, 11, 77]),
                                  data in prop::collection::vec(any::<u8>(), 0..40)) {
        let identity = Identity { kind, data };
        let text = identity.to_string();
        prop_assert!(!text.chars().any(char::is_control));
        if !text.starts_with("type") && !identity.data.is_empty() {
            prop_assert!(Identity::parse(&text).is_ok_and(|again| again.is(&identity)));
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[@%#:=,+\\\\\" a-zA-Z0-9ü./]{0,30}") {
        if let Ok(identity) = Identity::parse(&text) {
            let again = Identity::parse(&identity.to_string());
            prop_assert_eq!(again, Ok(identity));
        }
    }

    #[test]
    fn names_of_any_values_are_read_back(values in prop::collection::vec("\\PC{1,20}", 1..5)) {
        let mut text = String::from("dn:");
        for (index, value) in values.iter().enumerate() {
            let hex: String = value.bytes().map(|octet| format!("\\{octet:02x}")).collect();
            text.push_str(if index > 0 { ", " } else { "" });
            text.push_str(if index % 2 == 0 { "CN=" } else { "E=" });
            text.push_str(&hex);
        }
        let name = Identity::parse(&text).unwrap();
        let again = Identity::parse(&name.to_string());
        prop_assert_eq!(again.as_ref(), Ok(&name), "{}", name);
        prop_assert!(name.is(&name.clone()));
    }

    #[test]
    fn any_octets_are_shown(data in prop::collection::vec(any::<u8>(), 0..60)) {
        let one = Identity { kind: 9, data };
        let _ = (one.to_string(), one.is(&read("CN=x")));
    }
}

#[test]
fn nobody_writes_unseen_characters_into_logs() {
    for bad in ["a\nb", "a\u{202e}b", "a\u{2028}b", "a\u{200b}b", "a\u{feff}b", "\u{1b}[31m"] {
        for kind in [Identity::FQDN, Identity::EMAIL, Identity::KEY_ID] {
            let shown = Identity { kind, data: bad.into() }.to_string();
            assert!(shown.chars().all(|char| char.is_ascii_graphic()), "{shown:?}");
        }
        let name = Identity::parse("CN=x").unwrap();
        let mut data = name.data.clone();
        let octets = bad.len() as u8;
        // SEQUENCE, SET, SEQUENCE, and the string: their lengths, and its value.
        let at = data.len() - 2;
        data.truncate(at);
        data.push(octets);
        data.extend_from_slice(bad.as_bytes());
        for place in [1, 3, 5] {
            data[place] += octets - 1;
        }
        let shown = Identity { kind: Identity::DN, data }.to_string();
        assert!(!shown.contains(is_unseen), "{shown:?}");
        assert!(shown.starts_with("CN="), "{shown:?}");
    }
}
