//! How the lists and maps of a kind merge: the table that server-side apply and strategic merge
//! patches go by (Kubernetes API's `x-kubernetes-list-type`, `-list-map-keys`, `-map-type`).

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// How a list or map merges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Topology {
    /// As one value, list or map.
    Atomic,
    /// A list of single values, no value twice.
    Set,
    /// A list of objects told apart by these fields.
    Keyed(Vec<String>),
}

/// What is special about a kind's fields. The path has the names of fields joined by dots; an
/// element of a list adds nothing to it. What doesn't stand here: lists are atomic, maps merge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    fields: BTreeMap<String, Topology>,
}

const METADATA: &[(&str, &str)] =
    &[("metadata.finalizers", "set"), ("metadata.ownerReferences", "uid")];

const CONTAINER_LISTS: &[(&str, &str)] = &[
    ("", "name"),
    ("ports", "containerPort,protocol"),
    ("env", "name"),
    ("volumeMounts", "mountPath"),
    ("volumeDevices", "devicePath"),
];

impl Shape {
    /// Of one of Kubernetes' own kinds.
    pub(crate) fn builtin(kind: &str) -> Self {
        let special: &[(&str, &str)] = match kind {
            "Service" => &[
                ("spec.ports", "port,protocol"),
                ("spec.selector", "atomic"),
                ("status.conditions", "type"),
            ],
            "Node" => &[
                ("spec.podCIDRs", "set"),
                ("status.addresses", "type"),
                ("status.conditions", "type"),
            ],
            "Pod" => &[
                ("spec.volumes", "name"),
                ("spec.imagePullSecrets", "name"),
                ("spec.hostAliases", "ip"),
                ("spec.nodeSelector", "atomic"),
                ("status.conditions", "type"),
                ("status.podIPs", "ip"),
                ("status.hostIPs", "atomic"),
            ],
            "ServiceAccount" => &[("secrets", "name"), ("imagePullSecrets", "name")],
            "Event" => &[("involvedObject", "atomic"), ("related", "atomic")],
            "Namespace" | "CustomResourceDefinition" | "PodDisruptionBudget" | "NetworkPolicy" => {
                &[("status.conditions", "type"), ("spec.selector", "atomic")]
            }
            "Deployment" | "DaemonSet" => &[
                ("spec.selector", "atomic"),
                ("spec.template.spec.volumes", "name"),
                ("spec.template.spec.imagePullSecrets", "name"),
                ("spec.template.spec.nodeSelector", "atomic"),
                ("status.conditions", "type"),
            ],
            "IngressClass" => &[("spec.parameters", "granular")],
            _ => &[],
        };
        let mut shape = Self::default();
        for (path, rule) in METADATA.iter().chain(special) {
            shape.add((*path).to_owned(), rule);
        }
        let containers: &[&str] = match kind {
            "Pod" => &["spec.containers", "spec.initContainers"],
            "Deployment" | "DaemonSet" => {
                &["spec.template.spec.containers", "spec.template.spec.initContainers"]
            }
            _ => &[],
        };
        for list in containers {
            for (inner, rule) in CONTAINER_LISTS {
                let path = if inner.is_empty() { (*list).to_owned() } else { join(list, inner) };
                shape.add(path, rule);
            }
        }
        shape
    }

    /// Of a custom kind.
    pub(crate) fn of_schema(schema: &Value) -> Self {
        let mut shape = Self::default();
        for (path, rule) in METADATA {
            shape.add((*path).to_owned(), rule);
        }
        shape.add_schema("", schema);
        shape
    }

    fn add(&mut self, path: String, rule: &str) {
        let topology = match rule {
            "granular" => return,
            "atomic" => Topology::Atomic,
            "set" => Topology::Set,
            keys => Topology::Keyed(keys.split(',').map(str::to_owned).collect()),
        };
        self.fields.insert(path, topology);
    }

    fn add_schema(&mut self, path: &str, schema: &Value) {
        let keys = || -> Option<String> {
            let keys = schema["x-kubernetes-list-map-keys"].as_array()?;
            Some(keys.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","))
        };
        match schema["x-kubernetes-list-type"].as_str() {
            Some("map") => self.add(path.to_owned(), &keys().unwrap_or_default()),
            Some(other) => self.add(path.to_owned(), other),
            None => {}
        }
        if schema["x-kubernetes-map-type"] == "atomic" {
            self.add(path.to_owned(), "atomic");
        }
        for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
            self.add_schema(&join(path, name), inner);
        }
        if schema["items"].is_object() {
            self.add_schema(path, &schema["items"]);
        }
    }

    /// How the list or map at a path merges; none: the default of its type.
    pub(crate) fn at(&self, path: &str) -> Option<&Topology> {
        self.fields.get(path)
    }
}

/// A field's path within another.
pub(crate) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The key of a list's element by its fields, as field sets write it: `{"port":80,…}`. None where
/// it has none of them.
pub(crate) fn key_of(keys: &[String], element: &Value) -> Option<Value> {
    let mut key = Map::new();
    for name in keys {
        match element.get(name) {
            Some(value) => drop(key.insert(name.clone(), value.clone())),
            // The one key that Kubernetes gives a default.
            None if name == "protocol" => drop(key.insert(name.clone(), "TCP".into())),
            None => {}
        }
    }
    (!key.is_empty()).then_some(Value::Object(key))
}
