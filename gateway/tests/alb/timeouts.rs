//! Each time-out, set short.

use std::time::{Duration, Instant};

use testkit::{Backend, Client, End, Gateway};

use crate::{builder, everything_to};

const SHORT: Duration = Duration::from_millis(300);

/// A gateway with one time-out set to [`SHORT`] and all others far away.
#[track_caller]
fn with(timeout: &str, backend: &Backend) -> Gateway {
    let keys = ["head", "idle", "connect", "upstreamHead", "bodyStall"];
    assert!(keys.contains(&timeout));
    let all: Vec<String> = keys
        .iter()
        .map(|key| format!("{key}: {}", if *key == timeout { "300ms" } else { "60s" }))
        .collect();
    builder()
        .alb(&format!("timeouts: {{{}}}", all.join(", ")))
        .manifest("all.yaml", everything_to(&[backend]))
        .start()
}

/// Neither before its time, nor much later (the machine may be busy).
#[track_caller]
fn assert_about_short(start: Instant) {
    let took = start.elapsed();
    assert!(took >= SHORT - Duration::from_millis(60), "too early: {took:?}");
    assert!(took < SHORT + Duration::from_secs(4), "too late: {took:?}");
}

#[test]
fn head_that_does_not_end_is_answered_with_408() {
    let backend = Backend::named("x");
    let gateway = with("head", &backend);
    let mut client = gateway.client();
    let start = Instant::now();
    client.send("GET / HTTP/1.1\r\nHost: a");
    let response = client.response();
    assert_eq!((response.status, response.header("connection")), (408, Some("close")));
    assert_about_short(start);
    assert_eq!(client.expect_end(), End::Closed);
}

#[test]
fn head_that_trickles_in_is_cut_off_all_the_same() {
    let backend = Backend::named("x");
    let gateway = with("head", &backend);
    let mut client = gateway.client();
    let start = Instant::now();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n");
    // Each silence is shorter than the time-out.
    while client.stays_silent_for(Duration::from_millis(50)) {
        assert!(start.elapsed() < Duration::from_secs(8), "a trickling head is never cut off");
        if client.try_send("X: y\r\n").is_err() {
            break;
        }
    }
    assert!(start.elapsed() >= SHORT - Duration::from_millis(60));
}

#[test]
fn connection_without_any_request_is_closed() {
    let backend = Backend::named("x");
    let gateway = with("head", &backend);
    let mut client = gateway.client();
    let start = Instant::now();
    assert_eq!(client.expect_end(), End::Closed);
    assert_about_short(start);
}

#[test]
fn tls_handshake_that_does_not_end_is_cut_off() {
    let backend = Backend::named("x");
    let gateway = with("head", &backend);
    let mut client = testkit::Client::connect(gateway.https());
    let start = Instant::now();
    client.send([0x16, 0x03, 0x01]);
    client.read_to_end();
    assert_about_short(start);
}

#[test]
fn idle_connection_is_closed() {
    let backend = Backend::named("x");
    let gateway = with("idle", &backend);
    let mut client = gateway.client();
    assert_eq!(client.get("a.test", "/").text(), "x");
    let start = Instant::now();
    assert_eq!(client.expect_end(), End::Closed);
    assert_about_short(start);
}

#[test]
fn endpoint_that_does_not_answer_gives_504() {
    let backend = Backend::start(|connection| {
        connection.request();
        connection.read_some();
    });
    let gateway = with("upstreamHead", &backend);
    let start = Instant::now();
    assert_eq!(gateway.get("a.test", "/").status, 504);
    assert_about_short(start);
    assert_eq!(backend.connections(), 1, "a request that may be in work is not repeated");
}

#[test]
fn response_body_that_stalls_is_cut_off_visibly() {
    let backend = Backend::start(|connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
        connection.read_some();
    });
    let gateway = with("bodyStall", &backend);
    let mut client = gateway.client();
    let start = Instant::now();
    client.send_get("a.test", "/");
    let incomplete = client.try_response_to("GET").unwrap_err();
    assert_about_short(start);
    assert_eq!(incomplete.end, End::Aborted);
}

#[test]
fn request_body_that_stalls_is_answered_with_408() {
    let backend = Backend::named("x");
    let gateway = with("bodyStall", &backend);
    let mut client = gateway.client();
    let start = Instant::now();
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nabc");
    assert_eq!(client.response().status, 408);
    assert_about_short(start);
}

