//! CustomResourceDefinitions (apiextensions.k8s.io/v1), out of the Rust types.

use k8s_openapi::Resource;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::address_pool::AddressPoolStatus;
use super::vpn_connection::VpnConnectionStatus;
use super::{
    AddressPool, AddressPoolSpec, EdgeGateway, EdgeGatewaySpec, EdgeGatewayStatus, VpnConnection,
    VpnConnectionSpec,
};

/// A column that `kubectl get` prints.
struct Column {
    name: &'static str,
    kind: &'static str,
    path: &'static str,
}

/// The definitions of all own kinds, in the order of their names.
pub fn definitions() -> Vec<Value> {
    vec![address_pool(), edge_gateway(), vpn_connection()]
}

fn address_pool() -> Value {
    let columns = [
        Column { name: "Visibility", kind: "string", path: ".spec.visibility" },
        Column { name: "Addresses", kind: "string", path: ".spec.addresses" },
        Column { name: "Announce", kind: "string", path: ".spec.announce" },
        Column { name: "Used", kind: "integer", path: ".status.used" },
        Column { name: "Free", kind: "string", path: ".status.free" },
        Column { name: "Age", kind: "date", path: ".metadata.creationTimestamp" },
    ];
    let spec = schema::<AddressPoolSpec>();
    let description = "AddressPool: portable addresses for VIPs";
    let status = Some(schema::<AddressPoolStatus>());
    definition::<AddressPool>(description, ("Cluster", &["pool"]), &columns, spec, status)
}

fn edge_gateway() -> Value {
    let columns = [
        Column {
            name: "Ready",
            kind: "string",
            path: ".status.conditions[?(@.type==\"Ready\")].status",
        },
        Column { name: "Drain", kind: "boolean", path: ".spec.drain" },
        Column { name: "Address", kind: "string", path: ".status.underlayAddresses[0]" },
        Column { name: "VIPs", kind: "string", path: ".status.vips" },
        Column { name: "VPN", kind: "string", path: ".status.vpnConnections" },
        Column { name: "Version", kind: "string", path: ".status.version" },
        Column { name: "Age", kind: "date", path: ".metadata.creationTimestamp" },
    ];
    let spec = schema::<EdgeGatewaySpec>();
    let status = Some(schema::<EdgeGatewayStatus>());
    let description = "EdgeGateway: one edge machine, written by its gateway";
    definition::<EdgeGateway>(description, ("Cluster", &["edge"]), &columns, spec, status)
}

fn vpn_connection() -> Value {
    let columns = [
        Column { name: "Gateway", kind: "string", path: ".spec.remote.gateway" },
        Column { name: "Remote", kind: "string", path: ".spec.remote.subnets" },
        Column { name: "State", kind: "string", path: ".status.state" },
        Column { name: "Edge", kind: "string", path: ".status.edge" },
        Column { name: "Since", kind: "date", path: ".status.since" },
        Column { name: "Age", kind: "date", path: ".metadata.creationTimestamp" },
    ];
    let spec = schema::<VpnConnectionSpec>();
    let status = Some(schema::<VpnConnectionStatus>());
    let description = "VpnConnection: a site-to-site connection by IKEv2 and ESP";
    definition::<VpnConnection>(description, ("Namespaced", &["vpn"]), &columns, spec, status)
}

fn definition<T: Resource>(
    description: &str,
    (scope, short_names): (&str, &[&str]),
    columns: &[Column],
    spec: Value,
    status: Option<Value>,
) -> Value {
    let plural = T::URL_PATH_SEGMENT;
    let columns: Vec<Value> = columns
        .iter()
        .map(|column| json!({"name": column.name, "type": column.kind, "jsonPath": column.path}))
        .collect();
    let mut version = json!({
        "name": T::VERSION,
        "served": true,
        "storage": true,
        "additionalPrinterColumns": columns,
        "schema": {"openAPIV3Schema": {
            "description": description,
            "type": "object",
            "required": ["spec"],
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": {"type": "object"},
                "spec": spec,
            },
        }},
    });
    if let Some(status) = status {
        version["schema"]["openAPIV3Schema"]["properties"]["status"] = status;
        version["subresources"] = json!({"status": {}});
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{}", T::GROUP)},
        "spec": {
            "group": T::GROUP,
            "names": {
                "kind": T::KIND,
                "listKind": format!("{}List", T::KIND),
                "plural": plural,
                "singular": T::KIND.to_lowercase(),
                "shortNames": short_names,
            },
            "scope": scope,
            "versions": [version],
        },
    })
}

/// A type's schema in the form that the API server takes: structural, all in one place.
fn schema<T: schemars::JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.meta_schema = None;
        settings.inline_subschemas = true;
        settings.transforms = Vec::new();
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    structural(&mut schema);
    schema
}

/// Takes out what the API server's structural schemas don't know: titles, formats of numbers, and
/// null as a way to say nothing.
fn structural(schema: &mut Value) {
    let Value::Object(object) = schema else { return };
    object.remove("title");
    object.remove("format");
    if let Some(Value::String(description)) = object.get_mut("description") {
        *description = description.replace('\n', " ");
    }
    // Option<T> of a type of its own: any of T or null.
    if let Some(Value::Array(choices)) = object.get("anyOf") {
        let mut some = choices.iter().filter(|choice| choice["type"] != "null").cloned();
        if let (Some(Value::Object(only)), None) = (some.next(), some.next()) {
            object.remove("anyOf");
            for (key, value) in only {
                object.entry(key).or_insert(value);
            }
        }
    }
    match object.get_mut("type") {
        Some(Value::Array(types)) => {
            types.retain(|kind| kind != "null");
            if let [only] = types.as_mut_slice() {
                let only = only.take();
                object.insert("type".to_owned(), only);
            }
        }
        Some(Value::String(kind)) if kind == "null" => drop(object.remove("type")),
        _ => {}
    }
    one_of_constants(object);
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(key) {
            structural(inner);
        }
    }
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        properties.values_mut().for_each(structural);
    }
    if object.get("additionalProperties") == Some(&Value::Bool(false)) {
        // Not allowed beside properties; the API server drops what isn't known anyway.
        object.remove("additionalProperties");
    }
}

/// Variants with documentation of their own come as oneOf; they become one enumeration.
fn one_of_constants(object: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = object.get("oneOf") else { return };
    let constants: Option<Vec<Value>> =
        choices.iter().map(|choice| choice.get("const").cloned()).collect();
    if let Some(constants) = constants {
        object.remove("oneOf");
        object.insert("type".to_owned(), json!("string"));
        object.insert("enum".to_owned(), Value::Array(constants));
    }
}

#[cfg(test)]
mod tests;
