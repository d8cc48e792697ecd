//! The session against canned bytes; over sockets it meets the backend in that one's tests.

use super::super::pump::feed;
use super::super::{Expect, Operation};
use super::*;

fn upgrade(pipelining: usize) -> Upgrade {
    let headers = [("Sec-WebSocket-Protocol".to_owned(), "chat, echo".to_owned())];
    Upgrade::new("bench.test", "/ws", &headers, pipelining).expect("an upgrade")
}

fn message(payload: &[u8], hashed: bool) -> Operation {
    let expect = Expect { sha256: hashed.then_some([0; 32]), ..Expect::default() };
    let prepared = Prepared::WebSocket { payload: payload.to_vec(), binary: true };
    Operation { prepared, expect }
}

/// A session that has asked, and the proper answer.
fn asked(pipelining: usize) -> (WebSocket, String) {
    let mut session = upgrade(pipelining).session();
    let (mut out, mut events) = (Vec::new(), Vec::new());
    session.open(&mut out, &mut events);
    assert!(events.is_empty() && session.capacity() == 0);
    let request = String::from_utf8(out).expect("text");
    assert!(request.starts_with("GET /ws HTTP/1.1\r\nHost: bench.test\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\n"));
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nConnection: x, upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: echo\r\n\r\n",
        session.accept
    );
    (session, answer)
}

fn opened(pipelining: usize) -> WebSocket {
    let (mut session, answer) = asked(pipelining);
    feed(&mut session, answer.as_bytes(), 1000).expect("upgraded");
    session
}

/// A server's frame, unmasked.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        short @ 0..=125 => out.push(short as u8),
        medium @ 126..=0xffff => {
            out.push(126);
            out.extend((medium as u16).to_be_bytes());
        }
        long => {
            out.push(127);
            out.extend((long as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
    out
}

/// The client's frames in these bytes: kind and unmasked payload.
fn sent(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut all = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        assert_eq!((first & 0xf0, second & 0x80), (0x80, 0x80), "whole and masked");
        let (length, rest) = match second & 0x7f {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            127 => (u64::from_be_bytes(rest[..8].try_into().expect("8")) as usize, &rest[8..]),
            short => (usize::from(short), rest),
        };
        let (mask, rest) = rest.split_at(4);
        let payload = rest[..length].iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m).collect();
        all.push((first & 15, payload));
        bytes = &rest[length..];
    }
    all
}

