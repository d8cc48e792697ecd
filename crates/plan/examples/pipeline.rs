//! What a change of one EndpointSlice costs from the objects to the change of the kernel's table:
//! `cargo run --profile bench -p tidegate-plan --example pipeline`, with 10,000 Services of 10
//! endpoints, 5,000 Ingresses and 2,000 Secrets. Prints figures, judges nothing.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ingest::{Memo, ObjectSet, manifest};
use model::settings::FailSafe;
use model::{AlbKind, AlbSettings, L4Settings, ObjectKey, PortRange, Settings};
use plan::l4::{self, AlbPorts, Allocations, Giving};
use plan::l7;

const SERVICES: usize = 10_000;
const ENDPOINTS: usize = 10;
const INGRESSES: usize = 5_000;
const SECRETS: usize = 2_000;
const CHANGES: usize = 40;

fn main() {
    let before = resident();
    let mut objects = objects();
    println!("objects: {} MiB", resident() - before);
    let settings = settings();
    let alb_ports = AlbPorts::new();
    let mut memo = Memo::default();
    let mut allocations = Arc::<Allocations>::default();
    let mut planner = l4::Planner::default();
    let mut ruleset: Option<l4::Ruleset> = None;
    let mut albs = l7::Planner::default();
    let mut former: Option<Round> = None;
    let mut stages = Stages::default();
    for round in 0..=CHANGES {
        let start = Instant::now();
        let copy = objects.clone();
        let mut stage = stages.start("copy of the set", round, start);
        let (snapshot, found) = ingest::ingest_with(&copy, &settings, &mut memo);
        assert!(found.is_empty(), "{:?}", found.first());
        stage = stages.next("ingest", round, stage);
        let (l7, found) = albs.plan(&snapshot, &settings.albs);
        assert!(found.is_empty(), "{:?}", found.first());
        stage = stages.next("plan of the ALBs", round, stage);
        let (l4, found) = planner.plan(&snapshot, &settings, &[], (&allocations, Giving::New));
        assert!(found.is_empty(), "{:?}", found.first());
        allocations = Arc::clone(&l4.allocations);
        stage = stages.next("plan of L4", round, stage);
        if let Some(former) = &former {
            assert!(former.l4 != l4 && former.l7 != l7);
        }
        stage = stages.next("comparison of plans", round, stage);
        match &mut ruleset {
            Some(ruleset) => {
                let step = ruleset.step(&l4).unwrap();
                assert!(step.text().is_some());
                ruleset.take(step);
            }
            None => {
                let l4_settings = settings.l4.as_ref().unwrap();
                let whole = l4::Ruleset::new(&l4, l4_settings, &alb_ports, Default::default());
                drop(whole.table().load());
                ruleset = Some(whole);
            }
        }
        stage = stages.next("change of the table", round, stage);
        former = Some(Round { l7, l4 });
        stages.next("dropping the former", round, stage);
        stages.all.entry("all").or_default().push(start.elapsed());
        if round == 0 {
            stages.print("first");
            stages = Stages::default();
            println!("after the first: {} MiB", resident() - before);
        } else {
            drop(copy);
        }
        change(&mut objects, round);
    }
    stages.print("change");
    // Everything is read and planned once.
    assert_eq!((memo.whole, albs.whole), (1, 1));
    println!("at the end: {} MiB", resident() - before);
}

/// What a round leaves behind.
struct Round {
    l7: Arc<l7::L7Plan>,
    l4: Arc<l4::L4Plan>,
}

/// How long each stage has taken, by round.
#[derive(Default)]
struct Stages {
    order: Vec<&'static str>,
    all: BTreeMap<&'static str, Vec<Duration>>,
}

impl Stages {
    fn start(&mut self, name: &'static str, round: usize, start: Instant) -> Instant {
        self.next(name, round, start)
    }

    fn next(&mut self, name: &'static str, _round: usize, start: Instant) -> Instant {
        if !self.all.contains_key(name) {
            self.order.push(name);
        }
        self.all.entry(name).or_default().push(start.elapsed());
        Instant::now()
    }

    fn print(&mut self, what: &str) {
        self.order.push("all");
        for name in &self.order {
            let Some(all) = self.all.get_mut(name) else { continue };
            all.sort();
            let [best, .., worst] = all.as_slice() else {
                println!("{what:>6} {name:<24} {:.1?}", all[0]);
                continue;
            };
            println!(
                "{what:>6} {name:<24} {best:.1?} to {worst:.1?}, median {:.1?}",
                all[all.len() / 2]
            );
        }
    }
}

