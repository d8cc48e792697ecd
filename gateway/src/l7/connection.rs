//! A client's connection, from its first byte to its last.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http1::{Field, HeadError, Method, Version};
use rustls::{NamedGroup, ProtocolVersion, ServerConfig};
use tokio::net::TcpStream;

use super::buffer::{Buf, LARGE};
use super::context::ListenerContext;
use super::gate;
use super::recycled::{self, Workers};
use super::request::{Facts, Received, Request, decide};
use super::response::{Answer, Onward, write_answer};
use super::timer::{self, Timer, timer};
use super::tls::stream::TlsStream;
use super::transport::{Client, Stream};
use crate::access_log::Entry;

mod forward;
mod tunnel;

/// How long a connection with unread bytes is drained before it is closed, so that the reset they
/// would cause does not overtake the answer (RFC 9112, 9.6).
const LINGER: Duration = Duration::from_secs(2);
/// How long a new connection may take to its first byte while the gateway drains.
const DRAINING_FIRST: Duration = Duration::from_millis(100);
/// How many bytes are drained at the most.
const LINGER_BYTES: usize = 1 << 20;

thread_local! {
    /// Memory for the futures of requests.
    static REQUESTS: Workers<(Connection, Duration), (Connection, Next)> =
        const { Workers::new() };
    /// Field positions of the head being read: never needed across a wait.
    static FIELDS: RefCell<Vec<Field>> = RefCell::new(Vec::with_capacity(64));
}

/// Lends the thread's space for field positions.
pub(crate) fn with_fields<T>(use_them: impl FnOnce(&mut Vec<Field>) -> T) -> T {
    FIELDS.with_borrow_mut(use_them)
}

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Connection {
    client: Client,
    /// Bytes read and not yet used.
    inbound: Buf,
    timer: Timer,
    peer: SocketAddr,
    context: Arc<ListenerContext>,
}

/// What becomes of the connection after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// It waits for the next one.
    Keep,
    /// It is closed.
    Close,
    /// The client may still be sending: what it sends is drained before the close.
    Drain,
    /// It is reset, so that the client can't take the response for whole.
    Abort,
}

/// Why no request could be read.
enum NoRequest {
    /// The client closed, before or in the middle of a head.
    Closed,
    /// The head did not come in time.
    TimedOut,
    Refused(HeadError),
}

/// Counts the connection off when it ends, however it ends.
struct Open(Arc<ListenerContext>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.count_closed();
    }
}

/// Serves a client that has been counted, until it or the gateway closes.
pub(crate) async fn serve(tcp: TcpStream, peer: SocketAddr, context: Arc<ListenerContext>) {
    let _open = Open(Arc::clone(&context));
    let timer = timer().await;
    let mut inbound = Buf::default();
    let client = match &context.tls {
        None => Client::Plain(tcp),
        Some(config) => {
            let handshake = handshake(tcp, config, &context, &timer, &mut inbound);
            match Box::pin(handshake).await {
                Some(stream) => Client::Tls(stream),
                None => return,
            }
        }
    };
    let mut connection = Connection { client, inbound, timer, peer, context };
    let mut first = true;
    loop {
        let timeouts = &connection.context.settings.timeouts;
        let idle = if first { timeouts.head } else { timeouts.idle };
        if connection.inbound.is_empty() && !connection.wait(first, idle).await {
            return Box::pin(connection.close()).await;
        }
        first = false;
        gate::admit().await;
        let mut job = Some((connection, idle));
        let next;
        (connection, next) = recycled::run(&REQUESTS, &mut job, hire).await;
        match next {
            Next::Keep => {}
            Next::Close => return Box::pin(connection.close()).await,
            Next::Drain => return Box::pin(connection.drain()).await,
            Next::Abort => return connection.abort(),
        }
    }
}

