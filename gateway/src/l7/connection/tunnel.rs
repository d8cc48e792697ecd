//! After a protocol change (RFC 9110, 7.8) bytes pass both ways unread.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http1::Framing;

use super::{Connection, Next, Outcome};
use crate::l7::buffer::Buf;
use crate::l7::pump::{Pump, PumpError};
use crate::l7::request::Request;
use crate::l7::transport::Stream;
use crate::l7::upstream::{InFlight, Upstream};

/// One direction of a tunnel.
struct Direction {
    pump: Pump,
    piped: bool,
    ended: bool,
}

impl Direction {
    /// `out` came before the tunnel and is still to be sent.
    fn new(out: Buf) -> Self {
        let pump = Pump::new(Framing::UntilClose, false, None).behind(out);
        Self { pump, piped: false, ended: false }
    }

    /// Ready when the source has ended and the sink knows.
    fn poll<S: Stream, D: Stream>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut S,
        source_buf: &mut Buf,
        sink: &mut D,
        limits: &http1::Limits,
    ) -> Poll<Result<(), PumpError>> {
        if !self.piped {
            ready!(self.pump.poll(cx, source, source_buf, sink, limits))?;
            self.piped = true;
        }
        ready!(sink.poll_shutdown(cx)).or_else(ignore_gone).map_err(PumpError::Write)?;
        self.ended = true;
        Poll::Ready(Ok(()))
    }
}

/// Shutting down a connection that the peer has closed already is no failure.
fn ignore_gone(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotConnected { Ok(()) } else { Err(error) }
}

impl Connection {
    /// Passes bytes both ways until both ends have closed, one breaks, or nothing moves for long.
    pub(super) async fn tunnel(
        &mut self,
        request: &Request,
        (mut upstream, _in_flight): (Upstream, InFlight),
        mut incoming: Buf,
        reply: Buf,
        idle: Duration,
        mut outcome: Outcome,
    ) -> Next {
        let shard_at = |i: usize| &self.context.shard().tunnels[i];
        shard_at(0).increment();
        let Self { client, inbound, timer, context, .. } = self;
        let limits = &context.settings.limits;
        let mut down = Direction::new(reply);
        let mut up = Direction::new(Buf::default());
        timer.set(idle);
        let result = poll_fn(|cx| {
            let before = (up.pump.moved, down.pump.moved);
            if !up.ended
                && let Poll::Ready(Err(error)) =
                    up.poll(cx, client, inbound, &mut upstream.stream, limits)
            {
                return Poll::Ready(Err(tunnel_error(&error)));
            }
            if !down.ended
                && let Poll::Ready(Err(error)) =
                    down.poll(cx, &mut upstream.stream, &mut incoming, client, limits)
            {
                return Poll::Ready(Err(tunnel_error(&error)));
            }
            if up.ended && down.ended {
                return Poll::Ready(Ok(()));
            }
            if before != (up.pump.moved, down.pump.moved) {
                timer.set(idle);
            } else if timer.is_elapsed() {
                return Poll::Ready(Err("tunnel idle"));
            }
            Poll::Pending
        })
        .await;
        timer.clear();
        outcome.received = up.pump.bytes;
        outcome.sent = down.pump.bytes;
        if let Err(error) = result {
            outcome.error = error;
        }
        self.context.shard().tunnels[1].increment();
        self.note(request, &outcome);
        if result.is_ok() { Next::Close } else { Next::Abort }
    }
}

fn tunnel_error(error: &PumpError) -> &'static str {
    match error {
        PumpError::Write(_) => "tunnel broke while writing",
        _ => "tunnel broke while reading",
    }
}
