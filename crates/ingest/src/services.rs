//! Services, and the endpoints of their ports from EndpointSlices.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::{self as discovery, EndpointSlice};
use model::snapshot::{Endpoint, IngressTarget, Service, ServicePort, Snapshot};
use model::{AlbSettings, Diagnostic, ObjectKey, ObjectRef, Protocol};

use crate::report::Report;
use crate::{ObjectSet, names};

const SERVICE_LABEL: &str = "kubernetes.io/service-name";
const WEIGHT_ANNOTATION: &str = "tidegate.io/weight";

/// All Services with their endpoints.
pub(crate) fn services(
    objects: &ObjectSet,
    report: &mut Report<'_>,
) -> BTreeMap<ObjectKey, Service> {
    let slices = slices(objects, report);
    let none = Vec::new();
    objects
        .services
        .iter()
        .map(|(key, object)| {
            let slices = slices.get(key).unwrap_or(&none);
            (key.clone(), service(key, object, slices, report))
        })
        .collect()
}

/// Warns of Services that routes lead to and that no EndpointSlice belongs to, not even an empty
/// one: where objects are written by hand it was forgotten, or its label is wrong.
pub(crate) fn without_slices(
    objects: &ObjectSet,
    albs: &[AlbSettings],
    snapshot: &Snapshot,
    report: &mut Report<'_>,
) {
    let has_slice: BTreeSet<ObjectKey> = (objects.endpoint_slices.iter())
        .filter_map(|(key, slice)| {
            let name = slice.metadata.labels.as_ref()?.get(SERVICE_LABEL)?;
            Some(ObjectKey::new(&key.namespace, name))
        })
        .collect();
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
    let used: BTreeSet<&ObjectKey> = of_ingresses.chain(of_albs).collect();
    for key in used.into_iter().filter(|key| !has_slice.contains(*key)) {
        let Some(service) = snapshot.services.get(key) else { continue };
        if service.external_name.is_some() || service.broken.is_some() {
            continue;
        }
        report.push(
            Diagnostic::warning(
                ObjectRef::namespaced("Service", key),
                "",
                "has no EndpointSlice; answered with 503",
            )
            .remedy(format!(
                "add an EndpointSlice in its namespace with the label {SERVICE_LABEL}: {}",
                key.name
            )),
        );
    }
}

/// An EndpointSlice, as far as it can be used.
struct Slice {
    ports: Vec<(String, u16)>,
    endpoints: Vec<Address>,
}

/// One of its endpoints.
struct Address {
    ip: IpAddr,
    weight: u16,
    terminating: bool,
}

fn service(
    key: &ObjectKey,
    object: &core::Service,
    slices: &[Slice],
    report: &mut Report<'_>,
) -> Service {
    let reference = || ObjectRef::namespaced("Service", key);
    let Some(spec) = &object.spec else { return Service::default() };
    let mut service = Service::default();
    let external = spec.type_.as_deref() == Some("ExternalName");
    if external {
        let text = spec.external_name.as_deref().unwrap_or_default();
        match external_name(text) {
            Ok(name) => service.external_name = Some(name),
            Err(reason) => {
                report.push(
                    Diagnostic::error(reference(), "spec.externalName", reason).value(text).remedy(
                        "write a DNS name; for an address, make a Service without selector \
                             and an EndpointSlice",
                    ),
                );
                service.broken = Some(format!("spec.externalName: {reason}"));
            }
        }
    }
    for (index, port) in spec.ports.iter().flatten().enumerate() {
        if port.protocol.as_deref().unwrap_or("TCP") != "TCP" {
            continue;
        }
        let Some(number) = names::port_number(port.port) else {
            report.push(
                Diagnostic::error(
                    reference(),
                    format!("spec.ports[{index}].port"),
                    "not a port number",
                )
                .value(port.port.to_string())
                .remedy("write a number from 1 to 65535"),
            );
            continue;
        };
        let name = port.name.clone().unwrap_or_default();
        let endpoints = if external { Vec::new() } else { endpoints(&name, slices) };
        service.ports.push(ServicePort {
            name,
            protocol: Protocol::Tcp,
            number,
            node_port: None,
            endpoints,
        });
    }
    service
}

fn external_name(text: &str) -> Result<String, &'static str> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if name.parse::<IpAddr>().is_ok() {
        return Err("an address is not a DNS name");
    }
    names::subdomain(&name).map(|()| name)
}

/// The endpoints of the port of this name over all slices, each address once: a ready one counts
/// before a terminating one, then the greater weight.
fn endpoints(port: &str, slices: &[Slice]) -> Vec<Endpoint> {
    let mut found: BTreeMap<SocketAddr, (bool, Reverse<u16>)> = BTreeMap::new();
    for slice in slices {
        for (_, number) in slice.ports.iter().filter(|(name, _)| name == port) {
            for endpoint in &slice.endpoints {
                let state = (endpoint.terminating, Reverse(endpoint.weight));
                found
                    .entry(SocketAddr::new(endpoint.ip, *number))
                    .and_modify(|best| *best = state.min(*best))
                    .or_insert(state);
            }
        }
    }
    found
        .into_iter()
        .map(|(address, (terminating, Reverse(weight)))| Endpoint {
            address,
            weight,
            terminating,
            local: true,
        })
        .collect()
}

