//! Sets of fields, as `fieldsV1` in managedFields writes them
//! (<https://kubernetes.io/docs/reference/using-api/server-side-apply/>).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::shape::{Shape, Topology, join, key_of};

/// A set of fields, as a tree. The steps are `f:NAME`, `k:{KEY}` and `v:VALUE`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    /// Whether the field itself is in the set.
    own: bool,
    inner: BTreeMap<String, Fields>,
}

/// What is written by the server alone and belongs to nobody.
const SERVERS: &[&str] = &[
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "generateName",
    "selfLink",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
];

impl Fields {
    /// All fields of an object, without those that are the server's.
    pub(crate) fn of_object(object: &Value, shape: &Shape) -> Self {
        let mut set = Self::of(object, shape, "");
        set.strip();
        set
    }

    fn strip(&mut self) {
        self.own = false;
        self.inner.remove("f:apiVersion");
        self.inner.remove("f:kind");
        if let Some(metadata) = self.inner.get_mut("f:metadata") {
            for name in SERVERS {
                metadata.inner.remove(&format!("f:{name}"));
            }
            metadata.own = false;
            if metadata.inner.is_empty() {
                self.inner.remove("f:metadata");
            }
        }
    }

    fn of(value: &Value, shape: &Shape, path: &str) -> Self {
        let mut set = Self::default();
        for (step, inner, path) in steps(value, shape, path) {
            let mut inner = Self::of(inner, shape, &path);
            inner.own |= !step.starts_with("f:");
            set.inner.insert(step, inner);
        }
        set.own = set.inner.is_empty();
        set
    }

    /// What was changed or added between two objects, and what was removed.
    pub(crate) fn between(old: &Value, new: &Value, shape: &Shape) -> (Self, Self) {
        let (mut changed, mut removed) = Self::compare(old, new, shape, "");
        changed.strip();
        removed.strip();
        (changed, removed)
    }

    fn compare(old: &Value, new: &Value, shape: &Shape, path: &str) -> (Self, Self) {
        if old == new {
            return Default::default();
        }
        let (mut changed, mut removed) = (Self::default(), Self::default());
        let (before, after) = (steps(old, shape, path), steps(new, shape, path));
        if before.is_empty() || after.is_empty() {
            changed = Self::of(new, shape, path);
            removed = if before.is_empty() { removed } else { Self::of(old, shape, path) };
            removed.own = false;
            return (changed, removed);
        }
        let before: BTreeMap<String, &Value> =
            before.into_iter().map(|(step, value, _)| (step, value)).collect();
        let mut kept = BTreeSet::new();
        for (step, value, path) in after {
            let (inner_changed, inner_removed) = match before.get(&step) {
                Some(old) => Self::compare(old, value, shape, &path),
                None => {
                    let mut added = Self::of(value, shape, &path);
                    added.own |= !step.starts_with("f:");
                    (added, Self::default())
                }
            };
            changed.put(step.clone(), inner_changed);
            removed.put(step.clone(), inner_removed);
            kept.insert(step);
        }
        for (step, value) in before {
            if !kept.contains(&step) {
                let path = if let Some(name) = step.strip_prefix("f:") {
                    join(path, name)
                } else {
                    path.to_owned()
                };
                let mut gone = Self::of(value, shape, &path);
                gone.own = true;
                removed.inner.insert(step, gone);
            }
        }
        (changed, removed)
    }

    fn put(&mut self, step: String, inner: Self) {
        if !inner.is_empty() {
            self.inner.insert(step, inner);
        }
    }

    /// Takes out a top-level field.
    pub(crate) fn forget(&mut self, name: &str) {
        self.inner.remove(&format!("f:{name}"));
    }

