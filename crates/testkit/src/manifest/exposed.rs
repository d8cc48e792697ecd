//! Services that are reached from outside, what serves them, and pools.

use std::fmt::Write as _;
use std::net::IpAddr;

/// A Service, put together step by step.
#[derive(Clone, Debug)]
pub struct Exposed {
    name: String,
    kind: String,
    annotations: Vec<(String, String)>,
    labels: Vec<(String, String)>,
    spec: String,
    ports: Vec<String>,
}

impl Exposed {
    /// Of type LoadBalancer.
    pub fn load_balancer(name: &str) -> Self {
        Self::new(name, "LoadBalancer")
    }

    /// Of type NodePort.
    pub fn node_port(name: &str) -> Self {
        Self::new(name, "NodePort")
    }

    /// Of this type.
    pub fn new(name: &str, kind: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: kind.to_owned(),
            annotations: Vec::new(),
            labels: Vec::new(),
            spec: String::new(),
            ports: Vec::new(),
        }
    }

    /// Changes its type.
    #[must_use]
    pub fn kind(mut self, kind: &str) -> Self {
        kind.clone_into(&mut self.kind);
        self
    }

    /// An annotation `tidegate.io/…`.
    #[must_use]
    pub fn tidegate(mut self, name: &str, value: &str) -> Self {
        self.annotations.push((format!("tidegate.io/{name}"), value.to_owned()));
        self
    }

    /// Asks for this address.
    #[must_use]
    pub fn at(self, address: impl ToString) -> Self {
        self.tidegate("addresses", &address.to_string())
    }

    /// A label.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A port of TCP, named `tcp-NUMBER`.
    #[must_use]
    pub fn tcp(self, number: u16) -> Self {
        self.port("TCP", number, None)
    }

    /// A port of TCP with its NodePort.
    #[must_use]
    pub fn tcp_node_port(self, number: u16, node_port: u16) -> Self {
        self.port("TCP", number, Some(node_port))
    }

    /// A port, named `tcp-NUMBER` and the like.
    #[must_use]
    pub fn port(mut self, protocol: &str, number: u16, node_port: Option<u16>) -> Self {
        let name = format!("{}-{number}", protocol.to_lowercase());
        let node_port = node_port.map_or(String::new(), |port| format!(", nodePort: {port}"));
        self.ports.push(format!(
            "{{name: {name}, protocol: {protocol}, port: {number}, targetPort: {name}{node_port}}}"
        ));
        self
    }

    /// No ports: others are to follow.
    #[must_use]
    pub fn without_ports(mut self) -> Self {
        self.ports.clear();
        self
    }

    /// Further keys of `spec`, as YAML lines without indent.
    #[must_use]
    pub fn spec(mut self, yaml: &str) -> Self {
        for line in yaml.lines() {
            let _ = writeln!(self.spec, "  {line}");
        }
        self
    }

    /// The manifest.
    pub fn yaml(&self) -> String {
        let Self { name, kind, spec, .. } = self;
        let map = |pairs: &[(String, String)]| {
            pairs.iter().map(|(key, value)| format!("    {key}: {value:?}\n")).collect::<String>()
        };
        let annotations = map(&self.annotations);
        let labels = map(&self.labels);
        let ports: String = self.ports.iter().map(|port| format!("  - {port}\n")).collect();
        format!(
            "apiVersion: v1
kind: Service
metadata:
  name: {name}
  namespace: shop
  labels:
    app: {name}
{labels}  annotations:
    example.com/about: test
{annotations}spec:
  type: {kind}
  selector: {{app: {name}}}
{spec}  ports:
{ports}---
"
        )
    }
}

/// An EndpointSlice, put together step by step. Its ports are named as those of [`Exposed`].
#[derive(Clone, Debug)]
pub struct Slice {
    name: String,
    service: String,
    ports: Vec<String>,
    endpoints: Vec<(IpAddr, String)>,
}

impl Slice {
    /// Of a Service.
    pub fn of(service: &str) -> Self {
        Self {
            name: format!("{service}-1"),
            service: service.to_owned(),
            ports: Vec::new(),
            endpoints: Vec::new(),
        }
    }

    /// With another name: a Service may have several.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// The TCP port of the Service with this number is served on `target`.
    #[must_use]
    pub fn tcp(self, number: u16, target: u16) -> Self {
        self.port("TCP", number, target)
    }

    /// The port of the Service with this number is served on `target`.
    #[must_use]
    pub fn port(mut self, protocol: &str, number: u16, target: u16) -> Self {
        let name = format!("{}-{number}", protocol.to_lowercase());
        self.ports.push(format!("{{name: {name}, protocol: {protocol}, port: {target}}}"));
        self
    }

    /// An endpoint that is ready.
    #[must_use]
    pub fn ready(self, address: IpAddr) -> Self {
        self.endpoint(address, "conditions: {ready: true}")
    }

    /// An endpoint that terminates and still serves.
    #[must_use]
    pub fn terminating(self, address: IpAddr) -> Self {
        self.endpoint(address, "conditions: {ready: false, serving: true, terminating: true}")
    }

    /// An endpoint that is ready, on a node.
    #[must_use]
    pub fn ready_on(self, address: IpAddr, node: &str) -> Self {
        self.endpoint(address, &format!("conditions: {{ready: true}}, nodeName: {node}"))
    }

    /// An endpoint with these keys, as in `conditions: {ready: true}, nodeName: edge-1`.
    #[must_use]
    pub fn endpoint(mut self, address: IpAddr, keys: &str) -> Self {
        self.endpoints.push((address, keys.to_owned()));
        self
    }

    /// The manifest.
    pub fn yaml(&self) -> String {
        let Self { name, service, ports, endpoints } = self;
        let family = match endpoints.first() {
            Some((IpAddr::V6(_), _)) => "IPv6",
            _ => "IPv4",
        };
        let ports = ports.join(", ");
        let endpoints: Vec<_> = endpoints
            .iter()
            .map(|(address, keys)| format!("{{addresses: [\"{address}\"], {keys}}}"))
            .collect();
        let endpoints = endpoints.join(", ");
        format!(
            "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {name}
  namespace: shop
  labels: {{kubernetes.io/service-name: {service}}}
addressType: {family}
ports: [{ports}]
endpoints: [{endpoints}]
---
"
        )
    }
}

/// An AddressPool of these addresses, with further keys of `spec` as YAML lines without indent.
pub fn pool(name: &str, addresses: &[&str], spec: &str) -> String {
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "apiVersion: tidegate.io/v1alpha1
kind: AddressPool
metadata: {{name: {name}}}
spec:
  addresses: {addresses:?}
{spec}---
"
    )
}
