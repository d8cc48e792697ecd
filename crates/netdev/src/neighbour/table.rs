//! Neighbours that the kernel knows.

use std::net::IpAddr;

use nix::sys::socket::SockProtocol;

use crate::NetlinkError;
use crate::address::MacAddr;
use crate::netlink::Socket;
use crate::netlink::message::{Message, ip};

// `linux/rtnetlink.h` and `linux/neighbour.h`.
const RTM_NEWNEIGH: u16 = 28;
const RTM_GETNEIGH: u16 = 30;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_INCOMPLETE: u16 = 0x01;
const NUD_FAILED: u16 = 0x20;
const NUD_NOARP: u16 = 0x40;
/// `struct ndmsg`.
const HEADER: usize = 12;
const AF_BRIDGE: u8 = 7;

/// Neighbours with Ethernet addresses, on all links. Those that were never heard, or that have
/// stopped answering, are not among them. Sorted.
///
/// # Errors
/// The kernel doesn't tell.
pub fn known() -> Result<Vec<(IpAddr, MacAddr)>, NetlinkError> {
    let step = "listing neighbours";
    let mut socket = Socket::open(SockProtocol::NetlinkRoute, 0, step)?;
    let found = socket.collect(RTM_GETNEIGH, &[0; HEADER], |message| {
        (message.kind == RTM_NEWNEIGH).then(|| read(message)).flatten()
    });
    let mut found = found.map_err(|errno| NetlinkError::new(step, errno))?;
    found.sort_unstable();
    Ok(found)
}

fn read(message: &Message<'_>) -> Option<(IpAddr, MacAddr)> {
    let state = u16::from_ne_bytes(*message.payload.get(8..)?.first_chunk()?);
    let family = *message.payload.first()?;
    if family == AF_BRIDGE || state & (NUD_INCOMPLETE | NUD_FAILED | NUD_NOARP) != 0 {
        return None;
    }
    let (mut address, mut mac) = (None, None);
    for (kind, value) in message.attributes(HEADER) {
        match kind {
            NDA_DST => address = ip(value),
            NDA_LLADDR => mac = value.try_into().ok().map(MacAddr),
            _ => {}
        }
    }
    Some((address?, mac?))
}
