//! Interfaces in the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use model::PublicKey;
use netdev::link::{self, Link};
use netdev::tun;
use netdev::wireguard::{Change, Device, KIND, PeerChange, WireGuard};
use netdev::{NetlinkError, wireguard};
use overlay::PrivateKey;
use overlay::peers::PeersError;
use plan::overlay::{Peer, Tunnel};
use zeroize::Zeroizing;

use super::{Fault, InterfaceStatistics, PeerStatistics, Settings};

/// A peer that has been heard within this time is where the kernel says, not where a plan does.
const HEARD: Duration = Duration::from_secs(180);

/// Interfaces in the kernel.
#[derive(Debug)]
pub(super) struct Kernel {
    netlink: WireGuard,
    /// Those that are in force.
    names: BTreeSet<String>,
    /// The endpoints that were wanted last: peers may have roamed since.
    endpoints: BTreeMap<(String, PublicKey), Option<SocketAddr>>,
    ports: BTreeMap<String, u16>,
}

impl Kernel {
    pub(super) fn open() -> Result<Self, NetlinkError> {
        Ok(Self {
            netlink: WireGuard::open()?,
            names: BTreeSet::new(),
            endpoints: BTreeMap::new(),
            ports: BTreeMap::new(),
        })
    }

    pub(super) fn apply(
        &mut self,
        tunnels: &[(&Tunnel, &PrivateKey)],
        settings: &Settings,
        faults: &mut Vec<Fault>,
    ) {
        let links = match link::list() {
            Ok(links) => links,
            Err(error) => return super::refuse_all(tunnels, &error.to_string(), faults),
        };
        for link in links.iter().filter(|link| is_former(link, tunnels, settings)) {
            match link::remove(&link.name) {
                Ok(()) => tracing::info!(interface = link.name, "removed"),
                Err(error) => faults.push(Fault {
                    interface: link.name.clone(),
                    peer: None,
                    reason: error.source.to_string(),
                }),
            }
        }
        self.names.clear();
        for (tunnel, key) in tunnels {
            let there = links.iter().find(|link| link.name == tunnel.interface);
            match self.bring(tunnel, key, there, settings, faults) {
                Ok(()) => {
                    self.names.insert(tunnel.interface.clone());
                }
                Err(reason) => faults.push(Fault::new(tunnel, reason)),
            }
        }
        self.endpoints.retain(|(interface, key), _| {
            tunnels.iter().any(|(tunnel, _)| {
                tunnel.interface == *interface && tunnel.peers.iter().any(|peer| peer.key == *key)
            })
        });
    }

    fn bring(
        &mut self,
        tunnel: &Tunnel,
        key: &PrivateKey,
        there: Option<&Link>,
        settings: &Settings,
        faults: &mut Vec<Fault>,
    ) -> Result<(), String> {
        match there.map(|link| link.kind.as_deref()) {
            Some(Some(KIND)) => {}
            Some(kind) => {
                let kind = kind.unwrap_or("another kind");
                let name = &tunnel.interface;
                return Err(format!("there is one of {kind}; remove it: `ip link del {name}`"));
            }
            None => {
                link::create(&tunnel.interface, KIND, tunnel.mtu)
                    .map_err(|error| error.source.to_string())?;
                tun::configure(&tunnel.interface).map_err(|error| error.to_string())?;
                let interface = &tunnel.interface;
                tracing::info!(%interface, key = %tunnel.key, "WireGuard in the kernel");
            }
        }
        let device = self.netlink.get(&tunnel.interface).map_err(|error| error.to_string())?;
        self.ports.insert(tunnel.interface.clone(), device.port);
        let change = self.change(tunnel, key, &device, settings.mark, faults);
        if let Some(change) = change {
            self.netlink.set(&tunnel.interface, &change).map_err(|error| error.to_string())?;
            if let Ok(device) = self.netlink.get(&tunnel.interface) {
                self.ports.insert(tunnel.interface.clone(), device.port);
            }
        }
        for peer in &tunnel.peers {
            self.endpoints.insert((tunnel.interface.clone(), peer.key), peer.endpoint);
        }
        Ok(())
    }

