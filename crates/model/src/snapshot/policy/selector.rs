//! Calico's selectors, parsed.
//!
//! The language: `key == 'value'`, `!=`, `in {'a', 'b'}`, `not in {…}`, `contains`, `starts with`,
//! `ends with`, `has(key)`, `all()`, `global()`, `!`, `&&`, `||` and parentheses; `&&` binds closer
//! than `||`. Values stand in `'` or `"`, without escapes. An empty text is `all()`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

mod parser;

/// A selector.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Selector {
    /// Everything.
    All,
    /// Everything that has no namespace.
    Global,
    /// The label is there.
    Has(String),
    /// The label is there and has this value.
    Equal(String, String),
    /// The label isn't there or has another value.
    NotEqual(String, String),
    /// The label is there and has one of these values.
    In(String, BTreeSet<String>),
    /// The label isn't there or has none of these values.
    NotIn(String, BTreeSet<String>),
    /// The label is there and its value contains this.
    Contains(String, String),
    /// The label is there and its value starts with this.
    StartsWith(String, String),
    /// The label is there and its value ends with this.
    EndsWith(String, String),
    /// The other way round.
    Not(Box<Selector>),
    /// All of them hold.
    And(Vec<Selector>),
    /// At least one of them holds.
    Or(Vec<Selector>),
}

/// A text that is no selector. Displayed as `at 7: expected … and found …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectorError {
    /// The character at which reading stopped, from 1.
    pub position: usize,
    /// What could have stood there.
    pub expected: &'static str,
    /// What stands there.
    pub found: String,
}

impl fmt::Display for SelectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { position, expected, found } = self;
        write!(f, "at character {position}: expected {expected} and found {found}")
    }
}

impl std::error::Error for SelectorError {}

impl Selector {
    /// Parses a selector's text.
    ///
    /// # Errors
    /// Where it stops to be one, and what was expected there.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        parser::parse(text)
    }

    /// Whether something with these labels, and without a namespace, is selected.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = |key: &String| labels.get(key).map(String::as_str);
        match self {
            Self::All | Self::Global => true,
            Self::Has(key) => value(key).is_some(),
            Self::Equal(key, wanted) => value(key) == Some(wanted),
            Self::NotEqual(key, wanted) => value(key) != Some(wanted),
            Self::In(key, wanted) => value(key).is_some_and(|value| wanted.contains(value)),
            Self::NotIn(key, wanted) => value(key).is_none_or(|value| !wanted.contains(value)),
            Self::Contains(key, part) => value(key).is_some_and(|value| value.contains(part)),
            Self::StartsWith(key, part) => value(key).is_some_and(|value| value.starts_with(part)),
            Self::EndsWith(key, part) => value(key).is_some_and(|value| value.ends_with(part)),
            Self::Not(inner) => !inner.matches(labels),
            Self::And(all) => all.iter().all(|one| one.matches(labels)),
            Self::Or(any) => any.iter().any(|one| one.matches(labels)),
        }
    }
}

impl fmt::Display for Selector {
    /// As text that parses to the same, always with the same spaces, quotes and parentheses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, key, operator, values: &BTreeSet<String>| {
            write!(f, "{key} {operator} {{")?;
            for (index, value) in values.iter().enumerate() {
                let separator = if index == 0 { "" } else { ", " };
                write!(f, "{separator}{}", Quoted(value))?;
            }
            f.write_str("}")
        };
        let joined = |f: &mut fmt::Formatter<'_>, parts: &[Self], operator| {
            for (index, part) in parts.iter().enumerate() {
                let separator = if index == 0 { "" } else { operator };
                match part {
                    Self::And(_) | Self::Or(_) => write!(f, "{separator}({part})")?,
                    _ => write!(f, "{separator}{part}")?,
                }
            }
            Ok(())
        };
        match self {
            Self::All => f.write_str("all()"),
            Self::Global => f.write_str("global()"),
            Self::Has(key) => write!(f, "has({key})"),
            Self::Equal(key, value) => write!(f, "{key} == {}", Quoted(value)),
            Self::NotEqual(key, value) => write!(f, "{key} != {}", Quoted(value)),
            Self::In(key, values) => list(f, key, "in", values),
            Self::NotIn(key, values) => list(f, key, "not in", values),
            Self::Contains(key, part) => write!(f, "{key} contains {}", Quoted(part)),
            Self::StartsWith(key, part) => write!(f, "{key} starts with {}", Quoted(part)),
            Self::EndsWith(key, part) => write!(f, "{key} ends with {}", Quoted(part)),
            Self::Not(inner) => match **inner {
                Self::Has(_) | Self::All | Self::Global => write!(f, "!{inner}"),
                _ => write!(f, "!({inner})"),
            },
            Self::And(parts) => joined(f, parts, " && "),
            Self::Or(parts) => joined(f, parts, " || "),
        }
    }
}

/// A value in the quotes that it doesn't hold itself; no value holds both kinds.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = if self.0.contains('\'') { '"' } else { '\'' };
        write!(f, "{quote}{}{quote}", self.0)
    }
}

#[cfg(test)]
mod tests;
