//! What Kubernetes' own end-to-end suite asks of Services of type LoadBalancer and NodePort
//! (test/e2e/network/loadbalancer.go, service.go, conntrack.go), each by the name of its behaviour.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use testkit::manifest::{Exposed, Slice};
use testkit::{Lab, eventually};

use crate::{Edge, edge_at, vip, web, web_on, web_slice};

/// For one datagram.
const ATTEMPT: Duration = Duration::from_millis(500);

#[test]
fn should_be_able_to_change_the_type_and_ports_of_a_tcp_service() {
    // Without an address of its own choice: what is given has to stay.
    let service = |kind: &str| Exposed::new("web", kind);
    let apply = |edge: &Edge, service: &Exposed, port| {
        let slice = Slice::of("web").tcp(port, 8080).ready(Lab::backend_address(1));
        edge.gateway.apply("all.yaml", service.yaml() + &slice.yaml());
    };
    let edge = Edge::start(&[service("ClusterIP").tcp(80).yaml(), web_on(&[1]).yaml()]);
    apply(&edge, &service("NodePort").tcp_node_port(80, 30080), 80);
    edge.client().answer(edge_at(30080));
    apply(&edge, &service("LoadBalancer").tcp_node_port(80, 30080), 80);
    let address = edge.address_of("web");
    edge.client().answer((address, 80).into());
    edge.client().answer(edge_at(30080));
    // Another NodePort.
    apply(&edge, &service("LoadBalancer").tcp_node_port(80, 30081), 80);
    edge.client().answer(edge_at(30081));
    edge.client().refused(edge_at(30080));
    assert_eq!(edge.address_of("web"), address);
    // Another port.
    apply(&edge, &service("LoadBalancer").tcp_node_port(81, 30081), 81);
    edge.client().answer((address, 81).into());
    assert_eq!(edge.address_of("web"), address);
    assert!(edge.client().attempt((address, 80).into()).is_err());
    edge.client().answer(edge_at(30081));
    // Back to where nothing is open.
    apply(&edge, &service("ClusterIP").tcp(81), 81);
    edge.client().refused(edge_at(30081));
    eventually("the address is gone", || (!edge.edge().has_address(address)).then_some(()));
}

#[test]
fn should_be_able_to_change_the_type_and_ports_of_a_udp_service() {
    let apply = |edge: &Edge, kind: &str, port: u16, node_port| {
        let slice = Slice::of("web").port("UDP", port, 8080).ready(Lab::backend_address(1));
        let service = Exposed::new("web", kind).port("UDP", port, node_port);
        edge.gateway.apply("all.yaml", service.yaml() + &slice.yaml());
    };
    let edge = Edge::start(&[]);
    apply(&edge, "NodePort", 80, Some(30080));
    edge.client().datagrams(edge_at(30080)).answer("a");
    apply(&edge, "LoadBalancer", 80, Some(30081));
    let address = edge.address_of("web");
    edge.client().datagrams((address, 80).into()).answer("b");
    edge.client().datagrams(edge_at(30081)).answer("c");
    apply(&edge, "LoadBalancer", 81, Some(30081));
    edge.client().datagrams((address, 81).into()).answer("d");
    assert_eq!(edge.address_of("web"), address);
    apply(&edge, "ClusterIP", 81, None);
    eventually("the NodePort is closed", || {
        let error = edge.client().datagrams(edge_at(30081)).say("e", ATTEMPT).err()?;
        (error.kind() == ErrorKind::ConnectionRefused).then_some(())
    });
}

#[test]
fn should_handle_load_balancer_cleanup_for_service() {
    let service = web().without_ports().tcp_node_port(80, 30080);
    let edge = Edge::start(&[service.yaml(), web_on(&[1]).yaml()]);
    edge.client().answer(vip(20, 80));
    edge.gateway.remove("all.yaml");
    eventually("the address is gone", || {
        (!edge.edge().has_address(vip(20, 80).ip())).then_some(())
    });
    edge.client().refused(edge_at(30080));
    eventually("no rule has it", || {
        let rules = edge.rules();
        (!rules.contains("198.51.100.20") && !rules.contains("10.0.0.11")).then_some(())
    });
}

#[test]
fn should_be_able_to_create_load_balancer_service_without_node_port_and_change_it() {
    let service = web().spec("allocateLoadBalancerNodePorts: false");
    let edge = Edge::start(&[service.yaml(), web_on(&[1]).yaml()]);
    edge.client().answer(vip(20, 80));
    assert!(!edge.rules().contains("30080"));
    edge.client().refused(edge_at(30080));
    let service = web().without_ports().tcp_node_port(80, 30080);
    edge.gateway.apply("all.yaml", service.yaml() + &web_on(&[1]).yaml());
    edge.client().answer(edge_at(30080));
    edge.client().answer(vip(20, 80));
}

