//! SIGTERM: what is under way ends well.

use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use testkit::{Backend, End, eventually, get};

use crate::{builder, everything_to};

#[test]
fn requests_under_way_are_finished_before_the_process_ends() {
    let (go, wait) = channel();
    let wait = Mutex::new(wait);
    let backend = Backend::start(move |connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf");
        wait.lock().unwrap().recv().unwrap();
        connection.send("done");
    });
    let mut gateway = builder().manifest("all.yaml", everything_to(&[&backend])).start();
    let mut client = gateway.client();
    client.send_get("a.test", "/");
    assert_eq!(client.head().content_length(), Some(8));
    assert_eq!(client.read(4), b"half");
    gateway.terminate();
    eventually("no new connections are taken", || {
        TcpStream::connect(gateway.http()).is_err().then_some(())
    });
    assert_eq!(gateway.exit_status(), None, "it ended with a response under way");
    go.send(()).unwrap();
    assert_eq!(client.read(4), b"done");
    assert_eq!(client.expect_end(), End::Closed);
    assert!(gateway.wait().success());
}

#[test]
fn idle_connections_are_closed_at_once() {
    let backend = Backend::named("x");
    let mut gateway = builder().manifest("all.yaml", everything_to(&[&backend])).start();
    let mut clients: Vec<_> = (0..20).map(|_| gateway.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("a.test", "/").text(), "x");
    }
    gateway.terminate();
    for client in &mut clients {
        assert_eq!(client.expect_end(), End::Closed);
    }
    assert!(gateway.wait().success());
}

#[test]
fn readiness_ends_before_the_process_does() {
    let (go, wait) = channel();
    let wait = Mutex::new(wait);
    let backend = Backend::start(move |connection| {
        connection.request();
        wait.lock().unwrap().recv().unwrap();
        connection.send_ok("late");
    });
    let mut gateway = builder().manifest("all.yaml", everything_to(&[&backend])).start();
    let mut client = gateway.client();
    client.send_get("a.test", "/");
    eventually("the backend has the request", || (backend.connections() == 1).then_some(()));
    gateway.terminate();
    eventually("it is not ready any more", || {
        (get(gateway.admin(), "admin", "/readyz").status == 503).then_some(())
    });
    eventually("no new connections are taken", || {
        TcpStream::connect(gateway.http()).is_err().then_some(())
    });
    go.send(()).unwrap();
    let response = client.response();
    assert_eq!(response.text(), "late");
    assert_eq!(response.header("connection"), Some("close"));
    assert!(gateway.wait().success());
}

#[test]
fn what_outlasts_the_drain_time_is_cut_off() {
    let backend = Backend::start(|connection| {
        connection.request();
        connection.read_some();
    });
    let mut gateway =
        builder().config("drain: 300ms").manifest("all.yaml", everything_to(&[&backend])).start();
    let mut client = gateway.client();
    client.send_get("a.test", "/");
    eventually("the backend has the request", || (backend.connections() == 1).then_some(()));
    gateway.terminate();
    gateway.wait();
    client.read_to_end();
}

#[test]
fn access_log_is_complete_when_the_process_has_ended() {
    let backend = Backend::named("x");
    let mut gateway = builder().manifest("all.yaml", everything_to(&[&backend])).start();
    let mut client = gateway.client();
    for _ in 0..25 {
        client.get("a.test", "/");
    }
    gateway.terminate();
    gateway.wait();
    assert_eq!(gateway.access_log().len(), 25);
}
