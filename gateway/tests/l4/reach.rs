//! How Services are reached, and whom endpoints see.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use testkit::lab::SctpListener;
use testkit::manifest::{Exposed, Slice};
use testkit::{Backend, Lab, eventually, manifest};

use crate::{Edge, builder, edge_at, vip, vip_v6, web, web_on, web_slice};

#[test]
fn vip_leads_to_every_endpoint_and_keeps_the_clients_address() {
    let edge = Edge::start(&[web().yaml(), web_on(&[1, 2, 3]).yaml()]);
    edge.client().answer(vip(20, 80));
    let mut seen = BTreeSet::new();
    eventually("all three have answered", || {
        let answer = edge.client().ask_from(Lab::client_address(1), vip(20, 80)).unwrap();
        assert_eq!(answer.client.ip(), Lab::client_address(1));
        seen.insert(answer.server);
        (seen.len() == 3).then_some(())
    });
}

#[test]
fn node_port_is_open_on_all_addresses_of_the_edge() {
    let service = Exposed::node_port("web").tcp_node_port(80, 30080);
    let slice = web_on(&[1]).ready(Lab::backend_address(2));
    let v6 = web_slice().named("web-v6").ready(Lab::backend_address_v6(3));
    let service = service.spec("ipFamilyPolicy: PreferDualStack");
    let edge = Edge::start(&[service.yaml(), slice.yaml(), v6.yaml()]);
    let answer = edge.client().answer(edge_at(30080));
    assert_eq!(answer.client.ip(), Lab::client_address(0));
    let answer = edge.client().answer((Lab::edge_address_v6(), 30080).into());
    assert_eq!(answer.client.ip(), Lab::client_address_v6(0));
    let private = SocketAddr::from(([10, 0, 0, 1], 30080));
    assert!(["one", "two"].contains(&edge.lab.backend(3).answer(private).server.as_str()));
    assert!(edge.client().connect(edge_at(80)).is_err(), "the Service's port is not a NodePort");
}

#[test]
fn external_address_is_served() {
    let service = Exposed::new("web", "ClusterIP").tcp(80).spec("externalIPs: [192.0.2.7]");
    let edge = Edge::start(&[service.yaml(), web_on(&[2]).yaml()]);
    let answer = edge.client().answer("192.0.2.7:80".parse().unwrap());
    assert_eq!((answer.server.as_str(), answer.client.ip()), ("two", Lab::client_address(0)));
}

#[test]
fn service_without_a_way_in_is_not_reached_from_outside() {
    let inner = Exposed::new("web", "ClusterIP").tcp(80).spec("clusterIP: 172.21.0.5");
    let outer = Exposed::load_balancer("other").tcp(80).at("198.51.100.19");
    let slice = Slice::of("other").tcp(80, 8080).ready(Lab::backend_address(1));
    let edge = Edge::start(&[inner.yaml(), web_on(&[1]).yaml(), outer.yaml(), slice.yaml()]);
    edge.client().answer(vip(19, 80));
    assert!(edge.client().attempt("172.21.0.5:80".parse().unwrap()).is_err());
}

#[test]
fn ipv6_vip_is_served() {
    let service =
        Exposed::load_balancer("web").tcp(80).at(vip_v6(0x11, 80).ip()).spec("ipFamilies: [IPv6]");
    let slice = web_slice().ready(Lab::backend_address_v6(1)).ready(Lab::backend_address_v6(3));
    let edge = Edge::start(&[service.yaml(), slice.yaml()]);
    let answer = edge.client().answer(vip_v6(0x11, 80));
    assert_eq!(answer.client.ip(), Lab::client_address_v6(0));
    assert_ne!(answer.server, "two");
}

#[test]
fn dual_stack_service_has_an_address_of_each_family() {
    let service = Exposed::load_balancer("web").tcp(80).spec("ipFamilyPolicy: RequireDualStack");
    let v6 = web_slice().named("web-v6").ready(Lab::backend_address_v6(2));
    let edge = Edge::start(&[service.yaml(), web_on(&[1]).yaml(), v6.yaml()]);
    let addresses = eventually("two addresses", || {
        let service = edge.service("web");
        let addresses = service.get("addresses")?.as_array()?;
        let addresses: Vec<std::net::IpAddr> =
            addresses.iter().map(|a| a.as_str().unwrap().parse().unwrap()).collect();
        (addresses.len() == 2).then_some(addresses)
    });
    for address in addresses {
        let answer = edge.client().answer((address, 80).into());
        assert_eq!(answer.server, if address.is_ipv4() { "one" } else { "two" });
    }
}

