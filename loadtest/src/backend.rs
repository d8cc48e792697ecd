//! The origin server behind the targets: tiny, so that little of the load's core goes to it.
//!
//! HTTP/1.1 with keep-alive, one thread, one epoll. `GET /bytes/N` answers N bytes, `/count` the
//! number of requests and connections so far and `/count.json` all there is to count, `/delay/MS`
//! answers so many milliseconds later, `/status/N` with a status, `/echo` with the request's head,
//! `/ws` echoes WebSocket messages, and everything else is answered with [`DEFAULT_BODY`] bytes.
//! Requests' bodies are passed over. Other listeners echo bytes over TCP, and datagrams. Speaks to
//! well-behaved proxies: who sends nonsense is cut off.

mod chunked;
mod datagrams;
#[cfg(test)]
mod tests;
mod websocket;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context;
use memchr::memmem;
use mio::net::{TcpListener, TcpStream, UdpSocket};
use mio::{Events, Interest, Poll, Token};
use serde::Serialize;

use crate::cli;
use chunked::Chunked;
use datagrams::Datagrams;

/// Bytes of an answer to which no size was asked for.
pub(crate) const DEFAULT_BODY: u64 = 1024;
/// Longest request head.
const MAX_HEAD: usize = 64 * 1024;
/// Bytes of content written at once.
const BLOCK: usize = 256 * 1024;
/// The longest delay that can be asked for.
const MAX_DELAY: Duration = Duration::from_secs(3600);
const LISTENER: Token = Token(usize::MAX);
const TCP_ECHO: Token = Token(usize::MAX - 1);
const UDP_ECHO: Token = Token(usize::MAX - 2);

/// Serves until the process is ended. The addresses that were bound are announced.
pub(crate) fn serve(arguments: &cli::Backend) -> anyhow::Result<()> {
    let mut poll = Poll::new().context("epoll")?;
    let bind = |address: SocketAddr, token: Token| {
        let mut listener = TcpListener::bind(address).with_context(|| format!("{address}"))?;
        poll.registry().register(&mut listener, token, Interest::READABLE).context("epoll")?;
        anyhow::Ok(listener)
    };
    let listener = bind(arguments.listen, LISTENER)?;
    let mut addresses = listener.local_addr().context("own address")?.to_string();
    let tcp_echo = arguments.tcp_echo.map(|address| bind(address, TCP_ECHO)).transpose()?;
    if let Some(listener) = &tcp_echo {
        let address = listener.local_addr().context("own address")?;
        addresses.push_str(&format!("\ntcp-echo {address}"));
    }
    let mut datagrams = None;
    if let Some(address) = arguments.udp_echo {
        let mut socket = UdpSocket::bind(address).with_context(|| format!("{address}"))?;
        poll.registry().register(&mut socket, UDP_ECHO, Interest::READABLE).context("epoll")?;
        let address = socket.local_addr().context("own address")?;
        addresses.push_str(&format!("\nudp-echo {address}"));
        datagrams = Some(Datagrams::new(socket));
    }
    match &arguments.announce {
        Some(path) => {
            // Renamed into place, so that a reader never sees half of it.
            let partial = path.with_extension("partial");
            std::fs::write(&partial, addresses).context("announcing the address")?;
            std::fs::rename(&partial, path).context("announcing the address")?;
        }
        None => writeln!(io::stdout(), "listening on {addresses}").context("standard output")?,
    }
    let mut server = Server::new(&arguments.name);
    let mut events = Events::with_capacity(1024);
    let mut datagrams_left = false;
    loop {
        let timeout = if datagrams_left { Some(Duration::ZERO) } else { server.until_timer() };
        match poll.poll(&mut events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            polled => polled.context("epoll")?,
        }
        for event in &events {
            match event.token() {
                LISTENER => server.accept(&listener, &poll, false),
                TCP_ECHO => {
                    if let Some(listener) = &tcp_echo {
                        server.accept(listener, &poll, true);
                    }
                }
                UDP_ECHO => datagrams_left = true,
                Token(index) => server.turn(index, event.is_read_closed() || event.is_error()),
            }
        }
        if let Some(datagrams) = datagrams.as_mut().filter(|_| datagrams_left) {
            datagrams_left = datagrams.turn(&mut server.counts);
        }
        server.answer_delayed();
    }
}

