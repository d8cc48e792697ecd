//! Changes to interfaces, addresses and our local routes, whoever makes them.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use nix::errno::Errno;
use socket2::{SockFilter, SockRef};

use super::interface::{self, Interface, RTM_DELLINK, RTM_NEWLINK};
use super::{Address, AddressError, RTM_DELADDR, RTM_NEWADDR, open, read};
use crate::netlink::message::Message;
use crate::netlink::{NetlinkError, Socket};
use crate::route::{self, RTM_DELROUTE, RTM_NEWROUTE};

/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV4_ROUTE`, `RTMGRP_IPV6_IFADDR`.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100;
/// A limit, not memory taken.
const BUFFER: usize = 4 << 20;

/// Of `linux/bpf_common.h`.
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
/// Of routes' messages only the end of one of ours: a router's thousands wake nobody.
const OUR_ROUTES: [SockFilter; 7] = [
    SockFilter::new(LOAD_HALF, 0, 0, 4),
    SockFilter::new(JUMP_IF_EQUAL, 4, 0, loaded(RTM_NEWROUTE)),
    SockFilter::new(JUMP_IF_EQUAL, 0, 2, loaded(RTM_DELROUTE)),
    SockFilter::new(LOAD_BYTE, 0, 0, (MESSAGE_HEADER + route::PROTOCOL) as u32),
    SockFilter::new(JUMP_IF_EQUAL, 0, 1, route::OURS as u32),
    SockFilter::new(RETURN, 0, 0, u32::MAX),
    SockFilter::new(RETURN, 0, 0, 0),
];
/// `struct nlmsghdr`.
const MESSAGE_HEADER: usize = 16;

/// A number of the machine's byte order, as a filter loads it.
const fn loaded(number: u16) -> u32 {
    number.to_be() as u32
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An interface has an address, perhaps anew.
    Added(Address),
    /// It has it no more.
    Removed(Address),
    /// An interface is there, in this state; also told where only counters changed.
    Interface(Interface),
    /// An interface is gone.
    Gone(Interface),
    /// A route that [`crate::route::add`] had added is gone.
    RouteRemoved(Ipv4Net),
    /// Notifications were lost: what is there must be looked at.
    Overrun,
}

/// Sees all of them, own ones too.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    names: BTreeMap<u32, String>,
    buffer: Vec<u8>,
    events: VecDeque<Event>,
}

impl Monitor {
    /// From now on.
    ///
    /// # Errors
    /// [`AddressError::List`].
    pub fn open() -> Result<Self, AddressError> {
        let socket = open(GROUPS, "listening for changes of addresses")?;
        socket.receive_buffer(BUFFER);
        // Without the filter all are passed, and left out here.
        let _ = SockRef::from(&socket).attach_filter(&OUR_ROUTES);
        let names = super::interfaces()?.into_iter().map(|found| (found.index, found.name));
        Ok(Self { socket, names: names.collect(), buffer: Vec::new(), events: VecDeque::new() })
    }

    /// The next event, or none in time. [`Monitor::as_fd`] is readable when it is worth asking;
    /// ask with no time until there is none.
    ///
    /// # Errors
    /// [`AddressError::List`]: the socket failed.
    pub fn wait(&mut self, timeout: Duration) -> Result<Option<Event>, AddressError> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let mut buffer = std::mem::take(&mut self.buffer);
            let outcome = match self.socket.receive(&mut buffer, left) {
                Ok(Some(messages)) => {
                    messages.for_each(|message| self.take(&message));
                    Ok(true)
                }
                Ok(None) => Ok(false),
                Err(Errno::ENOBUFS) => {
                    self.events.push_back(Event::Overrun);
                    Ok(true)
                }
                Err(errno) => Err(NetlinkError::new("reading changes of addresses", errno)),
            };
            self.buffer = buffer;
            if !outcome? {
                return Ok(None);
            }
        }
    }

    fn take(&mut self, message: &Message<'_>) {
        let name_of = |index: u32| self.names.get(&index).cloned();
        let event = match message.kind {
            RTM_NEWADDR => read(message, name_of).map(Event::Added),
            RTM_DELADDR => read(message, name_of).map(Event::Removed),
            RTM_NEWLINK => interface::read(message).map(Event::Interface),
            RTM_DELLINK => interface::read(message).map(Event::Gone),
            RTM_DELROUTE => route::read(message).map(Event::RouteRemoved),
            _ => None,
        };
        if let Some(Event::Interface(interface)) = &event {
            self.names.insert(interface.index, interface.name.clone());
        }
        self.events.extend(event);
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
