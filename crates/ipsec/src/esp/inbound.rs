//! An SA that packets come on.

use std::fmt;

use super::transform::{Direction, Shape, Transform};
use super::{DUMMY, EspError, HEADER, IPV4, IPV6, Replay, TRAILER};
use crate::crypto::CryptoError;
use crate::sa::{EspKeys, EspSuite, Spi};

/// An SA that packets come on.
pub struct Inbound {
    transform: Transform,
    shape: Shape,
    spi: Spi,
    esn: bool,
    replay_window: u32,
}

/// What was in an ESP packet.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened<'a> {
    /// A packet, without what padded it (RFC 4303, 2.7).
    Packet {
        /// It. Of IPv4 and IPv6 only the length has been looked at.
        inner: &'a mut [u8],
        /// [`IPV4`], [`IPV6`], or something else.
        next_header: u8,
    },
    /// Nothing: the packet only hid how much traffic there is.
    Dummy,
}

impl Inbound {
    /// With the keys of this direction.
    ///
    /// # Errors
    /// The keys don't fit the suite.
    pub fn new(
        suite: EspSuite,
        keys: &EspKeys,
        spi: Spi,
        replay_window: u32,
    ) -> Result<Self, CryptoError> {
        let (transform, shape) = Transform::new(suite, keys, Direction::In)?;
        Ok(Self { transform, shape, spi, esn: suite.esn, replay_window })
    }

    /// An empty window for this SA.
    pub fn replay(&self) -> Replay {
        Replay::new(self.replay_window)
    }

    /// What stands in its packets.
    pub fn spi(&self) -> Spi {
        self.spi
    }

    /// Opens an ESP packet (SPI to ICV) in place. The window moves only for authentic packets.
    ///
    /// # Errors
    /// The packet has to be dropped.
    pub fn open<'a>(
        &self,
        replay: &mut Replay,
        packet: &'a mut [u8],
    ) -> Result<Opened<'a>, EspError> {
        let header = packet.first_chunk::<HEADER>().ok_or(EspError::Truncated)?;
        let [s0, s1, s2, s3, low @ ..] = *header;
        if u32::from_be_bytes([s0, s1, s2, s3]) != self.spi.get() {
            return Err(EspError::OtherSpi);
        }
        let low = u32::from_be_bytes(low);
        let sequence = if self.esn { replay.extend(low) } else { u64::from(low) };
        if !replay.allows(sequence) {
            return Err(EspError::Replayed);
        }
        let high = self.esn.then_some((sequence >> 32) as u32);
        let plain = self.transform.open(&self.shape, high, packet)?;
        if !replay.accept(sequence) {
            return Err(EspError::Replayed);
        }
        unpad(plain)
    }
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbound").field("spi", &self.spi).finish_non_exhaustive()
    }
}

/// Takes padding and trailer off, then what hides the packet's length.
fn unpad(plain: &mut [u8]) -> Result<Opened<'_>, EspError> {
    let (rest, [padding, next_header]) =
        plain.split_last_chunk_mut::<TRAILER>().ok_or(EspError::Malformed)?;
    let (padding, next_header) = (usize::from(*padding), *next_header);
    let length = rest.len().checked_sub(padding).ok_or(EspError::Malformed)?;
    let (inner, padding) = rest.split_at_mut_checked(length).ok_or(EspError::Malformed)?;
    if padding.iter().zip(1_u8..).any(|(octet, expected)| *octet != expected) {
        return Err(EspError::Malformed);
    }
    let length = match next_header {
        DUMMY => return Ok(Opened::Dummy),
        IPV4 => match inner {
            [first, _, l0, l1, ..] if *first >> 4 == 4 => {
                usize::from(u16::from_be_bytes([*l0, *l1]))
            }
            _ => return Err(EspError::Malformed),
        },
        IPV6 => match inner {
            [first, _, _, _, l0, l1, ..] if *first >> 4 == 6 => {
                40 + usize::from(u16::from_be_bytes([*l0, *l1]))
            }
            _ => return Err(EspError::Malformed),
        },
        _ => inner.len(),
    };
    let inner = inner.get_mut(..length).ok_or(EspError::Malformed)?;
    Ok(Opened::Packet { inner, next_header })
}
