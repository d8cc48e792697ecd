//! Large bodies, in constant memory.

use std::thread;

use testkit::{Backend, Client, Gateway, TlsSettings};

use crate::gateway_to;

const GIB: u64 = 1 << 30;
/// How much memory the gateway may take on for a body, whatever its length.
const ALLOWED: u64 = 16 << 20;

/// Runs `work` while the gateway's memory is watched; answers its largest growth.
fn growth(gateway: &Gateway, work: impl FnOnce() + Send) -> u64 {
    let before = gateway.resident_bytes();
    let mut most = before;
    thread::scope(|scope| {
        let working = scope.spawn(work);
        while !working.is_finished() {
            most = most.max(gateway.resident_bytes());
            thread::yield_now();
            thread::park_timeout(std::time::Duration::from_millis(10));
        }
        working.join().unwrap();
    });
    most - before
}

fn sender() -> Backend {
    Backend::start(|connection| {
        let block = vec![b'x'; 1 << 20];
        while let Some(head) = connection.head() {
            let size: u64 = head.line.split(['/', ' ']).nth(2).unwrap().parse().unwrap();
            connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n"));
            for _ in 0..size >> 20 {
                if connection.try_send(&block).is_err() {
                    return;
                }
            }
        }
    })
}

#[test]
fn a_gibibyte_down_passes_in_constant_memory() {
    let backend = sender();
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send_get("a.test", "/1048576");
    assert_eq!(client.head().content_length(), Some(1 << 20));
    client.skip(1 << 20);
    let grown = growth(&gateway, || {
        client.send_get("a.test", &format!("/{GIB}"));
        assert_eq!(client.head().content_length(), Some(GIB as usize));
        client.skip(GIB);
    });
    assert!(grown < ALLOWED, "grew by {grown} bytes");
}

#[test]
fn a_gibibyte_up_passes_in_constant_memory() {
    let backend = Backend::start(|connection| {
        let head = connection.head().unwrap();
        let total = connection.skip(head.content_length().unwrap() as u64);
        connection.send_ok(&total.to_string());
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    let block = vec![b'x'; 1 << 20];
    let grown = growth(&gateway, || {
        client.send(format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {GIB}\r\n\r\n"));
        for _ in 0..GIB >> 20 {
            client.send(&block);
        }
        assert_eq!(client.response().text(), GIB.to_string());
    });
    assert!(grown < ALLOWED, "grew by {grown} bytes");
}

#[test]
fn chunked_body_over_tls_arrives_whole() {
    let backend = Backend::start(|connection| {
        let block = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..256 {
            connection.send(&block);
        }
        connection.send("0\r\n\r\n");
        connection.read_some();
    });
    let gateway = gateway_to(&backend);
    let settings = TlsSettings::trusting_anyone();
    let mut client = Client::connect_tls(gateway.https(), "a.test", &settings);
    let response = client.get("a.test", "/");
    assert_eq!(response.body.len(), 256 * 0x10000);
    assert!(response.body.iter().all(|&b| b == b'x'));
}

#[test]
fn client_that_does_not_read_holds_the_backend_back() {
    let backend = sender();
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send_get("a.test", &format!("/{GIB}"));
    assert_eq!(client.head().content_length(), Some(GIB as usize));
    let before = gateway.resident_bytes();
    // Nothing to poll for: were there no back-pressure, memory would grow with what is sent.
    for _ in 0..30 {
        thread::park_timeout(std::time::Duration::from_millis(10));
        let grown = gateway.resident_bytes().saturating_sub(before);
        assert!(grown < ALLOWED, "grew by {grown} bytes");
    }
}

#[test]
fn upload_and_download_at_once_pass_each_other() {
    // Echoes while it reads: neither side waits for the other's end.
    let backend = Backend::start(|connection| {
        let head = connection.head().unwrap();
        let mut left = head.content_length().unwrap();
        connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {left}\r\n\r\n"));
        while left > 0 {
            let bytes = connection.read_some();
            if bytes.is_empty() {
                return;
            }
            left -= bytes.len();
            connection.send(bytes);
        }
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\n01234");
    assert_eq!(client.head().status(), 200);
    assert_eq!(client.read(5), b"01234");
    client.send("56789");
    assert_eq!(client.read(5), b"56789");
    assert!(client.try_send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").is_ok());
}

/// Bytes that repeat only after 16 MiB, so that a piece lost, doubled or moved shows.
fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 ^ (i >> 16) as u8).collect()
}

#[test]
fn long_bodies_both_ways_arrive_byte_for_byte_with_requests_behind_them() {
    const LEN: usize = 5_000_003;
    let backend = Backend::start(|connection| {
        while let Some(request) = connection.request() {
            connection
                .send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len()));
            connection.send(&request.body);
        }
    });
    let gateway = gateway_to(&backend);
    let settings = TlsSettings::trusting_anyone();
    let body = pattern(LEN);
    for mut client in [gateway.client(), Client::connect_tls(gateway.https(), "a.test", &settings)]
    {
        for _ in 0..2 {
            client.send(format!(
                "PUT /long HTTP/1.1\r\nHost: a.test\r\nContent-Length: {LEN}\r\n\r\n"
            ));
            // The next request stands right behind the body.
            client.send(&body);
            client.send("GET /next HTTP/1.1\r\nHost: a.test\r\n\r\n");
            assert!(client.response().body == body, "the body has changed on its way");
            assert_eq!(client.response().status, 200);
        }
    }
}

#[test]
fn long_response_cut_amid_its_body_is_never_taken_for_whole() {
    let backend = Backend::start(|connection| {
        if connection.head().is_some() {
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\n\r\n");
            connection.send(pattern(3_000_000));
        }
    });
    let gateway = gateway_to(&backend);
    for version in ["1.1", "1.0"] {
        let mut client = gateway.client();
        client.send(format!("GET / HTTP/{version}\r\nHost: a.test\r\n\r\n"));
        let incomplete = client.try_response_to("GET").unwrap_err();
        assert_eq!(incomplete.end, testkit::End::Aborted, "HTTP/{version}");
        assert!(pattern(3_000_000).starts_with(&incomplete.body));
    }
}

#[test]
fn long_upload_cut_by_the_client_ends_visibly_for_the_backend() {
    let (ended, has_ended) = std::sync::mpsc::channel();
    let ended = std::sync::Mutex::new(ended);
    let backend = Backend::start(move |connection| {
        if connection.head().is_some() {
            let total = connection.drain();
            ended.lock().unwrap().send(total).unwrap();
        }
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 20000000\r\n\r\n");
    client.send(pattern(3_000_000));
    client.finish_sending();
    let total = has_ended.recv_timeout(testkit::DEADLINE).expect("the backend is told");
    assert!(total <= 3_000_000, "{total} bytes of 3000000 sent");
    assert!(client.try_response_to("PUT").map_or(true, |response| response.status >= 400));
}
