//! Connections to endpoints: kept, repeated, and left out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use testkit::manifest::{Ingress, service_at};
use testkit::{Backend, eventually, unique_address};

use crate::{builder, everything_to, gateway_to};

/// An address where nothing listens.
fn nowhere() -> SocketAddr {
    SocketAddr::new(unique_address(), 8000)
}

/// Manifests by which everything goes to these addresses.
fn everything_at(addresses: &[SocketAddr]) -> String {
    service_at("app", addresses) + &Ingress::new("all").any_host().prefix("/", "app").yaml()
}

#[test]
fn connection_to_the_endpoint_is_used_again() {
    let backend = Backend::named("x");
    let gateway = builder().workers(1).manifest("all.yaml", everything_to(&[&backend])).start();
    for _ in 0..5 {
        let mut client = gateway.client();
        for _ in 0..5 {
            assert_eq!(client.get("a.test", "/").text(), "x");
        }
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn endpoint_that_asks_to_close_is_connected_to_anew() {
    let backend =
        Backend::answering("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx");
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    for _ in 0..3 {
        let response = client.get("a.test", "/");
        assert_eq!(response.text(), "x");
        assert_eq!(response.header("connection"), None, "the client's connection stays");
    }
    assert_eq!(backend.connections(), 3);
}

/// Answers the first request of each connection, and closes at the second without an answer: what
/// a client sees where the server's idle time-out and the next request cross.
fn stale() -> Backend {
    Backend::start(|connection| {
        if connection.request().is_some() {
            connection.send_ok("fresh");
        }
        connection.request();
    })
}

#[test]
fn request_that_meets_a_stale_connection_is_repeated_if_that_is_safe() {
    let backend = stale();
    let gateway = builder().workers(1).manifest("all.yaml", everything_to(&[&backend])).start();
    let mut client = gateway.client();
    for method in ["GET", "PUT", "DELETE", "OPTIONS", "HEAD", "GET"] {
        client.send(format!("{method} / HTTP/1.1\r\nHost: a.test\r\n\r\n"));
        assert_eq!(client.response_to(method).status, 200, "{method}");
    }
    assert_eq!(backend.connections(), 6);
}

#[test]
fn repeated_request_is_the_same_byte_for_byte() {
    let backend = stale();
    let gateway = builder().workers(1).manifest("all.yaml", everything_to(&[&backend])).start();
    let mut client = gateway.client();
    for body in
        ["Content-Length: 3\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"]
    {
        client.send(format!("PUT /again HTTP/1.1\r\nHost: a.test\r\n{body}"));
        assert_eq!(client.response().text(), "fresh");
    }
    let received = backend.received();
    assert_eq!(received.len(), 2);
    assert!(received[1].ends_with(b"\r\n3\r\nabc\r\n0\r\n\r\n"));
    assert!(received[0].ends_with(&received[1]), "{}", backend.received_text());
    let lines = eventually("both are logged", || {
        let lines = gateway.access_log();
        (lines.len() == 2).then_some(lines)
    });
    assert!(lines.iter().all(|line| line["received"] == 3 && line["status"] == 200), "{lines:?}");
}

/// Some read their responses, some leave amid them; bodies of all sizes both ways. A connection to
/// an endpoint that was left in the wrong state would give somebody another's response.
#[test]
fn nobody_ever_gets_anothers_response() {
    let backend = Backend::start(|connection| {
        while let Some(request) = connection.request() {
            let path = request.head.line.split(' ').nth(1).unwrap();
            let size: usize = path.rsplit('/').next().unwrap().parse().unwrap();
            let text = format!("{path}:{}", String::from_utf8_lossy(&request.body));
            let body = text.clone() + &"x".repeat(size);
            if request.head.line.starts_with("HEAD") {
                connection
                    .send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()));
            } else if size.is_multiple_of(2) {
                connection.send_ok(&body);
            } else {
                connection.send(format!(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                    body.len()
                ));
            }
        }
    });
    let gateway = gateway_to(&backend);
    std::thread::scope(|scope| {
        for thread in 0..6usize {
            let gateway = &gateway;
            scope.spawn(move || {
                let mut client = gateway.client();
                for i in 0..120usize {
                    let size = [0, 1, 500, 5001, 40_000, 200_001][(i * 7 + thread) % 6];
                    let path = format!("/{thread}/{i}/{size}");
                    let own = format!("{thread}-{i}");
                    let length = own.len();
                    match i % 5 {
                        0 => {
                            client.send(format!("HEAD {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
                            assert_eq!(client.response_to("HEAD").status, 200);
                            continue;
                        }
                        1 => {
                            client.send_get("a.test", &path);
                            if i % 2 == 0 {
                                client.head();
                            }
                            client = gateway.client();
                            continue;
                        }
                        2 => client.send(format!(
                            "POST {path} HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n\
                             {length:x}\r\n{own}\r\n0\r\n\r\n"
                        )),
                        _ => client.send(format!(
                            "POST {path} HTTP/1.1\r\nHost: a.test\r\nContent-Length: {length}\r\n\r\n{own}"
                        )),
                    }
                    let response = client.response();
                    let text = response.text();
                    assert_eq!(response.status, 200, "{path}: {text:.80}");
                    let expected = format!("{path}:{own}");
                    assert!(text.starts_with(&expected), "{expected} got {text:.80}");
                    assert_eq!(text.len(), expected.len() + size, "{path}");
                }
            });
        }
    });
}

#[test]
fn post_is_never_sent_twice() {
    let backend = stale();
    let gateway = builder().workers(1).manifest("all.yaml", everything_to(&[&backend])).start();
    let mut client = gateway.client();
    assert_eq!(client.get("a.test", "/").text(), "fresh");
    for method in ["POST", "PATCH", "PROPPATCH"] {
        client
            .send(format!("{method} /once HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\n\r\nx"));
        assert_eq!(client.response().status, 502, "{method}");
        client = gateway.client();
        assert_eq!(client.get("a.test", "/").text(), "fresh");
    }
    assert_eq!(backend.received_text().matches("/once").count(), 3);
}

#[test]
fn request_with_a_long_body_is_not_repeated_once_part_of_it_is_gone() {
    let backend = Backend::start(|connection| {
        if connection.number() == 0 {
            connection.request();
            connection.send_ok("first");
            connection.head();
            connection.read(100_000);
        } else if connection.request().is_some() {
            connection.send_ok("again");
        }
    });
    let gateway = builder().workers(1).manifest("all.yaml", everything_to(&[&backend])).start();
    let mut client = gateway.client();
    assert_eq!(client.get("a.test", "/").text(), "first");
    client.send("PUT /long HTTP/1.1\r\nHost: a.test\r\nContent-Length: 300000\r\n\r\n");
    let _ = client.try_send(vec![b'x'; 300_000]);
    if let Ok(response) = client.try_response_to("PUT") {
        assert_eq!(response.status, 502);
    }
    assert_eq!(backend.received_text().matches("PUT /long").count(), 1);
}

#[test]
fn endpoint_that_can_not_be_reached_costs_no_request() {
    let backend = Backend::named("x");
    let gateway = builder()
        .manifest("all.yaml", everything_at(&[nowhere(), backend.address(), nowhere()]))
        .start();
    let mut client = gateway.client();
    for _ in 0..20 {
        assert_eq!(client.get("a.test", "/").text(), "x");
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\n\r\nx");
        assert_eq!(client.response().text(), "x");
    }
}

#[test]
fn no_reachable_endpoint_is_answered_with_502() {
    let gateway = builder().manifest("all.yaml", everything_at(&[nowhere(), nowhere()])).start();
    let mut client = gateway.client();
    for _ in 0..3 {
        assert_eq!(client.get("a.test", "/").status, 502, "and the connection stays");
    }
}

#[test]
fn failing_endpoint_is_left_out_and_comes_back() {
    let broken = Arc::new(AtomicBool::new(true));
    let asked = Arc::new(AtomicUsize::new(0));
    let (is_broken, count) = (Arc::clone(&broken), Arc::clone(&asked));
    let flaky = Backend::start(move |connection| {
        while connection.request().is_some() {
            count.fetch_add(1, Ordering::SeqCst);
            if is_broken.load(Ordering::SeqCst) {
                return;
            }
            connection.send_ok("flaky");
        }
    });
    let steady = Backend::named("steady");
    let gateway = builder()
        .workers(1)
        .alb("upstream: {ejection: {failures: 2, time: 1s, maxTime: 1s}}")
        .manifest("all.yaml", everything_to(&[&flaky, &steady]))
        .start();
    let mut client = gateway.client();
    eventually("the flaky endpoint is out", || {
        assert_eq!(client.get("a.test", "/").text(), "steady");
        (gateway.metric("tidegate_upstream_ejections_total", &[]) >= 1.0).then_some(())
    });
    let before = asked.load(Ordering::SeqCst);
    for _ in 0..50 {
        assert_eq!(client.get("a.test", "/").text(), "steady");
    }
    assert!(asked.load(Ordering::SeqCst) <= before + 1, "it was asked while it was out");
    broken.store(false, Ordering::SeqCst);
    eventually("the endpoint is back", || {
        (client.get("a.test", "/").text() == "flaky").then_some(())
    });
}

#[test]
fn lone_endpoint_is_asked_even_when_it_has_failed_often() {
    let broken = Arc::new(AtomicBool::new(true));
    let is_broken = Arc::clone(&broken);
    let backend = Backend::start(move |connection| {
        while connection.request().is_some() {
            if is_broken.load(Ordering::SeqCst) {
                return;
            }
            connection.send_ok("back");
        }
    });
    let gateway = builder()
        .alb("upstream: {ejection: {failures: 1, time: 100s, maxTime: 100s}}")
        .manifest("all.yaml", everything_to(&[&backend]))
        .start();
    let mut client = gateway.client();
    for _ in 0..5 {
        assert_eq!(client.get("a.test", "/").status, 502);
    }
    broken.store(false, Ordering::SeqCst);
    assert_eq!(client.get("a.test", "/").text(), "back");
}

#[test]
fn idle_connections_are_limited() {
    let backend = Backend::start(|connection| {
        while let Some(request) = connection.request() {
            // All of a round stand open at once: each answer waits for the client's sign.
            if request.head.line.contains("/wait") {
                connection.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n");
            }
            connection.send("x");
        }
    });
    let gateway = builder()
        .workers(1)
        .alb("upstream: {maxIdlePerEndpoint: 2}")
        .manifest("all.yaml", everything_to(&[&backend]))
        .start();
    let mut clients: Vec<_> = (0..6).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send("POST /wait HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\n\r\n");
    }
    eventually("six connections stand", || (backend.connections() == 6).then_some(()));
    for client in &mut clients {
        client.send("x");
        assert_eq!(client.response().text(), "x");
    }
    eventually("two are kept", || {
        (gateway.metric("tidegate_upstream_idle_connections", &[]) == 2.0).then_some(())
    });
}

#[test]
fn idle_connections_are_closed_after_their_time() {
    let closed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&closed);
    let backend = Backend::start(move |connection| {
        while connection.request().is_some() {
            connection.send_ok("x");
        }
        count.fetch_add(1, Ordering::SeqCst);
    });
    let gateway = builder()
        .alb("upstream: {idle: 200ms}")
        .manifest("all.yaml", everything_to(&[&backend]))
        .start();
    assert_eq!(gateway.get("a.test", "/").text(), "x");
    eventually("the idle connection is closed", || {
        (closed.load(Ordering::SeqCst) == 1).then_some(())
    });
}
