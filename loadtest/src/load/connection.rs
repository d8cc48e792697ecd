//! One connection of the generator: the socket, TLS, and the session that is spoken on it.
//!
//! Knows nothing of time, rotation or counting: it says what happened, [`super::Generator`] acts.

use std::io::{self, BufRead, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use nix::sys::socket::{setsockopt, sockopt};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind};
use socket2::{Domain, SockRef, Socket, Type};

use super::session::http1::Http1;
use super::session::{Event, Operation, Session, Ticket};
use super::stats::Failure;

/// Bytes taken from one connection before others, time-outs and the run's end have their turn.
const BUDGET: usize = 1 << 20;

/// A failure with its words.
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    /// The kind to count.
    pub(crate) kind: Failure,
    /// What to say about it.
    pub(crate) detail: String,
}

impl Failed {
    fn new(kind: Failure, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }
}

/// What epoll said of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Readiness {
    /// There may be something to read.
    pub(crate) readable: bool,
    /// The peer's FIN or RST was among it; without it a short read means that nothing is left to
    /// read, which saves the read that would say so.
    pub(crate) ending: bool,
}

/// What is spoken on a connection. HTTP/1.1 is called directly.
#[derive(Debug)]
pub(crate) enum Speaks {
    /// HTTP/1.1.
    Http1(Http1),
    /// Anything else.
    Other(Box<dyn Session>),
}

impl Speaks {
    fn session(&mut self) -> &mut dyn Session {
        match self {
            Self::Http1(session) => session,
            Self::Other(session) => session.as_mut(),
        }
    }

    fn receive(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        events: &mut Vec<Event>,
    ) -> Result<(), Failed> {
        match self {
            Self::Http1(session) => session.receive(input, out, events),
            Self::Other(session) => session.receive(input, out, events),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connecting,
    Handshaking,
    Open,
    Over,
}

/// A connection to the target.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    state: State,
    session: Speaks,
    /// Bytes that the socket, or TLS, has not taken yet, from `taken` on.
    out: Vec<u8>,
    taken: usize,
    /// Whether the last turn ended with its budget, and not with all that there was to read.
    has_more: bool,
}

impl Connection {
    /// Closing it will send FIN.
    pub(crate) fn end_in_order(&self) {
        // An end by RST is all that comes of an error here.
        _ = SockRef::from(&self.stream).set_linger(None);
    }

    /// Starts to connect, from a source address if one is given. Closing it later sends RST, so
    /// that no port is left in TIME_WAIT, unless it is to end in order.
    pub(crate) fn open(
        address: SocketAddr,
        source: Option<IpAddr>,
        tls: Option<(&Arc<ClientConfig>, &ServerName<'static>)>,
        session: Speaks,
        registry: &Registry,
        token: Token,
    ) -> Result<Self, Failed> {
        let connect = |error: io::Error| Failed::new(Failure::Connect, unreached(address, &error));
        let mut stream = match source {
            None => TcpStream::connect(address),
            Some(source) => connect_from(source, address),
        }
        .map_err(connect)?;
        let socket = SockRef::from(&stream);
        socket.set_linger(Some(std::time::Duration::ZERO)).map_err(connect)?;
        stream.set_nodelay(true).map_err(connect)?;
        registry
            .register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)
            .map_err(connect)?;
        let tls = tls
            .map(|(config, name)| ClientConnection::new(config.clone(), name.clone()))
            .transpose()
            .map_err(|error| Failed::new(Failure::Tls, error.to_string()))?;
        Ok(Self {
            stream,
            tls: tls.map(Box::new),
            state: State::Connecting,
            session,
            out: Vec::new(),
            taken: 0,
            has_more: false,
        })
    }

    /// Whether the handshake resumed a session.
    pub(crate) fn resumed(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.handshake_kind() == Some(HandshakeKind::Resumed))
    }

