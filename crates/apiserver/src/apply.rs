//! Server-side apply and the managedFields of all writes.

use serde_json::{Value, json};

use crate::fields::Fields;
use crate::kinds::Kind;
use crate::object::now;
use crate::refusal::Refusal;
use crate::shape::{Shape, Topology, join, key_of};

/// Who writes, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Writer<'a> {
    /// The field manager.
    pub(crate) manager: &'a str,
    /// The version written in.
    pub(crate) api_version: &'a str,
    /// `status`, or empty.
    pub(crate) subresource: &'a str,
}

/// One manager's part.
#[derive(Clone, Debug)]
struct Managed {
    manager: String,
    operation: String,
    api_version: String,
    subresource: String,
    time: String,
    fields: Fields,
}

impl Managed {
    fn is(&self, writer: &Writer<'_>, operation: &str) -> bool {
        self.manager == writer.manager
            && self.operation == operation
            && self.subresource == writer.subresource
            && (operation == "Apply" || self.api_version == writer.api_version)
    }

    fn new(writer: &Writer<'_>, operation: &str, fields: Fields) -> Self {
        Self {
            manager: writer.manager.to_owned(),
            operation: operation.to_owned(),
            api_version: writer.api_version.to_owned(),
            subresource: writer.subresource.to_owned(),
            time: now(),
            fields,
        }
    }
}

fn read(object: &Value) -> Vec<Managed> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    entries
        .map(|entry| Managed {
            manager: text(&entry["manager"]),
            operation: text(&entry["operation"]),
            api_version: text(&entry["apiVersion"]),
            subresource: text(&entry["subresource"]),
            time: text(&entry["time"]),
            fields: Fields::of_json(&entry["fieldsV1"]),
        })
        .collect()
}

fn write(object: &mut Value, mut managed: Vec<Managed>) {
    managed.retain(|entry| !entry.fields.is_empty());
    let entries: Vec<Value> = managed
        .into_iter()
        .map(|entry| {
            let mut json = json!({
                "manager": entry.manager,
                "operation": entry.operation,
                "apiVersion": entry.api_version,
                "time": entry.time,
                "fieldsType": "FieldsV1",
                "fieldsV1": entry.fields.to_json(),
            });
            if !entry.subresource.is_empty() {
                json["subresource"] = entry.subresource.into();
            }
            json
        })
        .collect();
    let Some(metadata) = object["metadata"].as_object_mut() else { return };
    if entries.is_empty() {
        metadata.remove("managedFields");
    } else {
        metadata.insert("managedFields".to_owned(), Value::Array(entries));
    }
}

/// Notes in `new`'s managedFields what an update changed. `old` has them as they were.
pub(crate) fn updated(kind: &Kind, old: &Value, new: &mut Value, writer: &Writer<'_>) {
    let mut managed = read(old);
    let (mut changed, removed) = Fields::between(old, new, &kind.shape);
    // The status belongs to those who write it where it is written.
    if kind.status && writer.subresource.is_empty() {
        changed.forget("status");
    }
    if !changed.is_empty() || !removed.is_empty() {
        for entry in &mut managed {
            entry.fields.subtract(&removed);
            if !entry.is(writer, "Update") {
                entry.fields.subtract(&changed);
            }
        }
        if !changed.is_empty() {
            match managed.iter_mut().find(|entry| entry.is(writer, "Update")) {
                Some(own) => {
                    own.fields.add(&changed);
                    own.time = now();
                }
                None => managed.push(Managed::new(writer, "Update", changed)),
            }
        }
    }
    write(new, managed);
}

