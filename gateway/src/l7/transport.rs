//! The two ends of a request: byte streams that are polled with the caller's buffers.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::buffer::{Buf, LARGE};
use super::tls::stream::TlsStream;

/// A byte stream that is polled by hand, both directions in one task.
pub(crate) trait Stream {
    /// Ready when there is something to read, or the end. Needs no buffer.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Adds bytes to `buf`; 0 is the stream's end.
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut Buf) -> Poll<io::Result<usize>>;
    /// Writes from the pieces in order; answers how many bytes were taken.
    fn poll_write(&mut self, cx: &mut Context<'_>, pieces: [&[u8]; 3]) -> Poll<io::Result<usize>>;
    /// Ready when all that was taken is with the kernel.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Ends the sending direction.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// The TCP connection, where its bytes are the stream's.
    fn tcp(&self) -> Option<&TcpStream>;
}

impl Stream for TcpStream {
    #[inline]
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }

    #[inline]
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut Buf) -> Poll<io::Result<usize>> {
        // No memory is held while nothing is there to read.
        ready!(self.poll_read_ready(cx))?;
        poll_read_tcp(self, cx, buf)
    }

    #[inline]
    fn poll_write(&mut self, cx: &mut Context<'_>, pieces: [&[u8]; 3]) -> Poll<io::Result<usize>> {
        match pieces {
            [one, [], []] | [[], one, []] => Pin::new(self).poll_write(cx, one),
            pieces => Pin::new(self).poll_write_vectored(cx, &pieces.map(IoSlice::new)),
        }
    }

    #[inline]
    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(self), cx)
    }

    fn tcp(&self) -> Option<&TcpStream> {
        Some(self)
    }
}

/// Reads into a buffer that grows once it has been filled to the brim.
#[inline]
pub(crate) fn poll_read_tcp(
    stream: &mut TcpStream,
    cx: &mut Context<'_>,
    buf: &mut Buf,
) -> Poll<io::Result<usize>> {
    if buf.is_full() {
        buf.reserve(LARGE / 2);
    }
    let mut read = ReadBuf::new(buf.spare());
    ready!(Pin::new(stream).poll_read(cx, &mut read))?;
    let n = read.filled().len();
    buf.fill(n);
    Poll::Ready(Ok(n))
}

/// A client's connection.
#[derive(Debug)]
pub(crate) enum Client {
    /// As it is.
    Plain(TcpStream),
    /// Through TLS.
    Tls(Box<TlsStream>),
}

impl Client {
    /// The TCP connection below, whatever goes over it.
    pub(crate) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.tcp(),
        }
    }
}

impl Stream for Client {
    #[inline]
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => stream.poll_readable(cx),
            Self::Tls(stream) => stream.poll_readable(cx),
        }
    }

    #[inline]
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut Buf) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => Stream::poll_read(stream, cx, buf),
            Self::Tls(stream) => stream.poll_read(cx, buf),
        }
    }

    #[inline]
    fn poll_write(&mut self, cx: &mut Context<'_>, pieces: [&[u8]; 3]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => Stream::poll_write(stream, cx, pieces),
            Self::Tls(stream) => stream.poll_write(cx, pieces),
        }
    }

    #[inline]
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Stream::poll_flush(stream, cx),
            Self::Tls(stream) => stream.poll_flush(cx),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Stream::poll_shutdown(stream, cx),
            Self::Tls(stream) => stream.poll_shutdown(cx),
        }
    }

    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(stream) => Some(stream),
            Self::Tls(_) => None,
        }
    }
}