#[test]
fn udp_is_served_and_answers_come_from_the_vip() {
    let service = Exposed::load_balancer("dns").port("UDP", 53, None).at("198.51.100.20");
    let slice = Slice::of("dns").port("UDP", 53, 8080).ready(Lab::backend_address(3));
    let edge = Edge::start(&[service.yaml(), slice.yaml()]);
    let answer = edge.client().datagrams(vip(20, 53)).answer("question");
    assert_eq!((answer.server.as_str(), answer.client.ip()), ("three", Lab::client_address(0)));
}

#[test]
fn first_packet_of_sctp_reaches_an_endpoint() {
    let service = Exposed::load_balancer("sig").port("SCTP", 3868, None).at("198.51.100.20");
    let slice = Slice::of("sig").port("SCTP", 3868, 13868).ready(Lab::backend_address(2));
    let edge = Edge::start(&[service.yaml(), slice.yaml()]);
    edge.wait_for_endpoint(Lab::backend_address(2), 13868, true);
    let listeners = [1, 2, 3].map(|number| SctpListener::start(edge.lab.backend(number)));
    let (backend, init) = edge.client().sctp_reaches(40_000, vip(20, 3868), &listeners);
    assert_eq!((backend, init.port, init.checksum), (1, 13868, true));
    assert_eq!(init.source, SocketAddr::new(Lab::client_address(0), 40_000));
}

#[test]
fn backend_reaches_itself_through_the_vip() {
    let edge = Edge::start(&[web().yaml(), web_on(&[1]).yaml()]);
    let answer = edge.lab.backend(1).answer(vip(20, 80));
    assert_eq!(answer.server, "one");
    assert_ne!(answer.client.ip(), Lab::backend_address(1), "its own answers would not come back");
    assert_eq!(edge.client().ask(vip(20, 80)).unwrap().client.ip(), Lab::client_address(0));
}

#[test]
fn snat_annotation_shows_endpoints_the_edges_address() {
    let service = web().tidegate("snat", "true");
    let edge = Edge::start(&[service.yaml(), web_on(&[1]).yaml()]);
    let answer = edge.client().answer(vip(20, 80));
    assert_eq!(answer.client.ip().to_string(), "10.0.0.1");
    edge.gateway.apply("all.yaml", web().yaml() + &web_on(&[1]).yaml());
    edge.client().answer_by(vip(20, 80), |answer| answer.client.ip() == Lab::client_address(0));
}

#[test]
fn services_share_a_vip_by_their_key() {
    let web = web().tidegate("sharing-key", "k");
    let mail = Exposed::load_balancer("mail").tcp(25).at("198.51.100.20");
    let mail = mail.tidegate("sharing-key", "k");
    let slice = Slice::of("mail").tcp(25, 8080).ready(Lab::backend_address(2));
    let edge = Edge::start(&[web.yaml(), web_on(&[1]).yaml(), mail.yaml(), slice.yaml()]);
    assert_eq!(edge.client().answer(vip(20, 80)).server, "one");
    assert_eq!(edge.client().answer(vip(20, 25)).server, "two");
}

#[test]
fn maglev_chooses_alike_on_every_edge() {
    let lab = Lab::with_edges(2);
    let _servers = lab.serve(8080);
    let service = Exposed::new("dns", "ClusterIP")
        .port("UDP", 53, None)
        .spec("externalIPs: [192.0.2.7]")
        .tidegate("algorithm", "maglev")
        .tidegate("snat", "true");
    let slice = Slice::of("dns").port("UDP", 53, 8080);
    let slice = [1, 2, 3].iter().fold(slice, |it, n| it.ready(Lab::backend_address(*n)));
    let gateways = [1, 2].map(|number| {
        let manifests = service.yaml() + &slice.yaml();
        builder().manifest("all.yaml", manifests).within(lab.edge_number(number)).start()
    });
    for backend in [1, 2, 3] {
        lab.backend(backend).ip("route add 10.0.0.2 dev p0\n");
    }
    let to: SocketAddr = "192.0.2.7:53".parse().unwrap();
    let answers = |edge: u8| -> Vec<String> {
        lab.client().ip(&format!("route replace 192.0.2.7 via 203.0.113.{edge}\n"));
        let from = |port| SocketAddr::new(Lab::client_address(0), port);
        let ask = |port| lab.client().datagrams_from(from(port), to).unwrap().answer("x").server;
        (40_000..40_024).map(ask).collect()
    };
    let (first, second) = (answers(1), answers(2));
    assert_eq!(first, second);
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 3, "{first:?}");
    drop(gateways);
}

