//! The interface that packets are routed into to meet policies.

use nix::errno::Errno;
use nix::sys::socket::SockProtocol;

use super::{NLM_F_CREATE, NLM_F_EXCL, XfrmError};
use crate::NetlinkError;
use crate::address;
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
const IFLA_INFO_DATA: u16 = 2;
const IFLA_XFRM_IF_ID: u16 = 2;
const IFF_UP: u32 = 1;
/// `struct ifinfomsg`.
const HEADER: usize = 16;
const KIND: &str = "xfrm";

/// Makes an xfrm interface and switches it on, without addresses, reverse path filter and IPv6
/// autoconfiguration; its number. One of that name and that `if_id` that is there already is
/// replaced: it is a former run's.
///
/// # Errors
/// [`XfrmError::Interface`], [`XfrmError::Exists`], [`XfrmError::Sysctl`].
pub fn create(wanted: &str, mtu: u16, if_id: u32) -> Result<u32, XfrmError> {
    let failed = |step| {
        move |errno| XfrmError::Interface {
            name: wanted.to_owned(),
            source: NetlinkError::new(step, errno),
        }
    };
    let mut socket = open(wanted)?;
    let there = socket.collect(RTM_GETLINK, &[0; HEADER], read).map_err(failed("looking"))?;
    if let Some(same) = there.iter().find(|link| link.name == wanted) {
        if same.if_id != Some(if_id) {
            return Err(XfrmError::Exists { name: wanted.to_owned() });
        }
        remove(wanted)?;
    }
    let mut payload = vec![0; HEADER];
    let name = [wanted.as_bytes(), &[0]].concat();
    push_attribute(&mut payload, IFLA_IFNAME, &name);
    push_attribute(&mut payload, IFLA_MTU, &u32::from(mtu).to_ne_bytes());
    let mut data = Vec::new();
    push_attribute(&mut data, IFLA_XFRM_IF_ID, &if_id.to_ne_bytes());
    let mut info = Vec::new();
    push_attribute(&mut info, IFLA_INFO_KIND, KIND.as_bytes());
    push_nested(&mut info, IFLA_INFO_DATA, &data);
    push_nested(&mut payload, IFLA_LINKINFO, &info);
    socket
        .request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &payload)
        .map_err(failed("making it"))?;
    let finish = || {
        crate::tun::configure(wanted)?;
        let found = address::interface(wanted).map_err(|_| failed("looking")(Errno::ENODEV))?;
        let mut up = vec![0; 4];
        up.extend_from_slice(&found.index.to_ne_bytes());
        up.extend_from_slice(&IFF_UP.to_ne_bytes());
        up.extend_from_slice(&IFF_UP.to_ne_bytes());
        socket.request(RTM_NEWLINK, 0, &up).map_err(failed("switching it on"))?;
        Ok(found.index)
    };
    let made: Result<u32, XfrmError> = { finish }();
    if made.is_err() {
        // What went wrong is said already.
        let _ = remove(wanted);
    }
    made
}

/// Removes an xfrm interface of that name if it is of that `if_id`, and tells whether there was
/// one: a former run's that was killed.
///
/// # Errors
/// [`XfrmError::Interface`].
pub fn remove_left(wanted: &str, if_id: u32) -> Result<bool, XfrmError> {
    let there = open(wanted)?.collect(RTM_GETLINK, &[0; HEADER], read).map_err(|errno| {
        let source = NetlinkError::new("looking", errno);
        XfrmError::Interface { name: wanted.to_owned(), source }
    })?;
    let left = there.iter().any(|link| link.name == wanted && link.if_id == Some(if_id));
    if left {
        remove(wanted)?;
    }
    Ok(left)
}

/// Removes an interface. That there is none is fine.
///
/// # Errors
/// [`XfrmError::Interface`].
pub fn remove(wanted: &str) -> Result<(), XfrmError> {
    let mut payload = vec![0; HEADER];
    push_attribute(&mut payload, IFLA_IFNAME, &[wanted.as_bytes(), &[0]].concat());
    match open(wanted)?.request(RTM_DELLINK, 0, &payload) {
        Ok(()) | Err(Errno::ENODEV) => Ok(()),
        Err(errno) => Err(XfrmError::Interface {
            name: wanted.to_owned(),
            source: NetlinkError::new("removing it", errno),
        }),
    }
}

fn open(wanted: &str) -> Result<Socket, XfrmError> {
    Socket::open(SockProtocol::NetlinkRoute, 0, "opening a socket")
        .map_err(|source| XfrmError::Interface { name: wanted.to_owned(), source })
}

/// An interface that is there.
struct Link {
    name: String,
    /// Of an xfrm interface.
    if_id: Option<u32>,
}

fn read(message: &Message<'_>) -> Option<Link> {
    let mut link = Link { name: String::new(), if_id: None };
    for (kind, value) in message.attributes(HEADER) {
        match kind {
            IFLA_IFNAME => link.name = name(value),
            IFLA_LINKINFO => {
                let info = |wanted| Attributes::new(value).find(|(kind, _)| *kind == wanted);
                let is_xfrm = info(IFLA_INFO_KIND).is_some_and(|(_, kind)| name(kind) == KIND);
                let data = info(IFLA_INFO_DATA).filter(|_| is_xfrm);
                let number = data.and_then(|(_, data)| {
                    Attributes::new(data).find(|(kind, _)| *kind == IFLA_XFRM_IF_ID)
                });
                link.if_id = number.and_then(|(_, number)| u32_at(number, 0));
            }
            _ => {}
        }
    }
    Some(link)
}
