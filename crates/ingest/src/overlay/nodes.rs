//! Nodes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node as Object;
use model::snapshot::overlay::{Node, NodeAgent, OverlayMode};
use model::{ObjectRef, OverlaySettings, PublicKey};

use super::{KEYS, MODE, MOST_KEYS, Reader, by_age, pods};
use crate::ObjectSet;
use crate::report::Report;

/// Where Kubernetes writes a Node's zone, and where it did before 1.17.
const ZONES: [&str; 2] = ["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"];

/// A Node's zone.
pub(crate) fn zone(node: &Object) -> Option<&String> {
    let labels = node.metadata.labels.as_ref()?;
    ZONES.iter().find_map(|name| labels.get(*name))
}

/// A Node's addresses on the underlay, as far as they can be read.
pub(crate) fn internal(node: &Object) -> impl Iterator<Item = IpAddr> + use<'_> {
    addresses(node).filter_map(|(_, text)| text.parse().ok())
}

/// All Nodes.
pub(crate) fn nodes(
    objects: &ObjectSet,
    settings: &OverlaySettings,
    pods: &BTreeMap<String, Vec<IpNet>>,
    keys: &mut BTreeMap<PublicKey, ObjectRef>,
    report: &mut Report<'_>,
) -> BTreeMap<String, Node> {
    let calico = pods::calico_rules(objects, settings.pod_cidrs);
    let mut taken: BTreeMap<IpAddr, &String> = BTreeMap::new();
    let mut nodes = BTreeMap::new();
    for name in by_age(objects.nodes.iter().map(|(name, node)| (name, &node.metadata))) {
        let Some(object) = objects.nodes.get(name) else { continue };
        let mut reader = Reader { object: ObjectRef::cluster("Node", name), report, keys };
        let node = Node {
            addresses: reader.addresses(object, name, &mut taken),
            pods: pods.get(name).cloned().unwrap_or_default(),
            zone: zone(object).cloned(),
            ready: ready(object),
            agent: reader.agent(object),
        };
        // Of Calico, a node has none before its first pod.
        if !calico && pods::written(object).next().is_none() {
            let reason = "has no pod network, so no pod on it can be reached through the overlay";
            let remedy = "have the controller manager give it one (--allocate-node-cidrs), or \
                          write overlay.podCIDRs: calico where Calico's IPAM gives pods their \
                          addresses";
            reader.warning("spec.podCIDRs", None, reason, remedy);
        }
        nodes.insert(name.clone(), node);
    }
    nodes
}

/// The InternalIPs that are written, with their fields.
fn addresses(node: &Object) -> impl Iterator<Item = (String, &str)> {
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let addresses = addresses.enumerate().filter(|(_, address)| address.type_ == "InternalIP");
    addresses.map(|(index, address)| {
        (format!("status.addresses[{index}].address"), address.address.as_str())
    })
}

fn ready(node: &Object) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.filter(|condition| condition.type_ == "Ready").all(|ready| ready.status == "True")
}

impl Reader<'_, '_, '_> {
    fn addresses<'n>(
        &mut self,
        node: &Object,
        name: &'n String,
        taken: &mut BTreeMap<IpAddr, &'n String>,
    ) -> Vec<IpAddr> {
        let mut found = Vec::new();
        for (field, text) in addresses(node) {
            let Some(address) = self.address(&field, text) else { continue };
            match taken.get(&address) {
                Some(other) if *other != name => {
                    let reason =
                        format!("is an address of the older Node {other} too; it is left out here");
                    let remedy = "give each Node an InternalIP of its own (kubelet --node-ip)";
                    self.error(&field, Some(text), &reason, remedy);
                }
                Some(_) => {}
                None => {
                    taken.insert(address, name);
                    found.push(address);
                }
            }
        }
        if addresses(node).next().is_none() {
            let reason = "has no InternalIP, so the node can't be reached by plain routes, and \
                          whether it is behind a NAT can't be told";
            let remedy = "see to it that the kubelet or the cloud controller writes one";
            self.warning("status.addresses", None, reason, remedy);
        }
        found
    }

    fn agent(&mut self, node: &Object) -> Option<NodeAgent> {
        let annotations = node.metadata.annotations.as_ref()?;
        let field = |name: &str| format!("metadata.annotations[{name}]");
        let mode = annotations.get(MODE).and_then(|text| self.mode(&field(MODE), text));
        let text = annotations.get(KEYS)?;
        let field = field(KEYS);
        let mut keys: Vec<PublicKey> = Vec::new();
        for text in text.split(',').filter(|text| !text.trim().is_empty()) {
            if keys.len() == MOST_KEYS {
                let reason = "has over two keys; only the first two count";
                let remedy = "restart the node's agent: it writes the keys that it has";
                self.error(&field, None, reason, remedy);
                break;
            }
            keys.extend(self.key(&field, text).filter(|key| !keys.contains(key)));
        }
        let mode = mode.filter(|mode| *mode != OverlayMode::Auto);
        (!keys.is_empty()).then_some(NodeAgent { keys, mode })
    }
}
