//! Plain TCP through the edge.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::time::{Duration, Instant};

use model::snapshot::Algorithm;
use plan::l4::Stream;
use socket2::SockRef;
use testkit::eventually;

use crate::backend::{Server, connect, echoes, is_reset, name_at, read};
use crate::{Change, Edge, address, on_vip, plan};

#[test]
fn bytes_pass_both_ways_and_are_counted() {
    let (edge, server, vip) = (Edge::start(), Server::echo(), address(7000));
    edge.apply(plan([on_vip("echo", vip, &[server.address])]));
    let mut client = connect(vip);
    echoes(&mut client, "hello");
    eventually("counted while open", || (edge.totals("echo").active == 1).then_some(()));
    drop(client);
    let totals = eventually("closed", || {
        let totals = edge.totals("echo");
        (totals.active == 0).then_some(totals)
    });
    assert_eq!((totals.accepted, totals.received, totals.sent), (1, 5, 5));
}

#[test]
fn an_end_of_one_direction_leaves_the_other_open() {
    let server = Server::start(|mut stream| {
        let mut all = String::new();
        stream.read_to_string(&mut all).unwrap();
        stream.write_all(format!("{} bytes", all.len()).as_bytes()).unwrap();
    });
    let (edge, vip) = (Edge::start(), address(7000));
    edge.apply(plan([on_vip("count", vip, &[server.address])]));
    let mut client = connect(vip);
    client.write_all(b"0123456789").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "10 bytes");
}

#[test]
fn much_passes_whole_in_both_directions_at_once() {
    const LEN: usize = 64 << 20;
    let (edge, server, vip) = (Edge::start(), Server::echo(), address(7000));
    edge.apply(plan([on_vip("echo", vip, &[server.address])]));
    let mut client = connect(vip);
    let byte = |i: usize| (i.wrapping_mul(31) >> 3) as u8;
    let mut writer = client.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        let all: Vec<u8> = (0..LEN).map(byte).collect();
        writer.write_all(&all).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut all = Vec::new();
    client.read_to_end(&mut all).unwrap();
    sender.join().unwrap();
    assert_eq!(all.len(), LEN);
    assert!(all.iter().enumerate().all(|(i, b)| *b == byte(i)));
}

#[test]
fn a_reset_of_one_end_is_a_reset_of_the_other() {
    let (edge, vip) = (Edge::start(), address(7000));
    let server = Server::start(|mut stream| {
        let mut one = [0];
        stream.read_exact(&mut one).unwrap();
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    });
    edge.apply(plan([on_vip("resets", vip, &[server.address])]));
    let mut client = connect(vip);
    client.write_all(b"x").unwrap();
    assert!(is_reset(&mut client));

    let (told, saw) = std::sync::mpsc::channel();
    let server = Server::start(move |mut stream| {
        stream.write_all(b"x").unwrap();
        told.send(is_reset(&mut stream)).unwrap();
    });
    edge.apply(plan([on_vip("resets", vip, &[server.address])]));
    let mut client = connect(vip);
    assert_eq!(read(&mut client, 1), "x");
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    assert!(saw.recv_timeout(testkit::DEADLINE).unwrap());
}

#[test]
fn without_endpoints_a_client_is_reset() {
    let (edge, vip) = (Edge::start(), address(7000));
    edge.apply(plan([on_vip("none", vip, &[])]));
    assert!(is_reset(&mut connect(vip)));
    eventually("counted", || (edge.totals("none").without_endpoint == 1).then_some(()));
}

#[test]
fn an_endpoint_that_refuses_is_passed_over() {
    let (edge, server, vip) = (Edge::start(), Server::echo(), address(7000));
    let dead = [address(1), address(1)];
    edge.apply(plan([
        on_vip("some", vip, &[dead[0], server.address, dead[1]]).algorithm(Algorithm::RoundRobin)
    ]));
    for _ in 0..12 {
        echoes(&mut connect(vip), "hello");
    }
    assert_eq!(server.accepted(), 12);
    let totals = edge.totals("some");
    assert_eq!(totals.failed, 0);
    assert!(totals.connect_failures >= 2, "{totals:?}");

    edge.apply(plan([on_vip("some", vip, &dead)]));
    assert!(is_reset(&mut connect(vip)));
    eventually("counted", || (edge.totals("some").failed == 1).then_some(()));
}

#[test]
fn a_connection_that_is_silent_too_long_is_cut() {
    let (edge, server, vip) = (Edge::start(), Server::echo(), address(7000));
    let stream = Stream { idle_ms: Some(1000), ..Stream::default() };
    edge.apply(plan([on_vip("echo", vip, &[server.address]).stream(stream)]));
    let mut client = connect(vip);
    let begun = Instant::now();
    for _ in 0..4 {
        echoes(&mut client, "hello");
        std::thread::sleep(Duration::from_millis(300));
    }
    let spoken = Instant::now();
    assert!(is_reset(&mut client));
    assert!(spoken.elapsed() >= Duration::from_millis(600), "{:?}", begun.elapsed());
}

