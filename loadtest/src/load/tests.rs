//! The generator against small servers of this file, right and wrong ones.

mod open_loop;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::tls::{Offer, Trust, client_config};
use super::*;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// Serves each connection in a thread; the threads end with the test's process.
fn server(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Answers every request with the same bytes, as long as the client sends more.
fn answer(mut stream: impl Read + Write, bytes: &[u8]) {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).is_ok_and(|size| size > 0) {
        if stream.write_all(bytes).and_then(|()| stream.flush()).is_err() {
            return;
        }
    }
}

fn load(address: SocketAddr, reuse: Reuse) -> Load {
    Load {
        address,
        tls: None,
        requests: vec![Request::get("bench.test", "/", Some(5)).expect("a request")],
        connections: 2,
        reuse,
        timeout: Duration::from_secs(10),
    }
}

/// Runs in short stretches until something is counted.
fn drive_until(generator: &mut Generator, counted: impl Fn(&Stats) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !counted(&generator.stats) {
        assert!(Instant::now() < deadline, "{:?}", generator.stats.failures);
        generator.drive(Duration::from_millis(10)).expect("the load runs");
    }
}

#[track_caller]
fn assert_fails_as(kind: Failure, load: Load) {
    let mut generator = Generator::new(load).expect("a generator");
    drive_until(&mut generator, |stats| stats.failure_count() > 0);
    let kinds: Vec<_> = generator.stats.failures.keys().copied().collect();
    assert_eq!((kinds, generator.stats.requests), (vec![kind], 0));
}

#[test]
fn kept_connections_carry_many_requests() {
    let address = server(|stream| answer(stream, OK));
    let mut generator = Generator::new(load(address, Reuse::KeepAlive)).expect("a generator");
    drive_until(&mut generator, |stats| stats.requests >= 100);
    assert_eq!((generator.stats.connections, generator.stats.failure_count()), (2, 0));
    assert_eq!(generator.stats.body_bytes, generator.stats.requests * 5);
}

#[test]
fn both_ends_count_the_same_requests_after_a_drain() {
    let served = Arc::new(AtomicU64::new(0));
    let counter = served.clone();
    let address = server(move |mut stream| {
        let mut buffer = [0; 4096];
        while stream.read(&mut buffer).is_ok_and(|size| size > 0) {
            counter.fetch_add(1, Ordering::SeqCst);
            stream.write_all(OK).expect("the client waits for this");
        }
    });
    let mut generator = Generator::new(load(address, Reuse::KeepAlive)).expect("a generator");
    drive_until(&mut generator, |stats| stats.requests >= 100);
    generator.drain(Duration::from_secs(10)).expect("the rest comes");
    assert_eq!(generator.stats.requests, served.load(Ordering::SeqCst));
}

#[test]
fn each_request_has_a_connection_of_its_own_where_none_is_reused() {
    let address = server(|stream| answer(stream, OK));
    let mut generator = Generator::new(load(address, Reuse::Never)).expect("a generator");
    drive_until(&mut generator, |stats| stats.requests >= 20);
    generator.drain(Duration::from_secs(10)).expect("the rest comes");
    assert_eq!(generator.stats.connections, generator.stats.requests);
}

#[test]
fn a_connection_that_the_target_closes_after_an_answer_is_no_failure() {
    let close: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello";
    let address = server(move |mut stream| {
        let mut buffer = [0; 4096];
        let _ = stream.read(&mut buffer).and_then(|_| stream.write_all(close));
    });
    let mut generator = Generator::new(load(address, Reuse::KeepAlive)).expect("a generator");
    drive_until(&mut generator, |stats| stats.requests >= 10);
    assert_eq!(generator.stats.failure_count(), 0, "{}", generator.stats.failure_text());
}

#[test]
fn idle_connections_are_opened_beyond_the_ramp_and_held() {
    let address = server(|stream| answer(stream, OK));
    let wanted = RAMP * 2 + 3;
    let load = Load { connections: wanted, ..load(address, Reuse::Hold) };
    let mut generator = Generator::new(load).expect("a generator");
    generator.drive_until_held(Duration::from_secs(20)).expect("all are held");
    assert_eq!(generator.held(), wanted);
    assert_eq!(generator.stats.requests, wanted as u64);
}

#[test]
fn a_warm_load_has_used_every_connection_and_every_request() {
    let address = server(|stream| answer(stream, OK));
    let request = Request::get("bench.test", "/", Some(5)).expect("a request");
    let load =
        Load { connections: 5, requests: vec![request; 40], ..load(address, Reuse::KeepAlive) };
    let mut generator = Generator::new(load).expect("a generator");
    generator.drive_until_warm(Duration::from_secs(20)).expect("it gets warm");
    assert!(generator.stats.requests >= 45, "{}", generator.stats.requests);
    assert_eq!(generator.stats.connections, 5);
}