/// What there is to count, as `/count.json` says it.
#[derive(Debug, Default, Serialize)]
struct Counts {
    /// HTTP requests.
    requests: u64,
    /// Connections to the HTTP listener.
    connections: u64,
    /// Bytes of requests' bodies, chunks' framing included.
    request_body_bytes: u64,
    websocket_connections: u64,
    websocket_messages: u64,
    websocket_bytes: u64,
    tcp_connections: u64,
    tcp_bytes: u64,
    udp_packets: u64,
    udp_bytes: u64,
    /// Datagrams of which no echo could be sent.
    udp_unsent: u64,
}

#[derive(Debug)]
struct Server {
    name: String,
    /// The whole answer to a request without a size, made once.
    default_answer: Vec<u8>,
    block: Vec<u8>,
    scratch: Vec<u8>,
    connections: Vec<Option<Served>>,
    free: Vec<usize>,
    counts: Counts,
    /// When which connection's answer is due, with the number of its delay.
    timers: BinaryHeap<Reverse<(Instant, usize, u64)>>,
    delays: u64,
}

/// What a connection speaks.
#[derive(Debug)]
enum Mode {
    Http,
    WebSocket(websocket::Echo),
    Echo,
}

#[derive(Debug)]
struct Served {
    stream: TcpStream,
    mode: Mode,
    /// The number of the delay that the answer to the last request waits for.
    delayed: Option<u64>,
    /// Bytes of a request whose end has not come.
    partial: Vec<u8>,
    /// Bytes of a request's body still to be skipped.
    skip: u64,
    /// A chunked body that is being skipped.
    chunked: Option<Chunked>,
    /// Bytes of an answer's head that the socket has not taken yet.
    unsent: Vec<u8>,
    /// Bytes of its content behind that.
    content: u64,
    close: bool,
}

impl Server {
    fn new(name: &str) -> Self {
        let block = vec![b'x'; BLOCK];
        let mut default_answer = head(name, DEFAULT_BODY);
        default_answer.extend(block.iter().take(DEFAULT_BODY as usize));
        Self {
            name: name.to_owned(),
            default_answer,
            block,
            scratch: vec![0; 64 * 1024],
            connections: Vec::new(),
            free: Vec::new(),
            counts: Counts::default(),
            timers: BinaryHeap::new(),
            delays: 0,
        }
    }

