//! Diffie-Hellman modulo a prime (RFC 2409, RFC 3526), in constant time.

use std::sync::OnceLock;

use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, Odd};
use model::suite::Group;
use zeroize::Zeroizing;

use super::primes;
use crate::crypto::CryptoError;

/// A group: its modulus, a safe prime p of which 2 generates a subgroup of order (p − 1) / 2 or
/// all.
pub(super) struct Modulus {
    params: BoxedMontyParams,
    /// p − 1
    highest: BoxedUint,
    bits: u32,
    exponent_bits: u32,
}

/// A private exponent.
pub(super) struct Private {
    modulus: &'static Modulus,
    exponent: Zeroizing<BoxedUint>,
}

impl Modulus {
    /// None of groups that are no MODP groups.
    pub(super) fn of(group: Group) -> Option<&'static Self> {
        static MODULI: [OnceLock<Modulus>; 5] = [const { OnceLock::new() }; 5];
        // Exponents as long as RFC 3526, 8 wants them at most, and a little more.
        let (at, bits, hex, exponent_bits) = match group {
            Group::Modp1024 => (0, 1024, primes::P1024, 256),
            Group::Modp1536 => (1, 1536, primes::P1536, 256),
            Group::Modp2048 => (2, 2048, primes::P2048, 320),
            Group::Modp3072 => (3, 3072, primes::P3072, 448),
            Group::Modp4096 => (4, 4096, primes::P4096, 512),
            _ => return None,
        };
        Some(MODULI.get(at)?.get_or_init(|| {
            let p = BoxedUint::from_be_hex(hex, bits).expect("invariant: hexadecimal");
            let highest = p.wrapping_sub(BoxedUint::one_with_precision(bits));
            let p = Odd::new(p).expect("invariant: primes are odd");
            Self { params: BoxedMontyParams::new_vartime(p), highest, bits, exponent_bits }
        }))
    }

    fn octets(&self) -> usize {
        self.bits.div_ceil(8) as usize
    }

    /// A private exponent and g to the power of it.
    pub(super) fn begin(&'static self) -> Result<(Private, Vec<u8>), CryptoError> {
        let mut octets = Zeroizing::new(vec![0; self.exponent_bits.div_ceil(8) as usize]);
        aws_lc_rs::rand::fill(&mut octets).map_err(|_| CryptoError::Failed("making a key"))?;
        let private = self.private(&octets);
        let public = private.power(&self.number(&[2]));
        Ok((private, public.to_vec()))
    }

    /// The exponent that stands in these octets.
    pub(super) fn private(&'static self, octets: &[u8]) -> Private {
        let exponent = BoxedUint::from_be_slice_truncated(octets, self.exponent_bits);
        Private { modulus: self, exponent: Zeroizing::new(exponent) }
    }

    fn number(&self, octets: &[u8]) -> BoxedUint {
        BoxedUint::from_be_slice_truncated(octets, self.bits)
    }
}

impl Private {
    /// None unless 1 < theirs < p − 1, written in as many octets as p (RFC 6989, 2.1; RFC 7296,
    /// 3.4).
    pub(super) fn finish(self, theirs: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        if theirs.len() != self.modulus.octets() {
            return None;
        }
        let theirs = self.modulus.number(theirs);
        let lowest = BoxedUint::one_with_precision(self.modulus.bits);
        (theirs > lowest && theirs < self.modulus.highest).then(|| self.power(&theirs))
    }

    /// Padded to the modulus' length.
    fn power(&self, base: &BoxedUint) -> Zeroizing<Vec<u8>> {
        let base = BoxedMontyForm::new(base.clone(), &self.modulus.params);
        let power =
            Zeroizing::new(base.pow_bounded_exp(&self.exponent, self.modulus.exponent_bits));
        let power = Zeroizing::new(power.retrieve());
        Zeroizing::new(power.to_be_bytes().into_vec())
    }
}
