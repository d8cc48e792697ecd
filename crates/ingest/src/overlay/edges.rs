//! EdgeGateways.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use model::snapshot::overlay::Edge;
use model::{ObjectKey, ObjectRef, OverlaySettings, PublicKey};

use super::{MOST_KEYS, Reader, by_age};
use crate::ObjectSet;
use crate::crds::EdgeGateway;
use crate::crds::edge_gateway::{EdgeGatewayStatus, WireguardStatus};
use crate::report::Report;

/// All EdgeGateways.
pub(crate) fn edges(
    objects: &ObjectSet,
    keys: &mut BTreeMap<PublicKey, ObjectRef>,
    report: &mut Report<'_>,
) -> BTreeMap<String, Edge> {
    let mut edges = BTreeMap::new();
    for name in by_age(objects.edges.iter().map(|(name, edge)| (name, &edge.metadata))) {
        let Some(object) = objects.edges.get(name) else { continue };
        let object_ref = ObjectRef::cluster("EdgeGateway", name);
        let edge = Reader { object: object_ref, report, keys }.edge(object);
        edges.insert(name.clone(), edge);
    }
    edges
}

impl Reader<'_, '_, '_> {
    fn edge(&mut self, object: &EdgeGateway) -> Edge {
        let drain = object.spec.drain.unwrap_or_default();
        let Some(status) = &object.status else { return Edge { drain, ..Edge::default() } };
        let addresses = self.all("underlayAddresses", status.underlay_addresses.as_ref());
        let addresses: Vec<IpAddr> =
            addresses.into_iter().filter_map(|(field, text)| self.address(&field, text)).collect();
        let mode = status.mode.as_ref();
        let mode = mode.and_then(|text| self.mode("status.mode", text)).unwrap_or_default();
        let vips = self.all("vips", status.vips.as_ref());
        let vips = vips.into_iter().filter_map(|(field, text)| self.address(&field, text));
        Edge {
            addresses,
            vips: vips.collect(),
            keys: status.wireguard.as_ref().map(|own| self.edge_keys(own)).unwrap_or_default(),
            probe_port: self.probe_port(status),
            mode,
            services: self.networks("serviceSubnets", status.service_subnets.as_ref(), false),
            egress: self.networks("egressNetworks", status.egress_networks.as_ref(), true),
            vpn: self.connections(status),
            drain,
        }
    }

    /// The texts of a list, with their fields.
    fn all<'t>(&self, name: &str, list: Option<&'t Vec<String>>) -> Vec<(String, &'t str)> {
        let texts = list.into_iter().flatten().enumerate();
        texts.map(|(index, text)| (format!("status.{name}[{index}]"), text.as_str())).collect()
    }

    fn networks(&mut self, name: &str, list: Option<&Vec<String>>, may_be_all: bool) -> Vec<IpNet> {
        let texts = self.all(name, list).into_iter();
        let networks = texts.filter_map(|(field, text)| self.network(&field, text, may_be_all));
        model::snapshot::vpn::nat::outermost(networks.collect())
    }

    fn edge_keys(&mut self, status: &WireguardStatus) -> Vec<(PublicKey, u16)> {
        if status.ports.len() != status.public_keys.len() {
            let reason = format!(
                "has {} ports for {} keys; keys without a port are left out",
                status.ports.len(),
                status.public_keys.len()
            );
            let remedy = "write one port for each of publicKeys, in the same order";
            self.error("status.wireguard.ports", None, &reason, remedy);
        }
        let mut keys: Vec<(PublicKey, u16)> = Vec::new();
        for (index, (text, port)) in status.public_keys.iter().zip(&status.ports).enumerate() {
            let field = format!("status.wireguard.publicKeys[{index}]");
            if index == MOST_KEYS {
                let reason = "has over two keys; only the first two count";
                self.error("status.wireguard.publicKeys", None, reason, "write two at most");
                break;
            }
            if *port == 0 {
                let field = format!("status.wireguard.ports[{index}]");
                let reason = "is no port; its key is left out";
                self.error(&field, Some("0"), reason, "write the UDP port, from 1 to 65535");
                continue;
            }
            let key = self.key(&field, text);
            keys.extend(
                key.filter(|key| keys.iter().all(|(one, _)| one != key)).map(|key| (key, *port)),
            );
        }
        keys
    }

    fn probe_port(&mut self, status: &EdgeGatewayStatus) -> u16 {
        let default = OverlaySettings::default().probe_port;
        match status.probe_port {
            Some(0) => {
                let reason = format!("is no port; {default} is taken");
                let remedy = "write the UDP port, from 1 to 65535";
                self.error("status.probePort", Some("0"), &reason, remedy);
                default
            }
            port => port.unwrap_or(default),
        }
    }

    fn connections(&mut self, status: &EdgeGatewayStatus) -> Vec<ObjectKey> {
        let mut keys = Vec::new();
        for (field, text) in self.all("vpnConnections", status.vpn_connections.as_ref()) {
            match text.split_once('/') {
                Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
                    keys.push(ObjectKey::new(namespace, name));
                }
                _ => {
                    let reason = "names no VpnConnection; it is left out";
                    self.error(&field, Some(text), reason, "write it as namespace/name");
                }
            }
        }
        keys
    }
}
