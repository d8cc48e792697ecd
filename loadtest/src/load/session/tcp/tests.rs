//! The session against canned bytes and small servers.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use super::super::pump::{Pumped, feed};
use super::super::{Expect, Operation};
use super::*;

fn transfer(send: u64, receive: Option<u64>, hashed: bool) -> Operation {
    let expect = Expect { sha256: hashed.then_some([0; 32]), ..Expect::default() };
    Operation { prepared: Prepared::Tcp { pattern: b"0123456789".to_vec(), send, receive }, expect }
}

/// A connection whose other end is served by a thread.
fn served(serve: impl FnOnce(TcpStream) + Send + 'static) -> Pumped<Tcp> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || serve(listener.accept().expect("a connection").0));
    Pumped::open(TcpStream::connect(address).expect("a connection"), Tcp::default())
}

#[test]
fn echoes_of_any_size_are_awaited_one_after_the_other() {
    let mut pumped = served(|mut stream| {
        let mut copy = stream.try_clone().expect("a socket");
        let _ = std::io::copy(&mut stream, &mut copy);
    });
    for (ticket, size) in [1_u64, 7, 3_000_003, 256 * 1024].into_iter().enumerate() {
        pumped.start(ticket as u32, &transfer(size, None, true));
        assert_eq!(pumped.session.capacity(), 0);
        let done = pumped.take_done(1).expect("an echo");
        assert_eq!((done[0].0, done[0].1.length), (ticket as u32, size));
        let content: Vec<u8> = b"0123456789".iter().copied().cycle().take(size as usize).collect();
        let expected = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &content);
        assert_eq!(done[0].1.sha256.as_ref().map(|sum| &sum[..]), Some(expected.as_ref()));
    }
}

#[test]
fn an_upload_ends_with_its_short_answer() {
    let mut pumped = served(|mut stream| {
        let mut content = vec![0; 1_000_000];
        stream.read_exact(&mut content).and_then(|()| stream.write_all(b"ok")).expect("served");
        let _ = stream.read(&mut content);
    });
    pumped.start(5, &transfer(1_000_000, Some(2), false));
    assert_eq!(pumped.take_done(1).expect("an answer")[0].1.length, 2);
}

#[test]
fn without_an_answer_a_transfer_ends_when_all_is_sent() {
    let (say, hear) = std::sync::mpsc::channel();
    let mut pumped = served(move |mut stream| {
        let mut content = Vec::new();
        let _ = stream.read_to_end(&mut content);
        say.send(content.len()).expect("the test listens");
    });
    pumped.start(5, &transfer(700_000, Some(0), false));
    assert_eq!(pumped.take_done(1).expect("an end")[0].1.length, 0);
    drop(pumped);
    assert_eq!(hear.recv().expect("a count"), 700_000);
}

#[test]
fn too_much_too_little_and_the_unasked_are_failures() {
    let mut session = Tcp::default();
    let unasked = feed(&mut session, b"x", 1).expect_err("nothing was asked");
    assert_eq!(unasked.kind, Failure::Protocol);
    for piece in 1..=4 {
        let mut session = Tcp::default();
        session.start(1, &transfer(3, None, false), &mut Vec::new());
        let much = feed(&mut session, b"0123", piece).expect_err("a byte too many");
        assert!(much.detail.contains("1 bytes that nobody asked for"), "{much:?}");
    }
    let mut session = Tcp::default();
    session.start(1, &transfer(3, None, false), &mut Vec::new());
    feed(&mut session, b"01", 1).expect("a part");
    let little = session.closed(&mut Vec::new()).expect_err("a byte is missing");
    assert_eq!(little.kind, Failure::Closed);
    assert!(little.detail.contains("3 bytes there and 2 back"), "{little:?}");
}

#[test]
fn large_transfers_are_left_in_pieces() {
    let mut session = Tcp::default();
    let (mut out, mut total) = (Vec::new(), 0);
    session.start(1, &transfer(1_000_003, Some(0), false), &mut out);
    while !out.is_empty() {
        assert!(out.len() as u64 <= PIECE);
        assert_eq!(out[0], b'0' + (total % 10) as u8);
        total += out.len();
        out.clear();
        session.refill(&mut out);
    }
    assert_eq!(total, 1_000_003);
}
