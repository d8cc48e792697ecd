//! EndpointSlices, and the endpoints of a Service's port over all of them.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::{self as discovery, EndpointSlice};
use model::snapshot::Endpoint;
use model::{Diagnostic, L4Settings, ObjectKey, ObjectRef, Protocol};

use crate::report::{NOWHERE, Report};
use crate::{ObjectSet, names};

/// The label by which an EndpointSlice belongs to a Service.
pub(super) const SERVICE_LABEL: &str = "kubernetes.io/service-name";
const WEIGHT_ANNOTATION: &str = "tidegate.io/weight";

/// The slices of all Services that exist.
pub(super) struct Slices {
    /// In the order of the Services.
    by_service: Vec<Of>,
    /// The gateway's machine is a node of the cluster: a Node has its name, or an endpoint is on
    /// it. An edge outside the cluster has no second hop that `externalTrafficPolicy: Local`
    /// could avoid, so that all endpoints are as good as local there.
    pub(super) on_a_node: bool,
}

/// The slices of one Service.
#[derive(Default)]
struct Of {
    /// Those that can be used, in the order of their names.
    slices: Vec<Arc<Slice>>,
    /// Whether there is any.
    any: bool,
}

/// An EndpointSlice, as far as it can be used.
#[derive(Debug)]
pub(super) struct Slice {
    ports: Vec<(String, Protocol, u16)>,
    endpoints: Vec<Address>,
}

/// Slices that were read before.
#[derive(Debug, Default)]
pub(super) struct SliceMemo {
    known: BTreeMap<ObjectKey, Known>,
    /// The slices of each Service, in the order of their names.
    of: BTreeMap<ObjectKey, Vec<ObjectKey>>,
    round: u64,
}

/// What stands in an EndpointSlice.
#[derive(Debug)]
pub(super) struct Known {
    /// As it was read.
    object: Arc<EndpointSlice>,
    pub(super) slice: Option<Arc<Slice>>,
    /// Whether an endpoint is on the node that has the gateway's name.
    here: bool,
    pub(super) findings: Vec<Diagnostic>,
    /// When it was last there.
    round: u64,
}

/// One of its endpoints.
#[derive(Debug)]
struct Address {
    ip: IpAddr,
    weight: u16,
    terminating: bool,
    /// On the node that has the gateway's name.
    here: bool,
}

impl SliceMemo {
    /// What stood in a slice when it was read last, if it was this one.
    pub(super) fn get(&self, key: &ObjectKey, object: &Arc<EndpointSlice>) -> Option<&Known> {
        self.known.get(key).filter(|known| Arc::ptr_eq(&known.object, object))
    }

    /// Forgets a slice that is gone.
    pub(super) fn forget(&mut self, key: &ObjectKey) {
        self.known.remove(key);
    }

    /// The slices of a Service, as they were last told.
    pub(super) fn of(&self, service: &ObjectKey) -> &[ObjectKey] {
        self.of.get(service).map_or(&[], Vec::as_slice)
    }

    /// A slice that wasn't a Service's is one of its now, or the other way round.
    pub(super) fn is_of(&mut self, key: &ObjectKey, service: &ObjectKey, is: bool) {
        let slices = self.of.entry(service.clone()).or_default();
        match (slices.binary_search(key), is) {
            (Err(at), true) => slices.insert(at, key.clone()),
            (Ok(at), false) => drop(slices.remove(at)),
            (Ok(_), true) | (Err(_), false) => {}
        }
    }

    /// What stands in a slice, read anew if it is another one.
    pub(super) fn read(
        &mut self,
        key: &ObjectKey,
        object: &Arc<EndpointSlice>,
        here: Option<&str>,
    ) -> &Known {
        let round = self.round;
        let fresh = || {
            let mut findings = Report::new(&NOWHERE);
            Known {
                object: Arc::clone(object),
                slice: slice(key, object, here, &mut findings).map(Arc::new),
                here: here.is_some() && object.endpoints.iter().any(|one| is_here(one, here)),
                findings: findings.finish(),
                round,
            }
        };
        let is_known = self.known.get(key).is_some_and(|known| Arc::ptr_eq(&known.object, object));
        if !is_known {
            self.known.insert(key.clone(), fresh());
        }
        let known = self.known.get_mut(key).expect("invariant: it was read");
        known.round = round;
        known
    }
}

