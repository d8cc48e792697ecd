//! What has to be allowed for everything to be written.

use crate::access::Need;

/// All of it, to be asked beforehand. `namespace` is the gateway's.
pub fn needs(namespace: &str) -> Vec<Need> {
    const NETWORKING: &str = "networking.k8s.io";
    const EVENTS: &str = "events.k8s.io";
    let group = ingest::crds::GROUP;
    let ingresses = "Ingresses have no address in their status";
    let services = "Services have no address in their status";
    let own = "Tidegate's objects have no status";
    let finalizers = "a deleted object's address may be in use for a moment longer";
    let edges = "nodes and other edges don't learn of this one";
    let events = "what is wrong is only logged";
    let all = [
        ("patch", NETWORKING, "ingresses", Some("status"), ingresses),
        ("get", NETWORKING, "ingresses", None, ingresses),
        ("patch", "", "services", Some("status"), services),
        ("get", "", "services", None, finalizers),
        ("patch", "", "services", None, finalizers),
        ("patch", group, "addresspools", Some("status"), own),
        ("patch", group, "vpnconnections", Some("status"), own),
        ("get", group, "vpnconnections", None, finalizers),
        ("patch", group, "vpnconnections", None, finalizers),
        ("create", group, "edgegateways", None, edges),
        ("get", group, "edgegateways", None, edges),
        ("patch", group, "edgegateways", Some("status"), edges),
        ("create", EVENTS, "events", None, events),
        ("get", EVENTS, "events", None, events),
        ("patch", EVENTS, "events", None, events),
    ];
    let all = all.map(|(verb, group, resource, subresource, purpose)| Need {
        verb,
        group,
        resource,
        subresource,
        namespace: None,
        purpose,
    });
    let allocations = ["get", "list", "watch", "create", "update"].map(|verb| Need {
        verb,
        group: "",
        resource: "configmaps",
        subresource: None,
        namespace: Some(namespace.to_owned()),
        purpose: "no new addresses are given out",
    });
    all.into_iter().chain(allocations).collect()
}
