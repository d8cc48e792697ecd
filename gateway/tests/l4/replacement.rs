//! Endpoints come and go under load.

use std::collections::BTreeMap;
use std::net::{IpAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use testkit::lab::{Flow, Server};
use testkit::manifest::{Exposed, Slice};
use testkit::{DEADLINE, Lab, eventually};

use crate::{Edge, vip, web, web_on};

/// Clients of either kind.
const CLIENTS: usize = 32;
/// Between two connections or lines of a client: there are many of them, and two cores.
const PAUSE: Duration = Duration::from_millis(10);

/// Connections of clients while something else is done.
struct Load {
    stop: AtomicBool,
    connections: AtomicUsize,
    lines: AtomicUsize,
}

/// Has clients connect anew and others stay while `change` runs; nobody may meet an error.
fn under_load(edge: &Edge, change: impl FnOnce(&Load)) {
    let load = Load {
        stop: AtomicBool::new(false),
        connections: AtomicUsize::new(0),
        lines: AtomicUsize::new(0),
    };
    let connect = || Flow::over(TcpStream::connect_timeout(&vip(20, 80), DEADLINE)?);
    thread::scope(|scope| {
        let mut clients = Vec::new();
        for number in 0..CLIENTS {
            let (load, connect) = (&load, &connect);
            clients.push(scope.spawn(move || {
                edge.client().run(|| {
                    while !load.stop.load(Ordering::SeqCst) {
                        connect()?.say("new")?;
                        load.connections.fetch_add(1, Ordering::SeqCst);
                        thread::sleep(PAUSE);
                    }
                    std::io::Result::Ok(format!("client {number}"))
                })
            }));
            clients.push(scope.spawn(move || {
                edge.client().run(|| {
                    let mut flow = connect()?;
                    let first = flow.say("long")?;
                    while !load.stop.load(Ordering::SeqCst) {
                        assert_eq!(flow.say("long")?.server, first.server);
                        load.lines.fetch_add(1, Ordering::SeqCst);
                        thread::sleep(PAUSE);
                    }
                    Ok(first.server)
                })
            }));
        }
        // Whatever happens in there, the clients have to end.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| change(&load)));
        load.stop.store(true, Ordering::SeqCst);
        let results: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
        let errors: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
        assert!(errors.is_empty(), "{} clients failed: {errors:?}", errors.len());
    });
}

impl Load {
    /// Waits until every client has done something more, on average.
    #[track_caller]
    fn goes_on(&self) {
        let (connections, lines) =
            (self.connections.load(Ordering::SeqCst), self.lines.load(Ordering::SeqCst));
        eventually("clients go on", || {
            (self.connections.load(Ordering::SeqCst) >= connections + CLIENTS
                && self.lines.load(Ordering::SeqCst) >= lines + CLIENTS)
                .then_some(())
        });
    }
}

#[test]
fn backends_rolled_one_by_one_under_load_lose_no_connection() {
    let in_force = |edge: &Edge, _: &Load, address, port, there| {
        edge.wait_for_endpoint(address, port, there);
    };
    roll(&web(), in_force);
}

#[test]
fn backends_rolled_one_by_one_behind_user_space_lose_no_connection() {
    let in_force = |edge: &Edge, load: &Load, address, port, there| {
        edge.wait_for_planned("web", address, port, there);
        // What is planned is soon in force; pods go on accepting for longer.
        load.goes_on();
    };
    roll(&web().tidegate("user-space", "true"), in_force);
}

/// Replaces all endpoints of a Service one by one under load. `in_force` waits until an endpoint is
/// chosen, or isn't any more.
#[track_caller]
fn roll(service: &Exposed, in_force: impl Fn(&Edge, &Load, IpAddr, u16, bool)) {
    let edge = Edge::start(&[service.yaml(), web_on(&[1, 2, 3]).yaml()]);
    edge.client().answer(vip(20, 80));
    // The new ones serve on another port, from a slice of their own.
    let fresh: Vec<Server> =
        (1..=3).map(|n| Server::start(edge.lab.backend(n), 8081, "new")).collect();
    under_load(&edge, |load| {
        load.goes_on();
        let mut new = Slice::of("web").named("web-2").tcp(80, 8081);
        for step in 1..=3_u8 {
            let (old, address) = ((step + 1..=3).collect::<Vec<_>>(), Lab::backend_address(step));
            new = new.ready(address);
            // The new one is ready: the old one is told to end.
            let leaving = web_on(&old).terminating(address);
            edge.gateway.apply("all.yaml", [service.yaml(), leaving.yaml(), new.yaml()].concat());
            in_force(&edge, load, address, 8081, true);
            in_force(&edge, load, address, 8080, false);
            let server = edge.servers.get(usize::from(step) - 1).unwrap();
            server.stop_accepting();
            load.goes_on();
            edge.gateway
                .apply("all.yaml", [service.yaml(), web_on(&old).yaml(), new.yaml()].concat());
            load.goes_on();
        }
        assert!(fresh.iter().all(|server| server.accepted() > 0));
        let open: BTreeMap<_, _> =
            edge.servers.iter().map(|server| (server.name(), server.open())).collect();
        assert!(open.values().sum::<usize>() >= CLIENTS, "long connections are still at {open:?}");
    });
}

#[test]
fn change_of_one_endpoint_leaves_connections_of_the_others_alone() {
    let edge = Edge::start(&[web().yaml(), web_on(&[1, 2, 3]).yaml()]);
    edge.client().answer(vip(20, 80));
    let mut flows: Vec<Flow> =
        (0..12).map(|_| edge.client().connect(vip(20, 80)).unwrap()).collect();
    let before: Vec<_> = flows.iter_mut().map(|flow| flow.say("x").unwrap().server).collect();
    edge.gateway.apply("all.yaml", web().yaml() + &web_on(&[1, 3]).yaml());
    edge.wait_for_endpoint(Lab::backend_address(2), 8080, false);
    let after: Vec<_> = flows.iter_mut().map(|flow| flow.say("y").unwrap().server).collect();
    assert_eq!(after, before);
    for _ in 0..12 {
        assert_ne!(edge.client().ask(vip(20, 80)).unwrap().server, "two");
    }
}

#[test]
fn udp_entries_to_a_removed_endpoint_are_deleted_and_others_kept() {
    let service = Exposed::load_balancer("dns").port("UDP", 53, None).at("198.51.100.20");
    let on = |backends: &[u8]| {
        let slice = Slice::of("dns").port("UDP", 53, 8080);
        let slice = backends.iter().fold(slice, |it, n| it.ready(Lab::backend_address(*n)));
        service.yaml() + &slice.yaml()
    };
    let edge = Edge::start(&[on(&[1, 2])]);
    let sockets: Vec<_> = (0..16).map(|_| edge.client().datagrams(vip(20, 53))).collect();
    let before: Vec<_> = sockets.iter().map(|socket| socket.answer("x").server).collect();
    assert!(before.iter().any(|server| server == "one") && before.iter().any(|it| it == "two"));
    edge.gateway.apply("all.yaml", on(&[2, 3]));
    edge.wait_for_endpoint(Lab::backend_address(1), 8080, false);
    for (socket, before) in sockets.iter().zip(before) {
        let after = eventually("an endpoint that is there answers", || {
            let answer = socket.say("y", Duration::from_millis(500)).ok()?;
            (answer.server != "one").then_some(answer.server)
        });
        assert!(before == "one" || after == "two", "{before} became {after}");
    }
}
