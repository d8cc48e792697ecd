//! Upstream servers that record what they get, and answer by script.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::message::Head;
use crate::net::{DEADLINE, SMALL_SEGMENT, SMALL_WINDOW, eventually, unique_address};

/// All backends listen on this port, each on an address of its own, as pods do.
const PORT: u16 = 8000;

/// Bytes received, by connection.
type Record = Arc<Mutex<Vec<Arc<Mutex<Vec<u8>>>>>>;

/// A server on an address of its own. It stops listening when dropped.
#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
    received: Record,
    stopping: Arc<AtomicBool>,
}

impl Backend {
    /// Serves each connection with `script`, in a thread of its own; the connection is closed when
    /// that returns.
    #[track_caller]
    pub fn start(script: impl Fn(&mut Connection) + Send + Sync + 'static) -> Self {
        Self::start_at(SocketAddr::new(unique_address(), PORT), script)
    }

    /// As [`Backend::start`], on an address where none listens: that of a backend dropped before,
    /// or one with port 0 for any free port.
    #[track_caller]
    pub fn start_at(
        address: SocketAddr,
        script: impl Fn(&mut Connection) + Send + Sync + 'static,
    ) -> Self {
        // The accepting thread of a backend dropped just now lets go of the address very soon.
        let listener = eventually("backend's address is free", || TcpListener::bind(address).ok());
        Self::serve(listener, script)
    }

    /// As [`Backend::start`], with so small a receive buffer that an upload stands still soon after
    /// the script has stopped reading.
    #[track_caller]
    pub fn with_small_window(script: impl Fn(&mut Connection) + Send + Sync + 'static) -> Self {
        let address = SocketAddr::new(unique_address(), PORT);
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        // Connections inherit it, and offer no more from their first segment on.
        socket.set_recv_buffer_size(SMALL_WINDOW).unwrap();
        socket.set_tcp_mss(SMALL_SEGMENT).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(128).unwrap();
        Self::serve(socket.into(), script)
    }

    fn serve(
        listener: TcpListener,
        script: impl Fn(&mut Connection) + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let received = Record::default();
        let stopping = Arc::new(AtomicBool::new(false));
        let backend =
            Self { address, received: Arc::clone(&received), stopping: Arc::clone(&stopping) };
        let script = Arc::new(script);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stopping.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let record = Arc::default();
                let number = {
                    let mut connections = received.lock().unwrap();
                    connections.push(Arc::clone(&record));
                    connections.len() - 1
                };
                let script = Arc::clone(&script);
                thread::spawn(move || {
                    script(&mut Connection::new(stream, number, record));
                });
            }
        });
        backend
    }

    /// Answers every request with these bytes.
    #[track_caller]
    pub fn answering(response: impl Into<Vec<u8>>) -> Self {
        let response = response.into();
        Self::start(move |connection| {
            while connection.request().is_some() {
                connection.send(&response);
            }
        })
    }

    /// Answers every request with a 200 and this text.
    #[track_caller]
    pub fn named(text: &str) -> Self {
        Self::answering(ok(text))
    }

    /// Answers every request with a 200 whose body is the request itself, byte for byte.
    #[track_caller]
    pub fn echo() -> Self {
        Self::start(|connection| {
            while let Some(request) = connection.request() {
                let len = request.raw.len();
                connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n"));
                connection.send(&request.raw);
            }
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> usize {
        self.received.lock().unwrap().len()
    }

    /// All bytes received so far, by connection.
    pub fn received(&self) -> Vec<Vec<u8>> {
        let connections = self.received.lock().unwrap();
        connections.iter().map(|bytes| bytes.lock().unwrap().clone()).collect()
    }

    /// As [`Backend::received`], as text and joined.
    pub fn received_text(&self) -> String {
        String::from_utf8_lossy(&self.received().concat()).into_owned()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, which then drops the listener.
        _ = TcpStream::connect_timeout(&self.address, DEADLINE);
    }
}

/// A 200 with this text.
fn ok(text: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len())
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its head.
    pub head: Head,
    /// Its body without framing.
    pub body: Vec<u8>,
    /// All its bytes.
    pub raw: Vec<u8>,
}

/// A backend's end of a connection from the gateway.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    number: usize,
    record: Arc<Mutex<Vec<u8>>>,
    buf: Vec<u8>,
}