/// What an apply makes out of the live object and the configuration, with managedFields.
pub(crate) fn applied(
    kind: &Kind,
    live: &Value,
    config: &Value,
    writer: &Writer<'_>,
    force: bool,
) -> Result<Value, Refusal> {
    let shape = &kind.shape;
    let mut managed = read(live);
    // What was there before anybody's fields were noted is somebody's too.
    if managed.is_empty() && live["metadata"]["uid"].is_string() {
        let before = Writer { manager: "before-first-apply", subresource: "", ..*writer };
        let mut fields = Fields::of_object(live, &kind.shape);
        if kind.status {
            fields.forget("status");
        }
        managed.push(Managed::new(&before, "Update", fields));
    }
    let wanted = Fields::of_object(config, shape);
    let mut merged = live.clone();
    merge(&mut merged, config, shape, "");

    let (changed, _) = Fields::between(live, &merged, shape);
    let mut conflicts = Vec::new();
    for entry in managed.iter().filter(|entry| !entry.is(writer, "Apply")) {
        for path in entry.fields.common(&changed).common(&wanted).paths() {
            conflicts.push((entry.manager.clone(), entry.api_version.clone(), path));
        }
    }
    if !conflicts.is_empty() && !force {
        return Err(conflict(&conflicts));
    }

    let own = managed.iter().position(|entry| entry.is(writer, "Apply"));
    let before = own.map(|place| managed.remove(place)).map(|entry| (entry.fields, entry.time));
    for entry in &mut managed {
        entry.fields.subtract(&changed.common(&wanted));
    }
    if let Some((before, _)) = &before {
        let gone = before.without(&wanted);
        let mut kept = wanted.clone();
        managed.iter().for_each(|entry| kept.add(&entry.fields));
        gone.prune(&mut merged, &kept, shape);
        if let Some(metadata) = merged["metadata"].as_object_mut() {
            metadata.retain(|_, value| !value.is_null());
        }
    }
    let mut entry = Managed::new(writer, "Apply", wanted);
    if let Some((fields, time)) = before
        && fields == entry.fields
        && merged == *live
    {
        entry.time = time;
    }
    managed.insert(own.unwrap_or(managed.len()).min(managed.len()), entry);
    write(&mut merged, managed);
    Ok(merged)
}

fn conflict(conflicts: &[(String, String, String)]) -> Refusal {
    let each = |(manager, api_version, _): &(String, String, String)| {
        format!("conflict with {manager:?} using {api_version}")
    };
    let message = match conflicts {
        [one] => format!("Apply failed with 1 conflict: {}: {}", each(one), one.2),
        all => {
            let lines: Vec<String> =
                all.iter().map(|one| format!("{}: {}", each(one), one.2)).collect();
            format!("Apply failed with {} conflicts: {}", all.len(), lines.join("\n"))
        }
    };
    let causes = conflicts
        .iter()
        .map(|one| json!({"reason": "FieldManagerConflict", "message": each(one), "field": one.2}))
        .collect();
    Refusal::new(409, "Conflict", message).with_causes(causes)
}

/// Lays a configuration over a live object. Null says nothing.
fn merge(live: &mut Value, config: &Value, shape: &Shape, path: &str) {
    match (config, shape.at(path)) {
        (_, Some(Topology::Atomic)) => *live = config.clone(),
        (Value::Object(members), _) => {
            if !live.is_object() {
                *live = json!({});
            }
            for (name, value) in members.iter().filter(|(_, value)| !value.is_null()) {
                merge(&mut live[name], value, shape, &join(path, name));
            }
        }
        (Value::Array(wanted), Some(Topology::Set)) => {
            let list = as_list(live);
            for element in wanted {
                if !list.contains(element) {
                    list.push(element.clone());
                }
            }
        }
        (Value::Array(wanted), Some(Topology::Keyed(keys))) => {
            let list = as_list(live);
            for element in wanted {
                let key = key_of(keys, element);
                match list.iter_mut().find(|other| key.is_some() && key_of(keys, other) == key) {
                    Some(other) => merge(other, element, shape, path),
                    None => list.push(element.clone()),
                }
            }
        }
        _ => *live = config.clone(),
    }
}

fn as_list(value: &mut Value) -> &mut Vec<Value> {
    if !value.is_array() {
        *value = Value::Array(Vec::new());
    }
    value.as_array_mut().expect("invariant: it was made one above")
}
