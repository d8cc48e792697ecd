//! WireGuard's public keys.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

/// A Curve25519 public key, displayed in base64 as wg(8) does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The network of all overlay addresses, a /64 (RFC 4193).
pub const OVERLAY_NETWORK: Ipv6Addr = Ipv6Addr::new(0xfd74, 0x6964, 0x6567, 0x6174, 0, 0, 0, 0);

/// The points of low order, the top bit left out: a secret shared with one of them is known to all.
const WEAK: [[u8; 32]; 7] = [
    whole(0, 0, 0),
    whole(1, 0, 0),
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4,
        0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49,
        0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef,
        0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f,
        0x11, 0x57,
    ],
    // One less than the field's prime, the prime, and one more.
    whole(0xec, 0xff, 0x7f),
    whole(0xed, 0xff, 0x7f),
    whole(0xee, 0xff, 0x7f),
];

/// Octets that are the same but for the first and the last.
const fn whole(first: u8, between: u8, last: u8) -> [u8; 32] {
    let mut octets = [between; 32];
    octets[0] = first;
    octets[31] = last;
    octets
}

impl PublicKey {
    /// Whether it is of low order, and so no key at all.
    pub fn is_weak(&self) -> bool {
        let mut octets = self.0;
        if let Some(last) = octets.last_mut() {
            *last &= 0x7f;
        }
        WEAK.contains(&octets)
    }

    /// The address that whoever has this key has inside of tunnels: derived, so that nobody
    /// has to give addresses away.
    pub fn overlay_address(&self) -> Ipv6Addr {
        let mut octets = OVERLAY_NETWORK.octets();
        let hash = Sha256::digest(self.0);
        octets.iter_mut().skip(8).zip(hash).for_each(|(octet, byte)| *octet = byte);
        Ipv6Addr::from(octets)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(44);
        for chunk in self.0.chunks(3) {
            let bytes = [chunk.first(), chunk.get(1), chunk.get(2)];
            let bits = bytes.iter().fold(0u32, |bits, byte| {
                (bits << 8) | u32::from(byte.copied().unwrap_or_default())
            });
            for place in 0..4usize {
                let index = (bits >> (18 - 6 * place)) & 63;
                let char = ALPHABET.get(index as usize).copied().unwrap_or(b'=');
                text.push(if place > chunk.len() { '=' } else { char::from(char) });
            }
        }
        f.write_str(&text)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Text that is no public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no WireGuard key; write 44 characters of base64, as `wg pubkey` prints them")]
pub struct KeyError;

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let digits = text.strip_suffix('=').ok_or(KeyError)?.as_bytes();
        if digits.len() != 43 {
            return Err(KeyError);
        }
        let mut key = [0; 32];
        let (mut bits, mut have, mut at) = (0u32, 0u32, 0usize);
        for digit in digits {
            let value = ALPHABET.iter().position(|char| char == digit).ok_or(KeyError)?;
            bits = (bits << 6) | u32::try_from(value).map_err(|_| KeyError)?;
            have += 6;
            if have >= 8 {
                have -= 8;
                let byte = u8::try_from((bits >> have) & 0xff).map_err(|_| KeyError)?;
                *key.get_mut(at).ok_or(KeyError)? = byte;
                at += 1;
            }
        }
        // Two bits are left over, and are nothing.
        if bits & 3 != 0 { Err(KeyError) } else { Ok(Self(key)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlay_addresses_begin_like_the_hash_of_the_key() {
        // SHA-256 of 32 zero bytes is 66687aadf862bd77….
        let address = PublicKey([0; 32]).overlay_address();
        assert_eq!(address.to_string(), "fd74:6964:6567:6174:6668:7aad:f862:bd77");
    }

    #[test]
    fn keys_are_written_as_wg_writes_them() {
        let text = "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=";
        let key: PublicKey = text.parse().unwrap();
        assert_eq!(key.0[..3], [0x1c, 0x88, 0x28]);
        assert_eq!(key.to_string(), text);
        for wrong in ["", "HIgo", &text[..43], &text.replace('9', "-"), &format!("{text}=")] {
            assert_eq!(wrong.parse::<PublicKey>(), Err(KeyError), "{wrong}");
        }
        assert!(text.replace("kw=", "kx=").parse::<PublicKey>().is_err());
    }
}
