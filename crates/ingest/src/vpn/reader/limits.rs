//! How much one connection may hold. Networks are compared with each other, so that what is over
//! the limits would take much longer than it is long.

use super::Reader;
use crate::crds::VpnConnectionSpec as Spec;

/// Entries of a list.
const ENTRIES: usize = 1024;
const CHILDREN: usize = 256;
/// Networks of all children together, each side, with those that they have from the connection.
const NETWORKS: usize = 4096;

impl Reader<'_, '_, '_> {
    /// Whether the connection is within the limits; if it isn't, after an error.
    pub(super) fn within_limits(&mut self, spec: &Spec) -> bool {
        let length = |list: &Option<Vec<String>>| list.as_ref().map_or(0, Vec::len);
        let local = spec.local.as_ref().map_or(0, |local| length(&local.subnets));
        let remote = length(&spec.remote.subnets);
        let mut lengths = vec![
            ("spec.local.subnets", local, ENTRIES),
            ("spec.remote.subnets", remote, ENTRIES),
            ("spec.localSubnetNAT", length(&spec.local_subnet_nat), ENTRIES),
            ("spec.remoteSubnetNAT", length(&spec.remote_subnet_nat), ENTRIES),
            ("spec.localNonClusterSubnets", length(&spec.local_non_cluster_subnets), ENTRIES),
            ("spec.ike", length(&spec.ike), ENTRIES),
            ("spec.esp", length(&spec.esp), ENTRIES),
        ];
        if let Some(children) = &spec.children {
            lengths.push(("spec.children", children.len(), CHILDREN));
            let or = |own: usize, default: usize| if own == 0 { default } else { own };
            let locals = children.iter().map(|child| or(length(&child.local), local)).sum();
            let remotes = children.iter().map(|child| or(length(&child.remote), remote)).sum();
            let proposals = children.iter().map(|child| length(&child.esp)).sum();
            lengths.push(("spec.children[].local", locals, NETWORKS));
            lengths.push(("spec.children[].remote", remotes, NETWORKS));
            lengths.push(("spec.children[].esp", proposals, NETWORKS));
        }
        let mut is_within = true;
        for (field, length, most) in lengths {
            if length > most {
                is_within = false;
                let reason = format!("has {length} entries; at most {most} are read");
                self.error(field, None, &reason, "write larger networks, or several connections");
            }
        }
        is_within
    }
}
