//! A Service's ports.

use k8s_openapi::api::core::v1::{self as core, ServiceSpec};
use model::snapshot::ServicePort;
use model::{Diagnostic, L4Settings, Protocol};

use super::Reader;
use super::slices::{endpoints, other_protocols};
use crate::names;

/// A protocol as it is written, TCP if it isn't; none if Services can't have it.
pub(super) fn protocol(text: Option<&str>) -> Option<Protocol> {
    match text {
        None | Some("" | "TCP") => Some(Protocol::Tcp),
        Some("UDP") => Some(Protocol::Udp),
        Some("SCTP") => Some(Protocol::Sctp),
        Some(_) => None,
    }
}

impl Reader<'_, '_, '_> {
    pub(super) fn ports(&mut self, spec: &ServiceSpec, on_a_node: bool) -> Vec<ServicePort> {
        let written = spec.ports.as_deref().unwrap_or_default();
        let external = spec.type_.as_deref() == Some("ExternalName");
        let mut ports: Vec<ServicePort> = Vec::with_capacity(written.len());
        for (index, port) in written.iter().enumerate() {
            let Some((protocol, number)) = self.protocol_and_number(index, port) else { continue };
            let name = port.name.as_deref().unwrap_or_default();
            let same = |other: &&ServicePort| (other.protocol, other.number) == (protocol, number);
            if ports.iter().any(|other| same(&other)) {
                self.error(
                    format!("spec.ports[{index}].port"),
                    number.to_string(),
                    format!("another port is {number} of {protocol} too, so this one is left out"),
                    "give each port a number of its own",
                );
                continue;
            }
            let endpoints = if external {
                Vec::new()
            } else {
                endpoints(name, protocol, self.slices, on_a_node)
            };
            if endpoints.is_empty()
                && let Some(other) = other_protocols(name, protocol, self.slices)
            {
                self.warning(
                    format!("spec.ports[{index}].protocol"),
                    protocol.to_string(),
                    format!(
                        "has no endpoints: its EndpointSlices have the port {name:?} with \
                         {other}, TCP being the default"
                    ),
                    format!("write protocol: {protocol} there too"),
                );
            }
            let node_port = self.l4.and_then(|l4| self.node_port(index, port, spec, l4));
            ports.push(ServicePort {
                name: name.to_owned(),
                protocol,
                number,
                node_port,
                endpoints,
            });
        }
        ports
    }

    fn protocol_and_number(
        &mut self,
        index: usize,
        port: &core::ServicePort,
    ) -> Option<(Protocol, u16)> {
        let Some(protocol) = protocol(port.protocol.as_deref()) else {
            self.error(
                format!("spec.ports[{index}].protocol"),
                port.protocol.as_deref().unwrap_or_default(),
                "not a protocol that Services have, so the port is left out",
                "write TCP, UDP or SCTP",
            );
            return None;
        };
        let number = names::port_number(port.port);
        if number.is_none() {
            self.error(
                format!("spec.ports[{index}].port"),
                port.port.to_string(),
                "not a port number",
                "write a number from 1 to 65535",
            );
        }
        Some((protocol, number?))
    }

    /// The NodePort of a port, if it has one that may be opened.
    fn node_port(
        &mut self,
        index: usize,
        port: &core::ServicePort,
        spec: &ServiceSpec,
        l4: &L4Settings,
    ) -> Option<u16> {
        let field = || format!("spec.ports[{index}].nodePort");
        let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
        // 0 is how older clients write none.
        let written = port.node_port.filter(|written| *written != 0);
        let Some(written) = written else {
            if kind == "NodePort" && self.location.is_some() {
                let range = l4.node_ports;
                self.report.push(
                    Diagnostic::warning(
                        self.reference(),
                        field(),
                        "is missing, and there is no API server here that chooses one, so none is \
                         opened",
                    )
                    .remedy(format!("write a free port from {} to {}", range.first, range.last)),
                );
            }
            return None;
        };
        if !matches!(kind, "NodePort" | "LoadBalancer") {
            self.warning(
                field(),
                written.to_string(),
                format!("has no effect on a Service of type {kind}"),
                "write type: NodePort, or remove it",
            );
            return None;
        }
        let number = u16::try_from(written).ok().filter(|number| l4.node_ports.contains(*number));
        if number.is_none() {
            self.error(
                field(),
                written.to_string(),
                format!("isn't in the range of NodePorts, {}, so it isn't opened", l4.node_ports),
                "write one of the range, or change l4.nodePortRange",
            );
        }
        number
    }
}
