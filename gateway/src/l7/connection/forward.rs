//! A request's way to an endpoint, and the response's way back.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use http1::{Framing, HeadError, Method, ResponseHead, Version};
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

use super::{Connection, Next, Outcome, with_fields};
use crate::l7::balance::Backend;
use crate::l7::buffer::Buf;
use crate::l7::pump::{Pump, PumpError};
use crate::l7::request::{Answer, Request};
use crate::l7::response::{Onward, onward_framing, write_head};
use crate::l7::settings::Timeouts;
use crate::l7::transport::Stream;
use crate::l7::upstream::{Upstream, checkin, checkout, connect};

/// Interim responses (1xx) before the final one, at the most.
const INTERIM: u32 = 32;

/// Why an endpoint gave no usable response head.
#[derive(Debug)]
enum NoHead {
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

/// One attempt at one endpoint.
struct Attempt<'a> {
    request: &'a Request,
    timeouts: &'a Timeouts,
    upstream: &'a mut Upstream,
    /// The request's body.
    body: &'a mut Pump,
    /// What is still to be sent upstream.
    out: Buf,
    /// What has come from upstream.
    incoming: &'a mut Buf,
    /// What is to be sent to the client: interim heads, then the final one.
    reply: &'a mut Buf,
    sent: bool,
    interim: u32,
    /// Whether the client has got a part of what is in `reply`.
    torn: bool,
    /// Whether a client that resets is still looked out for.
    watches_client: bool,
}

impl Connection {
    /// Passes a request on and its response back.
    pub(super) async fn forward(&mut self, request: &mut Request) -> Next {
        let local = Arc::clone(&request.local);
        let context = Arc::clone(&self.context);
        let entry = local.table.alb(context.kind).and_then(|alb| alb.routes.get(request.route?));
        let Some((entry, backend)) = entry.and_then(|entry| Some((entry, entry.backend.as_ref()?)))
        else {
            return self.answer(request, &Answer::status(404)).await;
        };
        let policy = &entry.route.policy;
        let timeouts = context.settings.timeouts.for_route(&policy.timeouts);
        let limit = policy.max_body.or(context.settings.body_bytes);
        let chunked = request.framing == Framing::Chunked;
        let mut body = Pump::new(request.framing, chunked, limit);
        if let Err(error) =
            body.prefill(&mut self.inbound, &mut request.head, &context.settings.limits)
        {
            return self.fail(request, NoHead::Client(error), Outcome::default(), false).await;
        }
        self.exchange(request, backend, &timeouts, body).await
    }

    async fn exchange(
        &mut self,
        request: &mut Request,
        backend: &Backend,
        timeouts: &Timeouts,
        mut body: Pump,
    ) -> Next {
        let mut outcome = Outcome::default();
        let mut incoming = Buf::default();
        let mut reply = Buf::default();
        let found = self
            .find_response(
                request,
                backend,
                timeouts,
                &mut body,
                &mut incoming,
                &mut reply,
                &mut outcome,
            )
            .await;
        let (mut upstream, head, _in_flight) = match found {
            Ok(found) => found,
            Err(error) => {
                outcome.received = body.bytes;
                // Nothing can be said behind an interim head that is only half out.
                let torn = !reply.is_empty();
                return self.fail(request, error, outcome, torn).await;
            }
        };
        outcome.status = head.status;
        if head.status == 101 {
            return self.tunnel(request, upstream, incoming, reply, outcome).await;
        }
        let (chunked, until_close) = onward_framing(head.framing, request.version);
        let mut response = Pump::new(head.framing, chunked, None);
        let result = self
            .relay(&mut upstream, &mut body, &mut response, &mut incoming, &mut reply, timeouts)
            .await;
        outcome.received = body.bytes;
        outcome.sent = response.bytes;
        let next = match &result {
            Err(error) => {
                outcome.error = error;
                Next::Abort
            }
            // The endpoint has answered without waiting for the whole body.
            Ok(()) if !body.is_read() => Next::Drain,
            Ok(()) if !request.keep_alive || until_close => Next::Close,
            Ok(()) => Next::Keep,
        };
        self.note(request, &outcome);
        let spent = head.framing == Framing::UntilClose || !head.keep_alive;
        if result.is_ok() && body.is_read() && !spent && incoming.is_empty() {
            checkin(upstream, self.context.settings.max_idle);
        }
        next
    }