    /// How long nothing is due.
    fn until_timer(&self) -> Option<Duration> {
        let Reverse((due, ..)) = self.timers.peek()?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    /// Sends the answers whose delay is over.
    fn answer_delayed(&mut self) {
        while let Some(Reverse((due, index, number))) = self.timers.peek().copied()
            && due <= Instant::now()
        {
            self.timers.pop();
            // The connection may be gone, and another one in its place.
            if let Some(Some(served)) = self.connections.get_mut(index)
                && served.delayed == Some(number)
            {
                served.delayed = None;
                served.unsent.extend_from_slice(&self.default_answer);
                self.turn(index, true);
            }
        }
    }

    fn accept(&mut self, listener: &TcpListener, poll: &Poll, echoes: bool) {
        while let Ok((mut stream, _)) = listener.accept() {
            let index = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let both = Interest::READABLE | Interest::WRITABLE;
            let ready = stream
                .set_nodelay(true)
                .and_then(|()| poll.registry().register(&mut stream, Token(index), both));
            let Some(slot) = self.connections.get_mut(index) else { continue };
            match ready {
                Ok(()) => {
                    let count = match echoes {
                        true => &mut self.counts.tcp_connections,
                        false => &mut self.counts.connections,
                    };
                    *count += 1;
                    *slot = Some(Served {
                        stream,
                        mode: if echoes { Mode::Echo } else { Mode::Http },
                        delayed: None,
                        partial: Vec::new(),
                        skip: 0,
                        chunked: None,
                        unsent: Vec::new(),
                        content: 0,
                        close: false,
                    });
                }
                Err(_) => self.free.push(index),
            }
        }
    }

    fn turn(&mut self, index: usize, ending: bool) {
        let Some(mut served) = self.connections.get_mut(index).and_then(Option::take) else {
            return;
        };
        match self.act(&mut served, index, ending) {
            Ok(true) => {
                if let Some(slot) = self.connections.get_mut(index) {
                    *slot = Some(served);
                }
            }
            // Ended, or broken: a proxy that needs the answer notices for itself.
            Ok(false) | Err(_) => self.free.push(index),
        }
    }

    /// Reads and answers as far as possible; false once the connection is over.
    fn act(&mut self, served: &mut Served, index: usize, ending: bool) -> io::Result<bool> {
        if served.delayed.is_some() || !served.write_out(&self.block)? {
            return Ok(true);
        }
        if !served.partial.is_empty() {
            // Requests that came behind one whose answer the socket did not take at once.
            self.take(served, index, &[])?;
            if !served.is_ready() {
                return Ok(true);
            }
        }
        loop {
            if served.close {
                return Ok(false);
            }
            let size = match served.stream.read(&mut self.scratch) {
                Ok(0) => return Ok(false),
                Ok(size) => size,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            };
            let drained = size < self.scratch.len() && !ending;
            let scratch = std::mem::take(&mut self.scratch);
            let answered = self.take(served, index, scratch.get(..size).unwrap_or_default());
            self.scratch = scratch;
            answered?;
            let is_out = served.write_out(&self.block)? && served.is_ready();
            if !is_out || (drained && !served.close) {
                return Ok(true);
            }
        }
    }

    /// Takes bytes of requests and answers those that are complete.
    fn take(&mut self, served: &mut Served, index: usize, bytes: &[u8]) -> io::Result<()> {
        match &mut served.mode {
            Mode::Http => {}
            Mode::WebSocket(echo) => {
                served.close = echo.take(bytes, &mut served.unsent, &mut self.counts)?;
                return Ok(());
            }
            Mode::Echo => {
                self.counts.tcp_bytes += bytes.len() as u64;
                served.unsent.extend_from_slice(bytes);
                return Ok(());
            }
        }
        if served.partial.is_empty() {
            let used = self.answer_all(served, index, bytes)?;
            served.partial.extend_from_slice(bytes.get(used..).unwrap_or_default());
        } else {
            let mut joined = std::mem::take(&mut served.partial);
            joined.extend_from_slice(bytes);
            let used = self.answer_all(served, index, &joined)?;
            joined.drain(..used);
            served.partial = joined;
        }
        if let Mode::WebSocket(_) = served.mode
            && !served.partial.is_empty()
        {
            let early = std::mem::take(&mut served.partial);
            return self.take(served, index, &early);
        }
        if served.partial.len() > MAX_HEAD {
            Err(io::ErrorKind::InvalidData.into())
        } else {
            Ok(())
        }
    }

    /// Answers the requests in these bytes; returns how many bytes they took.
    fn answer_all(&mut self, served: &mut Served, index: usize, bytes: &[u8]) -> io::Result<usize> {
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            let skipped = served.skip.min(rest.len() as u64);
            served.skip -= skipped;
            used += skipped as usize;
            self.counts.request_body_bytes += skipped;
            let mut rest = rest.get(skipped as usize..).unwrap_or_default();
            if let Some(chunked) = &mut served.chunked {
                let (size, over) = chunked.skip(rest)?;
                self.counts.request_body_bytes += size as u64;
                used += size;
                rest = rest.get(size..).unwrap_or_default();
                if !over {
                    return Ok(used);
                }
                served.chunked = None;
            }
            // The next request waits until the answer before it is out.
            let is_http = matches!(served.mode, Mode::Http);
            if !is_http || served.close || served.skip > 0 || !served.is_ready() {
                return Ok(used);
            }
            let Some(end) = memmem::find(rest, b"\r\n\r\n") else { return Ok(used) };
            let request = rest.get(..end).unwrap_or_default();
            used += end + 4;
            self.counts.requests += 1;
            self.answer(served, index, request)?;
        }
    }

