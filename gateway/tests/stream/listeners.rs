//! Listeners that come and go.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use model::AlbKind;
use model::net::Visibility;
use model::snapshot::Announce;
use plan::l4::{Frontend, L4Plan, Vip};
use testkit::eventually;

use crate::backend::{Server, connect, echoes, read};
use crate::{Edge, address, alb, on_vip, own_port, plan, service};

fn is_refused(to: SocketAddr) -> bool {
    matches!(TcpStream::connect(to), Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused)
}

#[test]
fn a_listener_goes_with_its_service_and_comes_back() {
    let (edge, server, vip) = (Edge::start(), Server::echo(), address(7000));
    for _ in 0..5 {
        edge.apply(plan([on_vip("app", vip, &[server.address])]));
        let mut client = connect(vip);
        echoes(&mut client, "hello");
        edge.apply(plan([]));
        eventually("closed", || is_refused(vip).then_some(()));
        echoes(&mut client, "still there");
    }
}

#[test]
fn a_listener_that_comes_back_at_once_is_not_in_its_own_way() {
    let (edge, server, vip) = (Edge::start(), Server::echo(), address(7000));
    for _ in 0..50 {
        edge.apply(plan([on_vip("app", vip, &[server.address])]));
        edge.apply(plan([]));
    }
    edge.apply(plan([on_vip("app", vip, &[server.address])]));
    echoes(&mut connect(vip), "hello");
}

#[test]
fn changes_under_load_lose_no_connection() {
    let (edge, vip) = (Edge::start(), address(7000));
    let servers: Vec<Server> = (0..3).map(|_| Server::echo()).collect();
    let all: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
    edge.apply(plan([on_vip("app", vip, &all)]));
    let stop = Arc::new(AtomicBool::new(false));
    let made = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, made) = (Arc::clone(&stop), Arc::clone(&made));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    echoes(&mut connect(vip), "hello");
                    made.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut round = 0;
    eventually("many connections over many changes", || {
        round += 1;
        // Endpoints are taken out one by one, and other listeners come and go.
        let mut some = all.clone();
        some.remove(round % all.len());
        let other = SocketAddr::new(vip.ip(), 8000 + (round % 7) as u16);
        edge.apply(plan([on_vip("app", vip, &some), on_vip("other", other, &all)]));
        let broken = clients.iter().any(|client| client.is_finished());
        (broken || round > 100 && made.load(Ordering::Relaxed) > 2000).then_some(())
    });
    stop.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
}

#[test]
fn who_was_let_in_before_the_listener_closed_is_served() {
    let (edge, server, vip) = (Edge::start(), Server::echo(), address(7000));
    for _ in 0..20 {
        edge.apply(plan([on_vip("app", vip, &[server.address])]));
        let mut clients: Vec<_> = (0..20).map(|_| connect(vip)).collect();
        edge.apply(plan([]));
        for client in &mut clients {
            echoes(client, "hello");
        }
    }
}

#[test]
fn what_cannot_be_bound_is_said_and_tried_again_while_the_rest_serves() {
    let (edge, server) = (Edge::start(), Server::echo());
    let (taken, free) = (address(7000), address(7000));
    let other = TcpListener::bind(taken).unwrap();
    let services =
        [on_vip("taken", taken, &[server.address]), on_vip("free", free, &[server.address])];
    let found = edge.listen(plan(services));
    assert_eq!(found.len(), 1);
    let text = found[0].to_string();
    assert!(text.starts_with("error: Service default/taken: spec.ports[0]"), "{text}");
    assert!(text.contains(&taken.to_string()) && text.contains("in use"), "{text}");
    echoes(&mut connect(free), "hello");
    assert_eq!(edge.engine().listeners().retry(), Some(found));
    drop(other);
    eventually("opened", || edge.engine().listeners().retry()?.is_empty().then_some(()));
    assert_eq!(edge.engine().listeners().retry(), None);
    echoes(&mut connect(taken), "hello");
}

#[test]
fn an_address_that_the_machine_does_not_have_yet_can_be_listened_on() {
    let edge = Edge::start();
    let port = own_port();
    let v4 = SocketAddr::new("203.0.113.77".parse().unwrap(), port);
    let v6 = SocketAddr::new("2001:db8::77".parse().unwrap(), port);
    edge.apply(plan([on_vip("four", v4, &[]), on_vip("six", v6, &[])]));
}

#[test]
fn two_services_on_one_address_without_names_are_refused() {
    let (edge, server, vip) = (Edge::start(), Server::echo(), address(7000));
    let found = edge.listen(plan([
        on_vip("first", vip, &[server.address]),
        on_vip("second", vip, &[server.address]),
    ]));
    assert_eq!(found.len(), 1);
    assert!(found[0].to_string().contains("taken by Service default/first"), "{}", found[0]);
    echoes(&mut connect(vip), "hello");
}

#[test]
fn a_node_port_is_on_every_address_but_vips() {
    let (edge, server) = (Edge::start(), Server::echo());
    let ip = testkit::unique_address();
    let vip = testkit::unique_address();
    let port = own_port();
    let mut plan = plan([service("app", &[Frontend::NodePort(port)], &[server.address])]);
    plan.vips = Arc::new(vec![Vip {
        address: vip,
        pool: "pool".to_owned(),
        visibility: Visibility::Public,
        announce: Announce::None,
    }]);
    edge.apply(plan);
    echoes(&mut connect((ip, port).into()), "hello");
    echoes(&mut connect(SocketAddr::new("::1".parse().unwrap(), port)), "hello");
    let mut client = connect((vip, port).into());
    assert!(crate::backend::is_reset(&mut client));
}

#[test]
fn an_alb_listens_on_its_addresses_out_of_pools() {
    let alb = alb("").with_pool_ports(Some(7080), None);
    let edge = Edge::with(&[alb]);
    let pool = testkit::unique_address();
    let with = |addresses: &[IpAddr]| L4Plan {
        albs: [(AlbKind::Public, addresses.to_vec())].into(),
        ..plan([])
    };
    let at = SocketAddr::new(pool, 7080);
    for _ in 0..3 {
        edge.apply(with(&[pool]));
        let mut client = connect(at);
        client.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").unwrap();
        assert!(read(&mut client, 12).starts_with("HTTP/1.1 "));
        edge.apply(with(&[]));
        eventually("closed", || is_refused(at).then_some(()));
    }
    // A Service can't have the ALB's address.
    let mut both = with(&[pool]);
    let app = on_vip("app", at, &[SocketAddr::from((Ipv4Addr::LOCALHOST, 1))]);
    both.services = vec![Arc::new(app)];
    let found = edge.listen(both);
    assert!(found[0].to_string().contains("taken by the public ALB"), "{found:?}");
}
