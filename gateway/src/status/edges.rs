//! EdgeGateways: what this edge tells of itself, and what the leading one tells of those that are
//! lost.

use cluster::write::{Author, Kind, Patch, StatusChange, Target, Written};
use holding::Sight;
use ingest::crds::edge_gateway::{EdgeGateway, EdgeGatewayStatus};
use model::{AlbKind, Diagnostic, ObjectKey};
use serde_json::json;

use super::View;
use super::conditions::Conditions;

/// Names that a condition's message has at most.
const NAMED: usize = 5;

impl View<'_> {
    pub(super) fn edges(&self, written: &mut Written) {
        let edges = &self.facts.delivery.objects.edges;
        let name = &self.context.name;
        let own = edges.get(name).map(AsRef::as_ref);
        let status = self.own_status(own);
        if self.facts.joined && own.and_then(|own| own.status.as_ref()) != Some(&status) {
            let fields = serde_json::to_value(&status).map(without_nulls).unwrap_or_default();
            let status = StatusChange::Apply { fields, force: true };
            written.patches.push(patch(name, own, Author::Own, status));
        }
        let Some(holders) = &self.facts.holders else { return };
        for (name, edge) in edges.iter().filter(|(name, _)| *name != &self.context.name) {
            if holders.live.contains(name) || is_lost(edge) {
                continue;
            }
            let before = edge.status.as_ref().and_then(|status| status.conditions.as_deref());
            let generation = edge.metadata.generation;
            let mut conditions = Conditions::new(before.unwrap_or_default(), generation, self.now);
            let message = "its Lease isn't renewed; others have what it held";
            conditions.add("Ready", None, "LeaseExpired", message);
            let fields =
                json!({"conditions": conditions.finish(), "vips": [], "vpnConnections": []});
            let status = StatusChange::Lost { fields: without_nulls(fields) };
            written.patches.push(patch(name, Some(edge), Author::Leader, status));
        }
    }

    fn own_status(&self, own: Option<&EdgeGateway>) -> EdgeGatewayStatus {
        let overlay = &self.facts.overlay;
        let settings = self.context.settings.overlay.as_ref();
        let texts = |all: &mut dyn Iterator<Item = String>| Some(all.collect::<Vec<_>>());
        let before = own.and_then(|own| own.status.as_ref()?.conditions.as_deref());
        EdgeGatewayStatus {
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            lease_namespace: Some(self.context.namespace.clone()),
            underlay_addresses: texts(&mut overlay.underlay.iter().map(ToString::to_string)),
            wireguard: overlay.wireguard.clone(),
            probe_port: overlay.probe_port,
            mode: overlay.mode.clone(),
            service_subnets: settings
                .map(|overlay| overlay.services.iter().map(ToString::to_string).collect()),
            egress_networks: settings
                .map(|overlay| overlay.egress.iter().map(ToString::to_string).collect()),
            public_addresses: self.listed(AlbKind::Public),
            private_addresses: self.listed(AlbKind::Private),
            vips: texts(&mut self.facts.vips.iter().map(ToString::to_string)),
            vpn_connections: texts(&mut self.own_connections().map(ToString::to_string)),
            conditions: Some(self.own_conditions(own, before.unwrap_or_default())),
        }
    }

    fn listed(&self, kind: AlbKind) -> Option<Vec<String>> {
        let enabled = self.context.settings.albs.iter().any(|alb| alb.kind == kind);
        enabled.then(|| self.own_alb(kind).iter().map(ToString::to_string).collect())
    }

    /// The connections that this edge holds.
    fn own_connections(&self) -> impl Iterator<Item = &ObjectKey> {
        let all = self.facts.delivery.objects.vpn.keys();
        all.filter(|key| self.holder_of(key) == Some(&self.context.name))
    }

    fn own_conditions(
        &self,
        own: Option<&EdgeGateway>,
        before: &[ingest::crds::vpn_connection::ConditionStatus],
    ) -> Vec<ingest::crds::vpn_connection::ConditionStatus> {
        let generation = own.and_then(|own| own.metadata.generation);
        let mut conditions = Conditions::new(before, generation, self.now);
        let drains = own.is_some_and(|own| own.spec.drain == Some(true));
        let nodes = self.facts.overlay.nodes.as_ref();
        let cut_off = nodes.is_some_and(|nodes| nodes.sight == Sight::CutOff);
        let off = self.facts.own.iter().find(|finding| is_plane_off(finding));
        match (self.facts.stopping, self.facts.ready, drains) {
            (true, ..) => conditions.add("Ready", Some(false), "Stopping", "the gateway is ending"),
            _ if self.facts.elsewhere.is_some() => {
                let elsewhere = self.facts.elsewhere.as_ref();
                let message = elsewhere.map(ToString::to_string).unwrap_or_default();
                conditions.add("Ready", Some(false), "OtherNamespace", message);
            }
            (_, false, _) => {
                conditions.add("Ready", Some(false), "Starting", "not everything is in force yet");
            }
            _ if let Some(off) = off => {
                conditions.add("Ready", Some(false), "PlaneOff", off.reason.clone());
            }
            (_, _, true) => {
                let message = "spec.drain: VIPs and VPN connections go to other edges";
                conditions.add("Ready", Some(true), "Draining", message);
            }
            _ if cut_off => {
                let message = "no node answers: VIPs and VPN connections go to edges that reach \
                               nodes, as far as there are any";
                conditions.add("Ready", Some(true), "CutOff", message);
            }
            _ => conditions.add("Ready", Some(true), "Serving", "everything is in force"),
        }
        let why = self.facts.source.clone().or_else(|| self.source_fault());
        match why {
            None => conditions.add("SourceReachable", Some(true), "Watching", ""),
            Some(why) => conditions.add("SourceReachable", Some(false), "Incomplete", why),
        }
        if let Some(nodes) = &self.facts.overlay.nodes {
            let answering = nodes.all.saturating_sub(nodes.silent.len());
            let count = format!("{answering} of {} nodes answer", nodes.all);
            match (nodes.all, nodes.silent.as_slice()) {
                (0, _) => {
                    let message = "no node has an agent, or none is seen yet";
                    conditions.add("NodesReachable", None, "NoNodes", message);
                }
                (_, []) => conditions.add("NodesReachable", Some(true), "AllAnswer", count),
                (_, silent) => {
                    let named: Vec<&str> = silent.iter().take(NAMED).map(String::as_str).collect();
                    let more = if silent.len() > NAMED { ", …" } else { "" };
                    let message = format!("{count}; not: {}{more}", named.join(", "));
                    conditions.add("NodesReachable", Some(false), "NodesSilent", message);
                }
            }
        }
        conditions.finish()
    }

    /// What of the API this edge can't read or write, in short: the first such finding.
    fn source_fault(&self) -> Option<String> {
        let mut all = self.facts.own.iter().chain(self.facts.planned.iter());
        let found = all.find(|finding| {
            finding.object.kind == "GatewayConfig" && finding.field.starts_with("source.kubernetes")
        })?;
        Some(format!("{}; {}", found.reason, found.remedy))
    }
}

/// Whether a plane that is enabled couldn't be started.
fn is_plane_off(finding: &Diagnostic) -> bool {
    finding.object.kind == "GatewayConfig"
        && ["l4.enabled", "vpn.enabled", "overlay.enabled"].contains(&finding.field.as_str())
}

/// Whether an edge is known to be lost, and nothing stands there that it held.
fn is_lost(edge: &EdgeGateway) -> bool {
    let Some(status) = &edge.status else { return true };
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let ready = conditions.iter().find(|one| one.kind == "Ready");
    let holds = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    // One that has stopped says so itself.
    ready.is_none_or(|ready| ready.status != "True")
        && !holds(&status.vips)
        && !holds(&status.vpn_connections)
}

fn patch(name: &str, edge: Option<&EdgeGateway>, author: Author, status: StatusChange) -> Patch {
    let metadata = edge.map(|edge| &edge.metadata);
    Patch {
        target: Target { kind: Kind::EdgeGateway, namespace: None, name: name.to_owned() },
        uid: metadata.and_then(|metadata| metadata.uid.clone()),
        author,
        status,
        finalizer: None,
    }
}

/// What isn't set isn't written.
pub(super) fn without_nulls(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_nulls(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}