    /// Version, group and cipher suite in words, once the handshake is done.
    pub(crate) fn tls_parameters(&self) -> Option<String> {
        let tls = self.tls.as_ref()?;
        let version = tls.protocol_version()?.as_str().unwrap_or("?").replace('_', ".");
        let suite = tls.negotiated_cipher_suite()?.suite();
        // A resumed TLS 1.2 session exchanges no key.
        let group = tls.negotiated_key_exchange_group().map(|group| group.name());
        let group = group.map_or("no key exchange".to_owned(), |group| format!("{group:?}"));
        Some(format!("{version} {group} {}", suite.as_str().unwrap_or("?")))
    }

    /// What is still missing while the connection is being made.
    pub(crate) fn missing(&self) -> Option<Failed> {
        let (kind, what) = match self.state {
            State::Connecting => (Failure::Connect, "the connection is not answered"),
            State::Handshaking => (
                Failure::Tls,
                "TCP is connected, the TLS handshake is not answered: is that port HTTPS?",
            ),
            State::Open | State::Over => return None,
        };
        Some(Failed::new(kind, what))
    }

    /// Whether the peer has ended it.
    pub(crate) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Whether there may be something left to read of which epoll will not speak again.
    pub(crate) fn has_more(&self) -> bool {
        self.has_more
    }

    /// How many operations may be started now.
    pub(crate) fn capacity(&self) -> usize {
        match (&self.state, &self.session) {
            (State::Open, Speaks::Http1(session)) => session.capacity(),
            (State::Open, Speaks::Other(session)) => session.capacity(),
            _ => 0,
        }
    }

    /// Starts an operation, for which there must be capacity; [`Connection::flush`] sends it.
    pub(crate) fn start(&mut self, ticket: Ticket, operation: &Operation) -> Result<(), Failed> {
        match &mut self.session {
            // The common case goes to the socket without a copy.
            Speaks::Http1(session) if self.tls.is_none() && self.out.is_empty() => {
                let bytes = session.begin(ticket, operation);
                let sent = match self.stream.write(bytes) {
                    Ok(sent) => sent,
                    Err(error) if would_block(&error) => 0,
                    Err(error) => return Err(closed(error)),
                };
                self.out.extend_from_slice(bytes.get(sent..).unwrap_or_default());
            }
            session => session.session().start(ticket, operation, &mut self.out),
        }
        Ok(())
    }

    /// Acts on what epoll said; what happened is added to `events`. True if the connection stands
    /// since this turn.
    pub(crate) fn turn(
        &mut self,
        ready: Readiness,
        scratch: &mut [u8],
        events: &mut Vec<Event>,
    ) -> Result<bool, Failed> {
        if self.state == State::Connecting && !self.finish_connecting()? {
            return Ok(false);
        }
        let mut established = false;
        if self.state == State::Handshaking && self.tls.is_none() {
            self.begin_session(events);
            established = true;
        }
        self.flush(events)?;
        if ready.readable || ready.ending {
            let was_handshaking = self.state == State::Handshaking;
            self.receive(ready, scratch, events)?;
            established |= was_handshaking && self.state != State::Handshaking;
            self.flush(events)?;
        }
        Ok(established)
    }

    fn begin_session(&mut self, events: &mut Vec<Event>) {
        self.state = State::Open;
        self.session.session().open(&mut self.out, events);
    }

