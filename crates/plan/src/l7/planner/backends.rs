//! From a Service's port, as a rule names it, to what serves it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use model::snapshot::{BackendRef, PortRef, Service, ServicePort};
use model::{Diagnostic, ObjectKey, ObjectRef, Protocol, Snapshot};

use crate::l7::{Backend, BackendId, Endpoints};

/// A Service and its port, by name if it has one.
pub(super) type BackendKey = (ObjectKey, String);

/// The backends' numbers.
pub(super) type Ids = BTreeMap<BackendKey, BackendId>;

/// All backends that any route uses, each once.
pub(super) struct Backends<'a> {
    services: &'a BTreeMap<ObjectKey, Arc<Service>>,
    used: BTreeMap<BackendKey, Endpoints>,
}

/// Why a rule's backend can't be found.
#[derive(Debug)]
pub(super) enum Unresolved {
    Service(ObjectKey),
    Broken { service: ObjectKey, reason: String },
    Port { service: ObjectKey, port: PortRef, known: Vec<String> },
}

impl<'a> Backends<'a> {
    pub(super) fn new(snapshot: &'a Snapshot) -> Self {
        Self { services: &snapshot.services, used: BTreeMap::new() }
    }

    /// Finds a backend and notes that it is used.
    pub(super) fn resolve(&mut self, wanted: &BackendRef) -> Result<BackendKey, Unresolved> {
        let (key, endpoints) = self.find(wanted)?;
        self.used.entry(key.clone()).or_insert(endpoints);
        Ok(key)
    }

    /// Finds a backend and what serves it.
    pub(super) fn find(&self, wanted: &BackendRef) -> Result<(BackendKey, Endpoints), Unresolved> {
        let Some(service) = self.services.get(&wanted.service) else {
            return Err(Unresolved::Service(wanted.service.clone()));
        };
        if let Some(reason) = &service.broken {
            let (service, reason) = (wanted.service.clone(), reason.clone());
            return Err(Unresolved::Broken { service, reason });
        }
        let port = service.ports.iter().filter(tcp).find(|port| match &wanted.port {
            PortRef::Name(name) => port.name == *name,
            PortRef::Number(number) => port.number == *number,
        });
        let (name, endpoints) = match (&service.external_name, port, &wanted.port) {
            (None, Some(port), _) => {
                (port_label(&port.name, port.number), Endpoints::Static(port.endpoints.clone()))
            }
            (Some(host), Some(port), _) => (
                port_label(&port.name, port.number),
                Endpoints::Dns { host: host.clone(), port: port.number },
            ),
            // An ExternalName needs no list of ports.
            (Some(host), None, &PortRef::Number(number)) => {
                (number.to_string(), Endpoints::Dns { host: host.clone(), port: number })
            }
            (_, None, by) => {
                let known = service.ports.iter().filter(tcp).map(|port| match by {
                    PortRef::Number(_) if port.name.is_empty() => port.number.to_string(),
                    PortRef::Number(_) => format!("{} ({})", port.number, port.name),
                    PortRef::Name(_) => port_label(&port.name, port.number),
                });
                let known = known.collect();
                let (service, port) = (wanted.service.clone(), wanted.port.clone());
                return Err(Unresolved::Port { service, port, known });
            }
        };
        Ok(((wanted.service.clone(), name), endpoints))
    }

    /// The same, where the port stands as text in the configuration.
    pub(super) fn resolve_text(
        &mut self,
        service: &ObjectKey,
        port: &str,
    ) -> Result<BackendKey, Unresolved> {
        let port = port.parse().map_or_else(|_| PortRef::Name(port.to_owned()), PortRef::Number);
        self.resolve(&BackendRef { service: service.clone(), port })
    }

    /// The backends in order, and their numbers.
    pub(super) fn finish(self) -> (Vec<Backend>, Ids) {
        let ids = self.used.keys().cloned().zip((0..=u32::MAX).map(BackendId)).collect();
        let backends = self
            .used
            .into_iter()
            .map(|((service, port), endpoints)| Backend { service, port, endpoints })
            .collect();
        (backends, ids)
    }
}

pub(in crate::l7) fn port_label(name: &str, number: u16) -> String {
    if name.is_empty() { number.to_string() } else { name.to_owned() }
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(service) => write!(f, "Service {service} does not exist"),
            Self::Broken { service, reason } => {
                write!(f, "Service {service} is broken: {reason}")
            }
            Self::Port { service, port, .. } => {
                write!(f, "Service {service} has no TCP port {port}")
            }
        }
    }
}

impl Unresolved {
    /// The finding about `object`, whose `field` names the backend.
    pub(super) fn diagnostic(self, object: ObjectRef, field: &str) -> Diagnostic {
        let reason = format!("{self}; its requests are answered with 503");
        match self {
            Self::Service(service) => {
                Diagnostic::error(object, format!("{field}.service.name"), reason)
                    .remedy(format!("create Service {service}, or name one that exists"))
                    .value(&service.name)
            }
            Self::Broken { service, .. } => {
                Diagnostic::error(object, format!("{field}.service.name"), reason)
                    .remedy(format!("correct Service {service}"))
                    .value(&service.name)
            }
            Self::Port { service, port, known } => {
                let remedy = if known.is_empty() {
                    format!("add the port to Service {service}")
                } else {
                    format!("write one of its ports: {}", known.join(", "))
                };
                Diagnostic::error(object, format!("{field}.service.port"), reason)
                    .value(port.to_string())
                    .remedy(remedy)
            }
        }
    }
}

/// Whether an ALB can use the port.
pub(in crate::l7) fn tcp(port: &&ServicePort) -> bool {
    port.protocol == Protocol::Tcp
}
