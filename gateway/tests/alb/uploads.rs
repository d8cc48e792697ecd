//! Uploads that their endpoint does not take as fast as they come, and what follows them.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use testkit::{Backend, Client, End, Gateway, sockets};

use crate::{builder, everything_to, gateway_to};

/// So small that the gateway copies it behind what else is to be written, instead of writing it
/// from where it was read.
const PIECE: usize = 3000;
/// More pieces than all buffers on the way hold.
const MANY: usize = 5000;
/// How long a gateway that could read leaves a piece unread, at the most.
const UNREAD: Duration = Duration::from_millis(300);
/// How long what must happen may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The piece with this number, each of whose bytes depends on it.
fn piece(number: usize) -> Vec<u8> {
    format!("{number:08} ").bytes().cycle().take(PIECE).collect()
}

/// Whether the gateway reads what the client has sent, within this time.
fn is_read(gateway: &Gateway, client: &Client, within: Duration) -> bool {
    let own = client.local_address();
    let start = Instant::now();
    while start.elapsed() < within {
        let end = sockets().into_iter().find(|s| s.local == gateway.http() && s.remote == own);
        if end.is_some_and(|socket| socket.unread == 0) {
            return true;
        }
    }
    false
}

/// Sends pieces, each read before the next one is sent, until the gateway reads no more. Answers
/// how many were sent, and whether the last of them was read too.
#[track_caller]
fn send_pieces(gateway: &Gateway, client: &mut Client, pieces: usize) -> (usize, bool) {
    for number in 0..pieces {
        client.send(piece(number));
        if !is_read(gateway, client, UNREAD) {
            return (number + 1, false);
        }
    }
    (pieces, true)
}

#[track_caller]
fn begin_upload(gateway: &Gateway, pieces: usize) -> Client {
    let mut client = gateway.client();
    let length = pieces * PIECE;
    client.send(format!("POST /up HTTP/1.1\r\nHost: a.test\r\nContent-Length: {length}\r\n\r\n"));
    // A busy machine may be slow, but this does come.
    assert!(is_read(gateway, &client, PATIENCE), "the head is read");
    client
}

/// Bytes of the upload that are neither with the endpoint nor in a kernel: the gateway has read
/// them, and could not write them.
fn held(backend: &Backend, pieces: usize) -> usize {
    let read = backend.received().concat();
    let head = read.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    let address = backend.address();
    let queued: usize = sockets()
        .iter()
        .map(|socket| match (socket.local == address, socket.remote == address) {
            (true, _) => socket.unread,
            (_, true) => socket.unsent,
            _ => 0,
        })
        .sum();
    (head + pieces * PIECE).saturating_sub(read.len() + queued)
}

#[test]
fn response_head_amid_an_upload_that_stands_still_costs_none_of_its_bytes() {
    const PIECES: usize = 1500;
    let (go, wait) = channel();
    let wait = Mutex::new(wait);
    let backend = Backend::with_small_window(move |connection| {
        let Some(head) = connection.head() else { return };
        wait.lock().unwrap().recv().unwrap();
        connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let body = connection.read(head.content_length().unwrap()).unwrap();
        let wrong = (0..PIECES).find(|&i| !body[i * PIECE..].starts_with(&piece(i)));
        let verdict = wrong.map_or("whole".to_owned(), |at| format!("piece {at} is another"));
        connection.send(format!("{:x}\r\n{verdict}\r\n0\r\n\r\n", verdict.len()));
    });
    let gateway = gateway_to(&backend);
    let mut client = begin_upload(&gateway, PIECES);
    let (sent, read) = send_pieces(&gateway, &mut client, PIECES);
    assert!(!read, "the upload never stood still");
    go.send(()).unwrap();
    assert_eq!(client.head().status(), 200);
    for number in sent..PIECES {
        client.send(piece(number));
    }
    let (rest, _) = client.read_to_end();
    assert_eq!(String::from_utf8_lossy(&rest), "5\r\nwhole\r\n0\r\n\r\n");
}

