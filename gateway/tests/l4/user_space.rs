//! Services whose connections a process takes and makes.

use std::collections::BTreeMap;
use std::time::Duration;

use testkit::lab::{Flow, TlsServer};
use testkit::manifest::{Exposed, Slice, tls_secret};
use testkit::{Authority, Client, Lab, eventually};

use crate::{Edge, vip, web, web_on};

#[test]
fn tls_ends_at_the_edge() {
    let authority = Authority::new();
    let secret = tls_secret("web-tls", &authority.issue(&["web.test"]));
    let service = web().without_ports().tcp(443).tidegate("tls-secret", "web-tls");
    let slice = Slice::of("web").tcp(443, 8080).ready(Lab::backend_address(2));
    let edge = Edge::start(&[secret, service.yaml(), slice.yaml()]);
    let settings = authority.client();
    let mut client = eventually("a handshake", || {
        edge.client().run(|| Client::try_tls(vip(20, 443), "web.test", &settings).ok())
    });
    client.send("over TLS\n");
    let line = client.text_line();
    assert!(line.starts_with("two ") && line.ends_with(" over TLS"), "{line}");
}

#[test]
fn tls_passes_through_to_the_service_of_its_name() {
    let authority = Authority::new();
    let edge = Edge::start(&[]);
    let mut manifests = String::new();
    let mut servers = Vec::new();
    for (number, name) in [(1, "a"), (2, "b")] {
        let host = format!("{name}.test");
        let pair = authority.issue(&[&host]);
        servers.push(TlsServer::start(edge.lab.backend(number), 8443, name, &pair));
        let service = Exposed::load_balancer(name)
            .tcp(443)
            .at("198.51.100.20")
            .tidegate("sharing-key", "k")
            .tidegate("sni-hosts", &host);
        let slice = Slice::of(name).tcp(443, 8443).ready(Lab::backend_address(number));
        manifests += &(service.yaml() + &slice.yaml());
    }
    edge.gateway.apply("all.yaml", manifests);
    let settings = authority.client();
    let connect = |host: &str| edge.client().run(|| Client::try_tls(vip(20, 443), host, &settings));
    for name in ["a", "b"] {
        let host = format!("{name}.test");
        let mut client = eventually("a handshake", || connect(&host).ok());
        client.send("hello\n");
        assert!(client.text_line().starts_with(&format!("{name} ")));
    }
    assert!(connect("c.test").is_err());
}

#[test]
fn endpoint_is_told_the_client_by_proxy_protocol() {
    for version in ["v1", "v2"] {
        let service = web().tidegate("send-proxy-protocol", version);
        let edge = Edge::start(&[service.yaml(), web_on(&[1]).yaml()]);
        edge.client().answer(vip(20, 80));
        let mut flow = edge.client().connect(vip(20, 80)).unwrap();
        flow.say("x").unwrap();
        let client = flow.stream().local_addr().unwrap();
        let header = edge.servers.first().unwrap().prefaces().pop().unwrap();
        if version == "v1" {
            let expected =
                format!("PROXY TCP4 203.0.113.10 198.51.100.20 {} 80\r\n", client.port());
            assert_eq!(String::from_utf8_lossy(&header), expected);
        } else {
            assert_eq!(header.get(12..16), Some(&[0x21, 0x11, 0, 12][..]), "{header:?}");
            assert_eq!(header.get(16..24), Some(&[203, 0, 113, 10, 198, 51, 100, 20][..]));
            assert_eq!(header.get(24..26), Some(&client.port().to_be_bytes()[..]));
            assert_eq!(header.get(26..28), Some(&[0, 80][..]));
        }
    }
}

