//! The L4 plane's table in a real kernel, with real connections. Needs root and nft.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use lab::{CLIENT, CLIENT6, EDGE, EDGE6, Lab, VIP, VIP6, backend, backend6};
use model::net::{PortRange, Protocol, Visibility};
use model::settings::{FailSafe, L4Settings};
use model::snapshot::{Algorithm, Announce, Endpoint};
use model::{AlbKind, ObjectKey};
use plan::l4::affinity;
use plan::l4::traffic::{COUNTED, Listing};
use plan::l4::{
    AlbPorts, Frontend, L4Plan, Path, PortPlan, Ruleset, ServicePlan, Vip, slots, table,
};
use plan::nft::Table;

#[path = "kernel/lab.rs"]
mod lab;

fn settings() -> L4Settings {
    L4Settings {
        node_name: "edge".to_owned(),
        public: vec!["c".to_owned()],
        private: Vec::new(),
        node_ports: PortRange { first: 30_000, last: 32_767 },
        snat: false,
        load_balancer_class: "tidegate.io/gateway".to_owned(),
        default_class: true,
        fail_safe: FailSafe::default(),
    }
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint { address, weight: 1, terminating: false, local: true }
}

/// A port on both VIPs and a NodePort, with all six endpoints.
fn port(protocol: Protocol, number: u16) -> PortPlan {
    let vips = [VIP, VIP6].map(|vip| Frontend::Vip(SocketAddr::new(vip.parse().unwrap(), number)));
    let mut endpoints: Vec<Endpoint> =
        (1..=3).flat_map(|n| [backend(n), backend6(n)]).map(endpoint).collect();
    endpoints.sort();
    PortPlan {
        name: String::new(),
        protocol,
        number,
        frontends: vec![vips[0], vips[1], Frontend::NodePort(30_000 + number % 1000)],
        endpoints: endpoints.into(),
        only_remote: false,
        algorithm: Algorithm::Random,
        path: Path::Kernel,
    }
}

fn service(name: &str, ports: Vec<PortPlan>) -> ServicePlan {
    ServicePlan {
        service: ObjectKey::new("default", name),
        load_balancer: true,
        addresses: vec![VIP.parse().unwrap(), VIP6.parse().unwrap()],
        pending: None,
        ports,
        source_ranges: Vec::new(),
        affinity: None,
        snat: false,
        local_only: false,
        health_check_node_port: None,
        local_endpoints: 0,
    }
}

fn plan_of(services: Vec<ServicePlan>) -> L4Plan {
    let vip = |address: &str| Vip {
        address: address.parse().unwrap(),
        pool: "pool".to_owned(),
        visibility: Visibility::Public,
        announce: Announce::L2,
    };
    let services = services.into_iter().map(Arc::new).collect();
    L4Plan { vips: Arc::new(vec![vip(VIP), vip(VIP6)]), services, ..L4Plan::default() }
}

fn table_of(plan: &L4Plan) -> Table {
    table(plan, &settings(), &AlbPorts::new())
}

/// A lab whose edge has these Services.
fn lab_with(services: Vec<ServicePlan>) -> (Lab, L4Plan) {
    let (lab, plan) = (Lab::new(), plan_of(services));
    lab.nft(&table_of(&plan).load());
    (lab, plan)
}

/// Leads the edge from one plan to another.
fn change(lab: &Lab, old: &L4Plan, new: &L4Plan) {
    let text = table_of(new).change_from(&table_of(old));
    lab.nft(&text.expect("the plans differ"));
}

/// The names of the backends that answered.
fn names(answers: &[String]) -> BTreeSet<&str> {
    answers.iter().filter_map(|answer| answer.split(' ').next()).collect()
}

fn retain(port: &mut PortPlan, keep: impl Fn(&SocketAddr) -> bool) {
    let left = port.endpoints.iter().filter(|endpoint| keep(&endpoint.address));
    port.endpoints = left.cloned().collect();
}

