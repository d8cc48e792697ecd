//! Raw sockets for ESP without UDP (IP protocol 50).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::sys::socket::SockaddrStorage;
use quinn_udp::{UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use thiserror::Error;

use crate::udp::{self, Inbox, Outgoing, Unsent};

const IPPROTO_ESP: i32 = 50;

/// A socket that can't be made.
#[derive(Debug, Error)]
#[error("raw socket for ESP on {address}: {step}: {source}{}", remedy(.source))]
pub struct EspSocketError {
    /// What it was to be bound to.
    pub address: IpAddr,
    /// What was being done.
    pub step: &'static str,
    /// The reason.
    pub source: io::Error,
}

fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            "; give the process CAP_NET_RAW, or say `forceUDP: true` in all VpnConnections"
        }
        _ => "",
    }
}

/// A raw socket that takes and sends ESP. It doesn't block.
#[derive(Debug)]
pub struct EspSocket {
    socket: Socket,
    state: UdpSocketState,
    address: IpAddr,
}

impl EspSocket {
    /// Takes ESP for an address (all of this machine with the wildcard).
    ///
    /// # Errors
    /// [`EspSocketError`].
    pub fn bind(address: IpAddr, settings: &udp::Settings) -> Result<Self, EspSocketError> {
        let failed = |step| move |source| EspSocketError { address, step, source };
        let bound = SocketAddr::new(address, 0);
        let protocol = Some(Protocol::from(IPPROTO_ESP));
        let socket = Socket::new(Domain::for_address(bound), Type::RAW, protocol)
            .map_err(failed("socket"))?;
        udp::prepare(&socket, settings).map_err(failed("SO_MARK"))?;
        socket.bind(&SockAddr::from(bound)).map_err(failed("bind"))?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket)).map_err(failed("options"))?;
        udp::after(&socket, bound, settings.dont_fragment).map_err(failed("options"))?;
        Ok(Self { socket, state, address })
    }

    /// What it is bound to.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Takes what has come; how many buffers are filled. Of IPv4 each begins with the IP header
    /// ([`payload`]); ports of addresses say nothing.
    ///
    /// # Errors
    /// `WouldBlock` if nothing has.
    pub fn receive(&self, inbox: &mut Inbox) -> io::Result<usize> {
        inbox.fill(&self.state, UdpSockRef::from(&self.socket))
    }

    /// Sends ESP packets of equal size (the last may be shorter). The port of the other end
    /// doesn't count.
    ///
    /// # Errors
    /// [`Unsent`]: some are not on their way.
    pub fn send(&self, outgoing: &Outgoing<'_>) -> Result<(), Unsent> {
        let to = SockaddrStorage::from(SocketAddr::new(outgoing.to.ip(), 0));
        let segment = outgoing.segment.clamp(1, outgoing.contents.len().max(1));
        udp::one_by_one(self.socket.as_raw_fd(), outgoing, &to, segment)
    }
}

impl AsFd for EspSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The ESP packet in what a raw socket of this family has given; none if it is too short.
pub fn payload(is_ipv4: bool, packet: &mut [u8]) -> Option<&mut [u8]> {
    if !is_ipv4 {
        return Some(packet);
    }
    let length = usize::from(packet.first()? & 0x0f) * 4;
    packet.get_mut(length..)
}