    /// Whether nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        !self.own && self.inner.is_empty()
    }

    /// Adds the fields of another set.
    pub(crate) fn add(&mut self, other: &Self) {
        self.own |= other.own;
        for (step, inner) in &other.inner {
            self.inner.entry(step.clone()).or_default().add(inner);
        }
    }

    /// Takes out the fields of another set; what lies below a leaf of it too.
    pub(crate) fn subtract(&mut self, other: &Self) {
        if other.own {
            self.own = false;
            if other.inner.is_empty() {
                self.inner.clear();
            }
        }
        for (step, theirs) in &other.inner {
            if let Some(ours) = self.inner.get_mut(step) {
                ours.subtract(theirs);
                if ours.is_empty() {
                    self.inner.remove(step);
                }
            }
        }
    }

    /// The fields that are not in another set.
    pub(crate) fn without(&self, other: &Self) -> Self {
        let mut rest = Self { own: self.own && !other.own, inner: BTreeMap::new() };
        for (step, ours) in &self.inner {
            match other.inner.get(step) {
                Some(theirs) => rest.put(step.clone(), ours.without(theirs)),
                None => rest.put(step.clone(), ours.clone()),
            }
        }
        rest
    }

    /// The fields that are in both.
    pub(crate) fn common(&self, other: &Self) -> Self {
        let mut common = Self { own: self.own && other.own, inner: BTreeMap::new() };
        for (step, ours) in &self.inner {
            if let Some(theirs) = other.inner.get(step) {
                common.put(step.clone(), ours.common(theirs));
            }
        }
        common
    }

    /// The fields by their paths, such as `.spec.ports[port=80,protocol="TCP"].targetPort`.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths("", &mut paths);
        paths
    }

    fn collect_paths(&self, path: &str, paths: &mut Vec<String>) {
        if self.own {
            paths.push(path.to_owned());
        }
        for (step, inner) in &self.inner {
            let step = match step.split_at_checked(2) {
                Some(("f:", name)) => format!(".{name}"),
                Some(("k:", key)) => match serde_json::from_str::<Map<String, Value>>(key) {
                    Ok(key) => {
                        let pairs: Vec<String> =
                            key.iter().map(|(name, value)| format!("{name}={value}")).collect();
                        format!("[{}]", pairs.join(","))
                    }
                    Err(_) => format!("[{key}]"),
                },
                Some((_, value)) => format!("[={value}]"),
                None => step.clone(),
            };
            inner.collect_paths(&format!("{path}{step}"), paths);
        }
    }

    /// Removes from an object the fields of this set that are not in `kept`.
    pub(crate) fn prune(&self, object: &mut Value, kept: &Self, shape: &Shape) {
        self.prune_at(object, kept, shape, "");
    }

    fn prune_at(&self, value: &mut Value, kept: &Self, shape: &Shape, path: &str) {
        let nothing = Self::default();
        for (step, gone) in &self.inner {
            let still = kept.inner.get(step).unwrap_or(&nothing);
            let inner_path = match step.strip_prefix("f:") {
                Some(name) => join(path, name),
                None => path.to_owned(),
            };
            let Some(child) = step_into(value, step, shape, path) else { continue };
            let whole = still.is_empty() && gone.own;
            if !whole {
                gone.prune_at(child, still, shape, &inner_path);
            }
            let emptied = match child {
                Value::Object(members) => members.is_empty(),
                Value::Array(elements) => elements.is_empty(),
                _ => false,
            };
            if whole || (emptied && still.is_empty()) {
                remove_step(value, step, shape, path);
            }
        }
    }

    /// As `fieldsV1`.
    pub(crate) fn to_json(&self) -> Value {
        let mut object = Map::new();
        if self.own && !self.inner.is_empty() {
            object.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (step, inner) in &self.inner {
            object.insert(step.clone(), inner.to_json());
        }
        Value::Object(object)
    }

    /// Out of `fieldsV1`.
    pub(crate) fn of_json(json: &Value) -> Self {
        let mut set = Self::default();
        for (step, inner) in json.as_object().into_iter().flatten() {
            if step == "." {
                set.own = true;
            } else {
                set.inner.insert(step.clone(), Self::of_json(inner));
            }
        }
        set.own |= set.inner.is_empty();
        set
    }
}

/// What a value has below it: each step, the value there and its path. Nothing below single values
/// and what is atomic.
fn steps<'a>(value: &'a Value, shape: &Shape, path: &str) -> Vec<(String, &'a Value, String)> {
    match (value, shape.at(path)) {
        (_, Some(Topology::Atomic)) => Vec::new(),
        (Value::Object(members), _) => members
            .iter()
            .map(|(name, inner)| (format!("f:{name}"), inner, join(path, name)))
            .collect(),
        (Value::Array(elements), Some(Topology::Set)) => elements
            .iter()
            .map(|element| (format!("v:{element}"), element, path.to_owned()))
            .collect(),
        (Value::Array(elements), Some(Topology::Keyed(keys))) => elements
            .iter()
            .filter_map(|element| {
                Some((format!("k:{}", key_of(keys, element)?), element, path.to_owned()))
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn place_of(elements: &[Value], step: &str, shape: &Shape, path: &str) -> Option<usize> {
    elements.iter().position(|element| match shape.at(path) {
        Some(Topology::Keyed(keys)) => {
            key_of(keys, element).is_some_and(|key| step == format!("k:{key}"))
        }
        _ => step == format!("v:{element}"),
    })
}

fn step_into<'a>(
    value: &'a mut Value,
    step: &str,
    shape: &Shape,
    path: &str,
) -> Option<&'a mut Value> {
    match value {
        Value::Object(members) => members.get_mut(step.strip_prefix("f:")?),
        Value::Array(elements) => {
            let place = place_of(elements, step, shape, path)?;
            elements.get_mut(place)
        }
        _ => None,
    }
}

fn remove_step(value: &mut Value, step: &str, shape: &Shape, path: &str) {
    match value {
        Value::Object(members) => {
            if let Some(name) = step.strip_prefix("f:") {
                members.remove(name);
            }
        }
        Value::Array(elements) => {
            if let Some(place) = place_of(elements, step, shape, path) {
                elements.remove(place);
            }
        }
        _ => {}
    }
}
