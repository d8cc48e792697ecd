//! Routes of a table that [`crate::rule`] leads to: into an interface, to a neighbour on a link, to
//! nowhere, and back to the tables after it.
//!
//! A route is ours if its protocol says so; no other one is listed or removed.

use std::net::IpAddr;

use ipnet::IpNet;
use nix::errno::Errno;
use thiserror::Error;

use super::{HEADER, NLM_F_CREATE, OURS, RTA_DST, RTA_OIF, RTM_DELROUTE, RTM_GETROUTE};
use super::{RTM_NEWROUTE, change_all, open};
use crate::NetlinkError;
use crate::netlink::message::u32_at;
use crate::netlink::message::{Attributes, Message, ip, octets, push_attribute, push_nested};
use crate::rule::{AF_INET, AF_INET6};

// `linux/rtnetlink.h`.
const RTN_UNICAST: u8 = 1;
const RTN_BLACKHOLE: u8 = 6;
const RTN_UNREACHABLE: u8 = 7;
const RTN_THROW: u8 = 9;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
const RT_SCOPE_NOWHERE: u8 = 255;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTAX_MTU: u16 = 2;
/// The neighbour is on the link, whatever addresses the interface has.
const RTNH_F_ONLINK: u32 = 4;
const NLM_F_REPLACE: u16 = 0x100;
/// What the kernel makes of 0 for IPv6 (`IP6_RT_PRIO_USER`).
const DEFAULT_METRIC_V6: u32 = 1024;

/// A route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Where to.
    pub network: IpNet,
    /// The lowest of a network's routes counts. 0 for the kernel's default.
    pub metric: u32,
    /// What becomes of the packets.
    pub target: Target,
}

/// What becomes of the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// They go into an interface.
    Interface {
        /// Its number. Routes go with their interface.
        index: u32,
        /// The largest packet, if that isn't the interface's.
        mtu: Option<u32>,
        /// The source of packets of this machine that have none yet.
        source: Option<IpAddr>,
    },
    /// They go to a neighbour.
    Neighbour {
        /// The number of the interface that it is behind. Routes go with their interface.
        index: u32,
        /// Its address; that of an IPv4 route may be an IPv6 one.
        gateway: IpAddr,
    },
    /// The rules after the one that led here are asked.
    Throw,
    /// They are refused with ICMP's "host unreachable".
    Unreachable,
    /// They are dropped without a word.
    Blackhole,
}

/// What can't be learnt or done. It names the network.
#[derive(Clone, Debug, Error)]
pub enum TableError {
    /// The kernel refuses to add the route.
    #[error("route {network} can't be added to table {table}: {source}")]
    Add {
        /// The network.
        network: IpNet,
        /// The table.
        table: u32,
        /// The reason.
        source: NetlinkError,
    },
    /// The kernel refuses to remove the route.
    #[error("route {network} can't be removed from table {table}: {source}")]
    Remove {
        /// The network.
        network: IpNet,
        /// The table.
        table: u32,
        /// The reason.
        source: NetlinkError,
    },
    /// The kernel doesn't tell.
    #[error("routes can't be listed: {0}")]
    List(#[from] NetlinkError),
}

/// The routes that [`add`] has added to a table, in this run or another one. Sorted. Without IPv6
/// there are none of it.
///
/// # Errors
/// [`TableError::List`].
pub fn list(table: u32) -> Result<Vec<Route>, TableError> {
    let found = find(Some(table))?;
    Ok(found.into_iter().map(|(_, route)| route).collect())
}

/// The same of all tables, each with its table. Local routes are not among them.
///
/// # Errors
/// [`TableError::List`].
pub fn list_all() -> Result<Vec<(u32, Route)>, TableError> {
    find(None)
}

fn find(table: Option<u32>) -> Result<Vec<(u32, Route)>, TableError> {
    let step = "listing routes";
    let mut socket = open(step)?;
    socket.strict();
    let mut routes = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let mut wanted = vec![0; HEADER];
        wanted[0] = family;
        wanted[super::PROTOCOL] = OURS;
        if let Some(table) = table {
            push_attribute(&mut wanted, RTA_TABLE, &table.to_ne_bytes());
        }
        let found = socket.collect(RTM_GETROUTE, &wanted, |message| {
            (message.kind == RTM_NEWROUTE)
                .then(|| read(message))
                .flatten()
                .filter(|(found, _)| table.is_none_or(|table| table == *found))
        });
        match found {
            Ok(found) => routes.extend(found),
            // There is no such table yet.
            Err(Errno::ENOENT) => {}
            Err(Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP) if family == AF_INET6 => {}
            Err(errno) => return Err(NetlinkError::new(step, errno).into()),
        }
    }
    routes.sort_unstable();
    Ok(routes)
}

/// Adds routes to a table, in place of others for the same network with the same metric; one
/// answer each.
pub fn add(table: u32, routes: &[Route]) -> Vec<Result<(), TableError>> {
    let payloads: Vec<Vec<u8>> = routes.iter().map(|route| payload(table, route, true)).collect();
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    let answers = change_all(RTM_NEWROUTE, flags, &payloads, "adding a route");
    let results = routes.iter().zip(answers).map(|(route, answer)| match answer {
        Ok(()) | Err(NetlinkError { errno: Errno::EEXIST, .. }) => Ok(()),
        Err(source) => Err(TableError::Add { network: route.network, table, source }),
    });
    results.collect()
}

