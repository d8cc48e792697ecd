//! Manifests, YAML or JSON, to objects.
//!
//! A file holds any number of documents; a document is one object or a List of them (`v1` List,
//! or a typed one such as IngressList). Objects of kinds that Tidegate doesn't read are counted
//! and left alone. One object that can't be read doesn't keep its neighbours from being read.
//!
//! What the API server does to an object on its way in is done here too, so that objects are the
//! same from either source: the namespace defaults to `default`, and a Secret's `stringData`
//! becomes `data`. Names are checked as it checks them (RFC 1123, section 2.1).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{Diagnostic, Location, ObjectRef};

use crate::ObjectSet;
use crate::yaml;

mod found;
mod kinds;
mod memo;

use found::{Finding, Found, Identified};
pub use kinds::Object;
pub use memo::Memo;

/// What stands in one file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    /// Objects that can be used, in the file's order, no reference twice.
    pub objects: Vec<Entry>,
    /// Objects that are there but can't be used.
    pub broken: BTreeSet<ObjectRef>,
    /// What is wrong.
    pub diagnostics: Vec<Diagnostic>,
    /// How many objects of which other kinds there are: `apps/v1 Deployment`.
    pub ignored: BTreeMap<String, usize>,
    /// Something in the file can't even be told what object it is, so that one which isn't among
    /// `objects` or `broken` may be there nevertheless: it must not be taken as deleted.
    pub torn: bool,
}

/// One object of a file.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name.
    pub reference: ObjectRef,
    /// The object, shared with what else remembers it.
    pub object: Arc<Object>,
    /// Where it stands.
    pub location: Location,
}

impl Entry {
    /// Puts the object into the set, in place of one with the same name.
    pub fn insert_into(self, set: &mut ObjectSet) {
        set.origins.insert(self.reference.clone(), self.location);
        Arc::unwrap_or_clone(self.object).insert_into(&self.reference, set);
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.reference == other.reference
            && self.location == other.location
            // Mostly it is the very same, and need not be compared field by field.
            && (Arc::ptr_eq(&self.object, &other.object) || self.object == other.object)
    }
}

/// Parses a file. `file` is its name, for diagnostics.
pub fn parse(file: &str, text: &str) -> Parsed {
    let mut gatherer = Gatherer { file, parsed: Parsed::default(), seen: BTreeMap::new() };
    match yaml::documents(text) {
        Ok(documents) => gatherer.gather(&found::in_documents(&documents), 0),
        Err(error) => {
            let remedy = "mend it; nothing in it is read until then";
            let finding = Finding::error(error.line, "", error.reason, remedy);
            gatherer.gather(&[Found::Unidentified(finding)], 0);
        }
    }
    gatherer.parsed
}

/// The same as [`parse`], with the same outcome, but reads only the documents whose text isn't
/// that of one of the last time.
pub fn parse_with(file: &str, text: &str, memo: &mut Memo) -> Parsed {
    let Some(documents) = memo.read(text) else { return parse(file, text) };
    let mut gatherer = Gatherer { file, parsed: Parsed::default(), seen: BTreeMap::new() };
    for document in documents {
        gatherer.gather(&document.found, document.lines_before);
    }
    gatherer.parsed
}

/// How a file that can't be tied to an object is named in diagnostics.
pub fn file_reference(file: &str) -> ObjectRef {
    ObjectRef::cluster("File", file)
}

/// Puts together what stands in a file's documents.
struct Gatherer<'a> {
    file: &'a str,
    parsed: Parsed,
    /// Every object so far, usable or not, and its line.
    seen: BTreeMap<ObjectRef, u64>,
}

impl Gatherer<'_> {
    /// Takes in what stands in some documents, whose lines count from after `lines_before`.
    fn gather(&mut self, found: &[Found], lines_before: u64) {
        for found in found {
            match found {
                Found::Ignored(kind) => match self.parsed.ignored.get_mut(kind) {
                    Some(count) => *count += 1,
                    None => drop(self.parsed.ignored.insert(kind.clone(), 1)),
                },
                Found::Unidentified(finding) => {
                    self.parsed.torn = true;
                    self.report(file_reference(self.file), finding, lines_before);
                }
                Found::Identified(this) => self.identified(this, lines_before),
            }
        }
    }

    fn identified(&mut self, this: &Identified, lines_before: u64) {
        let location = self.location(this.line + lines_before);
        if let Some(first) = self.seen.get(&this.reference) {
            let reason = format!("stands in this file twice; the one in line {first} counts");
            self.parsed.diagnostics.push(
                Diagnostic::error(this.reference.clone(), "", reason)
                    .remedy("remove or rename one")
                    .at(Some(location)),
            );
            return;
        }
        self.seen.insert(this.reference.clone(), location.line);
        self.parsed.torn |= this.may_hide_another;
        for finding in &this.findings {
            self.report(this.reference.clone(), finding, lines_before);
        }
        let reference = this.reference.clone();
        match &this.object {
            Some(object) => {
                let object = Arc::clone(object);
                self.parsed.objects.push(Entry { reference, object, location });
            }
            None => drop(self.parsed.broken.insert(reference)),
        }
    }

    fn report(&mut self, object: ObjectRef, finding: &Finding, lines_before: u64) {
        let Finding { severity, field, line, reason, remedy } = finding;
        let mut diagnostic = Diagnostic::error(object, field.clone(), reason.clone())
            .remedy(remedy.clone())
            .at(Some(self.location(line + lines_before)));
        diagnostic.severity = *severity;
        self.parsed.diagnostics.push(diagnostic);
    }

    fn location(&self, line: u64) -> Location {
        Location { file: self.file.to_owned(), line }
    }
}

#[cfg(test)]
mod tests;
