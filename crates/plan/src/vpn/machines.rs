//! Machines of this side that are reached outside of tunnels, whatever connections say: without
//! them nobody could put a connection right.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use model::snapshot::vpn::nat::beyond;
use model::{Diagnostic, ObjectKey, ObjectRef, Snapshot};

use super::ConnectionPlan;

/// How many are named in a finding.
const NAMED: usize = 3;
/// Endpoints of the API's Service that count.
const MOST_ENDPOINTS: usize = 16;

/// What an edge needs, as it finds that on its own machine.
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
    /// Their addresses, before any object is known.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        Kept::new(self, &Snapshot::default()).0.into_keys().collect()
    }
}

/// What is at an address, in the order in which findings name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Api,
    NameServer,
    Router,
    Own,
    Object(ObjectRef),
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api => f.write_str("the Kubernetes API"),
            Self::NameServer => f.write_str("a name server"),
            Self::Router => f.write_str("a router of this side"),
            Self::Own => f.write_str("this edge"),
            Self::Object(object) => object.fmt(f),
        }
    }
}

/// All of them, by address.
pub(super) struct Kept(BTreeMap<IpAddr, What>);

impl Kept {
    pub(super) fn new(machines: &Machines, snapshot: &Snapshot) -> Self {
        let mut all = BTreeMap::new();
        let mut keep = |address: IpAddr, what: What| {
            // No remote network has those.
            if !(address.is_loopback() || address.is_unspecified() || address.is_multicast()) {
                all.entry(address).or_insert(what);
            }
        };
        machines.api.iter().for_each(|address| keep(*address, What::Api));
        let service = snapshot.services.get(&ObjectKey::new("default", "kubernetes"));
        let ports = service.filter(|_| machines.in_cluster).into_iter().flat_map(|one| &one.ports);
        let endpoints = ports.flat_map(|port| &port.endpoints).take(MOST_ENDPOINTS);
        endpoints.for_each(|endpoint| keep(endpoint.address.ip(), What::Api));
        machines.name_servers.iter().for_each(|address| keep(*address, What::NameServer));
        machines.own.iter().for_each(|address| keep(*address, What::Own));
        for (address, object) in &snapshot.machines {
            keep(*address, What::Object(object.clone()));
        }
        let mut kept = Self(all);
        let leads =
            |network: &IpNet| network.prefix_len() == 0 || kept.within(*network).count() > 0;
        let hops = machines.hops.iter().filter(|(network, _)| leads(network));
        let hops: Vec<IpAddr> = hops.map(|(_, hop)| *hop).collect();
        for hop in hops {
            kept.0.entry(hop).or_insert(What::Router);
        }
        kept
    }

    fn within(&self, network: IpNet) -> impl Iterator<Item = (&IpAddr, &What)> {
        self.0.range(network.network()..=network.broadcast())
    }

    /// Those within remote networks that are within none of `exempt`: neither list has networks
    /// within others.
    pub(super) fn remote(&self, remote: &[IpNet], exempt: &[IpNet]) -> BTreeSet<IpAddr> {
        let inside = remote.iter().flat_map(|network| self.within(*network));
        inside.map(|(address, _)| *address).filter(|address| !holds(exempt, *address)).collect()
    }

    /// Tells of a connection's remote networks that hold some of `addresses`.
    pub(super) fn findings(
        &self,
        key: &ObjectKey,
        plan: &ConnectionPlan,
        addresses: &BTreeSet<IpAddr>,
    ) -> Vec<Diagnostic> {
        let connection = &plan.connection;
        let inward: Vec<_> = connection.remote_nat.iter().map(|pair| pair.reversed()).collect();
        let mut findings = Vec::new();
        for (index, child) in connection.children.iter().enumerate() {
            let field = match connection.children.len() {
                1 => "spec.remote.subnets".to_owned(),
                _ => format!("spec.children[{index}].remote"),
            };
            for network in &child.remote {
                let seen = beyond(&[*network], &inward);
                let found = seen.iter().flat_map(|seen| self.within(*seen));
                let mut found: Vec<(&What, &IpAddr)> = found
                    .filter(|(address, _)| addresses.contains(*address))
                    .map(|(address, what)| (what, address))
                    .collect();
                if found.is_empty() {
                    continue;
                }
                found.sort();
                let named = found.iter().take(NAMED);
                let mut named: Vec<String> =
                    named.map(|(what, address)| format!("{what} ({address})")).collect();
                if found.len() > NAMED {
                    named.push(format!("{} more", found.len() - NAMED));
                }
                let reason = format!(
                    "holds machines of this side, which stay reached outside of the tunnel: {}",
                    named.join(", ")
                );
                let remedy = format!(
                    "name narrower networks, or give it another range that pods see, in \
                     remoteSubnetNAT: [<free range>={network}]"
                );
                let object = ObjectRef::namespaced("VpnConnection", key);
                let finding = Diagnostic::warning(object, field.as_str(), reason);
                let finding = finding.value(network.to_string()).remedy(remedy);
                findings.push(finding.at(connection.location.clone()));
            }
        }
        findings
    }
}

/// Whether a network has an address, of networks that are sorted and apart.
fn holds(networks: &[IpNet], address: IpAddr) -> bool {
    let before = networks.partition_point(|network| network.network() <= address);
    networks.get(..before).and_then(<[IpNet]>::last).is_some_and(|last| last.contains(&address))
}

#[cfg(test)]
mod tests;
