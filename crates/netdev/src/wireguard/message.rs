//! Devices and peers as attributes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use ipnet::IpNet;

use super::{Change, Device, HEADER, Peer, PeerChange};
use crate::netlink::message::{
    Attributes, ip, octets, push_attribute, push_nested, u16_at, u32_at,
};

// `linux/wireguard.h`.
const DEVICE_IFNAME: u16 = 2;
const DEVICE_PRIVATE_KEY: u16 = 3;
const DEVICE_PUBLIC_KEY: u16 = 4;
const DEVICE_LISTEN_PORT: u16 = 6;
const DEVICE_FWMARK: u16 = 7;
const DEVICE_PEERS: u16 = 8;
const PEER_PUBLIC_KEY: u16 = 1;
const PEER_FLAGS: u16 = 3;
const PEER_ENDPOINT: u16 = 4;
const PEER_KEEPALIVE: u16 = 5;
const PEER_LAST_HANDSHAKE: u16 = 6;
const PEER_RX: u16 = 7;
const PEER_TX: u16 = 8;
const PEER_ALLOWED: u16 = 9;
const ALLOWED_FAMILY: u16 = 1;
const ALLOWED_ADDRESS: u16 = 2;
const ALLOWED_LENGTH: u16 = 3;
const REMOVE: u32 = 1;
const REPLACE_ALLOWED: u32 = 2;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// Octets of peers in one message, about: an attribute has 64 KiB at most, a socket's buffer a few
/// times that.
const MOST: usize = 32 * 1024;
/// Octets of a network, at most: three attributes in one.
const NETWORK: usize = 4 + 8 + 20 + 8;
/// Octets of a peer without its networks, at most.
const PEER: usize = 4 + 36 + 8 + 32 + 8 + 4;

/// A request about an interface.
pub(super) fn request(command: u8, interface: &str) -> Vec<u8> {
    let mut payload = vec![command, 1, 0, 0];
    push_attribute(&mut payload, DEVICE_IFNAME, &[interface.as_bytes(), &[0]].concat());
    payload
}

/// The messages of a change, in order.
pub(super) fn changes(command: u8, interface: &str, change: &Change) -> Vec<Vec<u8>> {
    // Room for the key's attribute, so that it isn't left behind in a buffer that grew.
    let mut first = Vec::with_capacity(MOST + 1024);
    first.extend(request(command, interface));
    if let Some(key) = &change.key {
        push_attribute(&mut first, DEVICE_PRIVATE_KEY, key.as_slice());
    }
    if let Some(port) = change.port {
        push_attribute(&mut first, DEVICE_LISTEN_PORT, &port.to_ne_bytes());
    }
    if let Some(mark) = change.mark {
        push_attribute(&mut first, DEVICE_FWMARK, &mark.to_ne_bytes());
    }
    let mut messages = Vec::new();
    let (mut current, mut peers) = (first, Vec::new());
    let mut end = |current: &mut Vec<u8>, peers: &mut Vec<u8>| {
        if !peers.is_empty() {
            push_nested(current, DEVICE_PEERS, peers);
        }
        peers.clear();
        messages.push(std::mem::replace(current, request(command, interface)));
    };
    for peer in &change.peers {
        let mut left = peer.allowed.as_slice();
        let mut is_first = true;
        loop {
            let room = MOST.saturating_sub(peers.len() + PEER) / NETWORK;
            // A peer that would be torn begins in a message of its own.
            if room < left.len().min(MOST / NETWORK / 2) || room == 0 {
                end(&mut current, &mut peers);
                continue;
            }
            let (now, later) = left.split_at(left.len().min(room));
            push_nested(&mut peers, 0, &encode(peer, now, is_first));
            (left, is_first) = (later, false);
            if left.is_empty() {
                break;
            }
            end(&mut current, &mut peers);
        }
    }
    end(&mut current, &mut peers);
    messages
}

/// A peer, or a later part of its networks.
fn encode(peer: &PeerChange, allowed: &[IpNet], is_first: bool) -> Vec<u8> {
    let mut out = Vec::new();
    push_attribute(&mut out, PEER_PUBLIC_KEY, &peer.key);
    if peer.remove {
        push_attribute(&mut out, PEER_FLAGS, &REMOVE.to_ne_bytes());
        return out;
    }
    if is_first {
        if peer.replace_allowed {
            push_attribute(&mut out, PEER_FLAGS, &REPLACE_ALLOWED.to_ne_bytes());
        }
        if let Some(endpoint) = peer.endpoint {
            push_attribute(&mut out, PEER_ENDPOINT, &sockaddr(endpoint));
        }
        if let Some(keepalive) = peer.keepalive {
            push_attribute(&mut out, PEER_KEEPALIVE, &keepalive.to_ne_bytes());
        }
    }
    if !allowed.is_empty() {
        let mut networks = Vec::new();
        for network in allowed {
            let mut one = Vec::new();
            let family = if network.addr().is_ipv4() { AF_INET } else { AF_INET6 };
            push_attribute(&mut one, ALLOWED_FAMILY, &family.to_ne_bytes());
            push_attribute(&mut one, ALLOWED_ADDRESS, &octets(network.network()));
            push_attribute(&mut one, ALLOWED_LENGTH, &[network.prefix_len()]);
            push_nested(&mut networks, 0, &one);
        }
        push_nested(&mut out, PEER_ALLOWED, &networks);
    }
    out
}

