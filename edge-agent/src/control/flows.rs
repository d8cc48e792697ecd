//! Flows from before: pods' packets to networks that were none of the overlay's had their source
//! translated by the network plugin, and as long as such a flow goes on connection tracking does
//! so. Beyond an edge that source is nobody's.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use model::Snapshot;
use netdev::conntrack::{self, Entry};

use super::Worker;

impl Worker {
    /// Ends such flows to networks that are led to edges for the first time since the start.
    pub(super) fn end_translated_flows(&mut self) {
        let Some(snapshot) = &self.snapshot else { return };
        let led = led(snapshot);
        let new: Vec<IpNet> = led.difference(&self.led).copied().collect();
        let own = snapshot.nodes.get(&self.config.overlay.name);
        let pods = own.map_or(&[][..], |own| own.pods.as_slice());
        if !new.is_empty() && !pods.is_empty() {
            let mask = self.config.overlay.mark_mask;
            match conntrack::delete_if(|entry| is_stray(entry, pods, &new, mask)) {
                Ok(0) => {}
                Ok(flows) => tracing::info!(flows, "flows with a translated source were ended"),
                // Without connection tracking there are none.
                Err(error) => tracing::debug!(%error, "flows from before go on"),
            }
        }
        if !pods.is_empty() {
            self.led = led;
        }
    }
}

/// Networks that pods reach through edges.
fn led(snapshot: &Snapshot) -> BTreeSet<IpNet> {
    let remote = snapshot.connections.values().flat_map(|connection| &connection.remote);
    let egress = snapshot.edges.values().flat_map(|edge| &edge.egress);
    remote.chain(egress).copied().collect()
}

/// Whether a flow is from one of the pods to one of the networks, with another source on its way.
/// What came in by an edge, as its mark says, goes back there.
fn is_stray(entry: &Entry, pods: &[IpNet], networks: &[IpNet], mask: u32) -> bool {
    let within =
        |all: &[IpNet], address: IpAddr| all.iter().any(|network| network.contains(&address));
    entry.mark & mask == 0
        && entry.reply.destination != entry.original.source
        && within(pods, entry.original.source)
        && within(networks, entry.reply.source)
        && !within(pods, entry.reply.source)
}
