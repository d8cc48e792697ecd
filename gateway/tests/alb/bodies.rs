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