#[test]
fn every_algorithm_of_the_kernel_serves() {
    for (last, algorithm) in (19..).zip(["random", "round-robin", "source-hash", "maglev"]) {
        let address = vip(last, 80);
        let service = Exposed::load_balancer("web").tcp(80).at(address.ip());
        let service = service.tidegate("algorithm", algorithm);
        let edge = Edge::start(&[service.yaml(), web_on(&[1, 2, 3]).yaml()]);
        let first = edge.client().answer(address).server;
        let others: BTreeSet<_> =
            (0..12).map(|_| edge.client().ask(address).unwrap().server).collect();
        match algorithm {
            "source-hash" => assert_eq!(others, BTreeSet::from([first])),
            "round-robin" => assert_eq!(others.len(), 3, "{others:?}"),
            _ => assert!(others.len() > 1, "{algorithm}: {others:?}"),
        }
    }
}

#[test]
fn vip_answers_ping_and_refuses_ports_that_no_service_has() {
    let edge = Edge::start(&[web().yaml(), web_on(&[1]).yaml()]);
    edge.client().answer(vip(20, 80));
    edge.client().run(|| {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
        // An echo request, its checksum, identifier 1, sequence number 1 (RFC 792).
        socket.send_to(&[8, 0, 0xf7, 0xfd, 0, 1, 0, 1], &vip(20, 0).into()).unwrap();
        let mut packet = [0; 64];
        let len = std::io::Read::read(&mut &socket, &mut packet).unwrap();
        let reply = packet.get(20..len).unwrap();
        assert_eq!((reply.first(), reply.get(4..8)), (Some(&0), Some(&[0, 1, 0, 1][..])));
    });
    edge.client().refused(vip(20, 81));
}

#[test]
fn alb_serves_on_its_address_of_the_pool() {
    let lab = Lab::new();
    let backend = lab.edge().run(|| Backend::named("from the ALB"));
    let ingress = manifest::Ingress::new("all").any_host().prefix("/", "app").yaml();
    let with_alb = manifest::pool("portable", &["198.51.100.16/29"], "alb: 198.51.100.18");
    let all = [manifest::service("app", &[&backend]), ingress, with_alb].concat();
    let gateway = lab.start(builder().manifest("all.yaml", all));
    let text = eventually("the ALB answers", || {
        lab.client().run(|| {
            let second = std::time::Duration::from_secs(1);
            drop(std::net::TcpStream::connect_timeout(&vip(18, 80), second).ok()?);
            let response = testkit::get(vip(18, 80), "a.test", "/");
            (response.status == 200).then(|| response.text())
        })
    });
    assert_eq!(text, "from the ALB");
    drop(gateway);
    lab.edge().run(|| drop(backend));
}

#[test]
fn ipv6_is_rejected_without_endpoints_and_reaches_itself_with_them() {
    let service = Exposed::load_balancer("web")
        .tcp_node_port(80, 30080)
        .at(vip_v6(0x11, 80).ip())
        .spec("ipFamilies: [IPv6]");
    let edge = Edge::start(&[service.yaml()]);
    edge.client().refused(vip_v6(0x11, 80));
    edge.client().refused((Lab::edge_address_v6(), 30080).into());
    let slice = web_slice().ready(Lab::backend_address_v6(1));
    edge.gateway.apply("all.yaml", service.yaml() + &slice.yaml());
    edge.client().answer(vip_v6(0x11, 80));
    assert_eq!(edge.lab.backend(1).answer(vip_v6(0x11, 80)).server, "one");
    let answer =
        edge.client().datagrams(vip_v6(0x11, 80)).say("x", std::time::Duration::from_secs(1));
    assert!(answer.is_err(), "no port of UDP is served: {answer:?}");
}
