//! Who has the L4 plane of a network namespace: one process at most.
//!
//! Two would take each other's rules for foreign and each other's addresses off.

use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// An abstract name: each network namespace has its own, and the process's end frees it.
const NAME: &[u8] = b"tidegate-l4";

/// Held for as long as the plane is there.
#[derive(Debug)]
pub(super) struct Sole(#[expect(dead_code, reason = "it's there to be bound")] UnixDatagram);

/// Why the plane can't be had.
#[derive(Debug, thiserror::Error)]
pub enum SoleError {
    /// Another process has it.
    #[error(
        "l4: another gateway has the L4 plane of this network namespace; stop that one, or run \
         this one in a network namespace of its own"
    )]
    Taken,
    /// It can't be found out.
    #[error("l4: whether another gateway has the L4 plane can't be found out: {0}")]
    Socket(#[from] io::Error),
}

impl Sole {
    pub(super) fn claim() -> Result<Self, SoleError> {
        match UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(NAME)?) {
            Ok(socket) => Ok(Self(socket)),
            Err(error) if error.kind() == ErrorKind::AddrInUse => Err(SoleError::Taken),
            Err(error) => Err(error.into()),
        }
    }
}
