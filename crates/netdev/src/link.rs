//! Interfaces that are made, changed and removed here.

use nix::errno::Errno;
use nix::sys::socket::SockProtocol;
use thiserror::Error;

use crate::NetlinkError;
use crate::netlink::Socket;
use crate::netlink::message::{Attributes, Message, name, push_attribute, push_nested, u32_at};

// `linux/rtnetlink.h` and `linux/if_link.h`.
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFF_UP: u32 = 1;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
/// `struct ifinfomsg`.
const HEADER: usize = 16;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its number.
    pub index: u32,
    /// The largest packet.
    pub mtu: u32,
    /// Whether it is switched on.
    pub is_up: bool,
    /// What made it: `wireguard`, `tun`, `veth`; none of real ones.
    pub kind: Option<String>,
}

/// What can't be done to an interface.
#[derive(Clone, Debug, Error)]
#[error("interface `{name}`: {source}")]
pub struct LinkError {
    /// Its name.
    pub name: String,
    /// The reason.
    pub source: NetlinkError,
}

/// All interfaces.
///
/// # Errors
/// The kernel doesn't say.
pub fn list() -> Result<Vec<Link>, NetlinkError> {
    let step = "listing interfaces";
    let mut socket = Socket::open(SockProtocol::NetlinkRoute, 0, step)?;
    let found = socket.collect(RTM_GETLINK, &[0; HEADER], |message| {
        (message.kind == RTM_NEWLINK).then(|| read(message)).flatten()
    });
    found.map_err(|errno| NetlinkError::new(step, errno))
}

/// Makes an interface of a kind that needs nothing else, switched off.
///
/// # Errors
/// [`LinkError`]: the name is taken, or the kernel has no such kind.
pub fn create(wanted: &str, kind: &str, mtu: u16) -> Result<(), LinkError> {
    let step = "making it";
    let payload = creation(wanted, kind, mtu);
    request(wanted, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &payload, step)
}

/// Sets what an interface's packets may have, and switches it on.
///
/// # Errors
/// [`LinkError`].
pub fn set_up(link: &Link, mtu: u16) -> Result<(), LinkError> {
    let mut payload = vec![0; 4];
    payload.extend_from_slice(&link.index.to_ne_bytes());
    payload.extend_from_slice(&IFF_UP.to_ne_bytes());
    payload.extend_from_slice(&IFF_UP.to_ne_bytes());
    push_attribute(&mut payload, IFLA_MTU, &u32::from(mtu).to_ne_bytes());
    request(&link.name, RTM_NEWLINK, 0, &payload, "changing it")
}

/// Removes an interface. That there is none is fine.
///
/// # Errors
/// [`LinkError`].
pub fn remove(wanted: &str) -> Result<(), LinkError> {
    let mut payload = vec![0; HEADER];
    push_attribute(&mut payload, IFLA_IFNAME, &[wanted.as_bytes(), &[0]].concat());
    match request(wanted, RTM_DELLINK, 0, &payload, "removing it") {
        Err(error) if error.source.errno == Errno::ENODEV => Ok(()),
        other => other,
    }
}

fn creation(wanted: &str, kind: &str, mtu: u16) -> Vec<u8> {
    let mut payload = vec![0; HEADER];
    push_attribute(&mut payload, IFLA_IFNAME, &[wanted.as_bytes(), &[0]].concat());
    push_attribute(&mut payload, IFLA_MTU, &u32::from(mtu).to_ne_bytes());
    let mut info = Vec::new();
    push_attribute(&mut info, IFLA_INFO_KIND, kind.as_bytes());
    push_nested(&mut payload, IFLA_LINKINFO, &info);
    payload
}

fn request(
    wanted: &str,
    kind: u16,
    flags: u16,
    payload: &[u8],
    step: &'static str,
) -> Result<(), LinkError> {
    let failed = |source| LinkError { name: wanted.to_owned(), source };
    let mut socket = Socket::open(SockProtocol::NetlinkRoute, 0, step).map_err(failed)?;
    let answer = socket.request(kind, flags, payload);
    answer.map_err(|errno| failed(NetlinkError::new(step, errno)))
}

fn read(message: &Message<'_>) -> Option<Link> {
    let mut link = Link {
        name: String::new(),
        index: u32_at(message.payload, 4)?,
        mtu: 0,
        is_up: u32_at(message.payload, 8)? & IFF_UP != 0,
        kind: None,
    };
    for (kind, value) in message.attributes(HEADER) {
        match kind {
            IFLA_IFNAME => link.name = name(value),
            IFLA_MTU => link.mtu = u32_at(value, 0)?,
            IFLA_LINKINFO => {
                let found = Attributes::new(value).find(|(kind, _)| *kind == IFLA_INFO_KIND);
                link.kind = found.map(|(_, kind)| name(kind));
            }
            _ => {}
        }
    }
    Some(link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_of_a_kind_is_asked_for_as_iproute2_does() {
        let payload = creation("wg0", "wireguard", 1420);
        let mut expected = vec![0; 16];
        expected.extend_from_slice(&[8, 0, 3, 0, b'w', b'g', b'0', 0]);
        expected.extend_from_slice(&[8, 0, 4, 0, 0x8c, 5, 0, 0]);
        expected.extend_from_slice(&[20, 0, 18, 0x80, 13, 0, 1, 0]);
        expected.extend_from_slice(b"wireguard\0\0\0");
        assert_eq!(payload, expected);
    }
}
