//! An Ingress' paths, as networking.k8s.io/v1 allows them.

use model::snapshot::PathMatch;
use regex::RegexBuilder;

use crate::annotations::{Annotations, has_groups};

/// Why a path can't be served.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// `path` or `pathType`.
    pub(super) field: &'static str,
    pub(super) reason: String,
    pub(super) remedy: &'static str,
    /// What is answered with 503 in its stead, so that it doesn't fall to a shorter path's
    /// backend; none where no request could be meant.
    pub(super) place: Option<PathMatch>,
}

impl Fault {
    fn path(reason: impl Into<String>, remedy: &'static str, place: Option<PathMatch>) -> Self {
        Self { field: "path", reason: reason.into(), remedy, place }
    }
}

/// Parses a path of a type. ImplementationSpecific means Prefix, or a regular expression where
/// the annotations ask for it: by `use-regex`, or by a `rewrite-target` that needs its groups.
pub(super) fn parse(
    text: &str,
    path_type: &str,
    annotations: &Annotations,
) -> Result<PathMatch, Fault> {
    let wants_groups = annotations.policy.rewrite.as_deref().is_some_and(has_groups);
    let specific = path_type == "ImplementationSpecific";
    if specific && text.is_empty() {
        return Ok(PathMatch::Prefix("/".to_owned()));
    }
    if !text.starts_with('/') {
        return Err(Fault::path(
            "the path does not start with '/'",
            "write it from the root",
            None,
        ));
    }
    match path_type {
        "ImplementationSpecific" if annotations.use_regex || wants_groups => regex(text),
        "ImplementationSpecific" | "Prefix" => literal(text, prefix(text)),
        "Exact" => literal(text, PathMatch::Exact(text.to_owned())),
        _ => Err(Fault {
            field: "pathType",
            reason: "not a path type".to_owned(),
            remedy: "write Exact, Prefix or ImplementationSpecific",
            place: Some(prefix(text)),
        }),
    }
}

/// What looks like a mistake in a path that can be served.
pub(super) fn doubt(
    path: &PathMatch,
    annotations: &Annotations,
) -> Option<(&'static str, &'static str)> {
    let text = match path {
        PathMatch::Exact(text) | PathMatch::Prefix(text) => text,
        PathMatch::Regex(_) | PathMatch::Default => return None,
    };
    if annotations.use_regex && text.contains(['(', '[', '*', '|', '\\', '^', '$']) {
        return Some((
            "of this pathType the path is taken literally in spite of use-regex",
            "write pathType: ImplementationSpecific for a regular expression",
        ));
    }
    annotations.policy.rewrite.as_deref().is_some_and(has_groups).then_some((
        "rewrite-target refers to groups, and this pathType has none, so they stay empty",
        "write pathType: ImplementationSpecific and a regular expression with groups",
    ))
}

/// A trailing slash makes no difference to a prefix.
fn prefix(text: &str) -> PathMatch {
    match text.trim_end_matches('/') {
        "" => PathMatch::Prefix("/".to_owned()),
        trimmed => PathMatch::Prefix(trimmed.to_owned()),
    }
}

fn literal(text: &str, path: PathMatch) -> Result<PathMatch, Fault> {
    let never = ["//", "/./", "/../", "%2f", "%2F"];
    if let Some(part) = never.iter().find(|part| text.contains(**part)) {
        let reason = format!("the path contains {part:?}");
        return Err(Fault::path(reason, "write the path in its plain form", Some(path)));
    }
    if text.ends_with("/.") || text.ends_with("/..") {
        let reason = "the path ends with a dot segment";
        return Err(Fault::path(reason, "write the path in its plain form", Some(path)));
    }
    if text.bytes().any(|byte| !(0x21..=0x7e).contains(&byte) || byte == b'?' || byte == b'#') {
        let reason = "the path has characters that no request's path has, so it matches nothing";
        let remedy = "percent-encode spaces and non-ASCII characters; a query can't be matched";
        return Err(Fault::path(reason, remedy, None));
    }
    Ok(path)
}

fn regex(text: &str) -> Result<PathMatch, Fault> {
    if text.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(Fault::path("the path has control characters", "remove them", None));
    }
    let compiled = RegexBuilder::new(&PathMatch::anchored(text))
        .case_insensitive(true)
        .size_limit(PathMatch::REGEX_SIZE_LIMIT)
        .build();
    match compiled {
        Ok(_) => Ok(PathMatch::Regex(text.to_owned())),
        Err(regex::Error::CompiledTooBig(_)) => Err(Fault::path(
            "the regular expression is too large once compiled",
            "use fewer or smaller repetitions",
            None,
        )),
        Err(_) => Err(Fault::path(
            "not a regular expression",
            "write one without look-around and back-references (docs.rs/regex, \"Syntax\")",
            None,
        )),
    }
}
