//! Certificates by SNI, versions, resumption, and change without a dropped connection.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use testkit::manifest::{Ingress, service, tls_secret, tls_secret_of};
use testkit::{Authority, Backend, Client, Gateway, TlsSettings, eventually};

use crate::gateway;

/// An Ingress for a host whose certificate is in the Secret of the same name.
fn secured(name: &str, host: &str) -> String {
    Ingress::new(name).tls(&[host], name).host(host).prefix("/", "app").yaml()
}

#[track_caller]
fn connect(gateway: &Gateway, name: &str, settings: &TlsSettings) -> Client {
    Client::connect_tls(gateway.https(), name, settings)
}

#[test]
fn certificate_is_chosen_by_sni() {
    let backend = Backend::named("x");
    let authority = Authority::new();
    let (one, two) = (authority.issue(&["one.test"]), authority.issue(&["two.test"]));
    let wild = authority.issue(&["*.wild.test"]);
    let gateway = gateway(&[
        &service("app", &[&backend]),
        &tls_secret("one", &one),
        &tls_secret("two", &two),
        &tls_secret("wild", &wild),
        &secured("one", "one.test"),
        &secured("two", "two.test"),
        &secured("wild", "*.wild.test"),
    ]);
    let settings = authority.client();
    for (name, pair) in [
        ("one.test", &one),
        ("ONE.test", &one),
        ("two.test", &two),
        ("a.wild.test", &wild),
        ("b.wild.test", &wild),
    ] {
        let mut client = connect(&gateway, name, &settings);
        assert_eq!(client.certificate(), pair.der, "{name}");
        assert_eq!(client.get(name, "/").text(), "x", "{name}");
    }
    // A wildcard stands for one label, so these get the default certificate, which is nobody's.
    for name in ["a.b.wild.test", "wild.test", "unknown.test"] {
        assert!(Client::try_tls(gateway.https(), name, &settings).is_err(), "{name}");
    }
}

#[test]
fn unknown_name_and_none_get_a_self_made_certificate() {
    let backend = Backend::named("x");
    let gateway = crate::gateway_to(&backend);
    let settings = TlsSettings::trusting_anyone();
    let mut client = connect(&gateway, "unknown.test", &settings);
    assert_eq!(client.get("unknown.test", "/").text(), "x");
    let mut client = connect(&gateway, "unknown.test", &settings.without_sni());
    assert_eq!(client.get("unknown.test", "/").text(), "x");
}

#[test]
fn configured_default_certificate_is_shown_to_unknown_names() {
    let backend = Backend::named("x");
    let pair = Authority::new().issue(&["default.test"]);
    let gateway = crate::builder()
        .alb("defaultCertificate: shop/default")
        .manifest("all.yaml", crate::everything_to(&[&backend]) + &tls_secret("default", &pair))
        .start();
    let settings = TlsSettings::trusting_anyone();
    assert_eq!(connect(&gateway, "any.test", &settings).certificate(), pair.der);
    assert_eq!(connect(&gateway, "any.test", &settings.without_sni()).certificate(), pair.der);
}

#[test]
fn tls_1_2_and_1_3_are_spoken_with_http_1_1_by_alpn() {
    let backend = Backend::named("x");
    let authority = Authority::new();
    let pair = authority.issue(&["a.test"]);
    let gateway =
        gateway(&[&service("app", &[&backend]), &tls_secret("a", &pair), &secured("a", "a.test")]);
    for (version, name) in [
        (&rustls::version::TLS12, rustls::ProtocolVersion::TLSv1_2),
        (&rustls::version::TLS13, rustls::ProtocolVersion::TLSv1_3),
    ] {
        let settings = authority.client_with(&[version], &["http/1.1"]);
        let mut client = connect(&gateway, "a.test", &settings);
        assert_eq!(client.tls_version(), name);
        assert_eq!(client.alpn().as_deref(), Some("http/1.1"));
        assert_eq!(client.get("a.test", "/").text(), "x");
    }
}

#[test]
fn hybrid_key_exchange_is_agreed_on_with_a_client_that_offers_it() {
    let authority = Authority::new();
    let pair = authority.issue(&["a.test"]);
    let gateway = gateway(&[&tls_secret("a", &pair), &secured("a", "a.test")]);
    let client = connect(&gateway, "a.test", &authority.hybrid_client());
    assert_eq!(client.key_exchange(), "X25519MLKEM768");
    let client = connect(&gateway, "a.test", &authority.client());
    assert_eq!(client.key_exchange(), "X25519", "for a client that prefers it");
}

