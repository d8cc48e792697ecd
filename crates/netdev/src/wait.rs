//! Waiting for several descriptors at once, with a way to be woken from another thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// Wakes a thread that waits. Clones wake the same.
#[derive(Clone, Debug)]
pub struct Waker(Arc<EventFd>);

impl Waker {
    /// One that has not been called.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self(Arc::new(EventFd::from_value_and_flags(0, flags)?)))
    }

    /// Makes the descriptor readable until [`Waker::clear`]; from any thread.
    pub fn wake(&self) {
        // It fails only where it has been called 2^64 - 2 times: awake as can be.
        let _ = self.0.write(1);
    }

    /// Whether it was called since the last time that this was asked.
    pub fn clear(&self) -> bool {
        self.0.read().is_ok()
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits until something can be read from one of the descriptors (or its other end is gone), and
/// tells of each whether it is one of those; all false after the timeout.
///
/// # Errors
/// A descriptor that is none.
pub fn any(descriptors: &[BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<Vec<bool>> {
    let mut polled: Vec<PollFd<'_>> =
        descriptors.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        match poll(&mut polled, limit(left)) {
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(polled.iter().map(|fd| fd.any().unwrap_or(true)).collect())
}

/// Whether something can be read in time.
pub(crate) fn readable(fd: BorrowedFd<'_>, timeout: Duration) -> Result<bool, Errno> {
    let mut polled = [PollFd::new(fd, PollFlags::POLLIN)];
    match poll(&mut polled, limit(Some(timeout))) {
        Ok(ready) => Ok(ready > 0),
        // The caller looks, and at its clock.
        Err(Errno::EINTR) => Ok(true),
        Err(errno) => Err(errno),
    }
}

/// As poll has it: milliseconds, rounded up so that nobody spins.
pub(crate) fn limit(left: Option<Duration>) -> PollTimeout {
    let Some(left) = left else { return PollTimeout::NONE };
    let milliseconds = left.as_nanos().div_ceil(1_000_000);
    i32::try_from(milliseconds).ok().and_then(|ms| ms.try_into().ok()).unwrap_or(PollTimeout::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_thread_wakes() {
        let waker = Waker::new().unwrap();
        let idle = Waker::new().unwrap();
        let other = waker.clone();
        let thread = std::thread::spawn(move || other.wake());
        let woken = any(&[idle.as_fd(), waker.as_fd()], Some(Duration::from_secs(10))).unwrap();
        thread.join().unwrap();
        assert_eq!(woken, [false, true]);
        assert!(waker.clear());
        assert!(!waker.clear());
        assert_eq!(any(&[waker.as_fd()], Some(Duration::ZERO)).unwrap(), [false]);
    }
}
