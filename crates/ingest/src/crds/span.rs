//! Addresses as they are written: one, a range, or a network.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

/// Addresses of one family from the first to the last, both included: `198.51.100.18`,
/// `198.51.100.18-198.51.100.22` or `198.51.100.16/29`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Span {
    /// The lowest.
    pub first: IpAddr,
    /// The highest.
    pub last: IpAddr,
}

/// Why a text names no addresses, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}; {remedy}")]
pub struct SpanError {
    /// Without the text itself.
    pub reason: String,
    /// In words for a diagnostic.
    pub remedy: String,
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let error = |reason: &str, remedy: String| Err(SpanError { reason: reason.into(), remedy });
        let nonsense = || {
            error(
                "names no addresses",
                "write an address, a range such as 198.51.100.18-198.51.100.22, or a network such \
                 as 198.51.100.16/29"
                    .to_owned(),
            )
        };
        if text.contains('/') {
            let Ok(network) = text.parse::<IpNet>() else { return nonsense() };
            if network.addr() != network.network() {
                // Taking the network would give away addresses that nobody meant to.
                return error(
                    "has bits set behind the prefix",
                    format!("write {} or {}", network.trunc(), network.addr()),
                );
            }
            return Ok(Self { first: network.network(), last: network.broadcast() });
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (Ok(first), Ok(last)) = (first.trim().parse(), last.trim().parse()) else {
            return nonsense();
        };
        let span = Self { first, last };
        if first.is_ipv4() != last.is_ipv4() {
            return error("begins as IPv4 and ends as IPv6, or the other way round", {
                "write a range for each family".to_owned()
            });
        }
        if first > last {
            return error("begins after its end", format!("write {last}-{first}"));
        }
        Ok(span)
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|error: SpanError| format!("{text:?} {error}"))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            self.first.fmt(f)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Addresses".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "minLength": 2, "maxLength": 91})
    }
}

impl Span {
    /// Its addresses, at most so many.
    pub fn addresses(self, most: usize) -> Vec<IpAddr> {
        match (self.first, self.last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => (u32::from(first)..=u32::from(last))
                .take(most)
                .map(|bits| IpAddr::V4(bits.into()))
                .collect(),
            (IpAddr::V6(first), IpAddr::V6(last)) => (u128::from(first)..=u128::from(last))
                .take(most)
                .map(|bits| IpAddr::V6(bits.into()))
                .collect(),
            _ => Vec::new(),
        }
    }
}
