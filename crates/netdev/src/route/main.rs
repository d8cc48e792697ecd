//! What the machine's main table leads to.

use ipnet::IpNet;
use nix::errno::Errno;

use super::{HEADER, RTA_DST, RTA_OIF, RTM_GETROUTE, RTM_NEWROUTE, RouteError, open};
use crate::NetlinkError;
use crate::netlink::message::{Message, ip, push_attribute, u32_at};
use crate::rule::{AF_INET, AF_INET6};

const RT_TABLE_MAIN: u8 = 254;
const RTN_UNICAST: u8 = 1;
const RTA_TABLE: u16 = 15;

/// Networks of the main table with the number of the interface that leads there (0 for several),
/// default routes and those of the link alone (fe80::/64) excepted. Sorted.
///
/// # Errors
/// [`RouteError::List`].
pub fn networks() -> Result<Vec<(IpNet, u32)>, RouteError> {
    let step = "listing the main table's routes";
    let mut socket = open(step)?;
    socket.strict();
    let mut networks = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let mut wanted = vec![0; HEADER];
        wanted[0] = family;
        push_attribute(&mut wanted, RTA_TABLE, &u32::from(RT_TABLE_MAIN).to_ne_bytes());
        let found = socket.collect(RTM_GETROUTE, &wanted, |message| {
            (message.kind == RTM_NEWROUTE).then(|| read(message)).flatten()
        });
        match found {
            Ok(found) => networks.extend(found),
            Err(Errno::ENOENT) => {}
            Err(Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP) if family == AF_INET6 => {}
            Err(errno) => return Err(NetlinkError::new(step, errno).into()),
        }
    }
    networks.sort_unstable();
    networks.dedup();
    Ok(networks)
}

fn read(message: &Message<'_>) -> Option<(IpNet, u32)> {
    let [_, length, _, _, table, _, _, kind] = *message.payload.first_chunk::<8>()?;
    if (table, kind) != (RT_TABLE_MAIN, RTN_UNICAST) {
        return None;
    }
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
