//! The ALBs' plan: routes, backends and certificates.
//!
//! Matching follows the Ingress API (networking.k8s.io/v1, "Path types" and "Hostname
//! wildcards"): see [`router::Router`].

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;
use model::{AlbKind, ObjectKey};
use serde::{Serialize, Serializer};

mod again;
pub mod explain;
pub mod path;
mod planner;
pub mod router;
pub mod verdict;

pub use again::Planner;
pub use explain::{Explanation, Matched, Outcome, Query, UrlError, explain};
pub use model::snapshot::{Balance, Endpoint, Endpoints, HostMatch, PathMatch, Timeouts};
pub use planner::plan;
pub use router::Router;
pub use verdict::Verdict;

/// Everything that the ALBs have in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct L7Plan {
    /// Every enabled ALB, also one without any route.
    #[serde(serialize_with = "entries")]
    pub albs: BTreeMap<AlbKind, Arc<AlbPlan>>,
    /// Sorted by service and port, each once; routes refer to them by index.
    #[serde(serialize_with = "items")]
    pub backends: Vec<Arc<Backend>>,
}

/// One ALB's routes and certificates.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct AlbPlan {
    /// In canonical order: by host, then path kind and value. No two with the same match.
    pub routes: Vec<Route>,
    /// By SNI.
    pub certificates: Certificates,
}

/// Index into [`L7Plan::backends`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct BackendId(pub u32);

/// One rule in force.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Route {
    /// Hosts.
    pub host: HostMatch,
    /// Paths.
    pub path: PathMatch,
    /// The Ingress it came from; none for the ALB's own default backend.
    pub ingress: Option<ObjectKey>,
    /// The field in that Ingress, such as `spec.rules[0].http.paths[1]`.
    pub field: String,
    /// Where requests go.
    pub target: Target,
    /// How they are treated.
    pub policy: RoutePolicy,
}

/// Where a route's requests go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// To a Service's endpoints.
    Backend(BackendId),
    /// Answered with a redirect to this absolute URL or path.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// The Location header's value.
        location: String,
    },
    /// Answered with 503, since the rule can't be served safely or its Service is missing.
    Unavailable {
        /// Why, for `explain` and the log.
        reason: String,
    },
}

/// How a route's requests are treated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct RoutePolicy {
    /// HTTP is answered with a 308 to HTTPS.
    pub ssl_redirect: bool,
    /// Requests for `/` are answered with a 302 to this path.
    pub app_root: Option<String>,
    /// The upstream's path: `$1`… stand for the regular expression's groups.
    pub rewrite: Option<String>,
    /// The Host that the upstream sees, instead of the client's.
    pub upstream_host: Option<String>,
    /// Clients that may come; empty for all.
    pub allow: Vec<IpNet>,
    /// Clients that may not come.
    pub deny: Vec<IpNet>,
    /// A request body's limit in bytes; `u64::MAX` for no limit, none for the ALB's own.
    pub max_body: Option<u64>,
    /// Instead of the ALB's own time-outs.
    pub timeouts: Timeouts,
    /// Choice of endpoint.
    pub balance: Balance,
}

/// A Service's port, and what serves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Backend {
    /// The Service.
    pub service: ObjectKey,
    /// The port as the rule names it, resolved: `80` or `http`.
    pub port: String,
    /// What serves it.
    pub endpoints: Endpoints,
}

/// An ALB's certificates by SNI.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Certificates {
    /// Each Secret once, sorted.
    pub pairs: Vec<CertificatePair>,
    /// Exact names, lower-case, to an index into `pairs`.
    pub exact: BTreeMap<String, usize>,
    /// `suffix` of `*.suffix`, to an index into `pairs`.
    pub wildcard: BTreeMap<String, usize>,
    /// For any other name and for clients without SNI; none for the self-made one.
    pub default: Option<usize>,
}

impl Certificates {
    /// The index into `pairs` for a client's SNI, lower-case: the exact name, then the wildcard
    /// over it, then the default. None for the self-made certificate.
    pub fn find(&self, name: Option<&str>) -> Option<usize> {
        let by_name = name.and_then(|name| {
            self.exact.get(name).or_else(|| {
                let (label, parent) = name.split_once('.')?;
                if label.is_empty() { None } else { self.wildcard.get(parent) }
            })
        });
        by_name.copied().or(self.default)
    }
}

/// One certificate chain and its key, checked to belong together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertificatePair {
    /// The `kubernetes.io/tls` Secret.
    pub secret: ObjectKey,
    /// What stands in it.
    #[serde(skip)]
    pub pair: model::snapshot::TlsPair,
}

/// Shared values are written as what they are.
fn entries<S: Serializer, K: Serialize, V: Serialize>(
    map: &BTreeMap<K, Arc<V>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(map.iter().map(|(key, value)| (key, &**value)))
}

/// The same of a list.
fn items<S: Serializer, V: Serialize>(list: &[Arc<V>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(list.iter().map(|value| &**value))
}
