//! Echoing datagrams, many in one system call.

use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::AsRawFd;

use mio::net::UdpSocket;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};

use super::Counts;
use crate::load::udp::{MAGIC, NO_ECHO};

/// Datagrams in one system call.
const BATCH: usize = 32;
/// Bytes of the largest datagram.
const LARGEST: usize = 65_536;
/// System calls before others have their turn.
const ROUNDS: usize = 16;

/// The socket and its buffers.
pub(super) struct Datagrams {
    socket: UdpSocket,
    buffer: Vec<u8>,
    incoming: MultiHeaders<SockaddrStorage>,
    /// Not the same: sending leaves pointers to addresses behind, to which receiving would write.
    outgoing: MultiHeaders<SockaddrStorage>,
}

impl fmt::Debug for Datagrams {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Datagrams").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Datagrams {
    /// Echoes what comes to a socket.
    pub(super) fn new(socket: UdpSocket) -> Self {
        // The system may give less; then bursts are lost, as they are by any server.
        let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20);
        Self {
            socket,
            buffer: vec![0; BATCH * LARGEST],
            incoming: MultiHeaders::preallocate(BATCH, None),
            outgoing: MultiHeaders::preallocate(BATCH, None),
        }
    }

    /// Echoes what is there, for a while; whether there may be more.
    pub(super) fn turn(&mut self, counts: &mut Counts) -> bool {
        for _ in 0..ROUNDS {
            match self.echo(counts) {
                Ok(()) => {}
                Err(Errno::EAGAIN) => return false,
                // Somebody's port is closed, or a signal came: the next datagrams may be better.
                Err(_) => return true,
            }
        }
        true
    }

    fn echo(&mut self, counts: &mut Counts) -> Result<(), Errno> {
        let fd = self.socket.as_raw_fd();
        let mut slices: Vec<_> =
            self.buffer.chunks_exact_mut(LARGEST).map(|part| [IoSliceMut::new(part)]).collect();
        let flags = MsgFlags::MSG_DONTWAIT;
        let came: Vec<_> = recvmmsg(fd, &mut self.incoming, &mut slices, flags, None)?
            .map(|message| (message.bytes, message.address))
            .collect();
        let (mut packets, mut addresses) = (Vec::new(), Vec::new());
        for (part, (size, address)) in self.buffer.chunks_exact(LARGEST).zip(came) {
            let packet = part.get(..size).unwrap_or(part);
            counts.udp_packets += 1;
            counts.udp_bytes += size as u64;
            let only_counted =
                packet.strip_prefix(&MAGIC).is_some_and(|rest| rest.first() == Some(&NO_ECHO));
            if !only_counted {
                packets.push([IoSlice::new(packet)]);
                addresses.push(address);
            }
        }
        if packets.is_empty() {
            return Ok(());
        }
        let sent = sendmmsg(fd, &mut self.outgoing, &packets, &addresses, [], flags);
        let sent = sent.map_or(0, Iterator::count);
        counts.udp_unsent += (packets.len() - sent) as u64;
        Ok(())
    }
}