/// Takes back what [`add`] did, and no route of anybody else; one answer each. That there is none
/// is fine.
pub fn remove(table: u32, routes: &[Route]) -> Vec<Result<(), TableError>> {
    let payloads: Vec<Vec<u8>> = routes.iter().map(|route| payload(table, route, false)).collect();
    let answers = change_all(RTM_DELROUTE, 0, &payloads, "removing a route");
    let results = routes.iter().zip(answers).map(|(route, answer)| match answer {
        Ok(())
        | Err(NetlinkError { errno: Errno::ESRCH | Errno::ENODEV | Errno::EAFNOSUPPORT, .. }) => {
            Ok(())
        }
        Err(source) => Err(TableError::Remove { network: route.network, table, source }),
    });
    results.collect()
}

/// `struct rtmsg` and what the route says.
fn payload(table: u32, route: &Route, is_new: bool) -> Vec<u8> {
    let network = route.network.trunc();
    let family = if network.addr().is_ipv4() { AF_INET } else { AF_INET6 };
    let kind = match route.target {
        Target::Interface { .. } | Target::Neighbour { .. } => RTN_UNICAST,
        Target::Throw => RTN_THROW,
        Target::Unreachable => RTN_UNREACHABLE,
        Target::Blackhole => RTN_BLACKHOLE,
    };
    let scope = match route.target {
        _ if !is_new => RT_SCOPE_NOWHERE,
        Target::Interface { .. } => RT_SCOPE_LINK,
        _ => RT_SCOPE_UNIVERSE,
    };
    let mut payload = vec![family, network.prefix_len(), 0, 0, 0, OURS, scope, kind];
    let flags = match route.target {
        Target::Neighbour { .. } if is_new => RTNH_F_ONLINK,
        _ => 0,
    };
    payload.extend_from_slice(&flags.to_ne_bytes());
    push_attribute(&mut payload, RTA_DST, &octets(network.addr()));
    push_attribute(&mut payload, RTA_TABLE, &table.to_ne_bytes());
    // Of IPv4, 0 is a metric as others are: without one, the first of them all would be removed.
    let metric = match (route.metric, family) {
        (0, AF_INET6) => DEFAULT_METRIC_V6,
        (metric, _) => metric,
    };
    push_attribute(&mut payload, RTA_PRIORITY, &metric.to_ne_bytes());
    if let Target::Interface { index, mtu, source } = route.target {
        push_attribute(&mut payload, RTA_OIF, &index.to_ne_bytes());
        if let Some(mtu) = mtu.filter(|_| is_new) {
            let mut metrics = Vec::new();
            push_attribute(&mut metrics, RTAX_MTU, &mtu.to_ne_bytes());
            push_nested(&mut payload, RTA_METRICS, &metrics);
        }
        if let Some(source) = source.filter(|_| is_new) {
            push_attribute(&mut payload, RTA_PREFSRC, &octets(source));
        }
    }
    if let Target::Neighbour { index, gateway } = route.target {
        push_attribute(&mut payload, RTA_OIF, &index.to_ne_bytes());
        if gateway.is_ipv4() == network.addr().is_ipv4() {
            push_attribute(&mut payload, RTA_GATEWAY, &octets(gateway));
        } else {
            // `struct rtvia`.
            let family = if gateway.is_ipv4() { AF_INET } else { AF_INET6 };
            let mut via = u16::from(family).to_ne_bytes().to_vec();
            via.extend(octets(gateway));
            push_attribute(&mut payload, RTA_VIA, &via);
        }
    }
    payload
}

/// The route of a message with its table, if it is one of ours.
fn read(message: &Message<'_>) -> Option<(u32, Route)> {
    let [family, length, _, _, low, protocol, _, kind] = *message.payload.first_chunk::<8>()?;
    let (mut destination, mut number, mut metric) = (None, u32::from(low), 0);
    let (mut index, mut mtu, mut source, mut gateway) = (0, None, None, None);
    for (kind, value) in message.attributes(HEADER) {
        match kind {
            RTA_DST => destination = ip(value),
            RTA_TABLE => number = u32_at(value, 0)?,
            RTA_PRIORITY => metric = u32_at(value, 0)?,
            RTA_OIF => index = u32_at(value, 0)?,
            RTA_PREFSRC => source = ip(value),
            RTA_GATEWAY => gateway = ip(value),
            RTA_VIA => gateway = value.get(2..).and_then(ip),
            RTA_METRICS => {
                let mut metrics = Attributes::new(value);
                mtu = metrics
                    .find(|(kind, _)| *kind == RTAX_MTU)
                    .and_then(|(_, value)| u32_at(value, 0));
            }
            _ => {}
        }
    }
    let default = match family {
        AF_INET => IpAddr::from([0; 4]),
        AF_INET6 => IpAddr::from([0; 16]),
        _ => return None,
    };
    let target = match (kind, gateway) {
        (RTN_UNICAST, None) => Target::Interface { index, mtu, source },
        (RTN_UNICAST, Some(gateway)) => Target::Neighbour { index, gateway },
        (RTN_THROW, _) => Target::Throw,
        (RTN_UNREACHABLE, _) => Target::Unreachable,
        (RTN_BLACKHOLE, _) => Target::Blackhole,
        _ => return None,
    };
    if protocol != OURS {
        return None;
    }
    if family == AF_INET6 && metric == DEFAULT_METRIC_V6 {
        metric = 0;
    }
    let network = IpNet::new(destination.unwrap_or(default), length).ok()?;
    Some((number, Route { network, metric, target }))
}
