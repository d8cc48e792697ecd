//! Two connections that want the same packets.

use std::collections::BTreeMap;

use ipnet::IpNet;
use model::snapshot::vpn::VpnConnection;
use model::snapshot::vpn::nat::{beyond, overlap};
use model::{Diagnostic, ObjectKey, ObjectRef};

use super::reader::reversed;

/// The older connection whose selectors overlap this one's, if there is one.
pub(super) fn find(
    key: &ObjectKey,
    connection: &VpnConnection,
    older: &BTreeMap<ObjectKey, VpnConnection>,
) -> Option<Diagnostic> {
    let mine = selectors(connection);
    older.iter().find_map(|(other, theirs)| {
        let zones = (&connection.zone, &theirs.zone);
        if matches!(zones, (Some(one), Some(other)) if one != other) {
            return None;
        }
        let theirs = selectors(theirs);
        let (local, remote) = mine.iter().find_map(|(local, remote)| {
            theirs.iter().find_map(|(other_local, other_remote)| {
                Some((common(local, other_local)?, common(remote, other_remote)?))
            })
        })?;
        let object = ObjectRef::namespaced("VpnConnection", key);
        let reason =
            format!("has, for {local} here, networks that the older VpnConnection {other} has too");
        Some(
            Diagnostic::error(object, "spec.remote.subnets", reason)
                .value(remote.to_string())
                .remedy(
                    "give each connection networks of its own, a zone of its own, or another range \
                     in remoteSubnetNAT",
                ),
        )
    })
}

/// Local and remote networks of each child, as this side's hosts see them.
fn selectors(connection: &VpnConnection) -> Vec<(Vec<IpNet>, Vec<IpNet>)> {
    let pairs = reversed(&connection.remote_nat);
    let children = connection.children.iter();
    children
        .map(|child| {
            let local = child.local.iter().chain(&connection.non_cluster).copied().collect();
            (local, beyond(&child.remote, &pairs))
        })
        .collect()
}

/// A network that both lists have, the smaller of the two.
fn common(one: &[IpNet], other: &[IpNet]) -> Option<IpNet> {
    one.iter().find_map(|a| {
        let b = other.iter().find(|b| overlap(a, b))?;
        Some(if a.prefix_len() >= b.prefix_len() { *a } else { *b })
    })
}
