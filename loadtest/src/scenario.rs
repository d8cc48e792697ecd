//! Scenarios: what `loadtest run` is to do, as a YAML file says it.
//!
//! [`Form`] is the file, field by field; [`Job`] is what it comes to, checked. Every error names
//! file, line, field and value, and what to write instead.

mod body;
mod build;
mod form;
mod settings;
mod values;

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use ingest::yaml::{self, Content, Node};

use crate::faults;
use crate::load::plan::Plan;
pub(crate) use form::{
    ClosedForm, EntryForm, ExpectForm, Form, LoadForm, OpenForm, TargetForm, TlsForm,
};
pub(crate) use values::Size;

/// The largest scenario that is read, bytes.
const LARGEST: u64 = 1 << 20;

/// A scenario, checked and ready to run.
#[derive(Debug)]
pub(crate) struct Job {
    /// The scenario's name.
    pub(crate) name: String,
    /// What it says about itself.
    pub(crate) description: String,
    /// The load. For datagrams only its phases and times are of use.
    pub(crate) plan: Plan,
    /// The load of datagrams, where it is one.
    pub(crate) datagrams: Option<crate::load::udp::Config>,
    /// What it is, in words, for reports.
    pub(crate) settings: std::collections::BTreeMap<String, String>,
    /// Processes to watch.
    pub(crate) processes: Vec<Watch>,
    /// Parties, and what happens to them.
    pub(crate) faults: faults::Plan,
    /// What the run has to keep to.
    pub(crate) limits: Limits,
    /// The core to run on.
    pub(crate) core: Option<usize>,
}

/// A process to watch.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    /// Its name in reports.
    pub(crate) name: String,
    /// Which one it is.
    pub(crate) which: Which,
}

/// Which process is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// The one with this number.
    Pid(i32),
    /// The one whose number a file holds.
    Pidfile(PathBuf),
    /// The one that listens here.
    Listens(std::net::SocketAddr),
    /// A party of the scenario.
    Party(String),
}

/// What a run has to keep to, or it has failed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Limits {
    /// Latency by quantile, at most.
    pub(crate) latency: [(f64, &'static str, Option<Duration>); 5],
    /// The share of operations that may fail, 0 to 1.
    pub(crate) failures: Option<f64>,
    /// Operations a second, at least.
    pub(crate) rate: Option<f64>,
}

/// Something wrong in a scenario: which field, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The field, as in `mix[2].weight`.
    pub(crate) field: String,
    /// Its value, what is wrong with it, and what to write instead.
    pub(crate) what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.what)
    }
}

impl std::error::Error for Problem {}

impl Problem {
    fn at(field: impl Into<String>, what: impl Into<String>) -> Self {
        Self { field: field.into(), what: what.into() }
    }
}

/// What the command line says against the scenario.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Overrides {
    /// Seconds of load; phases keep their shares.
    pub(crate) seconds: Option<f64>,
    /// Operations a second; other rates in phases keep their ratio to it.
    pub(crate) rate: Option<f64>,
    /// Connections; other numbers of connections in phases keep their ratio to it.
    pub(crate) connections: Option<usize>,
    /// Where to connect.
    pub(crate) connect: Option<std::net::SocketAddr>,
    /// The core to run on.
    pub(crate) core: Option<usize>,
}

