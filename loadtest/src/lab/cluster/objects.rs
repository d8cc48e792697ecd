//! A cluster's objects, as its API has them.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};

use crate::compare::scenario::Estate;
use crate::lab::certificate::DOMAIN;
use crate::lab::l4::{BACKEND, SERVICE};

/// Their namespace.
pub(crate) const NAMESPACE: &str = "bench";
/// Nodes that endpoints are on.
const NODES: u16 = 50;

/// What a Service is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Clients come through an Ingress.
    Ingress,
    /// Clients come through a VIP of its own.
    Vip,
}

impl Way {
    /// The Service of this number among those that clients come to in this way. The first have
    /// Ingresses, the last VIPs.
    pub(crate) fn service(self, estate: Estate, number: u16) -> u16 {
        match self {
            Self::Ingress => number,
            Self::Vip => estate.services - 1 - number,
        }
    }
}

/// The host below which a Service is served.
pub(crate) fn host(service: u16) -> String {
    format!("{}.{DOMAIN}", name(service))
}

/// The EndpointSlice of a Service.
pub(crate) fn slice_name(service: u16) -> String {
    format!("{}-x7k2p", name(service))
}

fn name(service: u16) -> String {
    format!("service-{service:05}")
}

/// The VIP of a Service: those of the namespace's edge, by the Service's number.
pub(super) fn service(estate: Estate, number: u16, vip: impl Fn(u16) -> Ipv4Addr) -> Value {
    let [high, low] = number.to_be_bytes();
    let mut service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name(number), "namespace": NAMESPACE, "labels": { "app": name(number) } },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": Ipv4Addr::new(10, 96, high, low),
            "clusterIPs": [Ipv4Addr::new(10, 96, high, low)],
            "selector": { "app": name(number) },
            "ports": [{ "name": "http", "port": SERVICE, "targetPort": BACKEND, "protocol": "TCP" }],
        },
    });
    if number >= estate.services - estate.vips {
        service["metadata"]["annotations"] =
            json!({ "tidegate.io/addresses": vip(number).to_string() });
        service["spec"]["type"] = "LoadBalancer".into();
        service["spec"]["allocateLoadBalancerNodePorts"] = false.into();
    }
    service
}

/// Endpoints of a Service: the first is `first` and the only one that is ready if it is given,
/// since then it is looked at who answers. Otherwise nobody is at any of them.
pub(super) fn slice(estate: Estate, number: u16, first: Option<IpAddr>) -> Value {
    let endpoints: Vec<Value> = (0..estate.endpoints)
        .map(|endpoint| {
            let is_first = endpoint == 0;
            let own = first.filter(|_| is_first).unwrap_or_else(|| nobody(number, endpoint, 0));
            let ready = is_first || first.is_none();
            let pod = format!("{}-{endpoint:02}", name(number));
            json!({
                "addresses": [own],
                "conditions": { "ready": ready, "serving": ready, "terminating": false },
                "nodeName": format!("node-{}", (number + u16::from(endpoint)) % NODES),
                "targetRef": {
                    "kind": "Pod",
                    "name": pod,
                    "namespace": NAMESPACE,
                    "uid": format!("00000000-0000-4000-8000-{number:06}{endpoint:06}"),
                },
            })
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": slice_name(number),
            "namespace": NAMESPACE,
            "labels": {
                "kubernetes.io/service-name": name(number),
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            },
        },
        "addressType": "IPv4",
        "ports": [{ "name": "http", "port": BACKEND, "protocol": "TCP" }],
        "endpoints": endpoints,
    })
}

/// An address where nobody is: another one for each endpoint, and for each of its changes.
pub(crate) fn nobody(service: u16, endpoint: u8, change: u8) -> IpAddr {
    let [high, low] = service.to_be_bytes();
    // 100.64.0.0/10 in place of 172.16.0.0/12 once it has changed.
    let network = if change == 0 { [172, 16] } else { [100, 64 + (change & 0x1) * 16] };
    IpAddr::from([network[0], network[1] + (endpoint & 0x0f), high, low])
}

/// The Ingress of a Service; the first ones have Secrets.
pub(super) fn ingress(estate: Estate, number: u16) -> Value {
    let backend = json!({ "service": { "name": name(number), "port": { "name": "http" } } });
    let mut ingress = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": { "name": name(number), "namespace": NAMESPACE },
        "spec": {
            "ingressClassName": "tidegate-public",
            "rules": [{
                "host": host(number),
                "http": { "paths": [{ "path": "/", "pathType": "Prefix", "backend": backend }] },
            }],
        },
    });
    if number < estate.secrets {
        ingress["spec"]["tls"] = json!([{ "hosts": [host(number)], "secretName": name(number) }]);
    }
    ingress
}

/// The certificate of an Ingress.
pub(super) fn secret(number: u16) -> anyhow::Result<Value> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("a key")?;
    let certificate = CertificateParams::new(vec![host(number)])
        .and_then(|parameters| parameters.self_signed(&key))
        .context("a certificate")?;
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": name(number), "namespace": NAMESPACE },
        "type": "kubernetes.io/tls",
        "data": {
            "tls.crt": STANDARD.encode(certificate.pem()),
            "tls.key": STANDARD.encode(key.serialize_pem()),
        },
    }))
}

/// The addresses of all VIPs.
pub(super) fn pool(addresses: &str) -> Value {
    json!({
        "apiVersion": "tidegate.io/v1alpha1",
        "kind": "AddressPool",
        "metadata": { "name": "pool" },
        "spec": { "addresses": [addresses], "announce": "none" },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const ESTATE: Estate =
        Estate { services: 100, vips: 10, endpoints: 10, ingresses: 50, secrets: 20 };

    #[test]
    fn ways_lead_to_services_of_their_own() {
        let of = |way: Way| (0..10).map(|number| way.service(ESTATE, number)).collect();
        let (ingress, vip): (BTreeSet<u16>, BTreeSet<u16>) = (of(Way::Ingress), of(Way::Vip));
        assert_eq!(ingress, (0..10).collect());
        assert_eq!(vip, (90..100).collect());
        let kind =
            |number| service(ESTATE, number, |_| Ipv4Addr::LOCALHOST)["spec"]["type"].clone();
        assert_eq!((kind(89), kind(90)), ("ClusterIP".into(), "LoadBalancer".into()));
    }

    #[test]
    fn only_the_backend_is_ready_where_it_is_looked_at_who_answers() {
        let ready = |slice: &Value| {
            let endpoints = slice["endpoints"].as_array().expect("endpoints").iter();
            endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true).count()
        };
        let backend = IpAddr::from([10, 1, 1, 2]);
        assert_eq!(ready(&slice(ESTATE, 1, Some(backend))), 1);
        assert_eq!(ready(&slice(ESTATE, 1, None)), 10);
    }

    #[test]
    fn nobodys_addresses_differ() {
        let all: BTreeSet<IpAddr> = [1, 2, 300]
            .into_iter()
            .flat_map(|service| {
                (0..10).flat_map(move |one| (0..3).map(move |change| nobody(service, one, change)))
            })
            .collect();
        assert_eq!(all.len(), 90);
    }
}
