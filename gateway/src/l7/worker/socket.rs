//! Listening sockets.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::l7::upstream::UNSENT;
use crate::stream::udp::packet;

/// Connections that may wait to be accepted, per listener.
const BACKLOG: i32 = 4096;
/// Bytes of datagrams that may wait, per UDP socket.
const UDP_BUFFER: usize = 4 << 20;

/// How long a socket that is closed may live on in a process being started.
const MOMENT: Duration = Duration::from_millis(50);

/// How an address is bound.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bind {
    /// Others may share the port (`SO_REUSEPORT`).
    pub(super) shared_port: bool,
    /// The machine need not have the address yet (`IP_FREEBIND`).
    pub(super) foreign: bool,
}

/// A TCP socket that listens.
pub(super) fn listen(address: SocketAddr, bind: Bind) -> io::Result<TcpListener> {
    unless_held_for_a_moment(bind, || {
        let socket = bound(address, Type::STREAM, bind, true)?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    })
}

/// A socket that has just been closed here, to find out whether an address is free, lives a moment
/// longer in a process that another thread is starting (`nft`), until that runs its program.
fn unless_held_for_a_moment<T>(bind: Bind, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let end = Instant::now() + MOMENT;
    loop {
        match open() {
            Err(error)
                if bind.shared_port
                    && error.kind() == io::ErrorKind::AddrInUse
                    && Instant::now() < end =>
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            opened => return opened,
        }
    }
}

/// A UDP socket; one on a wildcard tells which address each datagram was for.
pub(super) fn datagrams(address: SocketAddr, bind: Bind) -> io::Result<UdpSocket> {
    let socket = unless_held_for_a_moment(bind, || bound(address, Type::DGRAM, bind, false))?;
    // As much as the system allows: bursts wait here.
    let _ = socket.set_recv_buffer_size(UDP_BUFFER);
    let socket = socket.into();
    if address.ip().is_unspecified() {
        packet::tell_addresses(&socket, address.is_ipv6())?;
    }
    Ok(socket)
}

/// Whether nobody else has the address and port.
///
/// # Errors
/// What keeps from binding it.
pub(super) fn probe(protocol: model::net::Protocol, address: SocketAddr) -> io::Result<()> {
    let bind = Bind { shared_port: false, foreign: true };
    match protocol {
        model::net::Protocol::Udp => bound(address, Type::DGRAM, bind, false).map(drop),
        // Two may be bound to one address as long as only one listens.
        _ => listen(address, bind).map(drop),
    }
}

fn bound(address: SocketAddr, kind: Type, bind: Bind, reuse: bool) -> io::Result<Socket> {
    let is_tcp = kind == Type::STREAM;
    let protocol = if is_tcp { Protocol::TCP } else { Protocol::UDP };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_reuse_address(reuse)?;
    socket.set_reuse_port(bind.shared_port)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if bind.foreign {
        match address {
            SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
            SocketAddr::V6(_) => socket.set_freebind_v6(true)?,
        }
    }
    if is_tcp {
        // Accepted connections inherit both.
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_notsent_lowat(UNSENT)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}
