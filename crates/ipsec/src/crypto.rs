//! The algorithms: key exchanges, pseudorandom functions, ciphers, proofs of identity.
//!
//! All from aws-lc-rs but for what it lacks: MODP groups (`crypto-bigint`, constant time), AES-CBC
//! without PKCS#7 padding and 3DES (RustCrypto).

// To be written. The engine, the exchanges and ESP call it like this:
//
// pub trait Rng: Send { fn fill(&mut self, buffer: &mut [u8]); }          (rng.rs; `SystemRng` and,
//      for simulations, `SeededRng`: SPIs, nonces, cookies, jitter, IVs come from it. Private keys
//      of key exchanges come from aws-lc's own generator.)
//
// kex.rs:
//   pub struct KeyExchange;            an initiator's or responder's private half, consumed once
//   KeyExchange::begin(group: Group) -> Result<(KeyExchange, Vec<u8> /* public, KE payload */), CryptoError>
//   KeyExchange::finish(self, theirs: &[u8]) -> Result<Zeroizing<Vec<u8>> /* g^ir */, CryptoError>
//   respond(group: Group, theirs: &[u8]) -> Result<(Vec<u8>, Zeroizing<Vec<u8>>), CryptoError>
//        (for ML-KEM that is encapsulation; for the others begin + finish; invalid public values
//         are refused as RFC 6989 says)
//
// prf.rs:
//   prf(prf: Prf, key: &[u8], data: &[&[u8]]) -> Zeroizing<Vec<u8>>
//   prf_plus(prf: Prf, key: &[u8], seed: &[&[u8]], length: usize) -> Zeroizing<Vec<u8>>
//
// keys.rs: (RFC 7296 2.14, 2.15, 2.17, 2.18; RFC 8784 3; RFC 9370 2.2.2)
//   pub struct IkeKeys { pub sk_d, pub sk_pi, pub sk_pr: Zeroizing<Vec<u8>>, pub initiator: SkCipher, pub responder: SkCipher }
//   IkeKeys::derive(suite: &Proposal /* one of each */, shared: &[u8], ni: &[u8], nr: &[u8], spi_i: u64, spi_r: u64)
//   IkeKeys::rekey(suite, old_prf: Prf, old_sk_d, shared, ni, nr, spi_i, spi_r)
//   IkeKeys::mix(&self, suite, shared /* additional KE */, ni, nr, spi_i, spi_r)      IKE_INTERMEDIATE
//   IkeKeys::with_ppk(&self, prf, ppk)
//   child_keys(suite: &Proposal, prf, sk_d, shared: Option<&[u8]>, additional: &[..], ni, nr)
//        -> (EspKeys of initiator→responder, EspKeys of responder→initiator)
//
// sk.rs:
//   pub struct SkCipher; one direction of an IKE SA
//   SkCipher::overhead(&self, plain: usize) -> usize       IV + padding + checksum
//   SkCipher::seal(&self, rng: &mut dyn Rng, associated: &[u8], plain: &[u8]) -> Vec<u8>   (IV ‖ ciphertext ‖ ICV)
//   SkCipher::open(&self, associated: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, CryptoError>
//        (AEAD IVs are a counter from a random start, never repeated for a key)
//
// auth.rs: (RFC 7296 2.15, RFC 7427, RFC 8784, RFC 9242)
//   psk_auth(prf, key: &[u8], signed_octets: &[u8]) -> Vec<u8>
//   pub struct Signer — chain and key:  Signer::from_pem(chain: &[u8], key: &[u8]) -> Result<_, CryptoError>;
//        .chain() -> &[Vec<u8>] (DER), .subject() -> Identity (DN), .has_identity(&Identity) -> bool,
//        .sign(octets, peer_hashes: &[u16]) -> Result<(u8 /* method */, Vec<u8>), CryptoError>
//   pub struct Verifier — authorities, CRLs:  Verifier::from_pem(authorities, crls: &[u8]);
//        .requests() -> Vec<u8> (CERTREQ data: SHA-1 of each SubjectPublicKeyInfo)
//        .verify(chain: &[Vec<u8>] /* DER, end entity first */, id: &Identity, method: u8, auth: &[u8], octets: &[u8], unix_now: Duration, allow_sha1)
//            -> Result<(), AuthError>   (says why in words: expired, revoked, unknown authority, ID not in the certificate, signature)

pub mod auth;
mod error;
pub mod rng;

pub use error::CryptoError;
