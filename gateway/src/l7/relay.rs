//! Bytes both ways between two streams, unread, until both ends have closed.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http1::{Framing, Limits};

use super::buffer::Buf;
use super::pump::{Pump, PumpError};
use super::timer::{Timer, are_expired};
use super::transport::Stream;

/// The pump's limits, which only hold for trailers.
const NO_HEADS: Limits = Limits { head_bytes: 0, target_bytes: 0, fields: 0 };

/// After so long without a byte, pipes are given back: a quiet relay holds only its two sockets.
const REST: Duration = Duration::from_secs(5);

/// Why bytes no longer pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RelayError {
    /// An end broke off.
    Reading,
    /// An end takes nothing more.
    Writing,
    /// Nothing moved for too long.
    Idle,
}

/// One end: the stream, what was read from it already, and the direction that it is the source of.
pub(crate) struct End<'a, S> {
    pub(crate) stream: &'a mut S,
    pub(crate) buf: &'a mut Buf,
    pub(crate) onward: Direction,
}

impl<'a, S: Stream> End<'a, S> {
    /// `first` goes to the other end before anything that comes from this one.
    pub(crate) fn new(stream: &'a mut S, buf: &'a mut Buf, first: Buf) -> Self {
        Self { stream, buf, onward: Direction::new(first) }
    }

    /// Bytes that have come from this end.
    pub(crate) fn bytes(&self) -> u64 {
        self.onward.pump.bytes
    }
}

/// One direction.
pub(crate) struct Direction {
    pump: Pump,
    piped: bool,
    ended: bool,
}

impl Direction {
    fn new(first: Buf) -> Self {
        let pump = Pump::new(Framing::UntilClose, false, None).behind(first);
        Self { pump, piped: false, ended: false }
    }

    /// Ready when the source has ended and the sink knows.
    fn poll<S: Stream, D: Stream>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut S,
        source_buf: &mut Buf,
        sink: &mut D,
    ) -> Poll<Result<(), PumpError>> {
        if !self.piped {
            ready!(self.pump.poll(cx, source, source_buf, sink, &NO_HEADS))?;
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

/// Passes bytes both ways until both ends have closed, one breaks, or nothing moves for `idle`.
/// `moved` is told after each round how many bytes have come from either end so far.
pub(crate) async fn relay<A: Stream, B: Stream>(
    a: &mut End<'_, A>,
    b: &mut End<'_, B>,
    timer: &Timer,
    idle: Duration,
    mut moved: impl FnMut(u64, u64),
) -> Result<(), RelayError> {
    timer.set(idle.min(REST));
    let mut rests = false;
    let result = poll_fn(|cx| {
        let before = (a.onward.pump.moved, b.onward.pump.moved);
        let polled = poll_both(cx, a, b);
        let now = (a.onward.pump.moved, b.onward.pump.moved);
        if before != now {
            moved(a.bytes(), b.bytes());
        }
        match polled {
            Poll::Pending if before != now => {
                rests = false;
                timer.set(idle.min(REST));
            }
            Poll::Pending if timer.is_elapsed() => {
                if rests || idle <= REST || are_expired() {
                    return Poll::Ready(Err(RelayError::Idle));
                }
                rests = true;
                a.onward.pump.rest();
                b.onward.pump.rest();
                timer.set(idle - REST);
            }
            Poll::Pending => {}
            Poll::Ready(result) => return Poll::Ready(result),
        }
        Poll::Pending
    })
    .await;
    timer.clear();
    result
}

fn poll_both<A: Stream, B: Stream>(
    cx: &mut Context<'_>,
    a: &mut End<'_, A>,
    b: &mut End<'_, B>,
) -> Poll<Result<(), RelayError>> {
    if !a.onward.ended
        && let Poll::Ready(Err(error)) = a.onward.poll(cx, a.stream, a.buf, b.stream)
    {
        return Poll::Ready(Err(error_of(&error)));
    }
    if !b.onward.ended
        && let Poll::Ready(Err(error)) = b.onward.poll(cx, b.stream, b.buf, a.stream)
    {
        return Poll::Ready(Err(error_of(&error)));
    }
    if a.onward.ended && b.onward.ended { Poll::Ready(Ok(())) } else { Poll::Pending }
}

fn error_of(error: &PumpError) -> RelayError {
    match error {
        PumpError::Write(_) => RelayError::Writing,
        _ => RelayError::Reading,
    }
}
