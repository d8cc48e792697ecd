//! Ingresses, with their annotations as typed values.

use std::fmt;
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;

use crate::diagnostic::Location;
use crate::names::ObjectKey;
use crate::settings::AlbKind;

/// One Ingress of an enabled ALB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingress {
    /// The ALB that its class selects.
    pub alb: AlbKind,
    /// `metadata.creationTimestamp`, in seconds since the epoch; none in hand-written manifests.
    pub created: Option<i64>,
    /// Where it was read, for the planners' diagnostics.
    pub location: Option<Location>,
    /// Its rules, in the object's order, without those that were refused.
    pub rules: Vec<Rule>,
    /// `spec.defaultBackend`.
    pub default_backend: Option<IngressTarget>,
    /// `spec.tls`.
    pub tls: Vec<TlsBlock>,
    /// What its annotations ask for.
    pub policy: IngressPolicy,
    /// Why none of its rules may be served: it asks for a protection that can't be given.
    pub refused: Option<String>,
}

/// One of `spec.rules`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The field's path, such as `spec.rules[0]`.
    pub field: String,
    /// Its host.
    pub host: HostMatch,
    /// Its paths; empty where everything goes to the default backend.
    pub paths: Vec<PathRule>,
}

/// One of a rule's paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathRule {
    /// The field's path, such as `spec.rules[0].http.paths[1]`.
    pub field: String,
    /// What it matches, never [`PathMatch::Default`].
    pub path: PathMatch,
    /// Where it leads.
    pub target: IngressTarget,
}

/// Where a path or a default backend leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IngressTarget {
    /// To a Service.
    Service(BackendRef),
    /// Nowhere, since the rule is broken; why. It still takes its requests, so that they don't
    /// fall to another backend.
    Broken(String),
}

/// A Service's port, as an Ingress names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BackendRef {
    /// The Service, in the Ingress' own namespace.
    pub service: ObjectKey,
    /// Its port.
    pub port: PortRef,
}

/// A Service's port, by name or number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PortRef {
    /// By name.
    Name(String),
    /// By number.
    Number(u16),
}

impl fmt::Display for PortRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Number(number) => number.fmt(f),
        }
    }
}

/// Which hosts a route is for. Names are lower-case, without port or trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HostMatch {
    /// This name.
    Exact(String),
    /// `*.suffix`, held as `suffix`: exactly one label before it.
    Wildcard(String),
    /// Any name, or none.
    Any,
}

impl fmt::Display for HostMatch {
    /// `a.example.com`, `*.example.com` or `*`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::Wildcard(suffix) => write!(f, "*.{suffix}"),
            Self::Any => f.write_str("*"),
        }
    }
}

/// Which paths a route is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PathMatch {
    /// This path, byte for byte.
    Exact(String),
    /// This path and all below it, by elements; held without a trailing slash (`/` as `/`).
    Prefix(String),
    /// A regular expression from the path's beginning, ignoring case, as ingress-nginx does.
    Regex(String),
    /// What nothing else matched: a default backend.
    Default,
}

impl PathMatch {
    /// The largest compiled size, in bytes, that a regular expression may have.
    pub const REGEX_SIZE_LIMIT: usize = 256 * 1024;

    /// A regular expression with the anchor that gives it its meaning. `ingest` checks with it
    /// and the router matches with it, both ignoring case.
    pub fn anchored(pattern: &str) -> String {
        format!("^(?:{pattern})")
    }
}

impl fmt::Display for PathMatch {
    /// `Exact /a`, `Prefix /a`, `Regex /a.*` or `Default`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => write!(f, "Exact {path}"),
            Self::Prefix(path) => write!(f, "Prefix {path}"),
            Self::Regex(pattern) => write!(f, "Regex {pattern}"),
            Self::Default => f.write_str("Default"),
        }
    }
}

/// One of `spec.tls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsBlock {
    /// The field's path, such as `spec.tls[0]`.
    pub field: String,
    /// The names that have TLS: [`HostMatch::Exact`] or [`HostMatch::Wildcard`], sorted.
    pub hosts: Vec<HostMatch>,
    /// Whether `hosts` stands in the object. Otherwise the names are the certificate's own.
    pub explicit: bool,
    /// The Secret, if it is named and usable; otherwise the default certificate serves.
    pub secret: Option<ObjectKey>,
}

/// What an Ingress' annotations ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IngressPolicy {
    /// From HTTP to HTTPS.
    pub ssl_redirect: SslRedirect,
    /// Every request is answered with this redirect.
    pub redirect: Option<Redirect>,
    /// Requests for `/` are answered with a 302 to this path.
    pub app_root: Option<String>,
    /// The upstream's path: `$1`… stand for the regular expression's groups.
    pub rewrite: Option<String>,
    /// The Host that the upstream sees, instead of the client's.
    pub upstream_host: Option<String>,
    /// Clients that may come, sorted; empty for all.
    pub allow: Vec<IpNet>,
    /// Clients that may not come, sorted.
    pub deny: Vec<IpNet>,
    /// A request body's limit in bytes; `u64::MAX` for no limit, none for the ALB's own.
    pub max_body: Option<u64>,
    /// Instead of the ALB's own time-outs.
    pub timeouts: Timeouts,
    /// Choice of endpoint.
    pub balance: Balance,
}

/// When HTTP is answered with a redirect to HTTPS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SslRedirect {
    /// As the ALB is set, for hosts with TLS.
    #[default]
    Inherit,
    /// Never.
    Off,
    /// For hosts with TLS.
    On,
    /// Always, also for hosts without TLS here.
    Force,
}

/// A redirect that stands in for a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// The Location header's value.
    pub location: String,
}

/// A route's own time-outs; none means the ALB's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Timeouts {
    /// For a TCP connection to an endpoint.
    pub connect: Option<Duration>,
    /// Without progress while sending a request upstream.
    pub send: Option<Duration>,
    /// For the upstream's response head, and without progress in its body.
    pub read: Option<Duration>,
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// The one with fewer requests under way, of two drawn at random (by weight).
    #[default]
    LeastRequests,
    /// In turn, by weight.
    RoundRobin,
}
