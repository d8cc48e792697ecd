//! Two connections that want the same packets.

use std::collections::BTreeMap;

use ipnet::IpNet;
use model::snapshot::vpn::VpnConnection;
use model::snapshot::vpn::nat::{beyond, overlap};
use model::{Diagnostic, ObjectKey, ObjectRef};

use super::reader::reversed;

/// Local and remote networks of a child.
type Selectors = (Vec<IpNet>, Vec<IpNet>);

/// What connections have got so far.
#[derive(Debug, Default)]
pub(super) struct Taken(BTreeMap<ObjectKey, (Option<String>, Vec<Selectors>)>);

impl Taken {
    /// This connection has got its selectors.
    pub(super) fn add(&mut self, key: ObjectKey, connection: &VpnConnection) {
        self.0.insert(key, (connection.zone.clone(), selectors(connection)));
    }

    /// The older connection whose selectors overlap this one's, if there is one.
    pub(super) fn find(&self, key: &ObjectKey, connection: &VpnConnection) -> Option<Diagnostic> {
        let mine = selectors(connection);
        self.0.iter().find_map(|(other, (zone, theirs))| {
            if matches!((&connection.zone, zone), (Some(one), Some(other)) if one != other) {
                return None;
            }
            let (local, remote) = mine.iter().find_map(|(local, remote)| {
                theirs.iter().find_map(|(other_local, other_remote)| {
                    // Remote networks differ more often.
                    let remote = common(remote, other_remote)?;
                    Some((common(local, other_local)?, remote))
                })
            })?;
            let object = ObjectRef::namespaced("VpnConnection", key);
            let reason = format!(
                "has, for {local} here, networks that the older VpnConnection {other} has too"
            );
            Some(
                Diagnostic::error(object, "spec.remote.subnets", reason)
                    .value(remote.to_string())
                    .remedy(
                        "give each connection networks of its own, a zone of its own, or another \
                         range in remoteSubnetNAT",
                    ),
            )
        })
    }
}

/// Local and remote networks of each child, as this side's hosts see them.
fn selectors(connection: &VpnConnection) -> Vec<Selectors> {
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