/// A worker for requests.
fn hire() -> recycled::Worker {
    Box::pin(recycled::work(&REQUESTS, |(connection, idle): (Connection, Duration)| {
        connection.serve_one(idle)
    }))
}

async fn handshake(
    tcp: TcpStream,
    config: &Arc<ServerConfig>,
    context: &ListenerContext,
    timer: &Timer,
    inbound: &mut Buf,
) -> Option<Box<TlsStream>> {
    let shard = context.shard();
    let mut stream = Box::new(TlsStream::new(tcp, Arc::clone(config)).ok()?);
    let limit = context.settings.timeouts.head;
    match timer.within(limit, |cx| stream.poll_handshake(cx, inbound)).await {
        Ok(Ok(())) => {
            let agreed = stream.agreed();
            let tls13 = agreed.version == Some(ProtocolVersion::TLSv1_3);
            shard.handshakes[usize::from(tls13) * 2 + usize::from(agreed.resumed)].increment();
            if agreed.group == Some(NamedGroup::X25519MLKEM768) {
                shard.handshakes_hybrid.increment();
            }
            Some(stream)
        }
        Ok(Err(error)) => {
            shard.handshake_failures.increment();
            tracing::debug!(%error, "TLS handshake failed");
            None
        }
        Err(_) => {
            shard.handshake_failures.increment();
            None
        }
    }
}

impl Connection {
    /// Waits for the next request's first byte, holding no memory. Answers whether it came.
    async fn wait(&mut self, first: bool, limit: Duration) -> bool {
        let Self { client, inbound, timer, context, .. } = self;
        inbound.release_if_empty();
        let mut draining = false;
        let readable = timer.within(limit, |cx| match client.poll_readable(cx) {
            Poll::Pending if context.is_draining() && !draining => {
                // Who has just come may have a request on its way.
                draining = true;
                if first {
                    timer.set(DRAINING_FIRST);
                    return Poll::Pending;
                }
                Poll::Ready(false)
            }
            Poll::Pending => Poll::Pending,
            Poll::Ready(result) => Poll::Ready(result.is_ok()),
        });
        matches!(readable.await, Ok(true))
    }

    /// Reads one request and answers it. `idle` is for its first byte.
    async fn serve_one(mut self, idle: Duration) -> (Self, Next) {
        let (mut request, answer) = match self.read_request(idle).await {
            Ok(decided) => decided,
            Err(reason) => {
                let next = Box::pin(self.unread(reason)).await;
                return (self, next);
            }
        };
        let next = match answer {
            None => self.forward(&mut request).await,
            Some(answer) => Box::pin(self.answer(&mut request, &answer)).await,
        };
        (self, next)
    }

    /// Does what is left to do where no request could be read.
    async fn unread(&mut self, reason: NoRequest) -> Next {
        match reason {
            NoRequest::Closed => Next::Close,
            NoRequest::TimedOut if self.inbound.is_empty() => Next::Close,
            NoRequest::TimedOut => self.refuse(408, "request head timed out").await,
            NoRequest::Refused(error) => self.refuse(error.status(), error.text()).await,
        }
    }

    async fn read_request(
        &mut self,
        idle: Duration,
    ) -> Result<(Request, Option<Answer>), NoRequest> {
        // The socket may only have seemed readable: then the connection still idles.
        let head = self.context.settings.timeouts.head;
        self.timer.set(if self.inbound.is_empty() { idle } else { head });
        let mut started = None;
        let result = poll_fn(|cx| match self.poll_request(cx, &mut started) {
            Poll::Pending if self.timer.is_elapsed() => Poll::Ready(Err(NoRequest::TimedOut)),
            other => other,
        })
        .await;
        self.timer.clear();
        result
    }

