use std::sync::Arc;

use model::net::{PortRange, Visibility};
use model::settings::FailSafe;
use model::snapshot::{Announce, Endpoint};

use super::super::Vip;
use super::*;

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

fn plan_with(change: impl FnOnce(&mut ServicePlan)) -> L4Plan {
    let endpoint = |(address, weight): (&str, u16)| Endpoint {
        address: address.parse().unwrap(),
        weight,
        terminating: false,
        local: true,
    };
    let endpoints: Arc<[Endpoint]> =
        [("10.0.0.1:8080", 3), ("10.0.0.2:8080", 1)].map(endpoint).into();
    let vip: SocketAddr = "203.0.113.10:80".parse().unwrap();
    let mut service = ServicePlan {
        service: ObjectKey::new("shop", "web"),
        load_balancer: true,
        addresses: vec![vip.ip()],
        pending: None,
        ports: vec![PortPlan {
            name: String::new(),
            protocol: Protocol::Tcp,
            number: 80,
            frontends: vec![Frontend::Vip(vip), Frontend::NodePort(30_080)],
            endpoints,
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
    };
    change(&mut service);
    let vip = Vip {
        address: vip.ip(),
        pool: "pool".to_owned(),
        visibility: Visibility::Public,
        announce: Announce::L2,
    };
    L4Plan { vips: vec![vip].into(), services: vec![service.into()], ..L4Plan::default() }
}

fn outcome_of(plan: &L4Plan, flow: &str) -> Outcome {
    explain(plan, &settings(), &AlbPorts::new(), flow.parse().unwrap(), None).outcome
}

const FLOW: &str = "tcp 198.51.100.7:40000 -> 203.0.113.10:80";

#[test]
fn flows_are_written_as_they_are_read() {
    for text in [FLOW, "udp [2001:db8::1]:1 -> [2001:db8::2]:53", "sctp 192.0.2.1:1 -> 192.0.2.2:2"]
    {
        assert_eq!(text.parse::<Flow>().unwrap().to_string(), text);
    }
}

#[test]
fn what_is_no_flow_says_why() {
    for (text, expected) in [
        ("tcp", FlowError::Malformed),
        ("tcp 192.0.2.1:1", FlowError::Malformed),
        ("icmp 192.0.2.1:1 -> 192.0.2.2:2", FlowError::Protocol("icmp".to_owned())),
        ("tcp 192.0.2.1 -> 192.0.2.2:2", FlowError::Address("192.0.2.1".to_owned())),
        ("tcp 192.0.2.1:1 -> [::1]:2", FlowError::Families),
    ] {
        assert_eq!(text.parse::<Flow>().unwrap_err(), expected);
    }
}

#[test]
fn chance_has_its_candidates_with_their_shares() {
    let plan = plan_with(|_| {});
    let Outcome::OneOf { endpoints, .. } = outcome_of(&plan, FLOW) else { panic!() };
    let shares: Vec<_> = endpoints.iter().map(|one| (one.share, one.of)).collect();
    assert_eq!(shares, [(3, 4), (1, 4)]);
    let text =
        explain(&plan, &settings(), &AlbPorts::new(), FLOW.parse().unwrap(), None).to_string();
    assert!(text.contains("shop/web, port 80") && text.contains("10.0.0.1:8080  3/4"), "{text}");
}

#[test]
fn a_hash_names_its_endpoint() {
    let plan = plan_with(|service| service.ports[0].algorithm = Algorithm::Maglev);
    assert!(matches!(outcome_of(&plan, FLOW), Outcome::Endpoint { .. }));
}

#[test]
fn node_ports_are_not_on_vips() {
    let plan = plan_with(|_| {});
    let flow = "tcp 198.51.100.7:40000 -> 198.51.100.1:30080";
    assert!(matches!(outcome_of(&plan, flow), Outcome::OneOf { .. }));
    let flow = "tcp 198.51.100.7:40000 -> 203.0.113.10:30080";
    assert_eq!(outcome_of(&plan, flow), Outcome::ClosedPort);
    let flow = "tcp 198.51.100.7:40000 -> 198.51.100.1:30081";
    assert_eq!(outcome_of(&plan, flow), Outcome::NotOurs);
}

#[test]
fn what_comes_to_nothing_says_why() {
    let range: IpNet = "192.0.2.0/24".parse().unwrap();
    let plan = plan_with(|service| service.source_ranges = vec![range]);
    assert_eq!(outcome_of(&plan, FLOW), Outcome::OutsideRanges(vec![range]));
    let plan = plan_with(|service| service.ports[0].endpoints = [].into());
    assert_eq!(outcome_of(&plan, FLOW), Outcome::NoEndpoint);
    let plan = plan_with(|service| {
        service.ports[0].endpoints = [].into();
        service.ports[0].only_remote = true;
    });
    assert_eq!(outcome_of(&plan, FLOW), Outcome::OnlyRemote);
}

#[test]
fn a_policy_comes_first() {
    let judge = |flow: &Flow| PolicyVerdict {
        allowed: flow.source.port() != 40_000,
        reason: "GlobalNetworkPolicy close, rule 1".to_owned(),
    };
    let flow = FLOW.parse().unwrap();
    let explanation =
        explain(&plan_with(|_| {}), &settings(), &AlbPorts::new(), flow, Some(&judge));
    assert_eq!(explanation.outcome, Outcome::Denied);
    assert!(explanation.to_string().contains("denied: GlobalNetworkPolicy close, rule 1"));
}

#[test]
fn an_alb_takes_its_own_ports_and_refuses_others() {
    let mut plan = plan_with(|service| service.ports.clear());
    plan.albs.insert(model::AlbKind::Public, vec!["203.0.113.10".parse().unwrap()]);
    let ports = AlbPorts::from([
        (model::AlbKind::Public, vec![80, 443]),
        (model::AlbKind::Private, vec![8080]),
    ]);
    for (destination, outcome) in [
        ("tcp 198.51.100.7:1 -> 203.0.113.10:443", Outcome::Alb),
        ("tcp 198.51.100.7:1 -> 203.0.113.10:8080", Outcome::ClosedPort),
        ("udp 198.51.100.7:1 -> 203.0.113.10:443", Outcome::ClosedPort),
        ("tcp 198.51.100.7:1 -> 203.0.113.11:443", Outcome::NotOurs),
    ] {
        let flow = destination.parse().unwrap();
        let explained = explain(&plan, &settings(), &ports, flow, None);
        assert_eq!(explained.outcome, outcome, "{destination}");
    }
}