/// `struct sockaddr_in` or `sockaddr_in6`.
fn sockaddr(endpoint: SocketAddr) -> Vec<u8> {
    let (family, port) = match endpoint {
        SocketAddr::V4(_) => (AF_INET, endpoint.port()),
        SocketAddr::V6(_) => (AF_INET6, endpoint.port()),
    };
    let mut out = family.to_ne_bytes().to_vec();
    out.extend_from_slice(&port.to_be_bytes());
    match endpoint {
        SocketAddr::V4(v4) => {
            out.extend_from_slice(&v4.ip().octets());
            out.extend_from_slice(&[0; 8]);
        }
        SocketAddr::V6(v6) => {
            out.extend_from_slice(&v6.flowinfo().to_be_bytes());
            out.extend_from_slice(&v6.ip().octets());
            out.extend_from_slice(&v6.scope_id().to_ne_bytes());
        }
    }
    out
}

/// Adds what a message of a list says: a device's first ones have itself, all have peers, and one
/// peer's networks may go on in the next.
pub(super) fn read(payload: &[u8], device: &mut Device) {
    let Some(attributes) = payload.get(HEADER..) else { return };
    for (kind, value) in Attributes::new(attributes) {
        match kind {
            DEVICE_PUBLIC_KEY => device.key = value.first_chunk().copied(),
            DEVICE_LISTEN_PORT => device.port = u16_at(value, 0).unwrap_or_default(),
            DEVICE_FWMARK => device.mark = u32_at(value, 0).unwrap_or_default(),
            DEVICE_PEERS => {
                for (_, peer) in Attributes::new(value) {
                    add(decode(peer), &mut device.peers);
                }
            }
            _ => {}
        }
    }
}

fn add(peer: Option<Peer>, peers: &mut Vec<Peer>) {
    match (peer, peers.last_mut()) {
        (Some(peer), Some(last)) if last.key == peer.key => last.allowed.extend(peer.allowed),
        (Some(peer), _) => peers.push(peer),
        (None, _) => {}
    }
}

fn decode(attributes: &[u8]) -> Option<Peer> {
    let mut peer = Peer::default();
    let mut key = None;
    for (kind, value) in Attributes::new(attributes) {
        match kind {
            PEER_PUBLIC_KEY => key = value.first_chunk().copied(),
            PEER_ENDPOINT => peer.endpoint = endpoint(value),
            PEER_KEEPALIVE => peer.keepalive = u16_at(value, 0)?,
            PEER_LAST_HANDSHAKE => {
                let (seconds, nanoseconds) = (u64_at(value, 0)?, u64_at(value, 8)?);
                let time =
                    Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanoseconds));
                peer.last_handshake = Some(time).filter(|time| !time.is_zero());
            }
            PEER_RX => peer.received = u64_at(value, 0)?,
            PEER_TX => peer.sent = u64_at(value, 0)?,
            PEER_ALLOWED => {
                let networks = Attributes::new(value).filter_map(|(_, value)| network(value));
                peer.allowed.extend(networks);
            }
            _ => {}
        }
    }
    peer.key = key?;
    Some(peer)
}

fn network(attributes: &[u8]) -> Option<IpNet> {
    let (mut address, mut length) = (None, None);
    for (kind, value) in Attributes::new(attributes) {
        match kind {
            ALLOWED_ADDRESS => address = ip(value),
            ALLOWED_LENGTH => length = value.first().copied(),
            _ => {}
        }
    }
    IpNet::new(address?, length?).ok()
}

fn endpoint(value: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(*value.get(2..)?.first_chunk()?);
    match u16_at(value, 0)? {
        AF_INET => {
            let ip: [u8; 4] = *value.get(4..)?.first_chunk()?;
            Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(ip)), port))
        }
        AF_INET6 => {
            let flow = u32::from_be_bytes(*value.get(4..)?.first_chunk()?);
            let ip: [u8; 16] = *value.get(8..)?.first_chunk()?;
            let scope = u32_at(value, 24)?;
            Some(SocketAddrV6::new(Ipv6Addr::from(ip), port, flow, scope).into())
        }
        _ => None,
    }
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}