/// An upload of so many pieces to an endpoint that reads its head alone; if its last bytes stand
/// unsent in the gateway, then the endpoint answers, reads off the rest and serves on, while
/// another client's request comes. Answers how many pieces to try next, none after that has been.
fn answered_early(pieces: usize) -> Option<usize> {
    let (go, wait) = channel();
    let (drain, drained) = channel();
    let (wait, drained) = (Mutex::new(wait), Mutex::new(drained));
    let backend = Backend::with_small_window(move |connection| {
        while let Some(head) = connection.head() {
            let length = head.content_length().unwrap_or(0);
            if head.line.starts_with("POST /up ") {
                // An error tells that this upload has not come to stand as it should.
                let Ok(()) = wait.lock().unwrap().recv() else { return };
                connection.send_ok("early");
                let Ok(()) = drained.lock().unwrap().recv() else { return };
                if connection.read(length).is_none() {
                    return;
                }
            } else {
                let Some(body) = connection.read(length) else { return };
                connection.send_ok(&format!("{} {}", head.line, String::from_utf8_lossy(&body)));
            }
        }
    });
    // One worker, so that both clients' requests go over the same idle connections.
    let gateway = builder().workers(1).manifest("all.yaml", everything_to(&[&backend])).start();
    let mut client = begin_upload(&gateway, pieces);
    let (sent, read) = send_pieces(&gateway, &mut client, pieces);
    if !read {
        // The piece before the one that is unread is the one that is held.
        return Some(sent - 1);
    }
    if held(&backend, pieces) == 0 {
        return Some(pieces + 1);
    }
    go.send(()).unwrap();
    assert_eq!(client.response().text(), "early");
    let mut other = gateway.client();
    let body = "o".repeat(40);
    other.send(format!("POST /other HTTP/1.1\r\nHost: a.test\r\nContent-Length: 40\r\n\r\n{body}"));
    drain.send(()).unwrap();
    assert_eq!(other.response().text(), format!("POST /other HTTP/1.1 {body}"));
    // However the first client goes on, it gets its own answers.
    if client.try_send("GET /again HTTP/1.1\r\nHost: a.test\r\n\r\n").is_ok()
        && let Ok(response) = client.try_response_to("GET")
    {
        assert_eq!(response.text(), "GET /again HTTP/1.1 ");
    }
    None
}

#[test]
fn request_behind_an_upload_answered_early_is_never_swallowed_as_its_end() {
    let mut pieces = MANY;
    // How much the kernels take differs by a little from time to time.
    for _ in 0..30 {
        match answered_early(pieces) {
            Some(next) => pieces = next,
            None => return,
        }
    }
    panic!("the end of an upload was never held in the gateway");
}

#[test]
fn client_that_is_refused_before_it_has_sent_its_body_is_told_that_the_connection_ends() {
    let backend = Backend::start(|connection| {
        while connection.head().is_some() {
            connection.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno");
        }
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send(
        "PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 50\r\nExpect: 100-continue\r\n\r\n",
    );
    let response = client.response();
    assert_eq!((response.status, response.text().as_str()), (401, "no"));
    assert_eq!(response.header("connection"), Some("close"));
    assert_eq!(client.expect_end(), End::Closed);
}

#[test]
fn connection_idles_as_long_behind_a_long_upload_as_behind_any_other_request() {
    const LENGTH: usize = 3 << 20;
    let backend = Backend::start(|connection| {
        while connection.request().is_some() {
            connection.send_ok("x");
        }
    });
    let gateway = builder()
        .alb("timeouts: {head: 300ms, idle: 60s}")
        .manifest("all.yaml", everything_to(&[&backend]))
        .start();
    let mut client = gateway.client();
    for _ in 0..2 {
        client.send(format!("PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {LENGTH}\r\n\r\n"));
        client.send(vec![b'u'; LENGTH]);
        assert_eq!(client.response().text(), "x");
        assert!(client.stays_silent_for(Duration::from_millis(700)), "closed as if amid a head");
    }
    assert_eq!(client.get("a.test", "/").text(), "x");
}