fn v4(text: &str, port: u16) -> String {
    format!("{text}:{port}")
}

fn v6(text: &str, port: u16) -> String {
    format!("[{text}]:{port}")
}

#[test]
fn a_vip_spreads_connections_and_keeps_the_source_address() {
    let (lab, _) =
        lab_with(vec![service("web", vec![port(Protocol::Tcp, 80), port(Protocol::Udp, 80)])]);
    for (to, client) in [(v4(VIP, 80), CLIENT), (v6(VIP6, 80), CLIENT6)] {
        let answers: Vec<String> = (0..40).map(|_| lab.tcp("c", &to).unwrap()).collect();
        assert_eq!(names(&answers).len(), 3, "{answers:?}");
        assert!(answers.iter().all(|answer| answer.ends_with(client)), "{answers:?}");
    }
    for (to, client, any) in
        [(v4(VIP, 80), CLIENT, v4(CLIENT, 0)), (v6(VIP6, 80), CLIENT6, v6(CLIENT6, 0))]
    {
        let answers: Vec<String> = (0..40).map(|_| lab.udp("c", &any, &to).unwrap()).collect();
        assert_eq!(names(&answers).len(), 3, "{answers:?}");
        assert!(answers.iter().all(|answer| answer.ends_with(client)), "{answers:?}");
    }
}

#[test]
fn counters_tell_connections_and_bytes_by_frontend() {
    let (lab, _) = lab_with(vec![service("web", vec![port(Protocol::Tcp, 80)])]);
    for to in [v4(VIP, 80), v4(VIP, 80), v6(VIP6, 80), v4(EDGE, 30_080)] {
        lab.tcp("c", &to).unwrap();
    }
    let mut traffic = BTreeMap::new();
    for (kind, name) in COUNTED {
        let listing: Listing = serde_json::from_str(&lab.json(kind, name)).unwrap();
        listing.read_traffic(&mut traffic);
    }
    let vip = traffic[&(Protocol::Tcp, Frontend::Vip(v4(VIP, 80).parse().unwrap()))];
    assert_eq!(vip.connections, 2);
    assert!(vip.packets >= 16 && vip.bytes > 16 * 40, "{vip:?}");
    let vip6 = traffic[&(Protocol::Tcp, Frontend::Vip(v6(VIP6, 80).parse().unwrap()))];
    assert_eq!(vip6.connections, 1);
    let node_port = traffic[&(Protocol::Tcp, Frontend::NodePort(30_080))];
    assert!(node_port.connections == 1 && node_port.packets >= 8, "{node_port:?}");
}

#[test]
fn node_ports_are_open_on_the_edge_s_addresses_and_not_on_vips() {
    let (lab, _) = lab_with(vec![service("web", vec![port(Protocol::Tcp, 80)])]);
    for to in [v4(EDGE, 30_080), v6(EDGE6, 30_080), v4("10.0.1.1", 30_080)] {
        lab.tcp("c", &to).unwrap();
    }
    for to in [v4(VIP, 30_080), v6(VIP6, 30_080), v4(EDGE, 30_081)] {
        let error = lab.tcp("c", &to).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to}");
    }
}

#[test]
fn the_edge_itself_reaches_vips_and_node_ports() {
    let (lab, _) = lab_with(vec![service("web", vec![port(Protocol::Tcp, 80)])]);
    for to in [v4(VIP, 80), v6(VIP6, 80), v4(EDGE, 30_080)] {
        let answer = lab.tcp("e", &to).unwrap();
        assert!(!answer.ends_with(VIP) && !answer.ends_with(VIP6), "{answer}");
    }
}

