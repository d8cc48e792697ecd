//! Distinguished names (RFC 4514): `CN=hq, O=Example` to DER and back.

use std::fmt::Write as _;

use x509_parser::asn1_rs::{FromDer, Oid};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// More attributes than any name has.
const MAX_ATTRIBUTES: usize = 64;

/// Types of attributes by the names that people write, and their OIDs' DER. The first of several
/// names of one is written. `S` and `SN` are swanctl's; OpenSSL's mean something else.
const TYPES: [(&str, &[u8]); 28] = [
    ("CN", &[0x55, 4, 3]),
    ("S", &[0x55, 4, 4]),
    ("SURNAME", &[0x55, 4, 4]),
    ("serialNumber", &[0x55, 4, 5]),
    ("SN", &[0x55, 4, 5]),
    ("C", &[0x55, 4, 6]),
    ("L", &[0x55, 4, 7]),
    ("ST", &[0x55, 4, 8]),
    ("STREET", &[0x55, 4, 9]),
    ("O", &[0x55, 4, 10]),
    ("OU", &[0x55, 4, 11]),
    ("T", &[0x55, 4, 12]),
    ("title", &[0x55, 4, 12]),
    ("D", &[0x55, 4, 13]),
    ("postalAddress", &[0x55, 4, 16]),
    ("postalCode", &[0x55, 4, 17]),
    ("N", &[0x55, 4, 41]),
    ("G", &[0x55, 4, 42]),
    ("GN", &[0x55, 4, 42]),
    ("I", &[0x55, 4, 43]),
    ("ID", &[0x55, 4, 45]),
    ("dnQualifier", &[0x55, 4, 46]),
    ("pseudonym", &[0x55, 4, 65]),
    ("E", &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1]),
    ("emailAddress", &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1]),
    ("UN", &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 2]),
    ("UID", &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1]),
    ("DC", &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25]),
];

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTF8: u8 = 0x0c;
const PRINTABLE: u8 = 0x13;
const T61: u8 = 0x14;
const IA5: u8 = 0x16;
const UNIVERSAL: u8 = 0x1c;
const BMP: u8 = 0x1e;

/// The DER of a name, whose parts stand in the same order.
pub(super) fn write(text: &str) -> Result<Vec<u8>, String> {
    let wrong = |part: &str, what: &str| {
        Err(format!("{part:?} in {text:?} {what}; write CN=gateway, O=Example"))
    };
    let mut name = Vec::new();
    let parts = split(text);
    if parts.len() > MAX_ATTRIBUTES {
        return wrong(text, "has too many parts");
    }
    for part in parts {
        // Several attributes of one part (`CN=x+UID=y`) make a set, which DER sorts.
        let mut set = Vec::new();
        for attribute in &part {
            let Some((kind, value)) = attribute.split_once('=') else {
                return wrong(attribute, "has no `=`");
            };
            let Some(oid) = oid(kind.trim()) else {
                return wrong(kind.trim(), "is no attribute that is known");
            };
            let Some(value) = unescape(value.trim_start()) else {
                return wrong(value, "ends in the middle of an escape or a quotation");
            };
            if value.is_empty() {
                return wrong(attribute, "has no value");
            }
            let mut pair = tagged(OBJECT_IDENTIFIER, &oid);
            pair.extend(tagged(string_type(&oid, &value), value.as_bytes()));
            set.push(tagged(SEQUENCE, &pair));
        }
        set.sort();
        name.extend(tagged(SET, &set.concat()));
    }
    Ok(tagged(SEQUENCE, &name))
}

/// A name as people write it; none if it isn't one or has values that are no text.
pub(super) fn text(der: &[u8]) -> Option<String> {
    let name = read(der)?;
    let mut text = String::new();
    for (index, part) in name.iter().enumerate() {
        text.push_str(if index > 0 { ", " } else { "" });
        for (index, attribute) in part.iter().enumerate() {
            text.push_str(if index > 0 { "+" } else { "" });
            let oid = attribute.attr_type().as_bytes();
            match TYPES.iter().find(|(_, known)| *known == oid) {
                Some((word, _)) => text.push_str(word),
                None => {
                    let numbers = attribute.attr_type().to_id_string();
                    self::oid(&numbers).filter(|again| again == oid)?;
                    text.push_str(&numbers);
                }
            }
            text.push('=');
            escape(&value(attribute).filter(|value| !value.is_empty())?, &mut text);
        }
    }
    Some(text)
}

