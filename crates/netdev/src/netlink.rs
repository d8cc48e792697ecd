//! Netlink sockets: requests with their acknowledgements, dumps, and notifications.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    setsockopt, socket, sockopt,
};
use nix::{libc, setsockopt_impl, sockopt_impl};
use thiserror::Error;
use zeroize::Zeroize;

use crate::wait;

pub(crate) mod message;

use message::{Message, Messages};

/// How long the kernel may take over one answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Messages of a dump come in datagrams of up to 32 KiB.
const DATAGRAM: usize = 64 * 1024;

/// How often a list is asked for that others change meanwhile.
const TRIES: u32 = 10;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x01;
const NLM_F_ACK: u16 = 0x04;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;

const NETLINK_GET_STRICT_CHK: libc::c_int = 12;

sockopt_impl!(
    /// Lists hold only what their request describes.
    StrictCheck,
    SetOnly,
    libc::SOL_NETLINK,
    NETLINK_GET_STRICT_CHK,
    bool
);

/// What the kernel refused, or a socket that failed.
#[derive(Clone, Debug, Error)]
#[error("{step}: {}{}", io::Error::from(*errno), remedy(*errno))]
pub struct NetlinkError {
    /// What was being done.
    pub step: &'static str,
    /// The kernel's reason.
    pub errno: Errno,
}

impl NetlinkError {
    pub(crate) fn new(step: &'static str, errno: Errno) -> Self {
        Self { step, errno }
    }
}

fn remedy(errno: Errno) -> &'static str {
    match errno {
        Errno::EPERM | Errno::EACCES => {
            "; give the process CAP_NET_ADMIN in its network namespace (run as root, or add the \
             capability)"
        }
        Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP => {
            "; the kernel lacks it: load its module, or run a kernel that has it"
        }
        _ => "",
    }
}

