//! The backend over sockets, most of it by the generator's own sessions.

use std::fs;
use std::io::BufReader;
use std::net::TcpStream;
use std::thread;

use super::*;
use crate::load::session::pump::Pumped;
use crate::load::session::tcp::Tcp;
use crate::load::session::websocket::Upgrade;
use crate::load::session::{Event, Expect, Operation, Prepared};
use crate::load::udp::{Config, Driver, Pace};

struct Addresses {
    http: SocketAddr,
    tcp: SocketAddr,
    udp: SocketAddr,
}

/// Serves in a thread that ends with the test's process.
fn backend() -> Addresses {
    let folder = tempfile::tempdir().expect("a folder");
    let announce = folder.path().join("addresses");
    let any = "127.0.0.1:0".parse().expect("an address");
    let arguments = cli::Backend {
        listen: any,
        tcp_echo: Some(any),
        udp_echo: Some(any),
        name: "tested".to_owned(),
        announce: Some(announce.clone()),
    };
    thread::spawn(move || serve(&arguments));
    let deadline = Instant::now() + Duration::from_secs(20);
    while !announce.exists() {
        assert!(Instant::now() < deadline, "the backend announces no address");
        thread::yield_now();
    }
    let text = fs::read_to_string(&announce).expect("addresses");
    let find = |prefix: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(prefix)).expect(prefix);
        found.parse().expect("an address")
    };
    let http = text.lines().next().expect("a line").parse().expect("an address");
    Addresses { http, tcp: find("tcp-echo "), udp: find("udp-echo ") }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
    stream
}

/// What comes back for bytes that ask for the connection's end.
fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn get(address: SocketAddr, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
}

fn counts(address: SocketAddr) -> serde_json::Value {
    let answer = get(address, "/count.json");
    let body = answer.split_once("\r\n\r\n").expect("a body").1;
    serde_json::from_str(body).expect("JSON")
}

#[test]
fn statuses_and_echoes_are_as_asked_for() {
    let address = backend().http;
    let unavailable = get(address, "/status/503");
    assert!(unavailable.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{unavailable}");
    assert!(unavailable.ends_with("\r\n\r\n503\n"), "{unavailable}");
    assert!(get(address, "/status/204").ends_with("X-Backend: tested\r\n\r\n"));
    let echo = get(address, "/echo");
    assert!(echo.ends_with("\r\n\r\nGET /echo HTTP/1.1\r\nHost: x\r\nConnection: close"), "{echo}");
    assert_eq!(get(address, "/status/99"), "", "nonsense is cut off");
    assert!(get(address, "/ws").starts_with("HTTP/1.1 400 "));
}

#[test]
fn chunked_bodies_are_passed_over_in_pieces_of_every_size() {
    let address = backend().http;
    let request = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
        5\r\nhello\r\n0\r\n\r\nGET /count HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    for piece in [1, 7, 80, 1000] {
        let mut stream = connect(address);
        stream.set_nodelay(true).expect("a socket");
        for part in request.as_bytes().chunks(piece) {
            stream.write_all(part).expect("sent");
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
    }
    assert_eq!(counts(address)["request_body_bytes"], 4 * 15);
}

#[test]
fn a_delayed_answer_holds_up_nobody_else() {
    let address = backend().http;
    let (start, mut slow) = (Instant::now(), connect(address));
    let request = "GET /delay/300 HTTP/1.1\r\nHost: x\r\n\r\n\
        GET /count HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    slow.write_all(request.as_bytes()).expect("sent");
    // Asked for with the slow answer under way, and counted before the request behind that.
    while counts(address)["requests"].as_u64() < Some(2) {
        assert!(start.elapsed() < Duration::from_secs(20));
    }
    assert!(get(address, "/").starts_with("HTTP/1.1 200 OK"));
    let mut answers = String::new();
    BufReader::new(slow).read_to_string(&mut answers).expect("answers");
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
}

#[test]
fn websocket_messages_of_all_sizes_come_back_as_sent() {
    let address = backend().http;
    let upgrade = Upgrade::new("bench.test", "/ws", &[], 4).expect("an upgrade");
    let mut pumped = Pumped::open(connect(address), upgrade.session());
    pumped.run_until(|events| matches!(events, [Event::Ready])).expect("upgraded");
    pumped.events.clear();
    let sizes = [0, 1, 125, 126, 65_535, 65_536, 1_000_003, 5];
    for (first, four) in sizes.chunks(4).enumerate() {
        for (at, size) in four.iter().enumerate() {
            let payload: Vec<u8> = (0..*size).map(|at| (at % 253) as u8).collect();
            let expect = Expect { sha256: Some([0; 32]), ..Expect::default() };
            let prepared = Prepared::WebSocket { payload, binary: true };
            pumped.start((first * 4 + at) as u32, &Operation { prepared, expect });
        }
        for (ticket, received) in pumped.take_done(4).expect("echoes") {
            let size = sizes[ticket as usize];
            let payload: Vec<u8> = (0..size).map(|at| (at % 253) as u8).collect();
            let expected = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &payload);
            assert_eq!(received.length, size as u64);
            assert_eq!(received.sha256.as_ref().map(|sum| &sum[..]), Some(expected.as_ref()));
        }
    }
    let counted = counts(address);
    assert_eq!(counted["websocket_connections"], 1);
    assert_eq!(counted["websocket_messages"], sizes.len());
    assert_eq!(counted["websocket_bytes"], sizes.iter().sum::<usize>());
}

#[test]
fn bytes_over_tcp_come_back_and_are_counted() {
    let Addresses { http, tcp, .. } = backend();
    let mut pumped = Pumped::open(connect(tcp), Tcp::default());
    let prepared = Prepared::Tcp { pattern: b"pattern".to_vec(), send: 2_000_000, receive: None };
    pumped.start(1, &Operation { prepared, expect: Expect::default() });
    assert_eq!(pumped.take_done(1).expect("an echo")[0].1.length, 2_000_000);
    let counted = counts(http);
    assert_eq!(
        (&counted["tcp_connections"], &counted["tcp_bytes"]),
        (&1.into(), &2_000_000.into())
    );
    assert_eq!(counted["connections"], 1, "the one that asks");
}

#[test]
fn datagrams_come_back_and_the_counts_agree() {
    let Addresses { http, udp, .. } = backend();
    let config = Config {
        target: udp,
        flows: 4,
        pace: Pace::Closed { window: 8, timeout: Duration::from_secs(5) },
        payload: 200,
        echo: true,
        slice: Duration::from_millis(100),
    };
    let mut driver = Driver::new(config.clone()).expect("a driver");
    driver.drive(Duration::from_millis(200)).expect("it runs");
    driver.drain(Duration::from_secs(10)).expect("it drains");
    let echoed = driver.counts.sent;
    assert!(echoed >= 32, "{echoed}");
    assert_eq!((driver.counts.received, driver.counts.lost()), (echoed, 0));
    let one_way = Config { echo: false, pace: Pace::Open { rate: 1000.0 }, ..config };
    let mut driver = Driver::new(one_way).expect("a driver");
    driver.drive(Duration::from_millis(100)).expect("it runs");
    let all = echoed + driver.counts.sent;
    let deadline = Instant::now() + Duration::from_secs(20);
    while counts(http)["udp_packets"].as_u64() < Some(all) {
        assert!(Instant::now() < deadline, "{} of {all}", counts(http));
    }
    let counted = counts(http);
    assert_eq!((&counted["udp_bytes"], &counted["udp_unsent"]), (&(all * 200).into(), &0.into()));
}
