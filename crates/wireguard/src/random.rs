//! Keys and nonces from the system's randomness.

use overlay::PrivateKey;
use overlay::probe::Nonce;
use zeroize::Zeroizing;

/// A new private key.
///
/// # Panics
/// The system has no randomness, which is no state to go on in.
pub fn private_key() -> PrivateKey {
    let mut octets = Zeroizing::new([0; 32]);
    fill(octets.as_mut());
    PrivateKey::new(*octets)
}

/// A nonce for a sealed message.
///
/// # Panics
/// The system has no randomness.
pub fn nonce() -> Nonce {
    let mut octets = [0; 12];
    fill(&mut octets);
    Nonce(octets)
}

/// Any number.
pub(crate) fn number() -> u32 {
    let mut octets = [0; 4];
    fill(&mut octets);
    u32::from_ne_bytes(octets)
}

fn fill(octets: &mut [u8]) {
    aws_lc_rs::rand::fill(octets).expect("invariant: the system has randomness");
}
