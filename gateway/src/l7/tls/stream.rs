//! A client's TLS connection, over rustls' unbuffered API and pooled buffers.
//!
//! rustls' buffered connection keeps its own buffers for as long as it lives. Here both the
//! ciphertext in and out live in the thread's pool and go back whenever they are empty, so that an
//! idle connection holds keys and little else.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{HandshakeKind, NamedGroup, ProtocolVersion, ServerConfig};
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use crate::l7::buffer::{Buf, LARGE};
use crate::l7::transport::poll_read_tcp;

/// Plaintext per record (RFC 8446, 5.1).
const RECORD: usize = 16 * 1024;
/// A record's header, IV and tag at the most, in either version.
const OVERHEAD: usize = 64;
/// Plaintext that is encrypted ahead of the socket.
const BATCH: usize = LARGE - 8 * OVERHEAD - RECORD;

/// What the handshake came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Agreed {
    pub(crate) version: Option<ProtocolVersion>,
    pub(crate) group: Option<NamedGroup>,
    pub(crate) resumed: bool,
}

/// A server's end of a TLS connection.
pub(crate) struct TlsStream {
    tcp: TcpStream,
    tls: UnbufferedServerConnection,
    /// Ciphertext read and not yet processed.
    incoming: Buf,
    /// Ciphertext not yet written.
    outgoing: Buf,
    /// The handshake is over.
    open: bool,
    /// The peer has said that it sends no more.
    peer_closed: bool,
    close_sent: bool,
}

/// What one round of processing left to do.
enum Step {
    /// Go on: something was done.
    Again,
    /// More ciphertext is needed.
    NeedsInput,
    /// The peer has closed its side.
    Closed,
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("tcp", &self.tcp).finish_non_exhaustive()
    }
}