/// Whether two names have the same attributes with the same values in the same order. Their
/// strings' types, case and runs of white space don't matter (RFC 5280, 7.1).
pub(super) fn same(one: &[u8], other: &[u8]) -> bool {
    let (Some(one), Some(other)) = (read(one), read(other)) else { return false };
    let plain = |name: X509Name<'_>| -> Vec<Vec<_>> {
        let part = |part: &x509_parser::x509::RelativeDistinguishedName<'_>| {
            let mut set: Vec<_> = part.iter().map(attribute).collect();
            set.sort();
            set
        };
        name.iter().map(part).collect()
    };
    plain(one) == plain(other)
}

/// An attribute's OID and its value, made comparable.
fn attribute(attribute: &AttributeTypeAndValue<'_>) -> (Vec<u8>, u32, Vec<u8>) {
    let oid = attribute.attr_type().as_bytes().to_vec();
    match value(attribute) {
        Some(text) => {
            let words: Vec<_> = text.split_whitespace().map(str::to_lowercase).collect();
            (oid, u32::from(UTF8), words.join(" ").into_bytes())
        }
        None => (oid, attribute.attr_value().tag().0, attribute.as_slice().to_vec()),
    }
}

/// Reads all of it, and nothing besides: written again it is the same, so that nothing hides in
/// between.
fn read(der: &[u8]) -> Option<X509Name<'_>> {
    let (_, name) = X509Name::from_der(der).ok()?;
    let count: usize = name.iter().map(|part| part.iter().count()).sum();
    if count == 0 || count > MAX_ATTRIBUTES {
        return None;
    }
    let mut again = Vec::new();
    for part in name.iter() {
        let mut set = Vec::new();
        for attribute in part.iter() {
            let mut pair = tagged(OBJECT_IDENTIFIER, attribute.attr_type().as_bytes());
            let tag = u8::try_from(attribute.attr_value().tag().0).ok()?;
            pair.extend(tagged(tag, attribute.as_slice()));
            set.extend(tagged(SEQUENCE, &pair));
        }
        again.extend(tagged(SET, &set));
    }
    (tagged(SEQUENCE, &again) == der).then_some(name)
}

/// An attribute's text.
fn value(attribute: &AttributeTypeAndValue<'_>) -> Option<String> {
    let octets = attribute.as_slice();
    let tag = u8::try_from(attribute.attr_value().tag().0).ok()?;
    match tag {
        // Of T61 only what is ASCII is surely meant.
        T61 if !octets.is_ascii() => None,
        UTF8 | PRINTABLE | IA5 | T61 | 0x12 => {
            std::str::from_utf8(octets).ok().map(ToOwned::to_owned)
        }
        BMP => {
            let units = octets.chunks_exact(2);
            let whole = units.remainder().is_empty();
            let units = units.filter_map(|unit| unit.try_into().ok().map(u16::from_be_bytes));
            String::from_utf16(&units.collect::<Vec<_>>()).ok().filter(|_| whole)
        }
        UNIVERSAL => {
            let units = octets.chunks_exact(4);
            let whole = units.remainder().is_empty();
            let units = units
                .map(|unit| unit.try_into().ok().map(u32::from_be_bytes).and_then(char::from_u32));
            units.collect::<Option<String>>().filter(|_| whole)
        }
        _ => None,
    }
}

/// DER: a tag, the length, the content.
fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let zeros = length.iter().take_while(|octet| **octet == 0).count();
    let digits = length.get(zeros..).unwrap_or_default();
    let mut der = vec![tag];
    match (content.len(), u8::try_from(digits.len())) {
        (..0x80, _) => der.push(digits.first().copied().unwrap_or(0)),
        (_, count) => {
            der.push(0x80 | count.unwrap_or(0));
            der.extend_from_slice(digits);
        }
    }
    der.extend_from_slice(content);
    der
}

