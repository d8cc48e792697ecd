//! Services and what serves them.

use std::net::SocketAddr;

use serde::Serialize;

/// A Service, with the endpoints of each of its ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// The DNS name that an ExternalName Service stands for, lower-case.
    pub external_name: Option<String>,
    /// Its TCP ports, in the object's order.
    pub ports: Vec<ServicePort>,
    /// Why nothing can be sent to it, where the object is broken.
    pub broken: Option<String>,
}

/// One TCP port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name, empty for the only port of a Service.
    pub name: String,
    /// Its number on the Service.
    pub number: u16,
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
}
