//! Single addresses of this side's machines: no connection leads there, and no VIP is there.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::ObjectRef;
use model::snapshot::Machine;

use crate::ObjectSet;

/// Addresses of one object that count: nobody takes a whole remote network out of its tunnel by
/// an object of his own.
const MOST: usize = 16;
/// The types of a Node's addresses that are its own.
const TYPES: [&str; 2] = ["InternalIP", "ExternalIP"];

/// Addresses of edges and Nodes, as far as they can be read. Of one that several have, an edge or
/// the first by name is told.
pub(crate) fn machines(objects: &ObjectSet) -> BTreeMap<IpAddr, Machine> {
    let mut machines = BTreeMap::new();
    let mut add = |object: ObjectRef, texts: &mut dyn Iterator<Item = &str>| {
        for address in texts.take(MOST).filter_map(|text| text.parse().ok()) {
            machines.entry(address).or_insert_with(|| Machine::Object(object.clone()));
        }
    };
    for (name, edge) in &objects.edges {
        let status = edge.status.iter();
        let mut addresses = status.flat_map(|status| status.underlay_addresses.iter().flatten());
        add(ObjectRef::cluster("EdgeGateway", name), &mut addresses.by_ref().map(String::as_str));
    }
    for (name, node) in &objects.nodes {
        let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
        let own = addresses.filter(|address| TYPES.contains(&address.type_.as_str()));
        add(ObjectRef::cluster("Node", name), &mut own.map(|address| address.address.as_str()));
    }
    machines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_nodes_and_edges_are_machines_and_no_more_than_a_few_of_each() {
        let mut text =
            "apiVersion: v1\nkind: Node\nmetadata: {name: n}\nstatus:\n  addresses:\n".to_owned();
        text += "  - {type: Hostname, address: n}\n  - {type: ExternalIP, address: 192.0.2.9}\n";
        for n in 1..=40 {
            text += &format!("  - {{type: InternalIP, address: 10.0.0.{n}}}\n");
        }
        text += "---\napiVersion: tidegate.io/v1alpha1\nkind: EdgeGateway\nmetadata: {name: e}\n\
                 status: {underlayAddresses: [10.0.0.1, \"fd00::1\", nonsense]}\n";
        let mut objects = ObjectSet::default();
        let parsed = crate::manifest::parse("f.yaml", &text);
        parsed.objects.into_iter().for_each(|entry| entry.insert_into(&mut objects));
        let found = machines(&objects);
        let of = |address: &str| found.get(&address.parse().unwrap()).map(ToString::to_string);
        assert_eq!(of("10.0.0.1").unwrap(), "EdgeGateway e");
        assert_eq!(of("fd00::1").unwrap(), "EdgeGateway e");
        assert_eq!(of("192.0.2.9").unwrap(), "Node n");
        assert_eq!((of("10.0.0.15").unwrap().as_str(), of("10.0.0.16")), ("Node n", None));
    }
}
