//! The largest packet for another end, as far as the kernel knows.

use std::io;
use std::net::{IpAddr, SocketAddr};

use nix::sys::socket::{getsockopt, sockopt};
use nix::{getsockopt_impl, libc, sockopt_impl};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::wildcard;

const IPV6_MTU: libc::c_int = 24;

sockopt_impl!(
    /// What [`sockopt::IpMtu`] is for IPv4.
    Ipv6Mtu,
    GetOnly,
    libc::IPPROTO_IPV6,
    IPV6_MTU,
    libc::c_int
);

/// The largest packet for another end: the interface's, the route's, or what routers have said.
/// Nothing is sent.
///
/// # Errors
/// There is no route, or `from` isn't an address of this machine.
pub fn path_mtu(from: Option<IpAddr>, to: IpAddr, mark: u32) -> io::Result<usize> {
    let peer = SocketAddr::new(to, 4500);
    let socket = Socket::new(Domain::for_address(peer), Type::DGRAM, Some(Protocol::UDP))?;
    if mark != 0 {
        socket.set_mark(mark)?;
    }
    let from = from.unwrap_or_else(|| wildcard(to));
    socket.bind(&SockAddr::from(SocketAddr::new(from, 0)))?;
    socket.connect(&SockAddr::from(peer))?;
    let mtu = match to {
        IpAddr::V4(_) => getsockopt(&socket, sockopt::IpMtu)?,
        IpAddr::V6(_) => getsockopt(&socket, Ipv6Mtu)?,
    };
    usize::try_from(mtu).map_err(io::Error::other)
}
