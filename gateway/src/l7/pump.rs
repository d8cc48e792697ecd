//! One direction of a message body: out of one framing, into another, with back-pressure.

use std::io;
use std::ops::Range;
use std::task::{Context, Poll, ready};

use http1::{BodyError, Decoder, Field, FieldId, Framing, HeadError, Limits, chunk_header};
use tokio::net::TcpStream;

use super::buffer::{Buf, LARGE, SMALL};
use super::transport::Stream;
use splice::{Pipe, SpliceError};

mod splice;

/// From this size on, bytes are written from where they were read instead of being copied
/// together with what stands around them.
const DIRECT: usize = 4096;

/// Why a body could not be passed on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PumpError {
    /// The sender's end broke.
    #[error("reading: {0}")]
    Read(io::Error),
    /// The sender closed in the middle of the body.
    #[error("body cut short")]
    Truncated,
    /// The sender's framing is wrong.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The sender's trailers are wrong.
    #[error("trailers: {0}")]
    Trailers(#[from] HeadError),
    /// The body is longer than allowed.
    #[error("body larger than the limit")]
    TooLarge,
    /// The receiver's end broke.
    #[error("writing: {0}")]
    Write(io::Error),
}

/// Whether a body went through, or it is the receiver that takes no more of it.
pub(crate) fn is_through(result: &Result<(), PumpError>) -> bool {
    matches!(result, Ok(()) | Err(PumpError::Write(_)))
}

/// Passes a body on.
#[derive(Debug)]
pub(crate) struct Pump {
    decoder: Decoder,
    /// What is to be written before anything else: the head, then small pieces of the body.
    pub(crate) out: Buf,
    /// Whether the receiver gets chunked coding.
    chunked: bool,
    /// Bytes of the source buffer, counted from its first, that are being written directly.
    data: Range<usize>,
    /// Bytes of the source buffer to drop once `data` is written.
    used: usize,
    /// What follows `data`.
    tail: &'static [u8],
    /// Everything is in `out` or written.
    ended: bool,
    /// Everything is with the kernel.
    sent: bool,
    /// The source has more than a small buffer holds, so the next read gets a large one.
    bulk: bool,
    /// The way past the process, once the body has shown to be long.
    pipe: Option<Pipe>,
    /// Body bytes taken in so far, without framing.
    pub(crate) bytes: u64,
    /// Counts every byte that has moved, in or out: as long as it changes, nothing stalls.
    pub(crate) moved: u64,
    /// How much of an unfinished trailer section has been looked at.
    trailers_seen: usize,
    /// The most that may pass.
    limit: u64,
}

impl Pump {
    /// For a body that comes framed as `from`, and leaves chunked or as it is.
    pub(crate) fn new(from: Framing, chunked: bool, limit: Option<u64>) -> Self {
        let decoder = Decoder::new(from);
        let ended = decoder.is_done();
        Self {
            decoder,
            out: Buf::default(),
            chunked,
            data: 0..0,
            used: 0,
            tail: b"",
            ended,
            sent: false,
            bulk: false,
            pipe: None,
            bytes: 0,
            moved: 0,
            trailers_seen: 0,
            limit: limit.unwrap_or(u64::MAX),
        }
    }

    /// With these bytes to be sent before the body.
    pub(crate) fn behind(self, out: Buf) -> Self {
        Self { out, ..self }
    }

    /// A body of so many bytes that has been read whole.
    pub(crate) fn ended(bytes: u64) -> Self {
        Self { bytes, ..Self::new(Framing::Empty, false, None) }
    }

    /// Whether nothing more has to be read for this body.
    pub(crate) fn is_read(&self) -> bool {
        self.ended && self.used == 0
    }

    /// Whether the receiver's kernel has all of it, so that its connection stands behind it.
    pub(crate) fn is_sent(&self) -> bool {
        self.sent
    }

    /// Whether something that was taken in waits for the receiver, so that a standstill is its own.
    pub(crate) fn waits_for_sink(&self) -> bool {
        self.used > 0
            || !self.out.is_empty()
            || self.pipe.as_ref().is_some_and(|pipe| !pipe.is_empty())
    }

    /// Gives back what is only worth holding while much flows.
    pub(crate) fn rest(&mut self) {
        self.pipe.take_if(|pipe| pipe.is_empty());
        self.bulk = false;
    }

