//! Sending with the address of this end and the type of service.

use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};

use super::Unsent;

/// Datagrams for one other end.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// The address of this end. None: as the route says.
    pub from: Option<IpAddr>,
    /// The other end.
    pub to: SocketAddr,
    /// Type of service or traffic class: DSCP and ECN.
    pub tos: u8,
    /// All datagrams, one after the other.
    pub contents: &'a [u8],
    /// The length of each; the last may be shorter.
    pub segment: usize,
}

/// All in one system call; the kernel cuts.
pub(super) fn at_once(
    fd: RawFd,
    outgoing: &Outgoing<'_>,
    to: &SockaddrStorage,
    segment: usize,
) -> Result<(), Errno> {
    let Ok(segment) = u16::try_from(segment) else { return Err(Errno::EMSGSIZE) };
    send(fd, outgoing, to, outgoing.contents, Some(segment))
}

/// One system call each.
pub(crate) fn one_by_one(
    fd: RawFd,
    outgoing: &Outgoing<'_>,
    to: &SockaddrStorage,
    segment: usize,
) -> Result<(), Unsent> {
    let mut unsent: Option<Unsent> = None;
    for datagram in outgoing.contents.chunks(segment) {
        if let Err(errno) = send(fd, outgoing, to, datagram, None) {
            let datagrams = unsent.map_or(0, |unsent| unsent.datagrams) + 1;
            unsent = Some(Unsent { datagrams, source: errno.into() });
        }
    }
    unsent.map_or(Ok(()), Err)
}

fn send(
    fd: RawFd,
    outgoing: &Outgoing<'_>,
    to: &SockaddrStorage,
    contents: &[u8],
    segment: Option<u16>,
) -> Result<(), Errno> {
    let info_v4;
    let info_v6;
    let class = i32::from(outgoing.tos);
    let mut messages = [ControlMessage::Ipv4Tos(&outgoing.tos); 3];
    let mut count = 1;
    if outgoing.to.is_ipv6() {
        messages[0] = ControlMessage::Ipv6TClass(&class);
    }
    match outgoing.from {
        Some(IpAddr::V4(from)) => {
            info_v4 = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(from.octets()) },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            messages[count] = ControlMessage::Ipv4PacketInfo(&info_v4);
            count += 1;
        }
        Some(IpAddr::V6(from)) => {
            info_v6 = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: from.octets() },
                ipi6_ifindex: 0,
            };
            messages[count] = ControlMessage::Ipv6PacketInfo(&info_v6);
            count += 1;
        }
        None => {}
    }
    if let Some(segment) = &segment {
        messages[count] = ControlMessage::UdpGsoSegments(segment);
        count += 1;
    }
    let slices = [IoSlice::new(contents)];
    loop {
        match sendmsg(fd, &slices, &messages[..count], MsgFlags::MSG_DONTWAIT, Some(to)) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