#[test]
fn should_only_allow_access_from_service_load_balancer_source_ranges() {
    let from = |edge: &Edge, number| {
        let address = Lab::client_address(number);
        edge.client().connect_from(Some(address), vip(20, 80), ATTEMPT)?.say("x")
    };
    let with = |ranges: &str| {
        let service = web().spec(&format!("loadBalancerSourceRanges: {ranges}"));
        service.without_ports().tcp_node_port(80, 30080).yaml() + &web_on(&[1]).yaml()
    };
    let edge = Edge::start(&[with("[203.0.113.10/32]")]);
    edge.client().answer(vip(20, 80));
    assert!(from(&edge, 1).is_err());
    // They are for the VIP alone.
    edge.client().ask_from(Lab::client_address(1), edge_at(30080)).unwrap();
    edge.gateway.apply("all.yaml", with("[203.0.113.11/32]"));
    eventually("the other client may", || from(&edge, 1).ok());
    assert!(from(&edge, 0).is_err());
    edge.gateway.apply("all.yaml", with("[203.0.113.0/24, 192.0.2.0/24]"));
    eventually("the first may too", || from(&edge, 0).ok());
    from(&edge, 1).unwrap();
    edge.gateway.apply("all.yaml", web().yaml() + &web_on(&[1]).yaml());
    edge.wait_for_endpoint(Lab::backend_address(1), 8080, true);
    from(&edge, 0).unwrap();
    edge.lab.backend(2).answer(vip(20, 80));
}

#[test]
fn should_be_able_to_switch_session_affinity_for_load_balancer_service() {
    let with = |affinity: &str| {
        web().spec(&format!("sessionAffinity: {affinity}")).yaml() + &web_on(&[1, 2, 3]).yaml()
    };
    let asked = |edge: &Edge| -> BTreeSet<String> {
        (0..12).map(|_| edge.client().ask(vip(20, 80)).unwrap().server).collect()
    };
    let edge = Edge::start(&[with("None")]);
    edge.client().answer(vip(20, 80));
    assert!(asked(&edge).len() > 1);
    edge.gateway.apply("all.yaml", with("ClientIP"));
    eventually("one endpoint for all", || (asked(&edge).len() == 1).then_some(()));
    edge.gateway.apply("all.yaml", with("None"));
    eventually("several endpoints again", || (asked(&edge).len() > 1).then_some(()));
}

#[test]
fn should_be_able_to_preserve_udp_traffic_when_server_pod_cycles() {
    let service = Exposed::load_balancer("dns").port("UDP", 53, Some(30053)).at("198.51.100.20");
    let on = |backend: Option<u8>| {
        let slice = Slice::of("dns").port("UDP", 53, 8080);
        let slice = backend.into_iter().fold(slice, |it, n| it.ready(Lab::backend_address(n)));
        service.yaml() + &slice.yaml()
    };
    let edge = Edge::start(&[on(Some(1))]);
    // The same sockets all the while, so the kernel sees one connection each.
    let vip = edge.client().datagrams(vip(20, 53));
    let node_port = edge.client().datagrams(edge_at(30053));
    for socket in [&vip, &node_port] {
        assert_eq!(socket.answer("first").server, "one");
    }
    edge.gateway.apply("all.yaml", on(Some(2)));
    for socket in [&vip, &node_port] {
        eventually("the new one answers", || {
            (socket.say("second", ATTEMPT).ok()?.server == "two").then_some(())
        });
    }
}

#[test]
fn should_be_able_to_preserve_udp_traffic_when_initial_unready_endpoints_get_ready() {
    let service = Exposed::load_balancer("dns").port("UDP", 53, None).at("198.51.100.20");
    let slice = Slice::of("dns").port("UDP", 53, 8080);
    let unready = slice.clone().endpoint(Lab::backend_address(1), "conditions: {ready: false}");
    let edge = Edge::start(&[service.yaml(), unready.yaml()]);
    let socket = edge.client().datagrams(vip(20, 53));
    eventually("it is rejected", || {
        let error = socket.say("early", ATTEMPT).err()?;
        (error.kind() == ErrorKind::ConnectionRefused).then_some(())
    });
    let ready = slice.ready(Lab::backend_address(1));
    edge.gateway.apply("all.yaml", service.yaml() + &ready.yaml());
    assert_eq!(socket.answer("late").server, "one");
}

