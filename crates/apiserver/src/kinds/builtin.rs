//! Kubernetes' own kinds, as far as they are served.

use super::{Kind, View};
use crate::shape::Shape;

/// What most kinds have in common comes from here.
fn kind(group: &str, name: &str, plural: &str, short_names: &[&str]) -> Kind {
    Kind {
        group: group.to_owned(),
        version: "v1".to_owned(),
        kind: name.to_owned(),
        plural: plural.to_owned(),
        singular: name.to_lowercase(),
        short_names: short_names.iter().map(|&name| name.to_owned()).collect(),
        categories: Vec::new(),
        namespaced: true,
        status: false,
        generation: false,
        unconditional: true,
        builtin: true,
        selectable: Vec::new(),
        columns: Vec::new(),
        schema: None,
        shape: Shape::builtin(name),
        shelf: 0,
        view: View::Plain,
    }
}

fn selectable(fields: &[&str]) -> Vec<String> {
    fields.iter().map(|&field| field.to_owned()).collect()
}

const EVENT_FIELDS: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

pub(super) fn kinds() -> Vec<Kind> {
    let cluster = |kind: Kind| Kind { namespaced: false, ..kind };
    let status = |kind: Kind| Kind { status: true, ..kind };
    let counted = |kind: Kind| Kind { generation: true, ..kind };
    let conditional = |kind: Kind| Kind { unconditional: false, ..kind };
    let fields = |kind: Kind, names: &[&str]| Kind { selectable: selectable(names), ..kind };

    let all = vec!["all".to_owned()];
    let networking = "networking.k8s.io";
    let rbac = "rbac.authorization.k8s.io";
    let mut kinds = vec![
        kind("", "ConfigMap", "configmaps", &["cm"]),
        fields(kind("", "Event", "events", &["ev"]), EVENT_FIELDS),
        fields(
            conditional(status(cluster(kind("", "Namespace", "namespaces", &["ns"])))),
            &["status.phase"],
        ),
        fields(status(cluster(kind("", "Node", "nodes", &["no"]))), &["spec.unschedulable"]),
        Kind {
            categories: all.clone(),
            ..fields(
                status(counted(kind("", "Pod", "pods", &["po"]))),
                &[
                    "spec.nodeName",
                    "spec.restartPolicy",
                    "spec.schedulerName",
                    "spec.serviceAccountName",
                    "spec.hostNetwork",
                    "status.phase",
                    "status.podIP",
                    "status.nominatedNodeName",
                ],
            )
        },
        fields(kind("", "Secret", "secrets", &[]), &["type"]),
        Kind {
            categories: all,
            ..fields(
                status(kind("", "Service", "services", &["svc"])),
                &["spec.clusterIP", "spec.type"],
            )
        },
        kind("", "ServiceAccount", "serviceaccounts", &["sa"]),
        counted(kind("discovery.k8s.io", "EndpointSlice", "endpointslices", &[])),
        Kind { view: View::Events, ..kind("events.k8s.io", "Event", "events", &["ev"]) },
        counted(status(kind(networking, "Ingress", "ingresses", &["ing"]))),
        counted(cluster(kind(networking, "IngressClass", "ingressclasses", &[]))),
        counted(kind(networking, "NetworkPolicy", "networkpolicies", &["netpol"])),
        conditional(kind("coordination.k8s.io", "Lease", "leases", &[])),
        Kind {
            categories: vec!["api-extensions".to_owned()],
            ..counted(status(conditional(cluster(kind(
                "apiextensions.k8s.io",
                "CustomResourceDefinition",
                "customresourcedefinitions",
                &["crd", "crds"],
            )))))
        },
        kind(rbac, "Role", "roles", &[]),
        kind(rbac, "RoleBinding", "rolebindings", &[]),
        cluster(kind(rbac, "ClusterRole", "clusterroles", &[])),
        cluster(kind(rbac, "ClusterRoleBinding", "clusterrolebindings", &[])),
        counted(status(kind("apps", "Deployment", "deployments", &["deploy"]))),
        counted(status(kind("apps", "DaemonSet", "daemonsets", &["ds"]))),
        status(counted(kind("policy", "PodDisruptionBudget", "poddisruptionbudgets", &["pdb"]))),
    ];
    // The same objects by other names of the fields; see `events`.
    for kind in &mut kinds {
        if kind.view == View::Events {
            let own = |field: &&str| field.replace("involvedObject.", "regarding.");
            kind.selectable = EVENT_FIELDS.iter().map(own).collect();
        }
    }
    kinds
}
