//! A request's path and parameters: what is asked of which objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;

use crate::kinds::{Kind, Kinds};
use crate::refusal::Refusal;

/// Parameters of the query.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parameters(BTreeMap<String, String>);

impl Parameters {
    pub(crate) fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(&name.replace('+', " ")), decode(&value.replace('+', " ")))
                })
                .collect(),
        )
    }

    /// A parameter that is there and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub(crate) fn is_true(&self, name: &str) -> bool {
        matches!(self.get(name), Some("true" | "1"))
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let parse = |text: &str| {
            let wrong = || Refusal::bad_request(format!("invalid value for {name}: {text:?}"));
            text.parse().map_err(|_| wrong())
        };
        self.get(name).map(parse).transpose()
    }
}

/// Undoes percent-encoding.
pub(crate) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = (*first == b'%').then(|| tail.get(..2)).flatten();
        let byte = hex
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What objects are meant.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) kind: Arc<Kind>,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    /// `status`, or none.
    pub(crate) subresource: Option<String>,
    /// The old form of watching: `/api/v1/watch/…`.
    pub(crate) watch: bool,
}

impl Target {
    /// Of a path below `/api/v1` or `/apis/GROUP/VERSION`.
    pub(crate) fn parse(kinds: &Kinds, group: &str, version: &str, rest: &[&str]) -> Option<Self> {
        let (watch, rest) = match rest {
            ["watch", rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        let kind = |plural: &str| kinds.at(group, version, plural).cloned();
        let own = |text: &&str| Some(decode(text));
        let target = |kind, namespace, name, subresource| {
            Some(Self { kind, namespace, name, subresource, watch })
        };
        match rest {
            ["namespaces", name, sub @ ("status" | "finalize")] => {
                target(kind("namespaces")?, None, own(name), own(sub))
            }
            ["namespaces", namespace, plural, rest @ ..] if rest.len() <= 2 => {
                let kind = kind(plural).filter(|kind| kind.namespaced)?;
                let name = rest.first().and_then(own);
                target(kind, own(namespace), name, rest.get(1).and_then(own))
            }
            [plural] => target(kind(plural)?, None, None, None),
            [plural, name, rest @ ..] if rest.len() <= 1 => {
                let kind = kind(plural).filter(|kind| !kind.namespaced)?;
                target(kind, None, own(name), rest.first().and_then(own))
            }
            _ => None,
        }
    }

    /// The verb by which access is told.
    pub(crate) fn verb(&self, method: &Method, watch: bool) -> &'static str {
        let one = self.name.is_some();
        match *method {
            Method::GET if watch || self.watch => "watch",
            Method::GET if one => "get",
            Method::GET => "list",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE if one => "delete",
            Method::DELETE => "deletecollection",
            _ => "other",
        }
    }
}
