//! The origin server behind the targets: tiny, so that little of the load's core goes to it.
//!
//! HTTP/1.1 with keep-alive, one thread, one epoll. `GET /bytes/N` answers N bytes, `/count` the
//! number of requests and connections so far, everything else [`DEFAULT_BODY`] bytes. Speaks to
//! well-behaved proxies: requests with chunked bodies are refused.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;
use memchr::memmem;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

/// Bytes of an answer to which no size was asked for.
pub(crate) const DEFAULT_BODY: u64 = 1024;
/// Longest request head.
const MAX_HEAD: usize = 64 * 1024;
/// Bytes of content written at once.
const BLOCK: usize = 256 * 1024;
const LISTENER: Token = Token(usize::MAX);

/// Serves until the process is ended. The address that was bound is written to `announce`.
pub(crate) fn serve(listen: SocketAddr, name: &str, announce: Option<&Path>) -> anyhow::Result<()> {
    let mut listener = TcpListener::bind(listen).with_context(|| format!("{listen}"))?;
    let address = listener.local_addr().context("own address")?;
    let mut poll = Poll::new().context("epoll")?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE).context("epoll")?;
    match announce {
        Some(path) => {
            // Renamed into place, so that a reader never sees half of it.
            let partial = path.with_extension("partial");
            std::fs::write(&partial, address.to_string()).context("announcing the address")?;
            std::fs::rename(&partial, path).context("announcing the address")?;
        }
        None => writeln!(io::stdout(), "listening on {address}").context("standard output")?,
    }
    let mut server = Server::new(name);
    let mut events = Events::with_capacity(1024);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            polled => polled.context("epoll")?,
        }
        for event in &events {
            if event.token() == LISTENER {
                server.accept(&listener, &poll);
            } else {
                server.turn(event.token().0, event.is_read_closed() || event.is_error());
            }
        }
    }
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
    requests: u64,
    accepted: u64,
}

#[derive(Debug)]
struct Served {
    stream: TcpStream,
    /// Bytes of a request whose end has not come.
    partial: Vec<u8>,
    /// Bytes of a request's body still to be skipped.
    skip: u64,
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
            requests: 0,
            accepted: 0,
        }
    }

    fn accept(&mut self, listener: &TcpListener, poll: &Poll) {
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
                    self.accepted += 1;
                    *slot = Some(Served {
                        stream,
                        partial: Vec::new(),
                        skip: 0,
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
        match self.act(&mut served, ending) {
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
    fn act(&mut self, served: &mut Served, ending: bool) -> io::Result<bool> {
        if !served.write_out(&self.block)? {
            return Ok(true);
        }
        if !served.partial.is_empty() {
            // Requests that came behind one whose answer the socket did not take at once.
            self.take(served, &[])?;
            if !served.is_sent() {
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
            let answered = self.take(served, scratch.get(..size).unwrap_or_default());
            self.scratch = scratch;
            answered?;
            if !served.write_out(&self.block)? || (drained && !served.close) {
                return Ok(true);
            }
        }
    }

    /// Takes bytes of requests and answers those that are complete.
    fn take(&mut self, served: &mut Served, bytes: &[u8]) -> io::Result<()> {
        if served.partial.is_empty() {
            let used = self.answer_all(served, bytes)?;
            served.partial.extend_from_slice(bytes.get(used..).unwrap_or_default());
        } else {
            let mut joined = std::mem::take(&mut served.partial);
            joined.extend_from_slice(bytes);
            let used = self.answer_all(served, &joined)?;
            joined.drain(..used);
            served.partial = joined;
        }
        if served.partial.len() > MAX_HEAD {
            Err(io::ErrorKind::InvalidData.into())
        } else {
            Ok(())
        }
    }

    /// Answers the requests in these bytes; returns how many bytes they took.
    fn answer_all(&mut self, served: &mut Served, bytes: &[u8]) -> io::Result<usize> {
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            let skipped = served.skip.min(rest.len() as u64);
            served.skip -= skipped;
            used += skipped as usize;
            let rest = rest.get(skipped as usize..).unwrap_or_default();
            // The next request waits until the answer before it is out.
            if served.close || served.skip > 0 || !served.is_sent() {
                return Ok(used);
            }
            let Some(end) = memmem::find(rest, b"\r\n\r\n") else { return Ok(used) };
            let request = rest.get(..end).unwrap_or_default();
            used += end + 4;
            self.requests += 1;
            self.answer(served, request)?;
        }
    }

    fn answer(&mut self, served: &mut Served, request: &[u8]) -> io::Result<()> {
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
                    (Some(_), _) => return Err(io::ErrorKind::Unsupported.into()),
                    (None, Some(length)) => {
                        length.parse().map_err(|_| io::ErrorKind::InvalidData)?
                    }
                    (None, None) => 0,
                };
        }
        if target == b"/count" {
            let count = format!("{} {}\n", self.requests, self.accepted);
            served.unsent = head(&self.name, count.len() as u64);
            served.unsent.extend_from_slice(count.as_bytes());
        } else if let Some(size) = target.strip_prefix(b"/bytes/") {
            let size = std::str::from_utf8(size).ok().and_then(|size| size.parse().ok());
            let size = size.ok_or(io::ErrorKind::InvalidData)?;
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
}

impl Served {
    fn is_sent(&self) -> bool {
        self.unsent.is_empty() && self.content == 0
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
