//! Services, what serves them, and how they are reached from outside.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::Serialize;

use crate::diagnostic::Location;
use crate::names::ObjectKey;
use crate::net::{Protocol, Visibility};

/// A Service, with the endpoints of each of its ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// The DNS name that an ExternalName Service stands for, lower-case.
    pub external_name: Option<String>,
    /// Its ports, in the object's order. ALBs only use those of TCP.
    pub ports: Vec<ServicePort>,
    /// Why nothing can be sent to it, where the object is broken.
    pub broken: Option<String>,
    /// How it is reached from outside, if it is: a Service of type NodePort or LoadBalancer, or
    /// one with external addresses.
    pub exposure: Option<Box<Exposure>>,
}

impl Service {
    /// Whether it is the same but for its endpoints.
    pub fn is_but_for_endpoints(&self, other: &Self) -> bool {
        let Self { external_name, ports, broken, exposure } = self;
        let same = |(one, other): (&ServicePort, &ServicePort)| {
            let ServicePort { name, protocol, number, node_port, endpoints: _ } = one;
            (name, protocol, number, node_port)
                == (&other.name, &other.protocol, &other.number, &other.node_port)
        };
        *external_name == other.external_name
            && *broken == other.broken
            && *exposure == other.exposure
            && ports.len() == other.ports.len()
            && ports.iter().zip(&other.ports).all(same)
    }
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name, empty for the only port of a Service.
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number on the Service.
    pub number: u16,
    /// Its number on the edge's own addresses, where it has one that may be opened.
    pub node_port: Option<u16>,
    /// What serves it, sorted, each address once. Empty for an ExternalName.
    pub endpoints: Vec<Endpoint>,
}

/// What serves a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Endpoints {
    /// Addresses from EndpointSlices, sorted.
    Static(Vec<Endpoint>),
    /// An ExternalName: a DNS name and port.
    Dns {
        /// The name to resolve.
        host: String,
        /// The port.
        port: u16,
    },
}

/// One address that serves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Endpoint {
    /// Where to connect.
    pub address: SocketAddr,
    /// Its share relative to its siblings, from 1.
    pub weight: u16,
    /// Terminating but still serving: only used when no ready endpoint is left.
    pub terminating: bool,
    /// Counts for `externalTrafficPolicy: Local`: it is on the gateway's own node, or the gateway
    /// is no node of the cluster, so that there is no second hop that the policy could avoid.
    #[serde(skip)]
    pub local: bool,
}

/// How a Service is reached from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exposure {
    /// It is of type LoadBalancer, of a class that is the gateway's: it gets VIPs.
    pub load_balancer: bool,
    /// Why it has no VIPs, although it is of type LoadBalancer and of the gateway's class:
    /// something that decides on its addresses, or on who gets in, can't be read. Its
    /// `load_balancer` is false then. Addresses that it has been given should be kept for it until
    /// it is mended, but not served.
    pub refused: Option<String>,
    /// `metadata.creationTimestamp`, in seconds since the epoch; none in hand-written manifests.
    pub created: Option<i64>,
    /// Where it was read, for the planners' diagnostics.
    pub location: Option<Location>,
    /// Its labels, for pools' selectors.
    pub labels: BTreeMap<String, String>,
    /// Its namespace's labels, for pools' selectors.
    pub namespace_labels: BTreeMap<String, String>,
    /// Which pools it may take from unless it names one.
    pub visibility: Visibility,
    /// `tidegate.io/pool`: the pool to take from.
    pub pool: Option<String>,
    /// `spec.loadBalancerIP` and `tidegate.io/addresses`: these addresses and no others.
    pub requested: Vec<Requested>,
    /// Addresses that `status.loadBalancer.ingress` holds already.
    pub held: Vec<IpAddr>,
    /// `tidegate.io/sharing-key`: Services of one namespace with the same key share an address as
    /// long as their ports differ.
    pub sharing_key: Option<String>,
    /// The families that it wants an address of.
    pub families: Families,
    /// `spec.loadBalancerSourceRanges`: the clients that may reach its VIPs; all if empty.
    pub source_ranges: Vec<IpNet>,
    /// `spec.sessionAffinity: ClientIP`: for how many seconds after its last connection a client
    /// is sent to the same endpoint.
    pub affinity: Option<u32>,
    /// `spec.externalTrafficPolicy: Local`: only [`Endpoint::local`] ones are used, and the
    /// client's address is kept.
    pub local_only: bool,
    /// `spec.healthCheckNodePort`, of a LoadBalancer with `externalTrafficPolicy: Local`.
    pub health_check_node_port: Option<u16>,
    /// `spec.externalIPs`, without those that were refused.
    pub external_ips: Vec<IpAddr>,
    /// `tidegate.io/algorithm`.
    pub algorithm: Algorithm,
    /// `tidegate.io/snat`: endpoints see the edge's address in place of the client's. None: as
    /// configured.
    pub snat: Option<bool>,
    /// What asks for the way through user space; none of it: the kernel forwards.
    pub stream: StreamOptions,
}

/// An address that a Service asks for, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requested {
    /// The address.
    pub address: IpAddr,
    /// The field's path, such as `spec.loadBalancerIP`.
    pub field: String,
}

/// The families of addresses that a Service wants (`spec.ipFamilies`, `spec.ipFamilyPolicy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Families {
    /// The first is IPv6.
    pub ipv6_first: bool,
    /// Whether both are wanted.
    pub dual: Dual,
    /// `spec.ipFamilies` named the families: another one won't do.
    pub named: bool,
}

impl Default for Families {
    /// One address, IPv4 if there is one.
    fn default() -> Self {
        Self { ipv6_first: false, dual: Dual::Single, named: false }
    }
}

/// `spec.ipFamilyPolicy`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dual {
    /// One family.
    Single,
    /// Both, or one if there is no more.
    Prefer,
    /// Both or none.
    Require,
}

/// How an endpoint is chosen for a new connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// At random by weight.
    #[default]
    Random,
    /// In turn, by weight.
    RoundRobin,
    /// By a hash of the client's address.
    SourceHash,
    /// By a consistent hash of client address and port that is the same on every edge.
    Maglev,
    /// The one with the fewest connections. Takes the way through user space.
    LeastConnections,
}

/// What only user space can do for a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamOptions {
    /// `tidegate.io/user-space`: go through user space although nothing else asks for it.
    pub forced: bool,
    /// `tidegate.io/tls-secret`: TLS ends at the edge, with this `kubernetes.io/tls` Secret.
    pub tls_secret: Option<ObjectKey>,
    /// `tidegate.io/tls-ports`: the ports (by number) whose TLS ends here; all TCP ports if empty.
    pub tls_ports: Vec<u16>,
    /// `tidegate.io/sni-hosts`: TLS passes through, and only connections whose SNI is one of these
    /// (exact, or `*.suffix` with one label) are this Service's. Lower-case.
    pub sni_hosts: Vec<String>,
    /// `tidegate.io/accept-proxy-protocol`: clients begin with a PROXY protocol header, v1 or v2.
    pub accept_proxy: bool,
    /// `tidegate.io/send-proxy-protocol`: endpoints are sent a PROXY protocol header.
    pub send_proxy: Option<ProxyVersion>,
    /// `tidegate.io/idle-timeout`, in milliseconds: how long a connection, or a UDP session, may
    /// be silent. None: as configured.
    pub idle_ms: Option<u64>,
}

impl StreamOptions {
    /// Whether anything asks for user space.
    pub fn any(&self) -> bool {
        *self != Self::default()
    }
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyVersion {
    /// As text.
    V1,
    /// Binary.
    V2,
}