    /// The least that makes a device be as the tunnel says.
    fn change(
        &self,
        tunnel: &Tunnel,
        key: &PrivateKey,
        device: &Device,
        mark: u32,
        faults: &mut Vec<Fault>,
    ) -> Option<Change> {
        let mut change = Change::default();
        if device.key != Some(tunnel.key.0) {
            change.key = Some(Zeroizing::new(*key.octets()));
        }
        if tunnel.port != 0 && device.port != tunnel.port {
            change.port = Some(tunnel.port);
        }
        if device.mark != mark {
            change.mark = Some(mark);
        }
        let there: BTreeMap<[u8; 32], &wireguard::Peer> =
            device.peers.iter().map(|peer| (peer.key, peer)).collect();
        let (mut gaining, mut losing) = (Vec::new(), Vec::new());
        let mut taken = BTreeMap::new();
        for peer in &tunnel.peers {
            let peer = &with_its_own(tunnel, peer, &mut taken, faults);
            let before = there.get(&peer.key.0).copied();
            let wanted = self.endpoints.get(&(tunnel.interface.clone(), peer.key)).copied();
            let (gains, loses) = peer_change(peer, before, wanted, SystemTime::now());
            gaining.extend(gains);
            losing.extend(loses);
        }
        let wanted: BTreeSet<[u8; 32]> = tunnel.peers.iter().map(|peer| peer.key.0).collect();
        let gone = there.keys().filter(|key| !wanted.contains(*key));
        losing.extend(gone.map(|key| PeerChange { remove: true, ..PeerChange::new(*key) }));
        // A network that one peer loses and another gets goes over at once with the latter; taken
        // away first, it would be nobody's for a moment.
        change.peers = gaining;
        change.peers.extend(losing);
        let is_none = change.key.is_none()
            && change.port.is_none()
            && change.mark.is_none()
            && change.peers.is_empty();
        (!is_none).then_some(change)
    }

    pub(super) fn statistics(&mut self) -> BTreeMap<String, InterfaceStatistics> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut all = BTreeMap::new();
        for name in &self.names {
            let Ok(device) = self.netlink.get(name) else { continue };
            let peers = device.peers.into_iter().map(|peer| {
                let statistics = PeerStatistics {
                    endpoint: peer.endpoint,
                    last_handshake: peer.last_handshake.map(|at| now.saturating_sub(at)),
                    received_bytes: peer.received,
                    sent_bytes: peer.sent,
                    ..PeerStatistics::default()
                };
                (PublicKey(peer.key), statistics)
            });
            let statistics = InterfaceStatistics { peers: peers.collect(), drops: BTreeMap::new() };
            all.insert(name.clone(), statistics);
        }
        all
    }

    pub(super) fn port(&self, interface: &str) -> Option<u16> {
        self.ports.get(interface).copied()
    }
}

/// The peer without networks that are another's already: in the kernel the last one would get them,
/// and each time it is applied another one.
fn with_its_own(
    tunnel: &Tunnel,
    peer: &Peer,
    taken: &mut BTreeMap<IpNet, PublicKey>,
    faults: &mut Vec<Fault>,
) -> Peer {
    let mut peer = peer.clone();
    peer.allowed.retain(|network| match taken.insert(network.trunc(), peer.key) {
        Some(other) if other != peer.key => {
            taken.insert(network.trunc(), other);
            let (network, peer) = (*network, peer.key);
            let error = PeersError::Taken { network, peer, other };
            faults.push(Fault::of(tunnel, Some(peer), error.to_string()));
            false
        }
        _ => true,
    });
    peer
}

/// Whether an interface is a former plan's.
fn is_former(link: &Link, tunnels: &[(&Tunnel, &PrivateKey)], settings: &Settings) -> bool {
    link.kind.as_deref() == Some(KIND)
        && link.name.starts_with(&settings.prefix)
        && !tunnels.iter().any(|(tunnel, _)| tunnel.interface == link.name)
}

