//! A UDP socket that tells which address a datagram was for, and sends from one.
//!
//! A socket that is bound to one address needs neither. On a wildcard both go along with each
//! datagram (`IP_PKTINFO`, ip(7); RFC 3542, 6).

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::task::{Context, Poll};

use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
    sockopt,
};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Room for one control message of either family.
const CONTROL: usize = 128;

/// A socket towards clients.
#[derive(Debug)]
pub(crate) struct Packets {
    socket: UdpSocket,
    wildcard: bool,
}

/// A datagram that came in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    pub(crate) len: usize,
    pub(crate) path: Path,
}

/// Between whom datagrams go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Path {
    pub(crate) client: SocketAddr,
    /// The address that the client sent to, where the socket's own doesn't tell.
    pub(crate) local: Option<IpAddr>,
}

/// Has the socket tell which address each datagram was for.
pub(crate) fn tell_addresses(socket: &std::net::UdpSocket, ipv6: bool) -> io::Result<()> {
    if ipv6 {
        setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    } else {
        setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?;
    }
    Ok(())
}

impl Packets {
    /// Of a bound, non-blocking socket; wildcards are to [`tell_addresses`].
    pub(crate) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let wildcard = socket.local_addr()?.ip().is_unspecified();
        Ok(Self { socket: UdpSocket::from_std(socket)?, wildcard })
    }

    /// Ready when something may have come in.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_recv_ready(cx)
    }

    /// One datagram.
    pub(crate) fn try_receive(&self, buf: &mut [u8]) -> io::Result<Received> {
        if !self.wildcard {
            let (len, client) = self.socket.try_recv_from(buf)?;
            return Ok(Received { len, path: Path { client, local: None } });
        }
        self.socket.try_io(Interest::READABLE, || {
            let mut control = [0; CONTROL];
            let mut pieces = [IoSliceMut::new(buf)];
            let message = recvmsg::<SockaddrStorage>(
                self.socket.as_raw_fd(),
                &mut pieces,
                Some(&mut control),
                MsgFlags::MSG_DONTWAIT,
            )?;
            let local = message.cmsgs()?.find_map(|control| match control {
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    Some(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()).into())
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into())
                }
                _ => None,
            });
            let client = message.address.as_ref().and_then(client_of);
            let client = client.ok_or(io::ErrorKind::InvalidData)?;
            Ok(Received { len: message.bytes, path: Path { client, local } })
        })
    }

    /// Sends to the client, from the address that it sent to. Never waits.
    pub(crate) fn try_send(&self, bytes: &[u8], path: &Path) -> io::Result<usize> {
        let Some(local) = path.local else {
            return SockRef::from(&self.socket).send_to(bytes, &path.client.into());
        };
        let to = SockaddrStorage::from(path.client);
        let (v4, v6);
        let control = match local {
            IpAddr::V4(ip) => {
                let s_addr = u32::from_ne_bytes(ip.octets());
                v4 = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr { s_addr },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                ControlMessage::Ipv4PacketInfo(&v4)
            }
            IpAddr::V6(ip) => {
                v6 = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr { s6_addr: ip.octets() },
                    // A link-local client is only reached over its own link.
                    ipi6_ifindex: match path.client {
                        SocketAddr::V6(client) => client.scope_id(),
                        SocketAddr::V4(_) => 0,
                    },
                };
                ControlMessage::Ipv6PacketInfo(&v6)
            }
        };
        let pieces = [IoSlice::new(bytes)];
        let flags = MsgFlags::MSG_DONTWAIT;
        Ok(sendmsg(self.socket.as_raw_fd(), &pieces, &[control], flags, Some(&to))?)
    }
}

fn client_of(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::from(*v4));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::from(*v6)))
}
