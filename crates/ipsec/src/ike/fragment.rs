//! Fragments of messages (RFC 7383).

use std::net::IpAddr;

use zeroize::Zeroizing;

use super::message::MAX_MESSAGE;

#[cfg(test)]
mod tests;

/// Octets of a fragment's IKE header, SKF header, number and total.
const HEADERS: usize = 28 + 4 + 4;
/// What UDP and the non-ESP marker take.
const UDP_AND_MARKER: usize = 8 + 4;
/// No fragment carries less: else a tiny size would make thousands of them.
const SMALLEST: usize = 64;
/// No message is in more.
pub const MAX_FRAGMENTS: u16 = 256;

/// How many octets of payloads fit into a fragment, if IP packets to `remote` may have `size`.
/// `overhead` is what the cipher adds to so many octets.
pub fn capacity(remote: IpAddr, size: usize, overhead: impl Fn(usize) -> usize) -> usize {
    let ip = if remote.is_ipv4() { 20 } else { 40 };
    let room = size.saturating_sub(ip + UDP_AND_MARKER + HEADERS);
    // No cipher adds more than 16 (IV) + 16 (padding) + 32 (checksum).
    (SMALLEST..=room)
        .rev()
        .take(65)
        .find(|&plain| plain + overhead(plain) <= room)
        .unwrap_or(SMALLEST)
}

/// Whether a message needs to be cut up: whether its datagram is too large.
pub fn is_too_large(remote: IpAddr, size: usize, datagram: usize) -> bool {
    let ip = if remote.is_ipv4() { 20 } else { 40 };
    ip + UDP_AND_MARKER + datagram > size
}

/// The pieces, in order; each but the last has `capacity` octets. None if there would be too
/// many, or only one.
pub fn cut(plain: &[u8], capacity: usize) -> Option<Vec<&[u8]>> {
    let pieces: Vec<&[u8]> = plain.chunks(capacity.max(1)).collect();
    (2..=usize::from(MAX_FRAGMENTS)).contains(&pieces.len()).then_some(pieces)
}

/// What has come of a message: of one at a time.
#[derive(Debug, Default)]
pub struct Reassembly {
    message_id: u32,
    /// 0 if nothing is under way.
    total: u16,
    inner: u8,
    octets: usize,
    missing: u16,
    pieces: Vec<Option<Zeroizing<Vec<u8>>>>,
}

/// A message whose pieces are all here.
#[derive(Debug, PartialEq, Eq)]
pub struct Whole {
    /// The type of its first payload.
    pub inner: u8,
    /// Its payloads.
    pub plain: Zeroizing<Vec<u8>>,
}

impl Reassembly {
    /// Whether a fragment is worth decrypting: not malformed, not there already, not of an older
    /// cut than the one that is being put together.
    pub fn wants(&self, message_id: u32, number: u16, total: u16) -> bool {
        if number == 0 || number > total || total > MAX_FRAGMENTS {
            return false;
        }
        if self.total == 0 || message_id != self.message_id {
            return true;
        }
        match total.cmp(&self.total) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => {
                matches!(self.pieces.get(usize::from(number) - 1), Some(None))
            }
            std::cmp::Ordering::Greater => true,
        }
    }

    /// Takes an authentic fragment. The message, if it was the last one that was missing.
    pub fn add(
        &mut self,
        message_id: u32,
        number: u16,
        total: u16,
        inner: u8,
        plain: Zeroizing<Vec<u8>>,
    ) -> Option<Whole> {
        if !self.wants(message_id, number, total) {
            return None;
        }
        if self.total != total || self.message_id != message_id {
            // Another message, or the same one cut into smaller pieces (RFC 7383, 2.6).
            *self = Self {
                message_id,
                total,
                missing: total,
                pieces: (0..total).map(|_| None).collect(),
                ..Self::default()
            };
        }
        if self.octets + plain.len() > MAX_MESSAGE {
            self.clear();
            return None;
        }
        self.octets += plain.len();
        if number == 1 {
            self.inner = inner;
        }
        if let Some(place) = self.pieces.get_mut(usize::from(number) - 1) {
            *place = Some(plain);
        }
        self.missing -= 1;
        if self.missing > 0 {
            return None;
        }
        let mut whole = Zeroizing::new(Vec::with_capacity(self.octets));
        for piece in self.pieces.iter().flatten() {
            whole.extend_from_slice(piece);
        }
        let inner = self.inner;
        self.clear();
        Some(Whole { inner, plain: whole })
    }

    /// Forgets what has come.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// How many octets are held.
    pub fn octets(&self) -> usize {
        self.octets
    }
}
