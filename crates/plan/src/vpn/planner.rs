//! From the snapshot to the VPN plan.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use model::snapshot::vpn::nat::{beyond, outermost, overlap};
use model::snapshot::vpn::{LocalAddress, VpnChild, VpnConnection};
use model::{Diagnostic, ObjectKey, ObjectRef, Settings, Snapshot};

use super::machines::Kept;
use super::{ConnectionPlan, Policy, VpnPlan, table};

#[cfg(test)]
mod tests;

/// Plans the VPN plane; nothing where it isn't enabled. Pure: the same input always gives the same
/// plan. `vips` are the addresses that connections have out of pools.
///
/// A diagnostic tells of everything that is not in force as it is written; those that `ingest`
/// has made already are not repeated.
pub fn plan(
    snapshot: &Snapshot,
    settings: &Settings,
    vips: &BTreeMap<ObjectKey, IpAddr>,
) -> (VpnPlan, Vec<Diagnostic>) {
    let Some(vpn) = &settings.vpn else { return Default::default() };
    let mut diagnostics = Vec::new();
    let connections: BTreeMap<ObjectKey, ConnectionPlan> = snapshot
        .vpn
        .iter()
        .map(|(key, connection)| {
            let vip = vips.get(key).copied();
            diagnostics.extend(findings(key, connection, vip, snapshot));
            let children = connection.children.iter();
            let policies = children.map(|child| policy(child, connection, snapshot)).collect();
            (key.clone(), ConnectionPlan { connection: connection.clone(), vip, policies })
        })
        .collect();
    let policies = connections.values().flat_map(|plan| &plan.policies);
    let remote: Vec<IpNet> = policies
        .flat_map(|policy| &policy.remote)
        .chain(snapshot.vpn_refused.values().flatten())
        .copied()
        .collect();
    let services = settings.overlay.iter().flat_map(|overlay| &overlay.services);
    let own = own(&connections, snapshot, vpn).into_iter().chain(services.copied()).collect();
    let exempt = exempt(&remote, &outermost(own));
    let routes = outermost(remote);
    // Of machines not even what is as large as they are is remote.
    let kept = Kept(&snapshot.machines);
    let alone = kept.remote(&routes, &exempt);
    for (key, plan) in &connections {
        diagnostics.extend(kept.findings(key, plan, &alone));
    }
    let exempt = outermost(exempt.into_iter().chain(alone.into_iter().map(IpNet::from)).collect());
    let mut plan = VpnPlan { connections, routes, exempt, table: String::new() };
    plan.table = table::text(&plan, vpn, &snapshot.zones);
    diagnostics.sort();
    (plan, diagnostics)
}

fn policy(child: &VpnChild, connection: &VpnConnection, snapshot: &Snapshot) -> Policy {
    let inward: Vec<_> = connection.remote_nat.iter().map(|pair| pair.reversed()).collect();
    let remote = beyond(&child.remote, &inward);
    let remote_selectors = outermost(child.remote.clone());
    let common = Policy {
        child: child.name.clone(),
        local: Vec::new(),
        remote,
        local_nat: Vec::new(),
        remote_nat: connection.remote_nat.clone(),
        sources: None,
        local_selectors: Vec::new(),
        remote_selectors,
    };
    if let Some(address) = connection.single_source {
        // What is too much for its sources is kept away by the table already.
        let only = vec![IpNet::from(address)];
        return Policy { local: only.clone(), local_selectors: only, ..common };
    }
    let local = outermost(child.local.iter().chain(&connection.non_cluster).copied().collect());
    Policy {
        local_selectors: beyond(&local, &connection.local_nat),
        local_nat: connection.local_nat.clone(),
        sources: connection.zone.as_ref().map(|zone| sources(zone, &local, connection, snapshot)),
        local,
        ..common
    }
}

/// The sources of a zone: its nodes and pods, hosts behind the edge, and local networks that are
/// of no node at all, such as those of Services and VIPs.
fn sources(
    zone: &str,
    local: &[IpNet],
    connection: &VpnConnection,
    snapshot: &Snapshot,
) -> Vec<IpNet> {
    let of_nodes =
        |network: &IpNet| snapshot.zones.values().flatten().any(|of| overlap(of, network));
    let others = local.iter().filter(|network| !of_nodes(network));
    let Some(own) = snapshot.zones.get(zone) else { return Vec::new() };
    outermost(own.iter().chain(others).chain(&connection.non_cluster).copied().collect())
}

fn findings(
    key: &ObjectKey,
    connection: &VpnConnection,
    vip: Option<IpAddr>,
    snapshot: &Snapshot,
) -> impl Iterator<Item = Diagnostic> {
    let warning = |field: &str, value: &str, reason: String, remedy: &str| {
        Diagnostic::warning(ObjectRef::namespaced("VpnConnection", key), field, reason)
            .value(value)
            .remedy(remedy)
            .at(connection.location.clone())
    };
    let zone = connection.zone.as_ref().filter(|zone| !snapshot.zones.contains_key(*zone));
    let zone = zone.map(|zone| {
        let mut known: Vec<&str> = snapshot.zones.keys().map(String::as_str).collect();
        known.retain(|zone| !zone.is_empty());
        let reason = match known.is_empty() {
            true => "no Node has a zone, so nobody may use the connection".to_owned(),
            false => format!("no Node is of this zone, only of {}", known.join(", ")),
        };
        let remedy = "write a value of the Nodes' label topology.kubernetes.io/zone, and have the \
                      Nodes among the objects";
        warning("spec.zone", zone, reason, remedy)
    });
    let pool = match &connection.local.address {
        LocalAddress::Pool(pool) if vip.is_none() => Some(warning(
            "spec.local.addressPool",
            pool,
            "has no address for the connection yet, so it can't begin".to_owned(),
            "see what is said about the AddressPool",
        )),
        _ => None,
    };
    zone.into_iter().chain(pool)
}

/// Networks of this side, wherever they may lie, but for its machines.
fn own(
    connections: &BTreeMap<ObjectKey, ConnectionPlan>,
    snapshot: &Snapshot,
    settings: &model::VpnSettings,
) -> Vec<IpNet> {
    let written = connections.values().flat_map(|plan| {
        let connection = &plan.connection;
        connection.children.iter().flat_map(|child| &child.local).chain(&connection.non_cluster)
    });
    let is_machine = |network: &&IpNet| {
        network.prefix_len() == network.max_prefix_len()
            && snapshot.machines.contains_key(&network.addr())
    };
    let nodes = snapshot.zones.values().flatten().filter(|network| !is_machine(network));
    let nodes = nodes.chain(&settings.exempt);
    outermost(written.chain(nodes).chain(&settings.cluster_subnets).copied().collect())
}

/// What of this side's networks lies within remote ones, without what is remote within them.
fn exempt(remote: &[IpNet], own: &[IpNet]) -> Vec<IpNet> {
    let mut exempt = Vec::new();
    for network in own {
        if remote.iter().any(|wider| wider.contains(network) && wider != network) {
            without(*network, remote, &mut exempt);
        }
    }
    outermost(exempt)
}

/// Adds a network's parts in which none of `holes` is. Holes that hold more than it don't count.
fn without(network: IpNet, holes: &[IpNet], parts: &mut Vec<IpNet>) {
    let holes: Vec<IpNet> = holes.iter().filter(|hole| network.contains(*hole)).copied().collect();
    if holes.is_empty() {
        parts.push(network);
    } else if !holes.contains(&network)
        && let Ok(halves) = network.subnets(network.prefix_len() + 1)
    {
        halves.for_each(|half| without(half, &holes, parts));
    }
}
