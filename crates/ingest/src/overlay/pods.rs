//! Which node has which pod networks.

use std::collections::BTreeMap;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use model::settings::PodCidrs;
use model::snapshot::vpn::nat::overlap;
use model::{Diagnostic, ObjectRef};

use super::{by_age, is_host};
use crate::ObjectSet;
use crate::report::{Report, shown};

/// A network with whose it is: the object that says so, and the Node.
struct Claim<'a> {
    network: IpNet,
    object: ObjectRef,
    node: &'a str,
}

/// The networks that `spec.podCIDRs` holds, as far as they can be read.
pub(crate) fn written(node: &Node) -> impl Iterator<Item = IpNet> + use<'_> {
    texts(node).filter_map(|(_, text)| text.parse::<IpNet>().ok()).map(|network| network.trunc())
}

/// The same of each Node, whoever else may claim them.
pub(crate) fn all_written(objects: &ObjectSet) -> BTreeMap<String, Vec<IpNet>> {
    let nodes = objects.nodes.iter();
    nodes.map(|(name, node)| (name.clone(), written(node).collect())).collect()
}

/// Whether Calico's blocks tell, and not `spec.podCIDRs`.
pub(super) fn calico_rules(objects: &ObjectSet, from: PodCidrs) -> bool {
    match from {
        PodCidrs::Auto => !objects.ipam_blocks.is_empty(),
        PodCidrs::Node => false,
        PodCidrs::Calico => true,
    }
}

/// The pod networks of each Node; what two claim is the older one's. Nodes without any are not
/// here.
pub(crate) fn by_node(
    objects: &ObjectSet,
    from: PodCidrs,
    report: &mut Report<'_>,
) -> BTreeMap<String, Vec<IpNet>> {
    let mut claims = Claims { taken: Vec::new(), report };
    match calico_rules(objects, from) {
        true => claims.blocks(objects),
        false => claims.nodes(objects),
    }
    let mut found: BTreeMap<String, Vec<IpNet>> = BTreeMap::new();
    for claim in claims.taken {
        found.entry(claim.node.to_owned()).or_default().push(claim.network);
    }
    found.values_mut().for_each(|networks| networks.sort_unstable());
    found
}

struct Claims<'a, 'b, 'c> {
    /// In the order of the networks, none in another one.
    taken: Vec<Claim<'a>>,
    report: &'b mut Report<'c>,
}

impl<'a> Claims<'a, '_, '_> {
    fn nodes(&mut self, objects: &'a ObjectSet) {
        for name in by_age(objects.nodes.iter().map(|(name, node)| (name, &node.metadata))) {
            let Some(node) = objects.nodes.get(name) else { continue };
            let object = ObjectRef::cluster("Node", name);
            for (field, text) in texts(node) {
                self.claim(name, &object, &field, text);
            }
        }
    }

    fn blocks(&mut self, objects: &'a ObjectSet) {
        let blocks = objects.ipam_blocks.iter();
        for name in by_age(blocks.map(|(name, block)| (name, &block.metadata))) {
            let Some(block) = objects.ipam_blocks.get(name) else { continue };
            // Others are given to nobody, or to something that is no node (`virtual:…`).
            let affinity = block.spec.affinity.as_deref().filter(|_| !block.spec.deleted);
            let Some(node) = affinity.and_then(|affinity| affinity.strip_prefix("host:")) else {
                continue;
            };
            let object = ObjectRef::cluster("IPAMBlock", name);
            let Some((node, _)) = objects.nodes.get_key_value(node) else {
                let reason = "is of a Node that doesn't exist; its addresses can't be reached";
                let remedy = "remove the block if the Node is gone for good \
                              (`calicoctl ipam check` finds such blocks)";
                let finding = Diagnostic::warning(object, "spec.affinity", reason);
                self.report.push(finding.value(shown(node)).remedy(remedy));
                continue;
            };
            self.claim(node, &object, "spec.cidr", &block.spec.cidr);
        }
    }

    fn claim(&mut self, node: &'a str, object: &ObjectRef, field: &str, text: &str) {
        let (reason, remedy) = match text.trim().parse::<IpNet>() {
            Ok(network) if network.prefix_len() > 0 && is_host(network.trunc().addr()) => {
                let network = network.trunc();
                let Some(other) = self.other(&network) else {
                    let place = self.taken.partition_point(|claim| claim.network < network);
                    self.taken.insert(place, Claim { network, object: object.clone(), node });
                    return;
                };
                if other.node == node && other.network.contains(&network) {
                    return; // podCIDR is the first of podCIDRs once more.
                }
                let reason = match other.network == network {
                    true => format!("is what the older {} has; it is left out here", other.object),
                    false => format!(
                        "overlaps {} of the older {}; it is left out here",
                        other.network, other.object
                    ),
                };
                (reason, "give each Node networks of its own")
            }
            Ok(_) => (
                "holds addresses that are nobody's own; it is left out".to_owned(),
                "write a network such as 10.244.1.0/24",
            ),
            Err(_) => {
                ("is no network; it is left out".to_owned(), "write one such as 10.244.1.0/24")
            }
        };
        let finding = Diagnostic::error(object.clone(), field, reason).value(shown(text));
        self.report.push(finding.remedy(remedy));
    }

    /// Who has a part of the network, or all of it. Those before are sorted and apart: only the
    /// neighbours of its place may.
    fn other(&self, network: &IpNet) -> Option<&Claim<'a>> {
        let place = self.taken.partition_point(|claim| claim.network < *network);
        let before = place.checked_sub(1).and_then(|place| self.taken.get(place));
        let mut neighbours = before.into_iter().chain(self.taken.get(place));
        neighbours.find(|claim| overlap(&claim.network, network))
    }
}

/// What is written, with its field. `podCIDR` is the first of `podCIDRs` once more, or stands
/// alone.
fn texts(node: &Node) -> impl Iterator<Item = (String, &str)> {
    let spec = node.spec.as_ref();
    let all = spec.and_then(|spec| spec.pod_cidrs.as_deref()).unwrap_or_default();
    let first = spec.and_then(|spec| spec.pod_cidr.as_deref());
    let first = first.filter(|first| !all.iter().any(|text| text == first));
    let all = all.iter().enumerate();
    let all = all.map(|(index, text)| (format!("spec.podCIDRs[{index}]"), text.as_str()));
    all.chain(first.map(|text| ("spec.podCIDR".to_owned(), text)))
}
