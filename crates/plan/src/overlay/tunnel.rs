//! What both ends' tunnels have in common.

use std::net::IpAddr;

use ipnet::IpNet;
use model::{OverlaySettings, PublicKey};

use crate::l4::hash::fnv;

/// The longest name of an interface.
const LONGEST: usize = 15;
/// What WireGuard adds to a packet, with an underlay of IPv4.
const OVERHEAD_V4: u16 = 60;
/// The same of IPv6.
const OVERHEAD_V6: u16 = 80;
/// For tunnels over an underlay of which nothing is known.
const DEFAULT_MTU: u16 = 1420;
/// What IPv6 takes.
const LEAST_MTU: u16 = 1280;

/// The interface of an edge's key: its port tells which of the two it is.
pub(super) fn edge_interface(settings: &OverlaySettings, port: u16) -> String {
    if port == settings.port {
        return settings.interface.clone();
    }
    let name: String = settings.interface.chars().take(LONGEST - 1).collect();
    name + "1"
}

/// The interface of a node's key and an edge's: the same as long as there are the two.
pub(super) fn node_interface(
    settings: &OverlaySettings,
    edge: &PublicKey,
    own: &PublicKey,
) -> String {
    let hash = fnv(&[edge.0, own.0].concat(), 0);
    let digits = format!("{hash:016x}");
    let name: String = settings.interface.chars().take(LONGEST - 4).collect();
    let room = (LONGEST - name.len()).min(6);
    name + digits.get(..room).unwrap_or_default()
}

/// The largest packet in tunnels to or from these addresses.
pub(super) fn mtu(
    settings: &OverlaySettings,
    underlay: Option<u16>,
    addresses: impl IntoIterator<Item = IpAddr>,
) -> u16 {
    if let Some(mtu) = settings.mtu {
        return mtu;
    }
    let v6 = addresses.into_iter().any(|address| address.is_ipv6());
    let overhead = if v6 { OVERHEAD_V6 } else { OVERHEAD_V4 };
    let left = |underlay: u16| underlay.saturating_sub(overhead).max(LEAST_MTU);
    underlay.map_or(DEFAULT_MTU, left)
}

/// The addresses of a tunnel, that for probes first. The kernel refuses IPv4 packets that come in
/// through an interface without an IPv4 address, however loosely it checks their sources
/// (`rp_filter` 2), so there is one: the machine's own, which is the right source of what it sends
/// itself, or else one of the link's.
pub(super) fn addresses(key: &PublicKey, own: &[IpAddr]) -> Vec<IpAddr> {
    let overlay = key.overlay_address();
    let [.., high, low] = overlay.octets();
    // Not the first and last 256, which are reserved (RFC 3927).
    let link = IpAddr::from([169, 254, high.clamp(1, 254), low]);
    let v4 = own.iter().copied().find(IpAddr::is_ipv4).unwrap_or(link);
    vec![overlay.into(), v4]
}

/// An address as a network of its own.
pub(super) fn alone(address: impl Into<IpAddr>) -> IpNet {
    IpNet::from(address.into())
}

/// Everything of a family.
pub(super) fn everything(v4: bool) -> IpNet {
    let zero = if v4 { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
    IpNet::new_assert(zero, 0)
}
