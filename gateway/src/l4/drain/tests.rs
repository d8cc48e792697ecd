use Protocol::{Sctp, Tcp, Udp};
use model::ObjectKey;
use model::snapshot::{Algorithm, Endpoint};
use plan::l4::{PortPlan, ServicePlan};

use super::*;

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn plan(protocol: Protocol, endpoints: &[&str], path: Path) -> L4Plan {
    let endpoint = |text: &&str| Endpoint {
        address: socket(text),
        weight: 1,
        terminating: false,
        local: true,
    };
    let port = PortPlan {
        name: String::new(),
        protocol,
        number: 53,
        frontends: vec![Frontend::Vip(socket("192.0.2.1:53")), Frontend::NodePort(30053)],
        endpoints: endpoints.iter().map(endpoint).collect(),
        only_remote: false,
        algorithm: Algorithm::Random,
        path,
    };
    let service = ServicePlan {
        service: ObjectKey::new("net", "dns"),
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
    };
    L4Plan { services: vec![service.into()], ..L4Plan::default() }
}

fn stale(before: &L4Plan, now: &L4Plan, protocol: Protocol, to: &str, answers: &str) -> bool {
    let entry = Entry { protocol, destination: socket(to), answers: socket(answers) };
    let own: IpAddr = "10.0.0.1".parse().unwrap();
    Flows::of(now).is_stale(&Flows::of(before), |address| address == own, &entry)
}

#[test]
fn only_who_comes_to_those_that_serve_leaves_nothing_behind() {
    let of = |endpoints: &[&str]| Flows::of(&plan(Udp, endpoints, Path::Kernel));
    let (none, one, two) = (of(&[]), of(&["10.1.0.1:53"]), of(&["10.1.0.1:53", "10.1.0.2:53"]));
    assert!(!two.leave_behind(&one) && !one.leave_behind(&one));
    assert!(one.leave_behind(&two) && one.leave_behind(&none) && none.leave_behind(&one));
    let process = Flows::of(&plan(Udp, &["10.1.0.1:53"], Path::UserSpace(Box::default())));
    assert!(process.leave_behind(&one) && one.leave_behind(&process));
    assert!(one.leave_behind(&Flows::default()) && Flows::default().leave_behind(&one));
}

#[test]
fn entries_to_an_endpoint_that_has_left_go() {
    for protocol in [Udp, Sctp] {
        let before = plan(protocol, &["10.1.0.1:53", "10.1.0.2:53"], Path::Kernel);
        let now = plan(protocol, &["10.1.0.2:53"], Path::Kernel);
        for to in ["192.0.2.1:53", "10.0.0.1:30053"] {
            assert!(stale(&before, &now, protocol, to, "10.1.0.1:53"));
            assert!(!stale(&before, &now, protocol, to, "10.1.0.2:53"));
        }
    }
}

#[test]
fn tcp_goes_on() {
    let before = plan(Tcp, &["10.1.0.1:53"], Path::Kernel);
    let now = plan(Tcp, &[], Path::Kernel);
    assert!(!stale(&before, &now, Tcp, "192.0.2.1:53", "10.1.0.1:53"));
}

#[test]
fn what_is_not_the_gateways_is_left_alone() {
    let before = plan(Udp, &["10.1.0.1:53"], Path::Kernel);
    let now = plan(Udp, &[], Path::Kernel);
    // Another port, another protocol, and the NodePort's number on a machine behind the edge.
    assert!(!stale(&before, &now, Udp, "192.0.2.1:54", "10.1.0.1:53"));
    assert!(!stale(&before, &now, Sctp, "192.0.2.1:53", "10.1.0.1:53"));
    assert!(!stale(&before, &now, Udp, "10.9.0.1:30053", "10.9.0.1:30053"));
}

#[test]
fn the_first_endpoint_takes_over_what_led_nowhere() {
    let before = plan(Udp, &[], Path::Kernel);
    let now = plan(Udp, &["10.1.0.1:53"], Path::Kernel);
    assert!(stale(&before, &now, Udp, "192.0.2.1:53", "192.0.2.1:53"));
    // Also where the Service wasn't there before.
    assert!(stale(&L4Plan::default(), &now, Udp, "10.0.0.1:30053", "10.0.0.1:30053"));
}

#[test]
fn a_frontend_that_is_gone_leaves_nothing() {
    let before = plan(Udp, &["10.1.0.1:53"], Path::Kernel);
    let now = L4Plan::default();
    assert!(stale(&before, &now, Udp, "192.0.2.1:53", "10.1.0.1:53"));
    assert!(!stale(&now, &now, Udp, "192.0.2.1:53", "10.1.0.1:53"));
}

#[test]
fn entries_follow_the_way_into_user_space_and_back() {
    let kernel = plan(Udp, &["10.1.0.1:53"], Path::Kernel);
    let user = plan(Udp, &["10.1.0.1:53"], Path::UserSpace(Box::default()));
    assert!(stale(&kernel, &user, Udp, "192.0.2.1:53", "10.1.0.1:53"));
    assert!(!stale(&kernel, &user, Udp, "192.0.2.1:53", "192.0.2.1:53"));
    assert!(stale(&user, &kernel, Udp, "192.0.2.1:53", "192.0.2.1:53"));
}
