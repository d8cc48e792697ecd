//! A request's way to an endpoint, and the response's way back.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use http1::{Framing, HeadError, Method, ResponseHead, Version};
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

use super::{Connection, Next, Outcome, with_fields};
use crate::l7::balance::Backend;
use crate::l7::buffer::Buf;
use crate::l7::context::ListenerContext;
use crate::l7::pump::{Pump, PumpError, is_through};
use crate::l7::request::{Hold, Request};
use crate::l7::response::{Answer, Onward, onward_framing, write_head};
use crate::l7::settings::Timeouts;
use crate::l7::transport::{Client, Stream};
use crate::l7::upstream::{Endpoint, InFlight, Upstream, checkin, checkout, connect};

/// How long a response may take before its client is looked after.
const PATIENCE: Duration = Duration::from_millis(500);
/// Interim responses (1xx) before the final one, at the most.
const INTERIM: u32 = 32;

/// Why an endpoint gave no usable response head.
#[derive(Debug)]
enum NoHead {
    /// No connection could be made.
    Unreachable,
    /// No connection was made in time.
    ConnectTimedOut,
    /// The gateway itself has run out of file descriptors, ports or memory.
    Exhausted,
    /// It closed or reset; `began` tells whether it had sent any byte of a response.
    Broken { began: bool },
    /// It took too long.
    TimedOut,
    /// What it sent can't be read in just one way.
    Malformed(HeadError),
    /// It changed the protocol although nobody had asked it to, or sent interim responses on end.
    Unexpected,
    /// The client's body broke off or was malformed, or the client is gone.
    Client(PumpError),
    /// The client's body did not come in time.
    ClientTimedOut,
}

/// One request's way there and its response's way back.
struct Exchange<'a> {
    request: &'a Request,
    backend: &'a Backend,
    context: &'a ListenerContext,
    /// Its route's own time-outs.
    route: &'a plan::l7::Timeouts,
    /// The connection to the endpoint whose turn it is.
    upstream: Option<Upstream>,
    /// Counts the request at that endpoint.
    in_flight: Option<InFlight>,
    /// The request's head and body, on their way to the endpoint.
    body: Pump,
    /// Everything of the request is still at hand in [`Request::head`].
    replayable: bool,
    /// How much of [`Request::head`] this endpoint has not got yet, if it goes there from where it
    /// stands.
    unsent: usize,
    /// What has come from the endpoint.
    incoming: Buf,
    /// What is to be sent to the client: interim heads, then the final one.
    reply: Buf,
    /// Whether the client has got a part of what is in `reply`.
    torn: bool,
    /// The request has been sent, as far as the endpoint takes it.
    sent: bool,
    /// Interim responses so far.
    interim: u32,
    /// Whether a client that resets is looked out for.
    watch: Watch,
    /// Endpoints that have failed this request.
    tried: Tried,
    outcome: Outcome,
}

/// When a client that waits for its response is looked after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watch {
    /// Most responses come before it would pay.
    Later,
    Now,
    /// It has sent more, or ended its side: nothing can be told from reading.
    Never,
}

/// A final response's head, which is in [`Exchange::reply`].
struct Found {
    head: ResponseHead,
    /// What the client was told of its connection.
    keep_alive: bool,
}

/// Endpoints not to be tried again, and how often any was tried.
#[derive(Default)]
struct Tried {
    ids: Vec<u64>,
    attempts: usize,
    /// An idle connection was stale: the next one is to be a new one.
    fresh_only: bool,
}

