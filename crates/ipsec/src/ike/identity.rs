//! Identities (RFC 7296, 3.5).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

mod name;

/// Who an end says it is: what an ID payload carries. `==` compares octets; [`Identity::is`]
/// compares as it is meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// 1 ID_IPV4_ADDR, 2 ID_FQDN, 3 ID_RFC822_ADDR, 5 ID_IPV6_ADDR, 9 ID_DER_ASN1_DN,
    /// 11 ID_KEY_ID.
    pub kind: u8,
    /// As on the wire: 4 or 16 octets, text, DER, or anything.
    pub data: Vec<u8>,
}

impl Identity {
    /// ID_IPV4_ADDR
    pub const IPV4: u8 = 1;
    /// ID_FQDN
    pub const FQDN: u8 = 2;
    /// ID_RFC822_ADDR
    pub const EMAIL: u8 = 3;
    /// ID_IPV6_ADDR
    pub const IPV6: u8 = 5;
    /// ID_DER_ASN1_DN
    pub const DN: u8 = 9;
    /// ID_KEY_ID
    pub const KEY_ID: u8 = 11;

    /// As people write it (and swanctl reads it): an address, a name, `@name`, `user@host`, a
    /// distinguished name `CN=…, O=…`, any text as `keyid:…`, octets as `@#…` or `keyid:#…` (or
    /// `keyid:0x…`) in hexadecimal digits. `fqdn:`, `email:`, `asn1dn:`, `ipv4:` and `ipv6:` say
    /// what follows.
    ///
    /// `%any` is no identity: who may be anyone has none ([`Self::parse_or_any`]).
    ///
    /// # Errors
    /// What is wrong and what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err("an identity is empty; write an address, a name or a \
                        distinguished name"
                .to_owned());
        }
        if is_any(text) {
            return Err(format!("{text:?} is anyone, and no identity; leave it out"));
        }
        if let Some(digits) = text.strip_prefix("@#") {
            return some(Self::KEY_ID, octets(digits)?, text);
        }
        // `@@` is swanctl's for user@host.
        for (prefix, kind) in PREFIXES {
            let Some(rest) = prefixed(text, prefix) else { continue };
            let rest = rest.trim_start();
            return match kind {
                Self::DN => Ok(Self { kind, data: name::write(rest)? }),
                Self::IPV4 | Self::IPV6 => match rest.parse::<IpAddr>().map(Self::from) {
                    Ok(address) if address.kind == kind => Ok(address),
                    _ => Err(format!("{rest:?} is no such address; write one after {prefix}")),
                },
                _ => match rest.strip_prefix('#').or_else(|| rest.strip_prefix("0x")) {
                    Some(digits) if kind == Self::KEY_ID => some(kind, octets(digits)?, text),
                    _ => some(kind, rest.as_bytes().to_vec(), text),
                },
            };
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::from(address));
        }
        if text.contains('=') {
            return Ok(Self { kind: Self::DN, data: name::write(text)? });
        }
        let kind = if text.contains('@') { Self::EMAIL } else { Self::FQDN };
        some(kind, text.as_bytes().to_vec(), text)
    }

    /// The same, where `%any` (or `*`) stands for no matter whom.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_or_any(text: &str) -> Result<Option<Self>, String> {
        if is_any(text.trim()) { Ok(None) } else { Self::parse(text).map(Some) }
    }

    /// Whether both mean the same: names without regard to case, distinguished names by their
    /// attributes' values and not their encodings, all else octet by octet.
    pub fn is(&self, other: &Self) -> bool {
        if self.kind != other.kind {
            return false;
        }
        match self.kind {
            Self::FQDN | Self::EMAIL => self.data.eq_ignore_ascii_case(&other.data),
            Self::DN => self.data == other.data || name::same(&self.data, &other.data),
            _ => self.data == other.data,
        }
    }
}

/// What says of which kind the rest is.
const PREFIXES: [(&str, u8); 12] = [
    ("keyid:", Identity::KEY_ID),
    ("fqdn:", Identity::FQDN),
    ("dns:", Identity::FQDN),
    ("email:", Identity::EMAIL),
    ("rfc822:", Identity::EMAIL),
    ("userfqdn:", Identity::EMAIL),
    ("asn1dn:", Identity::DN),
    ("dn:", Identity::DN),
    ("ipv4:", Identity::IPV4),
    ("ipv6:", Identity::IPV6),
    ("@@", Identity::EMAIL),
    ("@", Identity::FQDN),
];

fn is_any(text: &str) -> bool {
    matches!(text, "%any" | "%any4" | "%any6" | "*")
}

/// What follows a prefix, whose case doesn't matter.
fn prefixed<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, tail) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(tail)
}

fn some(kind: u8, data: Vec<u8>, text: &str) -> Result<Identity, String> {
    match data.is_empty() {
        true => Err(format!("{text:?} names nobody; write what stands after its prefix")),
        false => Ok(Identity { kind, data }),
    }
}

/// Octets of hexadecimal digits, perhaps with colons between.
fn octets(text: &str) -> Result<Vec<u8>, String> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .filter(|char| *char != ':')
        .map(|char| char.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let pairs = digits.filter(|digits| digits.len() % 2 == 0 && !digits.is_empty());
    let pairs = pairs.ok_or_else(|| format!("{text:?} is not octets; write them as 0a1b2c"))?;
    Ok(pairs
        .chunks_exact(2)
        .map(|pair| pair.iter().fold(0, |sum, digit| sum << 4 | digit))
        .collect())
}

impl From<IpAddr> for Identity {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self { kind: Self::IPV4, data: v4.octets().to_vec() },
            IpAddr::V6(v6) => Self { kind: Self::IPV6, data: v6.octets().to_vec() },
        }
    }
}

/// As [`Identity::parse`] reads it; what it can't read (it came from the network) with its number
/// and octets.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = self.text() {
            return f.write_str(&text);
        }
        match self.kind {
            Self::KEY_ID => f.write_str("keyid:#")?,
            kind => write!(f, "type{kind}:0x")?,
        }
        self.data.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

/// Whether a character shows nothing of itself, or changes how those around it are shown: nobody
/// else may write such into logs.
pub(crate) fn is_unseen(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

impl Identity {
    fn text(&self) -> Option<String> {
        let plain = || {
            let text = std::str::from_utf8(&self.data).ok()?;
            (!text.is_empty() && !text.contains(is_unseen)).then_some(text)
        };
        match self.kind {
            Self::IPV4 => {
                let octets: [u8; 4] = self.data.as_slice().try_into().ok()?;
                Some(Ipv4Addr::from(octets).to_string())
            }
            Self::IPV6 => {
                let octets: [u8; 16] = self.data.as_slice().try_into().ok()?;
                Some(Ipv6Addr::from(octets).to_string())
            }
            Self::FQDN | Self::EMAIL => {
                let text = plain()?;
                let is_read = |text: &str| Self::parse(text).is_ok_and(|read| read == *self);
                let prefix = if self.kind == Self::FQDN { "fqdn:" } else { "email:" };
                [text.to_owned(), format!("{prefix}{text}")].into_iter().find(|text| is_read(text))
            }
            Self::DN => name::text(&self.data),
            Self::KEY_ID => {
                let text = format!("keyid:{}", plain()?);
                Self::parse(&text).is_ok_and(|read| read == *self).then_some(text)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
