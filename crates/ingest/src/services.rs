//! Services: their ports, the endpoints of these, and how they are reached from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use model::snapshot::{IngressTarget, Service, Snapshot};
use model::{AlbSettings, Diagnostic, L4Settings, Location, ObjectKey, ObjectRef, Settings};

use crate::report::{NOWHERE, Report, shown};
use crate::secrets::Certificates;
use crate::{ObjectSet, names};

mod again;
mod annotations;
mod exposure;
mod node_ports;
mod ports;
mod slices;

use slices::{SERVICE_LABEL, Slice, SliceMemo, Slices};

/// Services and their EndpointSlices that were read before: what is the same in memory isn't read
/// again. Of whatever is not, nothing is remembered.
#[derive(Debug, Default)]
pub struct ServiceMemo {
    /// With these settings.
    l4: Option<L4Settings>,
    slices: SliceMemo,
    known: BTreeMap<ObjectKey, Known>,
}

/// A Service that was read, and all that this depends on.
#[derive(Debug)]
struct Known {
    object: Arc<core::Service>,
    namespace: Option<Arc<core::Namespace>>,
    slices: Vec<Arc<Slice>>,
    on_a_node: bool,
    location: Option<Location>,
    service: Arc<Service>,
    findings: Vec<Diagnostic>,
}

impl Known {
    fn holds(
        &self,
        object: &Arc<core::Service>,
        namespace: Option<&Arc<core::Namespace>>,
        slices: &[Arc<Slice>],
        on_a_node: bool,
        location: Option<&Location>,
    ) -> bool {
        let same_namespace = match (&self.namespace, namespace) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        Arc::ptr_eq(&self.object, object)
            && same_namespace
            && self.on_a_node == on_a_node
            && self.slices.len() == slices.len()
            && self.slices.iter().zip(slices).all(|(one, other)| Arc::ptr_eq(one, other))
            && self.location.as_ref() == location
    }
}

/// All Services with their endpoints, and with the L4 plane enabled, how they are exposed; and of
/// which there is no EndpointSlice, not even an empty one.
pub(crate) fn services<'a>(
    objects: &'a ObjectSet,
    settings: &Settings,
    memo: &mut ServiceMemo,
    certificates: &mut Certificates<'_>,
    report: &mut Report<'_>,
) -> (BTreeMap<ObjectKey, Arc<Service>>, Vec<&'a ObjectKey>) {
    let l4 = settings.l4.as_ref();
    if memo.l4.as_ref() != l4 {
        *memo = ServiceMemo { l4: l4.cloned(), ..ServiceMemo::default() };
    }
    let slices = Slices::new(objects, l4, &mut memo.slices, report);
    let mut services = BTreeMap::new();
    let mut bare = Vec::new();
    memo.known.retain(|key, _| objects.services.contains_key(key));
    // Origins are in the order of the Services, so that none has to be searched for.
    let mut origins = origins(objects).peekable();
    for (place, (key, object)) in objects.services.iter().enumerate() {
        let sought = (Some(key.namespace.as_str()), key.name.as_str());
        while origins.next_if(|(name, _)| *name < sought).is_some() {}
        let location = origins.next_if(|(name, _)| *name == sought).map(|(_, location)| location);
        if !slices.any(place) {
            bare.push(key);
        }
        let (of, on_a_node) = (slices.of(place), slices.on_a_node);
        let namespace = objects.namespaces.get(&key.namespace);
        let known = memo.known.get(key);
        if let Some(known) =
            known.filter(|known| known.holds(object, namespace, of, on_a_node, location))
        {
            known.findings.iter().cloned().for_each(|finding| report.push(finding));
            services.insert(key.clone(), Arc::clone(&known.service));
            continue;
        }
        let mut findings = Report::new(&NOWHERE);
        let asked = certificates.asked();
        let reader = Reader { key, location, namespace, l4, slices: of, report: &mut findings };
        let service = Arc::new(reader.service(object, on_a_node, certificates));
        let findings = findings.finish();
        findings.iter().cloned().for_each(|finding| report.push(finding));
        services.insert(key.clone(), Arc::clone(&service));
        // One that depends on a Secret is read each time.
        if certificates.asked() == asked {
            let known = Known {
                object: Arc::clone(object),
                namespace: namespace.cloned(),
                slices: of.to_vec(),
                on_a_node,
                location: location.cloned(),
                service,
                findings,
            };
            memo.known.insert(key.clone(), known);
        } else {
            memo.known.remove(key);
        }
    }
    if l4.is_some() {
        node_ports::settle(&mut services, report);
    }
    (services, bare)
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
    bare: &[&ObjectKey],
    albs: &[AlbSettings],
    snapshot: &Snapshot,
    report: &mut Report<'_>,
) {
    if bare.is_empty() {
        return;
    }
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
    for key in bare.iter().copied() {
        let Some(service) = snapshot.services.get(key) else { continue };
        let routed = routed.contains(key);
        if !routed && service.exposure.is_none()
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
    /// Its namespace, if that is known.
    namespace: Option<&'a Arc<core::Namespace>>,
    /// None: only what ALBs need is read.
    l4: Option<&'a L4Settings>,
    slices: &'a [Arc<Slice>],
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
