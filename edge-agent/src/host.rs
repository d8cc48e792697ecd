//! What plans depend on besides objects: the machine that the agent is on.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use model::HostAddress;
use netdev::{NetlinkError, address, neighbour, route, udp};

/// The machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Its addresses, but for those of the overlay.
    pub addresses: Vec<HostAddress>,
    /// Neighbours' Ethernet addresses, those of edges alone.
    pub neighbours: BTreeMap<IpAddr, [u8; 6]>,
    /// Networks that its main table leads to.
    pub routed: Vec<IpNet>,
    /// The largest packet towards all edges, where that is known.
    pub mtu: Option<u16>,
}

/// What can't be learnt of the machine.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Its addresses.
    #[error("{0}")]
    Addresses(#[from] address::AddressError),
    /// Its routes.
    #[error("{0}")]
    Routes(#[from] route::RouteError),
    /// Its neighbours.
    #[error("{0}")]
    Neighbours(#[from] NetlinkError),
}

impl Host {
    /// Looks. `prefix` is what interfaces of the overlay begin with, `edges` are edges' addresses
    /// on the underlay.
    ///
    /// # Errors
    /// [`HostError`].
    pub fn look(prefix: &str, edges: &[IpAddr]) -> Result<Self, HostError> {
        let foreign = |interface: &str| !interface.starts_with(prefix);
        let indices: Vec<u32> = address::interfaces()?
            .into_iter()
            .filter(|interface| foreign(&interface.name))
            .map(|interface| interface.index)
            .collect();
        let mut addresses = address::host_addresses()?;
        addresses.retain(|address| foreign(&address.interface));
        let mut routed: Vec<IpNet> = route::main::networks()?
            .into_iter()
            .filter(|(_, index)| *index == 0 || indices.contains(index))
            .map(|(network, _)| network)
            .collect();
        routed.dedup();
        let neighbours = neighbour::known()?
            .into_iter()
            .filter(|(address, _)| edges.contains(address))
            .map(|(address, mac)| (address, mac.0))
            .collect();
        Ok(Self { addresses, neighbours, routed, mtu: mtu(edges) })
    }
}

/// The largest packet to the edge that the least of them gets to.
fn mtu(edges: &[IpAddr]) -> Option<u16> {
    let paths = edges.iter().filter_map(|edge| udp::path_mtu(None, *edge, 0).ok());
    paths.min().and_then(|mtu| u16::try_from(mtu).ok())
}
