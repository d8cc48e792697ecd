//! Local routes: a prefix whose addresses are all the machine's own, with no list of them. Routes
//! of other tables are [`table`]'s.
//!
//! IPv4 alone. The kernel lets a program bind any IPv4 address that a local route holds, but of
//! IPv6 only those that stand on an interface.

use std::net::IpAddr;

use ipnet::Ipv4Net;
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;
use thiserror::Error;

use crate::NetlinkError;
use crate::netlink::Socket;
use crate::netlink::message::{Message, ip, octets, push_attribute, u32_at};

pub mod main;
pub mod monitor;
pub mod table;

// `linux/rtnetlink.h`.
pub(crate) const RTM_NEWROUTE: u16 = 24;
pub(crate) const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const RTN_LOCAL: u8 = 2;
const RT_TABLE_LOCAL: u8 = 255;
const RT_SCOPE_HOST: u8 = 254;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
/// `struct rtmsg`.
const HEADER: usize = 12;
const AF_INET: u8 = 2;
const NLM_F_CREATE: u16 = 0x400;
/// The number of `lo`, in each network namespace.
const LOOPBACK: u32 = 1;
/// Marks the routes that we add (`rtm_protocol`), so that they are known after a restart.
pub(crate) const OURS: u8 = 0x54;
/// Where `struct rtmsg` has that.
pub(crate) const PROTOCOL: usize = 5;
/// How many go to the kernel at once: their answers wait in the socket.
const BATCH: usize = 64;

/// What can't be learnt or done. It names the prefix.
#[derive(Clone, Debug, Error)]
pub enum RouteError {
    /// The kernel refuses to add the route.
    #[error("local route {network} can't be added: {source}")]
    Add {
        /// The prefix.
        network: Ipv4Net,
        /// The reason.
        source: NetlinkError,
    },
    /// The kernel refuses to remove the route.
    #[error("local route {network} can't be removed: {source}")]
    Remove {
        /// The prefix.
        network: Ipv4Net,
        /// The reason.
        source: NetlinkError,
    },
    /// The kernel doesn't tell.
    #[error("local routes can't be listed: {0}")]
    List(#[from] NetlinkError),
}

/// The prefixes that [`add`] has added, in this run or another one. Sorted.
///
/// # Errors
/// [`RouteError::List`].
pub fn list() -> Result<Vec<Ipv4Net>, RouteError> {
    let step = "listing local routes";
    let mut socket = open(step)?;
    socket.strict();
    let mut wanted = [0; HEADER];
    wanted[0] = AF_INET;
    wanted[4..8].copy_from_slice(&[RT_TABLE_LOCAL, OURS, 0, RTN_LOCAL]);
    let found = socket.collect(RTM_GETROUTE, &wanted, |message| {
        (message.kind == RTM_NEWROUTE).then(|| read(message)).flatten()
    });
    match found {
        Ok(mut networks) => {
            networks.sort_unstable();
            Ok(networks)
        }
        // There is no such table yet.
        Err(Errno::ENOENT) => Ok(Vec::new()),
        Err(errno) => Err(NetlinkError::new(step, errno).into()),
    }
}

/// Makes all addresses of the prefixes the machine's own; one answer each. That it is so already
/// is fine.
pub fn add(networks: &[Ipv4Net]) -> Vec<Result<(), RouteError>> {
    let answers = change(RTM_NEWROUTE, NLM_F_CREATE, networks, "adding a local route");
    let results = networks.iter().zip(answers).map(|(network, answer)| match answer {
        Ok(()) | Err(NetlinkError { errno: Errno::EEXIST, .. }) => Ok(()),
        Err(source) => Err(RouteError::Add { network: *network, source }),
    });
    results.collect()
}

/// Takes back what [`add`] did, and no route of anybody else; one answer each. That there is none
/// is fine.
pub fn remove(networks: &[Ipv4Net]) -> Vec<Result<(), RouteError>> {
    let answers = change(RTM_DELROUTE, 0, networks, "removing a local route");
    let results = networks.iter().zip(answers).map(|(network, answer)| match answer {
        Ok(()) | Err(NetlinkError { errno: Errno::ESRCH, .. }) => Ok(()),
        Err(source) => Err(RouteError::Remove { network: *network, source }),
    });
    results.collect()
}

fn open(step: &'static str) -> Result<Socket, NetlinkError> {
    Socket::open(SockProtocol::NetlinkRoute, 0, step)
}

fn change(
    kind: u16,
    flags: u16,
    networks: &[Ipv4Net],
    step: &'static str,
) -> Vec<Result<(), NetlinkError>> {
    let payloads: Vec<Vec<u8>> = networks.iter().map(|network| route(*network)).collect();
    change_all(kind, flags, &payloads, step)
}

/// Sends a request for each payload, many at once; one answer each.
fn change_all(
    kind: u16,
    flags: u16,
    payloads: &[Vec<u8>],
    step: &'static str,
) -> Vec<Result<(), NetlinkError>> {
    let mut answers = Vec::with_capacity(payloads.len());
    let mut socket = open(step);
    for batch in payloads.chunks(BATCH) {
        let requests: Vec<_> =
            batch.iter().map(|payload| (kind, flags, payload.as_slice())).collect();
        let told = match &mut socket {
            Ok(socket) => {
                socket.requests(&requests).map_err(|errno| NetlinkError::new(step, errno))
            }
            Err(error) => Err(error.clone()),
        };
        match told {
            Ok(told) => {
                let error = |errno| NetlinkError::new("rtnetlink", errno);
                answers.extend(told.into_iter().map(|answer| answer.map_err(error)));
            }
            Err(error) => answers.extend(batch.iter().map(|_| Err(error.clone()))),
        }
    }
    answers
}

/// `struct rtmsg` with the prefix, on `lo`.
fn route(network: Ipv4Net) -> Vec<u8> {
    let (length, table) = (network.prefix_len(), RT_TABLE_LOCAL);
    let mut payload = vec![AF_INET, length, 0, 0, table, OURS, RT_SCOPE_HOST, RTN_LOCAL];
    payload.extend_from_slice(&[0; 4]);
    push_attribute(&mut payload, RTA_DST, &octets(network.network().into()));
    push_attribute(&mut payload, RTA_OIF, &LOOPBACK.to_ne_bytes());
    payload
}

/// The prefix of a message, if the route is one of ours.
pub(crate) fn read(message: &Message<'_>) -> Option<Ipv4Net> {
    let [family, length, _, _, table, protocol, _, kind] = *message.payload.first_chunk::<8>()?;
    if (family, table, protocol, kind) != (AF_INET, RT_TABLE_LOCAL, OURS, RTN_LOCAL) {
        return None;
    }
    let (mut destination, mut here) = (None, false);
    for (kind, value) in message.attributes(HEADER) {
        match kind {
            RTA_DST => destination = ip(value),
            RTA_OIF => here = u32_at(value, 0) == Some(LOOPBACK),
            _ => {}
        }
    }
    match destination? {
        IpAddr::V4(address) if here => Ipv4Net::new(address, length).ok(),
        _ => None,
    }
}
