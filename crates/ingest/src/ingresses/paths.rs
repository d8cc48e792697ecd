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
        "ImplementationSpecific" | "Prefix" => literal(text, prefix),
        "Exact" => literal(text, |text| PathMatch::Exact(text.to_owned())),
        _ => Err(Fault {
            field: "pathType",
            reason: "not a path type".to_owned(),
            remedy: "write Exact, Prefix or ImplementationSpecific",
            place: place(text, prefix),
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
        PathMatch::Regex(text) => {
            return has_escape(text).then_some((
                "requests are matched with their escapes decoded, which this escape doesn't fit",
                "write the character itself, with a backslash before it if it has a meaning",
            ));
        }
        PathMatch::Default => return None,
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

/// Whether something like `%20` stands in the text.
fn has_escape(text: &str) -> bool {
    let mut bytes = text.as_bytes().windows(3);
    bytes.any(|three| three[0] == b'%' && three[1..].iter().all(u8::is_ascii_hexdigit))
}

/// A trailing slash makes no difference to a prefix.
fn prefix(text: &str) -> PathMatch {
    match text.trim_end_matches('/') {
        "" => PathMatch::Prefix("/".to_owned()),
        trimmed => PathMatch::Prefix(trimmed.to_owned()),
    }
}

/// A path that is compared as it stands, once its escapes are decoded: so are requests' paths.
fn literal(text: &str, wrap: fn(&str) -> PathMatch) -> Result<PathMatch, Fault> {
    const PLAIN: &str = "write the path in its plain form";
    const QUERY: &str = "leave out the query, or write \"%3F\" for a '?' and \"%23\" for a '#'";
    let fault = |reason: String, remedy| Err(Fault::path(reason, remedy, place(text, wrap)));
    if text.contains(['?', '#']) {
        let reason = "a path ends before '?' and '#', so it matches nothing";
        return Err(Fault::path(reason, QUERY, None));
    }
    let Some(decoded) = decode(text) else {
        let reason = "the path has a '%' that no two hexadecimal digits follow";
        return Err(Fault::path(reason, "write \"%25\" for a '%' itself", None));
    };
    if decoded.iter().any(u8::is_ascii_control) {
        return Err(Fault::path("the path has control characters", "remove them", None));
    }
    if text.bytes().any(|byte| !(0x21..=0x7e).contains(&byte)) {
        let reason = "the path has characters that no request's path has".to_owned();
        return fault(reason, "percent-encode spaces and non-ASCII characters");
    }
    let Ok(decoded) = String::from_utf8(decoded) else {
        let reason = "the path's escapes are not UTF-8".to_owned();
        return fault(reason, "encode the path's characters as UTF-8");
    };
    if let Some(part) = ["%2f", "%2F"].iter().find(|part| text.contains(**part)) {
        return fault(format!("the path contains {part:?}"), PLAIN);
    }
    if let Some(part) = ["//", "/./", "/../"].iter().find(|part| decoded.contains(**part)) {
        return fault(format!("the path contains {part:?}"), PLAIN);
    }
    if decoded.ends_with("/.") || decoded.ends_with("/..") {
        return fault("the path ends with a dot segment".to_owned(), PLAIN);
    }
    Ok(wrap(&decoded))
}

/// Where requests go that a path which can't be served seems to be meant for, read as theirs are.
fn place(text: &str, wrap: fn(&str) -> PathMatch) -> Option<PathMatch> {
    let decoded = decode(text)?;
    plain(&String::from_utf8_lossy(&decoded)).as_deref().map(wrap)
}

/// The form in which a request for this path is compared: without dot segments and with slashes
/// merged. None if it climbs above the root, where no request leads.
fn plain(decoded: &str) -> Option<String> {
    let mut segments: Vec<&str> = Vec::new();
    let mut parts = decoded.split('/').skip(1).peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        match part {
            "." | ".." => {
                if part == ".." {
                    segments.pop()?;
                }
                if last {
                    segments.push("");
                }
            }
            "" if !last => {}
            _ => segments.push(part),
        }
    }
    Some(format!("/{}", segments.join("/")))
}

/// The bytes with escapes decoded; none if one is broken.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte != b'%' {
            out.push(*byte);
            continue;
        }
        let [high, low, tail @ ..] = tail else { return None };
        let digit = |byte: u8| char::from(byte).to_digit(16);
        out.push(u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()?);
        rest = tail;
    }
    Some(out)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, path_type: &str) -> Result<PathMatch, Fault> {
        parse(text, path_type, &Annotations::default())
    }

    #[test]
    fn literal_paths_are_held_decoded() {
        for (text, decoded) in [
            ("/caf%C3%A9", "/café"),
            ("/a%20b", "/a b"),
            ("/%61dmin", "/admin"),
            ("/100%25", "/100%"),
            ("/a%3Fb%23", "/a?b#"),
            ("/a%252fb", "/a%2fb"),
        ] {
            assert_eq!(parsed(text, "Exact"), Ok(PathMatch::Exact(decoded.into())));
            let below = format!("{text}/");
            assert_eq!(parsed(&below, "Prefix"), Ok(PathMatch::Prefix(decoded.into())));
        }
    }

    #[test]
    fn paths_that_no_request_could_be_meant_by_are_left_out() {
        for text in
            ["/%", "/a%4", "/%zz", "/%+1", "/a%00b", "/a%0d", "/a%7f", "/a\nb", "/a?b", "/a#"]
        {
            assert_eq!(parsed(text, "Prefix").unwrap_err().place, None, "{text}");
        }
    }

    #[test]
    fn paths_in_another_than_their_plain_form_keep_the_place_where_requests_for_them_go() {
        for (text, place) in [
            ("/a%2fb", "/a/b"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/%2e", "/a/"),
            ("/a//b", "/a/b"),
            ("/a/b/..", "/a/"),
            ("/a b/é", "/a b/é"),
            ("/a//%ff", "/a/\u{fffd}"),
            ("/a%ff", "/a\u{fffd}"),
        ] {
            let fault = parsed(text, "Exact").unwrap_err();
            assert_eq!(fault.place, Some(PathMatch::Exact(place.into())), "{text}");
        }
    }

    #[test]
    fn unknown_path_type_keeps_the_place_of_a_prefix() {
        let fault = parsed("/caf%C3%A9//x/", "prefix").unwrap_err();
        assert_eq!((fault.field, fault.place), ("pathType", Some(prefix("/café/x"))));
    }

    #[test]
    fn paths_above_the_root_are_left_out() {
        for text in ["/..", "/%2e%2e/a", "/a/../../b"] {
            assert_eq!(parsed(text, "Exact").unwrap_err().place, None, "{text}");
        }
    }

    #[test]
    fn escapes_in_regular_expressions_are_doubted() {
        let doubted =
            |text: &str| doubt(&PathMatch::Regex(text.into()), &Annotations::default()).is_some();
        assert!(doubted("/a%20b.*") && doubted("/%C3"));
        assert!(!doubted("/a b.*") && !doubted("/100%") && !doubted("/%(a|b)"));
    }
}
