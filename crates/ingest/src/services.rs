//! Services: their ports, the endpoints of these, and how they are reached from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use model::snapshot::{IngressTarget, Service, Snapshot};
use model::{AlbSettings, Diagnostic, L4Settings, Location, ObjectKey, ObjectRef, Settings};

use crate::report::{Report, shown};
use crate::secrets::Certificates;
use crate::{ObjectSet, names};

mod annotations;
mod exposure;
mod node_ports;
mod ports;
mod slices;

use slices::{SERVICE_LABEL, Slice, Slices};

/// All Services with their endpoints, and with the L4 plane enabled, how they are exposed.
pub(crate) fn services(
    objects: &ObjectSet,
    settings: &Settings,
    certificates: &mut Certificates<'_>,
    report: &mut Report<'_>,
) -> BTreeMap<ObjectKey, Service> {
    let l4 = settings.l4.as_ref();
    let slices = Slices::new(objects, l4, report);
    let mut services = BTreeMap::new();
    // Origins are in the order of the Services, so that none has to be searched for.
    let mut origins = origins(objects).peekable();
    for (place, (key, object)) in objects.services.iter().enumerate() {
        let sought = (Some(key.namespace.as_str()), key.name.as_str());
        while origins.next_if(|(name, _)| *name < sought).is_some() {}
        let location = origins.next_if(|(name, _)| *name == sought).map(|(_, location)| location);
        let reader = Reader { key, location, objects, l4, slices: slices.of(place), report };
        let service = reader.service(object, slices.on_a_node, certificates);
        services.insert(key.clone(), service);
    }
    if l4.is_some() {
        node_ports::settle(&mut services, report);
    }
    services
}

/// Where each Service was read, by namespace and name, in their order.
fn origins(objects: &ObjectSet) -> impl Iterator<Item = ((Option<&str>, &str), &Location)> {
    let first = ObjectRef { kind: "Service".to_owned(), namespace: None, name: String::new() };
    objects
        .origins
        .range(first..)
        .take_while(|(object, _)| object.kind == "Service")
        .map(|(object, location)| ((object.namespace.as_deref(), object.name.as_str()), location))
}

/// Warns of Services that something leads to and that no EndpointSlice belongs to, not even an
/// empty one: where objects are written by hand it was forgotten, or its label is wrong.
pub(crate) fn without_slices(
    objects: &ObjectSet,
    albs: &[AlbSettings],
    snapshot: &Snapshot,
    report: &mut Report<'_>,
) {
    let of_ingresses = snapshot.ingresses.values().flat_map(|ingress| {
        let paths = ingress.rules.iter().flat_map(|rule| &rule.paths);
        paths.map(|path| &path.target).chain(&ingress.default_backend)
    });
    let of_ingresses = of_ingresses.filter_map(|target| match target {
        IngressTarget::Service(backend) => Some(&backend.service),
        IngressTarget::Broken(_) => None,
    });
    let of_albs =
        albs.iter().filter_map(|alb| alb.default_backend.as_ref().map(|(service, _)| service));
    let routed: BTreeSet<&ObjectKey> = of_ingresses.chain(of_albs).collect();
    let has_slice: BTreeSet<(&str, &str)> = (objects.endpoint_slices.iter())
        .filter_map(|(key, slice)| {
            let name = slice.metadata.labels.as_ref()?.get(SERVICE_LABEL)?;
            Some((key.namespace.as_str(), name.as_str()))
        })
        .collect();
    for (key, service) in &snapshot.services {
        let routed = routed.contains(key);
        if !routed && service.exposure.is_none()
            || has_slice.contains(&(key.namespace.as_str(), key.name.as_str()))
            || service.external_name.is_some()
            || service.broken.is_some()
        {
            continue;
        }
        let answer = match (routed, service.exposure.is_some()) {
            (true, false) => "answered with 503",
            (true, true) => "answered with 503, and connections from outside are rejected",
            (false, _) => "connections from outside are rejected",
        };
        let reference = ObjectRef::namespaced("Service", key);
        report.push(
            Diagnostic::warning(reference, "", format!("has no EndpointSlice; {answer}")).remedy(
                format!(
                    "add an EndpointSlice in its namespace with the label {SERVICE_LABEL}: {}",
                    key.name
                ),
            ),
        );
    }
}

/// Reads one Service.
struct Reader<'a, 'b, 'c> {
    key: &'a ObjectKey,
    /// Where it was read, if it was in a manifest.
    location: Option<&'a Location>,
    objects: &'a ObjectSet,
    /// None: only what ALBs need is read.
    l4: Option<&'a L4Settings>,
    slices: &'a [Slice<'a>],
    report: &'b mut Report<'c>,
}

impl Reader<'_, '_, '_> {
    /// With `on_a_node`, the gateway's own node counts for `externalTrafficPolicy: Local`.
    fn service(
        mut self,
        object: &core::Service,
        on_a_node: bool,
        certificates: &mut Certificates<'_>,
    ) -> Service {
        let Some(spec) = &object.spec else { return Service::default() };
        let mut service = Service::default();
        let external = spec.type_.as_deref() == Some("ExternalName");
        if external {
            let text = spec.external_name.as_deref().unwrap_or_default();
            match external_name(text) {
                Ok(name) => service.external_name = Some(name),
                Err(reason) => {
                    let remedy = "write a DNS name; for an address, make a Service without \
                                  selector and an EndpointSlice";
                    self.error("spec.externalName", text, reason, remedy);
                    service.broken = Some(format!("spec.externalName: {reason}"));
                }
            }
        }
        service.ports = self.ports(spec, on_a_node);
        if let Some(l4) = self.l4 {
            service.exposure = self.exposure(object, spec, l4, &mut service.ports, certificates);
        }
        service
    }

    fn reference(&self) -> ObjectRef {
        ObjectRef::namespaced("Service", self.key)
    }

    fn error(
        &mut self,
        field: impl Into<String>,
        value: impl AsRef<str>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let diagnostic = Diagnostic::error(self.reference(), field, reason);
        self.report.push(diagnostic.value(shown(value.as_ref())).remedy(remedy));
    }

    fn warning(
        &mut self,
        field: impl Into<String>,
        value: impl AsRef<str>,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let diagnostic = Diagnostic::warning(self.reference(), field, reason);
        self.report.push(diagnostic.value(shown(value.as_ref())).remedy(remedy));
    }
}

fn external_name(text: &str) -> Result<String, &'static str> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if name.parse::<IpAddr>().is_ok() {
        return Err("an address is not a DNS name");
    }
    names::subdomain(&name).map(|()| name)
}

#[cfg(test)]
mod tests;
