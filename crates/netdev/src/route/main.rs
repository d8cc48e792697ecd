//! What the machine's main table leads to.

use std::net::IpAddr;

use ipnet::IpNet;
use nix::errno::Errno;

use super::{HEADER, RTA_DST, RTA_OIF, RTM_GETROUTE, RTM_NEWROUTE, RouteError, open};
use crate::NetlinkError;
use crate::netlink::message::{Attributes, Message, ip, push_attribute, u16_at, u32_at};
use crate::rule::{AF_INET, AF_INET6};

const RT_TABLE_MAIN: u8 = 254;
const RTN_UNICAST: u8 = 1;
const RTA_GATEWAY: u16 = 5;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
/// `struct rtnexthop`.
const NEXT_HOP: usize = 8;

/// Networks of the main table with the number of the interface that leads there (0 for several),
/// default routes and those of the link alone (fe80::/64) excepted. Sorted.
///
/// # Errors
/// [`RouteError::List`].
pub fn networks() -> Result<Vec<(IpNet, u32)>, RouteError> {
    list(read)
}

/// The gateways of the main table's routes, default routes too, each with a network that it leads
/// to. Sorted. An IPv4 network may have an IPv6 gateway.
///
/// # Errors
/// [`RouteError::List`].
pub fn hops() -> Result<Vec<(IpNet, IpAddr)>, RouteError> {
    let found = list(|message| Some(gateways(message)))?;
    Ok(found.into_iter().flatten().collect())
}

fn list<T: Ord>(read: impl Fn(&Message<'_>) -> Option<T>) -> Result<Vec<T>, RouteError> {
    let step = "listing the main table's routes";
    let mut socket = open(step)?;
    socket.strict();
    let mut all = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let mut wanted = vec![0; HEADER];
        wanted[0] = family;
        push_attribute(&mut wanted, RTA_TABLE, &u32::from(RT_TABLE_MAIN).to_ne_bytes());
        let found = socket.collect(RTM_GETROUTE, &wanted, |message| {
            (message.kind == RTM_NEWROUTE).then(|| read(message)).flatten()
        });
        match found {
            Ok(found) => all.extend(found),
            Err(Errno::ENOENT) => {}
            Err(Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP) if family == AF_INET6 => {}
            Err(errno) => return Err(NetlinkError::new(step, errno).into()),
        }
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// The family and the prefix's length of a message about a route that leads somewhere.
fn head(message: &Message<'_>) -> Option<(u8, u8)> {
    let [family, length, _, _, table, _, _, kind] = *message.payload.first_chunk::<8>()?;
    ((table, kind) == (RT_TABLE_MAIN, RTN_UNICAST)).then_some((family, length))
}

fn read(message: &Message<'_>) -> Option<(IpNet, u32)> {
    let (_, length) = head(message)?;
    let (mut destination, mut index) = (None, 0);
    for (kind, value) in message.attributes(HEADER) {
        match kind {
            RTA_DST => destination = ip(value),
            RTA_OIF => index = u32_at(value, 0)?,
            _ => {}
        }
    }
    let network = IpNet::new(destination?, length).ok()?;
    let is_link_local = matches!(network, IpNet::V6(v6) if v6.addr().is_unicast_link_local());
    (length != 0 && !is_link_local).then_some((network, index))
}

fn gateways(message: &Message<'_>) -> Vec<(IpNet, IpAddr)> {
    let Some((family, length)) = head(message) else { return Vec::new() };
    let (mut destination, mut found) = (None, Vec::new());
    for (kind, value) in message.attributes(HEADER) {
        match kind {
            RTA_DST => destination = ip(value),
            RTA_MULTIPATH => {
                let mut rest = value;
                while let Some(length) = u16_at(rest, 0).map(usize::from)
                    && let Some(hop) = rest.get(NEXT_HOP..length)
                {
                    found.extend(Attributes::new(hop).filter_map(|(kind, of)| gateway(kind, of)));
                    rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
                }
            }
            kind => found.extend(gateway(kind, value)),
        }
    }
    let any = match family {
        AF_INET => IpAddr::from([0; 4]),
        _ => IpAddr::from([0; 16]),
    };
    let Ok(network) = IpNet::new(destination.unwrap_or(any), length) else { return Vec::new() };
    found.into_iter().map(|gateway| (network, gateway)).collect()
}

fn gateway(kind: u16, value: &[u8]) -> Option<IpAddr> {
    match kind {
        RTA_GATEWAY => ip(value),
        // `struct rtvia`.
        RTA_VIA => value.get(2..).and_then(ip),
        _ => None,
    }
}
