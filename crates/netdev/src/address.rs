//! Interfaces and their addresses, over rtnetlink.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use model::settings::HostAddress;
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;
use thiserror::Error;

use crate::NetlinkError;
use crate::netlink::Socket;
use crate::netlink::message::{Message, name, octets, push_attribute, u32_at};

mod interface;
mod monitor;

pub use interface::{Interface, MacAddr, interface, interfaces};
pub use monitor::{Event, Monitor};

// `linux/rtnetlink.h` and `linux/if_addr.h`.
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_LABEL: u16 = 3;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
const IFA_PROTO: u16 = 11;
const IFA_F_NODAD: u32 = 0x02;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_DEPRECATED: u32 = 0x20;
const IFA_F_TENTATIVE: u32 = 0x40;
const IFA_F_PERMANENT: u32 = 0x80;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;
/// `struct ifaddrmsg`.
const HEADER: usize = 8;
/// Where `struct ifaddrmsg` has it.
const SCOPE: usize = 3;
const RT_SCOPE_HOST: u8 = 254;
/// An IPv4 address that is nobody's (RFC 7600, 4.8).
pub const DUMMY: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// Marks the addresses that we add (`IFA_PROTO`, Linux 5.18 and later), so that they are known
/// after a restart. The kernel itself has 1 to 3.
const OURS: u8 = 0x54;

/// One of the machine's addresses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The interface's name.
    pub interface: String,
    /// The interface's number.
    pub index: u32,
    /// The address with its prefix.
    pub network: IpNet,
    /// How far it is valid.
    pub scope: Scope,
    /// The kernel still looks for duplicates of it; it can't be used yet.
    pub tentative: bool,
    /// The kernel has found a duplicate of it; it can't be used.
    pub duplicate: bool,
    /// It is used for nothing new.
    pub deprecated: bool,
    /// It has no end.
    pub permanent: bool,
    /// It was added by [`add`], in this run or another one.
    pub ours: bool,
}

/// How far an address is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Anywhere.
    Global,
    /// IPv6's, obsolete: within the site.
    Site,
    /// On the link.
    Link,
    /// On the machine.
    Host,
    /// Another one, by number.
    Other(u8),
}

impl Scope {
    fn new(number: u8) -> Self {
        match number {
            0 => Self::Global,
            200 => Self::Site,
            253 => Self::Link,
            254 => Self::Host,
            other => Self::Other(other),
        }
    }
}

/// What can't be learnt or done. It names the interface and the address.
#[derive(Clone, Debug, Error)]
pub enum AddressError {
    /// There is no such interface.
    #[error(
        "there is no interface `{interface}`; create it, or correct its name in `l4.interfaces`"
    )]
    NoInterface {
        /// Its name.
        interface: String,
    },
    /// The kernel refuses to add the address.
    #[error("address {ip} can't be added to interface `{interface}`: {source}{}", remedy(.source, .ip))]
    Add {
        /// The interface.
        interface: String,
        /// The address.
        ip: IpAddr,
        /// The reason.
        source: NetlinkError,
    },
    /// The kernel refuses to remove the address.
    #[error("address {ip} can't be removed from interface `{interface}`: {source}")]
    Remove {
        /// The interface.
        interface: String,
        /// The address.
        ip: IpAddr,
        /// The reason.
        source: NetlinkError,
    },
    /// The kernel doesn't tell.
    #[error("interfaces and addresses can't be listed: {0}")]
    List(#[from] NetlinkError),
}

fn remedy(source: &NetlinkError, ip: &IpAddr) -> String {
    match (source.errno, ip) {
        (Errno::EACCES | Errno::EOPNOTSUPP | Errno::EINVAL, IpAddr::V6(_)) => {
            "; IPv6 may be off there: see net.ipv6.conf.*.disable_ipv6".to_owned()
        }
        _ => String::new(),
    }
}

/// What [`add`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It was not there.
    Now,
    /// The interface had it already.
    Before,
}

