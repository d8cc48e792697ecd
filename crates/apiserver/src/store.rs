//! What is stored: one counter of versions over everything, a shelf of objects for each resource
//! with the history that watches read, and compaction.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::watch;

use crate::admit::Ranges;
use crate::kinds::{Kind, Kinds};
use crate::object::Object;
use crate::refusal::Refusal;

/// The store. Everything that reads or writes takes its lock for as long as it takes, which makes
/// every request one step.
#[derive(Debug)]
pub(crate) struct Store {
    contents: Mutex<Contents>,
}

/// What is in it.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) kinds: Arc<Kinds>,
    pub(crate) version: u64,
    shelves: Vec<Shelf>,
    history: usize,
    /// Secret of this run, so that continue tokens of another are told apart.
    pub(crate) run: u32,
    /// What Services are given.
    pub(crate) ranges: Ranges,
    /// Whether an object can be created only in a namespace that exists.
    pub(crate) namespaces_must_exist: bool,
}

#[derive(Debug)]
struct Shelf {
    objects: BTreeMap<String, Arc<Object>>,
    history: VecDeque<Change>,
    /// From which version on one may still ask.
    compacted: u64,
    /// The version of the last change that is no longer in the history.
    dropped: u64,
    changed: watch::Sender<u64>,
}

/// What happened to an object.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) version: u64,
    /// None before it was there.
    pub(crate) before: Option<Arc<Object>>,
    /// As it is now; when it was removed: as it was, with the removal's version.
    pub(crate) object: Arc<Object>,
    pub(crate) removed: bool,
}

impl Store {
    /// An empty store, which keeps the given number of changes for each resource.
    pub(crate) fn new(history: usize) -> Self {
        let mut contents = Contents {
            kinds: Arc::default(),
            // High and different each time, so that nobody counts on it.
            version: fastrand::u64(1_000_000..100_000_000),
            shelves: Vec::new(),
            history: history.max(1),
            run: fastrand::u32(..),
            ranges: Ranges::default(),
            namespaces_must_exist: true,
        };
        contents.fit();
        Self { contents: Mutex::new(contents) }
    }

    /// Everything, locked.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    /// The version of the last change.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Changes the kinds served.
    pub(crate) fn change_kinds(&mut self, change: impl FnOnce(&mut Kinds)) {
        change(Arc::make_mut(&mut self.kinds));
        self.fit();
    }

    fn fit(&mut self) {
        while self.shelves.len() < self.kinds.shelves() {
            self.shelves.push(Shelf {
                objects: BTreeMap::new(),
                history: VecDeque::new(),
                compacted: 0,
                dropped: 0,
                changed: watch::Sender::new(0),
            });
        }
    }

    fn shelf(&self, kind: &Kind) -> &Shelf {
        &self.shelves[kind.shelf]
    }

    /// One object.
    pub(crate) fn get(&self, kind: &Kind, key: &str) -> Option<&Arc<Object>> {
        self.shelf(kind).objects.get(key)
    }

    /// A kind's objects in the order of their keys, of one namespace if one is given.
    pub(crate) fn all<'a>(
        &'a self,
        kind: &Kind,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Arc<Object>> {
        let from = namespace.map(|namespace| format!("{namespace}/")).unwrap_or_default();
        self.shelf(kind)
            .objects
            .range(from..)
            .map(|(_, object)| object)
            .take_while(move |object| namespace.is_none_or(|wanted| object.namespace == wanted))
    }

    /// A kind's objects as they were at a version, or why that can't be told any more.
    pub(crate) fn all_at(
        &self,
        kind: &Kind,
        version: u64,
    ) -> Result<BTreeMap<String, Arc<Object>>, Refusal> {
        let shelf = self.shelf(kind);
        if version < shelf.compacted {
            return Err(Refusal::too_old(version, shelf.compacted));
        }
        let mut objects = shelf.objects.clone();
        for change in shelf.history.iter().rev().take_while(|change| change.version > version) {
            let key = change.object.key();
            match &change.before {
                Some(before) => objects.insert(key, before.clone()),
                None => objects.remove(&key),
            };
        }
        Ok(objects)
    }

    /// Whether a watch may begin behind a version.
    pub(crate) fn reaches_back_to(&self, kind: &Kind, version: u64) -> Result<(), Refusal> {
        let shelf = self.shelf(kind);
        if version < shelf.compacted {
            return Err(Refusal::too_old(version, shelf.compacted));
        }
        Ok(())
    }

    /// At most `limit` changes since a version, and up to which version that is everything. None
    /// where changes between are forgotten.
    pub(crate) fn since(
        &self,
        kind: &Kind,
        version: u64,
        limit: usize,
    ) -> Option<(Vec<Change>, u64)> {
        let shelf = self.shelf(kind);
        if version < shelf.dropped {
            return None;
        }
        let from = shelf.history.partition_point(|change| change.version <= version);
        let changes: Vec<Change> = shelf.history.range(from..).take(limit).cloned().collect();
        let upto = match changes.last() {
            Some(last) if changes.len() == limit => last.version,
            _ => self.version,
        };
        Some((changes, upto))
    }

    /// The version of the last change of a kind's objects; 0 before there was any.
    pub(crate) fn last_change(&self, kind: &Kind) -> u64 {
        *self.shelf(kind).changed.borrow()
    }

    /// Tells of changes of a kind's objects.
    pub(crate) fn subscribe(&self, kind: &Kind) -> watch::Receiver<u64> {
        self.shelf(kind).changed.subscribe()
    }

    /// Stores a value, with the next version.
    pub(crate) fn put(&mut self, kind: &Kind, mut value: Value) -> Arc<Object> {
        self.version += 1;
        value["metadata"]["resourceVersion"] = self.version.to_string().into();
        let object = Arc::new(Object::new(kind, &value));
        let before = self.shelves[kind.shelf].objects.insert(object.key(), object.clone());
        self.record(kind, before, object.clone(), false);
        object
    }

    /// Removes an object, with the next version; its last state is returned.
    pub(crate) fn remove(&mut self, kind: &Kind, key: &str) -> Option<Arc<Object>> {
        let before = self.shelves[kind.shelf].objects.remove(key)?;
        self.version += 1;
        let object = Arc::new(at_version(kind, &before, self.version));
        self.record(kind, Some(before), object.clone(), true);
        Some(object)
    }

    fn record(
        &mut self,
        kind: &Kind,
        before: Option<Arc<Object>>,
        object: Arc<Object>,
        removed: bool,
    ) {
        let version = self.version;
        let shelf = &mut self.shelves[kind.shelf];
        shelf.history.push_back(Change { version, before, object, removed });
        while shelf.history.len() > self.history {
            if let Some(oldest) = shelf.history.pop_front() {
                shelf.compacted = oldest.version;
                shelf.dropped = oldest.version;
            }
        }
        shelf.changed.send_replace(version);
    }

    /// Forgets all history: a watch or a paged list from before is told 410.
    pub(crate) fn compact(&mut self) {
        for shelf in &mut self.shelves {
            if let Some(last) = shelf.history.back() {
                shelf.dropped = last.version;
            }
            shelf.history.clear();
            shelf.compacted = self.version;
        }
    }
}

/// The same object with another version.
pub(crate) fn at_version(kind: &Kind, object: &Object, version: u64) -> Object {
    let mut value = object.value();
    value["metadata"]["resourceVersion"] = version.to_string().into();
    Object::new(kind, &value)
}
