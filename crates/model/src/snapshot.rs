//! The immutable picture of all objects that the planners read.
//!
//! `ingest` builds it from Kubernetes objects; everything in it has been parsed once, so the
//! planners never look at raw text. Maps and vectors have a deterministic order.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::names::ObjectKey;
use crate::shared::{Shared, SharedMap};

pub mod ingress;
pub mod machine;
pub mod overlay;
pub mod policy;
pub mod pool;
pub mod service;
pub mod tls;
pub mod vpn;

pub use ingress::{
    BackendRef, Balance, HostMatch, Ingress, IngressPolicy, IngressTarget, PathMatch, PathRule,
    PortRef, Redirect, Rule, SslRedirect, Timeouts, TlsBlock,
};
pub use machine::Machine;
pub use policy::Policies;
pub use pool::{AddressPool, AddressRange, Announce, LabelSelector, Operator, Requirement};
pub use service::{
    Algorithm, Dual, Endpoint, Endpoints, Exposure, Families, ProxyVersion, Requested, Service,
    ServicePort, StreamOptions,
};
pub use tls::TlsPair;

/// All objects, parsed. Built by `ingest`, read by `plan`. A copy costs nothing, and what is the same
/// in memory as before has not changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The Ingresses that belong to an enabled ALB. Those of other classes are not here.
    pub ingresses: SharedMap<ObjectKey, Arc<Ingress>>,
    /// Every Service.
    pub services: SharedMap<ObjectKey, Arc<Service>>,
    /// The AddressPools, by name. Empty where L4 is not enabled.
    pub pools: SharedMap<String, AddressPool>,
    /// Calico's host policies. Empty where L4 is not enabled.
    pub policies: Shared<Policies>,
    /// The `kubernetes.io/tls` Secrets that an Ingress, an ALB or a Service refers to, without the broken
    /// ones.
    pub certificates: SharedMap<ObjectKey, TlsPair>,
    /// The VpnConnections without the broken ones. Empty where `vpn` is not enabled.
    pub vpn: SharedMap<ObjectKey, vpn::VpnConnection>,
    /// Networks of the VpnConnections that are refused, as this side's hosts see them: nothing
    /// may reach them in the clear, either.
    pub vpn_refused: SharedMap<ObjectKey, Vec<IpNet>>,
    /// Addresses of each zone's Nodes and their pods, by zone; of Nodes without a zone under no
    /// name. Empty where `vpn` is not enabled.
    pub zones: SharedMap<String, Vec<IpNet>>,
    /// Single addresses of this side's machines: of Nodes and edges, and what an edge finds out by
    /// itself.
    pub machines: SharedMap<IpAddr, Machine>,
    /// The cluster's Nodes, by name. Empty where `overlay` is not enabled.
    pub nodes: SharedMap<String, overlay::Node>,
    /// All edges, this one too, by name. Empty where `overlay` is not enabled.
    pub edges: SharedMap<String, overlay::Edge>,
    /// All VpnConnections, the refused ones too, as agents see them. Empty where `overlay` is not
    /// enabled.
    pub connections: SharedMap<ObjectKey, overlay::Connection>,
}
