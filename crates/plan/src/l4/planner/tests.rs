//! Snapshots made by hand, plans and diagnostics out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use model::settings::FailSafe;
use model::snapshot::{
    AddressPool, AddressRange, Endpoint, Exposure, Machine, Service, ServicePort,
};
use model::{
    Diagnostic, HostAddress, L4Settings, ObjectKey, ObjectRef, PortRange, Protocol, Settings,
    Severity, Snapshot,
};

use super::super::{Allocations, Giving, L4Plan, ServicePlan};
use super::plan_giving;

mod allocation;
mod connections;
mod last;
mod pools;
mod property;
mod services;
mod sharing;

/// A snapshot that is planned again and again, each time with the last allocations.
#[derive(Default)]
struct World {
    snapshot: Snapshot,
    host: Vec<HostAddress>,
    settings: Settings,
    previous: Allocations,
}

impl World {
    fn new() -> Self {
        let l4 = L4Settings {
            node_name: "edge".into(),
            public: vec!["eth0".into()],
            private: vec!["eth1".into()],
            node_ports: PortRange { first: 30000, last: 32767 },
            snat: false,
            load_balancer_class: "tidegate.io/vip".into(),
            default_class: true,
            fail_safe: FailSafe::default(),
        };
        Self {
            settings: Settings { albs: Vec::new(), l4: Some(l4), ..Settings::default() },
            ..Self::default()
        }
    }

    /// With a public pool of these addresses.
    fn with_pool(networks: &[&str]) -> Self {
        let mut world = Self::new();
        world.snapshot.pools.insert("public".into(), pool(networks));
        world
    }

    fn pool(&mut self, name: &str) -> &mut AddressPool {
        self.snapshot.pools.entry(name.into()).or_insert_with(|| pool(&[]))
    }

    /// A Service of type LoadBalancer in namespace `shop` with TCP port 80, made if need be.
    fn service(&mut self, name: &str) -> &mut Service {
        let key = ObjectKey::new("shop", name);
        let service = || Service {
            ports: vec![port(Protocol::Tcp, 80)],
            exposure: Some(Box::new(Exposure { load_balancer: true, ..Exposure::default() })),
            ..Service::default()
        };
        let entry = self.snapshot.services.entry(key);
        Arc::make_mut(entry.or_insert_with(|| Arc::new(service())))
    }

    fn exposure(&mut self, name: &str) -> &mut Exposure {
        self.service(name).exposure.as_mut().unwrap()
    }

    fn plan(&mut self) -> (L4Plan, Vec<Diagnostic>) {
        let planned = super::plan(&self.snapshot, &self.settings, &self.host, &self.previous);
        self.previous = Allocations::clone(&planned.0.allocations);
        planned
    }

    /// What the plan says of one Service.
    fn planned(&mut self, name: &str) -> (ServicePlan, Vec<String>) {
        let (plan, diagnostics) = self.plan();
        let key = ObjectKey::new("shop", name);
        let service = plan.services.iter().find(|service| service.service == key).unwrap();
        (ServicePlan::clone(service), texts(&diagnostics))
    }

    /// The addresses of every Service that has some, as text.
    fn addresses(&mut self) -> BTreeMap<String, String> {
        let allocations = self.plan().0.allocations.services.clone();
        let text = |addresses: Vec<IpAddr>| {
            addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ")
        };
        let strip = |name: String| name.trim_start_matches("shop/").to_owned();
        allocations.into_iter().map(|(name, has)| (strip(name), text(has))).collect()
    }
}

fn pool(networks: &[&str]) -> AddressPool {
    let range = |(index, text): (usize, &&str)| {
        let network: IpNet = text.parse().unwrap();
        AddressRange { first: network.network(), last: network.broadcast(), index }
    };
    AddressPool {
        visibility: Default::default(),
        ranges: networks.iter().enumerate().map(range).collect(),
        reserved: Vec::new(),
        alb: Vec::new(),
        auto_assign: true,
        announce: Default::default(),
        service_selector: Default::default(),
        namespace_selector: Default::default(),
        created: None,
        location: None,
    }
}

fn port(protocol: Protocol, number: u16) -> ServicePort {
    ServicePort {
        name: format!("{}-{number}", protocol.lower()),
        protocol,
        number,
        node_port: None,
        endpoints: vec![endpoint("10.0.0.1:8080")],
    }
}

fn endpoint(address: &str) -> Endpoint {
    Endpoint { address: address.parse().unwrap(), weight: 1, terminating: false, local: true }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn texts(diagnostics: &[Diagnostic]) -> Vec<String> {
    diagnostics.iter().map(Diagnostic::to_string).collect()
}

fn errors(diagnostics: &[Diagnostic]) -> usize {
    diagnostics.iter().filter(|finding| finding.severity == Severity::Error).count()
}

#[test]
fn portable_subnet_has_four_addresses_for_services() {
    let mut world = World::with_pool(&["198.51.100.16/29"]);
    let pool = world.pool("public");
    pool.reserved = vec![ip("198.51.100.16"), ip("198.51.100.17"), ip("198.51.100.23")];
    pool.alb = vec![ip("198.51.100.18")];
    for name in ["a", "b", "c", "d", "e"] {
        world.service(name);
    }
    let (plan, diagnostics) = world.plan();
    let has = |name: &str| plan.allocations.services.get(name).cloned();
    assert_eq!(has("shop/a"), Some(vec![ip("198.51.100.19")]));
    assert_eq!(has("shop/d"), Some(vec![ip("198.51.100.22")]));
    assert_eq!(has("shop/e"), None);
    assert_eq!((plan.pools["public"].capacity, plan.pools["public"].used), (4, 4));
    let text = texts(&diagnostics).join("\n");
    assert!(
        text.contains("Service shop/e: spec.type \"LoadBalancer\": no address is free in AddressPool public (4 of 4 in use)"),
        "{text}"
    );
    world.snapshot.services.remove(&ObjectKey::new("shop", "b"));
    assert_eq!(world.addresses()["e"], "198.51.100.20");
    assert_eq!(errors(&diagnostics), 0);
}

#[test]
fn nothing_is_planned_where_the_plane_is_not_enabled() {
    let mut world = World::with_pool(&["192.0.2.0/24"]);
    world.service("a");
    world.settings.l4 = None;
    assert_eq!(world.plan(), Default::default());
}