impl Connection {
    fn new(stream: TcpStream, number: usize, record: Arc<Mutex<Vec<u8>>>) -> Self {
        // Idle connections stand as long as the gateway keeps them.
        stream.set_read_timeout(Some(6 * DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, number, record, buf: Vec::new() }
    }

    /// How many connections the backend had accepted before.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Reads more; false where the connection has ended.
    fn fill(&mut self) -> bool {
        let mut piece = [0; 64 * 1024];
        match self.stream.read(&mut piece) {
            Ok(len) if len > 0 => {
                let piece = piece.get(..len).unwrap();
                self.record.lock().unwrap().extend_from_slice(piece);
                self.buf.extend_from_slice(piece);
                true
            }
            _ => false,
        }
    }

    /// Reads up to and with `end`; none where the connection ends before.
    pub fn read_until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.buf.windows(end.len()).position(|w| w == end) {
                return Some(self.buf.drain(..at + end.len()).collect());
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// Reads exactly this many bytes; none where the connection ends before.
    pub fn read(&mut self, len: usize) -> Option<Vec<u8>> {
        while self.buf.len() < len {
            if !self.fill() {
                return None;
            }
        }
        Some(self.buf.drain(..len).collect())
    }

    /// Reads whatever has come, at least a byte; empty where the connection has ended.
    pub fn read_some(&mut self) -> Vec<u8> {
        if self.buf.is_empty() {
            self.fill();
        }
        std::mem::take(&mut self.buf)
    }

    /// Reads and counts all bytes until the connection ends, without keeping them.
    pub fn drain(&mut self) -> u64 {
        let mut total = std::mem::take(&mut self.buf).len() as u64;
        let mut piece = vec![0; 256 * 1024];
        while let Ok(len) = self.stream.read(&mut piece) {
            if len == 0 {
                break;
            }
            total += len as u64;
        }
        total
    }

    /// Reads and counts this many bytes without keeping them.
    pub fn skip(&mut self, len: u64) -> u64 {
        let mut total = std::mem::take(&mut self.buf).len() as u64;
        let mut piece = vec![0; 256 * 1024];
        while total < len {
            match self.stream.read(&mut piece) {
                Ok(read) if read > 0 => total += read as u64,
                _ => break,
            }
        }
        total
    }

    /// Reads a request's head; none where the connection ends before.
    pub fn head(&mut self) -> Option<Head> {
        self.read_until(b"\r\n\r\n").map(|text| Head::parse(&text))
    }

    /// Reads a whole request; none where the connection ends before.
    pub fn request(&mut self) -> Option<Request> {
        let mut raw = self.read_until(b"\r\n\r\n")?;
        let head = Head::parse(&raw);
        let mut body = Vec::new();
        if head.is_chunked() {
            loop {
                let line = self.read_until(b"\r\n")?;
                raw.extend_from_slice(&line);
                let text = String::from_utf8_lossy(&line);
                let size = usize::from_str_radix(text.trim_end(), 16).unwrap();
                if size == 0 {
                    break;
                }
                let chunk = self.read(size + 2)?;
                raw.extend_from_slice(&chunk);
                body.extend(chunk.into_iter().take(size));
            }
            loop {
                let line = self.read_until(b"\r\n")?;
                raw.extend_from_slice(&line);
                if line == b"\r\n" {
                    break;
                }
            }
        } else if let Some(length) = head.content_length() {
            body = self.read(length)?;
            raw.extend_from_slice(&body);
        }
        Some(Request { head, body, raw })
    }

    /// Sends these bytes. A gateway that has gone away is no failure here.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        _ = self.try_send(bytes);
    }

    /// Sends these bytes.
    ///
    /// # Errors
    /// The connection's, as where the gateway has closed it.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Sends a 200 with this text.
    pub fn send_ok(&mut self, text: &str) {
        self.send(ok(text));
    }

    /// Ends the sending side.
    pub fn finish_sending(&mut self) {
        _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Ends the connection with RST once the script returns.
    pub fn reset_at_end(&mut self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}