    fn answer(&mut self, served: &mut Served, index: usize, request: &[u8]) -> io::Result<()> {
        let line_end = memchr::memchr(b'\r', request).unwrap_or(request.len());
        let (line, fields) = request.split_at(line_end);
        let mut words = line.split(|byte| *byte == b' ');
        let method = words.next().unwrap_or_default();
        let target = words.next().unwrap_or_default();
        if method != b"GET" || field(fields, "connection").is_some() {
            served.close = field(fields, "connection")
                .is_some_and(|value| value.eq_ignore_ascii_case("close"));
            served.skip =
                match (field(fields, "transfer-encoding"), field(fields, "content-length")) {
                    (Some(coding), _) if coding.eq_ignore_ascii_case("chunked") => {
                        served.chunked = Some(Chunked::default());
                        0
                    }
                    (Some(_), _) => return Err(io::ErrorKind::Unsupported.into()),
                    (None, Some(length)) => {
                        length.parse().map_err(|_| io::ErrorKind::InvalidData)?
                    }
                    (None, None) => 0,
                };
        }
        if target == b"/count" {
            let count = format!("{} {}\n", self.counts.requests, self.counts.connections);
            served.unsent = self.small(200, count.as_bytes());
        } else if target == b"/count.json" {
            let count = serde_json::to_vec(&self.counts).map_err(io::Error::other)?;
            served.unsent = self.small(200, &count);
        } else if target == b"/echo" {
            served.unsent = self.small(200, request);
        } else if target == b"/ws" {
            match field(fields, "sec-websocket-key").filter(|_| asks_for_websocket(fields)) {
                Some(key) => {
                    self.counts.websocket_connections += 1;
                    served.unsent = websocket::accept(&self.name, key);
                    served.mode = Mode::WebSocket(websocket::Echo::default());
                }
                None => served.unsent = self.small(400, b"/ws wants a WebSocket upgrade\n"),
            }
        } else if let Some(status) = target.strip_prefix(b"/status/") {
            let status = number(status).filter(|status| (200..600).contains(status));
            let status = status.ok_or(io::ErrorKind::InvalidData)? as u16;
            served.unsent = self.small(status, format!("{status}\n").as_bytes());
        } else if let Some(delay) = target.strip_prefix(b"/delay/") {
            let delay = number(delay).map(Duration::from_millis);
            let delay = delay.filter(|delay| *delay <= MAX_DELAY);
            let due = Instant::now() + delay.ok_or(io::ErrorKind::InvalidData)?;
            self.delays += 1;
            served.delayed = Some(self.delays);
            self.timers.push(Reverse((due, index, self.delays)));
            return Ok(());
        } else if let Some(size) = target.strip_prefix(b"/bytes/") {
            let size = number(size).ok_or(io::ErrorKind::InvalidData)?;
            served.unsent = head(&self.name, size);
            served.content = if method == b"HEAD" { 0 } else { size };
        } else if method == b"HEAD" {
            served.unsent = head(&self.name, DEFAULT_BODY);
        } else {
            let sent = match served.stream.write(&self.default_answer) {
                Ok(sent) => sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            };
            served.unsent.extend(self.default_answer.get(sent..).unwrap_or_default());
            return Ok(());
        }
        served.write_out(&self.block).map(drop)
    }

    /// A whole answer with a small body.
    fn small(&self, status: u16, body: &[u8]) -> Vec<u8> {
        let body = if matches!(status, 204 | 304) { &[] } else { body };
        let reason = http::StatusCode::from_u16(status).ok();
        let reason = reason.and_then(|status| status.canonical_reason()).unwrap_or("Status");
        let mut answer = format!(
            "HTTP/1.1 {status} {reason}\r\nServer: loadtest\r\nX-Backend: {}\r\n",
            self.name
        )
        .into_bytes();
        if status != 204 {
            let length = body.len();
            let fields = format!("Content-Type: text/plain\r\nContent-Length: {length}\r\n");
            answer.extend_from_slice(fields.as_bytes());
        }
        answer.extend_from_slice(b"\r\n");
        answer.extend_from_slice(body);
        answer
    }
}

impl Served {
    fn is_sent(&self) -> bool {
        self.unsent.is_empty() && self.content == 0
    }

    /// Whether the next request may be answered.
    fn is_ready(&self) -> bool {
        self.is_sent() && self.delayed.is_none()
    }

    /// Writes what is owed; false if the socket takes no more for now.
    fn write_out(&mut self, block: &[u8]) -> io::Result<bool> {
        while !self.is_sent() {
            let wanted = usize::try_from(self.content).unwrap_or(usize::MAX).min(block.len());
            let content = block.get(..wanted).unwrap_or_default();
            let slices = [io::IoSlice::new(&self.unsent), io::IoSlice::new(content)];
            match self.stream.write_vectored(&slices) {
                Ok(sent) => {
                    let of_head = sent.min(self.unsent.len());
                    self.unsent.drain(..of_head);
                    self.content -= (sent - of_head) as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// The head of an answer.
fn head(name: &str, length: u64) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nServer: loadtest\r\nX-Backend: {name}\r\n\
         Content-Type: application/octet-stream\r\nContent-Length: {length}\r\n\r\n"
    )
    .into_bytes()
}

/// The value of a field, by its name in lower case.
fn field<'a>(fields: &'a [u8], name: &str) -> Option<&'a str> {
    let fields = std::str::from_utf8(fields).ok()?;
    fields.split("\r\n").find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// A decimal number in a path.
fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn asks_for_websocket(fields: &[u8]) -> bool {
    field(fields, "upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
}
