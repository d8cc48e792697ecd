//! The PROXY protocol on both sides.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use model::snapshot::ProxyVersion;
use plan::l4::Stream;

use crate::backend::{Server, connect, is_reset, read};
use crate::{Change, Edge, address, on_vip, plan};

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c";

#[test]
fn endpoints_are_told_the_client_before_it_has_said_anything() {
    let (edge, server, vip) = (Edge::start(), Server::echo(), address(7000));
    let stream = Stream { send_proxy: Some(ProxyVersion::V1), ..Stream::default() };
    edge.apply(plan([on_vip("app", vip, &[server.address]).stream(stream)]));
    let mut client = connect(vip);
    let local = client.local_addr().unwrap();
    let line = format!("PROXY TCP4 {} {} {} 7000\r\n", local.ip(), vip.ip(), local.port());
    assert_eq!(read(&mut client, line.len()), line);
    client.write_all(b"x").unwrap();
    assert_eq!(read(&mut client, 1), "x");
}

#[test]
fn who_the_client_says_it_is_goes_on_to_the_endpoint() {
    let (edge, server, vip) = (Edge::start(), Server::echo(), address(7000));
    let stream =
        |version| Stream { accept_proxy: true, send_proxy: Some(version), ..Stream::default() };
    let v1 = b"PROXY TCP4 192.0.2.1 203.0.113.10 40000 443\r\n";
    let v2 = [V2, &[192, 0, 2, 1, 203, 0, 113, 10, 0x9c, 0x40, 1, 0xbb]].concat();
    for (sent, version, expected) in
        [(&v1[..], ProxyVersion::V2, &v2[..]), (&v2[..], ProxyVersion::V1, &v1[..])]
    {
        edge.apply(plan([on_vip("app", vip, &[server.address]).stream(stream(version))]));
        let mut client = connect(vip);
        // In two pieces, the second with what follows.
        let (head, tail) = sent.split_at(14);
        client.write_all(head).unwrap();
        client.write_all(&[tail, b"hello"].concat()).unwrap();
        let mut seen = vec![0; expected.len() + 5];
        client.read_exact(&mut seen).unwrap();
        assert_eq!(seen, [expected, b"hello"].concat());
    }
}

#[test]
fn a_client_without_a_header_is_cut() {
    let (edge, server, vip) = (Edge::start(), Server::echo(), address(7000));
    let stream = Stream { accept_proxy: true, ..Stream::default() };
    edge.apply(plan([on_vip("app", vip, &[server.address]).stream(stream)]));
    let mut client = connect(vip);
    client.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let begun = Instant::now();
    assert!(is_reset(&mut client));
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_eq!(edge.totals("app").refused, 1);
    assert_eq!(server.accepted(), 0);
}

#[test]
fn a_client_that_is_slow_to_say_who_it_is_is_cut() {
    let edge = Edge::with(&[crate::alb(", timeouts: {head: 300ms}")]);
    let (server, vip) = (Server::echo(), address(7000));
    let stream = Stream { accept_proxy: true, ..Stream::default() };
    edge.apply(plan([on_vip("app", vip, &[server.address]).stream(stream)]));
    let mut client = connect(vip);
    client.write_all(b"PROXY TCP4 192.0.2.1 ").unwrap();
    let begun = Instant::now();
    assert!(is_reset(&mut client));
    assert!(begun.elapsed() >= Duration::from_millis(250));
    assert_eq!(edge.totals("app").refused, 1);
}
