//! Waking up to the microsecond, where epoll's own time-out has milliseconds (timerfd_create(2)).

use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use anyhow::Context;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

/// Ends a wait of epoll at a moment.
#[derive(Debug)]
pub(crate) struct Timer {
    timer: TimerFd,
}

impl Timer {
    /// A timer that is not set, whose events come under a token.
    pub(crate) fn new(registry: &Registry, token: Token) -> anyhow::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags).context("timerfd")?;
        let raw = timer.as_fd().as_raw_fd();
        registry.register(&mut SourceFd(&raw), token, Interest::READABLE).context("epoll")?;
        Ok(Self { timer })
    }

    /// Has the timer's event come after this time, once. It is never read: each expiry is an edge.
    pub(crate) fn set(&self, after: Duration) -> anyhow::Result<()> {
        let nanoseconds = i64::try_from(after.as_nanos()).unwrap_or(i64::MAX).max(1);
        let expiration = Expiration::OneShot(TimeSpec::nanoseconds(nanoseconds));
        self.timer.set(expiration, TimerSetTimeFlags::empty()).context("timerfd")
    }
}
