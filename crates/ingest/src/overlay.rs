//! Nodes, EdgeGateways and Calico's blocks: who is where, with which key and which pod networks.
//!
//! What two claim is the older one's, so that nobody takes over another's packets by a slip: a
//! pod network, an address, a key.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use model::snapshot::overlay::{Connection, Edge, OverlayMode};
use model::snapshot::vpn::nat::outermost;
use model::{Diagnostic, ObjectKey, ObjectRef, OverlaySettings, PublicKey};

use crate::ObjectSet;
use crate::report::{Report, shown};
use crate::vpn;

mod edges;
mod nodes;
mod pods;
#[cfg(test)]
mod tests;

pub(crate) use edges::edges;
pub(crate) use nodes::{internal, nodes, zone};
pub(crate) use pods::{all_written, by_node, written};

/// The annotation that holds a node's public keys, the newest first.
pub const KEYS: &str = "tidegate.io/wireguard-public-keys";
/// The annotation that holds how a node insists on being reached.
pub const MODE: &str = "tidegate.io/overlay-mode";
/// The annotation that holds the version of a node's agent.
pub const AGENT_VERSION: &str = "tidegate.io/agent-version";

/// Most keys that a node or an edge has at a time.
const MOST_KEYS: usize = 2;

/// All VpnConnections as agents see them, without their Secrets.
pub(crate) fn connections(
    objects: &ObjectSet,
    settings: &OverlaySettings,
    edges: &BTreeMap<String, Edge>,
) -> BTreeMap<ObjectKey, Connection> {
    let nodes = objects.nodes.values();
    let mut cluster: Vec<IpNet> = nodes.flat_map(|node| written(node)).collect();
    cluster.extend(&settings.services);
    cluster.extend(edges.values().flat_map(|edge| &edge.services));
    let cluster = outermost(cluster);
    let connection = |(key, object): (&ObjectKey, &std::sync::Arc<_>)| {
        let (remote, local) = vpn::reach(object, &cluster);
        let zone = object.spec["zone"].as_str().filter(|zone| !zone.is_empty());
        let connection = Connection {
            remote,
            local,
            zone: zone.map(str::to_owned),
            created: age(&object.metadata),
        };
        (key.clone(), connection)
    };
    objects.vpn.iter().map(connection).collect()
}

/// When an object was made, in seconds since 1970.
fn age(metadata: &ObjectMeta) -> Option<i64> {
    metadata.creation_timestamp.as_ref().map(|time| time.0.as_second())
}

/// The names of objects from the oldest to the youngest; those that don't tell come last.
fn by_age<'a>(all: impl Iterator<Item = (&'a String, &'a ObjectMeta)>) -> Vec<&'a String> {
    let mut all: Vec<_> = all
        .map(|(name, metadata)| {
            let created = age(metadata);
            ((created.is_none(), created, name), name)
        })
        .collect();
    all.sort();
    all.into_iter().map(|(_, name)| name).collect()
}

/// Reads one object, and tells what is wrong with it.
struct Reader<'a, 'b, 'c> {
    object: ObjectRef,
    report: &'b mut Report<'c>,
    /// Keys that older objects have, with who that is.
    keys: &'a mut BTreeMap<PublicKey, ObjectRef>,
}

impl Reader<'_, '_, '_> {
    fn error(&mut self, field: &str, value: Option<&str>, reason: &str, remedy: &str) {
        let diagnostic = Diagnostic::error(self.object.clone(), field, reason).remedy(remedy);
        self.push(diagnostic, value);
    }

    fn warning(&mut self, field: &str, value: Option<&str>, reason: &str, remedy: &str) {
        let diagnostic = Diagnostic::warning(self.object.clone(), field, reason).remedy(remedy);
        self.push(diagnostic, value);
    }

    fn push(&mut self, diagnostic: Diagnostic, value: Option<&str>) {
        self.report.push(match value {
            Some(value) => diagnostic.value(shown(value)),
            None => diagnostic,
        });
    }

    /// A key, if it is one and no older object has it.
    fn key(&mut self, field: &str, text: &str) -> Option<PublicKey> {
        let key: PublicKey = match text.trim().parse() {
            Ok(key) => key,
            Err(_) => {
                let reason = "is no WireGuard key; it is left out";
                let remedy = "write 44 characters of base64, as `wg pubkey` prints them";
                self.error(field, Some(text), reason, remedy);
                return None;
            }
        };
        if key.is_weak() {
            let reason = "is of low order: what is sealed for it can be read by everybody; it is left \
                          out";
            let remedy = "no agent and no edge makes such a key: find out who wrote it, and start \
                          what it is of again";
            self.error(field, Some(text), reason, remedy);
            return None;
        }
        if let Some(other) = self.keys.get(&key).filter(|other| **other != self.object) {
            let reason = format!("is the key of the older {other} too; it is left out here");
            let remedy = "make a key of its own: two machines with one key take each other's \
                          packets. Was the state directory copied from one to the other?";
            self.error(field, Some(text), &reason, remedy);
            return None;
        }
        self.keys.insert(key, self.object.clone());
        Some(key)
    }

    /// An address of the underlay.
    fn address(&mut self, field: &str, text: &str) -> Option<IpAddr> {
        match text.trim().parse::<IpAddr>() {
            Ok(address) if is_host(address) => Some(address),
            _ => {
                let reason = "is no address of a machine; it is left out";
                self.error(field, Some(text), reason, "write one such as 192.0.2.7");
                None
            }
        }
    }

    /// A network that isn't everybody's, unless it may be.
    fn network(&mut self, field: &str, text: &str, may_be_all: bool) -> Option<IpNet> {
        let network = match text.trim().parse::<IpNet>() {
            Ok(network) => network,
            Err(_) => {
                let reason = "is no network; it is left out";
                self.error(field, Some(text), reason, "write one such as 172.30.0.0/16");
                return None;
            }
        };
        if network.prefix_len() == 0 && !may_be_all {
            let reason = "is everybody's network; it is left out";
            self.error(field, Some(text), reason, "write a smaller one, such as 172.30.0.0/16");
            return None;
        }
        Some(network.trunc())
    }

    fn mode(&mut self, field: &str, text: &str) -> Option<OverlayMode> {
        match text.trim() {
            "auto" => Some(OverlayMode::Auto),
            "direct" => Some(OverlayMode::Direct),
            "wireguard" => Some(OverlayMode::Wireguard),
            _ => {
                let reason = "is no mode; it counts as auto";
                self.error(field, Some(text), reason, "write auto, direct or wireguard");
                None
            }
        }
    }
}

fn is_host(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || broadcast)
}