#[test]
fn connections_to_a_removed_endpoint_go_on_and_new_ones_go_elsewhere() {
    let (edge, vip) = (Edge::start(), address(7000));
    let (old, new) = (Server::named("old"), Server::named("new"));
    edge.apply(plan([on_vip("app", vip, &[old.address])]));
    let (name, mut held) = name_at(vip, 3);
    assert_eq!(name, "old");
    edge.apply(plan([on_vip("app", vip, &[new.address])]));
    for _ in 0..8 {
        assert_eq!(name_at(vip, 3).0, "new");
    }
    echoes(&mut held, "still there");
    edge.apply(plan([]));
    echoes(&mut held, "even now");
}

#[test]
fn the_endpoint_with_the_fewest_connections_is_next() {
    let (edge, vip) = (Edge::start(), address(7000));
    let servers = [Server::named("a"), Server::named("b"), Server::named("c")];
    let addresses = servers.each_ref().map(|server| server.address);
    let service = || on_vip("app", vip, &addresses).algorithm(Algorithm::LeastConnections);
    edge.apply(plan([service()]));
    let mut held: Vec<_> = (0..12).map(|_| name_at(vip, 1)).collect();
    let count = |held: &[(String, _)]| {
        let mut counts = BTreeMap::new();
        held.iter().for_each(|(name, _)| *counts.entry(name.clone()).or_insert(0) += 1);
        counts.into_values().collect::<Vec<_>>()
    };
    assert_eq!(count(&held), [4, 4, 4]);
    held.retain(|(name, _)| name != "b");
    eventually("the end is seen", || (edge.totals("app").active == 8).then_some(()));
    held.extend((0..4).map(|_| name_at(vip, 1)));
    assert_eq!(count(&held), [4, 4, 4]);
    // Counts outlive a change of the Service.
    let stream = Stream { idle_ms: Some(60_000), ..Stream::default() };
    edge.apply(plan([service().stream(stream)]));
    held.extend((0..3).map(|_| name_at(vip, 1)));
    assert_eq!(count(&held), [5, 5, 5]);
}

#[test]
fn a_client_with_affinity_stays_with_its_endpoint_as_long_as_there_is_one() {
    let (edge, vip) = (Edge::start(), address(7000));
    let servers = [Server::named("a"), Server::named("b"), Server::named("c")];
    let mut addresses = servers.each_ref().map(|server| server.address).to_vec();
    let service = |addresses: &[_]| {
        let mut service = on_vip("app", vip, addresses).algorithm(Algorithm::RoundRobin);
        service.affinity = Some(100);
        service
    };
    edge.apply(plan([service(&addresses)]));
    let (first, _) = name_at(vip, 1);
    for _ in 0..10 {
        assert_eq!(name_at(vip, 1).0, first);
    }
    addresses.remove((first.as_bytes()[0] - b'a') as usize);
    edge.apply(plan([service(&addresses)]));
    let (second, _) = name_at(vip, 1);
    assert_ne!(second, first);
    for _ in 0..10 {
        assert_eq!(name_at(vip, 1).0, second);
    }
}

#[test]
fn a_stop_lets_connections_end_and_cuts_them_at_the_deadline() {
    let (edge, server, vip) = (Edge::start(), Server::echo(), address(7000));
    edge.apply(plan([on_vip("echo", vip, &[server.address])]));
    let mut ending = connect(vip);
    let mut staying = connect(vip);
    echoes(&mut ending, "hello");
    echoes(&mut staying, "hello");
    let drained = std::thread::spawn(move || edge.drain(Duration::from_secs(3)));
    eventually("no new connections", || TcpListener::bind(vip).ok());
    echoes(&mut ending, "go on");
    drop(ending);
    assert!(is_reset(&mut staying));
    drained.join().unwrap();
}

#[test]
fn a_connection_flows_again_after_a_rest() {
    let (edge, server, vip) = (Edge::start(), Server::echo(), address(7000));
    edge.apply(plan([on_vip("echo", vip, &[server.address])]));
    let mut client = connect(vip);
    let much = "much ".repeat(200_000);
    let pass = |client: &mut std::net::TcpStream| {
        let mut writer = client.try_clone().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| writer.write_all(much.as_bytes()).unwrap());
            assert_eq!(read(client, much.len()), much);
        });
    };
    pass(&mut client);
    // Longer than the time after which a quiet connection gives back its pipes.
    std::thread::sleep(Duration::from_millis(5_500));
    pass(&mut client);
    echoes(&mut client, "hello");
    assert_eq!(server.accepted(), 1);
}
