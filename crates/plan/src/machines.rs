//! What an edge finds out by itself of the machines that it can't do without.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use model::snapshot::Machine;
use model::{ObjectKey, Snapshot};

/// Endpoints of the API's Service that count.
const MOST_ENDPOINTS: usize = 16;

/// It, as it is found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machines {
    /// The Kubernetes API's addresses.
    pub api: BTreeSet<IpAddr>,
    /// Whether the API is behind the Service `default/kubernetes`: then its endpoints count, too.
    pub in_cluster: bool,
    /// Who tells the API's addresses, where it is known by name.
    pub name_servers: BTreeSet<IpAddr>,
    /// The edge's own addresses.
    pub own: BTreeSet<IpAddr>,
    /// The next hops of its routes, with the networks that they lead to.
    pub hops: BTreeSet<(IpNet, IpAddr)>,
}

impl Machines {
    /// Adds them to those that objects tell of.
    pub fn join(&self, snapshot: &mut Snapshot) {
        let service = snapshot.services.get(&ObjectKey::new("default", "kubernetes"));
        let ports = service.filter(|_| self.in_cluster).into_iter().flat_map(|one| &one.ports);
        let endpoints = ports.flat_map(|port| &port.endpoints).map(|one| one.address.ip());
        let mut api: BTreeSet<IpAddr> = endpoints.take(MOST_ENDPOINTS).collect();
        api.extend(&self.api);
        let all = &mut *snapshot.machines;
        let servers = self.name_servers.iter().filter(|server| !api.contains(server));
        all.extend(servers.map(|address| (*address, Machine::NameServer)));
        all.extend(api.iter().map(|address| (*address, Machine::Api)));
        for own in &self.own {
            all.entry(*own).or_insert(Machine::Own);
        }
        // No other machine has those.
        all.retain(|at, _| !(at.is_loopback() || at.is_unspecified() || at.is_multicast()));
        let leads = |network: &IpNet| {
            let mut behind = all.range(network.network()..=network.broadcast());
            network.prefix_len() == 0 || behind.next().is_some()
        };
        let hops = self.hops.iter().filter(|(network, _)| leads(network));
        let hops: Vec<IpAddr> = hops.map(|(_, hop)| *hop).collect();
        for hop in hops {
            all.entry(hop).or_insert(Machine::Router);
        }
    }

    /// Their addresses, before any object is known.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        let mut snapshot = Snapshot::default();
        self.join(&mut snapshot);
        snapshot.machines.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn next_hops_count_where_a_machine_is_behind_them() {
        let machines = Machines {
            api: [ip("192.0.2.9")].into(),
            hops: [
                (net("0.0.0.0/0"), ip("10.0.0.254")),
                (net("192.0.2.0/24"), ip("10.0.0.253")),
                (net("198.51.100.0/24"), ip("10.0.0.252")),
            ]
            .into(),
            ..Machines::default()
        };
        let expected = ["10.0.0.253", "10.0.0.254", "192.0.2.9"].map(ip);
        assert_eq!(machines.addresses(), expected.into());
    }

    #[test]
    fn addresses_that_can_be_no_other_machines_are_left_out() {
        let api = ["127.0.0.1", "0.0.0.0", "224.0.0.1", "::1", "ff02::1", "fd00::1"].map(ip);
        let machines = Machines { api: api.into(), ..Machines::default() };
        assert_eq!(machines.addresses(), [ip("fd00::1")].into());
    }
}
