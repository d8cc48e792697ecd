//! HostEndpoints and GlobalNetworkSets.

use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use model::snapshot::policy::{HostEndpoint, Interface, NamedPort, NetworkSet};
use model::{Diagnostic, ObjectRef, Protocol};

use super::objects;
use super::rule;
use crate::names;
use crate::report::{Report, shown};

/// The profile that lets pass what no policy speaks of.
const DEFAULT_ALLOW: &str = "projectcalico-default-allow";

/// The endpoint, none if it can't be told whose it is.
pub(super) fn endpoint(
    name: &str,
    object: &objects::HostEndpoint,
    report: &mut Report<'_>,
) -> Option<HostEndpoint> {
    let reference = ObjectRef::cluster("HostEndpoint", name);
    let spec = &object.spec;
    let error = |field: &str, reason: &str, remedy: &str| {
        Diagnostic::error(reference.clone(), field, reason).remedy(remedy)
    };
    let Some(node) = spec.node.clone().filter(|node| !node.is_empty()) else {
        let reason = "is missing, so the endpoint protects nothing";
        report.push(error("spec.node", reason, "write the machine's name"));
        return None;
    };
    let reason = "is not a field of HostEndpoint, and has no effect";
    super::report_unknown(&reference, &spec.unknown, reason, report);
    let mut expected_ips = Vec::new();
    for (index, text) in spec.expected_ips.iter().flatten().enumerate() {
        match text.parse::<IpAddr>() {
            Ok(address) => expected_ips.push(address.to_canonical()),
            Err(_) => report.push(
                error(
                    &format!("spec.expectedIPs[{index}]"),
                    "not an address, so it is left out",
                    "write an address without a prefix",
                )
                .value(shown(text)),
            ),
        }
    }
    let interface = match spec.interface_name.as_deref().unwrap_or_default() {
        "*" => Interface::All,
        "" if !expected_ips.is_empty() => Interface::ByAddress,
        "" => {
            let reason = "is missing, and expectedIPs too, so the endpoint protects nothing";
            report.push(error("spec.interfaceName", reason, "write the interface's name, or *"));
            return None;
        }
        text if is_interface(text) => Interface::Name(text.to_owned()),
        text => {
            let reason = "not the name of an interface, so the endpoint protects nothing";
            let remedy = "write 1 to 15 letters, digits, '.', '_' or '-', or * for all";
            report.push(error("spec.interfaceName", reason, remedy).value(shown(text)));
            return None;
        }
    };
    let mut default_allow = false;
    for (index, profile) in spec.profiles.iter().flatten().enumerate() {
        if profile == DEFAULT_ALLOW {
            default_allow = true;
            continue;
        }
        let reason = "profiles other than projectcalico-default-allow are not honoured: this one \
                      allows nothing";
        report.push(
            error(
                &format!("spec.profiles[{index}]"),
                reason,
                "write what it allows as a GlobalNetworkPolicy",
            )
            .value(shown(profile)),
        );
    }
    Some(HostEndpoint {
        node,
        interface,
        expected_ips,
        labels: object.labels(),
        default_allow,
        ports: ports(&reference, spec, report),
        location: report.location(&reference),
    })
}

fn ports(
    reference: &ObjectRef,
    spec: &objects::EndpointSpec,
    report: &mut Report<'_>,
) -> Vec<NamedPort> {
    let mut ports = Vec::new();
    for (index, written) in spec.ports.iter().flatten().enumerate() {
        let default = IntOrString::String("TCP".to_owned());
        let number = rule::protocol(written.protocol.as_ref().unwrap_or(&default));
        let protocol = Protocol::ALL.into_iter().find(|one| Some(one.number()) == number);
        let port = i32::try_from(written.port).ok().and_then(names::port_number);
        match (protocol, port) {
            (Some(protocol), Some(port)) if rule::is_port_name(&written.name) => {
                ports.push(NamedPort { name: written.name.clone(), protocol, port });
            }
            _ => report.push(
                Diagnostic::error(
                    reference.clone(),
                    format!("spec.ports[{index}]"),
                    "not a port with a name, so rules don't find it",
                )
                .value(shown(&written.name))
                .remedy("write name, protocol (TCP, UDP or SCTP) and port (1 to 65535)"),
            ),
        }
    }
    ports
}

/// The set, without what isn't a network.
pub(super) fn set(
    name: &str,
    object: &objects::GlobalNetworkSet,
    report: &mut Report<'_>,
) -> NetworkSet {
    let reference = ObjectRef::cluster("GlobalNetworkSet", name);
    let reason = "is not a field of GlobalNetworkSet, so the set holds its nets only";
    super::report_unknown(&reference, &object.spec.unknown, reason, report);
    let mut nets = Vec::new();
    for (index, text) in object.spec.nets.iter().flatten().enumerate() {
        match rule::network(text) {
            Some(net) => nets.push(net),
            None => report.push(
                Diagnostic::error(
                    reference.clone(),
                    format!("spec.nets[{index}]"),
                    "not a network, so it is left out",
                )
                .value(shown(text))
                .remedy("write an address or a network such as 203.0.113.0/24"),
            ),
        }
    }
    if object.spec.allowed_egress_domains.as_ref().is_some_and(|all| !all.is_empty()) {
        report.push(
            Diagnostic::error(
                reference,
                "spec.allowedEgressDomains",
                "names are not looked up, so the set holds its nets only",
            )
            .remedy("write their networks under nets"),
        );
    }
    NetworkSet { labels: object.labels(), nets }
}

/// What Calico takes for an interface's name.
fn is_interface(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'.' || b == b'-';
    (1..=15).contains(&text.len()) && text.bytes().all(inner)
}
