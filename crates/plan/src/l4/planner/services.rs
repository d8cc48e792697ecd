//! From a Service and its addresses to its plan.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use model::snapshot::{Algorithm, Endpoint, Exposure, Service, ServicePort};
use model::{Diagnostic, L4Settings, Protocol, Snapshot};

use super::super::{Path, PortPlan, ServicePlan, Stream, StreamTls};
use super::frontends::Frontends;
use super::subject::{Subject, annotation};

/// Plans one Service. The caller goes from the oldest to the youngest, since of two that want the
/// same frontend the first one gets it.
pub(super) fn plan<'a>(
    subject: &Subject<'a>,
    exposure: &'a Exposure,
    (addresses, pending): (&[IpAddr], Option<String>),
    (snapshot, settings): (&Snapshot, &L4Settings),
    frontends: &mut Frontends<'a, '_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> ServicePlan {
    let ways = Ways { subject, exposure, snapshot };
    let served = if exposure.refused.is_some() { &[] } else { addresses };
    ways.diagnose(diagnostics);
    let ports = subject
        .service
        .ports
        .iter()
        .enumerate()
        .map(|(index, port)| {
            let (endpoints, only_remote) = choose(&port.endpoints, exposure.local_only);
            let path = ways.path(port);
            PortPlan {
                name: port.name.clone(),
                protocol: port.protocol,
                number: port.number,
                frontends: frontends.of_port(subject, exposure, served, index, diagnostics),
                endpoints,
                only_remote,
                algorithm: match (&path, exposure.algorithm) {
                    (Path::Kernel, Algorithm::LeastConnections) => Algorithm::Random,
                    (_, algorithm) => algorithm,
                },
                path,
            }
        })
        .collect::<Vec<_>>();
    ways.warn_of_hidden_clients(&ports, diagnostics);
    ServicePlan {
        service: subject.key.clone(),
        load_balancer: exposure.load_balancer || exposure.refused.is_some(),
        addresses: addresses.to_vec(),
        pending: exposure.refused.clone().or(pending),
        ports,
        source_ranges: exposure.source_ranges.clone(),
        affinity: exposure.affinity,
        snat: snat(subject, exposure, settings, diagnostics),
        local_only: exposure.local_only,
        health_check_node_port: exposure.health_check_node_port,
        local_endpoints: local_endpoints(&subject.service.ports),
    }
}

/// The plan of a Service of which nothing has changed but what its ports lead to.
pub(super) fn with_endpoints(before: &ServicePlan, service: &Service) -> ServicePlan {
    let mut plan = before.clone();
    for (planned, port) in plan.ports.iter_mut().zip(&service.ports) {
        (planned.endpoints, planned.only_remote) = choose(&port.endpoints, before.local_only);
    }
    plan.local_endpoints = local_endpoints(&service.ports);
    plan
}

/// The endpoints that take new connections, and whether it is only their being elsewhere that
/// leaves none.
fn choose(all: &[Endpoint], local_only: bool) -> (Arc<[Endpoint]>, bool) {
    let chosen = |terminating: bool| -> Arc<[Endpoint]> {
        let takes = |endpoint: &Endpoint| {
            (endpoint.local || !local_only) && endpoint.terminating == terminating
        };
        // The usual case, without a detour over a vector.
        if all.iter().all(takes) {
            return all.into();
        }
        all.iter().filter(|endpoint| takes(endpoint)).cloned().collect()
    };
    let ready = chosen(false);
    let chosen = if ready.is_empty() { chosen(true) } else { ready };
    let only_remote = chosen.is_empty() && !all.is_empty();
    (chosen, only_remote)
}

/// How many addresses are local and ready, over all ports.
fn local_endpoints(ports: &[ServicePort]) -> usize {
    match ports {
        // They are sorted by address.
        [port] => {
            let mut last = None;
            serving(port).filter(|address| last.replace(*address) != Some(*address)).count()
        }
        _ => ports.iter().flat_map(serving).collect::<BTreeSet<_>>().len(),
    }
}

/// The addresses of a port's endpoints that are local and ready.
fn serving(port: &ServicePort) -> impl Iterator<Item = IpAddr> {
    let all = port.endpoints.iter().filter(|endpoint| endpoint.local && !endpoint.terminating);
    all.map(|endpoint| endpoint.address.ip())
}