/// RFC 6455, 1.3.
#[test]
fn the_proof_is_the_one_of_the_specification() {
    let mut proof = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    proof.update(b"dGhlIHNhbXBsZSBub25jZQ==");
    proof.update(GUID);
    assert_eq!(STANDARD.encode(proof.finish()), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

#[test]
fn messages_are_read_in_pieces_of_every_size() {
    let frames = [
        frame(0x02, b"ab"),
        frame(0x89, b"are you there"),
        frame(0x00, b""),
        frame(0x80, &[b'c'; 200]),
        frame(0x8a, b"an unasked pong"),
        frame(0x81, b""),
    ]
    .concat();
    let length = asked(2).1.len() + frames.len();
    for piece in 1..=length {
        let (mut session, answer) = asked(2);
        let (events, _) = feed(&mut session, answer.as_bytes(), piece).expect("upgraded");
        assert!(matches!(events[..], [Event::Ready]));
        assert_eq!(session.capacity(), 2);
        let mut out = Vec::new();
        session.start(7, &message(b"hello", true), &mut out);
        session.start(8, &message(b"", false), &mut out);
        assert_eq!(sent(&out), [(2, b"hello".to_vec()), (2, Vec::new())]);
        let (events, out) = feed(&mut session, &frames, piece).expect("proper frames");
        let [Event::Done(7, first), Event::Done(8, second)] = &events[..] else {
            panic!("in pieces of {piece}: {events:?}");
        };
        assert_eq!((first.length, second.length, second.sha256), (202, 0, None));
        let content = [&b"ab"[..], &[b'c'; 200]].concat();
        let expected = digest::digest(&digest::SHA256, &content);
        assert_eq!(first.sha256.as_ref().map(|sum| &sum[..]), Some(expected.as_ref()));
        assert_eq!(sent(&out), [(10, b"are you there".to_vec())]);
    }
}

#[test]
fn frames_may_follow_the_upgrade_at_once() {
    let (_, answer) = asked(1);
    let length = answer.len() + frame(0x89, b"1").len();
    for split in 1..length {
        let (mut session, answer) = asked(1);
        let bytes = [answer.as_bytes(), &frame(0x89, b"1")].concat();
        let (first, second) = bytes.split_at(split);
        let (mut out, mut events) = (Vec::new(), Vec::new());
        session.receive(first, &mut out, &mut events).expect("a part");
        session.receive(second, &mut out, &mut events).expect("the rest");
        assert!(matches!(events[..], [Event::Ready]));
        assert_eq!(sent(&out), [(10, b"1".to_vec())], "split at {split}");
    }
}

#[test]
fn large_messages_leave_in_pieces_and_pongs_wait_for_their_end() {
    let mut session = opened(2);
    let payload: Vec<u8> = (0..1_000_001_u32).map(|at| (at % 251) as u8).collect();
    let (mut out, mut all, mut events) = (Vec::new(), Vec::new(), Vec::new());
    session.start(1, &message(&payload, false), &mut out);
    session.start(2, &message(b"next", false), &mut out);
    session.receive(&frame(0x89, b"p"), &mut out, &mut events).expect("a ping");
    while !out.is_empty() {
        assert!(out.len() <= PIECE + 32, "{}", out.len());
        all.append(&mut out);
        session.refill(&mut out);
    }
    assert_eq!(sent(&all), [(2, payload), (10, b"p".to_vec()), (2, b"next".to_vec())]);
}

#[test]
fn a_close_is_answered_and_fails_what_is_under_way() {
    let mut session = opened(2);
    session.start(1, &message(b"x", false), &mut Vec::new());
    let bytes = [frame(0x88, b"\x03\xe9going away"), frame(0x82, b"ignored")].concat();
    let (mut events, out) = feed(&mut session, &bytes, 3).expect("a proper end");
    assert_eq!(sent(&out), [(8, b"\x03\xe9".to_vec())]);
    let [Event::Failed(1, failed), Event::Closing] = &events[..] else { panic!("{events:?}") };
    assert!(failed.detail.contains("1001 going away"), "{failed:?}");
    assert_eq!(session.capacity(), 0);
    session.closed(&mut events).expect("it was said before");
}

#[test]
fn a_connection_that_ends_early_is_a_failure() {
    let mut session = opened(1);
    session.start(1, &message(b"x", false), &mut Vec::new());
    assert_eq!(session.closed(&mut Vec::new()).expect_err("unanswered").kind, Failure::Closed);
    assert_eq!(asked(1).0.closed(&mut Vec::new()).expect_err("not open").kind, Failure::Closed);
    let mut events = Vec::new();
    opened(1).closed(&mut events).expect("idle");
    assert!(matches!(events[..], [Event::Closing]));
}

#[test]
fn broken_frames_are_named() {
    for (bytes, expected) in [
        (frame(0x83, b""), "unknown kind"),
        (frame(0xc2, b""), "reserved bits"),
        (vec![0x82, 0x81], "masked frame"),
        (frame(0x09, b""), "control frame"),
        (frame(0x89, &[0; 126]), "control frame"),
        (frame(0x80, b""), "nothing to continue"),
        ([frame(0x02, b""), frame(0x82, b"")].concat(), "message within a message"),
        ([frame(0x82, b""), frame(0x82, b"")].concat(), "nobody asked for"),
        (frame(0x88, b"x"), "one byte"),
        ([&[0x82, 127][..], &[0xff; 8]].concat(), "beyond 63 bits"),
    ] {
        let mut session = opened(1);
        session.start(1, &message(b"x", false), &mut Vec::new());
        let failed = feed(&mut session, &bytes, 1).expect_err(expected);
        assert_eq!(failed.kind, Failure::Protocol);
        assert!(failed.detail.contains(expected), "{expected}: {failed:?}");
    }
}

#[test]
fn wrong_answers_to_the_upgrade_are_named() {
    let proper = asked(1).1;
    for (from, to, kind, expected) in [
        ("101", "200", Failure::Status, "answered with 200"),
        ("upgrade: WebSocket", "x: y", Failure::Protocol, "`Upgrade: websocket`"),
        ("Accept: ", "Accept: a", Failure::Protocol, "Sec-WebSocket-Accept"),
        ("Protocol: echo", "Protocol: other", Failure::Protocol, "subprotocol other"),
        ("Protocol: echo", "Extensions: deflate", Failure::Protocol, "extension deflate"),
        ("HTTP/1.1", "SMTP", Failure::Protocol, "answer to the upgrade"),
    ] {
        assert!(proper.contains(from), "{from}");
        let (mut session, answer) = asked(1);
        let answer = answer.replace(from, to);
        let failed = feed(&mut session, answer.as_bytes(), 9).expect_err(expected);
        assert_eq!(failed.kind, kind, "{failed:?}");
        assert!(failed.detail.contains(expected), "{failed:?}");
    }
    let (mut session, _) = asked(1);
    let endless = ["HTTP/1.1 101 x\r\n", &"a: b\r\n".repeat(20), &"c".repeat(70_000)].concat();
    let failed = feed(&mut session, endless.as_bytes(), 1000).expect_err("too long");
    assert!(failed.detail.contains("too long"), "{failed:?}");
}

#[test]
fn upgrades_that_can_not_work_are_refused_with_the_remedy() {
    let header = |name: &str, value: &str| [(name.to_owned(), value.to_owned())];
    for (result, expected) in [
        (Upgrade::new("", "/", &[], 1), "host"),
        (Upgrade::new("h", "/a b", &[], 1), "path"),
        (Upgrade::new("h", "/", &[], 0), "pipelining 0"),
        (Upgrade::new("h", "/", &header("Sec-WebSocket-Key", "x"), 1), "leave it out"),
        (Upgrade::new("h", "/", &header("a b", "x"), 1), "not a field name"),
        (Upgrade::new("h", "/", &header("a", "x\r\ny"), 1), "not a field value"),
    ] {
        let error = format!("{:#}", result.expect_err(expected));
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn random_bytes_neither_panic_nor_pile_up() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    for _ in 0..2_000 {
        let mut session = opened(3);
        session.start(1, &message(b"x", false), &mut Vec::new());
        let bytes: Vec<u8> = (0..random()).map(|_| random()).collect();
        let _ = feed(&mut session, &bytes, 1 + usize::from(random()));
        assert!(session.partial.len() <= 125);
    }
}

#[test]
fn pings_whose_pongs_are_not_taken_are_a_failure() {
    for size in [10, 1_000_000] {
        let mut session = opened(1);
        session.start(1, &message(&vec![b'x'; size], false), &mut Vec::new());
        let pings = frame(0x89, &[b'p'; 100]).repeat(1000);
        let failed = feed(&mut session, &pings, 4096).expect_err("a flood");
        assert_eq!(failed.kind, Failure::Protocol, "{failed:?}");
        assert!(failed.detail.contains("ping floods: more than 65536 bytes"), "{failed:?}");
    }
}
