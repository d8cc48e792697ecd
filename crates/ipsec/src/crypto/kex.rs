//! Key exchanges (transform types 4 and 6 to 12).
//!
//! On the wire: MODP values padded to the modulus' length, NIST points as x‖y (RFC 5903), Curve25519
//! as 32 octets (RFC 8031); for ML-KEM the initiator sends its encapsulation key and the
//! responder the ciphertext. Public values are checked as RFC 6989 says.

mod modp;
mod primes;

use std::fmt;

use aws_lc_rs::{agreement, kem};
use model::suite::Group;
use zeroize::Zeroizing;

use super::CryptoError;

/// One end's private half of a key exchange; it is used once.
pub struct KeyExchange {
    group: Group,
    private: Private,
}

enum Private {
    Modp(modp::Private),
    Curve(agreement::PrivateKey),
    // Boxed: it is large.
    Kem(Box<kem::DecapsulationKey>),
}

impl fmt::Debug for KeyExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyExchange({:?})", self.group)
    }
}

impl KeyExchange {
    /// A new private value, and the public one for the KE payload.
    ///
    /// # Errors
    /// aws-lc can't make a key.
    pub fn begin(group: Group) -> Result<(Self, Vec<u8>), CryptoError> {
        let failed = |_| CryptoError::Failed("making a key");
        let (private, public) = if let Some(modulus) = modp::Modulus::of(group) {
            let (private, public) = modulus.begin()?;
            (Private::Modp(private), public)
        } else if let Some((algorithm, prefix)) = curve(group) {
            let private = agreement::PrivateKey::generate(algorithm).map_err(failed)?;
            let public = private.compute_public_key().map_err(failed)?;
            let public = public.as_ref().strip_prefix(prefix).unwrap_or(public.as_ref()).to_vec();
            (Private::Curve(private), public)
        } else {
            let private = kem::DecapsulationKey::generate(&kem::ML_KEM_768).map_err(failed)?;
            let public = private.encapsulation_key().map_err(failed)?;
            let public = public.key_bytes().map_err(failed)?.as_ref().to_vec();
            (Private::Kem(Box::new(private)), public)
        };
        Ok((Self { group, private }, public))
    }

    /// The shared secret (g^ir), with what the other end has sent.
    ///
    /// # Errors
    /// [`CryptoError::PublicValue`].
    pub fn finish(self, theirs: &[u8]) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        let invalid = CryptoError::PublicValue { group: self.group, length: theirs.len() };
        match self.private {
            Private::Modp(private) => private.finish(theirs).ok_or(invalid),
            Private::Curve(private) => {
                let Some((algorithm, prefix)) = curve(self.group) else { return Err(invalid) };
                if theirs.len() != curve_length(self.group) {
                    return Err(invalid);
                }
                let point = [prefix, theirs].concat();
                let point = agreement::UnparsedPublicKey::new(algorithm, point);
                agreement::agree(&private, point, invalid, |secret| {
                    Ok(Zeroizing::new(secret.to_vec()))
                })
            }
            Private::Kem(private) => {
                let secret = private.decapsulate(theirs.into()).map_err(|_| invalid)?;
                Ok(Zeroizing::new(secret.as_ref().to_vec()))
            }
        }
    }

    /// Which group it is in.
    pub fn group(&self) -> Group {
        self.group
    }
}

/// The responder's part in one step: the public value for the KE payload, and the shared secret.
///
/// # Errors
/// [`CryptoError::PublicValue`].
pub fn respond(group: Group, theirs: &[u8]) -> Result<(Vec<u8>, Zeroizing<Vec<u8>>), CryptoError> {
    if group != Group::MlKem768 {
        let (exchange, public) = KeyExchange::begin(group)?;
        return Ok((public, exchange.finish(theirs)?));
    }
    let invalid = CryptoError::PublicValue { group, length: theirs.len() };
    let key = kem::EncapsulationKey::new(&kem::ML_KEM_768, theirs).map_err(|_| invalid.clone())?;
    // It checks the modulus (FIPS 203, 7.2), too.
    let (ciphertext, secret) = key.encapsulate().map_err(|_| invalid)?;
    Ok((ciphertext.as_ref().to_vec(), Zeroizing::new(secret.as_ref().to_vec())))
}

/// aws-lc's algorithm, and what it puts before a public value that IKE doesn't.
fn curve(group: Group) -> Option<(&'static agreement::Algorithm, &'static [u8])> {
    Some(match group {
        Group::P256 => (&agreement::ECDH_P256, &[4]),
        Group::P384 => (&agreement::ECDH_P384, &[4]),
        Group::P521 => (&agreement::ECDH_P521, &[4]),
        Group::X25519 => (&agreement::X25519, &[]),
        _ => return None,
    })
}

/// Of a public value of a curve on the wire.
fn curve_length(group: Group) -> usize {
    match group {
        Group::P256 => 64,
        Group::P384 => 96,
        Group::P521 => 132,
        _ => 32,
    }
}

#[cfg(test)]
mod tests;
