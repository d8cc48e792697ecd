//! How a Service is reached from outside.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use model::settings::canonical_network;
use model::snapshot::{Dual, Exposure, Families, Requested, ServicePort};
use model::{Diagnostic, L4Settings};

use super::Reader;
use super::annotations::Otherwise;
use crate::names;
use crate::secrets::Certificates;

/// Kubernetes' default of `sessionAffinityConfig.clientIP.timeoutSeconds`.
const AFFINITY_SECONDS: u32 = 10_800;
/// The longest: a day.
const MAX_AFFINITY_SECONDS: i32 = 86_400;

/// Kubernetes' annotation from before `spec.loadBalancerSourceRanges`.
const OLD_SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

/// No client has this address: stands for source ranges that can't be read, since an empty list
/// would let in everybody.
const NOBODY: Ipv4Addr = Ipv4Addr::BROADCAST;

impl Reader<'_, '_, '_> {
    /// Reads it all; none if nothing exposes the Service. Takes NodePorts away where something
    /// forbids to open any.
    pub(super) fn exposure(
        &mut self,
        object: &Service,
        spec: &ServiceSpec,
        l4: &L4Settings,
        ports: &mut [ServicePort],
        certificates: &mut Certificates<'_>,
    ) -> Option<Box<Exposure>> {
        let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
        let external_ips = self.external_ips(kind, spec);
        let exposed = matches!(kind, "NodePort" | "LoadBalancer") || !external_ips.is_empty();
        if !exposed {
            self.annotations_in_vain(object);
            return None;
        }
        // One that is being deleted gives its addresses up.
        let load_balancer = kind == "LoadBalancer"
            && object.metadata.deletion_timestamp.is_none()
            && match spec.load_balancer_class.as_deref() {
                None => l4.default_class,
                Some(class) => class == l4.load_balancer_class,
            };
        let metadata = &object.metadata;
        let namespace = self.namespace;
        let namespace_labels = namespace.and_then(|namespace| namespace.metadata.labels.clone());
        let local_only = self.local_only(spec);
        let mut exposure = Exposure {
            load_balancer,
            created: metadata.creation_timestamp.as_ref().map(|time| time.0.as_second()),
            location: self.location.cloned(),
            labels: metadata.labels.clone().unwrap_or_default(),
            namespace_labels: namespace_labels.unwrap_or_default(),
            families: self.families(spec),
            source_ranges: self.source_ranges(object, spec, kind),
            affinity: self.affinity(spec),
            local_only,
            health_check_node_port: self.health_check(spec, kind, local_only, l4),
            external_ips,
            ..Exposure::default()
        };
        let mut worst = None;
        if load_balancer {
            exposure.held = held(object);
            worst = self.load_balancer_ip(spec, &mut exposure.requested);
        }
        let of_annotations = self.annotations(object, ports, &mut exposure, certificates);
        let worst = worst.into_iter().chain(of_annotations).max_by_key(|(otherwise, _)| *otherwise);
        if let Some((otherwise, reason)) = worst {
            if otherwise == Otherwise::Closed {
                ports.iter_mut().for_each(|port| port.node_port = None);
                exposure.external_ips.clear();
                exposure.health_check_node_port = None;
            }
            exposure.refused = load_balancer.then_some(reason);
            exposure.load_balancer = false;
        }
        Some(Box::new(exposure))
    }

    /// Checked as the API server does: addresses that can't be routed to the edge are refused.
    fn external_ips(&mut self, kind: &str, spec: &ServiceSpec) -> Vec<IpAddr> {
        let written = spec.external_ips.as_deref().unwrap_or_default();
        let mut addresses = Vec::with_capacity(written.len());
        if written.is_empty() {
            return addresses;
        }
        let headless = spec.cluster_ip.as_deref() == Some("None");
        if kind == "ExternalName" || headless {
            let what = if headless { "a headless Service" } else { "an ExternalName" };
            let reason = format!("have no effect on {what}");
            self.warning("spec.externalIPs", written.join(", "), reason, "remove them");
            return addresses;
        }
        for (index, text) in written.iter().enumerate() {
            match text.trim().parse().ok().filter(is_plain) {
                Some(address) => {
                    if !addresses.contains(&address) {
                        addresses.push(address);
                    }
                }
                None => self.error(
                    format!("spec.externalIPs[{index}]"),
                    text,
                    "not an address that could be routed to the edge, so it isn't served",
                    "write a unicast address that is neither loopback nor link-local",
                ),
            }
        }
        addresses
    }

    fn local_only(&mut self, spec: &ServiceSpec) -> bool {
        match spec.external_traffic_policy.as_deref() {
            None | Some("" | "Cluster") => false,
            Some("Local") => true,
            Some(other) => {
                let reason = "neither Cluster nor Local, so Cluster is used";
                let remedy = "write Cluster or Local";
                self.error("spec.externalTrafficPolicy", other, reason, remedy);
                false
            }
        }
    }

    fn affinity(&mut self, spec: &ServiceSpec) -> Option<u32> {
        match spec.session_affinity.as_deref() {
            None | Some("" | "None") => return None,
            Some("ClientIP") => {}
            Some(other) => {
                let reason = "neither None nor ClientIP, so None is used";
                self.error("spec.sessionAffinity", other, reason, "write None or ClientIP");
                return None;
            }
        }
        let config = spec.session_affinity_config.as_ref();
        let seconds = config
            .and_then(|config| config.client_ip.as_ref())
            .and_then(|client_ip| client_ip.timeout_seconds);
        match seconds {
            None => Some(AFFINITY_SECONDS),
            Some(seconds @ 1..=MAX_AFFINITY_SECONDS) => Some(seconds.unsigned_abs()),
            Some(seconds) => {
                self.error(
                    "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
                    seconds.to_string(),
                    format!("not a time up to a day, so {AFFINITY_SECONDS} is used"),
                    format!("write seconds from 1 to {MAX_AFFINITY_SECONDS}"),
                );
                Some(AFFINITY_SECONDS)
            }
        }
    }

    fn health_check(
        &mut self,
        spec: &ServiceSpec,
        kind: &str,
        local_only: bool,
        l4: &L4Settings,
    ) -> Option<u16> {
        const FIELD: &str = "spec.healthCheckNodePort";
        let written = spec.health_check_node_port.filter(|written| *written != 0)?;
        if kind != "LoadBalancer" || !local_only {
            let reason =
                "has no effect without type: LoadBalancer and externalTrafficPolicy: Local";
            self.warning(FIELD, written.to_string(), reason, "remove it");
            return None;
        }
        let Some(number) = names::port_number(written) else {
            let reason = "not a port number, so there is no health port";
            self.error(FIELD, written.to_string(), reason, "write a number from 1 to 65535");
            return None;
        };
        if !l4.node_ports.contains(number) {
            let reason = format!("isn't in the range of NodePorts, {}", l4.node_ports);
            let remedy = "write one of the range: others may be somebody else's on this machine";
            self.warning(FIELD, written.to_string(), reason, remedy);
        }
        Some(number)
    }

    /// The clients that may reach the VIPs. A range that can't be read lets in nobody.
    fn source_ranges(&mut self, object: &Service, spec: &ServiceSpec, kind: &str) -> Vec<IpNet> {
        let annotation = || {
            let annotations = object.metadata.annotations.as_ref()?;
            annotations.get(OLD_SOURCE_RANGES).filter(|text| !text.trim().is_empty())
        };
        let of_spec = spec.load_balancer_source_ranges.as_deref().unwrap_or_default();
        let mut ranges = Vec::with_capacity(of_spec.len());
        if kind != "LoadBalancer" {
            if !of_spec.is_empty() {
                let reason = format!("have no effect on a Service of type {kind}");
                let remedy = "write type: LoadBalancer, or a policy for NodePorts";
                let field = "spec.loadBalancerSourceRanges";
                self.warning(field, of_spec.join(", "), reason, remedy);
            }
            return ranges;
        }
        for (index, text) in of_spec.iter().enumerate() {
            let field = || format!("spec.loadBalancerSourceRanges[{index}]");
            ranges.push(self.source_range(field, text));
        }
        if of_spec.is_empty()
            && let Some(text) = annotation()
        {
            for item in text.split(',') {
                let field = || crate::annotations::field(OLD_SOURCE_RANGES);
                ranges.push(self.source_range(field, item));
            }
        }
        ranges.sort_unstable();
        ranges.dedup();
        let nobody = nobody();
        if ranges.len() > 1 {
            ranges.retain(|range| *range != nobody);
        }
        ranges
    }

    fn source_range(&mut self, field: impl Fn() -> String, text: &str) -> IpNet {
        match text.trim().parse::<IpNet>() {
            Ok(network) => canonical_network(network.trunc()),
            Err(_) => {
                let reason = "not a network, so nobody is let in by it";
                let remedy = "write a network such as 203.0.113.0/24, or 203.0.113.7/32 for one \
                              address";
                self.error(field(), text, reason, remedy);
                nobody()
            }
        }
    }

    fn families(&mut self, spec: &ServiceSpec) -> Families {
        let mut written: Vec<bool> = Vec::new();
        for (index, text) in spec.ip_families.iter().flatten().enumerate() {
            let ipv6 = match text.as_str() {
                "IPv4" => false,
                "IPv6" => true,
                _ => {
                    let field = format!("spec.ipFamilies[{index}]");
                    let reason = "neither IPv4 nor IPv6, so it is left out";
                    self.error(field, text, reason, "write IPv4 or IPv6");
                    continue;
                }
            };
            if written.contains(&ipv6) {
                let field = format!("spec.ipFamilies[{index}]");
                self.error(field, text, "stands there twice", "write each family once");
            } else {
                written.push(ipv6);
            }
        }
        let dual = match spec.ip_family_policy.as_deref() {
            // As the API server fills it in.
            None | Some("") if written.len() > 1 => Dual::Require,
            None | Some("" | "SingleStack") => Dual::Single,
            Some("PreferDualStack") => Dual::Prefer,
            Some("RequireDualStack") => Dual::Require,
            Some(other) => {
                self.error(
                    "spec.ipFamilyPolicy",
                    other,
                    "not a policy, so SingleStack is used",
                    "write SingleStack, PreferDualStack or RequireDualStack",
                );
                Dual::Single
            }
        };
        let ipv6_first = written.first() == Some(&true);
        Families { ipv6_first, dual, named: !written.is_empty() }
    }

    /// `spec.loadBalancerIP`
    fn load_balancer_ip(
        &mut self,
        spec: &ServiceSpec,
        requested: &mut Vec<Requested>,
    ) -> Option<(Otherwise, String)> {
        const FIELD: &str = "spec.loadBalancerIP";
        let text = spec.load_balancer_ip.as_deref().filter(|text| !text.is_empty())?;
        if let Ok(address) = text.trim().parse() {
            requested.push(Requested { address, field: FIELD.to_owned() });
            return None;
        }
        self.report.push(
            Diagnostic::error(
                self.reference(),
                FIELD,
                "not an address; the Service has no VIP until it is mended",
            )
            .value(text)
            .remedy("write an address of a pool, or remove it for any"),
        );
        Some((Otherwise::NoVip, format!("{FIELD} is not an address")))
    }
}

/// What the status says: addresses that the Service was given before.
fn held(object: &Service) -> Vec<IpAddr> {
    let status = object.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.and_then(|status| status.ingress.as_deref()).unwrap_or_default();
    let addresses = ingress.iter().filter_map(|point| point.ip.as_deref()?.parse().ok());
    addresses.collect()
}

fn nobody() -> IpNet {
    Ipv4Net::from(NOBODY).into()
}

/// Neither unspecified, loopback, link-local, multicast, broadcast nor IPv4 mapped into IPv6.
fn is_plain(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            !v4.is_unspecified()
                && !v4.is_loopback()
                && !v4.is_link_local()
                && !v4.is_multicast()
                && !v4.is_broadcast()
        }
        IpAddr::V6(v6) => {
            !v6.is_unspecified()
                && !v6.is_loopback()
                && !v6.is_unicast_link_local()
                && !v6.is_multicast()
                && v6.to_ipv4_mapped().is_none()
        }
    }
}