#[test]
fn an_endpoint_can_be_sent_to_itself() {
    let mut only = port(Protocol::Tcp, 80);
    retain(&mut only, |address| *address == backend(1) || *address == backend6(1));
    let (lab, _) = lab_with(vec![service("web", vec![only])]);
    assert_eq!(lab.tcp("b1", &v4(VIP, 80)).unwrap(), "b1 10.0.1.1");
    assert_eq!(lab.tcp("b1", &v6(VIP6, 80)).unwrap(), "b1 fd00:1::1");
    // Others keep their address, and so do clients.
    assert_eq!(lab.tcp("b2", &v4(VIP, 80)).unwrap(), "b1 10.0.2.2");
    assert_eq!(lab.tcp("c", &v4(VIP, 80)).unwrap(), format!("b1 {CLIENT}"));
}

#[test]
fn snat_hides_the_client_where_it_is_asked_for() {
    let hidden = ServicePlan { snat: true, ..service("hidden", vec![port(Protocol::Tcp, 80)]) };
    let (lab, _) = lab_with(vec![hidden, service("shown", vec![port(Protocol::Tcp, 81)])]);
    for to in [v4(VIP, 80), v6(VIP6, 80), v4(EDGE, 30_080)] {
        let answer = lab.tcp("c", &to).unwrap();
        assert!(answer.contains(" 10.0.") || answer.contains(" fd00:"), "{answer}");
    }
    for to in [v4(VIP, 81), v4(EDGE, 30_081)] {
        assert!(lab.tcp("c", &to).unwrap().ends_with(CLIENT));
    }
}

#[test]
fn a_port_without_endpoints_is_refused_at_once() {
    let mut ports = vec![port(Protocol::Tcp, 80), port(Protocol::Udp, 80)];
    ports.iter_mut().for_each(|port| retain(port, |_| false));
    let (lab, old) = lab_with(vec![service("web", ports)]);
    for to in [v4(VIP, 80), v6(VIP6, 80), v4(EDGE, 30_080)] {
        for from in ["c", "e"] {
            let error = lab.tcp(from, &to).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{from} {to}");
        }
        let source = if to.starts_with('[') { v6("::", 0) } else { v4("0.0.0.0", 0) };
        let error = lab.udp("c", &source, &to).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to}");
    }
    let new = plan_of(vec![service("web", vec![port(Protocol::Tcp, 80), port(Protocol::Udp, 80)])]);
    change(&lab, &old, &new);
    lab.tcp("c", &v4(VIP, 80)).unwrap();
}

#[test]
fn a_port_with_remote_endpoints_only_is_silent() {
    let mut silent = port(Protocol::Tcp, 80);
    retain(&mut silent, |_| false);
    silent.only_remote = true;
    let (lab, _) = lab_with(vec![service("web", vec![silent])]);
    for to in [v4(VIP, 80), v4(EDGE, 30_080)] {
        assert_eq!(lab.tcp("c", &to).unwrap_err().kind(), ErrorKind::TimedOut, "{to}");
    }
}

