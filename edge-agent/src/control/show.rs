//! What the thread tells of itself.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use overlay::choice::State as EdgeState;
use plan::overlay::Path;

use super::Worker;
use crate::view::{EdgeStatus, Finding, KeyStatus, Status, TunnelStatus, seconds};

impl Worker {
    /// Tells how everything is.
    pub(super) fn show(&mut self) {
        let probes = self.prober.statistics();
        let keys = self.keys.held().iter().map(|held| KeyStatus {
            key: held.private.public().to_string(),
            generation: held.generation,
            made: held.made,
        });
        let keys = keys.collect();
        let findings = self.diagnostics().map(Finding::of);
        let findings: Vec<Finding> = findings.collect();
        let (conditions, tunnels) = (self.conditions(), self.tunnels());
        let status = Status {
            node: self.config.overlay.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: seconds(self.started),
            ready: self.applied.at > 0 && self.applied.whole,
            conditions,
            source: self.source.clone(),
            backend: self.interfaces.backend().to_string(),
            keys,
            edges: self.edges(&probes),
            connections: self.connections(),
            egress: self.plan.active.egress.clone(),
            tunnels,
            applied: self.applied.clone(),
            findings,
        };
        self.view.show(status, probes);
    }

    fn conditions(&self) -> Vec<String> {
        let mut conditions = Vec::new();
        if self.snapshot.is_none() {
            conditions.push(format!("no objects seen yet from {}", self.source.place));
        } else if self.applied.at == 0 {
            conditions.push("nothing is in force yet".to_owned());
        }
        if !self.source.connected
            && let Some(error) = &self.source.error
        {
            conditions.push(format!("{}: {error}; going on without", self.source.place));
        }
        if let Some(seen) = self.kept {
            let age = seconds(SystemTime::now()).saturating_sub(seen);
            conditions.push(format!(
                "objects are those of {age} s ago, until {} tells",
                self.source.place
            ));
        }
        conditions.extend(self.applied.faults.iter().map(|fault| format!("not in force: {fault}")));
        let alive = |found: &crate::probe::Finding| found.state == EdgeState::Alive;
        let none = "no edge can be reached: their networks are unreachable";
        match &self.snapshot {
            None => {}
            Some(_) if self.findings.edges.values().any(alive) => {}
            Some(snapshot) if snapshot.edges.is_empty() => {
                conditions.push("there is no EdgeGateway, so there is no edge to reach".to_owned());
            }
            Some(snapshot) => {
                let now = Instant::now();
                let new = snapshot.edges.keys().any(|name| self.numbers.is_new(name, now));
                conditions.push(if new { "the edges are being asked" } else { none }.to_owned());
            }
        }
        conditions
    }

    fn edges(&self, probes: &crate::probe::Statistics) -> BTreeMap<String, EdgeStatus> {
        let Some(snapshot) = &self.snapshot else { return BTreeMap::new() };
        let of = |(name, edge): (&String, &model::snapshot::overlay::Edge)| {
            let found = self.findings.edges.get(name);
            let counted = probes.0.get(name).cloned().unwrap_or_default();
            let state = match found.map(|found| found.state) {
                Some(EdgeState::Alive) => "alive",
                Some(EdgeState::Lost) => "lost",
                _ => "unknown",
            };
            let path = found.and_then(|found| found.path).map(|path| match path {
                Path::Direct => "direct".to_owned(),
                Path::Tunnel { .. } => "wireguard".to_owned(),
            });
            let status = EdgeStatus {
                state: state.to_owned(),
                number: self.numbers.given().get(name).copied(),
                path,
                addresses: edge.addresses.clone(),
                drain: edge.drain || found.is_some_and(|found| found.drain),
                round_trip_millis: counted.last.map(|last| last.as_secs_f64() * 1_000.0),
                probes: counted.sent,
                answers: counted.answered,
            };
            (name.clone(), status)
        };
        snapshot.edges.iter().map(of).collect()
    }

    fn connections(&self) -> BTreeMap<String, Option<String>> {
        let Some(snapshot) = &self.snapshot else { return BTreeMap::new() };
        let active = &self.plan.active.vpn;
        let keys = snapshot.connections.keys();
        keys.map(|key| (key.to_string(), active.get(key).cloned())).collect()
    }

    fn tunnels(&mut self) -> BTreeMap<String, TunnelStatus> {
        let counted = self.interfaces.statistics();
        let of = |tunnel: &plan::overlay::Tunnel| {
            let peer = tunnel.peers.first();
            let interface = counted.get(&tunnel.interface);
            let counted =
                peer.and_then(|peer| interface?.peers.get(&peer.key)).cloned().unwrap_or_default();
            let status = TunnelStatus {
                edge: peer.map(|peer| peer.name.clone()).unwrap_or_default(),
                key: tunnel.key.to_string(),
                mtu: tunnel.mtu,
                endpoint: counted.endpoint.or_else(|| peer?.endpoint),
                last_handshake: counted.last_handshake.map(|ago| ago.as_secs()),
                received_bytes: counted.received_bytes,
                sent_bytes: counted.sent_bytes,
            };
            (tunnel.interface.clone(), status)
        };
        self.plan.tunnels.iter().map(of).collect()
    }
}
