//! The list verb: versions, selection, pages.

use std::sync::Arc;

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use crate::kinds::Kind;
use crate::object::Object;
use crate::refusal::Refusal;
use crate::request::Parameters;
use crate::selector::Selection;
use crate::store::Contents;

/// A page of a list.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) objects: Vec<Arc<Object>>,
    /// The list's metadata.
    pub(crate) meta: Value,
}

/// Where the next page goes on.
#[derive(Debug)]
struct Token {
    version: u64,
    /// The last key of the page before.
    after: String,
}

/// Lists what is selected.
pub(crate) fn list(
    contents: &Contents,
    kind: &Kind,
    selection: &Selection,
    parameters: &Parameters,
) -> Result<Page, Refusal> {
    let limit = parameters.number("limit")?.unwrap_or(0);
    let asked = parameters.number("resourceVersion")?;
    let matching = parameters.get("resourceVersionMatch");
    match (matching, asked) {
        (None, _) | (Some("Exact" | "NotOlderThan"), Some(_)) => {}
        (Some("Exact" | "NotOlderThan"), None) => {
            let message = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            return Err(Refusal::new(422, "Invalid", message));
        }
        (Some(other), _) => {
            let message = format!("resourceVersionMatch: Unsupported value: {other:?}");
            return Err(Refusal::new(422, "Invalid", message));
        }
    }
    if let Some(token) = parameters.get("continue") {
        if asked.is_some_and(|version| version != 0) {
            let message = "specifying resource version is not allowed when using continue";
            return Err(Refusal::bad_request(message));
        }
        let token = Token::read(token, contents.run)?;
        return later_page(contents, kind, selection, &token, limit);
    }
    if let Some(version) = asked.filter(|&version| version > contents.version()) {
        return Err(Refusal::too_large(version, contents.version()));
    }
    if matching == Some("Exact") {
        let version = match asked {
            Some(0) | None => {
                let message =
                    "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"";
                return Err(Refusal::new(422, "Invalid", message));
            }
            Some(version) => version,
        };
        return later_page(
            contents,
            kind,
            selection,
            &Token { version, after: String::new() },
            limit,
        );
    }
    // Any version will do: the server answers from its cache, and whole.
    let limit = if asked == Some(0) { 0 } else { limit };
    let objects = contents.all(kind, selection.namespace.as_deref());
    Ok(page(objects, selection, contents.version(), limit, contents.run))
}

fn later_page(
    contents: &Contents,
    kind: &Kind,
    selection: &Selection,
    token: &Token,
    limit: u64,
) -> Result<Page, Refusal> {
    let objects = contents.all_at(kind, token.version).map_err(|refusal| {
        if token.after.is_empty() {
            return refusal;
        }
        let message = "The provided continue parameter is too old to display a consistent list \
                       result. You can start a new list without the continue parameter, or use \
                       the continue token in this response to retrieve the remainder of the \
                       results.";
        Refusal::expired(message)
    })?;
    let rest = objects.range(token.after.clone()..).filter(|(key, _)| **key != token.after);
    let rest = rest.map(|(_, object)| object);
    Ok(page(rest, selection, token.version, limit, contents.run))
}

fn page<'a>(
    objects: impl Iterator<Item = &'a Arc<Object>>,
    selection: &Selection,
    version: u64,
    limit: u64,
    run: u32,
) -> Page {
    let mut objects = objects.filter(|object| selection.takes(object));
    let mut meta = json!({"resourceVersion": version.to_string()});
    if limit == 0 {
        return Page { objects: objects.cloned().collect(), meta };
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let taken: Vec<Arc<Object>> = objects.by_ref().take(limit).cloned().collect();
    let remaining = objects.count();
    if let Some(last) = taken.last().filter(|_| remaining > 0) {
        meta["continue"] = Token { version, after: last.key() }.write(run).into();
        // With a selector the server doesn't count.
        if !selection.narrows() {
            meta["remainingItemCount"] = remaining.into();
        }
    }
    Page { objects: taken, meta }
}

impl Token {
    fn write(&self, run: u32) -> String {
        let json = json!({"v": self.version, "after": self.after, "run": run}).to_string();
        let text = serde_json::to_value(ByteString(json.into_bytes())).unwrap_or_default();
        text.as_str().unwrap_or_default().to_owned()
    }

    fn read(text: &str, run: u32) -> Result<Self, Refusal> {
        let wrong = || Refusal::bad_request("continue key is not valid");
        let bytes: ByteString =
            serde_json::from_value(Value::String(text.to_owned())).map_err(|_| wrong())?;
        let json: Value = serde_json::from_slice(&bytes.0).map_err(|_| wrong())?;
        if json["run"] != run {
            return Err(wrong());
        }
        let version = json["v"].as_u64().ok_or_else(wrong)?;
        let after = json["after"].as_str().ok_or_else(wrong)?.to_owned();
        Ok(Self { version, after })
    }
}
