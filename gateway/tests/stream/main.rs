//! L4 in user space: an engine with hand-made plans, on loopback addresses of its own.

#![allow(clippy::unwrap_used, clippy::panic)] // reason: a test fails by panicking

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use gateway::access_log::AccessLog;
use gateway::config::Config;
use gateway::l7::table::{Shared, Table};
use gateway::l7::{AlbListeners, Engine};
use gateway::metrics::Metrics;
use gateway::stream::StreamTotals;
use model::net::Protocol;
use model::snapshot::{Algorithm, Endpoint};
use model::{AlbKind, Diagnostic, ObjectKey};
use plan::l4::{Frontend, L4Plan, Path, PortPlan, ServicePlan, Stream};
use testkit::unique_address;

mod backend;
mod listeners;
mod proxy;
mod tcp;
mod tls;
mod udp;

/// An engine, stopped at its end.
struct Edge(Option<Engine>);

impl Edge {
    /// Two workers, no ALB.
    fn start() -> Self {
        Self::with(&[])
    }

    fn with(albs: &[AlbListeners]) -> Self {
        let workers = 2;
        let shared = Arc::new(Shared {
            table: ArcSwap::from_pointee(Table::default()),
            metrics: Arc::new(Metrics::new(workers)),
        });
        Self(Some(Engine::start(workers, albs, &shared, &AccessLog::off()).unwrap()))
    }

    fn engine(&self) -> &Engine {
        self.0.as_ref().unwrap()
    }

    /// Puts it in force; nothing of it may fail.
    #[track_caller]
    fn apply(&self, plan: L4Plan) {
        assert_eq!(self.listen(plan), []);
    }

    fn listen(&self, plan: L4Plan) -> Vec<Diagnostic> {
        self.engine().listen(&Arc::new(plan))
    }

    fn totals(&self, service: &str) -> StreamTotals {
        let all = self.engine().listeners().counters();
        let (_, counters) = all.iter().find(|((key, ..), _)| key.name == service).unwrap();
        counters.totals()
    }

    /// Stops and waits.
    fn drain(mut self, deadline: Duration) {
        self.0.take().unwrap().drain(deadline);
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        if let Some(engine) = self.0.take() {
            engine.drain(Duration::ZERO);
        }
    }
}

/// A public ALB on an address of its own, with more of its configuration.
fn alb(more: &str) -> AlbListeners {
    let text = format!(
        "apiVersion: tidegate.io/v1alpha1\nkind: GatewayConfig\nsource: {{manifests: .}}\nalb: \
         {{public: {{enabled: true, listen: {{addresses: [\"{}\"], http: 0}}{more}}}}}\n",
        unique_address()
    );
    let config = Config::parse("config.yaml", &text, std::path::Path::new(".")).unwrap();
    AlbListeners::new(AlbKind::Public, &config.alb.public, 2)
}

/// An address that nobody listens on.
fn address(port: u16) -> SocketAddr {
    SocketAddr::new(unique_address(), port)
}

/// A port below the ephemeral ones, for addresses that other processes may have too.
fn own_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = std::process::id() * 8 + NEXT.fetch_add(1, Ordering::Relaxed);
    20_000 + (number % 10_000) as u16
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint { address, weight: 1, terminating: false, local: true }
}

/// A Service with one port through user space, at these frontends.
fn service(name: &str, frontends: &[Frontend], endpoints: &[SocketAddr]) -> ServicePlan {
    ServicePlan {
        service: ObjectKey::new("default", name),
        load_balancer: true,
        addresses: Vec::new(),
        pending: None,
        ports: vec![PortPlan {
            name: String::new(),
            protocol: Protocol::Tcp,
            number: 80,
            frontends: frontends.to_vec(),
            endpoints: endpoints.iter().copied().map(endpoint).collect(),
            only_remote: false,
            algorithm: Algorithm::Random,
            path: Path::UserSpace(Box::default()),
        }],
        source_ranges: Vec::new(),
        affinity: None,
        snat: false,
        local_only: false,
        health_check_node_port: None,
        local_endpoints: endpoints.len(),
    }
}

/// The same on one VIP.
fn on_vip(name: &str, vip: SocketAddr, endpoints: &[SocketAddr]) -> ServicePlan {
    service(name, &[Frontend::Vip(vip)], endpoints)
}

/// What can be changed about a Service's only port.
trait Change {
    fn stream(self, stream: Stream) -> Self;
    fn algorithm(self, algorithm: Algorithm) -> Self;
    fn protocol(self, protocol: Protocol) -> Self;
}

impl Change for ServicePlan {
    fn stream(mut self, stream: Stream) -> Self {
        self.ports[0].path = Path::UserSpace(Box::new(stream));
        self
    }

    fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.ports[0].algorithm = algorithm;
        self
    }

    fn protocol(mut self, protocol: Protocol) -> Self {
        self.ports[0].protocol = protocol;
        self
    }
}

fn plan(services: impl IntoIterator<Item = ServicePlan>) -> L4Plan {
    L4Plan { services: services.into_iter().map(Arc::new).collect(), ..L4Plan::default() }
}