/// One endpoint of one EndpointSlice becomes another.
fn change(objects: &mut ObjectSet, round: usize) {
    let n = round * 37 % SERVICES;
    let key = ObjectKey::new(format!("team-{}", n % 100), format!("web-{n}-1"));
    let slice = Arc::make_mut(objects.endpoint_slices.get_mut(&key).unwrap());
    slice.endpoints[0].addresses[0] = format!("10.200.{}.{}", round / 250, round % 250);
}

fn objects() -> ObjectSet {
    let certified = rcgen::generate_simple_self_signed(["*.example.com".to_owned()]).unwrap();
    let indented =
        |pem: String| pem.lines().map(|line| format!("    {line}\n")).collect::<String>();
    let (chain, key) =
        (indented(certified.cert.pem()), indented(certified.signing_key.serialize_pem()));
    let mut objects = ObjectSet::default();
    let mut add = |text: String| {
        let parsed = manifest::parse("objects.yaml", &text);
        assert!(parsed.diagnostics.is_empty(), "{:?}", parsed.diagnostics.first());
        parsed.objects.into_iter().for_each(|entry| entry.insert_into(&mut objects));
    };
    add("{apiVersion: tidegate.io/v1alpha1, kind: AddressPool, metadata: {name: public}, spec: \
         {visibility: public, addresses: [10.8.0.0-10.8.255.255]}}"
        .to_owned());
    for n in 0..SERVICES {
        add(service(n));
    }
    for n in 0..INGRESSES {
        add(ingress(n));
    }
    for n in 0..SECRETS {
        add(format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: tls-{n}, namespace: team-{}}}\ntype: \
             kubernetes.io/tls\nstringData:\n  tls.crt: |\n{chain}  tls.key: |\n{key}",
            n % 100
        ));
    }
    // As from the API: none knows where it was read.
    objects.origins.clear();
    objects
}

fn service(n: usize) -> String {
    let endpoints: String = (0..ENDPOINTS)
        .map(|endpoint| {
            format!("- {{addresses: [10.{endpoint}.{}.{}], nodeName: n}}\n", n / 250, n % 250)
        })
        .collect();
    let team = n % 100;
    format!(
        "\
---
apiVersion: v1
kind: Service
metadata:
  name: web-{n}
  namespace: team-{team}
  labels: {{app.kubernetes.io/name: web-{n}, app.kubernetes.io/part-of: shop}}
spec:
  type: LoadBalancer
  ports:
  - {{name: http, port: 80, targetPort: 8080}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: web-{n}-1
  namespace: team-{team}
  labels: {{kubernetes.io/service-name: web-{n}}}
addressType: IPv4
ports:
- {{name: http, port: 8080}}
endpoints:
{endpoints}"
    )
}

fn ingress(n: usize) -> String {
    let (team, secret) = (n % 100, n % SECRETS);
    format!(
        "\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: shop-{n}, namespace: team-{team}}}
spec:
  ingressClassName: tidegate-public
  tls: [{{hosts: [shop-{n}.example.com], secretName: tls-{secret}}}]
  rules:
  - host: shop-{n}.example.com
    http:
      paths:
      - {{path: /, pathType: Prefix, backend: {{service: {{name: web-{n}, port: {{number: 80}}}}}}}}
      - {{path: /api, pathType: Prefix, backend: {{service: {{name: web-{n}, port: {{number: 80}}}}}}}}
"
    )
}

fn settings() -> Settings {
    let l4 = L4Settings {
        node_name: "edge".into(),
        public: vec!["eth0".into()],
        private: Vec::new(),
        node_ports: PortRange { first: 30000, last: 32767 },
        snat: false,
        load_balancer_class: "tidegate.io/vip".into(),
        default_class: true,
        fail_safe: FailSafe::default(),
    };
    let alb = AlbSettings {
        kind: AlbKind::Public,
        ingress_class: "tidegate-public".into(),
        ssl_redirect: true,
        default_certificate: None,
        default_backend: None,
    };
    Settings { albs: vec![alb], l4: Some(l4), ..Settings::default() }
}

/// MiB in memory.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096 / (1 << 20)
}
