//! How long the L4 plane's table takes with many Services: making it, its text, a change.
//!
//! `cargo run --release -p tidegate-plan --example nft_timing -- [SERVICES] [ENDPOINTS] [kernel]`;
//! with `kernel`, nft loads it and a change too: run that in a network namespace of its own.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::panic)]

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use model::ObjectKey;
use model::net::{PortRange, Protocol, Visibility};
use model::settings::{FailSafe, L4Settings};
use model::snapshot::{Algorithm, Announce, Endpoint};
use plan::l4::{AlbPorts, Frontend, L4Plan, Path, PortPlan, ServicePlan, Vip, table};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |at: usize, default| arguments.get(at).map_or(default, |text| text.parse().unwrap());
    let (services, endpoints) = (number(0, 10_000_u32), number(1, 10_u32));
    let kernel = arguments.get(2).is_some_and(|word| word == "kernel");
    let settings = L4Settings {
        node_name: "edge".to_owned(),
        public: Vec::new(),
        private: Vec::new(),
        node_ports: PortRange { first: 30_000, last: 32_767 },
        snat: false,
        load_balancer_class: String::new(),
        default_class: true,
        fail_safe: FailSafe::default(),
    };
    let plan = plan_of(services, endpoints);
    let mut changed = plan.clone();
    let port = &mut Arc::make_mut(&mut changed.services[services as usize / 2]).ports[0];
    port.endpoints = port.endpoints.iter().skip(1).cloned().collect();
    let ports = AlbPorts::new();

    let (old, made) = timed(|| table(&plan, &settings, &ports));
    let (text, written) = timed(|| old.load());
    println!("table {made:.1} ms, text {written:.1} ms, {} bytes", text.len());
    let (new, made) = timed(|| table(&changed, &settings, &ports));
    let (change, compared) = timed(|| new.change_from(&old).unwrap());
    println!("one endpoint less: table {made:.1} ms, comparison {compared:.1} ms\n{change}");
    if kernel {
        for _ in 0..3 {
            println!("nft load {:.1} ms", timed(|| nft(&text)).1);
        }
        println!("nft change {:.1} ms", timed(|| nft(&change)).1);
        let back = old.change_from(&new).unwrap();
        for _ in 0..5 {
            println!("nft back {:.1} ms", timed(|| nft(&back)).1);
            println!("nft change {:.1} ms", timed(|| nft(&change)).1);
        }
    }
}

fn timed<T>(action: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let result = action();
    (result, start.elapsed().as_secs_f64() * 1000.0)
}

fn nft(text: &str) {
    let mut child = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

fn plan_of(services: u32, endpoints: u32) -> L4Plan {
    let vip = |n: u32| std::net::Ipv4Addr::from_bits(0xcb00_0000 + n).into();
    let services: Vec<Arc<ServicePlan>> = (0..services)
        .map(|n| {
            let endpoint = |e: u32| Endpoint {
                address: SocketAddr::new(
                    std::net::Ipv4Addr::from_bits(0x0a00_0000 + n * endpoints + e).into(),
                    8080,
                ),
                weight: 1,
                terminating: false,
                local: true,
            };
            let mut frontends = vec![Frontend::Vip(SocketAddr::new(vip(n), 80))];
            // There are no more of them.
            frontends.extend((n < 2768).then(|| Frontend::NodePort(30_000 + n as u16)));
            Arc::new(ServicePlan {
                service: ObjectKey::new("default", format!("service-{n}")),
                load_balancer: true,
                addresses: vec![vip(n)],
                pending: None,
                ports: vec![PortPlan {
                    name: String::new(),
                    protocol: Protocol::Tcp,
                    number: 80,
                    frontends,
                    endpoints: (0..endpoints).map(endpoint).collect(),
                    only_remote: false,
                    algorithm: Algorithm::Random,
                    path: Path::Kernel,
                }],
                source_ranges: Vec::new(),
                affinity: None,
                snat: false,
                local_only: false,
                health_check_node_port: None,
                local_endpoints: 0,
            })
        })
        .collect();
    let vips = services.iter().map(|service| Vip {
        address: service.addresses[0],
        pool: "pool".to_owned(),
        visibility: Visibility::Public,
        announce: Announce::L2,
    });
    L4Plan { vips: Arc::new(vips.collect()), services, ..L4Plan::default() }
}
