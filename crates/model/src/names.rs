//! How objects are named.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A namespaced object's name. Displayed as `namespace/name`.
///
/// Copies are one in memory: maps of all objects are copied for each change of one, and two keys
/// that are one need not be compared letter by letter.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ObjectKey(Arc<Parts>);

/// What an [`ObjectKey`] consists of.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Parts {
    /// The namespace (RFC 1123 label).
    pub namespace: String,
    /// The name within the namespace.
    pub name: String,
}

impl ObjectKey {
    /// Puts a key together from its two parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self(Arc::new(Parts { namespace: namespace.into(), name: name.into() }))
    }
}

impl Deref for ObjectKey {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Ord for ObjectKey {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
    }
}

impl PartialOrd for ObjectKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Serialize for ObjectKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ObjectKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Parts::deserialize(deserializer).map(|parts| Self(Arc::new(parts)))
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Any object, with its kind. Displayed as `Kind namespace/name`, or `Kind name` where the kind
/// is cluster-scoped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectRef {
    /// The kind, as in the manifest: `Ingress`, `Service`, …
    pub kind: String,
    /// The namespace, none for cluster-scoped kinds.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

impl ObjectRef {
    /// A reference to the namespaced object `key` of the kind.
    pub fn namespaced(kind: impl Into<String>, key: &ObjectKey) -> Self {
        Self { kind: kind.into(), namespace: Some(key.namespace.clone()), name: key.name.clone() }
    }

    /// A reference to a cluster-scoped object.
    pub fn cluster(kind: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind: kind.into(), namespace: None, name: name.into() }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}
