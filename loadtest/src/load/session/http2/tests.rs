//! The session against canned frames, and against nginx.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::super::Expect;
use super::super::pump::{Pumped, feed};
use super::*;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_head(payload.len(), kind, flags, stream, &mut out);
    out.extend_from_slice(payload);
    out
}

fn settings(entries: &[(u16, u32)]) -> Vec<u8> {
    let mut out = Vec::new();
    put_settings(entries, &mut out);
    out
}

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        hpack::encode(name, value, &mut out);
    }
    out
}

fn request(path: &str, method: &str, body: Vec<u8>, expect: Expect) -> Operation {
    let request =
        Request { method, scheme: "http", authority: "bench.test", path, headers: &[], body };
    operation(request, expect).expect("an operation")
}

fn get() -> Operation {
    let expect = Expect { counted_header: Some("x-backend".to_owned()), ..Expect::default() };
    request("/", "GET", Vec::new(), expect)
}

/// A session with so many GETs under way, tickets from 10.
fn waiting(count: u32) -> Http2 {
    let mut session = Http2::new(100);
    let (mut out, mut events) = (Vec::new(), Vec::new());
    session.open(&mut out, &mut events);
    assert!(matches!(events[..], [Event::Ready]));
    assert!(out.starts_with(PREFACE));
    for ticket in 10..10 + count {
        session.start(ticket, &get(), &mut out);
    }
    session
}

/// The frames' heads in bytes that a session has sent.
fn heads(mut bytes: &[u8]) -> Vec<Head> {
    let mut all = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk() {
        let head = Head::parse(*head);
        bytes = &rest[head.length..];
        all.push(head);
    }
    all
}

#[test]
fn answers_are_read_in_pieces_of_every_size() {
    let head = block(&[(":status", "200"), ("content-length", "5"), ("x-backend", "b1")]);
    let (first, second) = head.split_at(3);
    let bytes = [
        settings(&[(setting::MAX_CONCURRENT_STREAMS, 7), (99, 1)]),
        frame(kind::PING, 0, 0, b"12345678"),
        frame(kind::HEADERS, flag::END_HEADERS, 3, &block(&[(":status", "103"), ("link", "x")])),
        frame(kind::HEADERS, 0, 3, first),
        frame(kind::CONTINUATION, 0, 3, b""),
        frame(kind::CONTINUATION, flag::END_HEADERS, 3, second),
        frame(0x77, 0, 0, b"an extension"),
        frame(kind::DATA, 0, 3, b"hel"),
        frame(
            kind::HEADERS,
            flag::END_HEADERS | flag::END_STREAM | flag::PADDED | flag::PRIORITY,
            1,
            &[&[2][..], &[0; 5], &block(&[(":status", "404")]), &[0; 2]].concat(),
        ),
        frame(kind::DATA, flag::PADDED, 3, &[&[4][..], b"lo", &[0; 4]].concat()),
        frame(kind::DATA, 0, 3, b""),
        frame(
            kind::HEADERS,
            flag::END_HEADERS | flag::END_STREAM,
            3,
            &block(&[("a-trailer", "x")]),
        ),
    ]
    .concat();
    for piece in 1..=bytes.len() {
        let mut session = waiting(2);
        let (events, out) = feed(&mut session, &bytes, piece).expect("proper frames");
        let [Event::Done(10, first), Event::Done(11, second)] = &events[..] else {
            panic!("in pieces of {piece}: {events:?}");
        };
        assert_eq!((first.status, first.length), (404, 0));
        assert_eq!((second.status, second.length), (200, 5));
        assert_eq!(second.counted.as_deref(), Some("b1"));
        let sent: Vec<_> = heads(&out).iter().map(|head| (head.kind, head.flags)).collect();
        assert_eq!(sent, [(kind::SETTINGS, flag::ACK), (kind::PING, flag::ACK)]);
        assert!(out.ends_with(b"12345678"));
        assert_eq!(session.capacity(), 7);
    }
}

#[test]
fn the_digest_is_of_the_content() {
    let mut session = waiting(0);
    let expect = Expect { sha256: Some([0; 32]), ..Expect::default() };
    session.start(1, &request("/", "GET", Vec::new(), expect), &mut Vec::new());
    let bytes = [
        settings(&[]),
        frame(kind::HEADERS, flag::END_HEADERS, 1, &block(&[(":status", "200")])),
        frame(kind::DATA, 0, 1, b"a"),
        frame(kind::DATA, flag::END_STREAM, 1, b"bc"),
    ]
    .concat();
    let (events, _) = feed(&mut session, &bytes, 4).expect("proper frames");
    let [Event::Done(1, received)] = &events[..] else { panic!("{events:?}") };
    let expected = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"abc");
    assert_eq!(received.sha256.as_ref().map(|sum| &sum[..]), Some(expected.as_ref()));
}