/// A netlink socket.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// For requests, and with groups (bits) for notifications.
    pub(crate) fn open(
        protocol: SockProtocol,
        groups: u32,
        step: &'static str,
    ) -> Result<Self, NetlinkError> {
        let failed = |errno| NetlinkError::new(step, errno);
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol).map_err(failed)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups)).map_err(failed)?;
        Ok(Self { fd, sequence: 0 })
    }

    /// The same for a protocol that has a number alone.
    pub(crate) fn open_numbered(
        protocol: i32,
        groups: u32,
        step: &'static str,
    ) -> Result<Self, NetlinkError> {
        let failed = |error: io::Error| {
            NetlinkError::new(step, Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
        };
        let protocol = socket2::Protocol::from(protocol);
        let domain = socket2::Domain::from(libc::AF_NETLINK);
        let socket = socket2::Socket::new(domain, socket2::Type::RAW, Some(protocol));
        let socket = socket.map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        let fd = OwnedFd::from(socket);
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))
            .map_err(|errno| NetlinkError::new(step, errno))?;
        Ok(Self { fd, sequence: 0 })
    }

    /// Sets the limit on what may wait to be read; without the right to, as far as it goes.
    pub(crate) fn receive_buffer(&self, bytes: usize) {
        if setsockopt(&self.fd, sockopt::RcvBufForce, &bytes).is_err() {
            // The default is enough for all but the largest transactions.
            let _ = setsockopt(&self.fd, sockopt::RcvBuf, &bytes);
        }
    }

    /// Has lists hold only what their request describes. Kernels before 4.20 give all, so that the
    /// caller looks as well.
    pub(crate) fn strict(&self) {
        let _ = setsockopt(&self.fd, StrictCheck, &true);
    }

    /// One datagram, or none if none comes in time; `ENOBUFS` if some were lost.
    pub(crate) fn receive<'a>(
        &self,
        buffer: &'a mut Vec<u8>,
        timeout: Duration,
    ) -> Result<Option<Messages<'a>>, Errno> {
        buffer.resize(DATAGRAM, 0);
        let deadline = Instant::now() + timeout;
        loop {
            match recv(self.fd.as_raw_fd(), buffer, MsgFlags::MSG_TRUNC) {
                Ok(length) if length > buffer.len() => return Err(Errno::ENOBUFS),
                Ok(length) => return Ok(Some(Messages::new(&buffer[..length]))),
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => {}
                Err(errno) => return Err(errno),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || !wait::readable(self.fd.as_fd(), left)? {
                return Ok(None);
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        loop {
            match send(self.fd.as_raw_fd(), bytes, MsgFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// The number of the next request.
    fn next(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Sends a request and waits for the kernel's word on it.
    pub(crate) fn request(&mut self, kind: u16, flags: u16, payload: &[u8]) -> Result<(), Errno> {
        let mut answers = self.requests(&[(kind, flags, payload)])?;
        answers.pop().unwrap_or(Err(Errno::ETIMEDOUT))
    }

    /// Sends requests at once; one answer each.
    pub(crate) fn requests(
        &mut self,
        requests: &[(u16, u16, &[u8])],
    ) -> Result<Vec<Result<(), Errno>>, Errno> {
        let first = self.sequence.wrapping_add(1);
        let length = requests.iter().map(|(_, _, payload)| payload.len() + message::ROOM).sum();
        let mut bytes = Vec::with_capacity(length);
        for (kind, flags, payload) in requests {
            let sequence = self.next();
            let flags = flags | NLM_F_REQUEST | NLM_F_ACK;
            message::push(&mut bytes, *kind, flags, sequence, payload);
        }
        let sent = self.send(&bytes);
        // There may be keys in it.
        bytes.zeroize();
        sent?;
        let mut answers = vec![Err(Errno::ETIMEDOUT); requests.len()];
        let mut missing = requests.len();
        let mut buffer = Vec::new();
        let deadline = Instant::now() + ANSWER;
        while missing > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(messages) = self.receive(&mut buffer, left)? else {
                return Err(Errno::ETIMEDOUT);
            };
            for message in messages {
                let place = message.sequence.wrapping_sub(first) as usize;
                if let (NLMSG_ERROR, Some(answer)) = (message.kind, answers.get_mut(place)) {
                    *answer = error_of(&message);
                    missing -= 1;
                }
            }
        }
        Ok(answers)
    }

    /// All objects of a kind, as `read` has them: as they were at one moment, if there is one
    /// between others' changes.
    pub(crate) fn collect<T>(
        &mut self,
        kind: u16,
        payload: &[u8],
        read: impl Fn(&Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, Errno> {
        let mut tries = 1;
        loop {
            let mut found = Vec::new();
            let whole = self.dump(kind, payload, |message| found.extend(read(message)))?;
            if whole || tries == TRIES {
                return Ok(found);
            }
            tries += 1;
        }
    }

    /// Sends a request for all objects and passes each; whether none of them changed meanwhile.
    pub(crate) fn dump(
        &mut self,
        kind: u16,
        payload: &[u8],
        mut each: impl FnMut(&Message<'_>),
    ) -> Result<bool, Errno> {
        let sequence = self.next();
        let mut bytes = Vec::new();
        message::push(&mut bytes, kind, NLM_F_REQUEST | NLM_F_DUMP, sequence, payload);
        self.send(&bytes)?;
        let mut buffer = Vec::new();
        let mut whole = true;
        loop {
            let Some(messages) = self.receive(&mut buffer, ANSWER)? else {
                return Err(Errno::ETIMEDOUT);
            };
            for message in messages.filter(|message| message.sequence == sequence) {
                whole &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.kind {
                    NLMSG_DONE => return error_of(&message).map(|()| whole),
                    NLMSG_ERROR => error_of(&message)?,
                    _ => each(&message),
                }
            }
        }
    }

    /// Sends a request for one object and passes the kernel's answer to it.
    pub(crate) fn get<T>(
        &mut self,
        kind: u16,
        payload: &[u8],
        read: impl Fn(&Message<'_>) -> Option<T>,
    ) -> Result<Option<T>, Errno> {
        let sequence = self.next();
        let mut bytes = Vec::new();
        message::push(&mut bytes, kind, NLM_F_REQUEST, sequence, payload);
        self.send(&bytes)?;
        let mut buffer = Vec::new();
        loop {
            let Some(messages) = self.receive(&mut buffer, ANSWER)? else {
                return Err(Errno::ETIMEDOUT);
            };
            let mut messages = messages;
            if let Some(message) = messages.find(|message| message.sequence == sequence) {
                return match message.kind {
                    NLMSG_ERROR => error_of(&message).map(|()| None),
                    _ => Ok(read(&message)),
                };
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What an error message, or a dump's end, says.
fn error_of(message: &Message<'_>) -> Result<(), Errno> {
    match message.payload.first_chunk::<4>() {
        Some(code) => match i32::from_ne_bytes(*code) {
            0.. => Ok(()),
            code => Err(Errno::from_raw(code.wrapping_neg())),
        },
        None => Ok(()),
    }
}
