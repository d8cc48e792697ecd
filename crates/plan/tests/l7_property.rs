//! What is planned again and again is what would be planned at once.
#![allow(clippy::unwrap_used)] // reason: a test fails by panicking

use std::sync::Arc;

use ingest::{Memo, ObjectSet, manifest};
use model::{AlbKind, AlbSettings, ObjectKey, Settings};
use plan::l7::{Planner, plan};

/// Numbers that look random and are always the same ones.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
        (self.0 >> 33) % bound
    }

    fn one_of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len() as u64) as usize]
    }
}

fn put(set: &mut ObjectSet, text: &str) {
    let origins = set.origins.clone();
    let parsed = manifest::parse("f.yaml", text);
    parsed.objects.into_iter().for_each(|entry| entry.insert_into(set));
    set.origins = origins;
}

fn service(random: &mut Random) -> String {
    let name = random.below(5);
    let kind = random.one_of(&["ClusterIP", "ClusterIP", "ClusterIP", "ExternalName"]);
    let host = random.one_of(&["example.com", "10.0.0.1"]);
    let ports = random.one_of(&[
        "{port: 80}",
        "{port: 80, name: http}, {port: 81, name: other}",
        // Names that look alike.
        "{port: 80, name: http}, {port: 81, name: http}",
        "{port: 80, name: http}, {port: 81, name: '80'}",
        "{port: 80, protocol: UDP}",
        "",
    ]);
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: s{name}}}, spec: {{type: {kind}, \
         externalName: {host}, ports: [{ports}]}}}}"
    )
}

fn slice(random: &mut Random) -> String {
    let (name, of, last, weight) =
        (random.below(9), random.below(5), random.below(4), 1 + random.below(2));
    let name_of_port = random.one_of(&["", "http", "http", "other"]);
    let terminating = random.below(4) == 0;
    format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, metadata: \
         {{name: e{name}, labels: {{kubernetes.io/service-name: s{of}}}, annotations: \
         {{tidegate.io/weight: \"{weight}\"}}}}, ports: [{{name: \"{name_of_port}\", port: 8080}}], \
         endpoints: [{{addresses: [10.0.0.{last}], conditions: {{terminating: {terminating}, \
         ready: true, serving: true}}}}]}}"
    )
}

fn ingress(random: &mut Random) -> String {
    let (name, host, path) = (random.below(5), random.below(3), random.below(3));
    let class = random.one_of(&["tidegate-public", "tidegate-private"]);
    let port = random.one_of(&["number: 80", "name: http", "name: '80'", "number: 81"]);
    let (of, default) = (random.below(6), random.below(6));
    let default = match random.below(3) {
        0 => format!("defaultBackend: {{service: {{name: s{default}, port: {{{port}}}}}}}, "),
        _ => String::new(),
    };
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {{name: i{name}, \
         creationTimestamp: '2026-01-0{}T00:00:00Z'}}, spec: {{ingressClassName: {class}, \
         {default}rules: [{{host: h{host}.example.com, http: {{paths: [{{path: /{path}, pathType: \
         Prefix, backend: {{service: {{name: s{of}, port: {{{port}}}}}}}}}]}}}}]}}}}",
        1 + random.below(2)
    )
}

fn change(set: &mut ObjectSet, random: &mut Random) {
    let key = |name: String| ObjectKey::new("default", name);
    match random.below(24) {
        0..=2 => put(set, &service(random)),
        3..=5 => put(set, &ingress(random)),
        6 => drop(set.services.remove(&key(format!("s{}", random.below(5))))),
        7 => drop(set.endpoint_slices.remove(&key(format!("e{}", random.below(9))))),
        8 => drop(set.ingresses.remove(&key(format!("i{}", random.below(5))))),
        9..=11 => (0..4).for_each(|_| put(set, &slice(random))),
        _ => put(set, &slice(random)),
    }
}