#[test]
fn content_is_sent_as_far_as_the_windows_allow() {
    let mut session = waiting(0);
    let mut events = Vec::new();
    let limits = settings(&[(setting::INITIAL_WINDOW_SIZE, 40_000)]);
    session.receive(&limits, &mut Vec::new(), &mut events).expect("settings");
    let upload = request("/", "POST", vec![7; 100_000], Expect::default());
    let mut out = Vec::new();
    session.start(1, &upload, &mut out);
    session.start(2, &upload, &mut out);
    let content = |out: &[u8], stream| -> usize {
        let data = heads(out);
        let data = data.iter().filter(|h| h.kind == kind::DATA && h.stream == stream);
        data.map(|head| head.length).sum()
    };
    // The first takes its stream's window, the second what the connection's has left.
    assert_eq!((content(&out, 1), content(&out, 3)), (40_000, 65_535 - 40_000));
    assert!(heads(&out).iter().all(|head| head.length <= MAX_PAYLOAD));
    let mut more = Vec::new();
    let update = |stream, by: u32| frame(kind::WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    session.receive(&update(0, 1_000_000), &mut more, &mut events).expect("a window");
    assert_eq!((content(&more, 1), content(&more, 3)), (0, 40_000 - 25_535));
    more.clear();
    session.receive(&update(1, 1_000_000), &mut more, &mut events).expect("a window");
    session
        .receive(&settings(&[(setting::INITIAL_WINDOW_SIZE, 100_000)]), &mut more, &mut events)
        .expect("settings");
    assert_eq!((content(&more, 1), content(&more, 3)), (60_000, 60_000));
    let heads = heads(&more);
    let ends = heads.iter().filter(|head| head.kind == kind::DATA && head.has(flag::END_STREAM));
    assert_eq!(ends.count(), 2);
}

#[test]
fn one_stream_fails_and_the_others_go_on() {
    let mut session = waiting(3);
    let refused = 7_u32.to_be_bytes();
    let bytes = [
        settings(&[]),
        frame(kind::RST_STREAM, 0, 3, &refused),
        frame(kind::HEADERS, flag::END_HEADERS, 1, &block(&[("x", "no status")])),
        frame(kind::DATA, flag::END_STREAM, 1, b"passed over"),
        frame(
            kind::HEADERS,
            flag::END_HEADERS | flag::END_STREAM,
            5,
            &block(&[(":status", "204")]),
        ),
    ]
    .concat();
    let (events, out) = feed(&mut session, &bytes, 5).expect("the connection goes on");
    let [Event::Failed(11, reset), Event::Failed(10, malformed), Event::Done(12, done)] =
        &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!(reset.kind, Failure::Closed);
    assert!(reset.detail.contains("REFUSED_STREAM; it may be tried again"), "{reset:?}");
    assert_eq!(malformed.kind, Failure::Protocol);
    assert_eq!(done.status, 204);
    let last = *heads(&out).last().expect("a frame");
    assert_eq!((last.kind, last.stream), (kind::RST_STREAM, 1));
}

#[test]
fn goaway_refuses_what_was_not_begun_and_lets_the_rest_end() {
    let mut session = waiting(2);
    let bytes = [
        settings(&[]),
        frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]),
        frame(
            kind::HEADERS,
            flag::END_HEADERS | flag::END_STREAM,
            1,
            &block(&[(":status", "200")]),
        ),
        frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]),
    ]
    .concat();
    let (mut events, _) = feed(&mut session, &bytes, 3).expect("a proper end");
    session.closed(&mut events).expect("nothing is cut off");
    assert!(
        matches!(&events[..], [Event::Failed(11, _), Event::Closing, Event::Done(10, _)]),
        "{events:?}"
    );
    assert_eq!(session.capacity(), 0);
}

#[test]
fn used_up_stream_numbers_close_the_connection_in_order() {
    let mut session = waiting(0);
    session.next_stream = LAST_STREAM;
    assert_eq!(session.capacity(), 100);
    session.start(1, &get(), &mut Vec::new());
    assert_eq!(session.capacity(), 0);
    let (events, _) = feed(&mut session, &settings(&[]), 100).expect("settings");
    assert!(matches!(events[..], [Event::Closing]), "{events:?}");
}