    /// Moves what stands in `source_buf` into `out` as far as it is small, without any I/O.
    pub(crate) fn prefill(
        &mut self,
        source_buf: &mut Buf,
        limits: &Limits,
    ) -> Result<(), PumpError> {
        while self.used == 0 && !self.ended && self.out.len() < SMALL {
            if !self.decode(source_buf, limits)? {
                break;
            }
        }
        Ok(())
    }

    /// Moves bytes until the body is through, or an end is not ready.
    pub(crate) fn poll<S: Stream, D: Stream>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut S,
        source_buf: &mut Buf,
        sink: &mut D,
        limits: &Limits,
    ) -> Poll<Result<(), PumpError>> {
        loop {
            if self.used > 0 || self.out.len() >= SMALL {
                ready!(self.poll_write(cx, source_buf, sink)).map_err(PumpError::Write)?;
                continue;
            }
            if !self.ended && self.decode(source_buf, limits)? {
                continue;
            }
            if !self.out.is_empty() {
                ready!(self.poll_write(cx, source_buf, sink)).map_err(PumpError::Write)?;
                continue;
            }
            if self.ended {
                ready!(sink.poll_flush(cx)).map_err(PumpError::Write)?;
                self.out.release_if_empty();
                self.sent = true;
                return Poll::Ready(Ok(()));
            }
            if self.splices(source_buf)
                && let (Some(from), Some(to)) = (source.tcp(), sink.tcp())
                && (self.pipe.is_some() || self.open_pipe())
            {
                source_buf.release_if_empty();
                ready!(self.poll_splice(cx, from, to))?;
                continue;
            }
            source_buf.release_if_empty();
            if self.bulk {
                source_buf.reserve(LARGE);
            }
            match source.poll_read(cx, source_buf) {
                Poll::Ready(Ok(0)) if self.decoder.ends_with_connection() => {
                    self.decoder.finish();
                    self.end();
                }
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(PumpError::Truncated)),
                Poll::Ready(Ok(n)) => {
                    self.moved += n as u64;
                    self.bulk = n >= SMALL / 2;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(PumpError::Read(error))),
                Poll::Pending => {
                    source_buf.release_if_empty();
                    // What the sink holds back must not wait for the source.
                    if let Poll::Ready(Err(error)) = sink.poll_flush(cx) {
                        return Poll::Ready(Err(PumpError::Write(error)));
                    }
                    self.out.release_if_empty();
                    return Poll::Pending;
                }
            }
        }
    }

    /// Whether what is left of the body may go past the process.
    fn splices(&self, source_buf: &Buf) -> bool {
        self.pipe.is_some()
            || self.bulk
                && !self.chunked
                && source_buf.is_empty()
                && self.limit == u64::MAX
                && (self.decoder.ends_with_connection()
                    || self.decoder.remaining().is_some_and(|left| left >= splice::WORTH))
    }

    fn open_pipe(&mut self) -> bool {
        self.pipe = Pipe::take();
        self.pipe.is_some()
    }

    /// Ready when a piece has passed, or the body is through.
    fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        source: &TcpStream,
        sink: &TcpStream,
    ) -> Poll<Result<(), PumpError>> {
        let Some(pipe) = &mut self.pipe else { return Poll::Ready(Ok(())) };
        let failed = |error| match error {
            SpliceError::Source(error) => PumpError::Read(error),
            SpliceError::Sink(error) => PumpError::Write(error),
        };
        if pipe.is_empty() {
            let left = self.decoder.remaining().unwrap_or(u64::MAX);
            if left > 0 {
                let n = ready!(pipe.poll_fill(cx, source, left)).map_err(failed)?;
                match n {
                    0 if self.decoder.ends_with_connection() => self.decoder.finish(),
                    0 => return Poll::Ready(Err(PumpError::Truncated)),
                    n => {
                        self.bytes += n as u64;
                        self.moved += n as u64;
                        self.decoder.skip(n as u64);
                    }
                }
            }
        }
        ready!(pipe.poll_drain(cx, sink, &mut self.moved)).map_err(failed)?;
        if self.decoder.is_done() {
            self.pipe = None;
            self.end();
        }
        Poll::Ready(Ok(()))
    }

    /// Writes `out`, `data` and `tail`, once.
    fn poll_write<D: Stream>(
        &mut self,
        cx: &mut Context<'_>,
        source_buf: &mut Buf,
        sink: &mut D,
    ) -> Poll<io::Result<()>> {
        let data = source_buf.filled().get(self.data.clone()).unwrap_or_default();
        let mut n = ready!(sink.poll_write(cx, [self.out.filled(), data, self.tail]))?;
        if n == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.moved += n as u64;
        let from_out = n.min(self.out.len());
        self.out.consume(from_out);
        n -= from_out;
        let from_data = n.min(self.data.len());
        self.data.start += from_data;
        n -= from_data;
        self.tail = self.tail.get(n..).unwrap_or_default();
        if self.out.is_empty() && self.data.is_empty() && self.tail.is_empty() {
            source_buf.consume(std::mem::take(&mut self.used));
            self.data = 0..0;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes one piece out of `source_buf`. Answers whether there was any progress.
    fn decode(&mut self, source_buf: &mut Buf, limits: &Limits) -> Result<bool, PumpError> {
        if self.decoder.at_trailers() {
            return self.trailers(source_buf, limits);
        }
        if source_buf.is_empty() {
            return Ok(false);
        }
        let decoded = self.decoder.decode(source_buf.filled_mut())?;
        if decoded.consumed == 0 {
            return Ok(false);
        }
        let len = decoded.data.len();
        self.bytes += len as u64;
        if self.bytes > self.limit {
            return Err(PumpError::TooLarge);
        }
        if len > 0 && self.chunked {
            self.out.put(chunk_header(len).as_bytes());
        }
        if len >= DIRECT {
            self.data = decoded.data;
            self.used = decoded.consumed;
            self.tail = if self.chunked { b"\r\n" } else { b"" };
        } else {
            if len > 0 {
                self.out.put(source_buf.filled().get(decoded.data).unwrap_or_default());
                if self.chunked {
                    self.out.put(b"\r\n");
                }
            }
            source_buf.consume(decoded.consumed);
        }
        if self.decoder.is_done() {
            self.ended = true;
        }
        Ok(true)
    }

    /// Reads the trailer section and passes on what may be passed on.
    fn trailers(&mut self, source_buf: &mut Buf, limits: &Limits) -> Result<bool, PumpError> {
        // The plain ending, which is nearly every one.
        if source_buf.filled().starts_with(b"\r\n") {
            source_buf.consume(2);
            self.decoder.finish();
            self.end();
            return Ok(true);
        }
        let buf = source_buf.filled();
        // Reading starts over each time, so it waits for the end of a further line.
        let new = buf.get(self.trailers_seen..).unwrap_or_default();
        if !new.contains(&b'\n') && buf.len() < limits.head_bytes {
            self.trailers_seen = buf.len();
            return Ok(false);
        }
        let mut fields = Vec::new();
        let Some(len) = http1::parse_trailers(buf, limits, &mut fields)? else {
            self.trailers_seen = buf.len();
            return Ok(false);
        };
        if self.chunked {
            self.out.put(b"0\r\n");
            for field in fields.iter().filter(|field| may_trail(field, buf)) {
                self.out.put(field.name.of(buf));
                self.out.put(b": ");
                self.out.put(field.value.of(buf));
                self.out.put(b"\r\n");
            }
            self.out.put(b"\r\n");
        }
        source_buf.consume(len);
        self.decoder.finish();
        self.ended = true;
        Ok(true)
    }

    fn end(&mut self) {
        if self.chunked {
            self.out.put(b"0\r\n\r\n");
        }
        self.ended = true;
    }
}

/// RFC 9110, 6.5.1: no framing, routing, authentication or the like in trailers.
fn may_trail(field: &Field, buf: &[u8]) -> bool {
    const NEVER: [&[u8]; 18] = [
        b"age",
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-range",
        b"content-type",
        b"cookie",
        b"expires",
        b"location",
        b"pragma",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"range",
        b"retry-after",
        b"set-cookie",
        b"vary",
        b"warning",
        b"www-authenticate",
    ];
    field.id == FieldId::Other
        && !NEVER.iter().any(|name| field.name.of(buf).eq_ignore_ascii_case(name))
}