#[test]
fn a_family_without_endpoints_is_refused() {
    let mut half = port(Protocol::Tcp, 80);
    retain(&mut half, SocketAddr::is_ipv4);
    let (lab, _) = lab_with(vec![service("web", vec![half])]);
    lab.tcp("c", &v4(VIP, 80)).unwrap();
    let error = lab.tcp("c", &v6(VIP6, 80)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn source_ranges_hold_on_vips() {
    let range = |text: &str| text.parse().unwrap();
    let mut web = service("web", vec![port(Protocol::Tcp, 80)]);
    // The second is within the first: that must not trouble the kernel.
    web.source_ranges = vec![range("198.51.100.8/31"), range("198.51.100.8/32")];
    let (lab, old) = lab_with(vec![web.clone()]);
    let dropped = |to: String| {
        let error = lab.tcp("c", &to).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{to}");
    };
    dropped(v4(VIP, 80));
    // No range of its family.
    dropped(v6(VIP6, 80));
    lab.tcp("c", &v4(EDGE, 30_080)).unwrap();

    web.source_ranges = vec![range("198.51.100.0/24"), range("::/0")];
    let new = plan_of(vec![web.clone()]);
    change(&lab, &old, &new);
    lab.tcp("c", &v4(VIP, 80)).unwrap();
    lab.tcp("c", &v6(VIP6, 80)).unwrap();
    web.source_ranges = Vec::new();
    change(&lab, &new, &plan_of(vec![web]));
    lab.tcp("c", &v4(VIP, 80)).unwrap();
}

#[test]
fn a_vip_s_other_ports_are_closed_whatever_listens_there() {
    let mut stream = port(Protocol::Tcp, 2000);
    stream.path = Path::UserSpace(Box::default());
    stream.frontends.pop();
    let mut plan = plan_of(vec![service("stream", vec![stream])]);
    plan.albs.insert(AlbKind::Public, vec![VIP.parse().unwrap()]);
    let lab = Lab::new();
    let ports = AlbPorts::from([(AlbKind::Public, vec![443])]);
    lab.nft(&table(&plan, &settings(), &ports).load());
    // These stand for sshd, the stream and the ALB.
    let listeners =
        lab.within("e", || [22, 2000, 443].map(|port| TcpListener::bind(("::", port)).unwrap()));
    for listener in listeners {
        std::thread::spawn(move || while listener.accept().is_ok() {});
    }
    lab.tcp("c", &v4(VIP, 443)).unwrap();
    for vip in [v4(VIP, 2000), v6(VIP6, 2000), v4(EDGE, 22)] {
        lab.tcp("c", &vip).unwrap();
    }
    for vip in [v4(VIP, 22), v6(VIP6, 22), v6(VIP6, 443)] {
        let error = lab.tcp("c", &vip).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{vip}");
    }
    lab.ping("c", VIP).unwrap();
    lab.ping("c", VIP6).unwrap();
}

#[test]
fn a_client_stays_with_its_endpoint() {
    let mut web = service("web", vec![port(Protocol::Tcp, 80), port(Protocol::Udp, 80)]);
    web.affinity = Some(60);
    let (lab, plan) = lab_with(vec![web]);
    for to in [v4(VIP, 80), v6(VIP6, 80)] {
        let answers: Vec<String> = (0..15).map(|_| lab.tcp("c", &to).unwrap()).collect();
        assert_eq!(names(&answers).len(), 1, "{to}: {answers:?}");
    }
    // It is the Service's port that it stays with, however it comes in.
    let answers = [v4(EDGE, 30_080), v4(VIP, 80)].map(|to| lab.tcp("c", &to).unwrap());
    assert_eq!(names(&answers).len(), 1, "{answers:?}");
    let udp = || lab.udp("c", &v4(CLIENT, 0), &v4(VIP, 80)).unwrap();
    let answers: Vec<String> = (0..15).map(|_| udp()).collect();
    assert_eq!(names(&answers).len(), 1, "{answers:?}");

    let remembered = |map| {
        let listing: Listing = serde_json::from_str(&lab.json("map", map)).unwrap();
        affinity::read(&listing)
    };
    let entries = [remembered("affinity4"), remembered("affinity6")].concat();
    assert_eq!(entries.len(), 3, "{entries:?}");
    // The numbers are those that the kernel computes.
    let (held, stale) = affinity::split(&plan, &entries);
    assert_eq!((held.len(), stale.len()), (3, 0), "{entries:?}");

    // A table that is loaded anew goes on with them.
    lab.nft(&table_of(&plan).load_with(&affinity::carried(&plan, &entries)));
    let after = [remembered("affinity4"), remembered("affinity6")].concat();
    assert_eq!(after.len(), 3);
    assert_eq!(names(&[udp(), answers[0].clone()]).len(), 1);
}

#[test]
fn a_client_whose_endpoint_is_gone_gets_another_one_and_stays_there() {
    let mut web = service("web", vec![port(Protocol::Tcp, 80)]);
    web.affinity = Some(60);
    let (lab, old) = lab_with(vec![web.clone()]);
    let to = v4(VIP, 80);
    let first = lab.tcp("c", &to).unwrap();
    let gone = (1..=3).find(|n| first.starts_with(&format!("b{n}"))).unwrap();
    retain(&mut web.ports[0], |address| *address != backend(gone));
    let new = plan_of(vec![web.clone()]);
    change(&lab, &old, &new);
    let listing: Listing = serde_json::from_str(&lab.json("map", "affinity4")).unwrap();
    assert_eq!(affinity::stale(&new, &affinity::read(&listing)).len(), 1);
    let answers: Vec<String> = (0..15).map(|_| lab.tcp("c", &to).unwrap()).collect();
    assert_eq!(names(&answers).len(), 1, "{answers:?}");
    assert!(!names(&answers).contains(format!("b{gone}").as_str()), "{answers:?}");

    // Without affinity it is spread again, and what was remembered can be deleted.
    web.affinity = None;
    let last = plan_of(vec![web]);
    change(&lab, &new, &last);
    let answers: Vec<String> = (0..30).map(|_| lab.tcp("c", &to).unwrap()).collect();
    assert_eq!(names(&answers).len(), 2, "{answers:?}");
    let listing: Listing = serde_json::from_str(&lab.json("map", "affinity4")).unwrap();
    let stale = affinity::stale(&last, &affinity::read(&listing));
    assert_eq!(stale.len(), 1);
    lab.nft(&stale.join("\n"));
}

#[test]
fn round_robin_goes_in_turn_by_weight() {
    let mut turn = port(Protocol::Tcp, 80);
    turn.algorithm = Algorithm::RoundRobin;
    let endpoints = [(1, 2), (2, 1), (3, 1)];
    turn.endpoints =
        endpoints.map(|(n, weight)| Endpoint { weight, ..endpoint(backend(n)) }).into();
    let (lab, _) = lab_with(vec![service("web", vec![turn])]);
    let answers: Vec<String> = (0..8).map(|_| lab.tcp("c", &v4(VIP, 80)).unwrap()).collect();
    let mut counts = [0; 3];
    for n in 1..=3 {
        counts[n - 1] = answers.iter().filter(|a| a.starts_with(&format!("b{n}"))).count();
    }
    assert_eq!(counts, [4, 2, 2], "{answers:?}");
}

#[test]
fn hashes_choose_what_is_computed_for_them() {
    for algorithm in [Algorithm::SourceHash, Algorithm::Maglev] {
        let mut hashed = port(Protocol::Udp, 53);
        hashed.algorithm = algorithm;
        let (lab, plan) = lab_with(vec![service("dns", vec![hashed])]);
        let port = &plan.services[0].ports[0];
        let mut chosen = BTreeSet::new();
        for number in 0..20 {
            for (client, vip) in [(CLIENT, VIP), ("198.51.100.8", VIP), (CLIENT6, VIP6)] {
                let client: SocketAddr = SocketAddr::new(client.parse().unwrap(), 40_000 + number);
                let vip = SocketAddr::new(vip.parse().unwrap(), 53);
                let expected = slots::chosen(port, client).unwrap();
                let name =
                    (1..=3).find(|n| [backend(*n), backend6(*n)].contains(&expected)).unwrap();
                let answer = lab.udp("c", &client.to_string(), &vip.to_string()).unwrap();
                assert!(
                    answer.starts_with(&format!("b{name}")),
                    "{algorithm:?} {client}: {answer}"
                );
                chosen.insert(name);
            }
        }
        assert!(algorithm == Algorithm::SourceHash || chosen.len() == 3, "{chosen:?}");
    }
}

/// A plan of a dozen Services, of which everything hangs on the seed.
fn arbitrary(mut seed: u64) -> L4Plan {
    let mut next = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut services = Vec::new();
    for n in 0..12_u16 {
        if next(4) == 0 {
            continue;
        }
        let mut ports = Vec::new();
        for protocol in Protocol::ALL {
            let mut port = port(protocol, 80 + n);
            let mask = next(64);
            let mut at = 0;
            port.endpoints = port
                .endpoints
                .iter()
                .filter(|_| {
                    at += 1;
                    mask >> (at - 1) & 1 == 1
                })
                .cloned()
                .collect();
            port.endpoints = port
                .endpoints
                .iter()
                .cloned()
                .map(|mut e| {
                    e.weight = 1 + next(3) as u16;
                    e
                })
                .collect();
            port.algorithm = [
                Algorithm::Random,
                Algorithm::RoundRobin,
                Algorithm::SourceHash,
                Algorithm::Maglev,
            ][next(4) as usize];
            port.only_remote = port.endpoints.is_empty() && next(2) == 0;
            if next(5) == 0 {
                port.path = Path::UserSpace(Box::default());
            }
            ports.push(port);
        }
        let mut service = service(&format!("s{n}"), ports);
        service.affinity = [None, None, Some(60), Some(10_800)][next(4) as usize];
        service.snat = next(2) == 0;
        let ranges = ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.0/24", "2001:db8::/32", "0.0.0.0/0"];
        service.source_ranges =
            ranges.iter().filter(|_| next(4) == 0).map(|text| text.parse().unwrap()).collect();
        services.push(service);
    }
    plan_of(services)
}

#[test]
fn changes_lead_to_what_a_load_leads_to() {
    let (changed, loaded) = (Lab::new(), Lab::new());
    let mut old = L4Plan::default();
    changed.nft(&table_of(&old).load());
    for seed in 0..25 {
        let new = arbitrary(seed);
        change(&changed, &old, &new);
        loaded.nft(&table_of(&new).load());
        assert_eq!(sorted(&changed.listing()), sorted(&loaded.listing()), "seed {seed}");
        old = new;
    }
    change(&changed, &old, &L4Plan::default());
}

#[test]
fn steps_of_endpoints_lead_to_what_a_load_leads_to() {
    let (stepped, loaded) = (Lab::new(), Lab::new());
    let mut plan = Arc::new(arbitrary(3));
    let mut ruleset = Ruleset::new(&plan, &settings(), &AlbPorts::new(), Table::default());
    stepped.nft(&ruleset.table().load());
    let mut steps = 0;
    for seed in 0..25 {
        let mut next = L4Plan::clone(&plan);
        let at = seed as usize % next.services.len();
        let service = Arc::make_mut(&mut next.services[at]);
        let others = arbitrary(seed + 100);
        let endpoints = others.services.iter().flat_map(|service| &service.ports);
        for (port, other) in service.ports.iter_mut().zip(endpoints) {
            port.endpoints = Arc::clone(&other.endpoints);
        }
        plan = Arc::new(next);
        let step = ruleset.step(&plan);
        let text = match &step {
            Some(step) => step.text(),
            None => table_of(&plan).change_from(ruleset.table()),
        };
        text.inspect(|text| stepped.nft(text));
        match step {
            Some(step) => {
                steps += 1;
                ruleset.take(step);
            }
            None => {
                ruleset = Ruleset::new(&plan, &settings(), &AlbPorts::new(), Table::default());
            }
        }
        loaded.nft(&table_of(&plan).load());
        assert_eq!(sorted(&stepped.listing()), sorted(&loaded.listing()), "seed {seed}");
    }
    assert!(steps > 15, "{steps}");
}

/// The kernel lists in the order of making, and hashes elements.
fn sorted(listing: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let whole = listing.replace("\t\t\t     ", "");
    for block in whole.split("\n\n") {
        let mut lines: Vec<&str> =
            block.lines().map(str::trim).filter(|l| !l.is_empty() && *l != "}").collect();
        lines.retain(|line| !line.starts_with("table inet"));
        let mut elements: Vec<String> = Vec::new();
        if block.contains("elements = {") {
            let all = lines.join(",");
            elements = all
                .replace("elements = {", "")
                .replace('}', "")
                .split(',')
                .map(|e| e.trim().to_owned())
                .filter(|e| !e.is_empty())
                .collect();
            elements.sort();
            lines.clear();
        }
        blocks.push(format!("{lines:?} {elements:?}"));
    }
    blocks.sort();
    blocks
}
