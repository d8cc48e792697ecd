//! The process ends, one way or the other, and comes again.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use testkit::lab::Flow;
use testkit::{DEADLINE, eventually};

use crate::{Edge, edge_at, vip, web, web_on};

#[test]
fn kill_under_load_is_not_noticed_and_the_next_start_takes_over() {
    let service =
        web().spec("sessionAffinity: ClientIP").without_ports().tcp_node_port(80, 30080).yaml();
    let mut edge = Edge::start(&[service, web_on(&[1, 2, 3]).yaml()]);
    let server = edge.client().answer(vip(20, 80)).server;
    let address = edge.address_of("web");
    let stop = AtomicBool::new(false);
    let done = AtomicUsize::new(0);
    let Edge { gateway, lab, .. } = &mut edge;
    thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let (stop, done, lab, server) = (&stop, &done, &*lab, &server);
                scope.spawn(move || {
                    lab.client().run(|| {
                        let open =
                            || Flow::over(TcpStream::connect_timeout(&vip(20, 80), DEADLINE)?);
                        let mut long = open()?;
                        while !stop.load(Ordering::SeqCst) {
                            assert_eq!(&long.say("long")?.server, server);
                            assert_eq!(&open()?.say("new")?.server, server, "affinity is lost");
                            done.fetch_add(1, Ordering::SeqCst);
                            thread::sleep(Duration::from_millis(10));
                        }
                        std::io::Result::Ok(())
                    })
                })
            })
            .collect();
        let go_on = || {
            let before = done.load(Ordering::SeqCst);
            eventually("clients go on", || {
                (done.load(Ordering::SeqCst) > before + 16).then_some(())
            });
        };
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            go_on();
            gateway.kill();
            go_on();
            assert!(lab.edge().has_address(address));
            gateway.start_again();
            go_on();
        }));
        stop.store(true, Ordering::SeqCst);
        let results: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    });
    assert_eq!(edge.address_of("web"), address);
    edge.client().ask(edge_at(30080)).unwrap();
}

#[test]
fn what_changed_while_the_process_was_away_is_applied_at_the_next_start() {
    let mut edge = Edge::start(&[web().yaml(), web_on(&[1]).yaml()]);
    edge.client().answer(vip(20, 80));
    edge.gateway.kill();
    edge.gateway.apply("all.yaml", moved() + &web_on(&[2]).yaml());
    edge.gateway.start_again();
    assert_eq!(edge.client().answer(vip(21, 80)).server, "two");
    eventually("the old address is gone", || {
        (!edge.edge().has_address(vip(20, 80).ip())).then_some(())
    });
}

/// `web` at another address.
fn moved() -> String {
    web().yaml().replace("198.51.100.20", "198.51.100.21")
}

#[test]
fn clean_stop_leaves_rules_and_addresses_unless_configured() {
    let mut edge = Edge::start(&[web().yaml(), web_on(&[1]).yaml()]);
    edge.client().answer(vip(20, 80));
    edge.gateway.terminate();
    assert!(edge.gateway.wait().success());
    let log = edge.gateway.stderr();
    assert!(!log.contains("ERROR"), "an ordinary stop: {log}");
    assert_eq!(edge.client().ask(vip(20, 80)).unwrap().server, "one");
}

#[test]
fn clean_stop_removes_rules_and_addresses_where_configured() {
    let removing = testkit::Gateway::builder(env!("CARGO_BIN_EXE_gateway")).config(
        "l4: {enabled: true, onStop: remove, interfaces: {public: [pub0], private: [priv0]}}",
    );
    let mut edge = Edge::start_with(removing, &[web().yaml(), web_on(&[1]).yaml()]);
    edge.client().answer(vip(20, 80));
    edge.gateway.terminate();
    assert!(edge.gateway.wait().success());
    assert_eq!(edge.rules(), "");
    assert!(!edge.edge().has_address(vip(20, 80).ip()));
}