/// The slices by Service, without those of Services that don't exist.
fn slices(objects: &ObjectSet, report: &mut Report<'_>) -> BTreeMap<ObjectKey, Vec<Slice>> {
    let mut by_service: BTreeMap<ObjectKey, Vec<Slice>> = BTreeMap::new();
    for (key, object) in &objects.endpoint_slices {
        let label = object.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_LABEL));
        let Some(name) = label else { continue };
        let service = ObjectKey::new(&key.namespace, name);
        if !objects.services.contains_key(&service) {
            continue;
        }
        if let Some(slice) = slice(key, object, report) {
            by_service.entry(service).or_default().push(slice);
        }
    }
    by_service
}

fn slice(key: &ObjectKey, object: &EndpointSlice, report: &mut Report<'_>) -> Option<Slice> {
    let reference = || ObjectRef::namespaced("EndpointSlice", key);
    let is_ipv4 = match object.address_type.as_str() {
        "IPv4" => true,
        "IPv6" => false,
        other => {
            report.push(
                Diagnostic::error(reference(), "addressType", "only addresses are used")
                    .value(other)
                    .remedy("write IPv4 or IPv6; for a DNS name, a Service of type ExternalName"),
            );
            return None;
        }
    };
    let weight = weight(key, object, report);
    let mut slice = Slice { ports: Vec::new(), endpoints: Vec::new() };
    for (index, port) in object.ports.iter().flatten().enumerate() {
        if port.protocol.as_deref().unwrap_or("TCP") != "TCP" {
            continue;
        }
        match port.port.and_then(names::port_number) {
            Some(number) => slice.ports.push((port.name.clone().unwrap_or_default(), number)),
            None => {
                let diagnostic = Diagnostic::error(
                    reference(),
                    format!("ports[{index}].port"),
                    "not a port number, so the port has no endpoints here",
                )
                .remedy("write a number from 1 to 65535");
                report.push(match port.port {
                    Some(number) => diagnostic.value(number.to_string()),
                    None => diagnostic,
                });
            }
        }
    }
    for (index, endpoint) in object.endpoints.iter().enumerate() {
        let Some(terminating) = serving(endpoint) else { continue };
        let field = format!("endpoints[{index}].addresses");
        if let Some(ip) = address(endpoint, is_ipv4, &field, &reference, report) {
            slice.endpoints.push(Address { ip, weight, terminating });
        }
    }
    Some(slice)
}

/// Whether an endpoint takes requests, and if so, whether only as long as it terminates. Unknown
/// conditions mean ready and not terminating, as their documentation says.
fn serving(endpoint: &discovery::Endpoint) -> Option<bool> {
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
    let serving = conditions.and_then(|conditions| conditions.serving).unwrap_or(ready);
    let terminating = conditions.and_then(|conditions| conditions.terminating).unwrap_or(false);
    match (ready, serving, terminating) {
        (true, _, false) => Some(false),
        (_, true, true) => Some(true),
        _ => None,
    }
}

/// The first address; what further ones mean is not defined, and kube-proxy ignores them too.
fn address(
    endpoint: &discovery::Endpoint,
    is_ipv4: bool,
    field: &str,
    reference: &dyn Fn() -> ObjectRef,
    report: &mut Report<'_>,
) -> Option<IpAddr> {
    let text = endpoint.addresses.first().map(String::as_str).unwrap_or_default();
    if endpoint.addresses.len() > 1 {
        report.push(
            Diagnostic::warning(reference(), field, "only the first address is used")
                .value(endpoint.addresses.join(", "))
                .remedy("write one endpoint for each address"),
        );
    }
    let ip = text
        .parse::<IpAddr>()
        .ok()
        .filter(|ip| ip.is_ipv4() == is_ipv4 && !ip.is_unspecified() && !ip.is_multicast());
    if ip.is_none() {
        let family = if is_ipv4 { "IPv4" } else { "IPv6" };
        report.push(
            Diagnostic::error(
                reference(),
                format!("{field}[0]"),
                format!("not an {family} unicast address, so the endpoint is left out"),
            )
            .value(text)
            .remedy(format!("write an {family} address, or another addressType")),
        );
    }
    ip
}

fn weight(key: &ObjectKey, object: &EndpointSlice, report: &mut Report<'_>) -> u16 {
    let annotation = object
        .metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(WEIGHT_ANNOTATION));
    let Some(text) = annotation else { return 1 };
    match text.parse() {
        Ok(weight @ 1..=1000) => weight,
        _ => {
            report.push(
                Diagnostic::warning(
                    ObjectRef::namespaced("EndpointSlice", key),
                    format!("metadata.annotations[{WEIGHT_ANNOTATION:?}]"),
                    "not a weight, so 1 is used",
                )
                .value(text)
                .remedy("write a number from 1 to 1000"),
            );
            1
        }
    }
}
