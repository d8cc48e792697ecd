//! WireGuard in the kernel: interfaces, their keys and their peers (`linux/wireguard.h`), by
//! generic netlink (`linux/genetlink.h`).

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;
use zeroize::{Zeroize, Zeroizing};

use crate::NetlinkError;
use crate::link::{self, LinkError};
use crate::netlink::Socket;
use crate::netlink::message::{Message, push_attribute, u16_at};

mod message;

/// The kind of link.
pub const KIND: &str = "wireguard";
/// `linux/genetlink.h`: the family that knows the others' numbers.
const CONTROL: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_NAME: u16 = 2;
const FAMILY_ID: u16 = 1;
const GET_DEVICE: u8 = 0;
const SET_DEVICE: u8 = 1;
/// `struct genlmsghdr`.
const HEADER: usize = 4;

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Its public key; none while it has no private one.
    pub key: Option<[u8; 32]>,
    /// The UDP port.
    pub port: u16,
    /// The mark of what is sent.
    pub mark: u32,
    /// Its peers.
    pub peers: Vec<Peer>,
}

/// A peer of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its key.
    pub key: [u8; 32],
    /// Where it is.
    pub endpoint: Option<SocketAddr>,
    /// Seconds between keepalives; 0 for none.
    pub keepalive: u16,
    /// The last handshake, since 1970.
    pub last_handshake: Option<Duration>,
    /// Octets of datagrams received.
    pub received: u64,
    /// Octets of datagrams sent.
    pub sent: u64,
    /// Its networks.
    pub allowed: Vec<IpNet>,
}

/// What is to be changed of an interface.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Its private key.
    pub key: Option<Zeroizing<[u8; 32]>>,
    /// The UDP port.
    pub port: Option<u16>,
    /// The mark of what is sent.
    pub mark: Option<u32>,
    /// Peers, in this order. A network that another peer has goes over at once.
    pub peers: Vec<PeerChange>,
}

/// What is to be changed of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerChange {
    /// Its key.
    pub key: [u8; 32],
    /// It goes.
    pub remove: bool,
    /// Where it is.
    pub endpoint: Option<SocketAddr>,
    /// Seconds between keepalives; 0 for none.
    pub keepalive: Option<u16>,
    /// Networks that it gets.
    pub allowed: Vec<IpNet>,
    /// It has no others.
    pub replace_allowed: bool,
}

impl PeerChange {
    /// Nothing yet.
    pub fn new(key: [u8; 32]) -> Self {
        Self {
            key,
            remove: false,
            endpoint: None,
            keepalive: None,
            allowed: Vec::new(),
            replace_allowed: false,
        }
    }
}

/// WireGuard's generic netlink.
#[derive(Debug)]
pub struct WireGuard {
    socket: Socket,
    family: u16,
}

impl WireGuard {
    /// In the network namespace of the caller. The kernel may load its module for it.
    ///
    /// # Errors
    /// The kernel has no WireGuard, or the caller isn't allowed.
    pub fn open() -> Result<Self, NetlinkError> {
        let step = "opening WireGuard's netlink";
        let failed = |errno| match errno {
            // That is how the kernel says that it knows no such family.
            Errno::ENOENT => NetlinkError::new(step, Errno::EPROTONOSUPPORT),
            errno => NetlinkError::new(step, errno),
        };
        let mut socket = Socket::open(SockProtocol::NetlinkGeneric, 0, step)?;
        let found = socket.get(CONTROL, &family_request(), family).map_err(failed)?;
        let family = found.ok_or(failed(Errno::ENOENT))?;
        Ok(Self { socket, family })
    }

    /// An interface with its peers.
    ///
    /// # Errors
    /// There is no such interface, or it is none of WireGuard's.
    pub fn get(&mut self, interface: &str) -> Result<Device, NetlinkError> {
        let mut device = Device::default();
        let request = message::request(GET_DEVICE, interface);
        self.socket
            .dump(self.family, &request, |message| message::read(message.payload, &mut device))
            .map_err(|errno| NetlinkError::new("asking WireGuard for an interface", errno))?;
        Ok(device)
    }

    /// Changes an interface. What doesn't fit into one message follows in others.
    ///
    /// # Errors
    /// What the kernel refuses; parts may be in force.
    pub fn set(&mut self, interface: &str, change: &Change) -> Result<(), NetlinkError> {
        for mut payload in message::changes(SET_DEVICE, interface, change) {
            let answer = self.socket.request(self.family, 0, &payload);
            payload.zeroize();
            answer.map_err(|errno| NetlinkError::new("changing a WireGuard interface", errno))?;
        }
        Ok(())
    }
}

/// Tries whether the kernel makes WireGuard interfaces, in the network namespace of the caller.
///
/// # Errors
/// It doesn't.
pub fn probe() -> Result<(), LinkError> {
    let name = format!("tgw{}", std::process::id());
    link::create(&name, KIND, 1420)?;
    let tried = WireGuard::open().and_then(|mut netlink| netlink.get(&name));
    link::remove(&name)?;
    tried.map(drop).map_err(|source| LinkError { name, source })
}

fn family_request() -> Vec<u8> {
    let mut payload = vec![GET_FAMILY, 1, 0, 0];
    push_attribute(&mut payload, FAMILY_NAME, b"wireguard\0");
    payload
}

fn family(message: &Message<'_>) -> Option<u16> {
    let mut attributes = message.attributes(HEADER);
    attributes.find(|(kind, _)| *kind == FAMILY_ID).and_then(|(_, value)| u16_at(value, 0))
}

#[cfg(test)]
mod tests;
