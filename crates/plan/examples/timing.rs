//! How long matching and planning take: `cargo run --profile bench -p tidegate-plan --example
//! timing`. Prints figures, judges nothing.
#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use model::snapshot::{
    BackendRef, Endpoint, HostMatch, Ingress, IngressPolicy, IngressTarget, PathMatch, PathRule,
    PortRef, Rule, Service, ServicePort,
};
use model::{AlbKind, AlbSettings, ObjectKey, Snapshot};
use plan::l7::{self, Router};

const LOOKUPS: usize = 2_000_000;

fn main() {
    for hosts in [10, 1_000, 10_000] {
        let snapshot = snapshot(hosts);
        let settings = [settings()];
        let start = Instant::now();
        let (plan, diagnostics) = l7::plan(&snapshot, &settings);
        let planned = start.elapsed();
        assert!(diagnostics.is_empty());
        let Some(alb) = plan.albs.get(&AlbKind::Public) else { return };
        let start = Instant::now();
        let router = Router::new(&alb.routes);
        let indexed = start.elapsed();
        println!(
            "{hosts:>6} hosts: plan {planned:.1?}, index {indexed:.1?}, find {:.1?} \
             (deep path {:.1?}, unknown host {:.1?})",
            lookups(&router, hosts, "/"),
            lookups(&router, hosts, "/static/img/a/b/c/d/logo.svg"),
            lookups(&router, 0, "/"),
        );
    }
}

/// The mean time of a lookup over all hosts in a scattered order.
fn lookups(router: &Router, hosts: usize, path: &str) -> Duration {
    let names: Vec<String> = (0..hosts.max(1))
        .map(|n| if hosts == 0 { "unknown.example.org".into() } else { host(n * 7919 % hosts) })
        .collect();
    let start = Instant::now();
    for name in names.iter().cycle().take(LOOKUPS) {
        black_box(router.find(black_box(name), black_box(path)));
    }
    start.elapsed() / u32::try_from(LOOKUPS).unwrap_or(u32::MAX)
}

fn host(n: usize) -> String {
    format!("shop-{n}.customers.example.com")
}

fn settings() -> AlbSettings {
    AlbSettings {
        kind: AlbKind::Public,
        ingress_class: "tidegate-public".into(),
        ssl_redirect: true,
        default_certificate: None,
        default_backend: None,
    }
}

fn snapshot(hosts: usize) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for n in 0..hosts {
        let key = ObjectKey::new("shop", format!("web-{n}"));
        let path = |index: usize, path: &str| PathRule {
            field: format!("spec.rules[0].http.paths[{index}]"),
            path: PathMatch::Prefix(path.into()),
            target: IngressTarget::Service(BackendRef {
                service: key.clone(),
                port: PortRef::Number(80),
            }),
        };
        let rule = Rule {
            field: "spec.rules[0]".into(),
            host: HostMatch::Exact(host(n)),
            paths: vec![path(0, "/"), path(1, "/api/v1"), path(2, "/static/img")],
        };
        let ingress = Ingress {
            alb: AlbKind::Public,
            created: None,
            location: None,
            rules: vec![rule],
            default_backend: None,
            tls: Vec::new(),
            policy: IngressPolicy::default(),
            refused: None,
        };
        let endpoints = (0..10)
            .map(|n| Endpoint {
                address: ([10, 0, 0, n], 8080).into(),
                weight: 1,
                terminating: false,
                local: true,
            })
            .collect();
        let port = ServicePort {
            name: String::new(),
            protocol: model::Protocol::Tcp,
            number: 80,
            node_port: None,
            endpoints,
        };
        let service = Service { ports: vec![port], ..Service::default() };
        snapshot.services.insert(key.clone(), service.into());
        snapshot.ingresses.insert(key, ingress.into());
    }
    snapshot
}
