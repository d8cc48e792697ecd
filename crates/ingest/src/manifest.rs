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

use model::{Diagnostic, Location, ObjectKey, ObjectRef};

use crate::ObjectSet;
use crate::yaml::{self, Content, FieldPath, Node, Segment};

mod kinds;

pub use kinds::Object;
use kinds::{Kind, Known};

const TWICE: &str = "stands here twice";
const REMOVE_ONE: &str = "remove or rename one of the two";

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
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name.
    pub reference: ObjectRef,
    /// The object.
    pub object: Object,
    /// Where it stands.
    pub location: Location,
}

impl Entry {
    /// Puts the object into the set, in place of one with the same name.
    pub fn insert_into(self, set: &mut ObjectSet) {
        set.origins.insert(self.reference.clone(), self.location);
        self.object.insert_into(&self.reference, set);
    }
}

/// Parses a file. `file` is its name, for diagnostics.
pub fn parse(file: &str, text: &str) -> Parsed {
    let mut reader = Reader { file, parsed: Parsed::default(), seen: BTreeMap::new() };
    match yaml::documents(text) {
        Ok(documents) => documents.iter().for_each(|document| reader.document(document, None)),
        Err(error) => {
            reader.unidentified(
                error.line,
                "",
                error.reason,
                "mend it; nothing in it is read until then",
            );
        }
    }
    reader.parsed
}

/// How a file that can't be tied to an object is named in diagnostics.
pub fn file_reference(file: &str) -> ObjectRef {
    ObjectRef::cluster("File", file)
}

struct Reader<'a> {
    file: &'a str,
    parsed: Parsed,
    /// Every object so far, usable or not, and its line.
    seen: BTreeMap<ObjectRef, u64>,
}

/// What a typed List's items needn't say for themselves.
#[derive(Clone, Copy)]
struct Inherited<'a> {
    api_version: &'a str,
    kind: &'a str,
}

