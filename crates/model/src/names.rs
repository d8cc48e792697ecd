//! How objects are named.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A namespaced object's name. Displayed as `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectKey {
    /// The namespace (RFC 1123 label).
    pub namespace: String,
    /// The name within the namespace.
    pub name: String,
}

impl ObjectKey {
    /// Puts a key together from its two parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
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
