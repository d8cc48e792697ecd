//! A document as a tree that knows its lines.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::path::{FieldPath, Segment};

/// A value and the line where it begins.
#[derive(Clone, PartialEq)]
pub struct Node {
    /// The line, from 1; for what an alias stands for, the alias's.
    pub line: u64,
    /// The value.
    pub content: Content,
}

/// A value.
#[derive(Clone, PartialEq)]
pub enum Content {
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number from 0.
    Unsigned(u64),
    /// A whole number below 0.
    Signed(i64),
    /// Any other number; always finite.
    Float(f64),
    /// Text.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the text's order. May hold a key twice.
    Map(Vec<(Key, Node)>),
}

/// A mapping's key and its line.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// The line, from 1.
    pub line: u64,
    /// The key.
    pub name: String,
}

impl Node {
    /// The value of a mapping's key; none if there isn't any, or this is no mapping.
    pub fn field(&self, name: &str) -> Option<&Node> {
        self.entry(name).map(|(_, value)| value)
    }

    /// The text here; none if this is anything else.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The node at the path.
    pub fn get(&self, path: &FieldPath) -> Option<&Node> {
        path.segments().iter().try_fold(self, |node, segment| match (segment, &node.content) {
            (Segment::Key(name), _) => node.field(name),
            (Segment::Index(index), Content::List(items)) => items.get(*index),
            (Segment::Index(_), _) => None,
        })
    }

    /// The line of the field at the path: its key's, or its own in a sequence. Where the path
    /// leads nowhere, the line of the last part that is there.
    pub fn line_of(&self, path: &FieldPath) -> u64 {
        let mut node = self;
        let mut line = self.line;
        for segment in path.segments() {
            match (segment, &node.content) {
                (Segment::Key(name), _) => match node.entry(name) {
                    Some((key, value)) => (node, line) = (value, key.line),
                    None => break,
                },
                (Segment::Index(index), Content::List(items)) => match items.get(*index) {
                    Some(item) => (node, line) = (item, item.line),
                    None => break,
                },
                (Segment::Index(_), _) => break,
            }
        }
        line
    }

    /// Keys that stand in their mapping before, each with its line; anywhere below this node.
    pub fn duplicate_keys(&self) -> Vec<(FieldPath, u64)> {
        let mut found = Vec::new();
        self.collect_duplicates(&mut FieldPath::default(), &mut found);
        found
    }

    fn entry(&self, name: &str) -> Option<&(Key, Node)> {
        match &self.content {
            Content::Map(entries) => entries.iter().find(|(key, _)| key.name == name),
            _ => None,
        }
    }

    fn collect_duplicates(&self, path: &mut FieldPath, found: &mut Vec<(FieldPath, u64)>) {
        match &self.content {
            Content::Map(entries) => {
                let mut seen = BTreeSet::new();
                for (key, value) in entries {
                    path.push(Segment::Key(key.name.clone()));
                    if !seen.insert(&key.name) {
                        found.push((path.clone(), key.line));
                    }
                    value.collect_duplicates(path, found);
                    path.pop();
                }
            }
            Content::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    path.push(Segment::Index(index));
                    item.collect_duplicates(path, found);
                    path.pop();
                }
            }
            _ => {}
        }
    }
}

/// Only the line: what stands here may be secret.
impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("line", &self.line).finish_non_exhaustive()
    }
}

/// Scalars as one would write them; lists and maps by what they are.
impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => value.fmt(f),
            Self::Unsigned(value) => value.fmt(f),
            Self::Signed(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::Text(value) => f.write_str(value),
            Self::List(_) => f.write_str("a list"),
            Self::Map(_) => f.write_str("a map"),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Content>::deserialize(deserializer)?;
        Ok(Self { line: spanned.referenced.line(), content: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E: Error>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        Content::deserialize(deserializer)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Unsigned(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Content, E> {
        Ok(u64::try_from(value).map_or(Content::Signed(value), Content::Unsigned))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Content, E> {
        Ok(Content::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Text(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Content, E> {
        Ok(Content::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Content, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Content::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Content, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = access.next_key::<Spanned<String>>()? {
            let key = Key { line: key.referenced.line(), name: key.value };
            entries.push((key, access.next_value()?));
        }
        Ok(Content::Map(entries))
    }
}
