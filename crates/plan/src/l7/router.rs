//! From host and path to the route: the one matcher, for traffic and for `explain`.
//!
//! Meaning (networking.k8s.io/v1 Ingress, "Path types" and "Hostname wildcards"):
//!
//! 1. **Hosts.** The exact name, then `*.parent` (exactly one label), then rules without a host.
//!    When none of a host's paths match, the next of these is asked. Default backends come last
//!    of all, in the same order of hosts.
//! 2. **Paths, within one host.** `Exact` beats everything. Of `Prefix` and `Regex`, the longer
//!    text wins, as ingress-nginx orders its locations; at equal length `Prefix` wins, and of two
//!    regular expressions the one that comes first in the plan's order. `Prefix` goes by path
//!    elements and respects case, `Regex` is anchored at the path's beginning and ignores case.
//!
//! Cost: one hash of the host, and of its parent where the host's own rules don't take the path;
//! then a look along the host's prefixes, or, where it has many, a walk along the path's elements
//! that ends where the configured prefixes end. Nothing is allocated, and no work grows with the
//! number of routes, except that one host's regular expressions are tried one after the other.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::FixedState;
use regex::{Regex, RegexBuilder};

use super::{HostMatch, PathMatch, Route};

mod hosts;
mod prefixes;
mod rewrite;

use hosts::{Paths, Record, Records, Slots};
use prefixes::Tree;
use rewrite::Rewrite;

/// A hash map that hashes alike in every run. Its keys come from the configuration and never
/// from a client, so nobody can choose them to collide.
type Map<V> = HashMap<Box<str>, V, FixedState>;

/// An index over an ALB's routes. Its cost depends on the length of host and path, not on the
/// number of routes.
#[derive(Debug)]
pub struct Router {
    exact: Slots,
    wildcard: Slots,
    /// Where the record of the rules without a host begins.
    any: Option<u32>,
    records: Records,
    /// By the route's value.
    rewrites: HashMap<u32, Rewrite, FixedState>,
}

/// What few hosts have. It stands apart, so that the others' records stay small.
#[derive(Debug, Default)]
struct Rare {
    exact: Map<u32>,
    /// Longer paths need not be hashed.
    longest_exact: usize,
    /// By descending length of their text.
    regexes: Vec<Pattern>,
    /// The prefixes, where there are too many for a record.
    tree: Option<Tree>,
}

#[derive(Debug)]
struct Pattern {
    length: usize,
    regex: Regex,
    value: u32,
}

impl Router {
    /// Builds the index. Routes keep their positions; of two with the same match the first
    /// counts. A regular expression that doesn't compile is left out: `ingest` has refused those.
    pub fn new(routes: &[Route]) -> Self {
        Self::with_values(routes, |position| position)
    }

    /// As [`Router::new`], but with a value for each route that stands for it instead of its
    /// position. Routes that are served alike may have the same, unless they rewrite paths.
    pub fn with_values(routes: &[Route], value: impl Fn(usize) -> usize) -> Self {
        let mut exact: BTreeMap<&str, Paths<'_>> = BTreeMap::new();
        let mut wildcard: BTreeMap<&str, Paths<'_>> = BTreeMap::new();
        let mut any: Option<Paths<'_>> = None;
        let mut rewrites = HashMap::default();
        for (position, route) in routes.iter().enumerate() {
            let Ok(value) = u32::try_from(value(position)) else { continue };
            let regex = match &route.path {
                PathMatch::Regex(pattern) => match compile(pattern) {
                    Ok(regex) => Some(regex),
                    Err(_) => continue,
                },
                _ => None,
            };
            if let Some(template) = &route.policy.rewrite {
                rewrites.insert(value, Rewrite::new(template, regex.clone()));
            }
            let paths = match &route.host {
                HostMatch::Exact(host) => exact.entry(host).or_default(),
                HostMatch::Wildcard(suffix) => wildcard.entry(suffix).or_default(),
                HostMatch::Any => any.get_or_insert_default(),
            };
            insert(paths, value, &route.path, regex);
        }
        let mut records = Records::default();
        let mut index = |level: BTreeMap<_, _>| {
            let hosts: Vec<(&str, u32)> = level
                .into_iter()
                .filter_map(|(host, paths)| Some((host, records.push(host, paths)?)))
                .collect();
            Slots::new(&hosts)
        };
        let (exact, wildcard) = (index(exact), index(wildcard));
        let any = any.and_then(|paths| records.push("", paths));
        records.align();
        Self { exact, wildcard, any, records, rewrites }
    }

