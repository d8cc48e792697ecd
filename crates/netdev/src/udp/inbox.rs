//! Buffers that are filled with datagrams.

use std::array;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};

use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};

/// The largest UDP payload, and what the kernel puts together at most.
const SIZE: usize = 65_535;
/// How many at most.
const BATCH: usize = 32;

/// Buffers that are filled with datagrams, several at once.
#[derive(Debug)]
pub struct Inbox {
    buffers: Vec<Vec<u8>>,
    meta: [RecvMeta; BATCH],
    filled: usize,
}

/// What came in one buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The other end.
    pub from: SocketAddr,
    /// The address of this end.
    pub to: Option<IpAddr>,
    /// The length of each datagram; the last may be shorter.
    pub stride: usize,
    /// The ECN bits of all.
    pub ecn: u8,
}

impl Inbox {
    /// With so many buffers, 32 at most.
    pub fn new(buffers: usize) -> Self {
        let buffers = vec![vec![0; SIZE]; buffers.clamp(1, BATCH)];
        Self { buffers, meta: [RecvMeta::default(); BATCH], filled: 0 }
    }

    /// How many buffers there are.
    pub fn capacity(&self) -> usize {
        self.buffers.len()
    }

    pub(crate) fn fill(
        &mut self,
        state: &UdpSocketState,
        socket: UdpSockRef<'_>,
    ) -> io::Result<usize> {
        self.filled = 0;
        let count = self.buffers.len();
        let mut buffers = self.buffers.iter_mut();
        let mut slices: [IoSliceMut<'_>; BATCH] = array::from_fn(|_| match buffers.next() {
            Some(buffer) => IoSliceMut::new(buffer),
            None => IoSliceMut::new(&mut []),
        });
        self.filled = state.recv(socket, &mut slices[..count], &mut self.meta[..count])?;
        Ok(self.filled)
    }

    /// What was filled last.
    pub fn received(&mut self) -> impl Iterator<Item = (Received, &mut [u8])> {
        self.buffers.iter_mut().zip(&self.meta).take(self.filled).map(|(buffer, meta)| {
            let received = Received {
                from: meta.addr,
                to: meta.dst_ip,
                stride: meta.stride.max(1),
                ecn: meta.ecn.map_or(0, |ecn| ecn as u8),
            };
            let length = meta.len.min(buffer.len());
            (received, &mut buffer[..length])
        })
    }
}