fn settings(random: &mut Random) -> Settings {
    let alb = |kind, class: &str| AlbSettings {
        kind,
        ingress_class: class.to_owned(),
        ssl_redirect: true,
        default_certificate: None,
        default_backend: None,
    };
    let mut public = alb(AlbKind::Public, "tidegate-public");
    if random.below(20) == 0 {
        public.default_backend = Some((ObjectKey::new("default", "s1"), "http".to_owned()));
    }
    Settings {
        albs: vec![public, alb(AlbKind::Private, "tidegate-private")],
        ..Settings::default()
    }
}

#[test]
fn the_plan_is_the_same_with_a_past_and_without() {
    let (mut rounds, mut whole) = (0, 0);
    for seed in 0..50 {
        let mut random = Random(seed);
        let (mut set, mut memo) = (ObjectSet::default(), Memo::default());
        let mut planner = Planner::default();
        for _ in 0..8 {
            put(&mut set, &service(&mut random));
            put(&mut set, &ingress(&mut random));
        }
        for _ in 0..100 {
            change(&mut set, &mut random);
            let settings = settings(&mut random);
            let (snapshot, findings) = ingest::ingest_with(&set, &settings, &mut memo);
            let again = planner.plan(&snapshot, &settings.albs);
            let (fresh, as_found) = ingest::ingest(&set, &settings);
            assert_eq!((&snapshot, findings), (&fresh, as_found), "seed {seed}");
            let (plan, found) = plan(&fresh, &settings.albs);
            assert_eq!((&*again.0, again.1), (&plan, found), "seed {seed}");
        }
        (rounds, whole) = (rounds + 100, whole + planner.whole);
    }
    assert!((rounds / 5..rounds * 4 / 5).contains(&whole), "{whole} of {rounds}");
}

#[test]
fn a_changed_endpoint_leaves_the_rest_the_same_in_memory() {
    let mut set = ObjectSet::default();
    for name in ["a", "b"] {
        put(
            &mut set,
            &format!(
                "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{ports: \
                 [{{port: 80}}]}}}}\n---\n{{apiVersion: networking.k8s.io/v1, kind: Ingress, \
                 metadata: {{name: {name}}}, spec: {{ingressClassName: tidegate-public, \
                 defaultBackend: {{service: {{name: {name}, port: {{number: 80}}}}}}, rules: \
                 [{{host: {name}.example.com}}]}}}}"
            ),
        );
    }
    let slice = |address: &str| {
        format!(
            "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, metadata: \
             {{name: a-1, labels: {{kubernetes.io/service-name: a}}}}, ports: [{{port: 8080}}], \
             endpoints: [{{addresses: [{address}]}}]}}"
        )
    };
    let settings = settings(&mut Random(1));
    let (mut memo, mut planner) = (Memo::default(), Planner::default());
    let mut plan = |set: &ObjectSet| {
        let (snapshot, _) = ingest::ingest_with(set, &settings, &mut memo);
        planner.plan(&snapshot, &settings.albs).0
    };
    put(&mut set, &slice("10.0.0.1"));
    let first = plan(&set);
    assert!(Arc::ptr_eq(&first, &plan(&set)));
    put(&mut set, &slice("10.0.0.2"));
    let second = plan(&set);
    assert!(Arc::ptr_eq(&first.albs[&AlbKind::Public], &second.albs[&AlbKind::Public]));
    let same: Vec<bool> = first
        .backends
        .iter()
        .zip(&second.backends)
        .map(|(one, other)| Arc::ptr_eq(one, other))
        .collect();
    assert_eq!(same, [false, true]);
    // Another Service is planned for without any effect.
    put(
        &mut set,
        "{apiVersion: v1, kind: Service, metadata: {name: c}, spec: {ports: [{port: 1}]}}",
    );
    assert!(Arc::ptr_eq(&second, &plan(&set)));
    assert_eq!(planner.whole, 2);
}
