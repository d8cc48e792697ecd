//! Long bodies between two plain TCP connections, without their bytes coming up into the process.
//!
//! splice(2) hands the kernel's pages from one socket over a pipe to the other, which saves both
//! copies. It pays from some 100 KiB on; below that its further system calls cost more.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// A pipe's size: what is under way between the two sockets.
const PIPE: usize = 256 * 1024;
/// A pipe that may not be this large, since its user has many, is worse than copying.
const PIPE_MIN: usize = 64 * 1024;
/// How many empty pipes a thread keeps.
const KEEP: usize = 32;
/// From so many bytes to come, or an unknown number, a body is spliced.
pub(super) const WORTH: u64 = 128 * 1024;

thread_local! {
    static POOL: RefCell<Vec<(OwnedFd, OwnedFd)>> = const { RefCell::new(Vec::new()) };
}

/// A pipe, and how much stands in it.
#[derive(Debug)]
pub(super) struct Pipe {
    /// Read end, then write end; none once given back.
    ends: Option<(OwnedFd, OwnedFd)>,
    filled: usize,
}

/// Which side broke.
#[derive(Debug)]
pub(super) enum SpliceError {
    Source(io::Error),
    Sink(io::Error),
}

impl Pipe {
    /// An empty pipe; none where the system has no more.
    pub(super) fn take() -> Option<Self> {
        let ends = POOL.with_borrow_mut(Vec::pop).or_else(|| {
            let ends = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
            let size = fcntl_setpipe_size(&ends.1, PIPE)
                .or_else(|_| rustix::pipe::fcntl_getpipe_size(&ends.1));
            size.is_ok_and(|size| size >= PIPE_MIN).then_some(ends)
        })?;
        Some(Self { ends: Some(ends), filled: 0 })
    }

    /// Whether everything that came in has gone out.
    pub(super) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Writes out what stands in the pipe, and counts it in `moved`.
    pub(super) fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        sink: &TcpStream,
        moved: &mut u64,
    ) -> Poll<Result<(), SpliceError>> {
        while self.filled > 0 {
            ready!(sink.poll_write_ready(cx)).map_err(SpliceError::Sink)?;
            let Some((read, _)) = &self.ends else { break };
            let result = sink.try_io(Interest::WRITABLE, || {
                let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
                splice(read, None, sink, None, self.filled, flags).map_err(io::Error::from)
            });
            match result {
                Ok(n) => {
                    self.filled -= n;
                    *moved += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(SpliceError::Sink(error))),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes at most `limit` bytes in; 0 is the source's end. The pipe must be empty.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        source: &TcpStream,
        limit: u64,
    ) -> Poll<Result<usize, SpliceError>> {
        let limit = usize::try_from(limit).unwrap_or(PIPE).min(PIPE);
        loop {
            ready!(source.poll_read_ready(cx)).map_err(SpliceError::Source)?;
            let Some((_, write)) = &self.ends else { return Poll::Ready(Ok(0)) };
            let moved = source.try_io(Interest::READABLE, || {
                let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
                splice(source, None, write, None, limit, flags).map_err(io::Error::from)
            });
            match moved {
                Ok(n) => {
                    self.filled = n;
                    return Poll::Ready(Ok(n));
                }
                // The pipe is empty, so it can only be the socket that has nothing.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(SpliceError::Source(error))),
            }
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // What is left in a pipe must not turn up in another body.
        if self.filled > 0 {
            return;
        }
        if let Some(ends) = self.ends.take() {
            // A thread that ends has no pool any more; the pipe is then simply closed.
            let _ = POOL.try_with(|pool| {
                let Ok(mut pool) = pool.try_borrow_mut() else { return };
                if pool.len() < KEEP {
                    pool.push(ends);
                }
            });
        }
    }
}
