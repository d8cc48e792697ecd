//! What ingesting Services costs, as after any change: 10,000 of type LoadBalancer, each with an
//! EndpointSlice of 10 endpoints.
//!
//! `cargo run --release -p tidegate-ingest --example ingest_cost`

use std::time::{Duration, Instant};

use ingest::{ObjectSet, manifest};
use model::settings::FailSafe;
use model::{L4Settings, PortRange, Settings};

const SERVICES: usize = 10_000;
const ENDPOINTS: usize = 10;
const ROUNDS: usize = 30;

fn service(n: usize) -> String {
    let endpoints: String = (0..ENDPOINTS)
        .map(|endpoint| {
            format!("- {{addresses: [10.{endpoint}.{}.{}], nodeName: n}}\n", n / 250, n % 250)
        })
        .collect();
    format!(
        "\
---
apiVersion: v1
kind: Service
metadata:
  name: web-{n}
  namespace: team-{}
  labels: {{app.kubernetes.io/name: web-{n}, app.kubernetes.io/part-of: shop}}
  annotations: {{tidegate.io/algorithm: maglev}}
spec:
  type: LoadBalancer
  loadBalancerSourceRanges: [203.0.113.0/24]
  ports:
  - {{name: http, port: 80, targetPort: 8080}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: web-{n}-1
  namespace: team-{}
  labels: {{kubernetes.io/service-name: web-{n}}}
addressType: IPv4
ports:
- {{name: http, port: 8080}}
endpoints:
{endpoints}",
        n % 100,
        n % 100
    )
}

fn settings() -> L4Settings {
    L4Settings {
        node_name: "edge-1".to_owned(),
        public: vec!["eth0".to_owned()],
        private: Vec::new(),
        node_ports: PortRange { first: 30000, last: 32767 },
        snat: false,
        load_balancer_class: "tidegate.io/edge".to_owned(),
        default_class: true,
        fail_safe: FailSafe::default(),
    }
}

/// Runs it some times and says what the median run took.
fn report(what: &str, mut run: impl FnMut() -> Duration) {
    let mut took: Vec<Duration> = (0..ROUNDS).map(|_| run()).collect();
    took.sort();
    eprintln!("{what}: {:.1?}, at least {:.1?}", took[ROUNDS / 2], took[0]);
}

fn main() {
    let mut objects = ObjectSet::default();
    for n in 0..SERVICES {
        let parsed = manifest::parse("services.yaml", &service(n));
        assert!(parsed.diagnostics.is_empty());
        parsed.objects.into_iter().for_each(|entry| entry.insert_into(&mut objects));
    }
    for (what, l4) in [("without L4", None), ("with L4", Some(settings()))] {
        let settings = Settings { albs: Vec::new(), l4, ..Settings::default() };
        report(what, || {
            let start = Instant::now();
            let (snapshot, diagnostics) = ingest::ingest(&objects, &settings);
            let took = start.elapsed();
            assert_eq!((snapshot.services.len(), diagnostics.len()), (SERVICES, 0));
            took
        });
    }
}
