//! What may stand in the configuration file, with its defaults and JSON schema.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ingest::yaml::Node;
use model::AlbKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use settings::document;

pub use self::l4::{FailSafe, Interfaces, L4};
pub use self::overlay::{Backend, Egress, Overlay, OverlayMode, PodCidrs, Underlay};
pub use self::vpn::{HalfOpen, Retransmit, Vpn};
use super::ConfigError;
use super::values::{
    LogPath, Name, Network, Period, ServicePort, Workers, addresses, socket, within, within_if_any,
};

mod l4;
mod overlay;
mod vpn;

/// The apiVersion that the file must have.
pub const API_VERSION: &str = "tidegate.io/v1alpha1";
/// The kind that the file must have.
pub const KIND: &str = "GatewayConfig";

/// A gateway's configuration. Relative paths are taken from this file's folder.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "GatewayConfig")]
pub struct File {
    /// tidegate.io/v1alpha1
    #[schemars(extend("const" = API_VERSION))]
    pub api_version: String,
    /// GatewayConfig
    #[schemars(extend("const" = KIND))]
    pub kind: String,
    /// The name of this machine as HostEndpoints, Nodes and EndpointSlices have it; none for its
    /// host name, in lower case.
    pub node_name: Option<String>,
    /// Where objects come from.
    pub source: Source,
    /// The two ALBs.
    #[serde(default)]
    pub alb: Albs,
    /// Services of type LoadBalancer and NodePort, and policies.
    #[serde(default)]
    pub l4: L4,
    /// Site-to-site connections.
    #[serde(default)]
    pub vpn: Vpn,
    /// The overlay to the cluster's nodes.
    #[serde(default)]
    pub overlay: Overlay,
    /// Health, metrics and API.
    #[serde(default)]
    pub admin: Admin,
    /// How many threads serve.
    #[serde(default)]
    pub workers: Workers,
    /// The directory for keys and allocations, 0700.
    #[serde(default = "default_state")]
    pub state: PathBuf,
    /// One line of JSON for each request.
    #[serde(default)]
    pub access_log: AccessLog,
    /// How long requests under way may take to end once the gateway is told to stop.
    #[serde(default = "default_drain")]
    pub drain: Period,
}

/// Where objects come from.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// A directory of manifests (*.yaml, *.yml, *.json, also in folders below), watched.
    pub manifests: Option<PathBuf>,
    /// The Kubernetes API, instead; {} within the cluster.
    pub kubernetes: Option<Kubernetes>,
}

/// How to reach the Kubernetes API.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Kubernetes {
    /// A kubeconfig; none for the service account of the pod that the gateway runs in.
    pub kubeconfig: Option<PathBuf>,
    /// One of its contexts; none for the current one.
    pub context: Option<String>,
    /// Where Leases and the like are; none for the service account's, or tidegate.
    pub namespace: Option<String>,
    /// The namespaces whose Secrets are read: certificates of Ingresses and keys of
    /// VpnConnections; none for all.
    pub secret_namespaces: Vec<String>,
}

/// The two ALBs.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Albs {
    /// Faces the internet; enabled unless it says otherwise. Class tidegate-public.
    pub public: Alb,
    /// Faces the private network; disabled unless it says otherwise. Class tidegate-private.
    pub private: Alb,
}

/// One ALB.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Alb {
    /// Whether it serves at all.
    pub enabled: Option<bool>,
    /// The IngressClass whose objects it serves.
    pub ingress_class: Option<String>,
    /// Where it listens.
    pub listen: Listen,
    /// Whether hosts with TLS have their HTTP requests redirected (308) to HTTPS. An Ingress's
    /// annotation comes first.
    pub ssl_redirect: bool,
    /// The Secret for names without a certificate of their own; none for a self-made one.
    pub default_certificate: Option<Name>,
    /// For requests that no rule matches; none for 404.
    pub default_backend: Option<ServicePort>,
    /// Clients whose X-Forwarded-… and Forwarded headers are believed.
    pub trusted_proxies: Vec<Network>,
    /// Time-outs.
    pub timeouts: Timeouts,
    /// Limits on requests and connections.
    pub limits: Limits,
    /// How endpoints are treated.
    pub upstream: Upstream,
}

impl Default for Alb {
    fn default() -> Self {
        Self {
            enabled: None,
            ingress_class: None,
            listen: Listen::default(),
            ssl_redirect: true,
            default_certificate: None,
            default_backend: None,
            trusted_proxies: Vec::new(),
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            upstream: Upstream::default(),
        }
    }
}

