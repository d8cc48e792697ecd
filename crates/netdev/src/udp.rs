//! UDP sockets that take and send many datagrams at once: segmentation by the kernel (GSO, GRO),
//! several sockets on one port, the address of this end for each datagram.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::sys::socket::{SockaddrStorage, setsockopt, sockopt};
use nix::{libc, setsockopt_impl, sockopt_impl};
use quinn_udp::{UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use thiserror::Error;

mod inbox;
mod path_mtu;
mod send;

pub use inbox::{Inbox, Received};
pub use path_mtu::path_mtu;
pub use send::Outgoing;
pub(crate) use send::one_by_one;

// `linux/in.h`, `linux/in6.h`: fragments are made as needed, nothing is learnt by the socket.
const PMTUDISC_DONT: libc::c_int = 0;
const PMTUDISC_DO: libc::c_int = 2;

/// `linux/udp.h`: ESP in UDP (RFC 3948).
const ENCAP_ESP_IN_UDP: libc::c_int = 2;
const UDP_ENCAP: libc::c_int = 100;

sockopt_impl!(
    /// What of the datagrams the kernel itself takes.
    UdpEncap,
    SetOnly,
    libc::IPPROTO_UDP,
    UDP_ENCAP,
    libc::c_int
);
sockopt_impl!(
    /// Whether datagrams may be fragmented.
    IpMtuDiscover,
    SetOnly,
    libc::IPPROTO_IP,
    libc::IP_MTU_DISCOVER,
    libc::c_int
);
sockopt_impl!(
    /// The same of IPv6.
    Ipv6MtuDiscover,
    SetOnly,
    libc::IPPROTO_IPV6,
    libc::IPV6_MTU_DISCOVER,
    libc::c_int
);

/// How datagrams are sent and taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The mark of what is sent (`SO_MARK`), if not zero.
    pub mark: u32,
    /// Routers must not fragment what is sent.
    pub dont_fragment: bool,
    /// Many datagrams for one system call, where the kernel can.
    pub offloads: bool,
    /// Octets that may wait to be read, and to be sent.
    pub buffer: usize,
}

/// A socket that can't be made. It names the address.
#[derive(Debug, Error)]
#[error("UDP {address}: {step}: {source}{}", remedy(.source))]
pub struct UdpError {
    /// What it was to be bound to.
    pub address: SocketAddr,
    /// What was being done.
    pub step: &'static str,
    /// The reason.
    pub source: io::Error,
}

fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            "; another IKE daemon has the port (strongSwan's charon, Libreswan's pluto): stop it"
        }
        io::ErrorKind::AddrNotAvailable => "; no interface has the address",
        io::ErrorKind::PermissionDenied => {
            "; give the process CAP_NET_ADMIN and CAP_NET_BIND_SERVICE"
        }
        _ => "",
    }
}

/// A UDP socket. It doesn't block.
#[derive(Debug)]
pub struct UdpSocket {
    socket: Socket,
    state: UdpSocketState,
    address: SocketAddr,
    /// The kernel cuts datagrams out of what is sent.
    segments: AtomicBool,
}

