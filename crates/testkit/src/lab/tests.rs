use std::net::SocketAddr;
use std::path::Path;

use super::*;

fn at(address: IpAddr, port: u16) -> SocketAddr {
    (address, port).into()
}

#[test]
fn edge_that_forwards_lets_client_and_backends_reach_each_other() {
    let lab = Lab::new();
    let _servers = lab.serve(8080);
    let (client, edge) = (lab.client(), lab.edge());
    let (v4, v6) = (Lab::backend_address(2), Lab::backend_address_v6(3));
    assert!(client.is_silent(at(v4, 8080)), "the edge forwards although nobody told it to");
    edge.set("ipv4/ip_forward", "1");
    edge.set("ipv6/conf/all/forwarding", "1");
    let answer = client.answer(at(v4, 8080));
    assert_eq!((answer.server.as_str(), answer.client.ip()), ("two", Lab::client_address(0)));
    let answer = client.answer(at(v6, 8080));
    assert_eq!((answer.server.as_str(), answer.client.ip()), ("three", Lab::client_address_v6(0)));
    let answer = client.ask_from(Lab::client_address(1), at(v4, 8080)).unwrap();
    assert_eq!(answer.client.ip(), Lab::client_address(1));
    let answer = client.datagrams(at(v6, 8080)).answer("datagram");
    assert_eq!((answer.server.as_str(), answer.client.ip()), ("three", Lab::client_address_v6(0)));
    // Between backends too everything goes by the edge.
    let answer = lab.backend(1).answer(at(v4, 8080));
    assert_eq!((answer.server.as_str(), answer.client.ip()), ("two", Lab::backend_address(1)));
    edge.set("ipv4/ip_forward", "0");
    assert!(lab.backend(1).is_silent(at(v4, 8080)));
    assert!(client.connect(at(Lab::edge_address(), 1)).is_err());
}

#[test]
fn connections_are_long_lived_and_servers_count_them() {
    let lab = Lab::new();
    let server = Server::start(lab.edge(), 8080, "edge");
    let mut flow = lab.client().connect(at(Lab::edge_address_v6(), 8080)).unwrap();
    for text in ["a", "b c"] {
        let answer = flow.say(text).unwrap();
        assert_eq!((answer.text.as_str(), server.open()), (text, 1));
    }
    drop(flow);
    crate::eventually("the connection has ended", || (server.open() == 0).then_some(()));
    assert_eq!(server.accepted(), 1);
    drop(server);
    lab.client().refused(at(Lab::edge_address(), 8080));
}

#[test]
fn capture_sees_who_asks_for_an_address() {
    let lab = Lab::new();
    let capture = Capture::start(lab.edge(), "pub0", "arp");
    assert!(lab.client().is_silent(at("198.51.100.7".parse().unwrap(), 80)));
    capture.wait_for(&["who-has 198.51.100.7", "tell 203.0.113.10"]);
}

#[test]
fn first_packet_of_sctp_arrives_with_its_checksum() {
    let lab = Lab::new();
    let listener = SctpListener::start(lab.edge());
    let to = at(Lab::edge_address(), 9);
    let (_, init) = lab.client().sctp_reaches(4000, to, &[listener]);
    let source = at(Lab::client_address(0), 4000);
    assert_eq!(init, SctpInit { source, port: 9, checksum: true });
}

#[test]
fn namespaces_are_gone_with_their_lab() {
    let lab = Lab::with_edges(2);
    let names: Vec<_> =
        [lab.client(), lab.edge(), lab.edge_number(2), lab.backend(3)].map(Namespace::name).into();
    let names: Vec<_> = names.into_iter().map(str::to_owned).collect();
    let exists = |name: &String| Path::new("/run/netns").join(name).exists();
    assert!(names.iter().all(exists));
    drop(lab);
    assert!(!names.iter().any(exists));
}
