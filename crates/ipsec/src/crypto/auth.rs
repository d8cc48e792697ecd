//! Proofs of identity.

use std::time::Duration;

use model::suite::Prf;

use super::CryptoError;
use crate::ike::identity::Identity;

/// This end's certificate chain and private key.
#[derive(Debug)]
pub struct Signer(());

/// Whom of the other side is believed.
#[derive(Debug)]
pub struct Verifier(());

/// By a preshared key.
pub fn psk_auth(prf: Prf, key: &[u8], signed_octets: &[u8]) -> Vec<u8> {
    let inner = super::prf::prf(prf, key, &[b"Key Pad for IKEv2"]);
    super::prf::prf(prf, &inner, &[signed_octets]).to_vec()
}

impl Signer {
    /// The chain.
    pub fn chain(&self) -> &[Vec<u8>] {
        &[]
    }

    /// Signs.
    ///
    /// # Errors
    /// Not there.
    pub fn sign(&self, _: &[u8], _: &[u16]) -> Result<(u8, Vec<u8>), CryptoError> {
        Err(CryptoError::Unauthentic)
    }
}

impl Verifier {
    /// CERTREQ.
    pub fn requests(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Checks.
    ///
    /// # Errors
    /// Not there.
    #[allow(clippy::too_many_arguments)]
    pub fn verify(
        &self,
        _: &[Vec<u8>],
        _: &Identity,
        _: u8,
        _: &[u8],
        _: &[u8],
        _: Duration,
        _: bool,
    ) -> Result<(), CryptoError> {
        Err(CryptoError::Unauthentic)
    }
}