/// Reads a scenario's file.
///
/// # Errors
///
/// What can't be read or done, with the file's name and the line.
pub(crate) fn read(path: &Path, overrides: &Overrides) -> anyhow::Result<Job> {
    let file = path.display();
    let kind = std::fs::metadata(path).with_context(|| {
        format!("{file}: a URL begins with http:// or https://, all else is a scenario's file")
    })?;
    if !kind.is_file() {
        bail!("{file}: is no regular file; name a scenario's");
    }
    let opened = std::fs::File::open(path).with_context(|| format!("{file}"))?;
    let mut text = String::new();
    // One byte more than is allowed, as a file may have become longer.
    opened.take(LARGEST + 1).read_to_string(&mut text).with_context(|| format!("{file}"))?;
    if text.len() as u64 > LARGEST {
        bail!("{file}: is too large for a scenario; {LARGEST} bytes are allowed");
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    parse(&text, &file.to_string(), &stem, folder, overrides)
}

/// Reads a scenario's text. Relative paths in it are relative to `folder`.
pub(crate) fn parse(
    text: &str,
    file: &str,
    name: &str,
    folder: &Path,
    overrides: &Overrides,
) -> anyhow::Result<Job> {
    let mut documents = match yaml::documents(text) {
        Ok(documents) => documents,
        Err(error) => bail!("{file}:{}: {}", error.line, error.reason),
    };
    let node = match (documents.pop(), documents.pop()) {
        (Some(node), None) => node,
        (None, _) => bail!("{file}: is empty; it needs target, load and duration at least"),
        (Some(more), Some(_)) => {
            bail!("{file}:{}: a second document; a file holds one scenario", more.line)
        }
    };
    if let Some((path, line)) = node.duplicate_keys().first() {
        bail!("{file}:{line}: {path}: stands twice; remove one of them");
    }
    let form = match yaml::typed::<Form>(&node) {
        Ok(typed) => typed.value,
        Err(error) => {
            let path = error.path.to_string();
            let (line, path) = match unknown_key(&error.reason) {
                Some(key) => with_key(&node, &path, key),
                None => (error.line, path),
            };
            if let Some(what) = without_unit(node.get(&error.path), &path) {
                bail!("{file}:{line}: {path}: {what}");
            }
            let at = if path.is_empty() { String::new() } else { format!("{path}: ") };
            let remedy =
                if error.remedy.is_empty() { String::new() } else { format!("; {}", error.remedy) };
            bail!("{file}:{line}: {at}{}{remedy}", in_words(&known_keys(&error.reason)));
        }
    };
    if let Some(line) = empty_mix(&node) {
        bail!("{file}:{line}: mix: is empty; write an entry, as in {{path: /}}, or remove mix");
    }
    build::job(form, name, folder, overrides).map_err(|error| {
        match error.downcast_ref::<Problem>() {
            Some(problem) => {
                anyhow::anyhow!("{file}:{}: {problem}", line_of(&node, &problem.field))
            }
            None => error.context(file.to_owned()),
        }
    })
}

/// A scenario that was made from the command line.
///
/// # Errors
///
/// What can't be done.
pub(crate) fn of_form(form: Form, name: &str, overrides: &Overrides) -> anyhow::Result<Job> {
    build::job(form, name, Path::new("."), overrides)
}

/// The line of a mix that is there and has no entries.
fn empty_mix(node: &Node) -> Option<u64> {
    let Content::Map(entries) = &node.content else { return None };
    let (key, mix) = entries.iter().find(|(key, _)| key.name == "mix")?;
    matches!(&mix.content, Content::List(items) if items.is_empty()).then_some(key.line)
}

/// What to write where a length of time has no unit.
fn without_unit(node: Option<&Node>, path: &str) -> Option<String> {
    const TIMES: [&str; 12] = [
        "duration",
        "timeout",
        "slice",
        "refresh",
        "at",
        "for",
        "readyWithin",
        "p50",
        "p90",
        "p99",
        "p999",
        "max",
    ];
    let key = path.rsplit('.').next()?;
    let number = &node?.content;
    let is_number = matches!(number, Content::Unsigned(_) | Content::Float(_));
    (is_number && TIMES.contains(&key))
        .then(|| format!("{number} is no length of time: write {number}s"))
}

/// Serde's names of types, in words.
fn in_words(reason: &str) -> String {
    let Some((found, expected)) = reason.split_once(", expected ") else {
        return reason.to_owned();
    };
    let expected = match expected {
        "f64" => "a number, as in 100 or 0.5",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number, 0 or more",
        "i32" => "a whole number",
        "a boolean" => "true or false",
        "a sequence" => "a list, as in [a, b]",
        "a map" => "fields, as in {key: value}",
        other if other.starts_with("struct ") => "fields, as in {key: value}",
        other => other,
    };
    format!("{found}, expected {expected}")
}

/// The key that serde does not know, from its message.
fn unknown_key(reason: &str) -> Option<&str> {
    reason.strip_prefix("unknown field `")?.split('`').next()
}

/// Serde's message on an unknown key, as a remedy: the keys that are known.
fn known_keys(reason: &str) -> String {
    let Some((_, known)) = reason.split_once(", expected ") else { return reason.to_owned() };
    if unknown_key(reason).is_none() {
        return reason.to_owned();
    }
    let known = known.trim_start_matches("one of ").replace('`', "");
    format!("unknown key; known here: {known}")
}

/// The path with the key behind it, and the key's line.
fn with_key(node: &Node, path: &str, key: &str) -> (u64, String) {
    let path = match path {
        "" => key.to_owned(),
        path if path == key || path.ends_with(&format!(".{key}")) => path.to_owned(),
        path => format!("{path}.{key}"),
    };
    (line_of(node, &path), path)
}

/// The line of a field, or of the last part of its path that is there.
fn line_of(node: &Node, path: &str) -> u64 {
    let (mut node, mut line) = (node, node.line);
    for part in path.split(['.', '[']) {
        let found = match (&node.content, part.strip_suffix(']')) {
            (Content::List(items), Some(index)) => {
                index.parse().ok().and_then(|index: usize| items.get(index)).map(|n| (n.line, n))
            }
            (Content::Map(entries), None) => {
                entries.iter().find(|(key, _)| key.name == part).map(|(key, n)| (key.line, n))
            }
            _ => None,
        };
        match found {
            Some(found) => (line, node) = found,
            None => break,
        }
    }
    line
}

#[cfg(test)]
mod tests;