    fn finish_connecting(&mut self) -> Result<bool, Failed> {
        let connect = |error: io::Error| Failed::new(Failure::Connect, error.to_string());
        if let Some(error) = self.stream.take_error().map_err(connect)? {
            return Err(connect(error));
        }
        match self.stream.peer_addr() {
            Ok(_) => {
                self.state = State::Handshaking;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(connect(error)),
        }
    }

    /// Sends what is to be sent, as far as the socket takes it. What the session says to that is
    /// added to `events`.
    pub(crate) fn flush(&mut self, events: &mut Vec<Event>) -> Result<(), Failed> {
        if self.state == State::Over {
            return Ok(());
        }
        loop {
            if self.out.is_empty()
                && self.state == State::Open
                && let Speaks::Other(session) = &mut self.session
            {
                session.refill(&mut self.out);
            }
            let rest = self.out.get(self.taken..).unwrap_or_default();
            match &mut self.tls {
                None if rest.is_empty() => break,
                None => match self.stream.write(rest) {
                    Ok(sent) => self.taken += sent,
                    Err(error) if would_block(&error) => return Ok(()),
                    Err(error) => return Err(closed(error)),
                },
                Some(tls) => {
                    if !rest.is_empty() {
                        self.taken += tls.writer().write(rest).map_err(closed)?;
                    } else if !tls.wants_write() {
                        break;
                    }
                    while tls.wants_write() {
                        match tls.write_tls(&mut self.stream) {
                            Ok(_) => {}
                            Err(error) if would_block(&error) => return Ok(()),
                            Err(error) => return Err(closed(error)),
                        }
                    }
                }
            }
            if self.taken == self.out.len() {
                self.out.clear();
                self.taken = 0;
            }
        }
        if self.state == State::Open
            && let Speaks::Other(session) = &mut self.session
        {
            session.sent(events);
        }
        Ok(())
    }

    fn receive(
        &mut self,
        ready: Readiness,
        scratch: &mut [u8],
        events: &mut Vec<Event>,
    ) -> Result<(), Failed> {
        self.has_more = false;
        let mut taken = 0;
        while self.state != State::Over {
            if taken >= BUDGET {
                self.has_more = true;
                return Ok(());
            }
            let size = match self.stream.read(scratch) {
                Ok(size) => size,
                Err(error) if would_block(&error) => return Ok(()),
                Err(error) => return self.ended(&error.to_string(), events),
            };
            if size == 0 {
                return self.ended("end of stream", events);
            }
            taken += size;
            let bytes = scratch.get(..size).unwrap_or_default();
            match self.tls {
                Some(_) => self.receive_tls(bytes, events)?,
                None => self.session.receive(bytes, &mut self.out, events)?,
            }
            if size < scratch.len() && !ready.ending {
                return Ok(());
            }
        }
        Ok(())
    }

    fn receive_tls(&mut self, mut bytes: &[u8], events: &mut Vec<Event>) -> Result<(), Failed> {
        let tls_failed = |error: String| Failed::new(Failure::Tls, error);
        while !bytes.is_empty() {
            let Some(tls) = &mut self.tls else { return Ok(()) };
            tls.read_tls(&mut bytes).map_err(|error| tls_failed(error.to_string()))?;
            tls.process_new_packets().map_err(|error| tls_failed(error.to_string()))?;
            if self.state == State::Handshaking && !tls.is_handshaking() {
                self.begin_session(events);
            }
            let Some(tls) = &mut self.tls else { return Ok(()) };
            loop {
                let mut reader = tls.reader();
                let plain = match reader.fill_buf() {
                    Ok(plain) if !plain.is_empty() => plain,
                    _ => break, // nothing yet, or close_notify: the FIN behind it tells
                };
                let size = plain.len();
                self.session.receive(plain, &mut self.out, events)?;
                reader.consume(size);
            }
        }
        Ok(())
    }

    fn ended(&mut self, detail: &str, events: &mut Vec<Event>) -> Result<(), Failed> {
        match self.state {
            State::Open => {
                self.state = State::Over;
                self.session.session().closed(events).map_err(|failed| Failed {
                    kind: failed.kind,
                    detail: format!("{detail} {}", failed.detail),
                })
            }
            State::Handshaking => {
                Err(Failed::new(Failure::Tls, format!("{detail} within the handshake")))
            }
            State::Connecting => Err(Failed::new(Failure::Connect, detail)),
            State::Over => Ok(()),
        }
    }
}

/// Starts to connect from one address of this machine. The port is chosen when the destination is
/// known, so that each source has all ports towards each destination.
fn connect_from(source: IpAddr, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EINPROGRESS as i32) => {}
        Err(error) => return Err(error),
    }
    Ok(TcpStream::from_std(socket.into()))
}

fn unreached(address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => format!(
            "{address}: {error}: all local ports are in use towards it; name several source \
             addresses, or use fewer connections"
        ),
        _ => format!("{address}: {error}"),
    }
}

fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

fn closed(error: io::Error) -> Failed {
    Failed::new(Failure::Closed, error.to_string())
}