#[test]
fn endpoint_that_stops_reading_an_upload_is_blamed_for_it_and_not_the_client() {
    let (end, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let backend = Backend::with_small_window(move |connection| {
        connection.head();
        let _ = wait.lock().unwrap().recv();
    });
    let gateway = with("bodyStall", &backend);
    let mut client = gateway.client();
    let start = Instant::now();
    client.send("PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9000000\r\n\r\n");
    // More than the endpoint takes, less than gateway and kernel hold.
    client.send(vec![b'x'; 200_000]);
    assert_eq!(client.response().status, 504);
    assert_about_short(start);
    drop(end);
}

#[test]
fn slow_body_that_keeps_moving_is_not_cut_off() {
    let (step, next) = std::sync::mpsc::channel::<()>();
    let next = std::sync::Mutex::new(next);
    let backend = Backend::start(move |connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n");
        while next.lock().unwrap().recv().is_ok() {
            connection.send("x");
        }
    });
    let gateway = with("bodyStall", &backend);
    let mut client = gateway.client();
    client.send_get("a.test", "/");
    assert_eq!(client.head().content_length(), Some(8));
    let start = Instant::now();
    for _ in 0..8 {
        // Together longer than the time-out, each one shorter.
        assert!(client.stays_silent_for(Duration::from_millis(75)));
        step.send(()).unwrap();
        assert_eq!(client.read(1), b"x");
    }
    assert!(start.elapsed() > SHORT, "the test must outlast the time-out");
}

#[test]
fn endpoint_that_swallows_connects_is_given_up_after_the_connect_timeout() {
    // A full accept queue: the kernel drops further handshakes, as a dead host would.
    let address = std::net::SocketAddr::new(testkit::unique_address(), 8000);
    let listener = socket_with_full_queue(address);
    let manifests = testkit::manifest::service_at("app", &[address])
        + &testkit::manifest::Ingress::new("all").any_host().prefix("/", "app").yaml();
    let gateway = builder()
        .alb("timeouts: {connect: 300ms}\nupstream: {tries: 1}")
        .manifest("all.yaml", manifests)
        .start();
    let start = Instant::now();
    assert_eq!(gateway.get("a.test", "/").status, 504);
    assert_about_short(start);
    drop(listener);
}

/// A listener whose queue is full, with the connections that fill it.
fn socket_with_full_queue(
    address: std::net::SocketAddr,
) -> (std::net::TcpListener, Vec<std::net::TcpStream>) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(0).unwrap();
    let mut filling = Vec::new();
    while let Ok(stream) =
        std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100))
    {
        filling.push(stream);
        assert!(filling.len() < 64, "the queue does not fill");
    }
    (socket.into(), filling)
}

/// Sends a body without end in this framing, and tells how many MiB were taken when the gateway
/// has closed the connection.
fn sends_on_and_on(
    connection: &mut testkit::Connection,
    ended: &std::sync::Mutex<std::sync::mpsc::Sender<usize>>,
) {
    let chunked = connection.head().is_some_and(|head| head.line.contains("/chunked"));
    let (framing, block) = match chunked {
        true => ("Transfer-Encoding: chunked", chunk(1 << 20)),
        false => ("Content-Length: 1073741824", vec![b'x'; 1 << 20]),
    };
    connection.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"));
    let sent = (0..1024).take_while(|_| connection.try_send(&block).is_ok()).count();
    ended.lock().unwrap().send(sent).unwrap();
}

fn chunk(len: usize) -> Vec<u8> {
    format!("{len:x}\r\n{}\r\n", "x".repeat(len)).into_bytes()
}

#[test]
fn client_that_stops_reading_is_cut_off() {
    let (ended, has_ended) = std::sync::mpsc::channel();
    let ended = std::sync::Mutex::new(ended);
    let backend = Backend::start(move |connection| sends_on_and_on(connection, &ended));
    let gateway = with("bodyStall", &backend);
    for path in ["/length", "/chunked"] {
        for mut client in [gateway.client(), Client::with_small_window(gateway.http())] {
            client.send_get("a.test", path);
            assert_eq!(client.head().status(), 200);
            let sent = has_ended.recv_timeout(testkit::DEADLINE).expect("the backend is let go");
            assert!(sent < 1024, "all of it was taken in");
            assert_eq!(client.read_to_end().1, End::Aborted);
        }
    }
}
#[test]
fn client_that_reads_slowly_but_steadily_gets_the_whole_body() {
    const BLOCKS: usize = 40;
    const BLOCK: usize = 100_000;
    let backend = Backend::start(|connection| {
        let chunked = connection.head().is_some_and(|head| head.line.contains("/chunked"));
        let (framing, block, end) = match chunked {
            true => ("Transfer-Encoding: chunked".to_owned(), chunk(BLOCK), "0\r\n\r\n"),
            false => (format!("Content-Length: {}", BLOCKS * BLOCK), vec![b'x'; BLOCK], ""),
        };
        connection.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"));
        for _ in 0..BLOCKS {
            connection.send(&block);
        }
        connection.send(end);
        connection.read_some();
    });
    let gateway = builder()
        .alb("timeouts: {bodyStall: 1s}")
        .manifest("all.yaml", everything_to(&[&backend]))
        .start();
    std::thread::scope(|scope| {
        for path in ["/length", "/chunked"] {
            let gateway = &gateway;
            scope.spawn(move || {
                let mut client = Client::with_small_window(gateway.http());
                client.send_get("a.test", path);
                client.read_slowly(8000, Duration::from_millis(100), Duration::from_secs(4));
                let response = client.response();
                assert_eq!(response.body.len(), BLOCKS * BLOCK, "{path}");
                assert!(response.body.iter().all(|&b| b == b'x'), "{path}");
            });
        }
    });
}
