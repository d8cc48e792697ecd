//! An object as it is stored: its bytes, ready to be sent, and what requests look for.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use crate::kinds::Kind;

/// A stored object. It keeps its JSON rather than a tree: lists and watches send it as it is.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    /// Its namespace, empty for a cluster's.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// Its UID.
    pub(crate) uid: String,
    /// Its resourceVersion.
    pub(crate) version: u64,
    /// Its labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// What field selectors may ask for, in the order of the kind's list.
    pub(crate) fields: Vec<String>,
    /// Its JSON.
    pub(crate) json: Bytes,
    /// Where in the JSON the members behind kind and apiVersion begin, with their comma.
    bare: usize,
}

impl Object {
    /// Out of a value, whose metadata is complete.
    pub(crate) fn new(kind: &Kind, value: &Value) -> Self {
        let metadata = &value["metadata"];
        let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
        let labels = metadata["labels"].as_object().into_iter().flatten();
        let (json, bare) = encode(kind, value);
        Self {
            namespace: text("namespace"),
            name: text("name"),
            uid: text("uid"),
            version: text("resourceVersion").parse().unwrap_or(0),
            labels: labels
                .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
                .collect(),
            fields: kind.selectable.iter().map(|path| field(value, path)).collect(),
            json: json.into(),
            bare,
        }
    }

    /// The object as a tree.
    pub(crate) fn value(&self) -> Value {
        serde_json::from_slice(&self.json).expect("invariant: it was written by serde_json")
    }

    /// The object without kind and apiVersion, as lists of built-in kinds have it: what stands
    /// between `{` and `}`.
    pub(crate) fn bare(&self) -> &[u8] {
        &self.json[(self.bare + 1).min(self.json.len())..]
    }

    /// By what it is stored.
    pub(crate) fn key(&self) -> String {
        key(&self.namespace, &self.name)
    }
}

/// By what an object is stored.
pub(crate) fn key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

/// A field's text for field selectors; empty where there is none.
fn field(value: &Value, path: &str) -> String {
    let found = path.split('.').fold(value, |value, name| &value[name]);
    match found {
        Value::String(text) => text.clone(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        // Event's `source` asks for the component.
        Value::Object(_) if path == "source" => field(found, "component"),
        _ if path == "spec.unschedulable" || path == "spec.hostNetwork" => "false".to_owned(),
        _ => String::new(),
    }
}

/// JSON in the order that people know: kind, apiVersion, metadata, spec, the rest, status.
pub(crate) fn encode(kind: &Kind, value: &Value) -> (Vec<u8>, usize) {
    let mut json = Vec::with_capacity(512);
    json.extend_from_slice(b"{\"kind\":");
    append(&mut json, &Value::String(kind.kind.clone()));
    json.extend_from_slice(b",\"apiVersion\":");
    append(&mut json, &Value::String(kind.api_version()));
    let bare = json.len();
    let rank = |name: &str| match name {
        "metadata" => 0,
        "spec" => 1,
        "status" => 3,
        _ => 2,
    };
    let mut members: Vec<(&String, &Value)> = value
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| !matches!(name.as_str(), "kind" | "apiVersion"))
        .collect();
    members.sort_by_key(|(name, _)| rank(name));
    for (name, member) in members {
        json.push(b',');
        append(&mut json, &Value::String(name.clone()));
        json.push(b':');
        append(&mut json, member);
    }
    json.push(b'}');
    (json, bare)
}

fn append(json: &mut Vec<u8>, value: &Value) {
    serde_json::to_writer(json, value).expect("invariant: a value can be written to memory");
}

/// The time.
pub(crate) fn clock() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

/// Now, in whole seconds, as metadata has it.
pub(crate) fn now() -> String {
    clock().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A UID, as random as they are.
pub(crate) fn uid() -> String {
    let bits =
        fastrand::u128(..) & !(0xf000 << 64) & !(0xc000 << 48) | (0x4000 << 64) | (0x8000 << 48);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
