//! What is wrong with an object, as data: one broken object never stops the rest.

use std::fmt;

use serde::Serialize;

use crate::names::ObjectRef;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The object, or the named part of it, is not in force. `gateway check` exits 1.
    Error,
    /// The object is in force, but something in it is not honoured or looks like a mistake.
    Warning,
}

/// Where an object was read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Location {
    /// The file, as the source names it.
    pub file: String,
    /// The line, from 1; 0 where it isn't known.
    pub line: u64,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            f.write_str(&self.file)
        } else {
            write!(f, "{}:{}", self.file, self.line)
        }
    }
}

/// One finding: which object, which field, which value, why, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The object that the finding is about.
    pub object: ObjectRef,
    /// The field's path, such as `spec.rules[0].http.paths[1].path`; empty for the whole object.
    pub field: String,
    /// The offending value, where there is one that may be shown (never a secret's).
    pub value: Option<String>,
    /// What is wrong.
    pub reason: String,
    /// What to write or do instead.
    pub remedy: String,
    /// Where the object was read, where the source knows.
    pub location: Option<Location>,
}

impl Diagnostic {
    /// A finding that puts the object, or the named part of it, out of force.
    pub fn error(object: ObjectRef, field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(Severity::Error, object, field, reason)
    }

    /// A finding that leaves the object in force.
    pub fn warning(object: ObjectRef, field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(Severity::Warning, object, field, reason)
    }

    fn new(
        severity: Severity,
        object: ObjectRef,
        field: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            object,
            field: field.into(),
            value: None,
            reason: reason.into(),
            remedy: String::new(),
            location: None,
        }
    }

    /// Adds the offending value.
    #[must_use]
    pub fn value(mut self, value: impl Into<String>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// Adds what to write or do instead.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    /// Adds where the object was read.
    #[must_use]
    pub fn at(mut self, location: Option<Location>) -> Self {
        self.location = location;
        self
    }
}

impl fmt::Display for Diagnostic {
    /// `error: Ingress shop/web: spec.rules[0].host "a b": reason; remedy (file.yaml:12)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{word}: {}", self.object)?;
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        if let Some(value) = &self.value {
            write!(f, " {value:?}")?;
        }
        write!(f, ": {}", self.reason)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        if let Some(location) = &self.location {
            write!(f, " ({location})")?;
        }
        Ok(())
    }
}