    /// Tries endpoints until one answers, as far as the request may be repeated.
    #[allow(clippy::too_many_arguments)] // the parts of one exchange, borrowed one by one
    async fn find_response(
        &mut self,
        request: &Request,
        backend: &Backend,
        timeouts: &Timeouts,
        body: &mut Pump,
        incoming: &mut Buf,
        reply: &mut Buf,
        outcome: &mut Outcome,
    ) -> Result<(Upstream, ResponseHead, crate::l7::upstream::InFlight), NoHead> {
        let context = Arc::clone(&self.context);
        let shard = context.shard();
        let ejection = &context.settings.ejection;
        let mut tried = [0u64; 8];
        let mut attempts = 0;
        // Everything of it is still at hand: nothing was read from the client beyond `head`.
        let replayable = body.is_read();
        let mut fresh_only = false;
        let mut last = NoHead::Broken { began: false };
        loop {
            let now_ms = context.now_ms(request.started);
            let Some(endpoint) = backend.pick(&tried[..attempts], now_ms) else {
                return Err(last);
            };
            let in_flight = endpoint.enter();
            outcome.upstream = Some(endpoint.address);
            let idle = if fresh_only { None } else { checkout(endpoint) };
            let mut upstream = match idle {
                Some(upstream) => {
                    shard.upstream_reused.increment();
                    upstream
                }
                None => match connect(endpoint, &self.timer, timeouts.connect).await {
                    Ok(upstream) => {
                        shard.upstream_connects.increment();
                        upstream
                    }
                    Err(error) => {
                        shard.upstream_connect_failures.increment();
                        tracing::debug!(endpoint = %endpoint.address, %error, "connect failed");
                        if endpoint.failed(ejection, now_ms) {
                            eject(shard, endpoint.address);
                        }
                        last = match error.kind() {
                            io::ErrorKind::TimedOut => NoHead::TimedOut,
                            _ => NoHead::Broken { began: false },
                        };
                        tried[attempts] = endpoint.id;
                        attempts += 1;
                        if attempts >= context.settings.tries {
                            return Err(last);
                        }
                        continue;
                    }
                },
            };
            let sent_at = Instant::now();
            let mut attempt = Attempt {
                request,
                timeouts,
                upstream: &mut upstream,
                body,
                out: Buf::default(),
                incoming,
                reply,
                sent: false,
                interim: 0,
                torn: false,
                watches_client: true,
            };
            attempt.out.put(request.head.filled());
            let result = self.await_head(&mut attempt).await;
            if result.is_err() && !attempt.torn {
                attempt.reply.clear();
            }
            drop(attempt);
            outcome.upstream_duration = sent_at.elapsed();
            let error = match result {
                Ok(head) => {
                    endpoint.succeeded();
                    return Ok((upstream, head, in_flight));
                }
                Err(error) => error,
            };
            let blame = !matches!(error, NoHead::Client(_) | NoHead::ClientTimedOut);
            let stale = upstream.reused && matches!(error, NoHead::Broken { began: false });
            if blame && !stale && endpoint.failed(ejection, now_ms) {
                eject(shard, endpoint.address);
            }
            // RFC 9110, 9.2.2: only what is idempotent is repeated without being asked.
            let may_repeat = matches!(error, NoHead::Broken { began: false })
                && replayable
                && request.method.is_idempotent();
            if !may_repeat || attempts + 1 >= context.settings.tries.max(2) {
                return Err(error);
            }
            // A stale connection says nothing against its endpoint; a fresh one that broke does.
            if stale {
                fresh_only = true;
            } else {
                tried[attempts] = endpoint.id;
            }
            attempts += 1;
            last = error;
            shard.upstream_retries.increment();
            *body = Pump::ended(body.bytes);
            incoming.clear();
            reply.clear();
        }
    }