    /// The value of the route for a request: its position, unless others were given. `host` is
    /// lower-case, without port and without trailing dot, or empty; `path` is the target's path
    /// without query, starting with `/`. (Of another target, such as `*`, only the default
    /// backends know.)
    #[inline]
    pub fn find(&self, host: &str, path: &str) -> Option<usize> {
        let exact = self.exact.get(&self.records, host);
        let by_path = path.starts_with('/');
        // Mostly the first level has it, and then the others are not looked for.
        if let Some(record) = &exact
            && by_path
            && let Some(value) = self.find_path(record, path)
        {
            return Some(value as usize);
        }
        let wildcard = match host.split_once('.') {
            Some((label, parent)) if !label.is_empty() && !self.wildcard.is_empty() => {
                self.wildcard.get(&self.records, parent)
            }
            _ => None,
        };
        let others = [wildcard, self.any.and_then(|at| self.records.get(at))];
        let others = others.iter().flatten();
        let value = if by_path {
            others.clone().find_map(|record| self.find_path(record, path))
        } else {
            None
        };
        value
            .or_else(|| exact.iter().chain(others).find_map(|record| record.default))
            .map(|value| value as usize)
    }

    /// The path that the upstream sees, where the route with this value rewrites it. Always
    /// starts with `/`; the client's query is no part of it.
    pub fn rewrite(&self, value: usize, path: &str) -> Option<String> {
        let value = u32::try_from(value).ok()?;
        self.rewrites.get(&value).map(|rewrite| rewrite.apply(path))
    }

    #[inline]
    fn find_path(&self, record: &Record<'_>, path: &str) -> Option<u32> {
        match self.records.rare(record) {
            None => record.longest(path).map(|(value, _)| value),
            Some(rare) => rare.find(path, record),
        }
    }
}

fn insert<'a>(paths: &mut Paths<'a>, value: u32, path: &'a PathMatch, regex: Option<Regex>) {
    match path {
        PathMatch::Prefix(path) => paths.insert(path, value),
        PathMatch::Default => {
            paths.default.get_or_insert(value);
        }
        PathMatch::Exact(path) => {
            let rare = paths.rare.get_or_insert_default();
            rare.longest_exact = rare.longest_exact.max(path.len());
            rare.exact.entry(path.as_str().into()).or_insert(value);
        }
        PathMatch::Regex(pattern) => {
            if let Some(regex) = regex {
                let rare = paths.rare.get_or_insert_default();
                let length = pattern.len();
                let at = rare.regexes.partition_point(|other| other.length >= length);
                rare.regexes.insert(at, Pattern { length, regex, value });
            }
        }
    }
}

impl Rare {
    fn find(&self, path: &str, record: &Record<'_>) -> Option<u32> {
        if path.len() <= self.longest_exact
            && let Some(&value) = self.exact.get(path)
        {
            return Some(value);
        }
        let longest = match &self.tree {
            Some(tree) => tree.longest(path),
            None => record.longest(path),
        };
        let (value, length) = longest.unzip();
        let longer = |pattern: &&Pattern| length.is_none_or(|length| pattern.length > length);
        self.regexes
            .iter()
            .take_while(longer)
            .find(|pattern| pattern.regex.is_match(path))
            .map(|pattern| pattern.value)
            .or(value)
    }
}

/// Compiles a route's regular expression, anchored, ignoring case and limited in size.
pub(super) fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(&PathMatch::anchored(pattern))
        .case_insensitive(true)
        .size_limit(PathMatch::REGEX_SIZE_LIMIT)
        .build()
}

#[cfg(test)]
mod tests;
