//! TLS that ends at the edge, and TLS that passes by its name.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use model::ObjectKey;
use model::snapshot::TlsPair;
use plan::l4::{ServicePlan, Stream, StreamTls};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConnection, StreamOwned};
use testkit::{Authority, Pair, TlsSettings, eventually};

use crate::backend::{Server, connect, echoes, is_reset, read};
use crate::{Change, Edge, address, on_vip, plan};

fn terminated(vip: SocketAddr, server: &Server, pair: Option<&Pair>) -> ServicePlan {
    let pair = pair.map(|pair| {
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
        TlsPair {
            chain: vec![pair.der.to_vec()].into(),
            key: key.secret_der().to_vec().into(),
            names: Default::default(),
            validity: (0, i64::MAX),
        }
    });
    let tls = StreamTls::Terminate { secret: ObjectKey::new("default", "pair"), pair };
    on_vip("app", vip, &[server.address]).stream(Stream { tls, ..Stream::default() })
}

fn passed(name: &str, vip: SocketAddr, server: &Server, hosts: &[&str]) -> ServicePlan {
    let hosts = hosts.iter().map(|&host| host.to_owned()).collect();
    let tls = StreamTls::Passthrough { hosts };
    on_vip(name, vip, &[server.address]).stream(Stream { tls, ..Stream::default() })
}

fn client(
    settings: &TlsSettings,
    name: &str,
    to: SocketAddr,
) -> StreamOwned<ClientConnection, TcpStream> {
    let name = name.to_owned().try_into().unwrap();
    let tls = ClientConnection::new(Arc::clone(settings.config()), name).unwrap();
    StreamOwned::new(tls, connect(to))
}

/// A ClientHello's bytes.
fn hello(settings: &TlsSettings, name: &str) -> Vec<u8> {
    let name = name.to_owned().try_into().unwrap();
    let mut tls = ClientConnection::new(Arc::clone(settings.config()), name).unwrap();
    let mut bytes = Vec::new();
    tls.write_tls(&mut bytes).unwrap();
    bytes
}

#[test]
fn tls_ends_at_the_edge_with_the_certificate_of_the_day() {
    let (edge, server, vip) = (Edge::start(), Server::echo(), address(7000));
    let authority = Authority::new();
    let pairs = [authority.issue(&["one.test"]), authority.issue(&["two.test"])];
    let settings = authority.client();
    edge.apply(plan([terminated(vip, &server, Some(&pairs[0]))]));
    let mut held = client(&settings, "one.test", vip);
    echoes(&mut held, "hello");
    echoes(&mut held, &"much ".repeat(100_000));
    edge.apply(plan([terminated(vip, &server, Some(&pairs[1]))]));
    echoes(&mut client(&settings, "two.test", vip), "hello");
    echoes(&mut held, "still there");
    // The end of one direction is the end of the other's input.
    held.conn.send_close_notify();
    held.flush().unwrap();
    assert_eq!(held.read(&mut [0]).unwrap(), 0);
}

#[test]
fn without_a_certificate_clients_are_refused_and_counted() {
    let (edge, server, vip) = (Edge::start(), Server::echo(), address(7000));
    edge.apply(plan([terminated(vip, &server, None)]));
    assert!(is_reset(&mut connect(vip)));
    eventually("counted", || (edge.totals("app").refused == 1).then_some(()));
}

#[test]
fn tls_passes_to_the_service_of_its_name() {
    let (edge, vip) = (Edge::start(), address(7000));
    let [exact, wild] = [Server::named("exact"), Server::named("wildc")];
    edge.apply(plan([
        passed("exact", vip, &exact, &["a.example.org"]),
        passed("wild", vip, &wild, &["*.example.org", "other.test"]),
    ]));
    let settings = Authority::new().client();
    for (name, expected) in [
        ("a.example.org", "exact"),
        ("A.Example.org", "exact"),
        ("b.example.org", "wildc"),
        ("other.test", "wildc"),
    ] {
        let bytes = hello(&settings, name);
        let mut client = connect(vip);
        client.write_all(&bytes).unwrap();
        assert_eq!(read(&mut client, 5), expected, "{name}");
        // The hello reaches the endpoint as it was.
        let mut echoed = vec![0; bytes.len()];
        client.read_exact(&mut echoed).unwrap();
        assert_eq!(echoed, bytes);
    }
}

#[test]
fn a_hello_torn_over_segments_and_records_is_understood() {
    let (edge, vip, server) = (Edge::start(), address(7000), Server::echo());
    edge.apply(plan([passed("app", vip, &server, &["a.example.org"])]));
    let bytes = hello(&Authority::new().client(), "a.example.org");
    let torn: Vec<u8> = bytes[5..]
        .chunks(60)
        .flat_map(|piece| [&[22, 3, 1, 0, piece.len() as u8][..], piece].concat())
        .collect();
    let mut client = connect(vip);
    for piece in torn.chunks(33) {
        client.write_all(piece).unwrap();
        std::thread::yield_now();
    }
    let mut echoed = vec![0; torn.len()];
    client.read_exact(&mut echoed).unwrap();
    assert_eq!(echoed, torn);
}

#[test]
fn names_that_nobody_serves_are_told_so_in_tls() {
    let (edge, vip, server) = (Edge::start(), address(7000), Server::echo());
    edge.apply(plan([passed("app", vip, &server, &["*.example.org"])]));
    let settings = Authority::new().client();
    for (settings, name) in [
        (settings.clone(), "other.test"),
        (settings.clone(), "a.b.example.org"),
        (settings.clone(), "example.org"),
        (settings.without_sni(), "a.example.org"),
    ] {
        let mut client = connect(vip);
        client.write_all(&hello(&settings, name)).unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, [21, 3, 3, 0, 2, 2, 112], "{name}");
    }
    assert_eq!(edge.totals("app").refused, 4);
    let mut client = connect(vip);
    client.write_all(b"SSH-2.0-x\r\n").unwrap();
    assert!(is_reset(&mut client));
    assert_eq!(server.accepted(), 0);
}

#[test]
fn a_handshake_that_is_not_finished_in_time_is_cut() {
    let edge = Edge::with(&[crate::alb(", timeouts: {head: 300ms}")]);
    let (server, passing, ending) = (Server::echo(), address(7000), address(7000));
    let pair = Authority::new().issue(&["one.test"]);
    let mut app = terminated(ending, &server, Some(&pair));
    app.service = model::ObjectKey::new(app.service.namespace.as_str(), "ending");
    edge.apply(plan([passed("passing", passing, &server, &["one.test"]), app]));
    for vip in [passing, ending] {
        let mut client = connect(vip);
        client.write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer);
        assert!(answer.is_empty(), "{vip}");
    }
    assert_eq!((edge.totals("passing").refused, edge.totals("ending").refused), (1, 1));
}

#[test]
fn a_name_that_two_services_claim_stays_with_the_first() {
    let (edge, vip) = (Edge::start(), address(7000));
    let [first, second] = [Server::named("one"), Server::named("two")];
    let found = edge.listen(plan([
        passed("first", vip, &first, &["a.test"]),
        passed("second", vip, &second, &["a.test", "b.test"]),
    ]));
    assert_eq!(found.len(), 1);
    let text = found[0].to_string();
    assert!(text.starts_with("error: Service default/second") && text.contains("a.test"), "{text}");
    for (name, expected) in [("a.test", "one"), ("b.test", "two")] {
        let mut client = connect(vip);
        client.write_all(&hello(&Authority::new().client(), name)).unwrap();
        assert_eq!(read(&mut client, 3), expected);
    }
}
