//! VpnConnections with an address out of a pool. They have it for themselves alone, and keep it for
//! as long as they exist and name that pool.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::snapshot::vpn::{LocalAddress, RemoteGateway, VpnConnection};
use model::{Diagnostic, ObjectKey, ObjectRef, Snapshot, VpnSettings};

use super::super::super::{Allocations, VpnAddress};
use super::super::pools::Pools;
use super::{Allocator, Holdings};

const FIELD: &str = "spec.local.addressPool";

/// How allocations name a connection: no Service has a name like it.
pub(in super::super::super) fn name(key: &ObjectKey) -> String {
    format!("VpnConnection {key}")
}

/// Whether allocations name a connection so.
pub(super) fn is_connection(name: &str) -> bool {
    name.starts_with("VpnConnection ")
}

/// The connections that are to have an address, with their pools.
fn wanting(snapshot: &Snapshot) -> impl Iterator<Item = (&ObjectKey, &VpnConnection, &str)> {
    snapshot.vpn.iter().filter_map(|(key, connection)| match &connection.local.address {
        LocalAddress::Pool(pool) => Some((key, connection, pool.as_str())),
        _ => None,
    })
}

/// Adds what connections had, by name. A refused one goes on to have it.
pub(super) fn keep(
    snapshot: &Snapshot,
    pools: &Pools<'_>,
    previous: &Allocations,
    absent: &mut BTreeMap<String, Vec<IpAddr>>,
) {
    let refused = snapshot.vpn_refused.keys().filter(|key| !snapshot.vpn.contains_key(key));
    let wanting = wanting(snapshot).map(|(key, _, pool)| (key, Some(pool)));
    for (key, wanted) in wanting.chain(refused.map(|key| (key, None))) {
        let name = name(key);
        let Some(addresses) = previous.services.get(&name) else { continue };
        let fits = |address: &&IpAddr| {
            let pool = pools.of(**address).and_then(|at| pools.get(at));
            pool.is_some_and(|pool| wanted.is_none_or(|wanted| pool.name == wanted))
                && pools.refused(**address, true).is_none()
        };
        if let Some(address) = addresses.iter().find(fits) {
            absent.insert(name, vec![*address]);
        }
    }
}

impl Allocator<'_, '_> {
    /// Gives an address to connections that have none yet.
    pub(super) fn give_to_connections(&mut self, snapshot: &Snapshot) {
        for (key, connection, pool) in wanting(snapshot) {
            let name = name(key);
            if self.holdings.absent.contains_key(&name) {
                continue;
            }
            let finding = |reason: String, remedy: String| {
                Diagnostic::error(ObjectRef::namespaced("VpnConnection", key), FIELD, reason)
                    .value(pool)
                    .remedy(remedy)
                    .at(connection.location.clone())
            };
            let Some(at) = self.pools.named(pool) else {
                let reason = format!("there is no AddressPool {pool}");
                let remedy = "make it, or write local.address".to_owned();
                self.diagnostics.push(finding(reason, remedy));
                continue;
            };
            let families: &[bool] = match connection.remote.gateway {
                RemoteGateway::Address(address) if address.is_ipv6() => &[true],
                RemoteGateway::Address(_) => &[false],
                _ => &[false, true],
            };
            match families.iter().find_map(|&v6| self.lowest_free(at, v6)) {
                Some(address) => {
                    self.count(address);
                    self.holdings.absent.insert(name.clone(), vec![address]);
                    self.holdings.reserved.insert(address, name);
                }
                None => {
                    let reason = format!("no address that fits is free in AddressPool {pool}");
                    let remedy = "give the pool more addresses, or delete a Service that holds one";
                    self.diagnostics.push(finding(reason, remedy.to_owned()));
                }
            }
        }
    }
}

impl Holdings {
    /// The addresses that connections have.
    pub(in super::super) fn connections(
        &self,
        snapshot: &Snapshot,
        settings: Option<&VpnSettings>,
    ) -> Vec<VpnAddress> {
        let Some(settings) = settings else { return Vec::new() };
        let ports = [settings.port, settings.nat_port];
        let has = |(key, _, _): (&ObjectKey, &VpnConnection, &str)| {
            let name = name(key);
            let address = *self.absent.get(&name)?.first()?;
            (self.reserved.get(&address) == Some(&name)).then(|| VpnAddress {
                connection: key.clone(),
                address,
                ports,
            })
        };
        wanting(snapshot).filter_map(has).collect()
    }
}
