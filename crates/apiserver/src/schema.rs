//! Structural schemas of custom kinds: what isn't in them is pruned, defaults are filled in, and
//! types, enumerations, bounds and required fields are checked. Patterns, formats and CEL rules
//! (`x-kubernetes-validations`) are not.

use serde_json::Value;

use crate::shape::join;

/// What a schema finds in an object.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Fields that were dropped.
    pub(crate) unknown: Vec<String>,
    /// Fields and what is wrong with them.
    pub(crate) wrong: Vec<(String, String)>,
}

/// Holds an object against its kind's schema.
pub(crate) fn check(object: &mut Value, schema: &Value) -> Found {
    let mut found = Found::default();
    let Value::Object(members) = object else { return found };
    let properties = &schema["properties"];
    fill(members, properties);
    for (name, value) in members.iter_mut() {
        // The server knows these itself.
        if !matches!(name.as_str(), "apiVersion" | "kind" | "metadata")
            && properties[name].is_object()
        {
            walk(value, &properties[name], name, &mut found);
        }
    }
    let open = schema["x-kubernetes-preserve-unknown-fields"] == true || !properties.is_object();
    if !open {
        members.retain(|name, _| {
            let known = matches!(name.as_str(), "apiVersion" | "kind" | "metadata")
                || properties[name].is_object();
            if !known {
                found.unknown.push(name.clone());
            }
            known
        });
    }
    required(members, schema, "", &mut found);
    found
}

fn walk(value: &mut Value, schema: &Value, path: &str, found: &mut Found) {
    if schema["x-kubernetes-int-or-string"] == true {
        if !value.is_string() && !value.is_i64() {
            found.wrong.push(wrong_type(path, value, "integer or string"));
        }
        return;
    }
    if let Some(wanted) = schema["type"].as_str()
        && !is_of(value, wanted)
    {
        found.wrong.push(wrong_type(path, value, wanted));
        return;
    }
    if let Some(choices) = schema["enum"].as_array()
        && !choices.contains(value)
    {
        let choices: Vec<String> = choices.iter().map(Value::to_string).collect();
        let what = format!("Unsupported value: {value}: supported values: {}", choices.join(", "));
        found.wrong.push((path.to_owned(), what));
    }
    bounds(value, schema, path, found);
    match value {
        Value::Object(members) => {
            let properties = &schema["properties"];
            fill(members, properties);
            let open = schema["x-kubernetes-preserve-unknown-fields"] == true;
            let rest = &schema["additionalProperties"];
            members.retain(|name, inner| {
                let path = join(path, name);
                if properties[name].is_object() {
                    walk(inner, &properties[name], &path, found);
                } else if rest.is_object() {
                    walk(inner, rest, &path, found);
                } else if !open && rest != true && properties.is_object() {
                    found.unknown.push(path);
                    return false;
                }
                true
            });
            required(members, schema, path, found);
        }
        Value::Array(elements) if schema["items"].is_object() => {
            for (place, element) in elements.iter_mut().enumerate() {
                walk(element, &schema["items"], &format!("{path}[{place}]"), found);
            }
        }
        _ => {}
    }
}

/// Drops nulls where they mean nothing, and then fills in defaults.
fn fill(members: &mut serde_json::Map<String, Value>, properties: &Value) {
    members.retain(|name, inner| !inner.is_null() || properties[name]["nullable"] == true);
    for (name, inner) in properties.as_object().into_iter().flatten() {
        if !members.contains_key(name) && !inner["default"].is_null() {
            members.insert(name.clone(), inner["default"].clone());
        }
    }
}

fn required(
    members: &serde_json::Map<String, Value>,
    schema: &Value,
    path: &str,
    found: &mut Found,
) {
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !members.contains_key(name) {
            found.wrong.push((join(path, name), "Required value".to_owned()));
        }
    }
}

fn bounds(value: &Value, schema: &Value, path: &str, found: &mut Found) {
    let mut outside = |bound: &str, what: &str| {
        let limit = &schema[bound];
        let what = format!("Invalid value: {value}: should be {what} {limit}");
        found.wrong.push((path.to_owned(), what));
    };
    let below = |measure: f64, bound: &str| schema[bound].as_f64().is_some_and(|b| measure < b);
    let above = |measure: f64, bound: &str| schema[bound].as_f64().is_some_and(|b| measure > b);
    let (measure, least, most) = match value {
        Value::Number(number) => (number.as_f64().unwrap_or(0.0), "minimum", "maximum"),
        Value::String(text) => (text.chars().count() as f64, "minLength", "maxLength"),
        Value::Array(elements) => (elements.len() as f64, "minItems", "maxItems"),
        _ => return,
    };
    if below(measure, least) {
        outside(least, "at least");
    }
    if above(measure, most) {
        outside(most, "at most");
    }
}

fn is_of(value: &Value, wanted: &str) -> bool {
    match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => true,
    }
}

fn wrong_type(path: &str, value: &Value, wanted: &str) -> (String, String) {
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let what = format!("Invalid value: {is:?}: {path} in body must be of type {wanted}: {is:?}",);
    (path.to_owned(), what)
}
