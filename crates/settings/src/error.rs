//! What is wrong with a configuration file.

use std::fmt;

use ingest::yaml::{FieldPath, Node};

/// One thing that is wrong. Displayed as
/// `gateway.yaml:7: alb.public.listen.http: invalid value: integer `70000`, expected a whole …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: String,
    /// The line, from 1; 0 for the whole file.
    pub line: u64,
    /// The key, such as `alb.public.listen.http`; empty for the whole file.
    pub key: String,
    /// What is wrong, and with which value.
    pub reason: String,
    /// What to write instead, empty if the reason says it.
    pub remedy: String,
}

impl ConfigError {
    /// About the file as a whole.
    pub fn of_file(file: &str, line: u64, reason: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line,
            key: String::new(),
            reason: reason.into(),
            remedy: String::new(),
        }
    }

    /// About a key, dotted, of a document.
    pub fn of_key(file: &str, document: &Node, key: &str, reason: impl Into<String>) -> Self {
        let line = document.line_of(&FieldPath::of(key.split('.')));
        Self { key: key.to_owned(), ..Self::of_file(file, line, reason) }
    }

    /// Adds what to write instead.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.reason)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
