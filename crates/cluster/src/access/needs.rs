//! What the programs have to be allowed besides reading the kinds that they watch. The chart's
//! roles grant it all: `tests/rights.rs` compares.

use super::Need;
use crate::write::allocations;

const NETWORKING: &str = "networking.k8s.io";
const EVENTS: &str = "events.k8s.io";
const OWN: &str = ingest::crds::GROUP;
const STATUS: Option<&str> = Some("status");

impl Need {
    /// In all namespaces.
    fn new(
        verb: &'static str,
        group: &'static str,
        resource: &'static str,
        subresource: Option<&'static str>,
        purpose: &'static str,
    ) -> Self {
        Self { verb, group, resource, subresource, namespace: None, name: None, purpose }
    }
}

/// What a gateway writes: objects' status, Events, and what edges agree by in their namespace.
pub fn of_gateway(namespace: &str) -> Vec<Need> {
    let ingresses = "its address isn't told without";
    let address = "a Service's address isn't told without";
    let kept = "its address can't be kept until it is gone without";
    let told = "what became of the object isn't told without";
    let edges = "nodes don't know this edge without";
    let everywhere: [(&[&'static str], _, _, _, _); 9] = [
        (&["patch"], NETWORKING, "ingresses", STATUS, ingresses),
        (&["get", "patch"], "", "services", None, kept),
        (&["patch"], "", "services", STATUS, address),
        (&["patch"], OWN, "addresspools", STATUS, told),
        (&["patch"], OWN, "vpnconnections", STATUS, told),
        (&["get", "patch"], OWN, "vpnconnections", None, kept),
        (&["get", "create", "patch"], OWN, "edgegateways", None, edges),
        (&["patch"], OWN, "edgegateways", STATUS, edges),
        (&["get", "create", "patch"], EVENTS, "events", None, "refusals aren't told without"),
    ];
    let everywhere = everywhere.into_iter().flat_map(|(verbs, group, resource, part, purpose)| {
        verbs.iter().map(move |verb| Need::new(verb, group, resource, part, purpose))
    });
    let leases = ["get", "list", "watch", "create", "update"].map(|verb| {
        let purpose = "this edge holds no VIP and no VpnConnection beside others without";
        Need::new(verb, "coordination.k8s.io", "leases", None, purpose)
    });
    let map = ["get", "list", "watch", "create", "update"].map(|verb| {
        let purpose = "addresses aren't kept for all edges without";
        // Who makes one can't be held to a name.
        let name = (verb != "create").then(|| allocations::NAME.to_owned());
        Need { name, ..Need::new(verb, "", "configmaps", None, purpose) }
    });
    let here = leases.into_iter().chain(map);
    let here = here.map(|need| Need { namespace: Some(namespace.to_owned()), ..need });
    everywhere.chain(here).collect()
}

/// What the agent of a node writes: its Node's annotations, and Events about it.
pub fn of_agent(node: &str) -> Vec<Need> {
    let told = "the edges don't learn this node's key without";
    let key = Need::new("patch", "", "nodes", None, told);
    let events = ["get", "create", "patch"].map(|verb| {
        Need::new(
            verb,
            EVENTS,
            "events",
            None,
            "what is wrong with the node is only logged without",
        )
    });
    [Need { name: Some(node.to_owned()), ..key }].into_iter().chain(events).collect()
}