impl Reader<'_> {
    /// Reads a document, or a List's item: one object, or a List of them.
    fn document(&mut self, node: &Node, inherited: Option<Inherited<'_>>) {
        let Some(Inherited { api_version, kind }) = self.type_of(node, inherited) else { return };
        if let Some(of) = kind.strip_suffix("List")
            && let Some(items) = node.field("items")
        {
            self.list(node, items, Inherited { api_version, kind: of });
            return;
        }
        match Kind::find(api_version, kind) {
            Known::Read(kind) => self.object(node, kind),
            Known::WrongVersion(kind) => self.wrong_version(node, kind, api_version),
            Known::Other => {
                *self.parsed.ignored.entry(format!("{api_version} {kind}")).or_default() += 1;
            }
        }
    }

    fn list(&mut self, list: &Node, items: &Node, of: Inherited<'_>) {
        for (path, line) in list.duplicate_keys() {
            // Those within an item are the item's own affair.
            if path.segments().len() == 1 {
                self.unidentified(line, &path.to_string(), TWICE, REMOVE_ONE);
            }
        }
        let inherited = (!of.kind.is_empty()).then_some(of);
        match &items.content {
            Content::List(items) => items.iter().for_each(|item| self.document(item, inherited)),
            Content::Null => {}
            other => {
                let reason = format!("must be a list of objects, and is {other}");
                self.unidentified(items.line, "items", reason, "write each object after a dash");
            }
        }
    }

    fn object(&mut self, node: &Node, kind: Kind) {
        let Some(reference) = self.identify(node, kind) else { return };
        let duplicates = node.duplicate_keys();
        for (path, line) in &duplicates {
            // With two kinds or names there may be an object behind this that isn't seen.
            self.parsed.torn |= is_identity(path);
            self.refuse(&reference, &path.to_string(), *line, TWICE, REMOVE_ONE);
        }
        if !duplicates.is_empty() {
            return;
        }
        match kind.read(node, &reference) {
            Ok(typed) => {
                for (path, line) in typed.unknown {
                    let reason = format!("is not a field of {kind}, and has no effect");
                    let remedy = "correct its name (upper and lower case matter) or remove it";
                    self.parsed.diagnostics.push(
                        Diagnostic::warning(reference.clone(), path.to_string(), reason)
                            .remedy(remedy)
                            .at(self.location(line)),
                    );
                }
                let location = Location { file: self.file.to_owned(), line: node.line };
                self.parsed.objects.push(Entry { reference, object: typed.value, location });
            }
            Err(error) => {
                let path = error.path.to_string();
                self.refuse(&reference, &path, error.line, error.reason, error.remedy);
            }
        }
    }

    fn wrong_version(&mut self, node: &Node, kind: Kind, api_version: &str) {
        let Some(reference) = self.identify(node, kind) else { return };
        let line = node.line_of(&FieldPath::of(["apiVersion"]));
        let reason = format!("{api_version:?} is not a version of {kind} that is read");
        let remedy = format!("write {} and that version's fields", kind.api_version());
        self.refuse(&reference, "apiVersion", line, reason, remedy);
    }

    /// The document's apiVersion and kind; none, with a diagnostic, if it has none.
    fn type_of<'a>(
        &mut self,
        node: &'a Node,
        inherited: Option<Inherited<'a>>,
    ) -> Option<Inherited<'a>> {
        if !matches!(node.content, Content::Map(_)) {
            let reason = "is not a Kubernetes object";
            self.unidentified(node.line, "", reason, "write apiVersion, kind and metadata");
            return None;
        }
        let mut text = |field: &str, inherited: Option<&'a str>| match node.field(field) {
            None if inherited.is_some() => inherited,
            Some(Node { content: Content::Text(text), .. }) => Some(text.as_str()),
            value => {
                let line = node.line_of(&FieldPath::of([field]));
                let reason = if value.is_some() { "must be text" } else { "is missing" };
                let remedy = "every object needs it, such as apiVersion: v1 and kind: Service";
                self.unidentified(line, field, reason, remedy);
                None
            }
        };
        let api_version = text("apiVersion", inherited.map(|from| from.api_version))?;
        let kind = text("kind", inherited.map(|from| from.kind))?;
        Some(Inherited { api_version, kind })
    }

    /// The object's name; none, with a diagnostic, if it has none or stands further up already.
    fn identify(&mut self, node: &Node, kind: Kind) -> Option<ObjectRef> {
        let metadata = node.field("metadata");
        let mut part = |name: &str, default: Option<&'static str>, valid: fn(&str) -> bool| {
            let reason = match metadata.and_then(|metadata| metadata.field(name)) {
                None if default.is_some() => return default.map(str::to_owned),
                None => format!("is missing; every {kind} needs it"),
                Some(Node { content: Content::Null, .. }) if default.is_some() => {
                    return default.map(str::to_owned);
                }
                Some(Node { content: Content::Text(text), .. }) if valid(text) => {
                    return Some(text.clone());
                }
                Some(Node { content, .. }) => format!("{:?} is no valid name", content.to_string()),
            };
            let line = node.line_of(&FieldPath::of(["metadata", name]));
            let remedy = "names are lower-case letters, digits and dashes, as text";
            self.unidentified(line, &format!("metadata.{name}"), reason, remedy);
            None
        };
        let name = part("name", None, is_subdomain)?;
        let reference = if kind.is_namespaced() {
            let namespace = part("namespace", Some("default"), is_label)?;
            ObjectRef::namespaced(kind.name(), &ObjectKey::new(namespace, name))
        } else {
            ObjectRef::cluster(kind.name(), name)
        };
        if let Some(first) = self.seen.get(&reference) {
            let reason = format!("stands in this file twice; the one in line {first} counts");
            self.parsed.diagnostics.push(
                Diagnostic::error(reference, "", reason)
                    .remedy("remove or rename one")
                    .at(self.location(node.line)),
            );
            return None;
        }
        self.seen.insert(reference.clone(), node.line);
        Some(reference)
    }

    /// Something is wrong, and it isn't known with which object.
    fn unidentified(
        &mut self,
        line: u64,
        field: &str,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.parsed.torn = true;
        self.parsed.diagnostics.push(
            Diagnostic::error(file_reference(self.file), field, reason)
                .remedy(remedy)
                .at(self.location(line)),
        );
    }

    fn refuse(
        &mut self,
        reference: &ObjectRef,
        field: &str,
        line: u64,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.parsed.broken.insert(reference.clone());
        self.parsed.diagnostics.push(
            Diagnostic::error(reference.clone(), field, reason)
                .remedy(remedy)
                .at(self.location(line)),
        );
    }

    fn location(&self, line: u64) -> Option<Location> {
        Some(Location { file: self.file.to_owned(), line })
    }
}

/// Whether the field may be part of what says which object a document is.
fn is_identity(path: &FieldPath) -> bool {
    match path.segments().first() {
        Some(Segment::Key(key)) => ["apiVersion", "kind", "metadata"].contains(&key.as_str()),
        _ => false,
    }
}

/// A DNS label (RFC 1123): at most 63 lower-case letters, digits and inner dashes.
fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_label_of_any_length(text)
}

/// DNS labels with dots between them. Their length is limited together only, as the API server
/// does it.
fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label_of_any_length)
}

fn is_label_of_any_length(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests;
