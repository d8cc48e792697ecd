//! From a file's text to a type.

use std::path::Path;

use ingest::yaml::{self, Content, FieldPath, Node};
use serde::de::DeserializeOwned;

use crate::ConfigError;

/// A configuration file's text.
///
/// # Errors
/// If it can't be read.
pub fn text(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| {
        let reason = format!("can't be read: {error}");
        ConfigError::of_file(&path.to_string_lossy(), 0, reason)
            .remedy("name the configuration file with --config")
    })
}

/// Reads the text of a file that has to hold one document of a kind; `name` is for errors. The
/// document comes along for its lines.
///
/// # Errors
/// For the first thing that is wrong with it.
pub fn read<T: DeserializeOwned>(
    name: &str,
    text: &str,
    api_version: &str,
    kind: &str,
) -> Result<(T, Node), ConfigError> {
    let documents = yaml::documents(text)
        .map_err(|error| ConfigError::of_file(name, error.line, error.reason))?;
    let document = match <[Node; 1]>::try_from(documents) {
        Ok([document]) => document,
        Err(documents) => {
            let line = documents.get(1).map_or(0, |second| second.line);
            let reason = format!("holds {} YAML documents, not one", documents.len());
            return Err(ConfigError::of_file(name, line, reason)
                .remedy(format!("write one, with apiVersion: {api_version} and kind: {kind}")));
        }
    };
    if let Some((path, line)) = document.duplicate_keys().into_iter().next() {
        let error = ConfigError::of_file(name, line, "stands here twice");
        return Err(ConfigError { key: path.to_string(), ..error }.remedy("remove one"));
    }
    // Another kind of file is better told so than that it has unknown keys.
    for (key, expected) in [("apiVersion", api_version), ("kind", kind)] {
        let found = document.field(key).map(|node| &node.content);
        if !matches!(found, Some(Content::Text(text)) if text == expected) {
            let reason = found.map_or("is missing".to_owned(), |found| format!("is {found}"));
            let line = document.line_of(&FieldPath::of([key]));
            let error = ConfigError::of_file(name, line, reason);
            let error = ConfigError { key: key.to_owned(), ..error };
            return Err(error.remedy(format!("write {key}: {expected}")));
        }
    }
    match yaml::typed(&document) {
        Ok(typed) => Ok((typed.value, document)),
        Err(error) => {
            let wrong = ConfigError::of_file(name, error.line, plain(&error.reason));
            Err(ConfigError { key: error.path.to_string(), ..wrong }.remedy(error.remedy))
        }
    }
}

/// A type's name for programmers, at the end of serde's message, in plain words.
fn plain(reason: &str) -> String {
    const WORDS: [(&str, &str); 8] = [
        ("u8", "a whole number from 0 to 255"),
        ("u16", "a whole number from 0 to 65535"),
        ("u32", "a whole number from 0"),
        ("u64", "a whole number from 0"),
        ("usize", "a whole number from 0"),
        ("a boolean", "true or false"),
        ("a string", "text"),
        ("a sequence", "a list, such as [\"one\", \"two\"]"),
    ];
    let Some((before, expected)) = reason.rsplit_once(", expected ") else {
        return reason.to_owned();
    };
    let words = if expected.starts_with("struct ") {
        Some("keys with their values")
    } else {
        WORDS.iter().find(|(name, _)| *name == expected).map(|(_, words)| *words)
    };
    words.map_or_else(|| reason.to_owned(), |words| format!("{before}, expected {words}"))
}
