//! Connection tracking's entries, over ctnetlink.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use model::net::Protocol;
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;
use thiserror::Error;

use crate::NetlinkError;
use crate::netlink::Socket;

mod entry;

pub use entry::{Entry, Tuple};

// `linux/netfilter/nfnetlink.h` and `nfnetlink_conntrack.h`.
const SUBSYSTEM: u16 = 1;
const IPCTNL_MSG_CT_NEW: u16 = 0;
const IPCTNL_MSG_CT_GET: u16 = 1;
const IPCTNL_MSG_CT_DELETE: u16 = 2;
/// A dump of 100,000 entries comes as fast as it is read.
const BUFFER: usize = 4 << 20;
/// Deletions sent at once.
const BATCH: usize = 64;

/// Which entries: those of the protocols for which one of the other fields holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of these protocols; of any if empty.
    pub protocols: Vec<Protocol>,
    /// Translated to one of these, whatever they came in for.
    pub endpoints: HashSet<(Protocol, SocketAddr)>,
    /// Come in for the first and translated to the second. The first's address may be unspecified
    /// (`0.0.0.0`, `::`): any then, as for NodePorts.
    pub translations: HashSet<(Protocol, SocketAddr, SocketAddr)>,
    /// Come in for one of these addresses.
    pub destinations: HashSet<IpAddr>,
    /// Come in for one of these addresses and ports.
    pub frontends: HashSet<(Protocol, SocketAddr)>,
    /// All, whatever the fields above say.
    pub all: bool,
}

impl Filter {
    /// All entries.
    pub fn all() -> Self {
        Self { all: true, ..Self::default() }
    }

    /// Whether it means that entry.
    pub fn matches(&self, entry: &Entry) -> bool {
        let protocol = Protocol::ALL.into_iter().find(|p| p.number() == entry.protocol);
        if !self.protocols.is_empty() && !protocol.is_some_and(|p| self.protocols.contains(&p)) {
            return false;
        }
        if self.all || self.destinations.contains(&entry.original.destination) {
            return true;
        }
        let (Some(protocol), Some(front), Some(back)) =
            (protocol, entry.original.destination_socket(), entry.reply.source_socket())
        else {
            return false;
        };
        let any = match front {
            SocketAddr::V4(_) => IpAddr::from([0; 4]),
            SocketAddr::V6(_) => IpAddr::from([0; 16]),
        };
        self.frontends.contains(&(protocol, front))
            || entry.is_translated()
                && (self.endpoints.contains(&(protocol, back))
                    || self.translations.contains(&(protocol, front, back))
                    || self.translations.contains(&(
                        protocol,
                        SocketAddr::new(any, front.port()),
                        back,
                    )))
    }
}

/// What the kernel refuses.
#[derive(Debug, Error)]
#[error("conntrack entries can't be {}: {source}{}", .what, remedy(.source.errno))]
pub struct ConntrackError {
    /// What was to be done with them.
    what: &'static str,
    /// The reason.
    pub source: NetlinkError,
}

fn remedy(errno: Errno) -> &'static str {
    match errno {
        Errno::EINVAL | Errno::ENOENT => "; the kernel may lack nf_conntrack_netlink: load it",
        _ => "",
    }
}

/// The entries that a filter means, of both families.
///
/// # Errors
/// The kernel has no such thing, or the right is missing.
pub fn list(filter: &Filter) -> Result<Vec<Entry>, ConntrackError> {
    let mut entries = Vec::new();
    each(&mut open("listed")?, "listed", |entry| {
        if filter.matches(&entry) {
            entries.push(entry);
        }
    })?;
    Ok(entries)
}

/// Deletes the entries that a filter means, and tells how many: one pass over all entries however
/// much the filter holds. Their next packets go through the rules as a new connection's.
///
/// # Errors
/// The kernel has no such thing, or the right is missing.
pub fn delete(filter: &Filter) -> Result<usize, ConntrackError> {
    delete_if(|entry| filter.matches(entry))
}

/// The same, of those for which a function holds.
///
/// # Errors
/// The same.
pub fn delete_if(mut doomed: impl FnMut(&Entry) -> bool) -> Result<usize, ConntrackError> {
    let mut socket = open("deleted")?;
    let mut keys = Vec::new();
    each(&mut socket, "deleted", |entry| {
        if doomed(&entry) {
            keys.push(entry.key());
        }
    })?;
    let mut deleted = 0;
    for batch in keys.chunks(BATCH) {
        let kind = SUBSYSTEM << 8 | IPCTNL_MSG_CT_DELETE;
        let requests: Vec<_> = batch.iter().map(|key| (kind, 0, key.as_slice())).collect();
        for answer in socket.requests(&requests).map_err(|errno| failed("deleted", errno))? {
            match answer {
                Ok(()) => deleted += 1,
                // It has ended meanwhile.
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(failed("deleted", errno)),
            }
        }
    }
    Ok(deleted)
}

fn open(what: &'static str) -> Result<Socket, ConntrackError> {
    let socket = Socket::open(SockProtocol::NetlinkNetFilter, 0, "ctnetlink")
        .map_err(|source| ConntrackError { what, source })?;
    socket.receive_buffer(BUFFER);
    Ok(socket)
}

fn each(
    socket: &mut Socket,
    what: &'static str,
    mut each: impl FnMut(Entry),
) -> Result<(), ConntrackError> {
    // AF_UNSPEC: all families.
    let request = [0; entry::HEADER];
    socket
        .dump(SUBSYSTEM << 8 | IPCTNL_MSG_CT_GET, &request, |message| {
            if message.kind == SUBSYSTEM << 8 | IPCTNL_MSG_CT_NEW {
                Entry::read(message).into_iter().for_each(&mut each);
            }
        })
        .map(drop)
        .map_err(|errno| failed(what, errno))
}

fn failed(what: &'static str, errno: Errno) -> ConntrackError {
    ConntrackError { what, source: NetlinkError::new("ctnetlink", errno) }
}

/// The time that an entry has left.
pub(crate) fn seconds(number: u32) -> Duration {
    Duration::from_secs(number.into())
}