#[test]
fn sessions_are_resumed_whichever_worker_answers() {
    let backend = Backend::named("x");
    let authority = Authority::new();
    let pair = authority.issue(&["a.test"]);
    let gateway =
        gateway(&[&service("app", &[&backend]), &tls_secret("a", &pair), &secured("a", "a.test")]);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let settings = authority.client_with(&[version], &[]);
        let mut first = connect(&gateway, "a.test", &settings);
        assert!(!first.is_resumed());
        // Tickets come with or before the response.
        assert_eq!(first.get("a.test", "/").text(), "x");
        // Two workers share the port: over several connections both are met.
        for _ in 0..12 {
            let mut client = connect(&gateway, "a.test", &settings);
            assert!(client.is_resumed(), "{version:?}");
            assert_eq!(client.get("a.test", "/").text(), "x");
        }
    }
}

#[test]
fn new_certificate_is_shown_without_a_dropped_connection() {
    let backend = Backend::named("x");
    let authority = Authority::new();
    let (old, new) = (authority.issue(&["a.test"]), authority.issue(&["a.test"]));
    let gateway = crate::builder()
        .manifest("app.yaml", service("app", &[&backend]) + &secured("a", "a.test"))
        .manifest("cert.yaml", tls_secret("a", &old))
        .start();
    let mut standing = connect(&gateway, "a.test", &authority.client());
    assert_eq!(standing.certificate(), old.der);
    assert_eq!(standing.get("a.test", "/").text(), "x");
    gateway.apply("cert.yaml", tls_secret("a", &new));
    eventually("the new certificate is shown", || {
        // Every handshake succeeds meanwhile.
        let mut client = connect(&gateway, "a.test", &authority.client());
        assert_eq!(client.get("a.test", "/").text(), "x");
        (client.certificate() == new.der).then_some(())
    });
    assert_eq!(standing.get("a.test", "/").text(), "x");
}

#[test]
fn broken_secret_is_named_and_the_rest_serves() {
    let backend = Backend::named("x");
    let authority = Authority::new();
    let (good, other) = (authority.issue(&["good.test"]), authority.issue(&["bad.test"]));
    for (what, bad) in [
        ("a key of another certificate", tls_secret_of("bad", &other.certificate, &good.key)),
        ("no PEM at all", tls_secret_of("bad", "not a certificate", &other.key)),
        ("an empty key", tls_secret_of("bad", &other.certificate, "")),
    ] {
        let gateway = gateway(&[
            &service("app", &[&backend]),
            &tls_secret("good", &good),
            &bad,
            &secured("good", "good.test"),
            &secured("bad", "bad.test"),
        ]);
        let mut client = connect(&gateway, "good.test", &authority.client());
        assert_eq!(client.get("good.test", "/").text(), "x", "{what}");
        let client = connect(&gateway, "bad.test", &TlsSettings::trusting_anyone());
        assert_ne!(client.certificate(), other.der, "{what}");
        let (code, out, err) = gateway.run(&["check"]);
        assert_eq!(code, Some(1), "{what}: {out}{err}");
        assert!(format!("{out}{err}").contains("shop/bad"), "{what}: {out}{err}");
    }
}

#[test]
fn certificate_broken_by_a_change_keeps_its_last_good_pair() {
    let backend = Backend::named("x");
    let authority = Authority::new();
    let pair = authority.issue(&["a.test"]);
    let gateway = crate::builder()
        .manifest("app.yaml", service("app", &[&backend]) + &secured("a", "a.test"))
        .manifest("cert.yaml", tls_secret("a", &pair))
        .start();
    // Half a file: no object can be read from it, so those from before stay in force.
    let whole = tls_secret("a", &pair);
    let before = gateway.metric("tidegate_diagnostics", &[("severity", "error")]);
    gateway.apply("cert.yaml", &whole[..whole.len() / 2]);
    eventually("the torn file is noticed", || {
        (gateway.metric("tidegate_diagnostics", &[("severity", "error")]) > before
            || gateway.stderr().contains("cert.yaml"))
        .then_some(())
    });
    assert_eq!(connect(&gateway, "a.test", &authority.client()).certificate(), pair.der);
}

#[test]
fn plain_http_on_the_tls_port_disturbs_nobody() {
    let backend = Backend::named("x");
    let gateway = crate::gateway_to(&backend);
    let mut client = Client::connect(gateway.https());
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    client.read_to_end();
    let mut client = connect(&gateway, "a.test", &TlsSettings::trusting_anyone());
    assert_eq!(client.get("a.test", "/").text(), "x");
}

#[test]
fn response_cut_by_the_backend_ends_without_close_notify() {
    let backend = Backend::start(|connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart");
    });
    let gateway = crate::gateway_to(&backend);
    let mut client = connect(&gateway, "a.test", &TlsSettings::trusting_anyone());
    client.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n");
    assert_eq!(client.read_to_end().1, testkit::End::Aborted);
}

