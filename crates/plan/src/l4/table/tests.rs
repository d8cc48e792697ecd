use std::net::SocketAddr;
use std::sync::Arc;

use model::ObjectKey;
use model::net::PortRange;
use model::net::Protocol;
use model::settings::FailSafe;
use model::snapshot::{Algorithm, Endpoint};

use super::super::{Frontend, Path};
use super::*;

const GOLDEN: &str = include_str!("tests/golden.nft");

fn settings() -> L4Settings {
    L4Settings {
        node_name: "edge".to_owned(),
        public: Vec::new(),
        private: Vec::new(),
        node_ports: PortRange { first: 30_000, last: 32_767 },
        snat: false,
        load_balancer_class: String::new(),
        default_class: true,
        fail_safe: FailSafe::default(),
    }
}

fn port(number: u16, endpoints: &[(&str, u16)]) -> PortPlan {
    let endpoint = |(address, weight): &(&str, u16)| Endpoint {
        address: address.parse().unwrap(),
        weight: *weight,
        terminating: false,
        local: true,
    };
    PortPlan {
        name: String::new(),
        protocol: Protocol::Tcp,
        number,
        frontends: vec![
            Frontend::Vip(SocketAddr::new([203, 0, 113, 10].into(), number)),
            Frontend::NodePort(30_000 + number),
        ],
        endpoints: endpoints.iter().map(endpoint).collect(),
        only_remote: false,
        algorithm: Algorithm::Random,
        path: Path::Kernel,
    }
}

fn service(name: &str, port: PortPlan) -> ServicePlan {
    ServicePlan {
        service: ObjectKey::new("default", name),
        load_balancer: true,
        addresses: Vec::new(),
        pending: None,
        ports: vec![port],
        source_ranges: Vec::new(),
        affinity: None,
        snat: false,
        local_only: false,
        health_check_node_port: None,
        local_endpoints: 0,
    }
}

fn plan_of(services: Vec<ServicePlan>) -> L4Plan {
    let services = services.into_iter().map(Arc::new).collect();
    L4Plan { services, ..L4Plan::default() }
}

fn table_of(plan: &L4Plan) -> Table {
    table(plan, &settings(), &AlbPorts::new())
}

#[test]
fn the_text_is_as_it_was() {
    let two = [("10.0.0.1:8080", 2), ("10.0.0.2:8080", 1)];
    let mut sticky = service("sticky", port(81, &two));
    (sticky.affinity, sticky.snat) = (Some(10_800), true);
    let mut turn = service("turn", port(82, &two));
    turn.ports[0].algorithm = Algorithm::RoundRobin;
    turn.source_ranges = vec!["192.0.2.0/24".parse().unwrap()];
    let mut dual = service("dual", port(83, &[("10.0.0.1:53", 1), ("[fd00::1]:53", 1)]));
    dual.ports[0].protocol = Protocol::Udp;
    dual.ports[0].frontends.push(Frontend::External("[2001:db8::5]:83".parse().unwrap()));
    let mut stream = service("stream", port(85, &two));
    stream.ports[0].path = Path::UserSpace(Box::default());
    let services = vec![
        service("web", port(80, &two)),
        sticky,
        turn,
        dual,
        service("none", port(84, &[])),
        stream,
    ];
    let mut plan = plan_of(services);
    plan.albs.insert(AlbKind::Public, vec!["203.0.113.9".parse().unwrap()]);
    let ports = AlbPorts::from([(AlbKind::Public, vec![80, 443])]);
    let text = table(&plan, &settings(), &ports).load();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/l4/table/tests/golden.nft");
        std::fs::write(path, &text).unwrap();
        return;
    }
    assert!(text == GOLDEN, "run with UPDATE_GOLDEN=1 and see what changes\n{text}");
}

#[test]
fn one_endpoint_s_change_touches_only_its_service() {
    let before = [("10.0.0.1:8080", 1), ("10.0.0.2:8080", 1)];
    let after = [("10.0.0.1:8080", 1), ("10.0.0.3:8080", 1)];
    let other = service("other", port(81, &before));
    let old = plan_of(vec![service("web", port(80, &before)), other.clone()]);
    let new = plan_of(vec![service("web", port(80, &after)), other]);
    let number = crate::nft::id(numbered(&old).next().unwrap().2);
    let expected = format!(
        "delete element inet tidegate slots4_tcp {{ {number} . 1 }}\n\
         add element inet tidegate slots4_tcp {{ {number} . 1 : 10.0.0.3 . 8080 }}\n"
    );
    assert_eq!(table_of(&new).change_from(&table_of(&old)), Some(expected));
}

#[test]
fn numbers_of_ports_do_not_depend_on_other_services() {
    let (a, b) = (service("a", port(80, &[])), service("b", port(80, &[])));
    let plan = plan_of(vec![a, b.clone()]);
    let both: Vec<u32> = numbered(&plan).map(|(_, _, number)| number).collect();
    let plan = plan_of(vec![b]);
    let one: Vec<u32> = numbered(&plan).map(|(_, _, number)| number).collect();
    assert_eq!(one, both[1..]);
    assert!(both.iter().all(|number| *number >= 1 << 31));
}

#[test]
fn a_frontend_that_services_share_is_refused_only_if_all_lack_endpoints() {
    let stream = |name, endpoints| {
        let mut service = service(name, port(443, endpoints));
        service.ports[0].path = Path::UserSpace(Box::default());
        service
    };
    let endpoints = [("10.0.0.1:8443", 1)];
    let refused = |services| table_of(&plan_of(services)).flat["refused4"].len();
    assert_eq!(refused(vec![stream("a", &[]), stream("b", &endpoints)]), 0);
    assert_eq!(refused(vec![stream("a", &endpoints), stream("b", &[])]), 0);
    assert_eq!(refused(vec![stream("a", &[]), stream("b", &[])]), 1);
}