impl TlsStream {
    /// A connection before its handshake.
    pub(crate) fn new(tcp: TcpStream, config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self {
            tcp,
            tls: UnbufferedServerConnection::new(config)?,
            incoming: Buf::default(),
            outgoing: Buf::default(),
            open: false,
            peer_closed: false,
            close_sent: false,
        })
    }

    /// With ciphertext that was read already.
    pub(crate) fn after(self, incoming: Buf) -> Self {
        Self { incoming, ..self }
    }

    /// The TCP connection below.
    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// What the handshake came to.
    pub(crate) fn agreed(&self) -> Agreed {
        Agreed {
            version: self.tls.protocol_version(),
            group: self.tls.negotiated_key_exchange_group().map(|group| group.name()),
            resumed: self.tls.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }

    /// Ready when the handshake is over. Plaintext that came with it goes to `plain`.
    pub(crate) fn poll_handshake(
        &mut self,
        cx: &mut Context<'_>,
        plain: &mut Buf,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.open {
                // Here too: a first request that came along with the handshake's end is served
                // without another read.
                self.incoming.release_if_empty();
                return self.poll_flush(cx);
            }
            match self.step(plain) {
                Ok(Step::Again) => {}
                Ok(Step::Closed) if self.tls.is_handshaking() => {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                // The end of what the client sends may come in one piece with its Finished.
                Ok(Step::Closed) => self.open = true,
                Ok(Step::NeedsInput) if self.open => {}
                Ok(Step::NeedsInput) => {
                    ready!(self.poll_flush(cx))?;
                    if ready!(self.poll_fill(cx))? == 0 {
                        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                    }
                }
                Err(error) => {
                    self.send_alert(cx, plain);
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
            }
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        ready!(self.tcp.poll_read_ready(cx))?;
        let filled = poll_read_tcp(&mut self.tcp, cx, &mut self.incoming);
        if filled.is_pending() {
            self.incoming.release_if_empty();
        }
        filled
    }

    /// Takes rustls one step on over what is in `incoming`.
    fn step(&mut self, plain: &mut Buf) -> Result<Step, rustls::Error> {
        let UnbufferedStatus { mut discard, state } =
            self.tls.process_tls_records(self.incoming.filled_mut());
        let step = match state {
            Err(error) => Err(error),
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discard += record.discard;
                    plain.put(record.payload);
                }
                Ok(Step::Again)
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                encode(&mut data, &mut self.outgoing)?;
                Ok(Step::Again)
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                // It stands in `outgoing`, which is sent before anything else.
                data.done();
                Ok(Step::Again)
            }
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                self.peer_closed = true;
                Ok(Step::Closed)
            }
            Ok(ConnectionState::WriteTraffic(_)) => {
                self.open = true;
                Ok(Step::NeedsInput)
            }
            // Early data is never enabled, so there is none.
            Ok(_) => Ok(Step::NeedsInput),
        };
        self.incoming.consume(discard);
        step
    }

    /// Sends the alert that rustls has queued with its error, as far as the socket takes it.
    fn send_alert(&mut self, cx: &mut Context<'_>, plain: &mut Buf) {
        for _ in 0..4 {
            if !matches!(self.step(plain), Ok(Step::Again)) {
                break;
            }
        }
        let _ = self.poll_flush(cx);
    }

    /// Adds decrypted bytes to `plain`; 0 is the stream's end.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        plain: &mut Buf,
    ) -> Poll<io::Result<usize>> {
        if self.peer_closed {
            return Poll::Ready(Ok(0));
        }
        let before = plain.len();
        loop {
            if self.incoming.is_empty() {
                self.incoming.release_if_empty();
                match self.poll_fill(cx) {
                    // Without close_notify this may be a truncation; the framing above decides.
                    Poll::Ready(Ok(0)) => {
                        self.peer_closed = true;
                        return Poll::Ready(Ok(0));
                    }
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            // Every record that is complete, so that `incoming` is left with at most a torn one.
            let mut closed = false;
            loop {
                match self.step(plain) {
                    Ok(Step::Again) => {}
                    Ok(Step::NeedsInput) => break,
                    Ok(Step::Closed) => {
                        closed = true;
                        break;
                    }
                    Err(error) => {
                        self.send_alert(cx, plain);
                        let error = io::Error::new(io::ErrorKind::InvalidData, error);
                        return Poll::Ready(Err(error));
                    }
                }
            }
            // A KeyUpdate or the like may have left an answer.
            if !self.outgoing.is_empty()
                && let Poll::Ready(Err(error)) = self.poll_flush(cx)
            {
                return Poll::Ready(Err(error));
            }
            let n = plain.len() - before;
            if n > 0 || closed {
                self.incoming.release_if_empty();
                return Poll::Ready(Ok(n));
            }
            if !self.incoming.is_empty() {
                match self.poll_fill(cx) {
                    Poll::Ready(Ok(0)) => {
                        self.peer_closed = true;
                        return Poll::Ready(Ok(0));
                    }
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
        }
    }

    /// Encrypts the pieces and writes them out; answers how much plaintext was taken.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        pieces: [&[u8]; 3],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(cx))?;
        let mut taken = 0;
        for piece in pieces {
            let piece = &piece[..piece.len().min(BATCH - taken)];
            for fragment in piece.chunks(RECORD) {
                self.encrypt(fragment)?;
            }
            taken += piece.len();
        }
        // What the socket doesn't take now is sent by the next call or by `poll_flush`.
        if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(taken))
    }

    fn encrypt(&mut self, fragment: &[u8]) -> io::Result<()> {
        // Handshake data may still be queued in front; take it first, then encrypt.
        loop {
            // With the bytes of an unfinished record: rustls counts on them being there. Finished
            // ones have all been processed when they came in.
            let UnbufferedStatus { discard, state } =
                self.tls.process_tls_records(self.incoming.filled_mut());
            let encrypted = match state.map_err(io::Error::other)? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    self.outgoing.reserve(fragment.len() + OVERHEAD);
                    let n = match traffic.encrypt(fragment, self.outgoing.spare()) {
                        Err(EncryptError::InsufficientSize(needed)) => {
                            self.outgoing.reserve(needed.required_size);
                            traffic.encrypt(fragment, self.outgoing.spare())
                        }
                        other => other,
                    };
                    self.outgoing.fill(n.map_err(io::Error::other)?);
                    true
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    encode(&mut data, &mut self.outgoing).map_err(io::Error::other)?;
                    false
                }
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    false
                }
                // The peer's close ends only its own direction.
                ConnectionState::PeerClosed => {
                    self.peer_closed = true;
                    false
                }
                _ => return Err(io::ErrorKind::BrokenPipe.into()),
            };
            self.incoming.consume(discard);
            if encrypted {
                return Ok(());
            }
        }
    }

    /// Ready when all ciphertext is with the kernel.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let n = ready!(AsyncWrite::poll_write(
                Pin::new(&mut self.tcp),
                cx,
                self.outgoing.filled()
            ))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing.consume(n);
        }
        self.outgoing.release_if_empty();
        Poll::Ready(Ok(()))
    }

    /// Ready when there may be something to read.
    pub(crate) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.peer_closed {
            return Poll::Ready(Ok(()));
        }
        self.tcp.poll_read_ready(cx)
    }

    /// Sends close_notify, then ends the sending direction.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.open && !self.close_sent {
            self.close_sent = true;
            let status = self.tls.process_tls_records(self.incoming.filled_mut());
            if let Ok(ConnectionState::WriteTraffic(mut traffic)) = status.state {
                self.outgoing.reserve(2 * OVERHEAD);
                if let Ok(n) = traffic.queue_close_notify(self.outgoing.spare()) {
                    self.outgoing.fill(n);
                }
            }
        }
        ready!(self.poll_flush(cx))?;
        AsyncWrite::poll_shutdown(Pin::new(&mut self.tcp), cx)
    }
}

fn encode(
    data: &mut rustls::unbuffered::EncodeTlsData<'_, rustls::server::ServerConnectionData>,
    outgoing: &mut Buf,
) -> Result<(), rustls::Error> {
    let written = match data.encode(outgoing.spare()) {
        Err(EncodeError::InsufficientSize(needed)) => {
            outgoing.reserve(needed.required_size);
            data.encode(outgoing.spare())
        }
        other => other,
    };
    let written = written.map_err(|error| rustls::Error::General(error.to_string()))?;
    outgoing.fill(written);
    Ok(())
}

#[cfg(test)]
mod tests;
