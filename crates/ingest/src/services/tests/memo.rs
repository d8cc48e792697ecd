use std::sync::Arc;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use model::{AlbKind, AlbSettings, ObjectKey, Settings, Snapshot};

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
    let origins = set.origins.clone();
    let parsed = manifest::parse("f.yaml", text);
    parsed.objects.into_iter().for_each(|entry| entry.insert_into(set));
    set.origins = origins;
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
    let address = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1"][random.below(4) as usize];
    let kind = if random.below(12) == 0 { "FQDN" } else { "IPv4" };
    let protocol = if random.below(8) == 0 { "UDP" } else { "TCP" };
    let node = ["edge-1", "other", "another"][random.below(3) as usize];
    let weight = random.below(3);
    format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: {kind}, metadata: \
         {{name: e{name}, labels: {{kubernetes.io/service-name: s{of}}}, annotations: \
         {{tidegate.io/weight: \"{weight}\"}}}}, ports: [{{port: 8080, protocol: {protocol}}}], \
         endpoints: [{{addresses: [{address}], nodeName: {node}}}]}}"
    )
}

fn ingress(random: &mut Random) -> String {
    let (name, of, host) = (random.below(4), random.below(7), random.below(3));
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {{name: i{name}}}, spec: \
         {{ingressClassName: tidegate-public, rules: [{{host: h{host}.example.com, http: {{paths: \
         [{{path: /, pathType: Prefix, backend: {{service: {{name: s{of}, port: {{number: 80}}}}}}}}]}}}}]}}}}"
    )
}

fn change(set: &mut ObjectSet, random: &mut Random) {
    let key = |name: String| ObjectKey::new("default", name);
    match random.below(20) {
        0 | 1 => put(set, &service(random)),
        2 => put(set, &ingress(random)),
        3..=14 => put(set, &slice(random)),
        15 | 16 => (0..3).for_each(|_| put(set, &slice(random))),
        17 => drop(set.services.remove(&key(format!("s{}", random.below(6))))),
        18 => drop(set.endpoint_slices.remove(&key(format!("e{}", random.below(9))))),
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
            if random.below(6) == 0 {
                set.nodes.clear();
            }
        }
    }
}

#[test]
fn the_outcome_is_the_same_with_a_memo_and_without() {
    let (mut rounds, mut whole) = (0, 0);
    for seed in 0..60 {
        let mut random = Random(seed);
        let (mut set, mut memo) = (ObjectSet::default(), Memo::default());
        for _ in 0..100 {
            change(&mut set, &mut random);
            let l4 = (random.below(20) > 0).then(l4_settings);
            let settings = Settings { albs: vec![alb()], l4, ..Settings::default() };
            let with = ingest_with(&set, &settings, &mut memo);
            assert_eq!(with, ingest(&set, &settings), "seed {seed}");
        }
        (rounds, whole) = (rounds + 100, whole + memo.whole);
    }
    assert!((rounds / 3..rounds * 5 / 6).contains(&whole), "{whole} of {rounds}");
}

fn alb() -> AlbSettings {
    AlbSettings {
        kind: AlbKind::Public,
        ingress_class: "tidegate-public".into(),
        ssl_redirect: true,
        default_certificate: None,
        default_backend: None,
    }
}

fn addresses(snapshot: &Snapshot, service: &str) -> Vec<String> {
    let service = &snapshot.services[&ObjectKey::new("default", service)];
    let endpoints = service.ports.iter().flat_map(|port| &port.endpoints);
    endpoints.map(|endpoint| endpoint.address.to_string()).collect()
}

fn plain_slice(set: &mut ObjectSet, name: &str, of: &str, address: &str) {
    put(
        set,
        &format!(
            "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, metadata: \
             {{name: {name}, labels: {{kubernetes.io/service-name: {of}}}}}, ports: [{{port: 1}}], \
             endpoints: [{{addresses: [{address}]}}]}}"
        ),
    );
}

#[test]
fn slices_that_come_go_or_move_reach_their_services_alone() {
    let mut set = ObjectSet::default();
    put(&mut set, "{apiVersion: v1, kind: Node, metadata: {name: edge-1}}");
    for name in ["a", "b", "c"] {
        put(
            &mut set,
            &format!(
                "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{ports: \
                 [{{port: 80}}]}}}}"
            ),
        );
        plain_slice(&mut set, &format!("{name}-1"), name, "10.0.0.1");
    }
    let settings = Settings { l4: Some(l4_settings()), ..Settings::default() };
    let mut memo = Memo::default();
    let (first, _) = ingest_with(&set, &settings, &mut memo);
    plain_slice(&mut set, "other", "a", "10.0.0.2");
    let (second, _) = ingest_with(&set, &settings, &mut memo);
    assert_eq!(addresses(&second, "a"), ["10.0.0.1:1", "10.0.0.2:1"]);
    plain_slice(&mut set, "other", "b", "10.0.0.2");
    let (third, _) = ingest_with(&set, &settings, &mut memo);
    assert_eq!(addresses(&third, "a"), ["10.0.0.1:1"]);
    assert_eq!(addresses(&third, "b"), ["10.0.0.1:1", "10.0.0.2:1"]);
    set.endpoint_slices.remove(&ObjectKey::new("default", "b-1"));
    let (fourth, _) = ingest_with(&set, &settings, &mut memo);
    assert_eq!(addresses(&fourth, "b"), ["10.0.0.2:1"]);
    let c = ObjectKey::new("default", "c");
    assert!(Arc::ptr_eq(&first.services[&c], &fourth.services[&c]));
    assert_eq!(memo.whole, 1);
    // Without any it is one to be warned of, maybe.
    set.endpoint_slices.remove(&ObjectKey::new("default", "other"));
    let (fifth, _) = ingest_with(&set, &settings, &mut memo);
    assert_eq!((addresses(&fifth, "b").len(), memo.whole), (0, 2));
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