/// All addresses, sorted by interface.
///
/// # Errors
/// [`AddressError::List`].
pub fn list() -> Result<Vec<Address>, AddressError> {
    let names: std::collections::BTreeMap<u32, String> =
        interfaces()?.into_iter().map(|interface| (interface.index, interface.name)).collect();
    let step = "listing addresses";
    let mut socket = open(0, step)?;
    let mut addresses = socket
        .collect(RTM_GETADDR, &[0; HEADER], |message| {
            let read = || read(message, |index| names.get(&index).cloned());
            (message.kind == RTM_NEWADDR).then(read).flatten()
        })
        .map_err(|errno| NetlinkError::new(step, errno))?;
    addresses.sort();
    Ok(addresses)
}

/// The addresses that are the machine's own: none that [`add`] has added, none of the link alone.
///
/// # Errors
/// [`AddressError::List`].
pub fn host_addresses() -> Result<Vec<HostAddress>, AddressError> {
    let own = |address: &Address| !address.ours && address.scope != Scope::Link;
    let addresses = list()?.into_iter().filter(own);
    Ok(addresses
        .map(|address| HostAddress { interface: address.interface, network: address.network })
        .collect())
}

/// Adds a single address (`/32`, `/128`) to an interface, without a route for it and without the
/// kernel's own duplicate address detection, which is [`crate::neighbour::probe`]'s.
///
/// # Errors
/// [`AddressError::NoInterface`], [`AddressError::Add`].
pub fn add(interface: &str, ip: IpAddr) -> Result<Added, AddressError> {
    add_as(interface, ip, Some(OURS), Scope::Global)
}

/// The same for an interface that is all our own: the address is not marked as one that moves
/// between machines, so that nobody takes it for such.
///
/// # Errors
/// As [`add`].
pub fn add_to_own(interface: &str, ip: IpAddr) -> Result<Added, AddressError> {
    add_as(interface, ip, None, Scope::Global)
}

/// Gives an interface that is all our own [`DUMMY`], if it has no other IPv4 address: on one
/// without any the kernel drops what comes from where no route leads through it, also where the
/// filter by source is a loose one. No packet gets it for its source.
///
/// # Errors
/// As [`add`].
pub fn add_dummy(interface: &str) -> Result<Added, AddressError> {
    add_as(interface, DUMMY.into(), None, Scope::Host)
}

fn add_as(
    interface: &str,
    ip: IpAddr,
    mark: Option<u8>,
    scope: Scope,
) -> Result<Added, AddressError> {
    let index = self::interface(interface)?.index;
    let failed = |errno| AddressError::Add {
        interface: interface.to_owned(),
        ip,
        source: NetlinkError::new("rtnetlink", errno),
    };
    let mut flags = IFA_F_NOPREFIXROUTE | IFA_F_PERMANENT;
    if ip.is_ipv6() {
        flags |= IFA_F_NODAD;
    }
    let mut payload = header(ip, index);
    if scope == Scope::Host {
        payload[SCOPE] = RT_SCOPE_HOST;
    }
    push_attribute(&mut payload, IFA_FLAGS, &flags.to_ne_bytes());
    if let Some(mark) = mark {
        push_attribute(&mut payload, IFA_PROTO, &[mark]);
    }
    let mut socket = open(0, "adding an address")?;
    match socket.request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &payload) {
        Ok(()) => Ok(Added::Now),
        Err(Errno::EEXIST) => Ok(Added::Before),
        Err(errno) => Err(failed(errno)),
    }
}

