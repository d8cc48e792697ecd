//! Decoding as the API server does it: built-in kinds into their types, which tells fields of a
//! wrong type and fields that don't exist. What doesn't exist is dropped.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Event, Namespace, Node, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::kinds::Kind;
use crate::refusal::Refusal;
use crate::shape::join;

/// Decodes an object of a built-in kind: takes out what doesn't exist and names it.
pub(crate) fn decode(kind: &Kind, object: &mut Value) -> Result<Vec<String>, Refusal> {
    let known = match kind.kind.as_str() {
        "ConfigMap" => through::<ConfigMap>(object),
        "Event" => through::<Event>(object),
        "Namespace" => through::<Namespace>(object),
        "Node" => through::<Node>(object),
        "Pod" => through::<Pod>(object),
        "Secret" => through::<Secret>(object),
        "Service" => through::<Service>(object),
        "ServiceAccount" => through::<ServiceAccount>(object),
        "EndpointSlice" => through::<EndpointSlice>(object),
        "Ingress" => through::<Ingress>(object),
        "IngressClass" => through::<IngressClass>(object),
        "NetworkPolicy" => through::<NetworkPolicy>(object),
        "Lease" => through::<Lease>(object),
        "Role" => through::<Role>(object),
        "RoleBinding" => through::<RoleBinding>(object),
        "ClusterRole" => through::<ClusterRole>(object),
        "ClusterRoleBinding" => through::<ClusterRoleBinding>(object),
        "Deployment" => through::<Deployment>(object),
        "DaemonSet" => through::<DaemonSet>(object),
        "PodDisruptionBudget" => through::<PodDisruptionBudget>(object),
        _ => return Ok(Vec::new()),
    };
    let known = known.map_err(|error| {
        let (kind, version) = (&kind.kind, &kind.version);
        Refusal::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: {error}"
        ))
    })?;
    let mut unknown = Vec::new();
    drop_unknown(object, &known, "", &mut unknown);
    Ok(unknown)
}

fn through<T: DeserializeOwned + Serialize>(object: &Value) -> Result<Value, serde_json::Error> {
    serde_json::to_value(T::deserialize(object)?)
}

/// Takes out what didn't come back from the type.
fn drop_unknown(object: &mut Value, known: &Value, path: &str, unknown: &mut Vec<String>) {
    match (object, known) {
        (Value::Object(members), Value::Object(known)) => {
            members.retain(|name, value| {
                // The server leaves out what is null.
                if value.is_null() {
                    return false;
                }
                match known.get(name) {
                    Some(known) => {
                        drop_unknown(value, known, &join(path, name), unknown);
                        true
                    }
                    None if path.is_empty() && matches!(name.as_str(), "kind" | "apiVersion") => {
                        true
                    }
                    None if path == "metadata" && name == "managedFields" => true,
                    None => {
                        unknown.push(join(path, name));
                        false
                    }
                }
            });
        }
        (Value::Array(elements), Value::Array(known)) => {
            for (place, (element, known)) in elements.iter_mut().zip(known).enumerate() {
                drop_unknown(element, known, &format!("{path}[{place}]"), unknown);
            }
        }
        _ => {}
    }
}
