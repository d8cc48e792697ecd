//! What stands in a document by itself: without its file, its place there, and its neighbours.

use std::sync::Arc;

use model::{ObjectKey, ObjectRef, Severity};

use super::kinds::{Kind, Known, Object};
use crate::yaml::{Content, FieldPath, Node, Segment};

const TWICE: &str = "stands here twice";
const REMOVE_ONE: &str = "remove or rename one of the two";

/// Something that stands in a document. Lines are as in its nodes.
pub(super) enum Found {
    /// An object of a kind that isn't read: `apps/v1 Deployment`.
    Ignored(String),
    /// Something is wrong, and it isn't known with which object.
    Unidentified(Finding),
    /// An object, usable or not.
    Identified(Identified),
}

/// An object whose name is known.
pub(super) struct Identified {
    pub(super) reference: ObjectRef,
    pub(super) line: u64,
    /// None if it can't be used.
    pub(super) object: Option<Arc<Object>>,
    /// With two kinds or names there may be an object behind this that isn't seen.
    pub(super) may_hide_another: bool,
    pub(super) findings: Vec<Finding>,
}

/// A diagnostic that doesn't say yet of what.
pub(super) struct Finding {
    pub(super) severity: Severity,
    pub(super) field: String,
    pub(super) line: u64,
    pub(super) reason: String,
    pub(super) remedy: String,
}

impl Finding {
    pub(super) fn error(
        line: u64,
        field: &str,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            severity: Severity::Error,
            field: field.to_owned(),
            line,
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }
}

/// What stands in the documents, in their order.
pub(super) fn in_documents(documents: &[Node]) -> Vec<Found> {
    let mut reader = Reader::default();
    documents.iter().for_each(|document| reader.document(document, None));
    reader.found
}

#[derive(Default)]
struct Reader {
    found: Vec<Found>,
}

/// What a typed List's items needn't say for themselves.
#[derive(Clone, Copy)]
struct Inherited<'a> {
    api_version: &'a str,
    kind: &'a str,
}

impl Reader {
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
            Known::NoneOfOurs => self.none_of_ours(node, api_version, kind),
            Known::Other => self.found.push(Found::Ignored(format!("{api_version} {kind}"))),
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
        let Some(mut this) = self.identify(node, kind) else { return };
        let duplicates = node.duplicate_keys();
        if duplicates.is_empty() {
            this.read(node, kind);
        }
        for (path, line) in duplicates {
            this.may_hide_another |= is_identity(&path);
            this.findings.push(Finding::error(line, &path.to_string(), TWICE, REMOVE_ONE));
        }
        self.found.push(Found::Identified(this));
    }

    fn wrong_version(&mut self, node: &Node, kind: Kind, api_version: &str) {
        let Some(mut this) = self.identify(node, kind) else { return };
        let line = node.line_of(&FieldPath::of(["apiVersion"]));
        let reason = format!("{api_version:?} is not a version of {kind} that is read");
        let remedy = format!("write {} and that version's fields", kind.api_version());
        this.findings.push(Finding::error(line, "apiVersion", reason, remedy));
        self.found.push(Found::Identified(this));
    }

    /// A misspelt kind of Tidegate's own group: to leave it alone would leave out what was meant.
    fn none_of_ours(&mut self, node: &Node, api_version: &str, kind: &str) {
        let name = match node.field("metadata").and_then(|metadata| metadata.field("name")) {
            Some(Node { content: Content::Text(name), .. }) => format!(" (object {name:?})"),
            _ => String::new(),
        };
        let line = node.line_of(&FieldPath::of(["kind"]));
        let reason = format!("{kind:?} is no kind of {api_version}{name}");
        let remedy =
            format!("write {}; upper and lower case matter", Kind::ours_like(kind).join(" or "));
        self.unidentified(line, "kind", reason, remedy);
    }

    /// The document's apiVersion and kind; none, with a finding, if it has none.
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

    /// The object, by its name only; none, with a finding, if it has none.
    fn identify(&mut self, node: &Node, kind: Kind) -> Option<Identified> {
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
        let name = kind.canonical_name(part("name", None, is_subdomain)?);
        let reference = if kind.is_namespaced() {
            let namespace = part("namespace", Some("default"), is_label)?;
            ObjectRef::namespaced(kind.name(), &ObjectKey::new(namespace, name))
        } else {
            ObjectRef::cluster(kind.name(), name)
        };
        Some(Identified {
            reference,
            line: node.line,
            object: None,
            may_hide_another: false,
            findings: Vec::new(),
        })
    }

    fn unidentified(
        &mut self,
        line: u64,
        field: &str,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.found.push(Found::Unidentified(Finding::error(line, field, reason, remedy)));
    }
}

impl Identified {
    /// Reads all of the object.
    fn read(&mut self, node: &Node, kind: Kind) {
        match kind.read(node, &self.reference) {
            Ok(typed) => {
                self.findings.extend(typed.unknown.iter().map(|(path, line)| Finding {
                    severity: Severity::Warning,
                    field: path.to_string(),
                    line: *line,
                    reason: format!("is not a field of {kind}, and has no effect"),
                    remedy: "correct its name (upper and lower case matter) or remove it".into(),
                }));
                self.object = Some(Arc::new(typed.value));
            }
            Err(error) => {
                let field = error.path.to_string();
                self.findings.push(Finding::error(error.line, &field, error.reason, error.remedy));
            }
        }
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
pub(super) fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_label_of_any_length(text)
}

/// DNS labels with dots between them. Their length is limited together only, as the API server
/// does it.
pub(super) fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label_of_any_length)
}

fn is_label_of_any_length(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}
