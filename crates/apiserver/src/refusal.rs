//! What a request is refused with: `v1 Status`, as the API server words it.

use serde_json::{Value, json};

use crate::kinds::Kind;

/// A refused request.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// HTTP's status code.
    pub code: u16,
    /// The reason that clients go by, such as `Conflict`.
    pub reason: String,
    /// For people.
    pub message: String,
    /// `details` of the Status.
    pub details: Value,
    /// Seconds for the header Retry-After.
    pub retry_after: Option<u32>,
}

impl Refusal {
    /// One with a code, a reason and a message.
    pub(crate) fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        let (reason, message) = (reason.to_owned(), message.into());
        Self { code, reason, message, details: Value::Null, retry_after: None }
    }

    fn of(mut self, kind: &Kind, name: &str) -> Self {
        self.details = json!({"name": name, "group": kind.group, "kind": kind.plural});
        self
    }

    pub(crate) fn with_causes(mut self, causes: Vec<Value>) -> Self {
        if !self.details.is_object() {
            self.details = json!({});
        }
        self.details["causes"] = Value::Array(causes);
        self
    }

    pub(crate) fn not_found(kind: &Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", kind.qualified());
        Self::new(404, "NotFound", message).of(kind, name)
    }

    pub(crate) fn no_such_path() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource")
    }

    pub(crate) fn already_exists(kind: &Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", kind.qualified());
        Self::new(409, "AlreadyExists", message).of(kind, name)
    }

    pub(crate) fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let what = kind.qualified();
        let message = format!("Operation cannot be fulfilled on {what} \"{name}\": {why}");
        Self::new(409, "Conflict", message).of(kind, name)
    }

    pub(crate) fn modified(kind: &Kind, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version \
                   and try again";
        Self::conflict(kind, name, why)
    }

    /// `causes` are pairs of field and what is wrong with it.
    pub(crate) fn invalid(kind: &Kind, name: &str, causes: &[(String, String)]) -> Self {
        let mut whole = format!("{}.{} \"{name}\" is invalid: ", kind.kind, kind.group);
        if kind.group.is_empty() {
            whole = format!("{} \"{name}\" is invalid: ", kind.kind);
        }
        let each: Vec<String> =
            causes.iter().map(|(field, what)| format!("{field}: {what}")).collect();
        match each.as_slice() {
            [one] => whole.push_str(one),
            all => whole.push_str(&format!("[{}]", all.join(", "))),
        }
        let mut refusal = Self::new(422, "Invalid", whole);
        refusal.details = json!({"name": name, "group": kind.group, "kind": kind.kind});
        refusal.with_causes(
            causes
                .iter()
                .map(|(field, what)| {
                    json!({"reason": "FieldValueInvalid", "message": what, "field": field})
                })
                .collect(),
        )
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 410: the version asked for is compacted away.
    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    pub(crate) fn too_old(asked: u64, oldest: u64) -> Self {
        Self::expired(format!("too old resource version: {asked} ({oldest})"))
    }

    /// 504: a version that doesn't exist yet.
    pub(crate) fn too_large(asked: u64, now: u64) -> Self {
        let message = format!("Too large resource version: {asked}, current: {now}");
        let mut refusal = Self::new(504, "Timeout", message);
        refusal.details = json!({"retryAfterSeconds": 1});
        refusal.retry_after = Some(1);
        refusal.with_causes(vec![
            json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}),
        ])
    }

    /// The Status object.
    pub(crate) fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        });
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        status
    }
}
