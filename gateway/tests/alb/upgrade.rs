//! Protocol changes: from the 101 on, bytes pass both ways.

use std::time::{Duration, Instant};

use testkit::{Backend, Client, End, Gateway, eventually};

use crate::{builder, everything_to, gateway_to};

const HANDSHAKE: &str = "GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive, Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const ACCEPT: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Accepts the upgrade and echoes what comes, until the client's side ends.
fn echo() -> Backend {
    Backend::start(|connection| {
        let Some(head) = connection.head() else { return };
        assert_eq!(head.value("upgrade"), Some("websocket"));
        assert_eq!(head.value("connection").map(str::to_lowercase).as_deref(), Some("upgrade"));
        assert_eq!(head.value("sec-websocket-version"), Some("13"));
        connection.send(ACCEPT);
        loop {
            let bytes = connection.read_some();
            if bytes.is_empty() {
                break;
            }
            connection.send(bytes);
        }
        connection.send("bye");
    })
}

#[track_caller]
fn accepted(client: &mut Client) {
    let head = client.head();
    assert_eq!(head.status(), 101);
    assert_eq!(head.value("upgrade"), Some("websocket"));
    assert_eq!(head.value("connection").map(str::to_lowercase).as_deref(), Some("upgrade"));
    assert_eq!(head.value("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
}

#[test]
fn bytes_pass_both_ways_and_one_side_may_end_before_the_other() {
    let backend = echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send(HANDSHAKE);
    accepted(&mut client);
    for i in 0..100u8 {
        client.send([i, 0, b'\r', b'\n', 255]);
        assert_eq!(client.read(5), [i, 0, b'\r', b'\n', 255]);
    }
    client.finish_sending();
    assert_eq!(client.read_to_end(), (b"bye".to_vec(), End::Closed));
}

#[test]
fn tunnel_works_over_tls() {
    let backend = echo();
    let gateway = gateway_to(&backend);
    let settings = testkit::TlsSettings::trusting_anyone();
    let mut client = Client::connect_tls(gateway.https(), "a.test", &settings);
    client.send(HANDSHAKE);
    accepted(&mut client);
    let block: Vec<u8> = (0..200_000u32).map(|i| (i * 7) as u8).collect();
    client.send(&block);
    assert_eq!(client.read(block.len()), block);
    client.finish_sending();
    assert_eq!(client.read_to_end(), (b"bye".to_vec(), End::Closed));
}

#[test]
fn bytes_sent_with_the_handshake_reach_the_backend_only_behind_its_101() {
    let backend = Backend::start(|connection| {
        let head = connection.head();
        assert!(head.is_some());
        connection.send(ACCEPT);
        let bytes = connection.read(5).unwrap();
        connection.send(bytes);
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send(format!("{HANDSHAKE}early"));
    accepted(&mut client);
    assert_eq!(client.read(5), b"early");
}

#[test]
fn bytes_that_the_backend_sends_with_its_101_are_not_lost() {
    let backend = Backend::start(|connection| {
        connection.head();
        connection.send(format!("{ACCEPT}hello"));
        connection.read_some();
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send(HANDSHAKE);
    accepted(&mut client);
    assert_eq!(client.read(5), b"hello");
}

#[test]
fn backend_that_ends_first_ends_only_its_direction() {
    let backend = Backend::start(|connection| {
        connection.head();
        connection.send(ACCEPT);
        connection.send("done");
        connection.finish_sending();
        connection.read(4);
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send(HANDSHAKE);
    accepted(&mut client);
    assert_eq!(client.read(4), b"done");
    client.send("more");
    eventually("the backend has the rest", || {
        backend.received_text().ends_with("more").then_some(())
    });
    client.finish_sending();
    assert_eq!(client.expect_end(), End::Closed);
}

#[test]
fn reset_on_one_side_ends_the_other() {
    let backend = echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send(HANDSHAKE);
    accepted(&mut client);
    client.reset();
    eventually("the tunnel is gone", || {
        (gateway.metric("tidegate_tunnels_open", &[]) == 0.0
            && gateway.metric("tidegate_tunnels_total", &[]) == 1.0)
            .then_some(())
    });
}

#[test]
fn upgrade_with_a_body_goes_on_as_a_plain_request() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Content-Length: 3\r\n\r\nabc",
    );
    let seen = client.response().text().to_lowercase();
    assert!(!seen.contains("upgrade") && seen.ends_with("abc"), "{seen}");
}

#[test]
fn refused_upgrade_leaves_the_connection_usable() {
    let backend =
        Backend::answering("HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno");
    let gateway: Gateway = gateway_to(&backend);
    let mut client = gateway.client();
    for _ in 0..2 {
        client.send(HANDSHAKE);
        assert_eq!(client.response().status, 426);
    }
}

#[test]
fn backend_that_changes_the_protocol_without_saying_to_which_is_answered_with_502() {
    for fields in [
        "",
        "Upgrade: websocket\r\n",
        "Connection: Upgrade\r\n",
        "Connection: keep-alive\r\nUpgrade: websocket\r\n",
    ] {
        let backend = Backend::start(move |connection| {
            connection.head();
            connection.send(format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\nbytes"));
            connection.read_some();
        });
        let gateway = gateway_to(&backend);
        let mut client = gateway.client();
        client.send(HANDSHAKE);
        assert_eq!(client.response().status, 502, "{fields:?}");
        assert_eq!(gateway.metric("tidegate_tunnels_total", &[]), 0.0, "{fields:?}");
    }
}

/// A gateway whose tunnels may idle for this long, with these annotations on the only Ingress.
#[track_caller]
fn with_tunnel_timeout(backend: &Backend, tunnel: &str, read: &str) -> Gateway {
    let manifests = everything_to(&[backend]).replace(
        "  name: all\n",
        &format!(
            "  name: all\n  annotations: {{nginx.ingress.kubernetes.io/proxy-read-timeout: \"{read}\"}}\n"
        ),
    );
    assert!(manifests.contains("proxy-read-timeout"));
    builder()
        .alb(&format!("timeouts: {{tunnel: {tunnel}}}"))
        .manifest("all.yaml", manifests)
        .start()
}

#[test]
fn idle_tunnel_is_cut_off_after_the_longer_of_its_two_timeouts() {
    let backend = echo();
    // The ALB's, then the route's, in seconds.
    std::thread::scope(|scope| {
        for (tunnel, read) in [("300ms", "2"), ("2s", "1")] {
            let backend = &backend;
            scope.spawn(move || assert_idles_two_seconds(backend, tunnel, read));
        }
    });
}

#[track_caller]
fn assert_idles_two_seconds(backend: &Backend, tunnel: &str, read: &str) {
    let gateway = with_tunnel_timeout(backend, tunnel, read);
    let mut client = gateway.client();
    client.send(HANDSHAKE);
    accepted(&mut client);
    assert!(client.stays_silent_for(Duration::from_millis(1500)), "{tunnel}, {read} s");
    client.send("still there");
    assert_eq!(client.read(11), b"still there");
    let start = Instant::now();
    assert_eq!(client.expect_end(), End::Aborted, "{tunnel}, {read} s");
    assert!(start.elapsed() > Duration::from_millis(1900), "{tunnel}, {read} s");
}