/// Has the kernel take an address of [`add`] off by itself after so many seconds, or up to one
/// more, unless it is told so again before. An address that isn't there is put there.
///
/// # Errors
/// [`AddressError::NoInterface`], [`AddressError::Add`].
pub fn limit(interface: &str, ip: IpAddr, seconds: u32) -> Result<(), AddressError> {
    let index = self::interface(interface)?.index;
    let mut flags = IFA_F_NOPREFIXROUTE;
    if ip.is_ipv6() {
        flags |= IFA_F_NODAD;
    }
    let mut payload = header(ip, index);
    push_attribute(&mut payload, IFA_FLAGS, &flags.to_ne_bytes());
    push_attribute(&mut payload, IFA_PROTO, &[OURS]);
    // `struct ifa_cacheinfo`: preferred and valid; the kernel fills in the rest.
    let seconds = seconds.max(1).to_ne_bytes();
    push_attribute(&mut payload, IFA_CACHEINFO, &[seconds, seconds, [0; 4], [0; 4]].concat());
    let mut socket = open(0, "limiting an address")?;
    let failed = |errno| AddressError::Add {
        interface: interface.to_owned(),
        ip,
        source: NetlinkError::new("rtnetlink", errno),
    };
    socket.request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &payload).map_err(failed)
}

/// Removes a single address from an interface; whether it had it. An interface that is gone had
/// none.
///
/// # Errors
/// [`AddressError::Remove`].
pub fn remove(interface: &str, ip: IpAddr) -> Result<bool, AddressError> {
    let index = match self::interface(interface) {
        Ok(found) => found.index,
        Err(AddressError::NoInterface { .. }) => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut socket = open(0, "removing an address")?;
    match socket.request(RTM_DELADDR, 0, &header(ip, index)) {
        Ok(()) => Ok(true),
        Err(Errno::EADDRNOTAVAIL | Errno::ENODEV) => Ok(false),
        Err(errno) => Err(AddressError::Remove {
            interface: interface.to_owned(),
            ip,
            source: NetlinkError::new("rtnetlink", errno),
        }),
    }
}

fn open(groups: u32, step: &'static str) -> Result<Socket, NetlinkError> {
    Socket::open(SockProtocol::NetlinkRoute, groups, step)
}

/// `struct ifaddrmsg` and the address, with its whole length for a prefix.
fn header(ip: IpAddr, index: u32) -> Vec<u8> {
    let (family, length) = match ip {
        IpAddr::V4(_) => (AF_INET, 32),
        IpAddr::V6(_) => (AF_INET6, 128),
    };
    let mut payload = vec![family, length, 0, 0];
    payload.extend_from_slice(&index.to_ne_bytes());
    push_attribute(&mut payload, IFA_LOCAL, &octets(ip));
    push_attribute(&mut payload, IFA_ADDRESS, &octets(ip));
    payload
}

/// The address of a message; the interface's name comes from elsewhere.
fn read(message: &Message<'_>, name_of: impl Fn(u32) -> Option<String>) -> Option<Address> {
    let [_, length, flags, scope] = *message.payload.first_chunk::<4>()?;
    let index = u32_at(message.payload, 4)?;
    let (mut local, mut address) = (None, None);
    let (mut flags, mut ours, mut label) = (u32::from(flags), false, None);
    for (kind, value) in message.attributes(HEADER) {
        match kind {
            IFA_LOCAL => local = crate::netlink::message::ip(value),
            IFA_ADDRESS => address = crate::netlink::message::ip(value),
            IFA_FLAGS => flags = u32_at(value, 0)?,
            IFA_PROTO => ours = value == [OURS],
            IFA_LABEL => label = Some(name(value)),
            _ => {}
        }
    }
    // On a point-to-point link IFA_ADDRESS is the other end.
    let network = IpNet::new(local.or(address)?, length).ok()?;
    let interface = name_of(index).or(label).unwrap_or_else(|| format!("#{index}"));
    Some(Address {
        interface,
        index,
        network,
        scope: Scope::new(scope),
        tentative: flags & IFA_F_TENTATIVE != 0,
        duplicate: flags & IFA_F_DADFAILED != 0,
        deprecated: flags & IFA_F_DEPRECATED != 0,
        permanent: flags & IFA_F_PERMANENT != 0,
        ours,
    })
}
