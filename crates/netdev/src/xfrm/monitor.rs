//! What the kernel tells of itself.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;

use super::layout::{address_at, family_at};
use super::policy::{self, AT_REQID, XFRMA_TMPL};
use super::sa::{self, SaId, XFRMA_IF_ID};
use super::{NETLINK_XFRM, XfrmError};
use crate::NetlinkError;
use crate::netlink::Socket;
use crate::netlink::message::{Message, be16, be32, u32_at};

const ACQUIRE: u16 = 0x17;
const EXPIRE: u16 = 0x18;
const MAPPING: u16 = 0x26;
/// `XFRMNLGRP_ACQUIRE`, `_EXPIRE`, `_MAPPING`, as bits.
const GROUPS: u32 = 1 | 1 << 1 | 1 << 7;
/// `struct xfrm_user_acquire`: before its policy, and all of it.
const BEFORE_POLICY: usize = 96;
const ACQUIRE_LENGTH: usize = BEFORE_POLICY + policy::INFO + 16;

/// What the kernel tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A packet needs an SA that isn't there.
    Acquire {
        /// Of the policy that it met.
        reqid: u32,
        /// Of which interface.
        if_id: u32,
    },
    /// An SA has reached a limit.
    Expire {
        /// Which.
        id: SaId,
        /// It is gone.
        hard: bool,
    },
    /// Authentic ESP in UDP has come from somewhere else.
    Moved {
        /// To which SA.
        id: SaId,
        /// From where.
        from: SocketAddr,
    },
    /// Some was lost, since it came too fast.
    Lost,
}

/// Listens to the kernel.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Monitor {
    /// Listens from now on.
    ///
    /// # Errors
    /// [`XfrmError::Other`].
    pub fn open() -> Result<Self, XfrmError> {
        let socket = Socket::open_numbered(NETLINK_XFRM, GROUPS, "listening to XFRM")?;
        Ok(Self { socket, buffer: Vec::new() })
    }

    /// What has been told since; nothing if there is nothing.
    ///
    /// # Errors
    /// [`XfrmError::Other`]: the socket has failed.
    pub fn receive(&mut self) -> Result<Vec<Event>, XfrmError> {
        match self.socket.receive(&mut self.buffer, Duration::ZERO) {
            Ok(Some(messages)) => Ok(messages.filter_map(|message| read(&message)).collect()),
            Ok(None) => Ok(Vec::new()),
            Err(Errno::ENOBUFS) => Ok(vec![Event::Lost]),
            Err(errno) => Err(NetlinkError::new("listening to XFRM", errno).into()),
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn read(message: &Message<'_>) -> Option<Event> {
    let payload = message.payload;
    match message.kind {
        ACQUIRE => {
            let (mut reqid, mut if_id) = (None, 0);
            for (kind, value) in message.attributes(ACQUIRE_LENGTH) {
                match kind {
                    XFRMA_TMPL => reqid = u32_at(value, AT_REQID),
                    XFRMA_IF_ID => if_id = u32_at(value, 0)?,
                    _ => {}
                }
            }
            Some(Event::Acquire { reqid: reqid?, if_id })
        }
        EXPIRE => {
            let hard = *payload.get(sa::INFO)? != 0;
            Some(Event::Expire { id: sa::id_of(payload)?, hard })
        }
        MAPPING => {
            let family = family_at(payload, 20)?;
            let destination = address_at(payload, 0, family)?;
            let id = SaId { destination, spi: be32(payload.get(16..)?)? };
            let port = be16(payload.get(62..)?)?;
            Some(Event::Moved { id, from: (address_at(payload, 44, family)?, port).into() })
        }
        _ => None,
    }
}
