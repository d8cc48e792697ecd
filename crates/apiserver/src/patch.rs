//! Patches: JSON merge patch (RFC 7396), JSON patch (RFC 6902) and strategic merge patch, of which
//! the directives `$patch`, `$deleteFromPrimitiveList` and `$retainKeys` are known.

use serde_json::{Map, Value};

use crate::refusal::Refusal;
use crate::shape::{Shape, Topology, join};

/// Merges as RFC 7396 says.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(members) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(object) = target.as_object_mut() else { return };
    for (name, value) in members {
        if value.is_null() {
            object.remove(name);
        } else {
            merge(object.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Merges strategically: lists that have a key are merged by it.
pub(crate) fn strategic(target: &mut Value, patch: &Value, shape: &Shape) {
    strategic_at(target, patch, shape, "");
}

fn strategic_at(target: &mut Value, patch: &Value, shape: &Shape, path: &str) {
    let Value::Object(members) = patch else {
        *target = patch.clone();
        return;
    };
    match members.get("$patch").and_then(Value::as_str) {
        Some("delete") => {
            *target = Value::Object(Map::new());
            return;
        }
        Some("replace") => {
            *target = without_directives(members);
            return;
        }
        _ => {}
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(object) = target.as_object_mut() else { return };
    if let Some(Value::Array(retained)) = members.get("$retainKeys") {
        object.retain(|name, _| retained.iter().any(|retained| retained == name));
    }
    for (name, value) in members {
        if let Some(list) = name.strip_prefix("$deleteFromPrimitiveList/") {
            if let (Some(Value::Array(elements)), Value::Array(gone)) =
                (object.get_mut(list), value)
            {
                elements.retain(|element| !gone.contains(element));
            }
            continue;
        }
        if name.starts_with('$') {
            continue;
        }
        if value.is_null() {
            object.remove(name);
            continue;
        }
        let path = join(path, name);
        match (value, shape.at(&path)) {
            (Value::Array(elements), Some(Topology::Keyed(keys))) => {
                let list = object.entry(name.clone()).or_insert_with(|| Value::Array(Vec::new()));
                strategic_list(list, elements, keys, shape, &path);
            }
            (Value::Array(elements), Some(Topology::Set)) => {
                let list = object.entry(name.clone()).or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(list) = list {
                    for element in elements {
                        if !list.contains(element) {
                            list.push(element.clone());
                        }
                    }
                }
            }
            (Value::Object(_), _) => {
                let member = object.entry(name.clone()).or_insert(Value::Null);
                strategic_at(member, value, shape, &path);
            }
            _ => drop(object.insert(name.clone(), value.clone())),
        }
    }
}

fn strategic_list(list: &mut Value, patches: &[Value], keys: &[String], shape: &Shape, path: &str) {
    let Value::Array(list) = list else { return };
    // Strategic merge knows one key for a list.
    let Some(key) = keys.first() else { return };
    if patches.iter().any(|patch| patch["$patch"] == "replace") {
        list.clear();
    }
    for patch in patches {
        if patch["$patch"] == "replace" && patch.as_object().is_some_and(|only| only.len() == 1) {
            continue;
        }
        let same = |element: &Value| !patch[key].is_null() && element[key] == patch[key];
        if patch["$patch"] == "delete" {
            list.retain(|element| !same(element));
            continue;
        }
        match list.iter_mut().find(|element| same(element)) {
            Some(element) => strategic_at(element, patch, shape, path),
            None => {
                let mut element = Value::Null;
                strategic_at(&mut element, patch, shape, path);
                list.push(element);
            }
        }
    }
}

fn without_directives(members: &Map<String, Value>) -> Value {
    let kept = members.iter().filter(|(name, _)| !name.starts_with('$'));
    Value::Object(kept.map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// Does the operations of a JSON patch in order, all or none.
pub(crate) fn operations(target: &mut Value, patch: &Value) -> Result<(), Refusal> {
    let Value::Array(operations) = patch else {
        return Err(Refusal::bad_request("a JSON patch is a list of operations"));
    };
    let mut result = target.clone();
    for operation in operations {
        let done = operate(&mut result, operation);
        done.map_err(|why| {
            let message =
                format!("the server rejected our request due to an error in our request: {why}");
            Refusal::new(422, "Invalid", message)
        })?;
    }
    *target = result;
    Ok(())
}

fn operate(target: &mut Value, operation: &Value) -> Result<(), String> {
    let path = operation["path"].as_str().ok_or("an operation has no path")?;
    let from = || {
        let from = operation["from"].as_str().ok_or("an operation has no from")?;
        target.pointer(from).cloned().ok_or_else(|| format!("{from} doesn't exist"))
    };
    match operation["op"].as_str() {
        Some("add") => add(target, path, operation["value"].clone()),
        Some("remove") => remove(target, path).map(drop),
        Some("replace") => {
            let place = target.pointer_mut(path);
            *place.ok_or_else(|| format!("{path} doesn't exist"))? = operation["value"].clone();
            Ok(())
        }
        Some("test") if target.pointer(path) == Some(&operation["value"]) => Ok(()),
        Some("test") => Err(format!("testing value {path} failed")),
        Some("copy") => {
            let value = from()?;
            add(target, path, value)
        }
        Some("move") => {
            let value = from()?;
            remove(target, operation["from"].as_str().unwrap_or_default())?;
            add(target, path, value)
        }
        other => Err(format!("operation {other:?} is not known")),
    }
}

/// The parent of what a pointer names, and the last step's name.
fn parent<'a>(target: &'a mut Value, path: &str) -> Result<(&'a mut Value, String), String> {
    let (before, last) = path.rsplit_once('/').ok_or_else(|| format!("{path:?} is no pointer"))?;
    let parent = target.pointer_mut(before).ok_or_else(|| format!("{before} doesn't exist"))?;
    Ok((parent, last.replace("~1", "/").replace("~0", "~")))
}

fn add(target: &mut Value, path: &str, value: Value) -> Result<(), String> {
    if path.is_empty() {
        *target = value;
        return Ok(());
    }
    match parent(target, path)? {
        (Value::Object(members), name) => drop(members.insert(name, value)),
        (Value::Array(elements), name) if name == "-" => elements.push(value),
        (Value::Array(elements), name) => match name.parse::<usize>() {
            Ok(place) if place <= elements.len() => elements.insert(place, value),
            _ => return Err(format!("{path} is outside of the list")),
        },
        _ => return Err(format!("{path} can't be added to")),
    }
    Ok(())
}

fn remove(target: &mut Value, path: &str) -> Result<Value, String> {
    let missing = || format!("{path} doesn't exist");
    match parent(target, path)? {
        (Value::Object(members), name) => members.remove(&name).ok_or_else(missing),
        (Value::Array(elements), name) => match name.parse::<usize>() {
            Ok(place) if place < elements.len() => Ok(elements.remove(place)),
            _ => Err(missing()),
        },
        _ => Err(missing()),
    }
}
