//! Changes that take time or that people should hear of: of keys, and of edges.

use std::time::{Duration, Instant, SystemTime};

use model::{Diagnostic, ObjectRef, Snapshot};
use overlay::choice::State as EdgeState;
use plan::overlay::Path;

use super::{SETTLE, Worker};
use crate::probe::Findings;

/// How old the news of another key of an edge gets before it is none any more.
const NEWS: Duration = Duration::from_secs(3_600);

impl Worker {
    /// Takes the next step of changing the node's key, if it is time to; whether it did.
    pub(super) fn change_keys(&mut self, now: Instant) -> bool {
        if self.snapshot.is_none() {
            return false;
        }
        if !self.keys.is_changing() {
            self.settled = None;
            let age = self.keys.age(SystemTime::now());
            return self.config.key_age.is_some_and(|most| age >= most) && self.renew_key();
        }
        let newest = self.keys.public().first().copied();
        let mut alive =
            self.findings.edges.values().filter(|found| found.state == EdgeState::Alive).peekable();
        let all = alive.peek().is_some()
            && alive.all(|found| match found.path {
                Some(Path::Tunnel { node, .. }) => Some(node) == newest,
                Some(Path::Direct) => true,
                None => false,
            });
        if !all {
            self.settled = None;
            return false;
        }
        let since = *self.settled.get_or_insert(now);
        if now.saturating_duration_since(since) < SETTLE {
            return false;
        }
        self.settled = None;
        match self.keys.retire(&self.state) {
            Ok(()) => {
                tracing::info!("the former key is gone");
                self.announce();
                true
            }
            Err(error) => {
                tracing::error!(%error, "the former key stays");
                false
            }
        }
    }

    /// Makes another key; whether there is one.
    pub(super) fn renew_key(&mut self) -> bool {
        if self.keys.is_changing() {
            tracing::info!("the key is being changed already");
            return false;
        }
        match self.keys.renew(&self.state) {
            Ok(()) => {
                tracing::info!(key = ?self.keys.public().first(), "there is a new key");
                self.announce();
                true
            }
            Err(error) => {
                tracing::error!(%error, "there is no new key");
                false
            }
        }
    }

    /// Notes edges that have none of the keys that they had: another machine, or somebody else.
    pub(super) fn changed_keys(&mut self, snapshot: &Snapshot) {
        let now = Instant::now();
        self.strangers.retain(|name, (_, since)| {
            snapshot.edges.contains_key(name) && now.saturating_duration_since(*since) < NEWS
        });
        let mut keys = self.known.keys.clone();
        for (name, edge) in &snapshot.edges {
            let present: Vec<String> = edge.keys.iter().map(|(key, _)| key.to_string()).collect();
            if present.is_empty() {
                continue;
            }
            let before = keys.insert(name.clone(), present.clone()).unwrap_or_default();
            if !before.is_empty() && !before.iter().any(|key| present.contains(key)) {
                let reason = format!(
                    "has key {} and had {} before, with no time when it had both",
                    present.join(", "),
                    before.join(", ")
                );
                tracing::warn!(edge = name, reason, "this edge's key changed");
                let object = ObjectRef::cluster("EdgeGateway", name);
                let told = Diagnostic::warning(object, "status.wireguard.publicKeys", reason)
                    .remedy(
                        "nothing if its machine or state directory is a new one; otherwise see \
                         who may write EdgeGateways",
                    );
                self.strangers.insert(name.clone(), (told, now));
            }
        }
        keys.retain(|name, _| snapshot.edges.contains_key(name));
        if keys != self.known.keys {
            self.known.keys = keys;
            self.save_known();
        }
    }

    /// Remembers edges' numbers.
    pub(super) fn remember(&mut self) {
        let numbers = self.numbers.remembered();
        if numbers != self.known.numbers {
            self.known.numbers = numbers;
            self.save_known();
        }
    }

    fn save_known(&self) {
        if let Err(error) = self.state.remember(&self.known) {
            tracing::error!(%error, "edges' numbers are lost with a restart");
        }
    }

    /// Tells of edges that are lost, or back.
    pub(super) fn log_edges(&self, findings: &Findings) {
        for (name, found) in &findings.edges {
            let before = self.findings.edges.get(name);
            let was = before.map_or(EdgeState::Unknown, |found| found.state);
            match (was, found.state) {
                (was, now) if was == now => {}
                (_, EdgeState::Alive) => tracing::info!(edge = name, "this edge answers"),
                // One that never answers has a turn now and then.
                (EdgeState::Unknown, EdgeState::Lost) if self.numbers.was_tried(name) => {}
                (EdgeState::Unknown, EdgeState::Lost) => {
                    tracing::warn!(edge = name, "this edge doesn't answer");
                }
                (_, EdgeState::Lost) => tracing::warn!(edge = name, "this edge is lost"),
                _ => {}
            }
            let path = before.and_then(|found| found.path);
            if path.is_some() && path != found.path {
                tracing::info!(edge = name, path = ?found.path, "another way to this edge");
            }
        }
    }

    /// Logs what is newly wrong with objects.
    pub(super) fn report(&mut self) {
        let said: Vec<String> = self.diagnostics().map(|found| found.to_string()).collect();
        for line in said.iter().filter(|line| !self.reported.contains(line)) {
            tracing::warn!("{line}");
        }
        self.reported = said;
    }

    /// Everything that is wrong with objects.
    pub(super) fn diagnostics(&self) -> impl Iterator<Item = &Diagnostic> {
        let strangers = self.strangers.values().map(|(told, _)| told);
        let found = self.complaints.iter().chain(&self.ingested).chain(&self.planned);
        found.chain(&self.own).chain(strangers)
    }

    /// Finds what is wrong with the own Node.
    pub(super) fn look_at_node(&mut self) {
        self.own.clear();
        let Some(snapshot) = &self.snapshot else { return };
        let own = snapshot.nodes.get(&self.config.overlay.name);
        let object = self.own_node();
        // What is wrong with what is written there has been said.
        let mut of_pods = self
            .ingested
            .iter()
            .filter(|found| found.object == object && found.field.starts_with("spec.podCIDR"));
        if own.is_some_and(|own| own.pods.is_empty()) && of_pods.next().is_none() {
            let reason = "has no pod network, so the edges have no way to its pods";
            self.own.push(Diagnostic::warning(object, "spec.podCIDRs", reason).remedy(
                "have the controller manager or the network plugin give it one, or see which \
                     other Node claims the same",
            ));
        }
    }
}