#[test]
fn connection_close_over_tls_ends_with_close_notify() {
    let backend = Backend::named("x");
    let gateway = crate::gateway_to(&backend);
    let mut client = connect(&gateway, "a.test", &TlsSettings::trusting_anyone());
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
    assert_eq!(client.response().text(), "x");
    assert_eq!(client.expect_end(), testkit::End::Closed);
}

/// A TCP connection whose every byte goes in a segment of its own.
struct SingleBytes(TcpStream);

impl Read for SingleBytes {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for SingleBytes {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.0.write(&buf[..buf.len().min(1)])
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

#[test]
fn handshake_and_request_in_single_bytes_are_the_same() {
    let backend = Backend::named("whole");
    let gateway = crate::gateway_to(&backend);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let settings = TlsSettings::trusting_anyone_with(&[version]);
        let name = rustls::pki_types::ServerName::try_from("a.test").unwrap();
        let session = rustls::ClientConnection::new(Arc::clone(settings.config()), name).unwrap();
        let tcp = TcpStream::connect(gateway.https()).unwrap();
        tcp.set_nodelay(true).unwrap();
        tcp.set_read_timeout(Some(testkit::DEADLINE)).unwrap();
        let mut stream = rustls::StreamOwned::new(session, SingleBytes(tcp));
        let request = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        stream.flush().unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("whole"), "{answer}");
    }
}

#[test]
fn keys_may_be_updated_between_and_amid_requests() {
    let backend = Backend::echo();
    let gateway = crate::gateway_to(&backend);
    let mut client = connect(&gateway, "a.test", &TlsSettings::trusting_anyone());
    for _ in 0..5 {
        client.send("POST /keys HTTP/1.1\r\nHost: a.test\r\nContent-Length: 6\r\n\r\nabc");
        client.refresh_traffic_keys();
        client.send("def");
        assert!(client.response().text().ends_with("abcdef"));
    }
}

#[test]
fn client_that_ends_its_side_behind_its_request_still_gets_the_response() {
    let backend = Backend::named("late");
    let gateway = crate::gateway_to(&backend);
    let mut client = connect(&gateway, "a.test", &TlsSettings::trusting_anyone());
    assert_eq!(client.get("a.test", "/").text(), "late");
    client.send_get("a.test", "/");
    client.finish_sending();
    assert_eq!(client.response().text(), "late");
    assert_eq!(client.expect_end(), testkit::End::Closed);
}

#[test]
fn client_that_sends_all_it_has_with_the_end_of_its_handshake_gets_the_response() {
    let backend = Backend::named("late");
    let gateway = crate::gateway_to(&backend);
    // Finished, request, close_notify and FIN mostly come in one piece; not always, so often.
    for _ in 0..20 {
        let mut client = connect(&gateway, "a.test", &TlsSettings::trusting_anyone());
        client.send_get("a.test", "/");
        client.finish_sending();
        assert_eq!(client.response().text(), "late");
        assert_eq!(client.expect_end(), testkit::End::Closed);
    }
}

#[test]
fn pipelined_requests_and_a_long_upload_over_tls_arrive_whole() {
    let backend = Backend::start(|connection| {
        while let Some(request) = connection.request() {
            let sum = request.body.iter().fold(0u32, |sum, &b| sum.wrapping_mul(31) + u32::from(b));
            connection.send_ok(&format!("{} {sum}", request.body.len()));
        }
    });
    let gateway = crate::gateway_to(&backend);
    let mut client = connect(&gateway, "a.test", &TlsSettings::trusting_anyone());
    let mut bytes = Vec::new();
    let mut expected = Vec::new();
    for len in [0usize, 1, 16_384, 16_385, 100_000, 3_000_000, 7] {
        let body: Vec<u8> = (0..len).map(|i| (i * 31 + len) as u8).collect();
        let sum = body.iter().fold(0u32, |sum, &b| sum.wrapping_mul(31) + u32::from(b));
        expected.push(format!("{len} {sum}"));
        bytes.extend(
            format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {len}\r\n\r\n").bytes(),
        );
        bytes.extend(body);
    }
    client.send(bytes);
    for expected in expected {
        assert_eq!(client.response().text(), expected);
    }
}

#[test]
fn half_a_key_update_behind_a_request_does_not_keep_its_response_back() {
    let backend = Backend::named("x");
    let gateway = crate::gateway_to(&backend);
    let mut client = connect(&gateway, "a.test", &TlsSettings::sending_handshakes());
    assert_eq!(client.get("a.test", "/").text(), "x");
    // The type KeyUpdate and the first byte of its length, which is three bytes long.
    client.send_with_handshake("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", &[24, 0]);
    assert_eq!(client.response().text(), "x");
    assert!(!gateway.stderr().contains("panicked"), "{}", gateway.stderr());
    assert_eq!(
        connect(&gateway, "a.test", &TlsSettings::trusting_anyone()).get("a.test", "/").text(),
        "x"
    );
}
