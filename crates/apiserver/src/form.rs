//! The forms that objects are answered in: whole, their metadata alone, or as a Table.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::events;
use crate::kinds::{Kind, View};
use crate::object::{Object, encode};
use crate::table;

/// A form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Whole,
    Metadata,
    Table(Include),
}

/// What a Table's rows have of their objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Include {
    Nothing,
    Metadata,
    Whole,
}

impl Form {
    /// By the header Accept and the parameter includeObject.
    pub(crate) fn wanted(accept: &str, include: Option<&str>) -> Self {
        for media in accept.split(',') {
            let mut parts = media.split(';').map(str::trim);
            if !matches!(parts.next(), Some("application/json" | "*/*" | "application/*")) {
                continue;
            }
            let form = parts.find_map(|part| part.strip_prefix("as="));
            return match form {
                Some("Table") => Self::Table(match include {
                    Some("None") => Include::Nothing,
                    Some("Object") => Include::Whole,
                    _ => Include::Metadata,
                }),
                Some("PartialObjectMetadata" | "PartialObjectMetadataList") => Self::Metadata,
                Some(_) => continue,
                None => Self::Whole,
            };
        }
        Self::Whole
    }

    /// One object.
    pub(crate) fn one(self, kind: &Kind, object: &Object) -> Vec<u8> {
        match self {
            Self::Whole if kind.view == View::Plain => object.json.to_vec(),
            Self::Whole => encode(kind, &value(kind, object)).0,
            Self::Metadata => metadata(&value(kind, object)).to_string().into_bytes(),
            Self::Table(include) => {
                let version = object.version.to_string();
                let rows = vec![row(kind, object, include)];
                let meta = json!({"resourceVersion": version});
                table::whole(kind, meta, rows, true).to_string().into_bytes()
            }
        }
    }

    /// One object of a watch; a Table tells its columns only in the first event.
    pub(crate) fn watched(self, kind: &Kind, object: &Object, first: bool) -> Vec<u8> {
        let Self::Table(include) = self else { return self.one(kind, object) };
        let meta = json!({"resourceVersion": object.version.to_string()});
        table::whole(kind, meta, vec![row(kind, object, include)], first).to_string().into_bytes()
    }

    /// A list with its metadata.
    pub(crate) fn list(self, kind: &Kind, objects: &[Arc<Object>], meta: Value) -> Vec<u8> {
        match self {
            Self::Table(include) => {
                let rows = objects.iter().map(|object| row(kind, object, include)).collect();
                table::whole(kind, meta, rows, true).to_string().into_bytes()
            }
            Self::Metadata => {
                let items: Vec<Value> =
                    objects.iter().map(|object| metadata(&value(kind, object))).collect();
                json!({
                    "kind": "PartialObjectMetadataList",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": meta,
                    "items": items,
                })
                .to_string()
                .into_bytes()
            }
            Self::Whole => whole_list(kind, objects, &meta),
        }
    }
}

fn whole_list(kind: &Kind, objects: &[Arc<Object>], meta: &Value) -> Vec<u8> {
    let size: usize = objects.iter().map(|object| object.json.len() + 1).sum();
    let mut body = Vec::with_capacity(size + 256);
    let head = format!(
        "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{meta},\"items\":[",
        kind.list_kind(),
        kind.api_version()
    );
    body.extend_from_slice(head.as_bytes());
    for (place, object) in objects.iter().enumerate() {
        if place > 0 {
            body.push(b',');
        }
        if kind.view != View::Plain {
            body.extend_from_slice(&encode(kind, &value(kind, object)).0);
        } else if kind.builtin {
            // Lists of built-in kinds don't repeat the type in each item.
            body.push(b'{');
            body.extend_from_slice(object.bare());
        } else {
            body.extend_from_slice(&object.json);
        }
    }
    body.extend_from_slice(b"]}");
    body
}

/// The object as the kind shows it.
pub(crate) fn value(kind: &Kind, object: &Object) -> Value {
    let mut value = object.value();
    if kind.view == View::Events {
        events::out_of_core(&mut value);
    }
    value
}

fn metadata(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"],
    })
}

fn row(kind: &Kind, object: &Object, include: Include) -> Value {
    let value = value(kind, object);
    let mut row = json!({"cells": table::cells(kind, &value)});
    match include {
        Include::Nothing => {}
        Include::Metadata => row["object"] = metadata(&value),
        Include::Whole => row["object"] = value,
    }
    row
}