impl Connection {
    /// Passes a request on and its response back.
    pub(super) async fn forward(&mut self, request: &mut Request) -> Next {
        let Hold::Table(local) = &request.hold else { return Next::Abort };
        let local = Arc::clone(local);
        let context = Arc::clone(&self.context);
        let entry = local.entry(context.kind, request.route);
        let Some((policy, backend)) =
            entry.and_then(|(alb, entry)| Some((alb.policy(entry)?, local.table.backend(entry)?)))
        else {
            return self.answer(request, &Answer::status(404)).await;
        };
        let limit = policy.max_body.or(context.settings.body_bytes);
        let chunked = request.framing == Framing::Chunked;
        // Head and what has come of a small body leave in one piece, and are kept to be repeated.
        let out = std::mem::take(&mut request.head);
        let mut body = Pump::new(request.framing, chunked, limit).behind(out);
        let prefilled = body.prefill(&mut self.inbound, &context.settings.limits);
        request.head = std::mem::take(&mut body.out);
        if let Err(error) = prefilled {
            let error = NoHead::Client(error);
            return Box::pin(self.fail(request, &error, Outcome::default(), false)).await;
        }
        let mut exchange = Exchange {
            request,
            backend,
            context: &context,
            route: &policy.timeouts,
            upstream: None,
            in_flight: None,
            replayable: body.is_read(),
            unsent: 0,
            body,
            incoming: Buf::default(),
            reply: Buf::default(),
            torn: false,
            sent: false,
            interim: 0,
            watch: Watch::Later,
            tried: Tried::default(),
            outcome: Outcome::default(),
        };
        match self.find_response(&mut exchange).await {
            Ok(found) if found.head.status == 101 => {
                let idle = exchange.timeouts().tunnel;
                let Exchange { incoming, reply, mut outcome, upstream, in_flight, .. } = exchange;
                let Some(ends) = upstream.zip(in_flight) else { return Next::Abort };
                outcome.status = 101;
                // It may live for days, and its generation need not.
                request.let_go(context.kind);
                drop(local);
                Box::pin(self.tunnel(request, ends, incoming, reply, idle, outcome)).await
            }
            Ok(found) => self.respond(&mut exchange, found).await,
            Err(error) => {
                let torn = exchange.torn;
                let mut outcome = exchange.outcome;
                outcome.received = exchange.body.bytes;
                Box::pin(self.fail(request, &error, outcome, torn)).await
            }
        }
    }

    /// Tries endpoints until one answers, as far as the request may be repeated.
    async fn find_response(&mut self, exchange: &mut Exchange<'_>) -> Result<Found, NoHead> {
        let mut last = NoHead::Unreachable;
        loop {
            let Some(endpoint) = exchange.backend.pick(&exchange.tried.ids, exchange.now_ms())
            else {
                return Err(last);
            };
            exchange.in_flight = Some(endpoint.enter());
            exchange.outcome.upstream = Some(endpoint.address);
            let error = match self.reach(exchange, endpoint).await {
                Ok(()) => {
                    let reused = exchange.is_reused();
                    // An idle connection is there at once: one reading of the clock less.
                    let first = reused && exchange.tried.attempts == 0;
                    let sent_at = if first { exchange.request.started } else { Instant::now() };
                    let result = self.await_head(exchange).await;
                    exchange.outcome.upstream_duration = sent_at.elapsed();
                    match result {
                        Ok(found) => {
                            endpoint.succeeded();
                            return Ok(found);
                        }
                        Err(error) => {
                            exchange.failed(endpoint, &error, reused && error.may_be_stale());
                            error
                        }
                    }
                }
                Err(error) => {
                    exchange.failed(endpoint, &error, false);
                    error
                }
            };
            (exchange.upstream, exchange.in_flight) = (None, None);
            if !exchange.may_repeat(&error) {
                return Err(error);
            }
            last = error;
        }
    }

    /// Gets a connection to the endpoint: an idle one, or a new one.
    async fn reach(
        &mut self,
        exchange: &mut Exchange<'_>,
        endpoint: &Arc<Endpoint>,
    ) -> Result<(), NoHead> {
        let shard = exchange.context.shard();
        let idle = if exchange.tried.fresh_only { None } else { checkout(endpoint) };
        if let Some(upstream) = idle {
            shard.upstream_reused.increment();
            exchange.upstream = Some(upstream);
            return Ok(());
        }
        let limit = exchange.timeouts().connect;
        // Boxed, as all that is rare: a connection holds room for its largest future for ever.
        match Box::pin(connect(endpoint, &self.timer, limit)).await {
            Ok(upstream) => {
                shard.upstream_connects.increment();
                exchange.upstream = Some(upstream);
                Ok(())
            }
            Err(error) => {
                shard.upstream_connect_failures.increment();
                tracing::debug!(endpoint = %endpoint.address, %error, "connect failed");
                Err(match error.kind() {
                    _ if is_own_fault(&error) => {
                        tracing::error!(%error, "no connection can be made");
                        NoHead::Exhausted
                    }
                    io::ErrorKind::TimedOut => NoHead::ConnectTimedOut,
                    _ => NoHead::Unreachable,
                })
            }
        }
    }

