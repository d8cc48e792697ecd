//! An SA that packets leave on.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use model::suite::Encryption;

use super::transform::{Direction, Shape, Transform};
use super::{Exhausted, HEADER, TRAILER};
use crate::crypto::CryptoError;
use crate::crypto::rng::Rng;
use crate::sa::{EspKeys, EspSuite, Spi};

/// An SA that packets leave on. Several threads may seal at once.
pub struct Outbound {
    transform: Transform,
    shape: Shape,
    spi: Spi,
    esn: bool,
    /// The number that was given out last.
    sequence: AtomicU64,
    /// From this number on it is worn: the SA should be rekeyed.
    worn_at: u64,
}

/// Octets of a packet that the limits reckon with.
const USUAL: u64 = 2048;

impl Outbound {
    /// With keys of its own, used nowhere else. `rng` makes the key that CBC's IVs come from.
    ///
    /// # Errors
    /// The keys don't fit the suite.
    pub fn new(
        suite: EspSuite,
        keys: &EspKeys,
        spi: Spi,
        rng: &mut dyn Rng,
    ) -> Result<Self, CryptoError> {
        let (transform, shape) = Transform::new(suite, keys, Direction::Out(rng))?;
        let worn_at = sequence_limit(suite.esn).min(block_limit(suite.encryption));
        Ok(Self {
            transform,
            shape,
            spi,
            esn: suite.esn,
            sequence: AtomicU64::new(0),
            worn_at: worn_at - worn_at / 8,
        })
    }

    /// Takes numbers for so many packets: the first, and those after it. A number is for one
    /// packet only; numbers that are not used are lost, which does no harm.
    ///
    /// # Errors
    /// Not so many are left.
    pub fn reserve(&self, packets: u32) -> Result<u64, Exhausted> {
        let limit = sequence_limit(self.esn);
        let taken = |last: u64| last.checked_add(u64::from(packets)).filter(|last| *last <= limit);
        match self.sequence.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken) {
            Ok(last) => Ok(last.saturating_add(1)),
            Err(_) => Err(Exhausted),
        }
    }

    /// How many numbers were given out.
    pub fn used(&self) -> u64 {
        self.sequence.load(Ordering::Relaxed)
    }

    /// Whether it is time for new keys: seven eighths of the sequence numbers are used, or of the
    /// blocks that one key may encrypt (2^35 with AES, RFC 9001, B.1; 2^27 with 3DES), reckoned at
    /// 2,048 octets a packet.
    pub fn is_worn(&self) -> bool {
        self.used() >= self.worn_at
    }

    /// Octets of the ESP packet, without IP and UDP headers, for an inner packet of this size.
    pub fn sealed_len(&self, inner: usize) -> usize {
        self.shape.sealed(inner)
    }

    /// The largest inner packet for an IP or UDP payload of so many octets.
    pub fn largest_inner(&self, datagram: usize) -> usize {
        self.shape.largest_inner(datagram)
    }

    /// What stands in its packets.
    pub fn spi(&self) -> Spi {
        self.spi
    }

    /// Appends the ESP packet that holds `parts`, one after the other. `sequence` comes from
    /// [`Self::reserve`] and is never used again.
    pub fn seal(&self, sequence: u64, next_header: u8, parts: &[&[u8]], out: &mut Vec<u8>) {
        let start = out.len();
        let inner: usize = parts.iter().map(|part| part.len()).sum();
        out.reserve(self.shape.sealed(inner));
        out.extend_from_slice(&self.spi.get().to_be_bytes());
        let [h0, h1, h2, h3, low @ ..] = sequence.to_be_bytes();
        out.extend_from_slice(&low);
        let mut iv = [0; 16];
        if let Some(iv) = iv.get_mut(..self.shape.iv) {
            self.transform.write_iv(sequence, iv);
            out.extend_from_slice(iv);
        }
        for part in parts {
            out.extend_from_slice(part);
        }
        let padding = (inner + TRAILER).next_multiple_of(self.shape.block) - inner - TRAILER;
        if let Some(padding) = PADDING.get(..padding) {
            out.extend_from_slice(padding);
        }
        out.extend_from_slice(&[padding as u8, next_header]);
        let high = self.esn.then(|| u32::from_be_bytes([h0, h1, h2, h3]));
        if !self.transform.seal(&self.shape, high, out, start) {
            // Only packets of many gigabytes get here; in the clear nothing may leave.
            out.truncate(start);
        }
        debug_assert!(out.len() == start || out.len() - start >= HEADER);
    }
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound").field("spi", &self.spi).field("used", &self.used()).finish()
    }
}

/// RFC 4303, 2.4.
const PADDING: [u8; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

fn sequence_limit(esn: bool) -> u64 {
    if esn { u64::MAX } else { u64::from(u32::MAX) }
}

/// How many packets one key may encrypt.
fn block_limit(encryption: Encryption) -> u64 {
    match encryption {
        // The counter in each packet is the only limit (RFC 7634).
        Encryption::ChaCha20Poly1305 => u64::MAX,
        Encryption::TripleDesCbc => (1 << 27) / (USUAL / 8),
        _ => (1 << 35) / (USUAL / 16),
    }
}
