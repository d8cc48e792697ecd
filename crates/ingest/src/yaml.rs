//! YAML and JSON with line numbers: text to [`Node`]s, and nodes to typed values whose errors
//! name field and line.
//!
//! YAML 1.2 (<https://yaml.org/spec/1.2.2/>) through `serde-saphyr`, of which JSON is a part. Only
//! `true` and `false` are booleans: `no`, `on` and `y` are text. Text is never taken as code: there
//! are no includes, and unknown tags mean nothing.

use serde::de::DeserializeOwned;
use serde_saphyr::{DuplicateKeyPolicy, NonFiniteFloatPolicy, Options};

mod de;
mod node;
mod path;
mod pieces;

pub use node::{Content, Key, Node};
pub use path::{FieldPath, Segment};
pub use pieces::{Piece, pieces};

/// Largest text that is read, in bytes.
pub const MAX_BYTES: usize = 16 << 20;

/// Deepest nesting of lists and maps that is read.
const MAX_DEPTH: usize = 64;

/// Most nodes that aliases may stand for in one text; more is an attack or a mistake.
const MAX_ALIASED_NODES: usize = 100_000;

/// Most bytes that scalars may have together, what aliases repeat included.
const MAX_SCALAR_BYTES: usize = 2 * MAX_BYTES;

/// The text as a whole can't be read, so nothing is known of what stands in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct SyntaxError {
    /// The line, from 1; 0 for the whole text.
    pub line: u64,
    /// What is wrong with it. Never quotes values from the text.
    pub reason: String,
}

/// A field doesn't fit its type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct FieldError {
    /// The field; empty for the whole document.
    pub path: FieldPath,
    /// Its line, from 1.
    pub line: u64,
    /// What is wrong. May quote the field's value.
    pub reason: String,
    /// What to write instead, empty where that isn't plain.
    pub remedy: String,
}

/// A typed value, and what of the document it has no place for.
#[derive(Clone, Debug, PartialEq)]
pub struct Typed<T> {
    /// The value.
    pub value: T,
    /// Fields that the type doesn't know, with their lines.
    pub unknown: Vec<(FieldPath, u64)>,
}

impl<T> Typed<T> {
    /// The same with another value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Typed<U> {
        Typed { value: f(self.value), unknown: self.unknown }
    }
}

/// Parses a text of any number of documents; empty ones are left out.
///
/// Duplicate keys are kept, for [`Node::duplicate_keys`] to find: they spoil one document, not
/// the whole text.
///
/// # Errors
/// [`SyntaxError`] if the text is over [`MAX_BYTES`], isn't YAML, is nested too deeply or has
/// aliases that multiply.
pub fn documents(text: &str) -> Result<Vec<Node>, SyntaxError> {
    if text.len() > MAX_BYTES {
        let reason = format!("has {} bytes; at most {MAX_BYTES} are read", text.len());
        return Err(SyntaxError { line: 0, reason });
    }
    let strict = match parse(text, DuplicateKeyPolicy::Error) {
        Ok(nodes) => return Ok(nodes),
        Err(error) => error,
    };
    if matches!(strict.without_snippet(), serde_saphyr::Error::DuplicateMappingKey { .. }) {
        // The parser collapses some duplicates by itself (numbers written differently). If what
        // it refused at first isn't to be seen in the nodes, the refusal stands.
        match parse(text, DuplicateKeyPolicy::LastWins) {
            Ok(nodes) if nodes.iter().any(|node| !node.duplicate_keys().is_empty()) => {
                return Ok(nodes);
            }
            Ok(_) => {}
            Err(error) => return Err(syntax_error(&error)),
        }
    }
    Err(syntax_error(&strict))
}

/// Turns a node into a typed value.
///
/// # Errors
/// [`FieldError`] for the first field that doesn't fit.
pub fn typed<T: DeserializeOwned>(node: &Node) -> Result<Typed<T>, FieldError> {
    let mut unknown = Vec::new();
    let result = serde_ignored::deserialize(node, |path| {
        let path = FieldPath::from(&path);
        let line = node.line_of(&path);
        unknown.push((path, line));
    });
    match result {
        Ok(value) => Ok(Typed { value, unknown }),
        Err(error) => {
            let path = path_of_error::<T>(node);
            let reason = error.to_string();
            let remedy = remedy(node.get(&path), &reason);
            Err(FieldError { line: node.line_of(&path), path, reason, remedy })
        }
    }
}

/// Where a value doesn't fit its type. Found by reading it once more, since to remember the way
/// to every field costs more than reading it, and mostly for nothing.
fn path_of_error<T: DeserializeOwned>(node: &Node) -> FieldPath {
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(node, &mut track);
    let _ = T::deserialize(deserializer);
    FieldPath::from(&track.path())
}

fn parse(text: &str, duplicates: DuplicateKeyPolicy) -> Result<Vec<Node>, serde_saphyr::Error> {
    serde_saphyr::from_multiple_with_options(text, options(text.len(), duplicates))
}

/// Limits against texts that cost more than their size: depth, aliases, and nothing else, since
/// what is left grows with the text, which has its own limit.
fn options(bytes: usize, duplicates: DuplicateKeyPolicy) -> Options {
    serde_saphyr::options! {
        duplicate_keys: duplicates,
        non_finite_float_policy: NonFiniteFloatPolicy::Reject,
        strict_booleans: true,
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_documents: bytes + 1,
            max_events: 4 * bytes + MAX_ALIASED_NODES,
            max_nodes: 4 * bytes + MAX_ALIASED_NODES,
            max_total_scalar_bytes: MAX_SCALAR_BYTES,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_ALIASED_NODES,
            max_replay_stack_depth: MAX_DEPTH,
        },
    }
}

fn syntax_error(error: &serde_saphyr::Error) -> SyntaxError {
    use serde_saphyr::Error;
    let line = error.location().map_or(0, |location| location.line());
    let mut cause = error.without_snippet();
    while let Error::AliasError { error, .. } = cause {
        cause = error.without_snippet();
    }
    let reason = match cause {
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasReplayCounterOverflow { .. } => {
            format!("is nested over {MAX_DEPTH} levels deep, or its aliases multiply too much")
        }
        // Its own text quotes the value, which may be a secret's.
        Error::NonFiniteFloat { .. } => {
            "a number that is too large or not a number; put it in quotes if it is text".to_owned()
        }
        Error::ExternalMessage { msg, .. } => format!("is not valid YAML: {msg}"),
        other => format!("is not valid YAML: {other}"),
    };
    SyntaxError { line, reason }
}

/// The commonest slips are quotes too few or too many.
fn remedy(node: Option<&Node>, reason: &str) -> String {
    let Some(node) = node else { return String::new() };
    if reason.ends_with("expected a string") {
        return match &node.content {
            Content::Bool(_) | Content::Unsigned(_) | Content::Signed(_) | Content::Float(_) => {
                format!("put it in quotes: \"{}\"", node.content)
            }
            Content::Null => "write \"\" for an empty text".to_owned(),
            _ => String::new(),
        };
    }
    match &node.content {
        Content::Text(text) if reason.starts_with("invalid type: string") => {
            if text.parse::<i64>().is_ok() || text == "true" || text == "false" {
                format!("write it without quotes: {text}")
            } else {
                String::new()
            }
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
