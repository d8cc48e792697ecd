//! Interfaces in this process.

use std::collections::BTreeMap;

use model::PublicKey;
use overlay::PrivateKey;
use overlay::peers::Wanted;
use plan::overlay::{Peer, Tunnel};

use super::{Fault, InterfaceStatistics, PeerStatistics, Settings};
use crate::user_space::{self, UserSpace};

/// Interfaces in this process, by name.
#[derive(Debug, Default)]
pub(super) struct Local(BTreeMap<String, Interface>);

#[derive(Debug)]
struct Interface {
    /// What it was made with; another one is made where one of these has changed.
    made: Made,
    running: UserSpace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Made {
    key: PublicKey,
    port: u16,
    mtu: u16,
}

impl Local {
    pub(super) fn apply(
        &mut self,
        tunnels: &[(&Tunnel, &PrivateKey)],
        settings: &Settings,
        faults: &mut Vec<Fault>,
    ) {
        // First what goes: its name or port may be another's now.
        self.0.retain(|name, interface| {
            let stays = tunnels.iter().any(|(tunnel, _)| {
                tunnel.interface == *name && Made::new(tunnel) == interface.made
            });
            stays && !interface.running.is_broken()
        });
        for (tunnel, key) in tunnels {
            let interface = match self.0.get_mut(&tunnel.interface) {
                Some(there) => there,
                None => match make(tunnel, key, settings) {
                    Ok(made) => self.0.entry(tunnel.interface.clone()).or_insert(made),
                    Err(error) => {
                        faults.push(Fault::new(tunnel, error.to_string()));
                        continue;
                    }
                },
            };
            // Also if nothing is new: it is told again what is wrong.
            let wanted: Vec<Wanted> = tunnel.peers.iter().map(wanted).collect();
            for error in interface.running.set_peers(&wanted) {
                faults.push(Fault::of(tunnel, error.peer().copied(), error.to_string()));
            }
        }
    }

    pub(super) fn statistics(&self) -> BTreeMap<String, InterfaceStatistics> {
        let all = self.0.iter().map(|(name, interface)| {
            let peers = interface.running.peers();
            let peers = peers.iter().map(|peer| {
                let found = peer.statistics();
                let statistics = PeerStatistics {
                    endpoint: found.endpoint,
                    last_handshake: found.last_handshake,
                    received_bytes: found.received_bytes,
                    sent_bytes: found.sent_bytes,
                    received_packets: found.received_packets,
                    sent_packets: found.sent_packets,
                };
                (*peer.key(), statistics)
            });
            let drops = interface.running.drops().collect();
            (name.clone(), InterfaceStatistics { peers: peers.collect(), drops })
        });
        all.collect()
    }

    pub(super) fn port(&self, interface: &str) -> Option<u16> {
        self.0.get(interface).map(|interface| interface.running.port())
    }
}

impl Made {
    fn new(tunnel: &Tunnel) -> Self {
        Self { key: tunnel.key, port: tunnel.port, mtu: tunnel.mtu }
    }
}

fn make(
    tunnel: &Tunnel,
    key: &PrivateKey,
    settings: &Settings,
) -> Result<Interface, user_space::UserSpaceError> {
    let running = UserSpace::start(
        &user_space::Settings {
            name: tunnel.interface.clone(),
            port: tunnel.port,
            mtu: tunnel.mtu,
            mark: settings.mark,
            workers: settings.workers,
            offloads: settings.offloads,
        },
        key,
    )?;
    let (interface, port, offloads) = (&tunnel.interface, running.port(), running.offloads());
    tracing::info!(%interface, port, ?offloads, key = %tunnel.key, "WireGuard in user space");
    Ok(Interface { made: Made::new(tunnel), running })
}

fn wanted(peer: &Peer) -> Wanted {
    Wanted {
        key: peer.key,
        endpoint: peer.endpoint,
        allowed: peer.allowed.clone(),
        keepalive: peer.keepalive,
    }
}