impl UdpSocket {
    /// Binds one of several sockets of a port (`SO_REUSEPORT`): the kernel spreads the other ends
    /// over them. Of IPv6 it takes no IPv4.
    ///
    /// # Errors
    /// [`UdpError`].
    pub fn bind(address: SocketAddr, settings: &Settings) -> Result<Self, UdpError> {
        let failed = |step| move |source| UdpError { address, step, source };
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))
            .map_err(failed("socket"))?;
        if address.is_ipv6() {
            socket.set_only_v6(true).map_err(failed("IPV6_V6ONLY"))?;
        }
        prepare(&socket, settings).map_err(failed("SO_MARK"))?;
        socket.set_reuse_port(true).map_err(failed("SO_REUSEPORT"))?;
        socket.bind(&SockAddr::from(address)).map_err(failed("bind"))?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket)).map_err(failed("options"))?;
        after(&socket, address, settings.dont_fragment).map_err(failed("options"))?;
        if !settings.offloads {
            let _ = setsockopt(&socket, sockopt::UdpGroSegment, &false);
        }
        let segments = settings.offloads && state.max_gso_segments() > 1;
        let bound = socket.local_addr().ok().and_then(|bound| bound.as_socket());
        let address = bound.unwrap_or(address);
        Ok(Self { socket, state, address, segments: AtomicBool::new(segments) })
    }

    /// Has the kernel take ESP out of it (RFC 3948). What is left is IKE, behind its marker.
    ///
    /// # Errors
    /// [`UdpError`]: the kernel has no IPsec.
    pub fn leave_esp_to_kernel(&self) -> Result<(), UdpError> {
        let set = setsockopt(&self.socket, UdpEncap, &ENCAP_ESP_IN_UDP);
        let (address, step) = (self.address, "UDP_ENCAP");
        set.map_err(|errno| UdpError { address, step, source: errno.into() })
    }

    /// What it is bound to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes what has come; how many buffers are filled.
    ///
    /// # Errors
    /// `WouldBlock` if nothing has.
    pub fn receive(&self, inbox: &mut Inbox) -> io::Result<usize> {
        inbox.fill(&self.state, UdpSockRef::from(&self.socket))
    }

    /// Sends datagrams of equal size (the last may be shorter).
    ///
    /// # Errors
    /// [`Unsent`]: some are not on their way.
    pub fn send(&self, outgoing: &Outgoing<'_>) -> Result<(), Unsent> {
        let fd = self.socket.as_raw_fd();
        let to = SockaddrStorage::from(outgoing.to);
        let length = outgoing.contents.len();
        let segment = outgoing.segment.clamp(1, length.max(1));
        if length > segment && self.segments.load(Ordering::Relaxed) {
            match send::at_once(fd, outgoing, &to, segment) {
                Ok(()) => return Ok(()),
                // No checksum offload on the way out.
                Err(Errno::EIO) => self.segments.store(false, Ordering::Relaxed),
                // The segments are beyond the path's MTU: the kernel fragments single ones.
                Err(Errno::EINVAL | Errno::EMSGSIZE) => {
                    let sent = send::one_by_one(fd, outgoing, &to, segment);
                    return match sent {
                        Ok(()) => Err(Unsent { datagrams: 0, source: Errno::EMSGSIZE.into() }),
                        Err(unsent) => Err(unsent),
                    };
                }
                Err(errno) => {
                    let datagrams = length.div_ceil(segment);
                    return Err(Unsent { datagrams, source: errno.into() });
                }
            }
        }
        send::one_by_one(fd, outgoing, &to, segment)
    }

    /// Whether the kernel cuts datagrams out of what is sent.
    pub fn has_segments(&self) -> bool {
        self.segments.load(Ordering::Relaxed)
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What was not sent.
#[derive(Debug, Error)]
#[error("{datagrams} datagrams were not sent: {source}")]
pub struct Unsent {
    /// How many. None at all: they are sent, but as fragments, since they are beyond the path's
    /// MTU.
    pub datagrams: usize,
    /// The reason.
    pub source: io::Error,
}

impl Unsent {
    /// Datagrams were beyond the path's MTU.
    pub fn is_too_big(&self) -> bool {
        self.source.raw_os_error() == Some(libc::EMSGSIZE)
    }
}

/// The wildcard address of the same family.
pub fn wildcard(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// The mark and the buffers of a socket.
pub(crate) fn prepare(socket: &Socket, settings: &Settings) -> io::Result<()> {
    if settings.mark != 0 {
        socket.set_mark(settings.mark)?;
    }
    // Without the right to more, what is allowed has to be enough.
    if setsockopt(socket, sockopt::RcvBufForce, &settings.buffer).is_err() {
        let _ = socket.set_recv_buffer_size(settings.buffer);
    }
    if setsockopt(socket, sockopt::SndBufForce, &settings.buffer).is_err() {
        let _ = socket.set_send_buffer_size(settings.buffer);
    }
    Ok(())
}

/// What is to be said after quinn-udp has set its options.
pub(crate) fn after(socket: &Socket, address: SocketAddr, dont_fragment: bool) -> io::Result<()> {
    // Nobody reads when a datagram came.
    let _ = setsockopt(socket, sockopt::ReceiveTimestampns, &false);
    let discover = if dont_fragment { PMTUDISC_DO } else { PMTUDISC_DONT };
    if address.is_ipv4() {
        setsockopt(socket, IpMtuDiscover, &discover)?;
    } else {
        setsockopt(socket, Ipv6MtuDiscover, &discover)?;
        setsockopt(socket, sockopt::Ipv6DontFrag, &dont_fragment)?;
    }
    Ok(())
}