#[test]
fn should_serve_endpoints_on_same_port_and_different_protocols() {
    let both = Exposed::load_balancer("dns").at("198.51.100.20").port("TCP", 53, Some(30053)).port(
        "UDP",
        53,
        Some(30053),
    );
    let tcp = Slice::of("dns").tcp(53, 8080).ready(Lab::backend_address(1));
    let udp = Slice::of("dns").named("dns-udp").port("UDP", 53, 8080);
    let udp = udp.ready(Lab::backend_address(2));
    let edge = Edge::start(&[both.yaml(), tcp.yaml(), udp.yaml()]);
    for to in [vip(20, 53), edge_at(30053)] {
        assert_eq!(edge.client().answer(to).server, "one");
        assert_eq!(edge.client().datagrams(to).answer("x").server, "two");
    }
    // One protocol may go without the other.
    let only_udp = Exposed::load_balancer("dns").at("198.51.100.20").port("UDP", 53, Some(30053));
    edge.gateway.apply("all.yaml", [only_udp.yaml(), tcp.yaml(), udp.yaml()].concat());
    edge.client().refused(edge_at(30053));
    assert_eq!(edge.client().datagrams(vip(20, 53)).answer("y").server, "two");
}

#[test]
fn should_be_rejected_when_no_endpoints_exist_and_serve_when_they_come() {
    let service =
        web().without_ports().tcp_node_port(80, 30080).port("UDP", 80, Some(30080)).yaml();
    let edge = Edge::start(&[service.clone(), web_slice().port("UDP", 80, 8080).yaml()]);
    edge.client().refused(vip(20, 80));
    for to in [vip(20, 80), edge_at(30080)] {
        let asked = Instant::now();
        let error = edge.client().connect(to).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to}");
        assert!(asked.elapsed() < Duration::from_millis(900), "only on a second try: {to}");
        eventually("datagrams are rejected", || {
            let error = edge.client().datagrams(to).say("x", ATTEMPT).err()?;
            (error.kind() == ErrorKind::ConnectionRefused).then_some(())
        });
    }
    edge.lab.backend(2).refused(vip(20, 80));
    let slice = web_on(&[1]).port("UDP", 80, 8080).yaml();
    edge.gateway.apply("all.yaml", service.clone() + &slice);
    edge.client().answer(vip(20, 80));
    edge.client().datagrams(edge_at(30080)).answer("y");
    edge.gateway.apply("all.yaml", service);
    edge.client().refused(vip(20, 80));
}

#[test]
fn should_fallback_to_terminating_endpoints_when_there_are_no_ready_endpoints() {
    let mixed =
        web_slice().ready(Lab::backend_address(1)).terminating(Lab::backend_address(2)).endpoint(
            Lab::backend_address(3),
            "conditions: {ready: false, serving: false, terminating: true}",
        );
    let edge = Edge::start(&[web().yaml(), mixed.yaml()]);
    edge.client().answer(vip(20, 80));
    for _ in 0..12 {
        assert_eq!(edge.client().ask(vip(20, 80)).unwrap().server, "one");
    }
    let leaving = web_slice().terminating(Lab::backend_address(2)).endpoint(
        Lab::backend_address(3),
        "conditions: {ready: false, serving: false, terminating: true}",
    );
    edge.gateway.apply("all.yaml", web().yaml() + &leaving.yaml());
    edge.client().answer_by(vip(20, 80), |answer| answer.server == "two");
    for _ in 0..12 {
        assert_eq!(edge.client().ask(vip(20, 80)).unwrap().server, "two");
    }
}

#[test]
fn should_be_possible_to_connect_to_a_service_via_external_ip_that_no_node_has() {
    let service = Exposed::new("web", "ClusterIP").tcp(80).spec("externalIPs: [192.0.2.9]");
    let edge = Edge::start(&[service.yaml(), web_on(&[3]).yaml()]);
    let to: SocketAddr = "192.0.2.9:80".parse().unwrap();
    assert_eq!(edge.client().answer(to).server, "three");
    assert_eq!(edge.lab.backend(1).answer(to).server, "three");
}

#[test]
fn should_work_from_pods() {
    let service = web().without_ports().tcp_node_port(80, 30080);
    let edge = Edge::start(&[service.yaml(), web_on(&[2]).yaml()]);
    for backend in [1, 2, 3] {
        assert_eq!(edge.lab.backend(backend).answer(vip(20, 80)).server, "two");
        let node_port = SocketAddr::from(([10, 0, 0, 1], 30080));
        assert_eq!(edge.lab.backend(backend).answer(node_port).server, "two");
    }
}

#[test]
fn should_serve_multiport_endpoints() {
    let service = web().tcp(81);
    let slice = web_on(&[1]);
    let other = Slice::of("web").named("web-81").tcp(81, 8080).ready(Lab::backend_address(2));
    let edge = Edge::start(&[service.yaml(), slice.yaml(), other.yaml()]);
    assert_eq!(edge.client().answer(vip(20, 80)).server, "one");
    assert_eq!(edge.client().answer(vip(20, 81)).server, "two");
}
