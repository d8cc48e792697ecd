//! Private keys, and addresses that follow from public ones.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use aws_lc_rs::digest;
use boringtun::x25519::StaticSecret;
use ipnet::Ipv6Net;
use model::PublicKey;
use model::key::KeyError;
use zeroize::{Zeroize, Zeroizing};

/// Octets that stand before each overlay address: fd74:6964:6567:6174::/64.
const PREFIX: [u8; 8] = [0xfd, 0x74, 0x69, 0x64, 0x65, 0x67, 0x61, 0x74];

/// The network that all overlay addresses are in.
pub fn overlay_network() -> Ipv6Net {
    let mut octets = [0; 16];
    octets[..8].copy_from_slice(&PREFIX);
    Ipv6Net::new(octets.into(), 64).expect("invariant: 64 is a prefix length")
}

/// The address inside of the overlay of whom a key belongs to. Nobody has to allocate it.
pub fn overlay_address(key: &PublicKey) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets[..8].copy_from_slice(&PREFIX);
    octets[8..].copy_from_slice(&hint(key));
    octets.into()
}

/// The first octets of a key's SHA-256.
pub(crate) fn hint(key: &PublicKey) -> [u8; 8] {
    let mut hint = [0; 8];
    let digest = digest::digest(&digest::SHA256, &key.0);
    for (to, from) in hint.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    hint
}

/// A Curve25519 private key. It is wiped when dropped, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey(Zeroizing<[u8; 32]>);

impl PrivateKey {
    /// Of 32 octets, which should be random; they are clamped as RFC 7748 says.
    pub fn new(mut octets: [u8; 32]) -> Self {
        let mut key = Zeroizing::new(octets);
        octets.zeroize();
        let [first, .., last] = &mut *key;
        *first &= 248;
        *last = (*last & 127) | 64;
        Self(key)
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        let secret = self.secret();
        PublicKey(boringtun::x25519::PublicKey::from(&secret).to_bytes())
    }

    /// In base64 as wg(8) has it, to be kept in a file that nobody else can read.
    pub fn to_base64(&self) -> Zeroizing<String> {
        // A public key's text is the same.
        Zeroizing::new(PublicKey(*self.0).to_string())
    }

    /// The octets, for the kernel.
    pub fn octets(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn secret(&self) -> StaticSecret {
        StaticSecret::from(*self.0)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey(of {})", self.public())
    }
}

impl FromStr for PrivateKey {
    type Err = KeyError;

    /// Reads what `wg genkey` prints; blanks and line ends around it are no matter.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut parsed: PublicKey = text.trim().parse()?;
        let key = Self::new(parsed.0);
        parsed.0.zeroize();
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7748, 6.1.
    const ALICE: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";

    #[test]
    fn a_private_key_has_its_public_half() {
        let key: PrivateKey = ALICE.parse().unwrap();
        let public = key.public();
        assert_eq!(public.to_string(), "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=");
        assert_eq!(*format!("{ALICE}\n").parse::<PrivateKey>().unwrap().octets(), *key.octets());
    }

    #[test]
    fn a_private_key_is_written_clamped_and_never_shown() {
        let key: PrivateKey = ALICE.parse().unwrap();
        let again: PrivateKey = key.to_base64().parse().unwrap();
        assert_eq!(key, again);
        assert!(!format!("{key:?}").contains(&key.to_base64()[..8]));
        assert!("too short".parse::<PrivateKey>().is_err());
    }

    #[test]
    fn overlay_addresses_follow_from_keys() {
        let network = overlay_network();
        assert_eq!(network.to_string(), "fd74:6964:6567:6174::/64");
        let (one, two) = (PublicKey([1; 32]), PublicKey([2; 32]));
        assert!(network.contains(&overlay_address(&one)));
        assert_ne!(overlay_address(&one), overlay_address(&two));
        // The beginning of SHA-256 of 32 octets 0x01.
        assert_eq!(overlay_address(&one).to_string(), "fd74:6964:6567:6174:72cd:6e84:22c4:7fb");
    }
}
