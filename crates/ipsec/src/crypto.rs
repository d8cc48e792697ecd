//! The algorithms: key exchanges, pseudorandom functions, ciphers, proofs of identity.
//!
//! All from aws-lc-rs but for what it lacks: MODP groups (`crypto-bigint`, constant time), AES-CBC
//! without PKCS#7 padding and 3DES (RustCrypto).
//!
//! - [`rng`]: where SPIs, nonces, cookies, jitter and IVs come from. Private keys and signatures
//!   take theirs from aws-lc's own generator.
//! - [`kex`]: key exchanges. [`prf`]: prf and prf+. [`keys`]: the keys of IKE and child SAs.
//! - [`sk`]: what is in an SK payload.
//! - [`auth`]: preshared keys, signatures and certificates.
//!
//! What is secret is zeroed when dropped, and no `Debug` shows it.

pub mod auth;
mod cbc;
mod error;
pub mod kex;
pub mod keys;
pub mod prf;
pub mod rng;
pub mod sk;

pub use error::CryptoError;
