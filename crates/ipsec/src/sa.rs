//! Child SAs as the IKE side hands them to the data path.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use model::suite::{Encryption, Integrity};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::selector::TrafficSelector;

/// The name of a connection, `namespace/name`.
pub type ConnectionName = Arc<str>;
/// The name of a child SA of a connection.
pub type ChildName = Arc<str>;

/// An ESP SPI: 256 and up (RFC 4303, 2.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spi(NonZeroU32);

impl Spi {
    /// None for 0 to 255, which are reserved.
    pub fn new(spi: u32) -> Option<Self> {
        NonZeroU32::new(spi).filter(|spi| spi.get() > 255).map(Self)
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Debug for Spi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Display for Spi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The number of a child SA (a pair of SAs), never used twice in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChildSaId(pub u64);

/// The number of an IKE SA, never used twice in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IkeSaId(pub u64);

/// From where to where datagrams go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path {
    /// This end's address and UDP port (500 or 4500).
    pub local: SocketAddr,
    /// The other end's.
    pub remote: SocketAddr,
}

/// The keys of one direction. Zeroed when dropped; no log shows them.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct EspKeys {
    /// Of the cipher, without salt. 16, 24 or 32 octets.
    pub encryption: Vec<u8>,
    /// The salt of an AEAD (RFC 4106: 4 octets, RFC 7634: 4 octets); empty with CBC.
    pub salt: Vec<u8>,
    /// Of the HMAC; empty with an AEAD.
    pub integrity: Vec<u8>,
}

impl fmt::Debug for EspKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(keys)")
    }
}

/// What was agreed on for a child SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EspSuite {
    /// The cipher.
    pub encryption: Encryption,
    /// None with an AEAD.
    pub integrity: Option<Integrity>,
    /// 64-bit sequence numbers.
    pub esn: bool,
}

impl fmt::Display for EspSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.encryption.fmt(f)?;
        if let Some(integrity) = self.integrity {
            write!(f, "-{integrity}")?;
        }
        f.write_str(if self.esn { "-esn" } else { "" })
    }
}

/// A child SA: one SA in each direction.
#[derive(Clone, Debug)]
pub struct ChildSa {
    /// Its number.
    pub id: ChildSaId,
    /// The connection it belongs to.
    pub connection: ConnectionName,
    /// Which of the connection's children it is.
    pub child: ChildName,
    /// What was agreed on.
    pub suite: EspSuite,
    /// What the other end writes into packets to us; chosen by us.
    pub inbound_spi: Spi,
    /// What we write; chosen by the other end.
    pub outbound_spi: Spi,
    /// For what comes.
    pub inbound: EspKeys,
    /// For what goes.
    pub outbound: EspKeys,
    /// This end's addresses, as agreed on: after NAT. Not empty.
    pub local: Vec<TrafficSelector>,
    /// The other end's, as agreed on: its real ones. Not empty.
    pub remote: Vec<TrafficSelector>,
    /// Where ESP goes. The ports count only with `udp`.
    pub path: Path,
    /// ESP in UDP (RFC 3948) in place of IP protocol 50.
    pub udp: bool,
    /// Of packets, 0 for no check.
    pub replay_window: u32,
}
