//! Interfaces: number, link address, and whether they carry anything.

use std::fmt;

use super::{AddressError, open};
use crate::netlink::NetlinkError;
use crate::netlink::message::{Message, name, u32_at};

// `linux/rtnetlink.h` and `linux/if_link.h`.
pub(super) const RTM_NEWLINK: u16 = 16;
pub(super) const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFF_UP: u32 = 0x1;
const IFF_LOOPBACK: u32 = 0x8;
const IFF_POINTOPOINT: u32 = 0x10;
const IFF_NOARP: u32 = 0x80;
const IFF_LOWER_UP: u32 = 0x1_0000;
/// `struct ifinfomsg`.
const HEADER: usize = 16;

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl fmt::Display for MacAddr {
    /// `02:00:5e:10:00:01`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its number.
    pub index: u32,
    /// Its address on an Ethernet link, if it is one.
    pub mac: Option<MacAddr>,
    /// It is switched on.
    pub up: bool,
    /// The link works.
    pub carrier: bool,
    /// The largest packet, in bytes.
    pub mtu: u32,
    /// Neighbours on it are found by ARP and neighbour discovery; not so on loopback and
    /// point-to-point links.
    pub neighbours: bool,
}

/// All interfaces, by number.
///
/// # Errors
/// [`AddressError::List`].
pub fn interfaces() -> Result<Vec<Interface>, AddressError> {
    let step = "listing interfaces";
    let mut socket = open(0, step)?;
    let found = socket.collect(RTM_GETLINK, &[0; HEADER], |message| {
        (message.kind == RTM_NEWLINK).then(|| read(message)).flatten()
    });
    Ok(found.map_err(|errno| NetlinkError::new(step, errno))?)
}

/// One interface, by name.
///
/// # Errors
/// [`AddressError::NoInterface`], [`AddressError::List`].
pub fn interface(name: &str) -> Result<Interface, AddressError> {
    let found = interfaces()?.into_iter().find(|interface| interface.name == name);
    found.ok_or_else(|| AddressError::NoInterface { interface: name.to_owned() })
}

/// The interface of a message.
pub(super) fn read(message: &Message<'_>) -> Option<Interface> {
    let index = u32_at(message.payload, 4)?;
    let flags = u32_at(message.payload, 8)?;
    let mut interface = Interface {
        name: String::new(),
        index,
        mac: None,
        up: flags & IFF_UP != 0,
        carrier: flags & IFF_LOWER_UP != 0,
        mtu: 0,
        neighbours: flags & (IFF_LOOPBACK | IFF_POINTOPOINT | IFF_NOARP) == 0,
    };
    for (kind, value) in message.attributes(HEADER) {
        match kind {
            IFLA_IFNAME => interface.name = name(value),
            IFLA_MTU => interface.mtu = u32_at(value, 0)?,
            IFLA_ADDRESS => interface.mac = value.try_into().ok().map(MacAddr),
            _ => {}
        }
    }
    interface.neighbours &= interface.mac.is_some();
    Some(interface)
}