#[test]
fn failures_are_told_apart() {
    let canned = |bytes: &'static [u8]| server(move |stream| answer(stream, bytes));
    let status = canned(b"HTTP/1.1 503 No\r\nContent-Length: 5\r\n\r\nhello");
    assert_fails_as(Failure::Status, load(status, Reuse::KeepAlive));
    let length = canned(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhell");
    assert_fails_as(Failure::Length, load(length, Reuse::KeepAlive));
    let twice = canned(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n");
    assert_fails_as(Failure::Protocol, load(twice, Reuse::KeepAlive));
    let garbage = canned(b"SMTP\r\n\r\n");
    assert_fails_as(Failure::Protocol, load(garbage, Reuse::KeepAlive));
    let half = server(|mut stream| {
        let mut buffer = [0; 4096];
        let _ = stream.read(&mut buffer).and_then(|_| stream.write_all(&OK[..40]));
    });
    assert_fails_as(Failure::Closed, load(half, Reuse::KeepAlive));
    let silent = canned(b"");
    let impatient = Load { timeout: Duration::from_millis(100), ..load(silent, Reuse::KeepAlive) };
    assert_fails_as(Failure::Timeout, impatient);
}

#[test]
fn a_target_that_is_not_there_ends_the_run_with_its_address() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let mut generator = Generator::new(load(address, Reuse::KeepAlive)).expect("a generator");
    let error = generator.drive(Duration::from_secs(60)).expect_err("nobody listens");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

struct TlsServer {
    address: SocketAddr,
    certificate: CertificateDer<'static>,
}

fn tls_server() -> TlsServer {
    tls_server_with(OK.to_vec())
}

/// A TLS server that answers every request with these bytes.
fn tls_server_with(bytes: Vec<u8>) -> TlsServer {
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(vec!["bench.test".to_owned()])
        .and_then(|parameters| parameters.self_signed(&key))
        .expect("a certificate");
    let certificate = certificate.der().clone();
    let private = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], private)
        .expect("a pair");
    let config = Arc::new(config);
    let address = server(move |stream| {
        let session = rustls::ServerConnection::new(config.clone()).expect("a session");
        answer(rustls::StreamOwned::new(session, stream), &bytes);
    });
    TlsServer { address, certificate }
}

fn tls_load(server: &TlsServer, trust: Trust, reuse: Reuse, resume: bool) -> Load {
    let tls = client_config(trust, Offer::OneSuite, resume).expect("a client");
    Load { tls: Some(tls), ..load(server.address, reuse) }
}

#[test]
fn tls_without_resumption_makes_full_handshakes_of_the_one_suite() {
    let server = tls_server();
    let trust = Trust::Exactly(server.certificate.clone());
    let load = tls_load(&server, trust, Reuse::Never, false);
    let mut generator = Generator::new(load).expect("a generator");
    drive_until(&mut generator, |stats| stats.requests >= 20);
    assert_eq!((generator.stats.resumed, generator.stats.failure_count()), (0, 0));
    let seen: Vec<_> = generator.tls_seen().keys().map(String::as_str).collect();
    assert_eq!(seen, ["TLSv1.3 X25519 TLS13_AES_128_GCM_SHA256"]);
}

#[test]
fn tls_with_resumption_resumes_all_but_the_first_connections() {
    let server = tls_server();
    let trust = Trust::Exactly(server.certificate.clone());
    let load = tls_load(&server, trust, Reuse::Never, true);
    let mut generator = Generator::new(load).expect("a generator");
    drive_until(&mut generator, |stats| stats.requests >= 20);
    let full = generator.stats.connections - generator.stats.resumed;
    assert!(full <= 2, "{full} full handshakes on two connections at once");
}

#[test]
fn tls_carries_answers_larger_than_its_buffers() {
    let size: usize = 1 << 20;
    let mut bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").into_bytes();
    bytes.resize(bytes.len() + size, b'x');
    let server = tls_server_with(bytes);
    let mut load = tls_load(&server, Trust::Anyone, Reuse::KeepAlive, false);
    load.requests[0].length = Some(1 << 20);
    let mut generator = Generator::new(load).expect("a generator");
    drive_until(&mut generator, |stats| stats.requests >= 5);
    assert_eq!((generator.stats.connections, generator.stats.failure_count()), (2, 0));
}