    fn poll_request(
        &mut self,
        cx: &mut Context<'_>,
        started: &mut Option<Instant>,
    ) -> Poll<Result<(Request, Option<Answer>), NoRequest>> {
        // Whether bytes have come in that may complete the head.
        let mut fresh = started.is_none() && !self.inbound.is_empty();
        loop {
            if fresh {
                let started = *started.get_or_insert_with(Instant::now);
                match self.parse(started) {
                    Ok(None) => {}
                    Ok(Some(decided)) => return Poll::Ready(Ok(decided)),
                    Err(error) => return Poll::Ready(Err(NoRequest::Refused(error))),
                }
            }
            let before = self.inbound.len();
            match self.client.poll_read(cx, &mut self.inbound) {
                Poll::Pending => {
                    self.inbound.release_if_empty();
                    return Poll::Pending;
                }
                Poll::Ready(Err(_) | Ok(0)) => return Poll::Ready(Err(NoRequest::Closed)),
                Poll::Ready(Ok(_)) if before == 0 => {
                    self.timer.set(self.context.settings.timeouts.head);
                }
                Poll::Ready(Ok(_)) => {}
            }
            // Reading a head starts over each time, so it waits for the end of a further line:
            // then the number of fields bounds the work, however small the pieces are.
            let new = &self.inbound.filled()[before..];
            let over = self.inbound.len() >= self.context.settings.limits.head_bytes;
            fresh = over || started.is_none() || new.contains(&b'\n');
        }
    }

    /// Reads a head out of what has come in, and decides what happens with it.
    fn parse(&mut self, started: Instant) -> Result<Option<(Request, Option<Answer>)>, HeadError> {
        let decided = with_fields(|fields| {
            let buf = self.inbound.filled();
            let limits = &self.context.settings.limits;
            let Some(head) = http1::parse_request(buf, limits, fields)? else { return Ok(None) };
            let received = Received {
                context: &self.context,
                peer: self.peer.ip().to_canonical(),
                buf,
                head: &head,
                fields,
            };
            Ok(Some((head.len, decide(&received, started))))
        })?;
        Ok(decided.map(|(len, decided)| {
            self.inbound.consume(len);
            decided
        }))
    }

    /// Sends one of the gateway's own answers to a request.
    async fn answer(&mut self, request: &mut Request, answer: &Answer) -> Next {
        // A body that nobody wants is not waited for.
        let keep_alive = request.keep_alive && !request.has_body();
        let onward = Onward { version: request.version, chunked: false, keep_alive };
        let mut out = Buf::default();
        let is_head = request.method == Method::Head;
        let body = write_answer(answer, onward, is_head, &mut out);
        let written = self.write_all(&mut out).await;
        self.note(
            request,
            &Outcome {
                status: answer.status,
                sent: body,
                error: answer.error,
                ..Outcome::default()
            },
        );
        match written {
            Err(()) => Next::Abort,
            Ok(()) if keep_alive => Next::Keep,
            Ok(()) => Next::Drain,
        }
    }

    /// Answers what could not be read as a request.
    async fn refuse(&mut self, status: u16, reason: &'static str) -> Next {
        self.context.shard().refuse(status);
        let onward = Onward { version: Version::Http11, chunked: false, keep_alive: false };
        let mut out = Buf::default();
        let sent = write_answer(&Answer::status(status), onward, false, &mut out);
        let written = self.write_all(&mut out).await;
        let entry = Entry {
            client: self.peer.ip().to_canonical(),
            tls: self.context.tls.is_some(),
            method: b"",
            host: b"",
            path: b"",
            http10: false,
            status,
            received: 0,
            sent,
            at: Instant::now(),
            duration: Duration::ZERO,
            upstream: None,
            upstream_duration: Duration::ZERO,
            labels: "",
            request_id: b"",
            user_agent: b"",
            error: reason,
        };
        self.context.log.record(&entry, self.context.shard());
        self.inbound.clear();
        if written.is_ok() { Next::Drain } else { Next::Abort }
    }