/// As most certificates have it: IA5 for mail addresses and domain components, printable strings
/// where they will do, or UTF-8.
fn string_type(oid: &[u8], value: &str) -> u8 {
    let is_ia5 = TYPES.iter().any(|(word, known)| *known == oid && matches!(*word, "E" | "DC"));
    let is_printable = |char: char| char.is_ascii_alphanumeric() || " '()+,-./:=?".contains(char);
    match value {
        value if is_ia5 && value.is_ascii() => IA5,
        value if value.chars().all(is_printable) => PRINTABLE,
        _ => UTF8,
    }
}

/// The DER content of an attribute type's OID: a name, or numbers with dots.
fn oid(word: &str) -> Option<Vec<u8>> {
    if let Some((_, oid)) = TYPES.iter().find(|(known, _)| known.eq_ignore_ascii_case(word)) {
        return Some(oid.to_vec());
    }
    let arcs: Vec<u64> = word.split('.').map(|arc| arc.parse().ok()).collect::<Option<_>>()?;
    let valid = match arcs.as_slice() {
        [0 | 1, second, _, ..] => *second < 40,
        // Two arcs share the first number, which has to fit.
        [2, second, _, ..] => *second < u64::MAX - 80,
        _ => false,
    };
    let oid = valid.then(|| Oid::from(&arcs).ok()).flatten()?;
    Some(oid.as_bytes().to_vec())
}

/// Parts at commas (or slashes, if it begins with one, as OpenSSL writes names), and their
/// attributes at plus signs, where none is quoted or escaped.
fn split(text: &str) -> Vec<Vec<&str>> {
    let (text, comma) = match text.strip_prefix('/') {
        Some(rest) => (rest, '/'),
        None => (text, ','),
    };
    let mut parts = vec![Vec::new()];
    let (mut start, mut quoted, mut escaped) = (0, false, false);
    let ends = text.char_indices().chain([(text.len(), comma)]);
    for (index, char) in ends {
        let at_end = index == text.len();
        if escaped && !at_end {
            escaped = false;
            continue;
        }
        match char {
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            '+' if !quoted => {
                // A plus sign only parts attributes if one follows.
                let follows = text.get(index + 1..).unwrap_or_default();
                let kind = follows.split(['=', ',', '+']).next().unwrap_or_default();
                if follows.contains('=') && oid(kind.trim()).is_some() {
                    if let Some(part) = parts.last_mut() {
                        part.push(text.get(start..index).unwrap_or_default().trim_start());
                    }
                    start = index + 1;
                }
            }
            char if char == comma && (!quoted || at_end) => {
                if let Some(part) = parts.last_mut() {
                    part.push(text.get(start..index).unwrap_or_default().trim_start());
                }
                start = index + 1;
                if !at_end {
                    parts.push(Vec::new());
                }
            }
            _ => {}
        }
    }
    parts
}

/// Takes quotation marks and backslashes away, and white space at the end that neither keeps. None
/// if they don't end.
fn unescape(value: &str) -> Option<String> {
    let mut text = Vec::new();
    // So much of it must stay.
    let mut kept = 0;
    let (mut quoted, mut octets) = (false, value.bytes());
    while let Some(octet) = octets.next() {
        match octet {
            b'\\' => {
                let digit = |octet: u8| {
                    char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
                };
                let next = octets.next()?;
                // Two hexadecimal digits are an octet.
                let pair = digit(next).zip(octets.clone().next().and_then(digit));
                match pair {
                    Some((high, low)) => {
                        octets.next();
                        text.push(high << 4 | low);
                    }
                    None => text.push(next),
                }
                kept = text.len();
            }
            b'"' => {
                quoted = !quoted;
                kept = text.len();
            }
            octet => {
                text.push(octet);
                if quoted || octet != b' ' {
                    kept = text.len();
                }
            }
        }
    }
    text.truncate(kept);
    if quoted { None } else { String::from_utf8(text).ok() }
}

/// The reverse.
fn escape(value: &str, text: &mut String) {
    let last = value.chars().count().saturating_sub(1);
    for (index, char) in value.chars().enumerate() {
        match char {
            ' ' if index == 0 || index == last => text.push_str("\\20"),
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=' | '#' => {
                text.push('\\');
                text.push(char);
            }
            char if super::is_unseen(char) || char.is_whitespace() && char != ' ' => {
                let mut octets = [0; 4];
                for octet in char.encode_utf8(&mut octets).bytes() {
                    let _ = write!(text, "\\{octet:02x}");
                }
            }
            char => text.push(char),
        }
    }
}
