//! A packet socket on one interface, that sees ARP or neighbour discovery alone.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{LinkAddr, bind, recvfrom};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::frame::{self, ETH_P_ARP, ETH_P_IPV6};
use crate::address::{Interface, MacAddr};
use crate::wait;

/// Of `linux/bpf_common.h`.
const LOAD_BYTE: u16 = 0x30;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
const WHOLE: u32 = 0xffff;
/// Solicitations and advertisements: next header, then type.
const NEIGHBOUR_DISCOVERY: [SockFilter; 7] = [
    SockFilter::new(LOAD_BYTE, 0, 0, 14 + 6),
    SockFilter::new(JUMP_IF_EQUAL, 0, 4, 58),
    SockFilter::new(LOAD_BYTE, 0, 0, 14 + 40),
    SockFilter::new(JUMP_IF_EQUAL, 1, 0, 135),
    SockFilter::new(JUMP_IF_EQUAL, 0, 1, 136),
    SockFilter::new(RETURN, 0, 0, WHOLE),
    SockFilter::new(RETURN, 0, 0, 0),
];

/// How long a full queue may take to have room for a frame.
const SEND: Duration = Duration::from_millis(100);

/// One interface, for one family.
#[derive(Debug)]
pub(super) struct Link {
    socket: Socket,
    mac: MacAddr,
    index: u32,
    /// Holds the memberships of solicited-node groups, so that the interface passes their frames.
    groups: Vec<Socket>,
}

impl Link {
    pub(super) fn open(interface: &Interface, mac: MacAddr, v6: bool) -> io::Result<Self> {
        let ethertype = if v6 { ETH_P_IPV6 } else { ETH_P_ARP };
        let protocol = Protocol::from(i32::from(ethertype.to_be()));
        // A packet socket without a protocol receives nothing: it is bound before it listens.
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
        socket.set_nonblocking(true)?;
        if v6 {
            socket.attach_filter(&NEIGHBOUR_DISCOVERY)?;
        }
        bind(socket.as_raw_fd(), &link_address(interface)?)?;
        Ok(Self { socket, mac, index: interface.index, groups: Vec::new() })
    }

    /// Has frames for the group of an address passed.
    pub(super) fn listen_for(&mut self, ip: IpAddr) -> io::Result<()> {
        let IpAddr::V6(ip) = ip else { return Ok(()) };
        let group = frame::solicited_node(ip);
        let joined = match self.groups.last() {
            Some(groups) => groups.join_multicast_v6(&group, self.index),
            None => Err(Errno::ENOBUFS.into()),
        };
        match joined.map_err(|error| (error.raw_os_error().map(Errno::from_raw), error)) {
            Ok(()) => Ok(()),
            // Another address of the batch has the same group.
            Err((Some(Errno::EADDRINUSE), _)) => Ok(()),
            // One socket holds so many and no more (net.core.optmem_max).
            Err((Some(Errno::ENOBUFS | Errno::ENOMEM), _)) => {
                let groups = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
                groups.join_multicast_v6(&group, self.index)?;
                self.groups.push(groups);
                Ok(())
            }
            Err((_, error)) => Err(error),
        }
    }

    pub(super) fn probe(&self, ip: IpAddr) -> io::Result<()> {
        match self.send(&frame::probe(self.mac, ip)) {
            // A frame lost on the way out is like one lost later: others follow.
            Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => Ok(()),
            other => other,
        }
    }

    pub(super) fn announce(&self, ip: IpAddr, router: bool) -> io::Result<()> {
        frame::announcements(self.mac, ip, router).iter().try_for_each(|frame| self.send(frame))
    }

    /// The next claim that a neighbour makes, or none for now.
    pub(super) fn claim(&self) -> io::Result<Option<(IpAddr, MacAddr)>> {
        let mut buffer = [0; 256];
        loop {
            match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                Ok((length, from)) => {
                    // Before it was bound it may have seen other interfaces.
                    let here = from.is_some_and(|from| from.ifindex() == self.index as usize);
                    let claim = frame::claim(buffer.get(..length).unwrap_or(&buffer));
                    if let (true, Some(claim)) = (here, claim) {
                        return Ok(Some(claim));
                    }
                }
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn send(&self, frame: &[u8]) -> io::Result<()> {
        match self.socket.send(frame) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut polled = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
                poll(&mut polled, wait::limit(Some(SEND)))?;
                self.socket.send(frame).map(drop)
            }
            other => other.map(drop),
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Where to bind: the kernel's own description of the interface's link.
fn link_address(interface: &Interface) -> io::Result<LinkAddr> {
    getifaddrs()?
        .filter(|found| found.interface_name == interface.name)
        .find_map(|found| found.address?.as_link_addr().copied())
        .filter(|address| address.ifindex() == interface.index as usize)
        .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}