    async fn write_all(&mut self, out: &mut Buf) -> Result<(), ()> {
        let Self { client, timer, context, .. } = self;
        let written = timer.within(context.settings.timeouts.body_stall, |cx| {
            while !out.is_empty() {
                match client.poll_write(cx, [out.filled(), b"", b""]) {
                    Poll::Ready(Ok(n)) if n > 0 => out.consume(n),
                    Poll::Ready(_) => return Poll::Ready(Err(())),
                    Poll::Pending => return Poll::Pending,
                }
            }
            client.poll_flush(cx).map_err(drop)
        });
        written.await.unwrap_or(Err(()))
    }

    /// Counts and logs a finished request.
    fn note(&self, request: &Request, outcome: &Outcome) {
        let Some(tally) = request.tally(self.context.kind) else { return };
        let duration = request.started.elapsed();
        if let Some(shard) = tally.shard(self.context.worker) {
            shard.record(outcome.status, duration, outcome.received, outcome.sent);
        }
        let bytes = request.head.filled();
        let Facts { method, host, path, user_agent, request_id } = request.facts;
        let (host, path) = match &request.original {
            Some(original) => (original.host.as_slice(), original.path.as_slice()),
            None => (host.of(bytes), path.of(bytes)),
        };
        let entry = Entry {
            client: request.client,
            tls: self.context.tls.is_some(),
            method: method.of(bytes),
            host,
            path,
            http10: request.version == Version::Http10,
            status: outcome.status,
            received: outcome.received,
            sent: outcome.sent,
            at: request.started + duration,
            duration,
            upstream: outcome.upstream,
            upstream_duration: outcome.upstream_duration,
            labels: tally.log_labels(),
            request_id: request_id.of(bytes),
            user_agent: user_agent.of(bytes),
            error: if timer::are_expired() { "cut at the drain's deadline" } else { outcome.error },
        };
        self.context.log.record(&entry, self.context.shard());
    }

    /// Closes in order: close_notify, FIN.
    async fn close(mut self) {
        let Self { client, timer, .. } = &mut self;
        let _ = timer.within(LINGER, |cx| client.poll_shutdown(cx)).await;
    }

    /// Ends the sending direction, then reads on for a while.
    async fn drain(mut self) {
        let Self { client, timer, inbound, .. } = &mut self;
        let mut left = LINGER_BYTES;
        let mut shut = false;
        let _ = timer
            .within(LINGER, |cx| {
                if !shut {
                    match client.poll_shutdown(cx) {
                        Poll::Ready(Ok(())) => shut = true,
                        Poll::Ready(Err(_)) => return Poll::Ready(()),
                        Poll::Pending => return Poll::Pending,
                    }
                }
                loop {
                    inbound.clear();
                    match client.poll_read(cx, inbound) {
                        Poll::Ready(Ok(n)) if n > 0 && n <= left => left -= n,
                        Poll::Ready(_) => return Poll::Ready(()),
                        Poll::Pending => return Poll::Pending,
                    }
                }
            })
            .await;
    }

    /// Resets, so that what was sent can't be taken for whole.
    fn abort(self) {
        let _ = socket2::SockRef::from(self.client.socket()).set_linger(Some(Duration::ZERO));
    }
}

/// What a request came to, for log and counters.
#[derive(Debug, Default)]
struct Outcome {
    status: u16,
    received: u64,
    sent: u64,
    upstream: Option<SocketAddr>,
    upstream_duration: Duration,
    error: &'static str,
}

// One buffer of this size has to hold the largest head that may be configured.
const _: () = assert!(LARGE >= 64 * 1024);

#[cfg(test)]
mod tests {
    use super::*;

    /// An idle connection holds its task's whole future, so its size is memory per connection.
    #[test]
    fn a_connections_future_stays_small() {
        fn size<F>(_: fn(TcpStream, SocketAddr, Arc<ListenerContext>) -> F) -> usize {
            size_of::<F>()
        }
        assert!(size(serve) <= 640, "{}", size(serve));
    }
}
