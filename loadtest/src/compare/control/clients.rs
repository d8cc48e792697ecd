//! Clients that go on while something changes: a gentle, steady load on a thread of its own, in
//! which every request counts.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// Connections, each with a request in its turn.
const CONNECTIONS: usize = 4;
/// Time from one request to the next.
const PAUSE: Duration = Duration::from_millis(1);
/// Time allowed for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest answer.
const MAX_ANSWER: usize = 64 * 1024;

/// What the clients saw.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub(crate) struct Seen {
    /// Requests sent.
    pub(crate) requests: u64,
    /// Those among them that were not answered with 200 and a whole body.
    pub(crate) failed: u64,
    /// What was wrong the first time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) first_failure: Option<String>,
    /// The slowest answer, ms.
    pub(crate) slowest_ms: f64,
}

/// Clients at work.
#[derive(Debug)]
pub(crate) struct Clients {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Seen>>,
}

impl Clients {
    /// Begins to ask an address for these hosts in turn.
    pub(crate) fn start(address: SocketAddr, hosts: Vec<String>) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = stop.clone();
        let thread = std::thread::Builder::new()
            .name("clients".to_owned())
            .spawn(move || work(address, &hosts, &asked))
            .context("a thread")?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Ends them and says what they saw.
    pub(crate) fn finish(mut self) -> anyhow::Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { bail!("the clients have ended before") };
        thread.join().map_err(|_| anyhow::anyhow!("the clients' thread panicked"))
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn work(address: SocketAddr, hosts: &[String], stop: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    let mut connections: Vec<Option<TcpStream>> = (0..CONNECTIONS).map(|_| None).collect();
    let mut hosts = hosts.iter().cycle();
    while !stop.load(Ordering::Relaxed) {
        for connection in &mut connections {
            let Some(host) = hosts.next() else { return seen };
            let start = Instant::now();
            let asked = ask(connection, address, host);
            seen.requests += 1;
            match asked {
                Ok(()) => {
                    let took = start.elapsed().as_secs_f64() * 1e3;
                    seen.slowest_ms = seen.slowest_ms.max(took);
                }
                Err(error) => {
                    *connection = None;
                    seen.failed += 1;
                    seen.first_failure.get_or_insert_with(|| format!("{error:#}"));
                }
            }
            std::thread::sleep(PAUSE);
        }
    }
    seen
}

/// One request. A connection that the server has closed meanwhile, as it may, is replaced before
/// anything is sent on it.
fn ask(connection: &mut Option<TcpStream>, address: SocketAddr, host: &str) -> anyhow::Result<()> {
    if connection.as_ref().is_some_and(|stream| !is_open(stream)) {
        *connection = None;
    }
    let stream = match connection {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect_timeout(&address, TIMEOUT).context("connecting")?;
            stream.set_nodelay(true).context("socket")?;
            stream.set_read_timeout(Some(TIMEOUT)).context("socket")?;
            stream.set_write_timeout(Some(TIMEOUT)).context("socket")?;
            connection.insert(stream)
        }
    };
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).context("sending")?;
    if !answer(stream)? {
        *connection = None;
    }
    Ok(())
}

/// Whether nothing has come, not even the end.
fn is_open(stream: &TcpStream) -> bool {
    let peeked = stream.set_nonblocking(true).and_then(|()| {
        let peeked = stream.peek(&mut [0]);
        stream.set_nonblocking(false)?;
        peeked
    });
    peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// Reads an answer; says whether the connection stays.
fn answer(stream: &mut TcpStream) -> anyhow::Result<bool> {
    let mut answer = Vec::new();
    let mut block = [0; 4096];
    loop {
        let size = stream.read(&mut block).context("reading")?;
        if size == 0 {
            bail!("the connection was closed in place of an answer");
        }
        answer.extend_from_slice(block.get(..size).unwrap_or_default());
        if answer.len() > MAX_ANSWER {
            bail!("an answer without end");
        }
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut fields);
        let httparse::Status::Complete(length) = head.parse(&answer).context("no HTTP")? else {
            continue;
        };
        let field = |name: &str| {
            let field = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(field.value).ok()
        };
        let status = head.code.unwrap_or(0);
        if status != 200 {
            bail!("status {status}");
        }
        let content: usize =
            field("content-length").and_then(|v| v.parse().ok()).context("no Content-Length")?;
        if answer.len() >= length + content {
            return Ok(!field("connection").is_some_and(|v| v.eq_ignore_ascii_case("close")));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Answers each connection's requests with these pieces and then closes it.
    fn server(answers: &'static [&'static str], connections: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("its address");
        std::thread::spawn(move || {
            for _ in 0..connections {
                let (mut stream, _) = listener.accept().expect("a client");
                for answer in answers {
                    let mut request = [0; 1024];
                    let size = stream.read(&mut request).expect("a request");
                    assert!(size > 0);
                    stream.write_all(answer.as_bytes()).expect("sent");
                }
            }
        });
        address
    }

    #[test]
    fn a_connection_closed_between_requests_is_no_failure() {
        let address = server(&["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"], 2);
        let mut connection = None;
        ask(&mut connection, address, "a").expect("answered");
        let deadline = Instant::now() + Duration::from_secs(20);
        while is_open(connection.as_ref().expect("kept")) {
            assert!(Instant::now() < deadline, "the server closes it");
            std::thread::yield_now();
        }
        ask(&mut connection, address, "a").expect("answered on another connection");
    }

    #[test]
    fn what_is_not_a_whole_200_is_a_failure() {
        for (answers, expected) in [
            (&["HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"][..], "status 502"),
            (&["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"][..], "was closed"),
            (&[""][..], "was closed"),
            (&["nonsense\r\n\r\n"][..], "no HTTP"),
        ] {
            let error = ask(&mut None, server(answers, 1), "a").expect_err("a failure");
            assert!(format!("{error:#}").contains(expected), "{error:#}");
        }
    }
}
