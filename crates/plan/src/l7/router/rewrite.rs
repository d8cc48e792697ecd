//! Paths for the upstream: ingress-nginx's `rewrite-target`.

use regex::Regex;

/// A template, taken apart once.
#[derive(Debug)]
pub(super) struct Rewrite {
    regex: Option<Regex>,
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Text(Box<str>),
    Group(usize),
}

impl Rewrite {
    /// Takes a template apart: `$1` to `$9` are the groups of the route's regular expression,
    /// empty where it has no such group or the route has none; any other `$` stands for itself.
    pub(super) fn new(template: &str, regex: Option<Regex>) -> Self {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut chars = template.chars().peekable();
        while let Some(char) = chars.next() {
            let group = (char == '$')
                .then(|| chars.peek().and_then(|next| next.to_digit(10)))
                .flatten()
                .filter(|&digit| digit != 0);
            match group {
                Some(group) => {
                    chars.next();
                    if !text.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut text).into()));
                    }
                    parts.push(Part::Group(group as usize));
                }
                None => text.push(char),
            }
        }
        if !text.is_empty() {
            parts.push(Part::Text(text.into()));
        }
        Self { regex, parts }
    }

    /// The whole path is replaced, as nginx does, also what the pattern didn't cover.
    pub(super) fn apply(&self, path: &str) -> String {
        let captures = self.regex.as_ref().and_then(|regex| regex.captures(path));
        let mut rewritten = String::with_capacity(path.len() + 1);
        for part in &self.parts {
            rewritten.push_str(match part {
                Part::Text(text) => text,
                Part::Group(group) => captures
                    .as_ref()
                    .and_then(|captures| captures.get(*group))
                    .map_or("", |group| group.as_str()),
            });
        }
        if !rewritten.starts_with('/') {
            rewritten.insert(0, '/');
        }
        rewritten
    }
}
