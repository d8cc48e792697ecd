//! Documents that were read before.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::found::{self, Found};
use crate::yaml::{self, Piece};

/// What stood in a file's documents when it was last read, so that only those whose text is
/// another are read again. Holds no more than that one text's documents.
#[derive(Default)]
pub struct Memo {
    /// By text. Lines count from the document's first.
    known: HashMap<Box<str>, Arc<[Found]>>,
}

/// A document, or some that stand together.
pub(super) struct Read {
    /// To be added to its lines.
    pub(super) lines_before: u64,
    pub(super) found: Arc<[Found]>,
}

impl Memo {
    /// How many documents it holds; those that are the same count once.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether it holds no document.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Reads a text's documents one by one; none if it has to be read as a whole.
    pub(super) fn read(&mut self, text: &str) -> Option<Vec<Read>> {
        let Some(pieces) = yaml::pieces(text) else {
            self.known.clear();
            return None;
        };
        let mut known: HashMap<Box<str>, _> = HashMap::with_capacity(pieces.len());
        let mut all = Vec::with_capacity(pieces.len());
        for Piece { lines_before, text } in pieces {
            let found = match self.known.get(text).or_else(|| known.get(text)) {
                Some(found) => Arc::clone(found),
                // What is known stays, for the time when the text is mended.
                None => found::in_documents(&yaml::documents(text).ok()?).into(),
            };
            known.insert(text.into(), Arc::clone(&found));
            all.push(Read { lines_before, found });
        }
        self.known = known;
        Some(all)
    }
}

/// Only how much it holds: documents may hold secrets.
impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memo").field("documents", &self.len()).finish()
    }
}

#[cfg(test)]
mod tests;
