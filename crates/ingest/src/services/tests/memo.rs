use std::sync::Arc;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use model::{AlbSettings, ObjectKey, Settings};

use crate::fixture::l4_settings;
use crate::{Memo, ObjectSet, ingest, ingest_with, manifest};

/// Numbers that look random and are always the same ones.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
        (self.0 >> 33) % bound
    }
}

fn put(set: &mut ObjectSet, text: &str) {
    let parsed = manifest::parse("f.yaml", text);
    parsed.objects.into_iter().for_each(|entry| entry.insert_into(set));
    set.origins.clear();
}

fn service(random: &mut Random) -> String {
    let (name, port) = (random.below(6), 80 + random.below(3));
    let kind = ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"][random.below(4) as usize];
    let annotation = [
        "a: b",
        "tidegate.io/algorithm: maglev",
        "tidegate.io/tls-secret: pair",
        "tidegate.io/algorithm: wrong",
    ][random.below(4) as usize];
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: s{name}, annotations: {{{annotation}}}}}, \
         spec: {{type: {kind}, externalName: example.com, externalTrafficPolicy: Local, ports: \
         [{{port: {port}, nodePort: {}}}]}}}}",
        30000 + random.below(3)
    )
}

fn slice(random: &mut Random) -> String {
    let (name, of) = (random.below(9), random.below(7));
    let address = ["10.0.0.1", "10.0.0.2", "fd00::1"][random.below(3) as usize];
    let node = ["edge-1", "other"][random.below(2) as usize];
    let weight = random.below(3);
    format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, metadata: \
         {{name: e{name}, labels: {{kubernetes.io/service-name: s{of}}}, annotations: \
         {{tidegate.io/weight: \"{weight}\"}}}}, ports: [{{port: 8080}}], endpoints: \
         [{{addresses: [{address}], nodeName: {node}}}]}}"
    )
}

fn change(set: &mut ObjectSet, random: &mut Random) {
    let key = |name: String| ObjectKey::new("default", name);
    match random.below(9) {
        0..=2 => put(set, &service(random)),
        3..=5 => put(set, &slice(random)),
        6 => drop(set.services.remove(&key(format!("s{}", random.below(6))))),
        7 => drop(set.endpoint_slices.remove(&key(format!("e{}", random.below(9))))),
        _ => {
            let team = random.below(2);
            let kind = ["Namespace", "Node"][random.below(2) as usize];
            let name = if kind == "Node" { "edge-1" } else { "default" };
            put(
                set,
                &format!(
                    "{{apiVersion: v1, kind: {kind}, metadata: {{name: {name}, labels: {{team: t{team}}}}}}}"
                ),
            );
            if random.below(2) == 0 {
                set.nodes.clear();
            }
        }
    }
}

#[test]
fn the_outcome_is_the_same_with_a_memo_and_without() {
    for seed in 0..40 {
        let mut random = Random(seed);
        let (mut set, mut memo) = (ObjectSet::default(), Memo::default());
        for _ in 0..60 {
            change(&mut set, &mut random);
            let albs: Vec<AlbSettings> = Vec::new();
            let l4 = (random.below(20) > 0).then(l4_settings);
            let settings = Settings { albs, l4, ..Settings::default() };
            let with = ingest_with(&set, &settings, &mut memo);
            assert_eq!(with, ingest(&set, &settings), "seed {seed}");
        }
    }
}

#[test]
fn what_has_not_changed_is_not_read_again() {
    let mut set = ObjectSet::default();
    for name in ["a", "b"] {
        put(
            &mut set,
            &format!(
                "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{ports: \
                 [{{port: 80}}]}}}}\n---\n{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, \
                 addressType: IPv4, metadata: {{name: {name}-1, labels: \
                 {{kubernetes.io/service-name: {name}}}}}, ports: [{{port: 8080}}], endpoints: \
                 [{{addresses: [10.0.0.1]}}]}}"
            ),
        );
    }
    let settings = Settings { l4: Some(l4_settings()), ..Settings::default() };
    let mut memo = Memo::default();
    let (first, _) = ingest_with(&set, &settings, &mut memo);
    let (a, b) = (ObjectKey::new("default", "a"), ObjectKey::new("default", "b"));
    let slice: &mut Arc<EndpointSlice> =
        set.endpoint_slices.get_mut(&ObjectKey::new("default", "a-1")).unwrap();
    Arc::make_mut(slice).endpoints[0].addresses = vec!["10.0.0.2".to_owned()];
    let (second, _) = ingest_with(&set, &settings, &mut memo);
    assert!(!Arc::ptr_eq(&first.services[&a], &second.services[&a]));
    assert!(Arc::ptr_eq(&first.services[&b], &second.services[&b]));
    assert_ne!(first.services[&a], second.services[&a]);
}
