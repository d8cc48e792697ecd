//! Machines of this side that are reached outside of tunnels, whatever connections say: without
//! them nobody could put a connection right.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use model::snapshot::Machine;
use model::snapshot::vpn::nat::beyond;
use model::{Diagnostic, ObjectKey, ObjectRef};

use super::ConnectionPlan;

/// How many are named in a finding.
const NAMED: usize = 3;

/// All of them, by address.
pub(super) struct Kept<'a>(pub(super) &'a BTreeMap<IpAddr, Machine>);

impl Kept<'_> {
    fn within(&self, network: IpNet) -> impl Iterator<Item = (&IpAddr, &Machine)> {
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
                let mut found: Vec<(&Machine, &IpAddr)> = found
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