impl Slices {
    pub(super) fn new(
        objects: &ObjectSet,
        l4: Option<&L4Settings>,
        memo: &mut SliceMemo,
        report: &mut Report<'_>,
    ) -> Self {
        memo.round += 1;
        let here = l4.map(|l4| l4.node_name.as_str());
        let mut on_a_node = here.is_some_and(|here| objects.nodes.contains_key(here));
        let services: Vec<_> =
            objects.services.keys().map(|key| (&*key.namespace, &*key.name)).collect();
        let mut by_service: Vec<_> =
            std::iter::repeat_with(Of::default).take(services.len()).collect();
        let mut keys = vec![Vec::new(); services.len()];
        let mut place = 0;
        for (key, object) in &objects.endpoint_slices {
            let Some(sought) = service_of(key, object) else {
                on_a_node |= object.endpoints.iter().any(|one| is_here(one, here));
                continue;
            };
            // Slices are named after their Services, and so mostly in their order.
            if services.get(place) != Some(&sought) {
                place += 1;
            }
            if services.get(place) != Some(&sought) {
                let Ok(found) = services.binary_search(&sought) else {
                    on_a_node |= object.endpoints.iter().any(|one| is_here(one, here));
                    continue;
                };
                place = found;
            }
            let known = memo.read(key, object, here);
            known.findings.iter().cloned().for_each(|finding| report.push(finding));
            on_a_node |= known.here;
            if let Some(of) = by_service.get_mut(place) {
                of.any = true;
                of.slices.extend(known.slice.clone());
            }
            if let Some(keys) = keys.get_mut(place) {
                keys.push(key.clone());
            }
        }
        memo.of = objects.services.keys().cloned().zip(keys).collect();
        let round = memo.round;
        memo.known.retain(|_, known| known.round == round);
        Self { by_service, on_a_node }
    }

    /// Those of the Service at this place.
    pub(super) fn of(&self, place: usize) -> &[Arc<Slice>] {
        self.by_service.get(place).map_or(&[], |of| of.slices.as_slice())
    }

    /// Whether the Service at this place has any, be it of no use.
    pub(super) fn any(&self, place: usize) -> bool {
        self.by_service.get(place).is_some_and(|of| of.any)
    }
}

/// The endpoints of the port of this name and protocol over all slices, each address once: a ready
/// one counts before a terminating one, then the greater weight.
pub(super) fn endpoints(
    port: &str,
    protocol: Protocol,
    slices: &[Arc<Slice>],
    on_a_node: bool,
) -> Vec<Endpoint> {
    let mut found = Vec::with_capacity(slices.iter().map(|slice| slice.endpoints.len()).sum());
    for slice in slices {
        for (_, _, number) in slice.ports.iter().filter(|(n, p, _)| n == port && *p == protocol) {
            found.extend(slice.endpoints.iter().map(|endpoint| Endpoint {
                address: SocketAddr::new(endpoint.ip, *number),
                weight: endpoint.weight,
                terminating: endpoint.terminating,
                local: endpoint.here || !on_a_node,
            }));
        }
    }
    found.sort_unstable_by_key(|endpoint| {
        (endpoint.address, endpoint.terminating, Reverse(endpoint.weight), !endpoint.local)
    });
    found.dedup_by_key(|endpoint| endpoint.address);
    found
}

/// The other protocols that slices have a port of this name with.
pub(super) fn other_protocols(
    port: &str,
    protocol: Protocol,
    slices: &[Arc<Slice>],
) -> Option<Protocol> {
    let ports = slices.iter().flat_map(|slice| &slice.ports);
    let mut others = ports.filter(|(name, other, _)| name == port && *other != protocol);
    others.next().map(|(_, other, _)| *other)
}

/// The namespace and name of the Service that a slice says to be of.
pub(super) fn service_of<'a>(
    key: &'a ObjectKey,
    object: &'a EndpointSlice,
) -> Option<(&'a str, &'a str)> {
    let name = object.metadata.labels.as_ref()?.get(SERVICE_LABEL)?;
    Some((&key.namespace, name))
}

pub(super) fn is_here(endpoint: &discovery::Endpoint, here: Option<&str>) -> bool {
    here.is_some() && endpoint.node_name.as_deref() == here
}

fn slice(
    key: &ObjectKey,
    object: &EndpointSlice,
    here: Option<&str>,
    report: &mut Report<'_>,
) -> Option<Slice> {
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
    let mut slice = Slice {
        ports: Vec::with_capacity(object.ports.as_ref().map_or(0, Vec::len)),
        endpoints: Vec::with_capacity(object.endpoints.len()),
    };
    for (index, port) in object.ports.iter().flatten().enumerate() {
        let Some(protocol) = super::ports::protocol(port.protocol.as_deref()) else {
            report.push(
                Diagnostic::error(
                    reference(),
                    format!("ports[{index}].protocol"),
                    "not a protocol that Services have, so the port has no endpoints here",
                )
                .value(port.protocol.as_deref().unwrap_or_default())
                .remedy("write TCP, UDP or SCTP"),
            );
            continue;
        };
        match port.port.and_then(names::port_number) {
            Some(number) => {
                slice.ports.push((port.name.clone().unwrap_or_default(), protocol, number));
            }
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
        if let Some(ip) = address(endpoint, is_ipv4, index, &reference, report) {
            let here = is_here(endpoint, here);
            slice.endpoints.push(Address { ip, weight, terminating, here });
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
    index: usize,
    reference: &dyn Fn() -> ObjectRef,
    report: &mut Report<'_>,
) -> Option<IpAddr> {
    let text = endpoint.addresses.first().map(String::as_str).unwrap_or_default();
    if endpoint.addresses.len() > 1 {
        report.push(
            Diagnostic::warning(
                reference(),
                format!("endpoints[{index}].addresses"),
                "only the first address is used",
            )
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
                format!("endpoints[{index}].addresses[0]"),
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
