//! What can be wrong with an ESP packet.

use thiserror::Error;

/// Why a packet from the network was dropped. Nobody is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EspError {
    /// Cut off, or not of whole blocks.
    #[error("ESP: the packet has no room for what the SA's algorithms need")]
    Truncated,
    /// Of another SA.
    #[error("ESP: the packet is of another SPI")]
    OtherSpi,
    /// Its sequence number has come before, or is older than the window.
    #[error("ESP: the sequence number came before, or is too old")]
    Replayed,
    /// Changed under way, or not from the other end.
    #[error("ESP: the packet is not authentic")]
    Unauthentic,
    /// Authentic, but its padding, its length or what is inside makes no sense.
    #[error("ESP: what is inside is malformed")]
    Malformed,
}

/// No sequence numbers are left: nothing may be sent on this SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("ESP: the SA's sequence numbers are used up; it has to be rekeyed")]
pub struct Exhausted;
