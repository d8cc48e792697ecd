//! Proofs of identity (RFC 7296, 2.15): preshared keys, signatures, certificates.
//!
//! Signatures are RFC 7427's wherever the other end names hash algorithms; without, ECDSA by RFC
//! 4754. RSA with SHA-1 is sent and believed only where it is allowed.

mod algorithm;
mod certificate;
mod error;
mod rsa_sha1;
mod signer;
mod verifier;

pub use error::AuthError;
pub use signer::Signer;
pub use verifier::Verifier;

use model::suite::Prf;

use super::prf::prf;
use crate::ike::identity::Identity;

/// RSA with PKCS#1 padding and SHA-1.
pub const METHOD_RSA: u8 = 1;
/// A preshared key.
pub const METHOD_SHARED_KEY: u8 = 2;
/// ECDSA with P-256 and SHA-256 (RFC 4754); P-384 and P-521 follow.
pub const METHOD_ECDSA_256: u8 = 9;
/// ECDSA with P-384 and SHA-384.
pub const METHOD_ECDSA_384: u8 = 10;
/// ECDSA with P-521 and SHA-512.
pub const METHOD_ECDSA_521: u8 = 11;
/// A signature that names its algorithm (RFC 7427).
pub const METHOD_SIGNATURE: u8 = 14;

/// What goes into SIGNATURE_HASH_ALGORITHMS: SHA-256, SHA-384, SHA-512 and "identity" (RFC 8420,
/// for Ed25519).
pub const SIGNATURE_HASHES: [u16; 4] = [2, 3, 4, 5];

/// Which octets an AUTH payload signs: the first message of its sender as it was on the wire,
/// the other end's nonce, the sender's identity under its SK_p, and IntAuth (RFC 9242: with
/// IKE_INTERMEDIATE, the same for both ends; otherwise empty).
pub fn signed_octets(
    message: &[u8],
    nonce: &[u8],
    prf: Prf,
    sk_p: &[u8],
    id: &Identity,
    int_auth: &[u8],
) -> Vec<u8> {
    let maced = self::prf(prf, sk_p, &[&[id.kind, 0, 0, 0], &id.data]);
    [message, nonce, &maced, int_auth].concat()
}

/// The AUTH data of method 2. Compare it in constant time: [`psk_verify`] does.
pub fn psk_auth(prf: Prf, key: &[u8], signed_octets: &[u8]) -> Vec<u8> {
    let padded = self::prf(prf, key, &[b"Key Pad for IKEv2"]);
    self::prf(prf, &padded, &[signed_octets]).to_vec()
}

/// Whether this is the AUTH data of method 2.
pub fn psk_verify(prf: Prf, key: &[u8], signed_octets: &[u8], auth: &[u8]) -> bool {
    let expected = psk_auth(prf, key, signed_octets);
    aws_lc_rs::constant_time::verify_slices_are_equal(&expected, auth).is_ok()
}

#[cfg(test)]
mod tests;
