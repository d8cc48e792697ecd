//! The kinds that are served: the built-in ones, and what CustomResourceDefinitions define.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::shape::Shape;

mod builtin;
mod definition;

pub(crate) use definition::kinds_of;

/// A kind in one version, as it is served.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    /// Its group, empty for the core.
    pub(crate) group: String,
    /// Its version, such as `v1`.
    pub(crate) version: String,
    /// Its name, such as `Ingress`.
    pub(crate) kind: String,
    /// Its name in paths, such as `ingresses`.
    pub(crate) plural: String,
    /// The singular of it.
    pub(crate) singular: String,
    /// What kubectl takes for it besides.
    pub(crate) short_names: Vec<String>,
    /// Groups of kinds that kubectl knows by a name, such as `all`.
    pub(crate) categories: Vec<String>,
    /// Whether its objects lie in namespaces.
    pub(crate) namespaced: bool,
    /// Whether `/status` is written apart.
    pub(crate) status: bool,
    /// Whether metadata.generation counts.
    pub(crate) generation: bool,
    /// Whether an update may come without a resourceVersion.
    pub(crate) unconditional: bool,
    /// Whether it is Kubernetes' own rather than of a CustomResourceDefinition.
    pub(crate) builtin: bool,
    /// Fields that field selectors may name, besides metadata.name and metadata.namespace.
    pub(crate) selectable: Vec<String>,
    /// The columns of `kubectl get`, of a custom kind.
    pub(crate) columns: Vec<Column>,
    /// The schema of a custom kind.
    pub(crate) schema: Option<Value>,
    /// How its lists and maps merge.
    pub(crate) shape: Shape,
    /// In which shelf of the store its objects lie.
    pub(crate) shelf: usize,
    /// Whether objects are converted on their way out and in.
    pub(crate) view: View,
}

/// A column of `kubectl get`.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    /// Its head.
    pub(crate) name: String,
    /// integer, string, boolean, date.
    pub(crate) kind: String,
    /// How the head's text is to be understood.
    pub(crate) format: String,
    /// Where the value stands.
    pub(crate) path: String,
    /// Above 0 it is shown only with `-o wide`.
    pub(crate) priority: i64,
    /// What it is.
    pub(crate) description: String,
}

/// How a kind's objects stand to those stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// They are the same.
    Plain,
    /// events.k8s.io/v1 over v1 Events.
    Events,
}

impl Kind {
    /// `ingresses.networking.k8s.io`, or `services` of the core.
    pub(crate) fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.plural.clone()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// `networking.k8s.io/v1`, or `v1` of the core.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// What the list's kind is called.
    pub(crate) fn list_kind(&self) -> String {
        format!("{}List", self.kind)
    }
}

/// All kinds served.
#[derive(Clone, Debug)]
pub(crate) struct Kinds {
    all: Vec<Arc<Kind>>,
    shelves: BTreeMap<String, usize>,
}

impl Default for Kinds {
    fn default() -> Self {
        let mut kinds = Self { all: Vec::new(), shelves: BTreeMap::new() };
        builtin::kinds().into_iter().for_each(|kind| kinds.add(kind));
        kinds
    }
}

impl Kinds {
    /// All of them, in the order that they came.
    pub(crate) fn all(&self) -> &[Arc<Kind>] {
        &self.all
    }

    /// How many shelves they need.
    pub(crate) fn shelves(&self) -> usize {
        self.shelves.len()
    }

    /// The kind of a path.
    pub(crate) fn at(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        self.all
            .iter()
            .find(|kind| kind.plural == plural && kind.group == group && kind.version == version)
    }

    /// The kind of an object.
    pub(crate) fn of(&self, api_version: &str, name: &str) -> Option<&Arc<Kind>> {
        self.all.iter().find(|kind| kind.kind == name && kind.api_version() == api_version)
    }

    /// By its name in paths, with the group: `services`, `ingresses.networking.k8s.io`.
    pub(crate) fn named(&self, qualified: &str) -> Option<&Arc<Kind>> {
        self.all.iter().find(|kind| kind.qualified() == qualified)
    }

    /// Adds a kind, or puts it in the place of the one that was there.
    pub(crate) fn add(&mut self, mut kind: Kind) {
        // Both groups of Events are the same objects.
        let shelf = match kind.view {
            View::Plain => kind.qualified(),
            View::Events => "events".to_owned(),
        };
        let next = self.shelves.len();
        kind.shelf = *self.shelves.entry(shelf).or_insert(next);
        let same = |other: &Arc<Kind>| {
            other.group == kind.group
                && other.version == kind.version
                && other.plural == kind.plural
        };
        match self.all.iter().position(same) {
            Some(place) => self.all[place] = Arc::new(kind),
            None => self.all.push(Arc::new(kind)),
        }
    }

    /// Takes out what a definition brought.
    pub(crate) fn remove(&mut self, qualified: &str) {
        self.all.retain(|kind| kind.builtin || kind.qualified() != qualified);
    }
}
