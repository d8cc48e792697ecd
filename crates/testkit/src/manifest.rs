//! Kubernetes manifests, as text.
//!
//! All objects stand in the namespace `shop` and belong to the class `tidegate-public`.

mod exposed;

use std::fmt::Write as _;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::backend::Backend;
use crate::tls::Pair;
pub use exposed::{Exposed, Slice, pool};

/// A Service with port 80 (named `http`) and its EndpointSlice with these backends, which must
/// share their port, as pods do.
pub fn service(name: &str, backends: &[&Backend]) -> String {
    let addresses: Vec<SocketAddr> = backends.iter().map(|b| b.address()).collect();
    service_at(name, &addresses)
}

/// The same for plain addresses.
pub fn service_at(name: &str, addresses: &[SocketAddr]) -> String {
    let port = addresses.first().map_or(8000, SocketAddr::port);
    assert!(addresses.iter().all(|a| a.port() == port), "one slice has one port");
    let mut text = format!(
        "apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: shop}}
spec:
  selector: {{app: {name}}}
  ports: [{{name: http, port: 80, targetPort: {port}}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {name}-1
  namespace: shop
  labels: {{kubernetes.io/service-name: {name}}}
addressType: IPv4
ports: [{{name: http, port: {port}, protocol: TCP}}]
endpoints:
"
    );
    if addresses.is_empty() {
        text.truncate(text.len() - 1);
        text.push_str(" []\n");
    }
    for address in addresses {
        let ip = address.ip();
        let _ = writeln!(text, "- {{addresses: [{ip}], conditions: {{ready: true}}}}");
    }
    text.push_str("---\n");
    text
}

/// A `kubernetes.io/tls` Secret.
pub fn tls_secret(name: &str, pair: &Pair) -> String {
    tls_secret_of(name, &pair.certificate, &pair.key)
}

/// A `kubernetes.io/tls` Secret with any content.
pub fn tls_secret_of(name: &str, certificate: &str, key: &str) -> String {
    format!(
        "apiVersion: v1
kind: Secret
metadata: {{name: {name}, namespace: shop}}
type: kubernetes.io/tls
data:
  tls.crt: {}
  tls.key: {}
---
",
        STANDARD.encode(certificate),
        STANDARD.encode(key)
    )
}

/// An Ingress, put together step by step.
#[derive(Clone, Debug)]
pub struct Ingress {
    name: String,
    created: Option<String>,
    annotations: Vec<(String, String)>,
    default_backend: Option<String>,
    tls: Vec<(Vec<String>, String)>,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    host: Option<String>,
    paths: Vec<RulePath>,
}

#[derive(Clone, Debug)]
struct RulePath {
    kind: String,
    path: String,
    service: String,
}

impl Ingress {
    /// Without any rule.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            created: None,
            annotations: Vec::new(),
            default_backend: None,
            tls: Vec::new(),
            rules: Vec::new(),
        }
    }

    /// When it was created, RFC 3339.
    #[must_use]
    pub fn created(mut self, time: &str) -> Self {
        self.created = Some(time.to_owned());
        self
    }

    /// An annotation.
    #[must_use]
    pub fn annotation(mut self, name: &str, value: &str) -> Self {
        self.annotations.push((name.to_owned(), value.to_owned()));
        self
    }

    /// `spec.defaultBackend`, port 80.
    #[must_use]
    pub fn default_backend(mut self, service: &str) -> Self {
        self.default_backend = Some(service.to_owned());
        self
    }

    /// An entry of `spec.tls`.
    #[must_use]
    pub fn tls(mut self, hosts: &[&str], secret: &str) -> Self {
        let hosts = hosts.iter().map(|&h| h.to_owned()).collect();
        self.tls.push((hosts, secret.to_owned()));
        self
    }

    /// Starts a rule for a host; paths that follow belong to it.
    #[must_use]
    pub fn host(mut self, host: &str) -> Self {
        self.rules.push(Rule { host: Some(host.to_owned()), paths: Vec::new() });
        self
    }

    /// Starts a rule without host.
    #[must_use]
    pub fn any_host(mut self) -> Self {
        self.rules.push(Rule { host: None, paths: Vec::new() });
        self
    }

    /// A path of type `kind` to a Service's port 80.
    #[must_use]
    pub fn path(mut self, kind: &str, path: &str, service: &str) -> Self {
        let rule = self.rules.last_mut().expect("host() or any_host() comes first");
        rule.paths.push(RulePath {
            kind: kind.to_owned(),
            path: path.to_owned(),
            service: service.to_owned(),
        });
        self
    }

    /// A path of type Prefix.
    #[must_use]
    pub fn prefix(self, path: &str, service: &str) -> Self {
        self.path("Prefix", path, service)
    }

    /// A path of type Exact.
    #[must_use]
    pub fn exact(self, path: &str, service: &str) -> Self {
        self.path("Exact", path, service)
    }

    /// The manifest.
    pub fn yaml(&self) -> String {
        let mut text = format!(
            "apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {}
  namespace: shop
",
            self.name
        );
        if let Some(created) = &self.created {
            let _ = writeln!(text, "  creationTimestamp: \"{created}\"");
        }
        if !self.annotations.is_empty() {
            text.push_str("  annotations:\n");
            for (name, value) in &self.annotations {
                let _ = writeln!(text, "    {name}: {value:?}");
            }
        }
        text.push_str("spec:\n  ingressClassName: tidegate-public\n");
        if let Some(service) = &self.default_backend {
            let _ = writeln!(
                text,
                "  defaultBackend: {{service: {{name: {service}, port: {{number: 80}}}}}}"
            );
        }
        if !self.tls.is_empty() {
            text.push_str("  tls:\n");
            for (hosts, secret) in &self.tls {
                let _ = writeln!(text, "  - {{hosts: {hosts:?}, secretName: {secret}}}");
            }
        }
        if !self.rules.is_empty() {
            text.push_str("  rules:\n");
        }
        for Rule { host, paths } in &self.rules {
            match host {
                Some(host) => _ = writeln!(text, "  - host: \"{host}\"\n    http:\n      paths:"),
                None => text.push_str("  - http:\n      paths:\n"),
            }
            for RulePath { kind, path, service } in paths {
                let _ = writeln!(
                    text,
                    "      - {{path: {path:?}, pathType: {kind}, backend: {{service: {{name: {service}, port: {{number: 80}}}}}}}}"
                );
            }
        }
        text.push_str("---\n");
        text
    }
}
