//! Whether something may be missing: routes of [`super::table`] and rules of [`crate::rule`] that
//! are gone, whoever removed them, and interfaces that changed.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::SockProtocol;
use socket2::{SockFilter, SockRef};

use super::{OURS, PROTOCOL, RTM_DELROUTE, RTM_NEWROUTE};
use crate::NetlinkError;
use crate::netlink::Socket;
use crate::netlink::message::Message;
use crate::rule::{RTM_DELRULE, RTM_NEWRULE};

/// `RTNLGRP_LINK`, `_IPV4_ROUTE`, `_IPV4_RULE`, `_IPV6_ROUTE` and `_IPV6_RULE`, as bits.
const GROUPS: u32 = 1 | (1 << 6) | (1 << 7) | (1 << 10) | (1 << 18);
/// A limit, not memory taken.
const BUFFER: usize = 4 << 20;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;

/// Of `linux/bpf_common.h`.
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
/// Of routes' messages only the end of one of ours, so that a router's thousands wake nobody.
const COUNTS: [SockFilter; 8] = [
    SockFilter::new(LOAD_HALF, 0, 0, 4),
    SockFilter::new(JUMP_IF_EQUAL, 5, 0, loaded(RTM_NEWROUTE)),
    SockFilter::new(JUMP_IF_EQUAL, 4, 0, loaded(RTM_NEWRULE)),
    SockFilter::new(JUMP_IF_EQUAL, 0, 2, loaded(RTM_DELROUTE)),
    SockFilter::new(LOAD_BYTE, 0, 0, (MESSAGE_HEADER + PROTOCOL) as u32),
    SockFilter::new(JUMP_IF_EQUAL, 0, 1, OURS as u32),
    SockFilter::new(RETURN, 0, 0, u32::MAX),
    SockFilter::new(RETURN, 0, 0, 0),
];
/// `struct nlmsghdr`.
const MESSAGE_HEADER: usize = 16;

/// A number of the machine's byte order, as a filter loads it.
const fn loaded(number: u16) -> u32 {
    number.to_be() as u32
}

/// Sees all such changes, own ones too.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Monitor {
    /// From now on.
    ///
    /// # Errors
    /// The kernel gives no socket.
    pub fn open() -> Result<Self, NetlinkError> {
        let step = "listening for changes of routes";
        let socket = Socket::open(SockProtocol::NetlinkRoute, GROUPS, step)?;
        socket.receive_buffer(BUFFER);
        // Without the filter all are passed, and left out here.
        let _ = SockRef::from(&socket).attach_filter(&COUNTS);
        Ok(Self { socket, buffer: Vec::new() })
    }

    /// Whether something happened since this was asked last; waits for it as long as that.
    /// [`Monitor::as_fd`] is readable when it is worth asking.
    ///
    /// # Errors
    /// The socket failed.
    pub fn wait(&mut self, timeout: Duration) -> Result<bool, NetlinkError> {
        let deadline = Instant::now() + timeout;
        let mut happened = false;
        loop {
            let left = match happened {
                // What else is there belongs to it.
                true => Duration::ZERO,
                false => deadline.saturating_duration_since(Instant::now()),
            };
            match self.socket.receive(&mut self.buffer, left) {
                Ok(Some(mut messages)) => happened |= messages.any(|message| counts(&message)),
                Ok(None) => return Ok(happened),
                Err(Errno::ENOBUFS) => happened = true,
                Err(errno) => return Err(NetlinkError::new("reading changes of routes", errno)),
            }
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn counts(message: &Message<'_>) -> bool {
    match message.kind {
        RTM_NEWLINK | RTM_DELLINK | RTM_DELRULE => true,
        RTM_DELROUTE => message.payload.get(PROTOCOL) == Some(&OURS),
        _ => false,
    }
}
