//! Diagnostics on their way out.

use std::collections::BTreeMap;

use model::{Diagnostic, Location, ObjectRef};

/// For findings that get their place later.
pub(crate) static NOWHERE: BTreeMap<ObjectRef, Location> = BTreeMap::new();

/// Collects findings and adds where each object was read.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    origins: &'a BTreeMap<ObjectRef, Location>,
    diagnostics: Vec<Diagnostic>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(origins: &'a BTreeMap<ObjectRef, Location>) -> Self {
        Self { origins, diagnostics: Vec::new() }
    }

    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        let location = self.location(&diagnostic.object);
        self.diagnostics.push(diagnostic.at(location));
    }

    pub(crate) fn location(&self, object: &ObjectRef) -> Option<Location> {
        self.origins.get(object).cloned()
    }

    /// All findings in order, each once.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        self.diagnostics.sort();
        self.diagnostics.dedup();
        self.diagnostics
    }
}

/// A value as it may stand in a diagnostic: not endlessly long.
pub(crate) fn shown(value: &str) -> String {
    const LIMIT: usize = 120;
    match value.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}