/// Where an ALB listens.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Listen {
    /// Addresses: 0.0.0.0 for all of IPv4, "::" for all of IPv6. With L4 enabled there may be
    /// none: the ALB has those that AddressPools give it.
    #[serde(deserialize_with = "addresses")]
    pub addresses: Vec<IpAddr>,
    /// The port for HTTP, none for no HTTP, 0 for any that is free.
    pub http: Option<u16>,
    /// The port for HTTPS, none for no HTTPS, 0 for any that is free.
    pub https: Option<u16>,
    /// The port that clients reach HTTPS at, where something in front translates it: redirects
    /// lead there. None for the same as https.
    #[serde(deserialize_with = "within_if_any::<_, _, 1, 65535>")]
    #[schemars(range(min = 1, max = 65535))]
    pub public_https: Option<u16>,
    /// The port for HTTP on addresses that AddressPools give it; null for no HTTP there.
    #[serde(deserialize_with = "within_if_any::<_, _, 1, 65535>")]
    #[schemars(range(min = 1, max = 65535))]
    pub pool_http: Option<u16>,
    /// The port for HTTPS on addresses that AddressPools give it; null for no HTTPS there.
    #[serde(deserialize_with = "within_if_any::<_, _, 1, 65535>")]
    #[schemars(range(min = 1, max = 65535))]
    pub pool_https: Option<u16>,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            http: None,
            https: None,
            public_https: None,
            pool_http: Some(80),
            pool_https: Some(443),
        }
    }
}

/// Time-outs towards clients and endpoints.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Timeouts {
    /// For a request's head to come in whole, and for a TLS handshake.
    pub head: Period,
    /// How long a client's connection may be kept without a request.
    pub idle: Period,
    /// For a TCP connection to an endpoint.
    pub connect: Period,
    /// For an endpoint to begin its answer.
    pub upstream_head: Period,
    /// How long a body may stand still, either way.
    pub body_stall: Period,
    /// How long an upgraded connection (WebSocket) may stand still.
    pub tunnel: Period,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head: Period::from_secs(15),
            idle: Period::from_secs(75),
            connect: Period::from_secs(5),
            upstream_head: Period::from_secs(60),
            body_stall: Period::from_secs(60),
            tunnel: Period::from_secs(3600),
        }
    }
}

/// Limits on requests and connections.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Limits {
    /// A request's head in bytes; over it, 431.
    #[serde(deserialize_with = "within::<_, _, 1024, 65536>")]
    #[schemars(range(min = 1024, max = 65536))]
    pub head_bytes: u32,
    /// A request's target in bytes; over it, 414.
    #[serde(deserialize_with = "within::<_, _, 64, 65536>")]
    #[schemars(range(min = 64, max = 65536))]
    pub target_bytes: u32,
    /// A request's header fields; over it, 431.
    #[serde(deserialize_with = "within::<_, _, 8, 1000>")]
    #[schemars(range(min = 8, max = 1000))]
    pub headers: u16,
    /// A request's body in bytes; over it, 413. None for no limit. An Ingress's annotation comes
    /// first.
    pub body_bytes: Option<u64>,
    /// Clients' connections at one time over all threads, none for no limit.
    #[serde(deserialize_with = "within_if_any::<_, _, 1, 4294967295>")]
    #[schemars(range(min = 1))]
    pub connections: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 16384,
            target_bytes: 8192,
            headers: 100,
            body_bytes: None,
            connections: None,
        }
    }
}

/// How endpoints are treated.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Upstream {
    /// Idle connections kept for each endpoint, by each thread.
    #[serde(deserialize_with = "within::<_, _, 0, 65536>")]
    #[schemars(range(min = 0, max = 65536))]
    pub max_idle_per_endpoint: u32,
    /// How long an idle connection is kept.
    pub idle: Period,
    /// How many endpoints are tried when connecting fails.
    #[serde(deserialize_with = "within::<_, _, 1, 8>")]
    #[schemars(range(min = 1, max = 8))]
    pub tries: u8,
    /// When an endpoint that fails is left out for a while.
    pub ejection: Ejection,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            max_idle_per_endpoint: 256,
            idle: Period::from_secs(30),
            tries: 3,
            ejection: Ejection::default(),
        }
    }
}

/// When an endpoint that fails is left out for a while.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Ejection {
    /// After so many failures in a row.
    #[serde(deserialize_with = "within::<_, _, 1, 1000000>")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub failures: u32,
    /// For so long the first time, and twice as long as the last time after that,
    pub time: Period,
    /// up to this.
    pub max_time: Period,
}

impl Default for Ejection {
    fn default() -> Self {
        Self { failures: 5, time: Period::from_secs(10), max_time: Period::from_secs(300) }
    }
}

/// Health, metrics and API.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Admin {
    /// The address and port to listen on; null for none.
    #[serde(deserialize_with = "socket")]
    pub listen: Option<SocketAddr>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: Some(SocketAddr::from(([127, 0, 0, 1], 9901))) }
    }
}

/// One line of JSON for each request.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct AccessLog {
    /// Where it goes.
    pub path: LogPath,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self { path: LogPath::Stdout }
    }
}

/// The class that an ALB serves if nothing else is said.
pub fn default_class(kind: AlbKind) -> &'static str {
    match kind {
        AlbKind::Public => "tidegate-public",
        AlbKind::Private => "tidegate-private",
    }
}

fn default_state() -> PathBuf {
    PathBuf::from("/var/lib/tidegate")
}

fn default_drain() -> Period {
    Period::from_secs(30)
}

impl File {
    /// Reads the file's text. The document comes along for its lines.
    pub(super) fn parse(name: &str, text: &str) -> Result<(Self, Node), ConfigError> {
        document::read(name, text, API_VERSION, KIND)
    }
}