#[test]
fn another_certificate_than_the_expected_one_is_a_tls_failure() {
    let (server, other) = (tls_server(), tls_server());
    let trust = Trust::Exactly(other.certificate);
    assert_fails_as(Failure::Tls, tls_load(&server, trust, Reuse::KeepAlive, false));
}

#[test]
fn a_server_that_no_authority_vouches_for_is_a_tls_failure() {
    let server = tls_server();
    let key = KeyPair::generate().expect("a key");
    let authority = CertificateParams::new(vec!["authority.test".to_owned()])
        .and_then(|parameters| parameters.self_signed(&key))
        .expect("a certificate");
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(authority.pem().as_bytes()).expect("written");
    let trust = Trust::from_pem_file(file.path()).expect("authorities");
    assert_fails_as(Failure::Tls, tls_load(&server, trust, Reuse::KeepAlive, false));
}

/// A server that sends without pause, as long as the client takes it.
fn flood(head: &'static [u8], piece: &'static [u8]) -> SocketAddr {
    server(move |mut stream| {
        let mut buffer = [0; 4096];
        let _ = stream.read(&mut buffer);
        let pieces = piece.repeat(64 * 1024 / piece.len());
        let mut sent = stream.write_all(head);
        while sent.is_ok() {
            sent = stream.write_all(&pieces);
        }
    })
}

#[test]
fn a_target_that_sends_without_pause_does_not_keep_a_load_from_its_time() {
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let address = flood(head, b"1\r\nx\r\n");
    let load = Load { timeout: Duration::from_millis(200), ..load(address, Reuse::KeepAlive) };
    let mut generator = Generator::new(load).expect("a generator");
    let began = Instant::now();
    generator.drive(Duration::from_millis(600)).expect("the load runs");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let failures = &generator.stats.failures;
    assert!(failures.contains_key(&Failure::Timeout), "{failures:?}");
}

#[test]
fn interim_answers_without_end_are_a_protocol_failure() {
    let address = flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n");
    assert_fails_as(Failure::Protocol, load(address, Reuse::KeepAlive));
}

#[test]
fn what_is_left_of_a_large_answer_is_read_without_another_event() {
    const SIZE: usize = 5 << 20;
    let address = server(|mut stream| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").into_bytes();
        answer(&mut stream, &[head, vec![b'x'; SIZE]].concat());
    });
    let mut load = load(address, Reuse::KeepAlive);
    load.requests[0].length = Some(SIZE as u64);
    let mut generator = Generator::new(load).expect("a generator");
    drive_until(&mut generator, |stats| stats.requests >= 6);
    assert_eq!(generator.stats.failure_count(), 0);
}

/// A server that accepts, and says nothing.
fn mute() -> SocketAddr {
    server(|mut stream| {
        let mut buffer = [0; 4096];
        while stream.read(&mut buffer).is_ok_and(|size| size > 0) {}
    })
}

#[test]
fn a_handshake_that_is_not_answered_is_a_tls_failure_with_its_cause() {
    for reuse in [Reuse::KeepAlive, Reuse::Never] {
        let tls = client_config(Trust::Anyone, Offer::OneSuite, false).expect("a client");
        let load = Load { tls: Some(tls), ..load(mute(), reuse) };
        let mut generator = Generator::new(load).expect("a generator");
        generator.drive(Duration::from_millis(200)).expect("too early to give up");
        generator.drain(Duration::from_millis(200)).expect("nothing comes");
        assert_eq!(generator.stats.failures.get(&Failure::Tls), Some(&2), "{reuse:?}");
        let first = generator.stats.first_failure.as_deref().expect("a failure");
        assert!(first.contains("TLS handshake is not answered: is that port HTTPS?"), "{first}");
    }
}

#[test]
fn a_run_that_is_given_up_says_what_to_do_about_the_kind_of_failure() {
    let given_up = |load: Load| {
        let mut generator = Generator::new(load).expect("a generator");
        generator.drive(Duration::from_secs(60)).expect_err("nothing succeeds").to_string()
    };
    let status = server(|stream| answer(stream, b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"));
    let length = server(|stream| answer(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    let tls = client_config(Trust::Anyone, Offer::OneSuite, false).expect("a client");
    let silent = Load { tls: Some(tls), ..load(mute(), Reuse::KeepAlive) };
    let slow = load(mute(), Reuse::KeepAlive);
    for (load, expected) in [
        (load(status, Reuse::KeepAlive), "--status"),
        (load(length, Reuse::KeepAlive), "--length"),
        (silent, "is that port HTTPS?"),
        (Load { timeout: Duration::from_millis(500), ..slow }, "allow more time"),
    ] {
        let said = given_up(load);
        assert!(said.contains(expected) && !said.contains("start the target"), "{said}");
    }
}