#[test]
fn wrong_lengths_of_content_are_malformed() {
    for content in [&b"four"[..], b"and six"] {
        let mut session = waiting(1);
        let head = block(&[(":status", "200"), ("content-length", "5")]);
        let bytes = [
            settings(&[]),
            frame(kind::HEADERS, flag::END_HEADERS, 1, &head),
            frame(kind::DATA, flag::END_STREAM, 1, content),
        ]
        .concat();
        let (events, _) = feed(&mut session, &bytes, 100).expect("the connection goes on");
        assert!(
            matches!(&events[..], [Event::Failed(10, failed)] if failed.kind == Failure::Protocol),
            "{events:?}"
        );
    }
}

#[test]
fn a_smaller_table_of_the_peer_is_acknowledged_in_the_next_block() {
    let mut session = waiting(0);
    feed(&mut session, &settings(&[(setting::HEADER_TABLE_SIZE, 0)]), 100).expect("settings");
    let mut out = Vec::new();
    session.start(1, &get(), &mut out);
    session.start(2, &get(), &mut out);
    let (first, second) = (Head::parse(*out.first_chunk().expect("a head")), heads(&out)[1]);
    assert_eq!(out[HEAD], hpack::NO_TABLE);
    assert_eq!(first.length, second.length + 1);
}

#[test]
fn long_blocks_continue_in_further_frames() {
    let mut session = waiting(0);
    let path = format!("/{}", "~".repeat(40_000));
    let mut out = Vec::new();
    session.start(1, &request(&path, "GET", Vec::new(), Expect::default()), &mut out);
    let sent = heads(&out);
    let kinds: Vec<_> = sent.iter().map(|head| head.kind).collect();
    assert_eq!(kinds, [kind::HEADERS, kind::CONTINUATION, kind::CONTINUATION]);
    let complete: Vec<_> = sent.iter().map(|head| head.has(flag::END_HEADERS)).collect();
    assert_eq!(complete, [false, false, true]);
}

#[test]
fn frames_that_break_the_protocol_fail_the_connection_and_say_how() {
    let status = block(&[(":status", "200")]);
    let long = [0, 0x40, 1, 0, 0, 0, 0, 0, 1].to_vec();
    for (bytes, expected) in [
        (frame(kind::DATA, 0, 5, b"x"), "never opened"),
        (frame(kind::HEADERS, flag::END_HEADERS, 2, &status), "never opened"),
        (frame(kind::DATA, flag::PADDED, 1, &[9, 0]), "more padding than payload"),
        (frame(kind::HEADERS, flag::END_HEADERS, 1, &[0xff]), "ends within a field"),
        (frame(kind::CONTINUATION, 0, 1, b""), "without HEADERS"),
        (
            [frame(kind::HEADERS, 0, 1, b""), frame(kind::PING, 0, 0, &[0; 8])].concat(),
            "no CONTINUATION",
        ),
        (frame(kind::PING, 0, 0, b"short"), "malformed PING"),
        (frame(kind::SETTINGS, 0, 0, b"x"), "malformed SETTINGS"),
        (settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 31)]), "window of 2 GiB"),
        (settings(&[(setting::MAX_FRAME_SIZE, 1)]), "MAX_FRAME_SIZE of 1"),
        (frame(kind::WINDOW_UPDATE, 0, 0, &[0; 4]), "WINDOW_UPDATE by 0"),
        (frame(kind::GOAWAY, 0, 0, b"x"), "malformed GOAWAY"),
        (frame(kind::RST_STREAM, 0, 1, b"x"), "malformed RST_STREAM"),
        (frame(kind::PUSH_PROMISE, 0, 1, b"xxxx"), "push is switched off"),
        (long, "frame of 16385 bytes"),
    ] {
        let mut session = waiting(1);
        let bytes = [settings(&[]), bytes].concat();
        let failed = feed(&mut session, &bytes, 7).expect_err(expected);
        assert_eq!(failed.kind, Failure::Protocol);
        assert!(failed.detail.contains(expected), "{expected}: {}", failed.detail);
    }
    let failed = feed(&mut waiting(1), b"HTTP/1.1 400 Bad Request\r\n\r\n", 4);
    assert!(failed.expect_err("HTTP/1.1").detail.contains("not HTTP/2"));
}

#[test]
fn a_connection_that_ends_early_is_a_failure() {
    let failed = waiting(2).closed(&mut Vec::new()).expect_err("two streams are open");
    assert_eq!(failed.kind, Failure::Closed);
    assert!(failed.detail.contains("2 streams"), "{failed:?}");
}

