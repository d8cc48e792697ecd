//! One connection of the generator: connecting, the TLS handshake, one request at a time.
//!
//! Knows nothing of time, rotation or counting: it says what happened, [`super::Generator`] acts.

use std::io::{self, BufRead, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind};
use socket2::SockRef;

use super::response::{Progress, Received, ResponseReader};
use super::stats::Failure;

/// What one turn of a connection came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing to do before the next event.
    Wait,
    /// Connected, and with TLS the handshake is done: a request may be sent.
    Established,
    /// The response is complete; the connection may carry on if it says so.
    Response(Received),
    /// The target ended an idle connection.
    Ended,
}

/// A failure with its words.
#[derive(Debug)]
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connecting,
    Handshaking,
    Idle,
    Waiting,
}

/// A connection to the target.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    state: State,
    response: ResponseReader,
    /// Bytes of a request that the socket has not taken yet (without TLS).
    unsent: Vec<u8>,
}

impl Connection {
    /// Starts to connect. Closing it later sends RST, so that no port is left in TIME_WAIT.
    pub(crate) fn open(
        address: SocketAddr,
        tls: Option<(&Arc<ClientConfig>, &ServerName<'static>)>,
        registry: &Registry,
        token: Token,
    ) -> Result<Self, Failed> {
        let connect =
            |error: io::Error| Failed::new(Failure::Connect, format!("{address}: {error}"));
        let mut stream = TcpStream::connect(address).map_err(connect)?;
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
            response: ResponseReader::new(false),
            unsent: Vec::new(),
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

    /// Whether a response is being waited for.
    pub(crate) fn is_waiting(&self) -> bool {
        self.state == State::Waiting
    }

    /// Whether the connection is still being made.
    pub(crate) fn is_opening(&self) -> bool {
        matches!(self.state, State::Connecting | State::Handshaking)
    }

    /// Sends a request; only on an established connection without one under way.
    pub(crate) fn send(&mut self, request: &[u8], head_request: bool) -> Result<(), Failed> {
        self.response.restart(head_request);
        self.state = State::Waiting;
        match &mut self.tls {
            Some(tls) => {
                tls.writer().write_all(request).map_err(closed)?;
                self.flush()
            }
            None => {
                let sent = match self.stream.write(request) {
                    Ok(sent) => sent,
                    Err(error) if would_block(&error) => 0,
                    Err(error) => return Err(closed(error)),
                };
                self.unsent.extend_from_slice(request.get(sent..).unwrap_or_default());
                Ok(())
            }
        }
    }

    /// Acts on an event. `ending` says that the peer's FIN or RST was among it; without it a
    /// short read means that nothing is left to read, which saves the read that would say so.
    pub(crate) fn turn(&mut self, ending: bool, scratch: &mut [u8]) -> Result<Turn, Failed> {
        if self.state == State::Connecting && !self.finish_connecting()? {
            return Ok(Turn::Wait);
        }
        self.flush()?;
        if self.state == State::Handshaking && self.tls.is_none() {
            self.state = State::Idle;
            return Ok(Turn::Established);
        }
        let mut turn = self.receive(ending, scratch)?;
        if let Turn::Response(received) = &mut turn {
            // The FIN may lie unread behind the response, and no further event would tell.
            received.keep_alive &= !ending;
        }
        Ok(turn)
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

    fn flush(&mut self) -> Result<(), Failed> {
        match &mut self.tls {
            Some(tls) => {
                while tls.wants_write() {
                    match tls.write_tls(&mut self.stream) {
                        Ok(_) => {}
                        Err(error) if would_block(&error) => break,
                        Err(error) => return Err(closed(error)),
                    }
                }
            }
            None => {
                while !self.unsent.is_empty() {
                    match self.stream.write(&self.unsent) {
                        Ok(sent) => drop(self.unsent.drain(..sent)),
                        Err(error) if would_block(&error) => break,
                        Err(error) => return Err(closed(error)),
                    }
                }
            }
        }
        Ok(())
    }

    fn receive(&mut self, ending: bool, scratch: &mut [u8]) -> Result<Turn, Failed> {
        loop {
            let size = match self.stream.read(scratch) {
                Ok(size) => size,
                Err(error) if would_block(&error) => return Ok(Turn::Wait),
                Err(error) => return self.ended(&error.to_string()),
            };
            if size == 0 {
                return self.ended("end of stream");
            }
            let drained = size < scratch.len() && !ending;
            let bytes = scratch.get(..size).unwrap_or_default();
            let turn = match self.tls {
                Some(_) => self.receive_tls(bytes)?,
                None => take(&mut self.response, self.state, bytes)?,
            };
            if turn != Turn::Wait {
                self.state = State::Idle;
                return Ok(turn);
            }
            if drained {
                return Ok(Turn::Wait);
            }
        }
    }

    fn receive_tls(&mut self, mut bytes: &[u8]) -> Result<Turn, Failed> {
        let Some(tls) = &mut self.tls else { return Ok(Turn::Wait) };
        let mut turn = Turn::Wait;
        while !bytes.is_empty() {
            tls.read_tls(&mut bytes)
                .map_err(|error| Failed::new(Failure::Tls, error.to_string()))?;
            let outcome = tls.process_new_packets();
            if let Err(error) = outcome {
                return Err(Failed::new(Failure::Tls, error.to_string()));
            }
            if self.state == State::Handshaking && !tls.is_handshaking() {
                self.state = State::Idle;
                turn = Turn::Established;
            }
            loop {
                let mut reader = tls.reader();
                let plain = match reader.fill_buf() {
                    Ok(plain) if !plain.is_empty() => plain,
                    _ => break, // nothing yet, or close_notify: the FIN behind it tells
                };
                let size = plain.len();
                if let done @ Turn::Response(_) = take(&mut self.response, self.state, plain)? {
                    self.state = State::Idle;
                    turn = done;
                }
                reader.consume(size);
            }
        }
        self.flush()?;
        Ok(turn)
    }

    fn ended(&mut self, detail: &str) -> Result<Turn, Failed> {
        match self.state {
            State::Waiting => match self.response.closed() {
                Some(received) => Ok(Turn::Response(received)),
                None if self.response.is_untouched() => {
                    Err(Failed::new(Failure::Closed, format!("{detail} before the response")))
                }
                None => Err(Failed::new(Failure::Closed, format!("{detail} within a response"))),
            },
            State::Idle => Ok(Turn::Ended),
            State::Handshaking => {
                Err(Failed::new(Failure::Tls, format!("{detail} within the handshake")))
            }
            State::Connecting => Err(Failed::new(Failure::Connect, detail)),
        }
    }
}

/// Gives bytes of content to the response, which must be all of it.
fn take(response: &mut ResponseReader, state: State, bytes: &[u8]) -> Result<Turn, Failed> {
    let protocol = |detail: String| Failed::new(Failure::Protocol, detail);
    if state != State::Waiting {
        return Err(protocol(format!("{} bytes that nobody asked for", bytes.len())));
    }
    match response.feed(bytes).map_err(|error| protocol(error.to_string()))? {
        Progress::More => Ok(Turn::Wait),
        Progress::Done(used, received) if used == bytes.len() => Ok(Turn::Response(received)),
        Progress::Done(used, _) => {
            Err(protocol(format!("{} bytes behind the response", bytes.len() - used)))
        }
    }
}

fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

fn closed(error: io::Error) -> Failed {
    Failed::new(Failure::Closed, error.to_string())
}
