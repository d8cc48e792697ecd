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
//! Cost: one hash of the host and of its parent, and a walk along the path's elements that ends
//! where the configured prefixes end. Nothing is allocated, and no work grows with the number of
//! routes, except that one host's regular expressions are tried one after the other.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use regex::{Regex, RegexBuilder};

use super::{HostMatch, PathMatch, Route};

mod prefixes;
mod rewrite;

use prefixes::Prefixes;
use rewrite::Rewrite;

/// A hash map that hashes alike in every run. Its keys come from the configuration and never
/// from a client, so nobody can choose them to collide.
type Map<V> = HashMap<Box<str>, V, FixedState>;

/// An index over an ALB's routes. Its cost depends on the length of host and path, not on the
/// number of routes.
#[derive(Debug)]
pub struct Router {
    exact: Map<Paths>,
    wildcard: Map<Paths>,
    any: Option<Paths>,
    /// By the route's position.
    rewrites: HashMap<u32, Rewrite, FixedState>,
}

/// One host's routes. What few hosts have stands apart, so that the others stay small.
#[derive(Debug, Default)]
struct Paths {
    prefixes: Prefixes,
    default: Option<u32>,
    rare: Option<Box<Rare>>,
}

/// What few hosts have.
#[derive(Debug, Default)]
struct Rare {
    exact: Map<u32>,
    /// Longer paths need not be hashed.
    longest_exact: usize,
    /// By descending length of their text.
    regexes: Vec<Pattern>,
}

#[derive(Debug)]
struct Pattern {
    length: usize,
    regex: Regex,
    position: u32,
}

impl Router {
    /// Builds the index. Routes keep their positions; of two with the same match the first
    /// counts. A regular expression that doesn't compile is left out: `ingest` has refused those.
    pub fn new(routes: &[Route]) -> Self {
        let mut router = Self {
            exact: Map::default(),
            wildcard: Map::default(),
            any: None,
            rewrites: HashMap::default(),
        };
        for (position, route) in (0..=u32::MAX).zip(routes) {
            let regex = match &route.path {
                PathMatch::Regex(pattern) => match compile(pattern) {
                    Ok(regex) => Some(regex),
                    Err(_) => continue,
                },
                _ => None,
            };
            if let Some(template) = &route.policy.rewrite {
                router.rewrites.insert(position, Rewrite::new(template, regex.clone()));
            }
            router.level_mut(&route.host).insert(position, &route.path, regex);
        }
        router
    }

    /// The position of the route for a request. `host` is lower-case, without port and without
    /// trailing dot, or empty; `path` is the target's path without query, starting with `/`. (Of
    /// another target, such as `*`, only the default backends know.)
    #[inline]
    pub fn find(&self, host: &str, path: &str) -> Option<usize> {
        let levels = [
            self.exact.get(host),
            match host.split_once('.') {
                Some((label, parent)) if !label.is_empty() && !self.wildcard.is_empty() => {
                    self.wildcard.get(parent)
                }
                _ => None,
            },
            self.any.as_ref(),
        ];
        let levels = levels.iter().flatten();
        let position = if path.starts_with('/') {
            levels.clone().find_map(|paths| paths.find(path))
        } else {
            None
        };
        position
            .or_else(|| levels.clone().find_map(|paths| paths.default))
            .map(|position| position as usize)
    }

    /// The path that the upstream sees, where the route at `position` rewrites it. Always starts
    /// with `/`; the client's query is no part of it.
    pub fn rewrite(&self, position: usize, path: &str) -> Option<String> {
        let position = u32::try_from(position).ok()?;
        self.rewrites.get(&position).map(|rewrite| rewrite.apply(path))
    }

    fn level_mut(&mut self, host: &HostMatch) -> &mut Paths {
        match host {
            HostMatch::Exact(host) => self.exact.entry(host.as_str().into()).or_default(),
            HostMatch::Wildcard(suffix) => self.wildcard.entry(suffix.as_str().into()).or_default(),
            HostMatch::Any => self.any.get_or_insert_default(),
        }
    }
}

impl Paths {
    fn insert(&mut self, position: u32, path: &PathMatch, regex: Option<Regex>) {
        match path {
            PathMatch::Prefix(path) => self.prefixes.insert(path, position),
            PathMatch::Default => {
                self.default.get_or_insert(position);
            }
            PathMatch::Exact(path) => {
                let rare = self.rare.get_or_insert_default();
                rare.longest_exact = rare.longest_exact.max(path.len());
                rare.exact.entry(path.as_str().into()).or_insert(position);
            }
            PathMatch::Regex(pattern) => {
                if let Some(regex) = regex {
                    let rare = self.rare.get_or_insert_default();
                    let length = pattern.len();
                    let at = rare.regexes.partition_point(|other| other.length >= length);
                    rare.regexes.insert(at, Pattern { length, regex, position });
                }
            }
        }
    }

    #[inline]
    fn find(&self, path: &str) -> Option<u32> {
        match &self.rare {
            None => self.prefixes.longest(path).map(|(position, _)| position),
            Some(rare) => rare.find(path, &self.prefixes),
        }
    }
}

impl Rare {
    fn find(&self, path: &str, prefixes: &Prefixes) -> Option<u32> {
        if path.len() <= self.longest_exact
            && let Some(&position) = self.exact.get(path)
        {
            return Some(position);
        }
        let (position, length) = prefixes.longest(path).unzip();
        let longer = |pattern: &&Pattern| length.is_none_or(|length| pattern.length > length);
        self.regexes
            .iter()
            .take_while(longer)
            .find(|pattern| pattern.regex.is_match(path))
            .map(|pattern| pattern.position)
            .or(position)
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