    /// Sends the request and waits for the final response's head.
    async fn await_head(&mut self, exchange: &mut Exchange<'_>) -> Result<Found, NoHead> {
        let head = exchange.request.head.filled();
        if exchange.replayable {
            exchange.unsent = head.len();
        } else {
            // It leaves together with what there is of the body.
            exchange.body.out.put(head);
        }
        self.timer.set(exchange.timeouts().body_stall);
        let result = poll_fn(|cx| match self.poll_head(cx, exchange) {
            Poll::Pending if self.timer.is_elapsed() => self.poll_late(cx, exchange),
            other => other,
        })
        .await;
        self.timer.clear();
        result
    }

    /// A time-out has struck: the client's, the endpoint's, or just the one after which the
    /// client is looked out for.
    fn poll_late(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut Exchange<'_>,
    ) -> Poll<Result<Found, NoHead>> {
        let rest = exchange.timeouts().upstream_head.saturating_sub(PATIENCE);
        if exchange.sent && exchange.watch == Watch::Later && !rest.is_zero() {
            exchange.watch = Watch::Now;
            self.timer.set(rest);
            return self.poll_head(cx, exchange);
        }
        let client = !exchange.sent && exchange.unsent == 0 && !exchange.body.waits_for_sink();
        Poll::Ready(Err(if client { NoHead::ClientTimedOut } else { NoHead::TimedOut }))
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut Exchange<'_>,
    ) -> Poll<Result<Found, NoHead>> {
        let Self { client, inbound, timer, .. } = self;
        let limits = &exchange.context.settings.limits;
        if !exchange.sent {
            let before = exchange.body.moved;
            let sent = match exchange.poll_send(cx) {
                Poll::Ready(Ok(())) => match &mut exchange.upstream {
                    Some(to) => exchange.body.poll(cx, client, inbound, &mut to.stream, limits),
                    None => Poll::Pending,
                },
                Poll::Ready(Err(error)) => Poll::Ready(Err(PumpError::Write(error))),
                Poll::Pending => Poll::Pending,
            };
            match sent {
                // It may have answered before it stopped listening.
                Poll::Ready(result) if is_through(&result) => {
                    exchange.sent = true;
                    timer.set(exchange.timeouts().upstream_head.min(PATIENCE));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(NoHead::Client(error))),
                _ if exchange.body.moved != before => timer.set(exchange.timeouts().body_stall),
                _ => {}
            }
        }
        loop {
            // Interim responses go out before anything else is read.
            if exchange.interim > 0 {
                match exchange.poll_reply(cx, client) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => {
                        return Poll::Ready(Err(NoHead::Client(PumpError::Write(error))));
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
            if !exchange.incoming.is_empty() {
                match exchange.take_head() {
                    Ok(Some(found)) => return Poll::Ready(Ok(found)),
                    Ok(None) if !exchange.reply.is_empty() => continue,
                    Ok(None) => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            let began = !exchange.incoming.is_empty() || exchange.interim > 0;
            let Some(upstream) = &mut exchange.upstream else {
                return Poll::Ready(Err(NoHead::Broken { began }));
            };
            match Stream::poll_read(&mut upstream.stream, cx, &mut exchange.incoming) {
                Poll::Pending if exchange.watch == Watch::Now => {
                    return exchange.poll_client_gone(cx, client.socket());
                }
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0) | Err(_)) => {
                    return Poll::Ready(Err(NoHead::Broken { began }));
                }
                Poll::Ready(Ok(_)) => {}
            }
        }
    }

    /// Passes the response on, counts it, and keeps the endpoint's connection if it is clean.
    async fn respond(&mut self, exchange: &mut Exchange<'_>, found: Found) -> Next {
        let Found { head, keep_alive } = found;
        exchange.outcome.status = head.status;
        // An early response: the rest goes on beside it.
        let sent = exchange.request.head.len() - std::mem::take(&mut exchange.unsent);
        exchange.body.out.put(&exchange.request.head.filled()[sent..]);
        let (chunked, _) = onward_framing(head.framing, exchange.request.version);
        let out = std::mem::take(&mut exchange.reply);
        let mut response = Pump::new(head.framing, chunked, None).behind(out);
        let result = self.relay(exchange, &mut response).await;
        let Exchange { request, body, incoming, outcome, context, upstream, .. } = exchange;
        outcome.received = body.bytes;
        outcome.sent = response.bytes;
        let next = match &result {
            Err(error) => {
                outcome.error = error;
                Next::Abort
            }
            // The endpoint has answered without waiting for the whole body.
            Ok(()) if !body.is_read() => Next::Drain,
            Ok(()) if !keep_alive => Next::Close,
            Ok(()) => Next::Keep,
        };
        self.note(request, outcome);
        let spent = head.framing == Framing::UntilClose || !head.keep_alive;
        // Unsent bytes of this request would be taken for the beginning of the next one's.
        if result.is_ok()
            && body.is_sent()
            && !spent
            && incoming.is_empty()
            && let Some(upstream) = upstream.take()
        {
            checkin(upstream, context.settings.max_idle, context.settings.idle);
        }
        next
    }

    /// Passes the response's body back, and what is left of the request's body on.
    async fn relay(
        &mut self,
        exchange: &mut Exchange<'_>,
        response: &mut Pump,
    ) -> Result<(), &'static str> {
        let Self { client, inbound, timer, .. } = self;
        let stall = exchange.timeouts().body_stall;
        let Exchange { body, incoming, context, upstream, .. } = exchange;
        let Some(upstream) = upstream else { return Err("endpoint connection broke") };
        let limits = &context.settings.limits;
        // Whether the endpoint still takes the request's body.
        let mut sending = !body.is_sent();
        timer.set(stall);
        let result = poll_fn(|cx| {
            let before = (body.moved, response.moved);
            if sending {
                match body.poll(cx, client, inbound, &mut upstream.stream, limits) {
                    Poll::Ready(result) if is_through(&result) => sending = false,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(request_error(&error))),
                    _ => {}
                }
            }
            match response.poll(cx, &mut upstream.stream, incoming, client, limits) {
                Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) => Poll::Ready(Err(response_error(&error))),
                Poll::Pending if before != (body.moved, response.moved) => {
                    timer.set(stall);
                    Poll::Pending
                }
                Poll::Pending if timer.is_elapsed() => Poll::Ready(Err("body stalled")),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        timer.clear();
        result
    }

    /// Tells the client that there will be no response, and notes why.
    async fn fail(
        &mut self,
        request: &mut Request,
        error: &NoHead,
        mut outcome: Outcome,
        torn: bool,
    ) -> Next {
        let (status, text) = match error {
            NoHead::Unreachable => (502, "endpoint refused the connection"),
            NoHead::Exhausted => (503, "the gateway has run out of descriptors, ports or memory"),
            NoHead::ConnectTimedOut => (504, "connecting to the endpoint timed out"),
            NoHead::Broken { began: false } => (502, "endpoint closed the connection"),
            NoHead::Broken { began: true } => (502, "endpoint closed amid the response head"),
            NoHead::TimedOut => (504, "endpoint timed out"),
            NoHead::Malformed(error) => (502, error.text()),
            NoHead::Unexpected => (502, "endpoint sent an unexpected interim response"),
            NoHead::Client(PumpError::TooLarge) => (413, "request body too large"),
            NoHead::Client(error @ (PumpError::Body(_) | PumpError::Trailers(_))) => {
                (400, request_error(error))
            }
            NoHead::Client(error) => (499, request_error(error)),
            NoHead::ClientTimedOut => (408, "request body stalled"),
        };
        if status == 499 || torn {
            outcome.status = status;
            outcome.error = text;
            self.note(request, &outcome);
            return Next::Abort;
        }
        if !matches!(error, NoHead::Client(_) | NoHead::ClientTimedOut) {
            tracing::debug!(upstream = ?outcome.upstream, text, "no response");
        }
        // What was read of the body is gone, so the next request can't be found behind it.
        let keep_alive = request.keep_alive && !request.has_body();
        let answer = Answer::failed(status, text);
        let onward = Onward { version: request.version, chunked: false, keep_alive };
        let mut out = Buf::default();
        let is_head = request.method == Method::Head;
        outcome.sent = crate::l7::response::write_answer(&answer, onward, is_head, &mut out);
        outcome.status = status;
        outcome.error = text;
        let written = self.write_all(&mut out).await;
        self.note(request, &outcome);
        match written {
            Err(()) => Next::Abort,
            Ok(()) if keep_alive => Next::Keep,
            Ok(()) => Next::Drain,
        }
    }
}

impl Exchange<'_> {
    fn timeouts(&self) -> Timeouts {
        self.context.settings.timeouts.for_route(self.route)
    }

    /// Whether the endpoint's connection has served a request before.
    fn is_reused(&self) -> bool {
        self.upstream.as_ref().is_some_and(|upstream| upstream.reused)
    }

    fn now_ms(&self) -> u64 {
        // The first choice comes right behind the request's beginning; later ones have waited.
        let now = if self.tried.attempts == 0 { self.request.started } else { Instant::now() };
        self.context.now_ms(now)
    }

    /// Notes that an endpoint gave no head.
    fn failed(&mut self, endpoint: &Endpoint, error: &NoHead, stale: bool) {
        // A stale connection says nothing against its endpoint, and a client's fault neither.
        let blame = !stale
            && !matches!(error, NoHead::Client(_) | NoHead::ClientTimedOut | NoHead::Exhausted);
        let now_ms = self.context.now_ms(Instant::now());
        if blame && endpoint.failed(&self.context.settings.ejection, now_ms) {
            self.context.shard().upstream_ejections.increment();
            tracing::warn!(endpoint = %endpoint.address, "endpoint ejected after failures");
        }
        if stale {
            self.tried.fresh_only = true;
        } else {
            self.tried.ids.push(endpoint.id);
        }
        self.tried.attempts += 1;
        if !self.torn {
            self.reply.clear();
        }
    }

    /// Whether another attempt may be made; then everything is ready for it.
    fn may_repeat(&mut self, error: &NoHead) -> bool {
        let tries = self.context.settings.tries;
        match error {
            // Nothing has been sent, so anything may be repeated.
            NoHead::Unreachable | NoHead::ConnectTimedOut => return self.tried.attempts < tries,
            // RFC 9110, 9.2.2: only what is idempotent is repeated without being asked.
            NoHead::Broken { began: false }
                if self.replayable
                    && self.request.method.is_idempotent()
                    && self.tried.attempts < tries.max(2) => {}
            _ => return false,
        }
        self.context.shard().upstream_retries.increment();
        self.body = Pump::ended(self.body.bytes);
        self.incoming.clear();
        self.sent = false;
        self.watch = Watch::Later;
        true
    }

    /// Ready when what is sent from where it stands is with the kernel.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(endpoint) = &mut self.upstream
            && self.unsent > 0
        {
            let head = self.request.head.filled();
            let rest = &head[head.len() - self.unsent..];
            let n = ready!(Stream::poll_write(&mut endpoint.stream, cx, [rest, b"", b""]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent -= n;
            self.body.moved += n as u64;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when interim responses are with the kernel.
    fn poll_reply(&mut self, cx: &mut Context<'_>, client: &mut Client) -> Poll<io::Result<()>> {
        while !self.reply.is_empty() {
            let n = ready!(client.poll_write(cx, [self.reply.filled(), b"", b""]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.reply.consume(n);
            self.torn = !self.reply.is_empty();
        }
        client.poll_flush(cx)
    }

    /// Ready when the client has reset its connection: nobody waits for the response then. A
    /// client that has only ended its side still does.
    fn poll_client_gone<T>(
        &mut self,
        cx: &mut Context<'_>,
        client: &TcpStream,
    ) -> Poll<Result<T, NoHead>> {
        let mut byte = [0];
        match client.poll_peek(cx, &mut ReadBuf::new(&mut byte)) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(_)) => {
                self.watch = Watch::Never;
                Poll::Pending
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(NoHead::Client(PumpError::Read(error)))),
        }
    }

    /// Reads heads out of what has come in and writes them to `reply`, up to the final one. None:
    /// it isn't there yet.
    fn take_head(&mut self) -> Result<Option<Found>, NoHead> {
        while !self.incoming.is_empty() {
            let Some(found) = self.take_one_head()? else { return Ok(None) };
            self.incoming.consume(found.head.len);
            if found.head.status >= 200 || found.head.status == 101 {
                return Ok(Some(found));
            }
            self.interim += 1;
            if self.interim > INTERIM {
                return Err(NoHead::Unexpected);
            }
        }
        Ok(None)
    }

    fn take_one_head(&mut self) -> Result<Option<Found>, NoHead> {
        let (request, context) = (self.request, self.context);
        with_fields(|fields| {
            let buf = self.incoming.filled();
            let limits = &context.settings.limits;
            let parsed = http1::parse_response(buf, request.method, limits, fields);
            let Some(head) = parsed.map_err(NoHead::Malformed)? else { return Ok(None) };
            let interim = head.status < 200 && head.status != 101;
            if head.status == 101 && !(request.upgrade && head.upgrade.is_some()) {
                return Err(NoHead::Unexpected);
            }
            let (chunked, until_close) = onward_framing(head.framing, request.version);
            // A client that is told of the response before its body has come whole may be told
            // that no further request is read behind it (RFC 9112, 9.6).
            let keep_alive =
                request.keep_alive && !until_close && self.body.is_read() && !context.is_draining();
            // RFC 9110, 15.2: interim responses are unknown to HTTP/1.0.
            if !(interim && request.version == Version::Http10) {
                let chunked = chunked && !interim;
                let onward = Onward { version: request.version, chunked, keep_alive };
                write_head(buf, &head, fields, onward, &mut self.reply);
            }
            Ok(Some(Found { head, keep_alive }))
        })
    }
}

impl NoHead {
    /// Whether an idle connection that the endpoint had closed would look like this.
    fn may_be_stale(&self) -> bool {
        matches!(self, Self::Broken { began: false })
    }
}

/// Whether it is the gateway that lacks something, not the endpoint.
fn is_own_fault(error: &io::Error) -> bool {
    use rustix::io::Errno;
    error.raw_os_error().is_some_and(|code| {
        [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL]
            .iter()
            .any(|errno| errno.raw_os_error() == code)
    })
}

fn request_error(error: &PumpError) -> &'static str {
    match error {
        PumpError::Read(_) => "client connection broke",
        PumpError::Truncated => "client closed amid the request body",
        PumpError::Body(_) => "malformed chunked request body",
        PumpError::Trailers(_) => "malformed request trailers",
        PumpError::TooLarge => "request body too large",
        PumpError::Write(_) => "client gone",
    }
}

fn response_error(error: &PumpError) -> &'static str {
    match error {
        PumpError::Read(_) => "endpoint connection broke",
        PumpError::Truncated => "endpoint closed amid the response body",
        PumpError::Body(_) => "malformed chunked response body",
        PumpError::Trailers(_) => "malformed response trailers",
        PumpError::TooLarge => "response body too large",
        PumpError::Write(_) => "client gone amid the response",
    }
}
