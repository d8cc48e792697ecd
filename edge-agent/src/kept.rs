//! The objects of the cluster as they were last seen, kept in the state directory for a start while
//! the API doesn't answer: the Node, the EdgeGateways, the VpnConnections and Calico's IPAMBlocks.
//! Secrets are nothing that an agent sees.

use std::time::{Duration, Instant, SystemTime};

use ::source::store::Store;
use ingest::{Delivery, ObjectSet};
use serde_json::{Value, json};

use crate::state::State;
use crate::view::seconds;

/// The file: manifests, below a line that says when they were written.
pub const FILE: &str = "objects.yaml";
/// What that line begins with.
const SAVED: &str = "# seen at ";
/// They are written at most so often,
const PAUSE: Duration = Duration::from_secs(2);
/// and so often though nothing has changed: their age is to be that of what was seen.
const AGAIN: Duration = Duration::from_secs(3_600);
/// Kinds without which what was kept before is the better.
const NEEDED: [&str; 3] = ["Node", "EdgeGateway", "VpnConnection"];

/// Objects that were kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// The objects.
    pub delivery: Delivery,
    /// When they were seen, in seconds since 1970.
    pub seen: u64,
}

/// What is kept, and what is to be.
#[derive(Debug, Default)]
pub struct Keeper {
    /// What stands in the file, as far as this run knows.
    written: Option<(String, Instant)>,
    /// What is to stand there.
    wanted: Option<String>,
}

impl Keeper {
    /// Takes in what the API tells.
    pub fn take(&mut self, delivery: &Delivery) {
        if !NEEDED.iter().any(|kind| delivery.unread.contains(kind)) {
            self.wanted = Some(manifests(&delivery.objects));
        }
    }

    /// Writes it, if it is new and it is time to.
    pub fn save(&mut self, state: &State, now: Instant) {
        let Some(wanted) = &self.wanted else { return };
        if let Some((written, at)) = &self.written {
            let rest = if written == wanted { AGAIN } else { PAUSE };
            if now.saturating_duration_since(*at) < rest {
                return;
            }
        }
        let text = format!("{SAVED}{}\n{wanted}", seconds(SystemTime::now()));
        if let Err(error) = state.write(FILE, text.as_bytes()) {
            tracing::error!(%error, "objects aren't kept for a start without the API");
        }
        // What failed is tried again with the next change.
        self.written = Some((wanted.clone(), now));
    }
}

impl Kept {
    /// What an earlier run has kept; none if there is nothing, or nothing that can be read.
    pub fn read(state: &State) -> Option<Self> {
        let text = std::fs::read_to_string(state.path(FILE)).ok()?;
        let (head, _) = text.split_once('\n')?;
        let seen = head.strip_prefix(SAVED)?.parse().ok()?;
        let mut store = Store::default();
        store.put(FILE, &text);
        let delivery = store.delivery();
        (!delivery.objects.nodes.is_empty()).then_some(Self { delivery, seen })
    }
}

/// What an agent reads of objects, as manifests.
fn manifests(objects: &ObjectSet) -> String {
    let mut all = Vec::new();
    for node in objects.nodes.values() {
        let mut object = json!(**node);
        if let Some(status) = object["status"].as_object_mut() {
            status.retain(|name, _| name == "addresses");
        }
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.retain(|name, _| ["name", "labels", "annotations"].contains(&name.as_str()));
        }
        all.push(object);
    }
    for (name, edge) in &objects.edges {
        let mut status = json!(edge.status);
        if let Some(status) = status.as_object_mut() {
            status.retain(|name, value| name != "conditions" && !value.is_null());
        }
        all.push(own("EdgeGateway", json!({"name": name}), json!({"drain": edge.spec.drain})));
        if let Some(last) = all.last_mut().filter(|_| !status.is_null()) {
            last["status"] = status;
        }
    }
    for (key, connection) in &objects.vpn {
        let metadata = json!({"namespace": key.namespace, "name": key.name});
        all.push(own("VpnConnection", metadata, connection.spec.clone()));
    }
    for (name, block) in &objects.ipam_blocks {
        all.push(json!({
            "apiVersion": "crd.projectcalico.org/v1",
            "kind": "IPAMBlock",
            "metadata": {"name": name},
            "spec": {
                "cidr": block.spec.cidr,
                "affinity": block.spec.affinity,
                "deleted": block.spec.deleted,
            },
        }));
    }
    // JSON is YAML.
    all.iter().map(|object| format!("---\n{object}\n")).collect()
}

