//! An Ingress' annotations as typed values.
//!
//! ingress-nginx's names are understood under its own prefix and under `tidegate.io/`, where
//! ours wins. What is done with each name stands in one table, `annotations/table.rs`; here it is
//! applied.
//!
//! No annotation is passed over in silence. One that asks for something that isn't done gets a
//! warning. One that **restricts access** or changes who is served, and can't be honoured, puts
//! the Ingress out of service instead: a rule without its protection must not serve.

use std::collections::BTreeMap;

use model::snapshot::{IngressPolicy, Redirect, SslRedirect};
use model::{Diagnostic, ObjectRef};

use crate::report::{Report, shown};

mod table;
pub(crate) mod values;

use table::{Action, Otherwise};

pub(crate) use values::has_groups;

/// ingress-nginx's prefix.
pub const NGINX_PREFIX: &str = "nginx.ingress.kubernetes.io/";
/// Our own prefix, which wins.
pub const OWN_PREFIX: &str = "tidegate.io/";

/// What an Ingress' annotations ask for, before it is known what the Ingress is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    /// What its routes do.
    pub policy: IngressPolicy,
    /// Whether paths of type ImplementationSpecific are regular expressions.
    pub use_regex: bool,
    /// The annotation, with its prefix, by which it only takes a share of another Ingress'
    /// requests.
    pub canary: Option<String>,
    /// Why none of its routes may be served.
    pub refused: Option<String>,
}

/// What has been read so far. Some names only have a meaning together.
#[derive(Debug, Default)]
struct Draft {
    policy: IngressPolicy,
    use_regex: bool,
    canary: bool,
    ssl_redirect: Option<bool>,
    force_ssl_redirect: bool,
    permanent: Option<String>,
    permanent_code: Option<u16>,
    temporal: Option<String>,
    temporal_code: Option<u16>,
}

/// An annotation's text, and under which prefix it stands.
#[derive(Clone, Copy, Debug)]
struct Value<'a> {
    text: &'a str,
    /// Under our own prefix, where values have more forms.
    own: bool,
}

/// One annotation of ours or of ingress-nginx.
#[derive(Clone, Copy, Debug)]
struct Entry<'a> {
    /// With its prefix, as it stands in the object.
    full: &'a str,
    value: Value<'a>,
    /// Which of several spellings counts; the least wins.
    rank: u8,
}

/// Reads the annotations of `object`. Those of other prefixes are left alone.
pub(crate) fn read(
    object: &ObjectRef,
    annotations: Option<&BTreeMap<String, String>>,
    report: &mut Report<'_>,
) -> Annotations {
    let mut draft = Draft::default();
    let mut refused = None;
    let entries = collect(object, annotations, report);
    for (name, &entry) in &entries {
        let Some((otherwise, diagnostic)) = apply(&mut draft, name, entry, object) else {
            continue;
        };
        report.push(diagnostic);
        if otherwise == Otherwise::Refuse && refused.is_none() {
            refused = Some(format!("the annotation {} can't be honoured", entry.full));
        }
    }
    let full = |name: &'static str| entries.get(name).map_or(name, |entry| entry.full);
    if draft.permanent.is_some() && draft.temporal.is_some() {
        report.push(
            Diagnostic::warning(
                object.clone(),
                field(full("permanent-redirect")),
                format!("{} is set too, and counts", full("temporal-redirect")),
            )
            .remedy("keep one of the two"),
        );
    }
    let canary = draft.canary.then(|| full("canary").to_owned());
    Annotations { canary, refused, ..draft.finish() }
}

/// The annotations by their name without prefix, and of several spellings the one that counts.
fn collect<'a>(
    object: &ObjectRef,
    annotations: Option<&'a BTreeMap<String, String>>,
    report: &mut Report<'_>,
) -> BTreeMap<&'a str, Entry<'a>> {
    let mut entries: BTreeMap<&str, Entry<'_>> = BTreeMap::new();
    for (full, text) in annotations.into_iter().flatten() {
        let (own, name) = match (full.strip_prefix(OWN_PREFIX), full.strip_prefix(NGINX_PREFIX)) {
            (Some(name), _) => (true, name),
            (None, Some(name)) => (false, name),
            (None, None) => continue,
        };
        let (name, alias) = match table::alias(name) {
            Some(name) => (name, true),
            None => (name, false),
        };
        let rank = 2 * u8::from(!own) + u8::from(alias);
        let entry = Entry { full, value: Value { text, own }, rank };
        let Some(other) = entries.get(name).copied() else {
            entries.insert(name, entry);
            continue;
        };
        let (winner, loser) = if entry.rank < other.rank { (entry, other) } else { (other, entry) };
        entries.insert(name, winner);
        if winner.value.text.trim() != loser.value.text.trim() {
            report.push(
                Diagnostic::warning(
                    object.clone(),
                    field(loser.full),
                    format!("{} is set too, to another value, and counts", winner.full),
                )
                .value(shown(loser.value.text))
                .remedy("remove one of the two"),
            );
        }
    }
    entries
}

/// Applies one annotation; returns a finding if it isn't honoured.
fn apply(
    draft: &mut Draft,
    name: &str,
    entry: Entry<'_>,
    object: &ObjectRef,
) -> Option<(Otherwise, Diagnostic)> {
    let text = entry.value.text.trim();
    let rule = table::rule(name);
    let (otherwise, reason) = match rule.action {
        Action::Read(read, otherwise) => {
            let reason = read(draft, Value { text, own: entry.value.own }).err()?;
            (otherwise, reason)
        }
        Action::Given(given, _) if given(text) => return None,
        Action::Given(_, otherwise) | Action::Unknown(otherwise) => {
            let reason = match rule.consequence {
                "" => "not honoured".to_owned(),
                consequence => format!("not honoured: {consequence}"),
            };
            (otherwise, reason)
        }
    };
    let field = field(entry.full);
    let diagnostic = match otherwise {
        Otherwise::Warn => Diagnostic::warning(object.clone(), field, reason),
        Otherwise::Refuse => Diagnostic::error(
            object.clone(),
            field,
            format!("{reason}; the routes of this Ingress are answered with 503"),
        ),
    };
    Some((otherwise, diagnostic.value(shown(text)).remedy(rule.remedy)))
}

/// The path of an annotation in its object.
pub(crate) fn field(annotation: &str) -> String {
    format!("metadata.annotations[{annotation:?}]")
}

impl Draft {
    fn finish(self) -> Annotations {
        let mut policy = self.policy;
        policy.ssl_redirect = match (self.force_ssl_redirect, self.ssl_redirect) {
            (true, _) => SslRedirect::Force,
            (false, Some(true)) => SslRedirect::On,
            (false, Some(false)) => SslRedirect::Off,
            (false, None) => SslRedirect::Inherit,
        };
        let temporal = self.temporal.map(|location| (location, self.temporal_code.unwrap_or(302)));
        let permanent =
            self.permanent.map(|location| (location, self.permanent_code.unwrap_or(301)));
        policy.redirect =
            temporal.or(permanent).map(|(location, status)| Redirect { status, location });
        Annotations { policy, use_regex: self.use_regex, canary: None, refused: None }
    }
}

#[cfg(test)]
mod tests;
