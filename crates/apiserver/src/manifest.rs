//! Bodies and files, JSON or YAML.

use std::path::Path;

use serde_json::Value;

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It can't be read.
    #[error("{file}: {error}")]
    File {
        /// Which.
        file: String,
        /// Why.
        error: std::io::Error,
    },
    /// It is no YAML.
    #[error("{file}: {reason}")]
    Syntax {
        /// Which.
        file: String,
        /// Why.
        reason: String,
    },
    /// The object can't be stored.
    #[error("{object}: {reason}")]
    Object {
        /// Which.
        object: String,
        /// Why.
        reason: String,
    },
}

/// One document.
pub(crate) fn one(bytes: &[u8]) -> Result<Value, String> {
    match serde_json::from_slice(bytes) {
        Ok(value) => Ok(value),
        // YAML can't be told from broken JSON but by trying.
        Err(error) if bytes.trim_ascii_start().starts_with(b"{") => Err(error.to_string()),
        Err(_) => {
            let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
            let mut documents = documents(text)?;
            match documents.len() {
                1 => Ok(documents.remove(0)),
                count => Err(format!("one document is expected, and {count} are there")),
            }
        }
    }
}

/// All documents of a YAML text; those that are empty are left out.
pub(crate) fn documents(text: &str) -> Result<Vec<Value>, String> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
    };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| error.to_string())?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// All objects of a directory's files (.yaml, .yml, .json) in the order of their names, or of one
/// file. Lists are taken apart.
pub(crate) fn load(path: &Path) -> Result<Vec<Value>, LoadError> {
    let failed = |error| LoadError::File { file: path.display().to_string(), error };
    if path.is_dir() {
        let mut inner = Vec::new();
        for entry in std::fs::read_dir(path).map_err(failed)? {
            inner.push(entry.map_err(failed)?.path());
        }
        inner.sort();
        let mut objects = Vec::new();
        for path in inner {
            let known = path.extension().and_then(|end| end.to_str());
            if path.is_dir() || matches!(known, Some("yaml" | "yml" | "json")) {
                objects.extend(load(&path)?);
            }
        }
        return Ok(objects);
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let documents = documents(&text)
        .map_err(|reason| LoadError::Syntax { file: path.display().to_string(), reason })?;
    Ok(documents.into_iter().flat_map(items).collect())
}

/// A list's objects, or the one object.
fn items(document: Value) -> Vec<Value> {
    let list = document["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
    match document["items"].as_array() {
        Some(items) if list => items.clone(),
        _ => vec![document],
    }
}
