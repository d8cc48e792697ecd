//! How long planning the L4 plane takes: `cargo run --profile bench -p tidegate-plan --example
//! l4_planning`. Prints figures, judges nothing.
#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use model::settings::FailSafe;
use model::snapshot::{AddressPool, AddressRange, Endpoint, Exposure, Service, ServicePort};
use model::{L4Settings, ObjectKey, PortRange, Protocol, Settings, Snapshot};
use plan::l4::{self, Allocations};

const ENDPOINTS: u8 = 10;
const RUNS: usize = 20;

fn main() {
    for services in [10, 1_000, 10_000] {
        let snapshot = snapshot(services);
        let settings = Settings { albs: Vec::new(), l4: Some(settings()), ..Settings::default() };
        let start = Instant::now();
        let (plan, diagnostics) = l4::plan(&snapshot, &settings, &[], &Allocations::default());
        let first = start.elapsed();
        assert!(diagnostics.is_empty() && plan.vips.len() == services);
        let mut again: Vec<_> = (0..RUNS)
            .map(|_| {
                let start = Instant::now();
                black_box(l4::plan(black_box(&snapshot), &settings, &[], &plan.allocations));
                start.elapsed()
            })
            .collect();
        again.sort();
        let [best, .., worst] = again.as_slice() else { return };
        println!(
            "{services:>6} Services x {ENDPOINTS} endpoints: first {first:.1?}, again {best:.1?} \
             to {worst:.1?}"
        );
    }
}

fn settings() -> L4Settings {
    L4Settings {
        node_name: "edge".into(),
        public: vec!["eth0".into()],
        private: Vec::new(),
        node_ports: PortRange { first: 30000, last: 32767 },
        snat: false,
        load_balancer_class: "tidegate.io/vip".into(),
        default_class: true,
        fail_safe: FailSafe::default(),
    }
}

fn snapshot(services: usize) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let pool = AddressPool {
        visibility: Default::default(),
        ranges: vec![AddressRange {
            first: IpAddr::V4(Ipv4Addr::new(10, 8, 0, 0)),
            last: IpAddr::V4(Ipv4Addr::new(10, 8, 255, 255)),
            index: 0,
        }],
        reserved: Vec::new(),
        alb: Vec::new(),
        auto_assign: true,
        announce: Default::default(),
        service_selector: Default::default(),
        namespace_selector: Default::default(),
        created: None,
        location: None,
    };
    snapshot.pools.insert("public".into(), pool);
    for n in 0..services {
        let [.., high, low] = n.to_be_bytes();
        let endpoints = (0..ENDPOINTS)
            .map(|last| Endpoint {
                address: ([10, high, low, last], 8080).into(),
                weight: 1,
                terminating: false,
                local: true,
            })
            .collect();
        let port = ServicePort {
            name: String::new(),
            protocol: Protocol::Tcp,
            number: 80,
            node_port: None,
            endpoints,
        };
        let exposure = Exposure { load_balancer: true, ..Exposure::default() };
        let exposure = Some(Box::new(exposure));
        let service = Service { ports: vec![port], exposure, ..Service::default() };
        snapshot.services.insert(ObjectKey::new("shop", format!("web-{n}")), service.into());
    }
    snapshot
}