/// What makes a peer be as it is wanted: what it gets, and what it loses, which comes later.
fn peer_change(
    peer: &Peer,
    before: Option<&wireguard::Peer>,
    wanted_before: Option<Option<SocketAddr>>,
    now: SystemTime,
) -> (Option<PeerChange>, Option<PeerChange>) {
    let allowed: BTreeSet<IpNet> = peer.allowed.iter().map(IpNet::trunc).collect();
    let there: BTreeSet<IpNet> =
        before.map(|before| before.allowed.iter().copied().collect()).unwrap_or_default();
    let mut gains = PeerChange::new(peer.key.0);
    gains.allowed = allowed.difference(&there).copied().collect();
    let keepalive = peer.keepalive.unwrap_or(0);
    if before.map_or(0, |before| before.keepalive) != keepalive {
        gains.keepalive = Some(keepalive);
    }
    let has_moved = match (before, wanted_before) {
        (None, _) => true,
        (Some(_), Some(wanted)) => wanted != peer.endpoint,
        // A former run's: if it is alive it is where it is.
        (Some(before), None) => {
            let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            before.endpoint.is_none()
                || before.last_handshake.is_none_or(|at| since.saturating_sub(at) > HEARD)
        }
    };
    if has_moved && before.and_then(|before| before.endpoint) != peer.endpoint {
        gains.endpoint = peer.endpoint;
    }
    let is_new = before.is_none();
    let gets = is_new
        || !gains.allowed.is_empty()
        || gains.keepalive.is_some()
        || gains.endpoint.is_some();
    let loses = there.difference(&allowed).next().is_some().then(|| PeerChange {
        allowed: allowed.iter().copied().collect(),
        replace_allowed: true,
        ..PeerChange::new(peer.key.0)
    });
    (gets.then_some(gains), loses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(networks: &[&str], endpoint: Option<&str>) -> Peer {
        Peer {
            key: PublicKey([1; 32]),
            name: "node-1".to_owned(),
            endpoint: endpoint.map(|text| text.parse().unwrap()),
            allowed: networks.iter().map(|text| text.parse().unwrap()).collect(),
            keepalive: None,
        }
    }

    fn there(networks: &[&str], endpoint: &str, heard: u64) -> wireguard::Peer {
        wireguard::Peer {
            key: [1; 32],
            endpoint: Some(endpoint.parse().unwrap()),
            allowed: networks.iter().map(|text| text.parse().unwrap()).collect(),
            last_handshake: Some(Duration::from_secs(heard)),
            ..wireguard::Peer::default()
        }
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    const HERE: &str = "192.0.2.1:51820";
    const ELSEWHERE: &str = "192.0.2.9:4";

    #[test]
    fn what_is_so_already_is_left_alone() {
        let found = there(&["10.0.0.0/24"], HERE, 1000);
        let wanted = peer(&["10.0.0.0/24"], Some(HERE));
        assert_eq!(peer_change(&wanted, Some(&found), None, at(1001)), (None, None));
        assert_eq!(peer_change(&wanted, Some(&found), None, at(9001)), (None, None));
    }

    #[test]
    fn a_peer_that_has_roamed_stays_there() {
        let found = there(&[], ELSEWHERE, 1000);
        let wanted = peer(&[], Some(HERE));
        let same = Some(Some(HERE.parse().unwrap()));
        assert_eq!(peer_change(&wanted, Some(&found), same, at(9000)), (None, None));
        // After a restart, if it was heard of late.
        assert_eq!(peer_change(&wanted, Some(&found), None, at(1100)), (None, None));
        let (gains, _) = peer_change(&wanted, Some(&found), None, at(9000));
        assert_eq!(gains.unwrap().endpoint, wanted.endpoint);
        // Or if it is wanted elsewhere now.
        let (gains, _) = peer_change(&wanted, Some(&found), Some(None), at(1100));
        assert_eq!(gains.unwrap().endpoint, wanted.endpoint);
    }

    #[test]
    fn networks_are_got_before_they_are_lost() {
        let found = there(&["10.0.0.0/24", "10.0.1.0/24"], HERE, 1000);
        let wanted = peer(&["10.0.1.0/24", "10.0.2.0/24"], Some(HERE));
        let (gains, loses) = peer_change(&wanted, Some(&found), None, at(1001));
        let (gains, loses) = (gains.unwrap(), loses.unwrap());
        assert_eq!(gains.allowed, ["10.0.2.0/24".parse::<IpNet>().unwrap()]);
        assert!(!gains.replace_allowed && loses.replace_allowed);
        assert_eq!(loses.allowed.len(), 2);
    }

    #[test]
    fn a_new_peer_is_made_even_if_it_has_nothing() {
        let (gains, loses) = peer_change(&peer(&[], None), None, None, at(1));
        assert!(gains.is_some() && loses.is_none());
    }
}
