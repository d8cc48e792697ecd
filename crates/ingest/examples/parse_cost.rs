//! What reading a large manifest costs: 1,000 each of Ingresses, Services and EndpointSlices in
//! one file; all of it, and again after a change to one object.
//!
//! `cargo run --release -p tidegate-ingest --example parse_cost`

use std::time::{Duration, Instant};

use ingest::manifest::{self, Memo, Parsed};
use ingest::{ObjectSet, yaml};

const TRIPLES: usize = 1_000;
const ROUNDS: usize = 30;

/// The manifest, with this as one Ingress's annotation.
fn manifest(value: usize) -> String {
    (0..TRIPLES).map(|n| triple(n, if n == TRIPLES / 2 { value } else { 0 })).collect()
}

fn triple(n: usize, value: usize) -> String {
    format!(
        "\
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: web-{n}
  namespace: shop
  annotations:
    example.com/value: \"{value}\"
spec:
  ingressClassName: alb
  rules:
  - host: web-{n}.example.com
    http:
      paths:
      - path: /
        pathType: Prefix
        backend: {{service: {{name: web-{n}, port: {{number: 80}}}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: web-{n}, namespace: shop}}
spec:
  ports:
  - {{name: http, port: 80, targetPort: 8080}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: web-{n}-1
  namespace: shop
  labels: {{kubernetes.io/service-name: web-{n}}}
addressType: IPv4
ports:
- {{name: http, port: 8080}}
endpoints:
- addresses: [127.0.0.1]
"
    )
}

fn timed<T>(act: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let done = act();
    (done, start.elapsed())
}

/// Runs it some times and says what the median run took.
fn report(what: &str, mut run: impl FnMut(usize) -> Duration) {
    let mut took: Vec<Duration> = (0..ROUNDS).map(&mut run).collect();
    took.sort();
    eprintln!("{what}: {:.1?}, at most {:.1?}", took[ROUNDS / 2], took[ROUNDS - 1]);
}

fn check(parsed: &Parsed) {
    assert_eq!((parsed.objects.len(), parsed.diagnostics.len()), (3 * TRIPLES, 0));
}

fn main() {
    let text = manifest(0);
    eprintln!("{} bytes", text.len());
    report("YAML to nodes", |_| timed(|| yaml::documents(&text)).1);
    report("YAML to objects", |_| {
        let (parsed, took) = timed(|| manifest::parse("f.yaml", &text));
        check(&parsed);
        took
    });
    report("the same with an empty memo", |_| {
        let mut memo = Memo::default();
        let (parsed, took) = timed(|| manifest::parse_with("f.yaml", &text, &mut memo));
        check(&parsed);
        took
    });
    let mut memo = Memo::default();
    manifest::parse_with("f.yaml", &text, &mut memo);
    report("after a change to one object", |round| {
        let text = manifest(round + 1);
        let (parsed, took) = timed(|| manifest::parse_with("f.yaml", &text, &mut memo));
        check(&parsed);
        took
    });
    let parsed = manifest::parse_with("f.yaml", &text, &mut memo);
    report("objects to a set", |_| {
        let (set, took) = timed(|| {
            let mut set = ObjectSet::default();
            parsed.objects.iter().cloned().for_each(|entry| entry.insert_into(&mut set));
            set
        });
        assert_eq!(set.origins.len(), 3 * TRIPLES);
        took
    });
}