#[test]
fn client_is_told_by_its_proxy_protocol_header_and_told_on() {
    let service =
        web().tidegate("accept-proxy-protocol", "true").tidegate("send-proxy-protocol", "v1");
    let edge = Edge::start(&[service.yaml(), web_on(&[1]).yaml()]);
    let header = "PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n";
    let line = eventually("an answer", || {
        let flow =
            edge.client().connect_from(None, vip(20, 80), Duration::from_millis(500)).ok()?;
        let mut client = Client::over(flow.stream().try_clone().unwrap());
        client.try_send(format!("{header}text\n")).ok()?;
        Some(client.text_line())
    });
    assert!(line.ends_with(" text"), "{line}");
    let headers = edge.servers.first().unwrap().prefaces();
    let told = String::from_utf8_lossy(headers.last().unwrap()).into_owned();
    assert!(told.starts_with("PROXY TCP4 192.0.2.1 "), "{told}");
}

#[test]
fn least_connections_goes_where_there_are_fewest() {
    let service = web().tidegate("algorithm", "least-connections");
    let edge =
        Edge::start_with(crate::builder().workers(1), &[service.yaml(), web_on(&[1, 2, 3]).yaml()]);
    edge.client().answer(vip(20, 80));
    eventually("probes have ended", || {
        edge.servers.iter().all(|server| server.open() == 0).then_some(())
    });
    let open = || {
        let mut flow = edge.client().connect(vip(20, 80)).unwrap();
        let server = flow.say("x").unwrap().server;
        (server, flow)
    };
    let mut flows: BTreeMap<String, Flow> = BTreeMap::new();
    for _ in 0..3 {
        let (server, flow) = open();
        assert!(flows.insert(server.clone(), flow).is_none(), "{server} has two");
    }
    for name in ["two", "one", "three"] {
        drop(flows.remove(name));
        eventually("the connection has ended", || {
            let server = edge.servers.iter().find(|server| server.name() == name)?;
            (server.open() == 0).then_some(())
        });
        let (server, flow) = open();
        assert_eq!(server, name);
        flows.insert(server, flow);
    }
}

#[test]
fn udp_goes_through_user_space_with_a_session_per_client() {
    let service = Exposed::load_balancer("dns")
        .port("UDP", 53, None)
        .at("198.51.100.20")
        .tidegate("user-space", "true");
    let slice = Slice::of("dns").port("UDP", 53, 8080);
    let slice = slice.ready(Lab::backend_address(1)).ready(Lab::backend_address(2));
    let edge = Edge::start(&[service.yaml(), slice.yaml()]);
    edge.client().datagrams(vip(20, 53)).answer("first");
    for _ in 0..4 {
        let socket = edge.client().datagrams(vip(20, 53));
        let answer = socket.answer("a");
        for text in ["b", "c", "d"] {
            let next = socket.answer(text);
            assert_eq!((next.server, next.client), (answer.server.clone(), answer.client));
        }
    }
}

#[test]
fn tcp_goes_through_user_space_where_forced_and_half_closed_ends_are_passed_on() {
    let service = web().tidegate("user-space", "true");
    let edge = Edge::start(&[service.yaml(), web_on(&[3]).yaml()]);
    let answer = edge.client().answer(vip(20, 80));
    assert_eq!(answer.server, "three");
    let mut flow = edge.client().connect(vip(20, 80)).unwrap();
    flow.say("x").unwrap();
    flow.stream().shutdown(std::net::Shutdown::Write).unwrap();
    eventually("the endpoint's connection has ended", || {
        (edge.servers.get(2)?.open() == 0).then_some(())
    });
    assert_eq!(flow.say("y").unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
}

#[test]
fn service_moves_between_kernel_and_user_space() {
    let edge = Edge::start(&[web().yaml(), web_on(&[1]).yaml()]);
    let answer = edge.client().answer(vip(20, 80));
    assert_eq!(answer.client.ip(), Lab::client_address(0));
    let user = web().tidegate("user-space", "true").yaml() + &web_on(&[1]).yaml();
    edge.gateway.apply("all.yaml", user);
    edge.client().answer_by(vip(20, 80), |answer| answer.client.ip() != Lab::client_address(0));
    edge.gateway.apply("all.yaml", web().yaml() + &web_on(&[1]).yaml());
    edge.client().answer_by(vip(20, 80), |answer| answer.client.ip() == Lab::client_address(0));
}
