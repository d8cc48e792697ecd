//! SIGTERM: what is under way ends well.

use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use testkit::{Backend, Client, End, FifoReader, Gateway, TlsSettings, eventually, get};

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

/// The client has had the beginning of something that would go on for long.
fn endless() -> Backend {
    Backend::start(|connection| {
        let head = connection.head().unwrap();
        connection.send(match head.line.split(' ').nth(1).unwrap() {
            "/length" => "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun",
            "/chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n",
            "/close" => "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nbegun",
            "/tunnel" => {
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                 Upgrade: websocket\r\n\r\nbegun"
            }
            other => panic!("{other}"),
        });
        connection.read_some();
    })
}

#[track_caller]
fn begin(mut client: Client, path: &str, version: &str) -> Client {
    let upgrade = match path {
        "/tunnel" => "Connection: Upgrade\r\nUpgrade: websocket\r\n",
        _ => "",
    };
    client.send(format!("GET {path} HTTP/{version}\r\nHost: a.test\r\n{upgrade}\r\n"));
    if client.head().is_chunked() {
        client.read(3);
    }
    assert_eq!(client.read(5), b"begun");
    client
}

#[test]
fn what_the_drain_time_cuts_is_reset_and_logged_as_such() {
    let backend = endless();
    let mut gateway =
        builder().config("drain: 1s").manifest("all.yaml", everything_to(&[&backend])).start();
    let settings = TlsSettings::trusting_anyone();
    let cases = [
        ("/length", "1.1"),
        ("/chunked", "1.1"),
        ("/close", "1.1"),
        ("/close", "1.0"),
        ("/tunnel", "1.1"),
    ];
    let mut clients = Vec::new();
    for (path, version) in cases {
        clients.push((path, version, begin(gateway.client(), path, version)));
        let tls = Client::connect_tls(gateway.https(), "a.test", &settings);
        clients.push((path, version, begin(tls, path, version)));
    }
    gateway.terminate();
    for (path, version, client) in &mut clients {
        let (_, end) = client.read_to_end();
        assert_eq!(end, End::Aborted, "{path} HTTP/{version}");
    }
    assert!(gateway.wait().success());
    let lines = gateway.access_log();
    assert_eq!(lines.len(), clients.len());
    for line in lines {
        assert_eq!(line["error"], "cut at the drain's deadline", "{line}");
    }
}

#[test]
fn second_sigterm_ends_it_at_once() {
    let backend = endless();
    let mut gateway =
        builder().config("drain: 60s").manifest("all.yaml", everything_to(&[&backend])).start();
    let mut client = begin(gateway.client(), "/length", "1.1");
    gateway.terminate();
    eventually("it drains", || {
        (get(gateway.admin(), "admin", "/readyz").status == 503).then_some(())
    });
    assert_eq!(gateway.exit_status(), None);
    gateway.terminate();
    assert!(!gateway.wait().success(), "what it has cut off is not a success");
    client.read_to_end();
}

#[test]
fn reader_of_the_access_log_that_is_stuck_does_not_keep_the_process() {
    let backend = Backend::named("x");
    let mut gateway: Gateway = builder()
        .config("drain: 1s")
        .log_to_fifo(FifoReader::Stuck)
        .manifest("all.yaml", everything_to(&[&backend]))
        .start();
    let mut client = gateway.client();
    let path = format!("/{}", "x".repeat(4000));
    eventually("the FIFO is full", || {
        for _ in 0..50 {
            assert_eq!(client.get("a.test", &path).text(), "x", "the log holds nobody up");
        }
        (gateway.metric("tidegate_access_log_lost_total", &[]) > 0.0).then_some(())
    });
    gateway.terminate();
    assert!(gateway.wait().success());
}
