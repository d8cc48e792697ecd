//! A client that sends what it is told to, byte for byte.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, HandshakeKind, ProtocolVersion, StreamOwned};
use rustls_pki_types::{CertificateDer, ServerName};

use crate::message::{Head, Incomplete, Response};
use crate::net::{DEADLINE, SMALL_SEGMENT, SMALL_WINDOW};
use crate::retype;
use crate::tls::TlsSettings;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In order: FIN, and with TLS a close_notify before it.
    Closed,
    /// By RST, or TLS without close_notify.
    Aborted,
}

/// One connection to the gateway. Every read has a deadline of [`DEADLINE`].
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    /// Read but not yet asked for.
    buf: Vec<u8>,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Client {
    /// Connects over TCP.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect_timeout(&address, DEADLINE).unwrap())
    }

    /// Connects over TCP with so small a receive buffer that little of a response is under way to
    /// a client that doesn't read.
    #[track_caller]
    pub fn with_small_window(address: SocketAddr) -> Self {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(address),
            socket2::Type::STREAM,
            None,
        )
        .unwrap();
        socket.set_recv_buffer_size(SMALL_WINDOW).unwrap();
        socket.set_tcp_mss(SMALL_SEGMENT).unwrap();
        socket.connect_timeout(&address.into(), DEADLINE).unwrap();
        Self::over(socket.into())
    }

    /// Goes on over a connection made elsewhere.
    #[track_caller]
    pub fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: Stream::Plain(stream), buf: Vec::new() }
    }

    /// Connects over TLS, and fails the test where the handshake does.
    #[track_caller]
    pub fn connect_tls(address: SocketAddr, name: &str, settings: &TlsSettings) -> Self {
        Self::try_tls(address, name, settings).unwrap()
    }

    /// Connects over TLS.
    ///
    /// # Errors
    /// What went wrong in the handshake.
    pub fn try_tls(
        address: SocketAddr,
        name: &str,
        settings: &TlsSettings,
    ) -> Result<Self, std::io::Error> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let session = ClientConnection::new(Arc::clone(settings.config()), name).unwrap();
        let stream = TcpStream::connect_timeout(&address, DEADLINE)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        stream.set_nodelay(true)?;
        let mut stream = StreamOwned::new(session, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self { stream: Stream::Tls(Box::new(stream)), buf: Vec::new() })
    }

    /// The TLS session.
    #[track_caller]
    fn session(&self) -> &ClientConnection {
        match &self.stream {
            Stream::Tls(stream) => &stream.conn,
            Stream::Plain(_) => panic!("not a TLS connection"),
        }
    }

    /// The certificate that the gateway showed.
    #[track_caller]
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.session().peer_certificates().unwrap().first().unwrap().clone().into_owned()
    }

    /// The TLS version agreed on.
    #[track_caller]
    pub fn tls_version(&self) -> ProtocolVersion {
        self.session().protocol_version().unwrap()
    }

    /// The protocol agreed on by ALPN.
    #[track_caller]
    pub fn alpn(&self) -> Option<String> {
        self.session().alpn_protocol().map(|p| String::from_utf8_lossy(p).into_owned())
    }

    /// The name of the key exchange group agreed on.
    #[track_caller]
    pub fn key_exchange(&self) -> String {
        format!("{:?}", self.session().negotiated_key_exchange_group().unwrap().name())
    }

    /// Whether the handshake took up an earlier session.
    #[track_caller]
    pub fn is_resumed(&self) -> bool {
        self.session().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Asks for new traffic keys in both directions (TLS 1.3 KeyUpdate).
    #[track_caller]
    pub fn refresh_traffic_keys(&mut self) {
        match &mut self.stream {
            Stream::Tls(stream) => stream.conn.refresh_traffic_keys().unwrap(),
            Stream::Plain(_) => panic!("not a TLS connection"),
        }
    }

    /// Sends these bytes.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    /// Sends these bytes.
    ///
    /// # Errors
    /// The connection's, as where the gateway has closed it.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(bytes.as_ref()),
            Stream::Tls(stream) => {
                stream.write_all(bytes.as_ref())?;
                stream.flush()
            }
        }
    }

    /// Sends application data and, in the same segment but a record of its own, bytes of handshake
    /// messages, whole or not. The client's settings must be [`TlsSettings::sending_handshakes`].
    #[track_caller]
    pub fn send_with_handshake(&mut self, bytes: impl AsRef<[u8]>, handshake: &[u8]) {
        let Stream::Tls(stream) = &mut self.stream else { panic!("not a TLS connection") };
        stream.conn.writer().write_all(bytes.as_ref()).unwrap();
        stream.conn.writer().write_all(&retype::marked(handshake)).unwrap();
        stream.flush().unwrap();
    }

    /// Sends a GET with a Host.
    #[track_caller]
    pub fn send_get(&mut self, host: &str, path: &str) {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    }

    /// Sends a GET and reads the response.
    #[track_caller]
    pub fn get(&mut self, host: &str, path: &str) -> Response {
        self.send_get(host, path);
        self.response()
    }

    /// Ends the sending side; responses can still be read.
    #[track_caller]
    pub fn finish_sending(&mut self) {
        match &mut self.stream {
            Stream::Plain(stream) => stream.shutdown(Shutdown::Write).unwrap(),
            Stream::Tls(stream) => {
                stream.conn.send_close_notify();
                stream.flush().unwrap();
                stream.sock.shutdown(Shutdown::Write).unwrap();
            }
        }
    }

    /// Ends the sending side, unless the gateway has ended the connection before.
    pub fn finish_sending_if_open(&mut self) {
        _ = self.socket().shutdown(Shutdown::Write);
    }

    /// Ends the connection with RST.
    #[track_caller]
    pub fn reset(self) {
        let stream = match self.stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => stream.sock,
        };
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Reads more into the buffer; the connection's end where that has come.
    #[track_caller]
    fn fill(&mut self) -> Result<(), End> {
        let mut piece = [0; 64 * 1024];
        let read = match &mut self.stream {
            Stream::Plain(stream) => stream.read(&mut piece),
            Stream::Tls(stream) => stream.read(&mut piece),
        };
        match read {
            Ok(0) => Err(End::Closed),
            Ok(len) => {
                self.buf.extend_from_slice(piece.get(..len).unwrap());
                Ok(())
            }
            Err(error) => match error.kind() {
                ErrorKind::ConnectionReset
                | ErrorKind::UnexpectedEof
                | ErrorKind::BrokenPipe
                | ErrorKind::ConnectionAborted => Err(End::Aborted),
                ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                    panic!(
                        "nothing came for {DEADLINE:?}; had {:?}",
                        self.buf.escape_ascii().to_string()
                    )
                }
                _ => panic!("reading: {error}"),
            },
        }
    }

    /// Whether nothing arrives for this long. For asserting that something does *not* happen,
    /// where no condition can be polled: use it with short times and only there.
    #[track_caller]
    pub fn stays_silent_for(&mut self, time: Duration) -> bool {
        if !self.buf.is_empty() {
            return false;
        }
        self.socket().set_read_timeout(Some(time)).unwrap();
        let mut one = [0; 1];
        let silent = match &mut self.stream {
            Stream::Plain(stream) => stream.peek(&mut one),
            Stream::Tls(stream) => stream.read(&mut one),
        };
        self.socket().set_read_timeout(Some(DEADLINE)).unwrap();
        matches!(silent, Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    /// Reads at most `piece` bytes every `pause`, for as long as `time` says. The time is what this
    /// is about: a client that is never fast, and never still.
    #[track_caller]
    pub fn read_slowly(&mut self, piece: usize, pause: Duration, time: Duration) {
        let start = Instant::now();
        let mut bytes = vec![0; piece];
        while start.elapsed() < time {
            thread::sleep(pause);
            let read = match &mut self.stream {
                Stream::Plain(stream) => stream.read(&mut bytes),
                Stream::Tls(stream) => stream.read(&mut bytes),
            };
            let took = start.elapsed();
            let len = read.unwrap_or_else(|error| panic!("cut off after {took:?}: {error}"));
            assert!(len > 0, "ended after {took:?} with {} bytes", self.buf.len());
            self.buf.extend_from_slice(bytes.get(..len).unwrap());
        }
    }

    fn socket(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => &stream.sock,
        }
    }

    /// The client's own address.
    #[track_caller]
    pub fn local_address(&self) -> SocketAddr {
        self.socket().local_addr().unwrap()
    }

    /// Reads exactly this many bytes.
    #[track_caller]
    pub fn read(&mut self, len: usize) -> Vec<u8> {
        while self.buf.len() < len {
            if let Err(end) = self.fill() {
                panic!("{end:?} after {:?}", self.buf.escape_ascii().to_string());
            }
        }
        self.buf.drain(..len).collect()
    }

    /// Reads a line of text; its end is left out.
    #[track_caller]
    pub fn text_line(&mut self) -> String {
        loop {
            if let Some(end) = self.buf.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buf.drain(..=end).collect();
                return String::from_utf8_lossy(&line).trim_end().to_owned();
            }
            self.fill().unwrap_or_else(|end| panic!("{end:?} within a line: {:?}", self.buf));
        }
    }

    /// Reads exactly this many bytes and drops them.
    #[track_caller]
    pub fn skip(&mut self, len: u64) {
        let mut left = len;
        loop {
            let taken = left.min(self.buf.len() as u64);
            self.buf.drain(..taken as usize);
            left -= taken;
            if left == 0 {
                return;
            }
            if let Err(end) = self.fill() {
                panic!("{end:?} with {left} of {len} bytes to come");
            }
        }
    }

    /// Reads all that comes until the connection ends.
    #[track_caller]
    pub fn read_to_end(&mut self) -> (Vec<u8>, End) {
        let end = loop {
            if let Err(end) = self.fill() {
                break end;
            }
        };
        (std::mem::take(&mut self.buf), end)
    }

    /// Fails the test unless the connection ends here, with nothing more in it.
    #[track_caller]
    pub fn expect_end(&mut self) -> End {
        let (rest, end) = self.read_to_end();
        assert!(rest.is_empty(), "more came: {:?}", rest.escape_ascii().to_string());
        end
    }

    /// How long it takes until the connection ends.
    #[track_caller]
    pub fn time_to_end(&mut self) -> Duration {
        let start = Instant::now();
        self.read_to_end();
        start.elapsed()
    }

    /// Reads a head, interim or final.
    ///
    /// # Errors
    /// How the connection ended before it.
    pub fn try_head(&mut self) -> Result<Head, End> {
        loop {
            if let Some(at) = self.buf.windows(4).position(|w| w == b"\r\n\r\n") {
                let head: Vec<u8> = self.buf.drain(..at + 4).collect();
                return Ok(Head::parse(&head));
            }
            self.fill()?;
        }
    }

    /// Reads a head, interim or final.
    #[track_caller]
    pub fn head(&mut self) -> Head {
        match self.try_head() {
            Ok(head) => head,
            Err(end) => panic!("{end:?} after {:?}", self.buf.escape_ascii().to_string()),
        }
    }

    /// Reads a whole response to anything but HEAD.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        self.response_to("GET")
    }

    /// Reads a whole response to a request with this method.
    #[track_caller]
    pub fn response_to(&mut self, method: &str) -> Response {
        match self.try_response_to(method) {
            Ok(response) => response,
            Err(incomplete) => panic!("response cut off: {incomplete:?}"),
        }
    }

    /// Reads a whole response to a request with this method.
    ///
    /// # Errors
    /// What had come when the connection ended too early.
    pub fn try_response_to(&mut self, method: &str) -> Result<Response, Incomplete> {
        let mut interim = Vec::new();
        let head = loop {
            match self.try_head() {
                Ok(head) if head.status() < 200 && head.status() != 101 => interim.push(head),
                Ok(head) => break head,
                Err(end) => {
                    let body = std::mem::take(&mut self.buf);
                    return Err(Incomplete { head: None, body, end });
                }
            }
        };
        let status = head.status();
        let mut response = Response { status, head, interim, ..Response::default() };
        match self.read_body(method, &mut response) {
            Ok(()) => Ok(response),
            Err(end) => Err(Incomplete { head: Some(response.head), body: response.body, end }),
        }
    }

    fn read_body(&mut self, method: &str, response: &mut Response) -> Result<(), End> {
        let bodiless = method == "HEAD" || matches!(response.status, 101 | 204 | 304);
        if bodiless {
            return Ok(());
        }
        if response.head.is_chunked() {
            return self.read_chunks(response);
        }
        match response.head.content_length() {
            Some(length) => self.take_into(length, &mut response.body),
            None => loop {
                response.body.append(&mut self.buf);
                match self.fill() {
                    Ok(()) => {}
                    Err(End::Closed) => return Ok(()),
                    Err(end) => return Err(end),
                }
            },
        }
    }

    fn read_chunks(&mut self, response: &mut Response) -> Result<(), End> {
        loop {
            let line = self.line()?;
            let size = usize::from_str_radix(line.split(';').next().unwrap_or_default(), 16)
                .unwrap_or_else(|_| panic!("bad chunk size {line:?}"));
            if size == 0 {
                break;
            }
            response.chunks.push(size);
            self.take_into(size, &mut response.body)?;
            assert_eq!(self.line()?, "", "chunk without CRLF");
        }
        let mut trailers = String::from("\r\n");
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            trailers.push_str(&line);
            trailers.push_str("\r\n");
        }
        response.trailers = Head::parse(trailers.as_bytes());
        Ok(())
    }

    /// A line without its CRLF.
    fn line(&mut self) -> Result<String, End> {
        loop {
            if let Some(at) = self.buf.windows(2).position(|w| w == b"\r\n") {
                let line: Vec<u8> = self.buf.drain(..at + 2).take(at).collect();
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            self.fill()?;
        }
    }

    /// Moves this many bytes, or those that come before the connection ends.
    fn take_into(&mut self, len: usize, body: &mut Vec<u8>) -> Result<(), End> {
        let wanted = body.len() + len;
        loop {
            let taken = self.buf.len().min(wanted - body.len());
            body.extend(self.buf.drain(..taken));
            if body.len() == wanted {
                return Ok(());
            }
            self.fill()?;
        }
    }
}

/// One GET on a connection of its own.
#[track_caller]
pub fn get(address: SocketAddr, host: &str, path: &str) -> Response {
    let mut client = Client::connect(address);
    client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
    client.response()
}
