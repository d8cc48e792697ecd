//! What a gateway writes, and has to be allowed to.

use cluster::access::Need;

/// Everything that it writes: objects' status, Events, and what edges agree by.
pub(super) fn to_write(namespace: &str) -> Vec<Need> {
    let need = |verbs: &[&'static str], group, resource, subresource, purpose| {
        let one = |verb: &&'static str| Need {
            verb,
            group,
            resource,
            subresource,
            namespace: None,
            purpose,
        };
        verbs.iter().map(one).collect::<Vec<_>>()
    };
    const OWN: &str = "tidegate.io";
    const STATUS: Option<&str> = Some("status");
    let told = "what became of the object isn't told without";
    let address = "a Service's address isn't told without";
    let everywhere = [
        need(
            &["patch"],
            "networking.k8s.io",
            "ingresses",
            STATUS,
            "its address isn't told without",
        ),
        need(
            &["patch"],
            "",
            "services",
            None,
            "its address can't be kept until it is gone without",
        ),
        need(&["patch"], "", "services", STATUS, address),
        need(&["patch"], OWN, "addresspools", STATUS, told),
        need(&["patch"], OWN, "vpnconnections", STATUS, told),
        need(&["create", "patch"], OWN, "edgegateways", None, "nodes don't know this edge without"),
        need(&["patch"], OWN, "edgegateways", STATUS, "nodes don't know this edge without"),
        need(&["create", "patch"], "events.k8s.io", "events", None, "refusals aren't told without"),
    ];
    let leases = "this edge holds no VIP and no VpnConnection beside others without";
    let map = "addresses aren't kept for all edges without";
    let here = [
        need(
            &["get", "list", "watch", "create", "update"],
            "coordination.k8s.io",
            "leases",
            None,
            leases,
        ),
        need(&["get", "create", "update"], "", "configmaps", None, map),
    ];
    let here = here
        .into_iter()
        .flatten()
        .map(|need| Need { namespace: Some(namespace.to_owned()), ..need });
    everywhere.into_iter().flatten().chain(here).collect()
}