/// The client's address is kept where a policy keeps connections on the node for its sake.
fn snat(
    subject: &Subject<'_>,
    exposure: &Exposure,
    settings: &L4Settings,
    diagnostics: &mut Vec<Diagnostic>,
) -> bool {
    if exposure.local_only && exposure.snat == Some(true) {
        diagnostics.push(
            subject
                .warning(
                    &annotation("snat"),
                    "with externalTrafficPolicy: Local endpoints see the client's address all the \
                     same"
                        .to_owned(),
                )
                .value("true")
                .remedy("remove the annotation, or set spec.externalTrafficPolicy to Cluster"),
        );
    }
    !exposure.local_only && exposure.snat.unwrap_or(settings.snat)
}

/// How the connections of a Service's ports go.
struct Ways<'a> {
    subject: &'a Subject<'a>,
    exposure: &'a Exposure,
    snapshot: &'a Snapshot,
}

impl Ways<'_> {
    fn path(&self, port: &ServicePort) -> Path {
        let (options, tls) = (&self.exposure.stream, self.tls(port));
        let least = self.exposure.algorithm == Algorithm::LeastConnections;
        let user_space = match port.protocol {
            Protocol::Tcp => {
                least
                    || options.forced
                    || options.accept_proxy
                    || options.send_proxy.is_some()
                    || options.idle_ms.is_some()
                    || tls != StreamTls::Off
            }
            Protocol::Udp => options.forced,
            Protocol::Sctp => false,
        };
        if !user_space {
            return Path::Kernel;
        }
        let tcp = port.protocol == Protocol::Tcp;
        Path::UserSpace(Box::new(Stream {
            tls,
            accept_proxy: options.accept_proxy && tcp,
            send_proxy: options.send_proxy.filter(|_| tcp),
            idle_ms: options.idle_ms,
        }))
    }

    fn tls(&self, port: &ServicePort) -> StreamTls {
        let options = &self.exposure.stream;
        let named = options.tls_ports.is_empty() || options.tls_ports.contains(&port.number);
        match &options.tls_secret {
            Some(secret) if named && port.protocol == Protocol::Tcp => {
                let pair = self.snapshot.certificates.get(secret).cloned();
                StreamTls::Terminate { secret: secret.clone(), pair }
            }
            _ => match self.subject.sni_hosts(port.protocol) {
                [] => StreamTls::Off,
                hosts => StreamTls::Passthrough { hosts: hosts.to_vec() },
            },
        }
    }

    /// Tells of a policy that is to keep the client's address on a way that doesn't.
    fn warn_of_hidden_clients(&self, ports: &[PortPlan], diagnostics: &mut Vec<Diagnostic>) {
        let hidden = |port: &PortPlan| match &port.path {
            Path::UserSpace(stream) => stream.send_proxy.is_none(),
            Path::Kernel => false,
        };
        if !self.exposure.local_only || !ports.iter().any(hidden) {
            return;
        }
        let options = &self.exposure.stream;
        let why = [
            (options.forced, "user-space"),
            (options.tls_secret.is_some(), "tls-secret"),
            (!options.sni_hosts.is_empty(), "sni-hosts"),
            (options.accept_proxy, "accept-proxy-protocol"),
            (options.idle_ms.is_some(), "idle-timeout"),
        ];
        let name = why.iter().find(|(is, _)| *is).map_or("algorithm", |(_, name)| name);
        let reason = "the Service goes through user space with it: endpoints see the edge's \
                      address in spite of externalTrafficPolicy: Local";
        let remedy = match name {
            "algorithm" => {
                "set tidegate.io/send-proxy-protocol, or choose an algorithm of the kernel's"
            }
            _ => {
                "set tidegate.io/send-proxy-protocol, or remove what asks for user space and choose \
                 an algorithm of the kernel's"
            }
        };
        diagnostics.push(self.subject.warning(&annotation(name), reason.to_owned()).remedy(remedy));
    }

    /// Tells of what `ingest` couldn't know of.
    fn diagnose(&self, diagnostics: &mut Vec<Diagnostic>) {
        if self.exposure.algorithm != Algorithm::LeastConnections || self.exposure.stream.forced {
            return;
        }
        let ports = self.subject.service.ports.iter();
        for port in ports.filter(|port| port.protocol == Protocol::Udp) {
            let reason = format!(
                "packets to UDP port {} go through the kernel, which counts no connections: the \
                 choice is random",
                port.number
            );
            diagnostics.push(
                self.subject
                    .warning(&annotation("algorithm"), reason)
                    .value("least-connections")
                    .remedy("choose another algorithm, or set tidegate.io/user-space: \"true\""),
            );
        }
    }
}