    /// Sends the request and waits for the final response's head, which is then in `reply`.
    async fn await_head(&mut self, attempt: &mut Attempt<'_>) -> Result<ResponseHead, NoHead> {
        self.timer.set(attempt.timeouts.body_stall);
        let result = poll_fn(|cx| match self.poll_head(cx, attempt) {
            Poll::Pending if self.timer.is_elapsed() => {
                let client = !attempt.sent && attempt.out.is_empty();
                Poll::Ready(Err(if client { NoHead::ClientTimedOut } else { NoHead::TimedOut }))
            }
            other => other,
        })
        .await;
        self.timer.clear();
        result
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        attempt: &mut Attempt<'_>,
    ) -> Poll<Result<ResponseHead, NoHead>> {
        let Self { client, inbound, timer, context, .. } = self;
        let limits = &context.settings.limits;
        if !attempt.sent {
            let before = (attempt.body.bytes, attempt.out.len());
            let stream = &mut attempt.upstream.stream;
            match attempt.body.poll(cx, client, inbound, stream, &mut attempt.out, limits) {
                Poll::Ready(Ok(())) => {
                    attempt.sent = true;
                    timer.set(attempt.timeouts.upstream_head);
                }
                // It may have answered before it stopped listening.
                Poll::Ready(Err(error)) if error.is_receiver() => {
                    attempt.sent = true;
                    timer.set(attempt.timeouts.upstream_head);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(NoHead::Client(error))),
                Poll::Pending => {
                    if before != (attempt.body.bytes, attempt.out.len()) {
                        timer.set(attempt.timeouts.body_stall);
                    }
                }
            }
        }
        loop {
            // Interim responses go out before anything else is read.
            while !attempt.reply.is_empty() {
                match client.poll_write(cx, [attempt.reply.filled(), b"", b""]) {
                    Poll::Ready(Ok(n)) if n > 0 => {
                        attempt.reply.consume(n);
                        attempt.torn = !attempt.reply.is_empty();
                    }
                    Poll::Ready(result) => {
                        let error = result.err().unwrap_or_else(|| io::ErrorKind::WriteZero.into());
                        return Poll::Ready(Err(NoHead::Client(PumpError::Write(error))));
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
            if attempt.interim > 0
                && let Poll::Ready(Err(error)) = client.poll_flush(cx)
            {
                return Poll::Ready(Err(NoHead::Client(PumpError::Write(error))));
            }
            if !attempt.incoming.is_empty() {
                match attempt.take_head(context) {
                    Ok(Some(head)) => return Poll::Ready(Ok(head)),
                    Ok(None) if !attempt.reply.is_empty() => continue,
                    Ok(None) => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            let began = !attempt.incoming.is_empty() || attempt.interim > 0;
            match Stream::poll_read(&mut attempt.upstream.stream, cx, attempt.incoming) {
                Poll::Pending if attempt.sent && attempt.watches_client => {
                    return attempt.poll_client_gone(cx, client.socket());
                }
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0) | Err(_)) => {
                    return Poll::Ready(Err(NoHead::Broken { began }));
                }
                Poll::Ready(Ok(_)) => {}
            }
        }
    }

    /// Passes the response's body back, and what is left of the request's body on.
    async fn relay(
        &mut self,
        upstream: &mut Upstream,
        body: &mut Pump,
        response: &mut Pump,
        incoming: &mut Buf,
        reply: &mut Buf,
        timeouts: &Timeouts,
    ) -> Result<(), &'static str> {
        let Self { client, inbound, timer, context, .. } = self;
        let limits = &context.settings.limits;
        let mut out = Buf::default();
        // Whether the endpoint still takes the request's body.
        let mut sending = !body.is_read();
        timer.set(timeouts.body_stall);
        let result = poll_fn(|cx| {
            let before = (body.bytes, response.bytes, reply.len());
            if sending {
                match body.poll(cx, client, inbound, &mut upstream.stream, &mut out, limits) {
                    Poll::Ready(Ok(())) => sending = false,
                    Poll::Ready(Err(error)) if error.is_receiver() => sending = false,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(request_error(&error))),
                    Poll::Pending => {}
                }
            }
            match response.poll(cx, &mut upstream.stream, incoming, client, reply, limits) {
                Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) => Poll::Ready(Err(response_error(&error))),
                Poll::Pending if before != (body.bytes, response.bytes, reply.len()) => {
                    timer.set(timeouts.body_stall);
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
        error: NoHead,
        mut outcome: Outcome,
        torn: bool,
    ) -> Next {
        let (status, text) = match &error {
            NoHead::Broken { began: false } => (502, "endpoint closed the connection"),
            NoHead::Broken { began: true } => (502, "endpoint closed amid the response head"),
            NoHead::TimedOut => (504, "endpoint timed out"),
            NoHead::Malformed(error) => (502, super::head_error_text(*error)),
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

impl Attempt<'_> {
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
                self.watches_client = false;
                Poll::Pending
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(NoHead::Client(PumpError::Read(error)))),
        }
    }

    /// Reads a head out of what has come in and writes it to `reply`. None: interim, or not whole.
    fn take_head(
        &mut self,
        context: &super::ListenerContext,
    ) -> Result<Option<ResponseHead>, NoHead> {
        let (request, limits) = (self.request, &context.settings.limits);
        let parsed = with_fields(|fields| {
            let buf = self.incoming.filled();
            let parsed = http1::parse_response(buf, request.method, limits, fields);
            let Some(head) = parsed.map_err(NoHead::Malformed)? else { return Ok(None) };
            let interim = head.status < 200 && head.status != 101;
            if head.status == 101 && !request.upgrade {
                return Err(NoHead::Unexpected);
            }
            // RFC 9110, 15.2: interim responses are unknown to HTTP/1.0.
            if !(interim && request.version == Version::Http10) {
                let (chunked, until_close) = onward_framing(head.framing, request.version);
                let keep_alive = request.keep_alive && !until_close && !context.is_draining();
                let onward =
                    Onward { version: request.version, chunked: chunked && !interim, keep_alive };
                write_head(buf, &head, fields, onward, self.reply);
            }
            Ok(Some(head))
        })?;
        let Some(head) = parsed else { return Ok(None) };
        self.incoming.consume(head.len);
        if head.status >= 200 || head.status == 101 {
            return Ok(Some(head));
        }
        self.interim += 1;
        if self.interim > INTERIM {
            return Err(NoHead::Unexpected);
        }
        // Another head may stand right behind it.
        if self.reply.is_empty() && !self.incoming.is_empty() {
            return self.take_head(context);
        }
        Ok(None)
    }
}

fn eject(shard: &crate::metrics::WorkerShard, endpoint: std::net::SocketAddr) {
    shard.upstream_ejections.increment();
    tracing::warn!(%endpoint, "endpoint ejected after failures");
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