#[test]
fn random_frames_neither_panic_nor_pile_up() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u32
    };
    let mut failures = 0;
    for _ in 0..5_000 {
        let mut session = waiting(4);
        let mut bytes = settings(&[]);
        for _ in 0..random() % 12 {
            let payload: Vec<u8> = (0..random() % 40).map(|_| random() as u8).collect();
            let kind = (random() % 11) as u8;
            bytes.extend(frame(kind, random() as u8, random() % 10, &payload));
        }
        let piece = 1 + random() as usize % 64;
        failures += u64::from(feed(&mut session, &bytes, piece).is_err());
        assert!(session.streams.len() <= 4 && session.partial.len() <= MAX_PAYLOAD);
    }
    assert!(failures > 1_000, "{failures}");
}

/// An nginx of its own, in the clear with prior knowledge; ended when dropped.
struct Nginx {
    process: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Nginx {
    fn start(extra: &str) -> Self {
        // nginx takes no port 0; the port is free at this moment, and another one is tried if
        // somebody was faster.
        for _ in 0..10 {
            let folder = tempfile::tempdir().expect("a folder");
            let address = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
            let address = address.expect("an address");
            if let Some(process) = launch(folder.path(), address, extra) {
                return Self { process, address, _folder: folder };
            }
        }
        panic!("nginx does not start: install it with scripts/deps.sh");
    }

    fn session(&self, streams: usize) -> Pumped<Http2> {
        let stream = TcpStream::connect(self.address).expect("a connection");
        Pumped::open(stream, Http2::new(streams))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The master process ends its worker when it is asked, not when it is killed.
        let _ = kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGTERM);
        let _ = self.process.wait();
    }
}

fn launch(folder: &Path, address: SocketAddr, extra: &str) -> Option<Child> {
    let prefix = folder.display();
    fs::write(folder.join("large"), vec![b'x'; 3_000_000]).expect("a file");
    let mut open = fs::metadata(folder).expect("a folder").permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut open, 0o755);
    fs::set_permissions(folder, open).expect("a folder");
    let config = format!(
        "daemon off; pid {prefix}/pid; error_log {prefix}/error.log; worker_processes 1;\n\
         events {{ worker_connections 64; }}\n\
         http {{ access_log off; client_body_temp_path {prefix}/b; proxy_temp_path {prefix}/p;\n\
         fastcgi_temp_path {prefix}/f; uwsgi_temp_path {prefix}/u; scgi_temp_path {prefix}/s;\n\
         client_max_body_size 100m; {extra}\n\
         server {{ listen {address} http2; root {prefix};\n\
         location = /small {{ add_header X-Backend one; return 200 hello; }}\n\
         location = /up {{ proxy_pass http://unix:{prefix}/up; }}\n\
         location = /missing {{ return 404; }} }}\n\
         server {{ listen unix:{prefix}/up; return 200 taken; }} }}\n"
    );
    let path = folder.join("nginx.conf");
    fs::write(&path, config).expect("a file");
    let mut process = Command::new("nginx")
        .arg("-c")
        .arg(&path)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nginx: install it with scripts/deps.sh");
    let deadline = Instant::now() + Duration::from_secs(20);
    // It writes its number once it has its port.
    while !folder.join("pid").exists() && Instant::now() < deadline {
        if process.try_wait().expect("a child").is_some() {
            return None;
        }
        std::thread::yield_now();
    }
    Some(process)
}

#[test]
fn nginx_answers_many_requests_at_once() {
    let nginx = Nginx::start("");
    let mut pumped = nginx.session(32);
    let expect = Expect { counted_header: Some("x-backend".to_owned()), ..Expect::default() };
    let small = request("/small", "GET", Vec::new(), expect);
    let missing = request("/missing", "HEAD", Vec::new(), Expect::default());
    for round in 0..20 {
        for ticket in 0..32 {
            pumped.start(ticket, if ticket % 8 == 7 { &missing } else { &small });
        }
        assert_eq!(pumped.session.capacity(), 0);
        let done = pumped.take_done(32).expect("answers");
        assert_eq!(done.len(), 32, "round {round}");
        for (ticket, received) in done {
            if ticket % 8 == 7 {
                assert_eq!((received.status, received.length), (404, 0));
            } else {
                assert_eq!((received.status, received.length), (200, 5));
                assert_eq!(received.counted.as_deref(), Some("one"));
            }
        }
    }
}

