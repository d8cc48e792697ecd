//! Definitions of Calico's kinds, as far as Tidegate reads them, with no schema.

use serde_json::{Value, json};

const PLAIN: &str = "crd.projectcalico.org";
const API: &str = "projectcalico.org";

pub(crate) fn definitions() -> Vec<Value> {
    let kinds = [
        (PLAIN, "v1", "IPAMBlock", "ipamblocks"),
        (PLAIN, "v1", "GlobalNetworkPolicy", "globalnetworkpolicies"),
        (PLAIN, "v1", "GlobalNetworkSet", "globalnetworksets"),
        (PLAIN, "v1", "HostEndpoint", "hostendpoints"),
        (API, "v3", "GlobalNetworkPolicy", "globalnetworkpolicies"),
        (API, "v3", "GlobalNetworkSet", "globalnetworksets"),
        (API, "v3", "HostEndpoint", "hostendpoints"),
    ];
    kinds.into_iter().map(definition).collect()
}

fn definition((group, version, kind, plural): (&str, &str, &str, &str)) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group,
            "names": {
                "kind": kind,
                "listKind": format!("{kind}List"),
                "plural": plural,
                "singular": kind.to_lowercase(),
            },
            "scope": "Cluster",
            "versions": [{
                "name": version,
                "served": true,
                "storage": true,
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "x-kubernetes-preserve-unknown-fields": true,
                }},
            }],
        },
    })
}
