//! Who has a plane of a network namespace: one process at most.
//!
//! Two would take each other's rules for foreign and each other's addresses off.

use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::thread;
use std::time::{Duration, Instant};

/// How long a process that was killed may take to be gone.
const ENDING: Duration = Duration::from_secs(2);
/// Between two looks.
const STEP: Duration = Duration::from_millis(20);

/// Held for as long as the plane is there.
#[derive(Debug)]
pub(crate) struct Sole(#[expect(dead_code, reason = "it's there to be bound")] UnixDatagram);

/// Why the plane can't be had.
#[derive(Debug, thiserror::Error)]
pub enum SoleError {
    /// Another process has it.
    #[error(
        "{0}: another gateway has the {upper} plane of this network namespace; stop that one, or \
         run this one in a network namespace of its own",
        upper = .0.to_ascii_uppercase()
    )]
    Taken(&'static str),
    /// It can't be found out.
    #[error("{0}: whether another gateway has this plane can't be found out: {1}")]
    Socket(&'static str, io::Error),
}

impl Sole {
    /// Claims a plane, such as `l4`. One that is just ending is waited for.
    pub(crate) fn claim(plane: &'static str) -> Result<Self, SoleError> {
        let deadline = Instant::now() + ENDING;
        loop {
            match Self::try_claim(plane) {
                Err(SoleError::Taken(_)) if Instant::now() < deadline => thread::sleep(STEP),
                claimed => return claimed,
            }
        }
    }

    fn try_claim(plane: &'static str) -> Result<Self, SoleError> {
        // An abstract name: each network namespace has its own, and the process's end frees it.
        let address = SocketAddr::from_abstract_name(format!("tidegate-{plane}"));
        match address.and_then(|address| UnixDatagram::bind_addr(&address)) {
            Ok(socket) => Ok(Self(socket)),
            Err(error) if error.kind() == ErrorKind::AddrInUse => Err(SoleError::Taken(plane)),
            Err(error) => Err(SoleError::Socket(plane, error)),
        }
    }
}
