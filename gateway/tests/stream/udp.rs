//! UDP sessions.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use model::net::Protocol;
use plan::l4::{Frontend, ServicePlan, Stream};
use testkit::{DEADLINE, eventually, unique_address};

use crate::{Change, Edge, address, on_vip, own_port, plan, service};

/// Answers each datagram with its name, the sender's port and what was sent.
fn server(name: &'static str) -> SocketAddr {
    let socket = UdpSocket::bind((unique_address(), 0)).unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
            if text.len() > 1000 {
                socket.send_to(&buffer[..len], from).unwrap();
            } else {
                socket.send_to(format!("{name} {} {text}", from.port()).as_bytes(), from).unwrap();
            }
        }
    });
    address
}

fn udp(vip: SocketAddr, endpoints: &[SocketAddr]) -> ServicePlan {
    on_vip("app", vip, endpoints).protocol(Protocol::Udp)
}

fn client(to: SocketAddr) -> UdpSocket {
    // Connected, so that only answers from the VIP itself are taken.
    let socket = UdpSocket::bind((unique_address(), 0)).unwrap();
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// The answer's name and port.
#[track_caller]
fn ask(client: &UdpSocket, text: &str) -> (String, u16) {
    client.send(text.as_bytes()).unwrap();
    let mut buffer = [0; 2000];
    let len = client.recv(&mut buffer).unwrap();
    let answer = std::str::from_utf8(&buffer[..len]).unwrap();
    let words: Vec<&str> = answer.split(' ').collect();
    assert_eq!(words[2], text);
    (words[0].to_owned(), words[1].parse().unwrap())
}

#[test]
fn a_client_keeps_its_session_and_answers_come_from_the_vip() {
    let (edge, vip) = (Edge::start(), address(7000));
    edge.apply(plan([udp(vip, &[server("a"), server("b"), server("c")])]));
    let clients: Vec<UdpSocket> = (0..20).map(|_| client(vip)).collect();
    let first: Vec<_> = clients.iter().map(|client| ask(client, "one")).collect();
    let second: Vec<_> = clients.iter().map(|client| ask(client, "two")).collect();
    assert_eq!(first, second);
    assert!(first.iter().any(|(name, _)| *name != first[0].0), "all came to one endpoint");
    let totals = edge.totals("app");
    assert_eq!((totals.accepted, totals.active, totals.received), (20, 20, 120));
}

#[test]
fn the_largest_datagrams_pass() {
    let (edge, vip) = (Edge::start(), address(7000));
    edge.apply(plan([udp(vip, &[server("a")])]));
    let client = client(vip);
    let large = vec![b'x'; 65_507];
    client.send(&large).unwrap();
    let mut buffer = vec![0; 65_536];
    assert_eq!(client.recv(&mut buffer).unwrap(), large.len());
    assert_eq!(&buffer[..large.len()], large);
}

#[test]
fn a_session_ends_when_nothing_moves() {
    let (edge, vip) = (Edge::start(), address(7000));
    let stream = Stream { idle_ms: Some(1000), ..Stream::default() };
    edge.apply(plan([udp(vip, &[server("a")]).stream(stream)]));
    let client = client(vip);
    let (_, port) = ask(&client, "one");
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(ask(&client, "more").1, port);
    }
    eventually("ended", || (edge.totals("app").active == 0).then_some(()));
    assert_ne!(ask(&client, "again").1, port);
}

#[test]
fn the_next_datagram_after_an_endpoint_is_gone_finds_another() {
    let (edge, vip) = (Edge::start(), address(7000));
    let (old, new) = (server("old"), server("new"));
    edge.apply(plan([udp(vip, &[old])]));
    let client = client(vip);
    let (name, port) = ask(&client, "one");
    assert_eq!(name, "old");
    edge.apply(plan([udp(vip, &[old, new])]));
    assert_eq!(ask(&client, "two"), (name, port), "nothing happened to its endpoint");
    edge.apply(plan([udp(vip, &[new])]));
    assert_eq!(ask(&client, "three").0, "new");
}

#[test]
fn an_endpoint_that_refuses_is_left() {
    let (edge, vip) = (Edge::start(), address(7000));
    edge.apply(plan([udp(vip, &[address(1), server("alive")])]));
    let client = client(vip);
    client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    // Datagrams may be lost, but not for long.
    eventually("an answer", || {
        client.send(b"x").unwrap();
        match client.recv(&mut [0; 100]) {
            Ok(_) => Some(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    });
}

#[test]
fn a_node_port_answers_from_the_address_that_was_asked() {
    let edge = Edge::start();
    let port = own_port();
    let app = service("app", &[Frontend::NodePort(port)], &[server("a")]);
    edge.apply(plan([app.protocol(Protocol::Udp)]));
    for _ in 0..3 {
        assert_eq!(ask(&client((unique_address(), port).into()), "one").0, "a");
    }
    let v6 = UdpSocket::bind("[::1]:0").unwrap();
    v6.connect(("::1", port)).unwrap();
    v6.set_read_timeout(Some(DEADLINE)).unwrap();
    assert_eq!(ask(&v6, "one").0, "a");
}

#[test]
fn udp_listeners_come_and_go_and_a_taken_port_is_said() {
    let (edge, vip) = (Edge::start(), address(7000));
    let endpoint = server("a");
    for _ in 0..5 {
        edge.apply(plan([udp(vip, &[endpoint])]));
        assert_eq!(ask(&client(vip), "one").0, "a");
        edge.apply(plan([]));
        let free = eventually("closed", || UdpSocket::bind(vip).ok());
        drop(free);
    }
    let _other = UdpSocket::bind(vip).unwrap();
    let found = edge.listen(plan([udp(vip, &[endpoint])]));
    assert!(found[0].to_string().contains("UDP"), "{found:?}");
}

#[test]
fn a_stop_waits_for_no_session_and_refuses_datagrams() {
    let (edge, vip) = (Edge::start(), address(7000));
    edge.apply(plan([udp(vip, &[server("a")])]));
    let known = client(vip);
    ask(&known, "one");
    let begun = std::time::Instant::now();
    edge.drain(Duration::from_secs(20));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    known.send(b"two").unwrap();
    assert_eq!(known.recv(&mut [0; 100]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert!(UdpSocket::bind(vip).is_ok());
}
