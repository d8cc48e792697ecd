//! Who changed our table.
//!
//! The kernel notifies of a transaction's parts, each with the table that it belongs to, and then
//! of the new generation, all with the port of the netlink socket that it came by; `nft`'s socket
//! has its process id for a port, as this process' PID namespace has it. Elements that packets add and time-outs remove are not notified
//! of.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::SockProtocol;

use super::{NftError, Own};
use crate::netlink::message::{Message, be32, name};
use crate::netlink::{NetlinkError, Socket};

/// `NFNLGRP_NFTABLES` of `linux/netfilter/nfnetlink.h`, as a bit.
const GROUP: u32 = 1 << (7 - 1);
/// `NFNL_SUBSYS_NFTABLES`.
const SUBSYSTEM: u16 = 10;
/// Of `linux/netfilter/nf_tables.h`.
const NFT_MSG_NEWGEN: u16 = 15;
const NFT_MSG_GETGEN: u16 = 16;
const NFTA_GEN_ID: u16 = 1;
const NFTA_GEN_PROC_PID: u16 = 2;
const NFTA_GEN_PROC_NAME: u16 = 3;
/// The table's name has this number in every kind of message.
const NFTA_TABLE: u16 = 1;
/// `struct nfgenmsg`.
const HEADER: usize = 4;
/// A load of 100,000 elements notifies of each. It is a limit, not memory taken.
const BUFFER: usize = 64 << 20;

/// What others did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A transaction touched the table.
    Changed {
        /// The process, by the number that the first PID namespace has for it.
        by_pid: u32,
        /// Its name, as in `ps`.
        by_name: String,
        /// The number that the ruleset has from then on.
        generation: u32,
    },
    /// Notifications were lost: what the table holds must be looked at.
    Overrun,
}

/// Sees changes to one table that other processes make.
///
/// Own changes are those by [`super::Nft`] and its clones.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    family: u8,
    table: String,
    own: Own,
    buffer: Vec<u8>,
    /// The transaction being told of touches the table.
    touched: bool,
    events: std::collections::VecDeque<Event>,
}

impl Monitor {
    pub(super) fn open(table: &str, own: Own) -> Result<Self, NftError> {
        let step = "listening for nftables' changes";
        let (family, table) = table.split_once(' ').unwrap_or(("ip", table));
        let family = match family {
            "inet" => 1,
            "ip" => 2,
            "arp" => 3,
            "netdev" => 5,
            "bridge" => 7,
            "ip6" => 10,
            _ => return Err(NetlinkError::new(step, Errno::EAFNOSUPPORT).into()),
        };
        let socket = Socket::open(SockProtocol::NetlinkNetFilter, GROUP, step)?;
        socket.receive_buffer(BUFFER);
        Ok(Self {
            socket,
            family,
            table: table.to_owned(),
            own,
            buffer: Vec::new(),
            touched: false,
            events: std::collections::VecDeque::new(),
        })
    }

    /// The next thing that others did, or none in time. [`Monitor::as_fd`] is readable when it is
    /// worth asking; ask with no time until there is none.
    ///
    /// # Errors
    /// [`NftError::Netlink`]: the socket failed.
    pub fn wait(&mut self, timeout: Duration) -> Result<Option<Event>, NftError> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let mut buffer = std::mem::take(&mut self.buffer);
            let received = self.socket.receive(&mut buffer, left);
            let outcome = match received {
                Ok(Some(messages)) => {
                    messages.for_each(|message| self.take(&message));
                    Ok(true)
                }
                Ok(None) => Ok(false),
                Err(Errno::ENOBUFS) => {
                    self.touched = false;
                    self.events.push_back(Event::Overrun);
                    Ok(true)
                }
                Err(errno) => Err(NetlinkError::new("reading nftables' changes", errno)),
            };
            self.buffer = buffer;
            if !outcome? {
                return Ok(None);
            }
        }
    }

    /// Sets how many bytes of notifications may wait to be read (64 MiB otherwise).
    pub fn set_limit(&self, bytes: usize) {
        self.socket.receive_buffer(bytes);
    }

    fn take(&mut self, message: &Message<'_>) {
        if message.kind >> 8 != SUBSYSTEM {
            return;
        }
        let kind = message.kind & 0xff;
        if kind != NFT_MSG_NEWGEN {
            let table = message.attributes(HEADER).find(|(kind, _)| *kind == NFTA_TABLE);
            self.touched |= message.payload.first() == Some(&self.family)
                && table.is_some_and(|(_, bytes)| name(bytes) == self.table);
            return;
        }
        let (generation, by_pid, by_name) = generation(message);
        let own = self.own.take(message.port);
        if std::mem::take(&mut self.touched) && !own {
            self.events.push_back(Event::Changed { by_pid, by_name, generation });
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The ruleset's number: each transaction in the namespace, whoever makes it, adds one.
///
/// # Errors
/// [`NftError::Netlink`].
pub fn current_generation() -> Result<u32, NftError> {
    let step = "asking for nftables' generation";
    let mut socket = Socket::open(SockProtocol::NetlinkNetFilter, 0, step)?;
    let answer = socket
        .get(SUBSYSTEM << 8 | NFT_MSG_GETGEN, &[0; HEADER], |message| Some(generation(message).0))
        .map_err(|errno| NetlinkError::new(step, errno))?;
    Ok(answer.ok_or(NetlinkError::new(step, Errno::ENODATA))?)
}

/// Its number, and who made it.
fn generation(message: &Message<'_>) -> (u32, u32, String) {
    let mut generation = (0, 0, String::new());
    for (kind, value) in message.attributes(HEADER) {
        match kind {
            NFTA_GEN_ID => generation.0 = be32(value).unwrap_or(0),
            NFTA_GEN_PROC_PID => generation.1 = be32(value).unwrap_or(0),
            NFTA_GEN_PROC_NAME => generation.2 = name(value),
            _ => {}
        }
    }
    generation
}
