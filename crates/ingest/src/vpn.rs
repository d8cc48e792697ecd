//! VpnConnections.
//!
//! A connection in which anything is wrong is refused as a whole, and its remote networks stay
//! guarded: to bring up a part of it could let out in the clear what was meant for the rest. One
//! that was good before stays in force as it was, unless its Secret is gone.

use std::collections::BTreeMap;

use ipnet::IpNet;
use model::snapshot::vpn::VpnConnection;
use model::{Diagnostic, ObjectKey, ObjectRef, Settings, VpnSettings};

use crate::ObjectSet;
use crate::overlay;
use crate::report::Report;

mod guard;
mod overlap;
mod period;
mod reader;
mod secrets;
#[cfg(test)]
mod tests;

/// Connections as they were last accepted.
#[derive(Debug, Default)]
pub struct VpnMemo {
    accepted: BTreeMap<ObjectKey, VpnConnection>,
}

/// What became of one object.
struct Candidate {
    key: ObjectKey,
    /// As it is written now; none if something in it is wrong.
    current: Option<VpnConnection>,
    /// As it was last accepted; none if it must not come back.
    last: Option<VpnConnection>,
    /// What is guarded if it is refused.
    guarded: Vec<IpNet>,
}

/// All connections that can be, and the guarded networks of the others.
pub(crate) fn connections(
    objects: &ObjectSet,
    (settings, vpn): (&Settings, &VpnSettings),
    memo: &mut VpnMemo,
    report: &mut Report<'_>,
) -> (BTreeMap<ObjectKey, VpnConnection>, BTreeMap<ObjectKey, Vec<IpNet>>) {
    let cluster = cluster_subnets(objects, vpn);
    let mut candidates = Vec::with_capacity(objects.vpn.len());
    let mut refused = BTreeMap::new();
    for (key, object) in &objects.vpn {
        if object.metadata.deletion_timestamp.is_some() {
            // It ends now, and stays guarded for as long as it is there.
            refused.insert(key.clone(), guard::networks(object, &cluster));
            continue;
        }
        let read = reader::read(key, object, (objects, settings, vpn, &cluster), report);
        let (current, may_stay) = match read {
            Ok(connection) => (Some(connection), true),
            Err(refusal) => (None, !refusal.secret_is_gone),
        };
        candidates.push(Candidate {
            key: key.clone(),
            current,
            last: memo.accepted.get(key).filter(|_| may_stay).cloned(),
            guarded: guard::networks(object, &cluster),
        });
    }
    // Who is older keeps its selectors.
    candidates.sort_by_key(|candidate| {
        let object = objects.vpn.get(&candidate.key);
        let created = object.and_then(|object| object.metadata.creation_timestamp.as_ref());
        let created = created.map(|time| time.0.as_second());
        (created.is_none(), created, candidate.key.clone())
    });
    let mut accepted: BTreeMap<ObjectKey, VpnConnection> = BTreeMap::new();
    let mut taken = overlap::Taken::default();
    for candidate in candidates {
        let Candidate { key, current, last, guarded } = candidate;
        let current = current.filter(|connection| {
            let clash = taken.find(&key, connection);
            let is_free = clash.is_none();
            if let Some(finding) = clash {
                report.push(finding);
            }
            is_free
        });
        let is_current = current.is_some();
        let last = last.filter(|last| taken.find(&key, last).is_none());
        let chosen = current.or(last);
        if !is_current {
            report.push(outcome(&key, chosen.is_some()));
            // What the new form would reach is guarded already.
            refused.insert(key.clone(), guarded);
        }
        if let Some(connection) = chosen {
            taken.add(key.clone(), &connection);
            accepted.insert(key, connection);
        }
    }
    memo.accepted.clone_from(&accepted);
    (accepted, refused)
}

/// What a refusal means.
fn outcome(key: &ObjectKey, stays: bool) -> Diagnostic {
    let reason = match stays {
        true => "is refused as it is written now; it stays in force as it was before",
        false => "is refused; nothing is sent to its remote networks, and nothing in the clear",
    };
    Diagnostic::warning(ObjectRef::namespaced("VpnConnection", key), "", reason)
        .remedy("mend what the errors about it name")
}

/// Connections without a plane.
pub(crate) fn not_enabled(objects: &ObjectSet, report: &mut Report<'_>) {
    for key in objects.vpn.keys() {
        report.push(
            Diagnostic::warning(
                ObjectRef::namespaced("VpnConnection", key),
                "",
                "the VPN plane isn't enabled, so the connection isn't used and its remote networks \
                 aren't guarded",
            )
            .remedy("write vpn.enabled: true in the configuration"),
        );
    }
}

/// Addresses of each zone's Nodes and their pods; of Nodes without a zone under no name.
pub(crate) fn zones(
    objects: &ObjectSet,
    pods: &BTreeMap<String, Vec<IpNet>>,
) -> BTreeMap<String, Vec<IpNet>> {
    let mut zones: BTreeMap<String, Vec<IpNet>> = BTreeMap::new();
    for (name, node) in &objects.nodes {
        let zone = overlay::zone(node).cloned().unwrap_or_default();
        let pods = pods.get(name).into_iter().flatten().copied();
        let internal = overlay::internal(node).map(IpNet::from);
        zones.entry(zone).or_default().extend(pods.chain(internal));
    }
    zones.values_mut().for_each(|networks| {
        *networks = model::snapshot::vpn::nat::outermost(std::mem::take(networks));
    });
    zones
}

/// The remote networks of a connection as this side's hosts see them, and the local ones, from
/// whatever can be read of it without its Secrets.
pub(crate) fn reach(
    object: &crate::crds::VpnConnection,
    cluster: &[IpNet],
) -> (Vec<IpNet>, Vec<IpNet>) {
    (guard::networks(object, cluster), guard::own(object))
}

/// Pod and service networks as configured, or else the pod networks that Nodes tell.
fn cluster_subnets(objects: &ObjectSet, settings: &VpnSettings) -> Vec<IpNet> {
    if !settings.cluster_subnets.is_empty() {
        return settings.cluster_subnets.clone();
    }
    let pods = objects.nodes.values().flat_map(|node| overlay::written(node)).collect();
    model::snapshot::vpn::nat::outermost(pods)
}