fn own(kind: &str, metadata: Value, spec: Value) -> Value {
    json!({
        "apiVersion": ingest::crds::API_VERSION,
        "kind": kind,
        "metadata": metadata,
        "spec": spec,
    })
}

#[cfg(test)]
mod tests {
    use model::Settings;

    use super::*;

    const OBJECTS: &str = "---
apiVersion: v1
kind: Node
metadata: {name: a, annotations: {tidegate.io/overlay-mode: direct}, uid: u}
spec: {podCIDRs: [10.244.1.0/24]}
status: {addresses: [{type: InternalIP, address: 10.0.0.21}], nodeInfo: {}}
---
apiVersion: tidegate.io/v1alpha1
kind: EdgeGateway
metadata: {name: edge-1}
spec: {drain: true}
status:
  underlayAddresses: [10.0.0.1]
  wireguard: {publicKeys: [\"xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\"], ports: [51821]}
  probePort: 51820
  conditions: [{type: Ready, status: \"True\"}]
---
apiVersion: tidegate.io/v1alpha1
kind: VpnConnection
metadata: {name: hq, namespace: office}
spec: {local: {subnets: [10.244.0.0/16]}, remote: {subnets: [10.20.0.0/16]}}
---
apiVersion: crd.projectcalico.org/v1
kind: IPAMBlock
metadata: {name: 10-244-1-0-24}
spec: {cidr: 10.244.1.0/24, affinity: 'host:a'}
";

    fn delivery(text: &str) -> Delivery {
        let mut store = Store::default();
        store.put("objects", text);
        store.delivery()
    }

    #[test]
    fn what_was_seen_leads_to_the_same_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        assert_eq!(Kept::read(&state), None);
        let seen = delivery(OBJECTS);
        let mut keeper = Keeper::default();
        keeper.take(&seen);
        let now = Instant::now();
        keeper.save(&state, now);
        let kept = Kept::read(&state).unwrap();
        assert!(seconds(SystemTime::now()) - kept.seen < 60);
        assert_eq!(kept.delivery.diagnostics, []);
        let settings = Settings {
            overlay: Some(model::OverlaySettings { name: "a".to_owned(), ..Default::default() }),
            ..Settings::default()
        };
        let snapshot = |delivery: &Delivery| ingest::ingest(&delivery.objects, &settings).0;
        assert_eq!(snapshot(&kept.delivery).edges, snapshot(&seen).edges);
        assert_eq!(snapshot(&kept.delivery).nodes["a"].pods, snapshot(&seen).nodes["a"].pods);
        assert_eq!(snapshot(&kept.delivery).nodes["a"].agent, snapshot(&seen).nodes["a"].agent);
        assert_eq!(snapshot(&kept.delivery).connections, snapshot(&seen).connections);
        assert!(snapshot(&seen).edges["edge-1"].drain && snapshot(&seen).connections.len() == 1);
    }

    #[test]
    fn changes_are_written_after_a_pause_and_what_may_not_be_read_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let mut keeper = Keeper::default();
        let start = Instant::now();
        keeper.take(&delivery(OBJECTS));
        keeper.save(&state, start);
        let edges = || Kept::read(&state).unwrap().delivery.objects.edges.len();
        assert_eq!(edges(), 1);
        let denied = Delivery {
            unread: ["EdgeGateway"].into(),
            ..delivery(&OBJECTS.replace("edge-1", "x"))
        };
        keeper.take(&denied);
        keeper.save(&state, start + AGAIN);
        assert!(Kept::read(&state).unwrap().delivery.objects.edges.contains_key("edge-1"));
        let more = OBJECTS.replace("name: edge-1", "name: edge-2");
        keeper.take(&delivery(&format!("{OBJECTS}{more}")));
        keeper.save(&state, start + AGAIN);
        assert_eq!(edges(), 1);
        keeper.save(&state, start + AGAIN + PAUSE);
        assert_eq!(edges(), 2);
        std::fs::write(state.path(FILE), "nonsense").unwrap();
        assert_eq!(Kept::read(&state), None);
    }
}