#[test]
fn nginx_sends_large_answers_and_their_digest_is_right() {
    let nginx = Nginx::start("");
    let mut pumped = nginx.session(4);
    let content = vec![b'x'; 3_000_000];
    let expected = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &content);
    let expect = Expect { sha256: Some([0; 32]), ..Expect::default() };
    let large = request("/large", "GET", Vec::new(), expect);
    for ticket in 0..4 {
        pumped.start(ticket, &large);
    }
    for (_, received) in pumped.take_done(4).expect("answers") {
        assert_eq!((received.status, received.length), (200, 3_000_000));
        assert_eq!(received.sha256.as_ref().map(|sum| &sum[..]), Some(expected.as_ref()));
    }
}

#[test]
fn nginx_takes_large_uploads_through_its_windows() {
    let nginx = Nginx::start("");
    let mut pumped = nginx.session(2);
    // nginx takes all of it before it asks the server behind; the windows are used up many times.
    let upload = request("/up", "POST", vec![9; 2_000_000], Expect::default());
    pumped.start(1, &upload);
    pumped.start(2, &upload);
    for (_, received) in pumped.take_done(2).expect("answers") {
        assert_eq!((received.status, received.length), (200, 5));
    }
    assert!(pumped.session.uploads.is_empty(), "all of it was sent");
}

#[test]
fn nginx_ends_the_connection_after_its_number_of_requests() {
    let nginx = Nginx::start("keepalive_requests 3;");
    let mut pumped = nginx.session(1);
    let small = request("/small", "GET", Vec::new(), Expect::default());
    for ticket in 0..3 {
        pumped.start(ticket, &small);
        let is_done = |event: &Event| matches!(event, Event::Done(done, _) if *done == ticket);
        pumped.run_until(|events| events.iter().any(is_done)).expect("an answer");
    }
    let is_closing = |event: &Event| matches!(event, Event::Closing);
    pumped.run_until(|events| events.iter().any(is_closing)).expect("GOAWAY");
    assert_eq!(pumped.session.capacity(), 0);
}

/// What a session with one GET under way says of bytes that never end the answer.
#[track_caller]
fn assert_floods(bytes: &[u8], expected: &str) {
    let mut session = waiting(1);
    let failed = feed(&mut session, bytes, 16 * 1024).expect_err("a flood");
    assert_eq!(failed.kind, Failure::Protocol, "{failed:?}");
    assert!(failed.detail.contains(expected), "{failed:?}");
}

#[test]
fn frames_without_end_that_bring_nothing_are_a_failure() {
    let head = frame(kind::HEADERS, flag::END_HEADERS, 1, &block(&[(":status", "200")]));
    let empty = |kind: u8| frame(kind, 0, 1, b"").repeat(2000);
    let data = [settings(&[]), head, empty(kind::DATA)].concat();
    assert_floods(&data, "more than 1000 empty DATA frames in a row");
    let open = frame(kind::HEADERS, 0, 1, b"");
    let continued = [settings(&[]), open, empty(kind::CONTINUATION)].concat();
    assert_floods(&continued, "more than 1000 empty CONTINUATION frames in a row");
}

#[test]
fn pings_and_settings_whose_answers_are_not_taken_are_a_failure() {
    let pings = [settings(&[]), frame(kind::PING, 0, 0, b"12345678").repeat(5000)].concat();
    assert_floods(&pings, "PING floods: more than 65536 bytes");
    assert_floods(&settings(&[]).repeat(10_000), "SETTINGS floods: more than 65536 bytes");
    // Answers that leave are no flood, however many there are.
    let mut session = waiting(1);
    let (mut out, mut events) = (Vec::new(), Vec::new());
    session.receive(&settings(&[]), &mut out, &mut events).expect("settings");
    for _ in 0..10_000 {
        out.clear();
        let ping = frame(kind::PING, 0, 0, b"12345678");
        session.receive(&ping, &mut out, &mut events).expect("a ping");
    }
}

#[test]
fn interim_answers_without_end_fail_their_stream() {
    let interim = frame(kind::HEADERS, flag::END_HEADERS, 1, &block(&[(":status", "103")]));
    let bytes = [settings(&[]), interim.repeat(33)].concat();
    let (events, _) = feed(&mut waiting(1), &bytes, 7).expect("the connection goes on");
    let [Event::Failed(10, failed)] = &events[..] else { panic!("{events:?}") };
    assert!(failed.detail.contains("too many interim answers"), "{failed:?}");
}
