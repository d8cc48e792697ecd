//! Parts of objects: which of them a request may write, and which belong to the server.

use serde_json::Value;

use super::Ask;
use crate::kinds::Kind;
use crate::refusal::Refusal;

/// The body's type has to be the path's.
pub(super) fn check_type(kind: &Kind, object: &Value) -> Result<(), Refusal> {
    if !object.is_object() {
        return Err(Refusal::bad_request("the body is no object"));
    }
    let (api_version, name) = (&object["apiVersion"], &object["kind"]);
    if (!api_version.is_null() && *api_version != kind.api_version())
        || (!name.is_null() && *name != kind.kind)
    {
        return Err(Refusal::bad_request(format!(
            "the API version in the data ({api_version}, {name}) does not match the expected API \
             version ({}, {})",
            kind.api_version(),
            kind.kind
        )));
    }
    Ok(())
}

/// The body's namespace has to be the path's, or is it.
pub(super) fn place(ask: &Ask, object: &mut Value) -> Result<(), Refusal> {
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
    if !ask.kind.namespaced {
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("namespace");
        }
        return Ok(());
    }
    if !namespace.is_empty() && namespace != ask.namespace {
        return Err(Refusal::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    object["metadata"]["namespace"] = ask.namespace.clone().into();
    Ok(())
}

/// Leaves of an update what the endpoint may write.
pub(super) fn part(kind: &Kind, status: bool, old: &Value, object: &mut Value) {
    if status {
        let wanted = object["status"].take();
        let metadata = object["metadata"].take();
        *object = old.clone();
        if wanted.is_null() {
            if let Some(members) = object.as_object_mut() {
                members.remove("status");
            }
        } else {
            object["status"] = wanted;
        }
        if kind.builtin {
            object["metadata"] = metadata;
        }
    } else if kind.status {
        match old.get("status") {
            Some(status) => object["status"] = status.clone(),
            None => {
                if let Some(members) = object.as_object_mut() {
                    members.remove("status");
                }
            }
        }
    }
}

/// What only the server writes stays as it was.
pub(super) fn keep_servers_fields(old: &Value, object: &mut Value) {
    for field in [
        "name",
        "namespace",
        "uid",
        "generateName",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
    ] {
        match old["metadata"].get(field) {
            Some(value) => object["metadata"][field] = value.clone(),
            None => {
                if let Some(metadata) = object["metadata"].as_object_mut() {
                    metadata.remove(field);
                }
            }
        }
    }
}

pub(super) fn check_finalizers(
    kind: &Kind,
    name: &str,
    old: &Value,
    new: &Value,
) -> Result<(), Refusal> {
    if old["metadata"]["deletionTimestamp"].is_null() {
        return Ok(());
    }
    let of = |object: &Value| -> Vec<Value> {
        object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default()
    };
    let before = of(old);
    match of(new).into_iter().find(|finalizer| !before.contains(finalizer)) {
        Some(added) => {
            let what = format!(
                "Forbidden: no new finalizers can be added if the object is being deleted, found \
                 new finalizers []string{{{added}}}"
            );
            Err(Refusal::invalid(kind, name, &[("metadata.finalizers".to_owned(), what)]))
        }
        None => Ok(()),
    }
}

pub(super) fn has_finalizers(kind: &Kind, object: &Value) -> bool {
    let some = |value: &Value| value.as_array().is_some_and(|list| !list.is_empty());
    let namespace = kind.kind == "Namespace" && kind.group.is_empty();
    some(&object["metadata"]["finalizers"]) || (namespace && some(&object["spec"]["finalizers"]))
}

/// Whether something other than metadata and status differs.
pub(super) fn differs_in_spec(kind: &Kind, old: &Value, new: &Value) -> bool {
    let counts = |name: &String| match name.as_str() {
        "metadata" | "apiVersion" | "kind" => false,
        "status" => !kind.status,
        _ => true,
    };
    let members = |object: &Value| -> Vec<(String, Value)> {
        let members = object.as_object().into_iter().flatten();
        members
            .filter(|(name, _)| counts(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    };
    members(old) != members(new)
}

/// Whether nothing differs but the times in managedFields.
pub(super) fn same(old: &Value, new: &Value) -> bool {
    let members = |object: &Value| {
        let mut object = object.clone();
        let managed = object["metadata"].get_mut("managedFields").and_then(Value::as_array_mut);
        for entry in managed.into_iter().flatten() {
            entry["time"] = Value::Null;
        }
        if let Some(members) = object.as_object_mut() {
            members.remove("kind");
            members.remove("apiVersion");
        }
        object
    };
    members(old) == members(new)
}

pub(super) fn drop_null(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, value| !value.is_null());
            members.values_mut().for_each(drop_null);
        }
        Value::Array(elements) => elements.iter_mut().for_each(drop_null),
        _ => {}
    }
}

/// Five characters, of those that Kubernetes takes.
pub(super) fn suffix() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    (0..5).map(|_| char::from(LETTERS[fastrand::usize(..LETTERS.len())])).collect()
}
