//! Endpoints: their health, and the idle connections to them.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use foldhash::{HashMap, HashMapExt};
use tokio::net::TcpStream;

use super::timer::{Timer, coarse_now};

/// How many bytes may wait in a socket for the receiver's window (tcp(7), TCP_NOTSENT_LOWAT).
/// Without a limit a socket takes megabytes ahead and is writable again only when a third of them
/// has gone: a slow but steady receiver would look as if nothing moved.
pub(crate) const UNSENT: u32 = 64 * 1024;

/// One address that serves, with what all threads know of it. Lives as long as any table or
/// connection refers to it.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Endpoint {
    /// Never used again for another endpoint.
    pub(crate) id: u64,
    pub(crate) address: SocketAddr,
    /// No table in force has it any more: its idle connections are to be closed.
    pub(crate) retired: AtomicBool,
    inflight: AtomicU32,
    /// Consecutive failures.
    failures: AtomicU32,
    /// Times that it was taken out in a row.
    ejections: AtomicU32,
    /// Milliseconds of the process' clock; 0 for never.
    ejected_until: AtomicU64,
}

/// When an endpoint is taken out, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ejection {
    /// Consecutive failures that take it out; 0 for never.
    pub(crate) failures: u32,
    /// For the first time; each further time in a row takes twice as long.
    pub(crate) time_ms: u64,
    /// No longer than this.
    pub(crate) max_time_ms: u64,
}

impl Endpoint {
    pub(crate) fn new(address: SocketAddr, id: u64) -> Self {
        Self {
            id,
            address,
            retired: AtomicBool::new(false),
            inflight: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            ejections: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
        }
    }

    /// Requests under way.
    #[inline]
    pub(crate) fn inflight(&self) -> u32 {
        self.inflight.load(Ordering::Relaxed)
    }

    /// Counts a request until the guard is dropped.
    #[inline]
    pub(crate) fn enter(self: &Arc<Self>) -> InFlight {
        self.inflight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// Counts one more if there are as many as were `seen`.
    #[inline]
    pub(crate) fn enter_if(self: &Arc<Self>, seen: u32) -> Option<InFlight> {
        let (from, to) = (Ordering::Relaxed, Ordering::Relaxed);
        self.inflight.compare_exchange(seen, seen + 1, from, to).ok()?;
        Some(InFlight(Arc::clone(self)))
    }

    /// Whether it is out for now.
    #[inline]
    pub(crate) fn is_ejected(&self, now_ms: u64) -> bool {
        self.ejected_until.load(Ordering::Relaxed) > now_ms
    }

    /// It has answered.
    #[inline]
    pub(crate) fn succeeded(&self) {
        // Mostly nothing is to be written, and then nothing is.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.ejections.store(0, Ordering::Relaxed);
            self.ejected_until.store(0, Ordering::Relaxed);
        }
    }

    /// It could not be reached or broke off. Answers whether this took it out.
    pub(crate) fn failed(&self, policy: &Ejection, now_ms: u64) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if policy.failures == 0 || failures < policy.failures || self.is_ejected(now_ms) {
            return false;
        }
        // Once its time is over, a single further failure takes it out again.
        let times = self.ejections.fetch_add(1, Ordering::Relaxed).min(16);
        let time = (policy.time_ms << times).min(policy.max_time_ms);
        self.ejected_until.store(now_ms + time, Ordering::Relaxed);
        true
    }
}

/// A request under way at an endpoint.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Endpoint>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.inflight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection to an endpoint, in use for one request.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) stream: TcpStream,
    pub(crate) endpoint: Arc<Endpoint>,
    /// It has served a request before, so the endpoint may have closed it meanwhile.
    pub(crate) reused: bool,
}

struct Idle {
    stream: TcpStream,
    endpoint: Arc<Endpoint>,
    /// When it is closed, by the thread's coarse clock.
    until_ms: u64,
}

thread_local! {
    static POOL: RefCell<HashMap<u64, Vec<Idle>>> = RefCell::new(HashMap::new());
}

/// An idle connection to the endpoint that is still open, the one used last.
pub(crate) fn checkout(endpoint: &Endpoint) -> Option<Upstream> {
    POOL.with_borrow_mut(|pool| {
        let idle = pool.get_mut(&endpoint.id)?;
        while let Some(Idle { stream, endpoint, .. }) = idle.pop() {
            if is_quiet(&stream) {
                return Some(Upstream { stream, endpoint, reused: true });
            }
        }
        None
    })
}

/// Keeps a connection for later, if there is room, and no longer than `max_age`.
pub(crate) fn checkin(upstream: Upstream, max_idle: usize, max_age: Duration) {
    let Upstream { stream, endpoint, .. } = upstream;
    if endpoint.retired.load(Ordering::Relaxed) {
        return;
    }
    POOL.with_borrow_mut(|pool| {
        let idle = pool.entry(endpoint.id).or_default();
        if idle.len() < max_idle {
            let max_age = u64::try_from(max_age.as_millis()).unwrap_or(u64::MAX);
            let until_ms = coarse_now().saturating_add(max_age);
            idle.push(Idle { stream, endpoint, until_ms });
        }
    });
}

/// Closes idle connections that are too old, that the endpoint has closed, or whose endpoint is
/// gone. Answers how many are left. To be called now and then.
pub(crate) fn tidy() -> usize {
    let now = coarse_now();
    POOL.with_borrow_mut(|pool| {
        pool.retain(|_, idle| {
            idle.retain(|one| {
                now < one.until_ms
                    && !one.endpoint.retired.load(Ordering::Relaxed)
                    && is_quiet(&one.stream)
            });
            !idle.is_empty()
        });
        pool.values().map(Vec::len).sum()
    })
}

/// Whether nothing has come in, not even the end. Costs a system call only where something has.
fn is_quiet(stream: &TcpStream) -> bool {
    // Without news from the event loop this is answered without asking the socket.
    matches!(stream.try_read(&mut [0]), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
}

/// A new connection to the endpoint.
///
/// # Errors
/// As connect(2); `TimedOut` past the time-out.
pub(crate) async fn connect(
    endpoint: &Arc<Endpoint>,
    timer: &Timer,
    timeout: Duration,
) -> io::Result<Upstream> {
    let mut connecting = std::pin::pin!(TcpStream::connect(endpoint.address));
    let stream = timer
        .within(timeout, |cx| connecting.as_mut().poll(cx))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    socket2::SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT)?;
    Ok(Upstream { stream, endpoint: Arc::clone(endpoint), reused: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Ejection = Ejection { failures: 2, time_ms: 100, max_time_ms: 300 };

    fn endpoint() -> Endpoint {
        Endpoint::new(SocketAddr::from(([127, 0, 0, 1], 1)), 1)
    }

    #[test]
    fn failures_in_a_row_take_an_endpoint_out_and_time_brings_it_back() {
        let endpoint = endpoint();
        assert!(!endpoint.failed(&POLICY, 0));
        assert!(endpoint.failed(&POLICY, 0));
        assert!(endpoint.is_ejected(99));
        assert!(!endpoint.is_ejected(100));
    }

    #[test]
    fn each_ejection_in_a_row_lasts_twice_as_long_up_to_the_limit() {
        let endpoint = endpoint();
        endpoint.failed(&POLICY, 0);
        endpoint.failed(&POLICY, 0);
        assert!(endpoint.failed(&POLICY, 100));
        assert!(endpoint.is_ejected(299) && !endpoint.is_ejected(300));
        assert!(endpoint.failed(&POLICY, 300));
        assert!(endpoint.is_ejected(599) && !endpoint.is_ejected(600));
    }

    #[test]
    fn a_success_forgets_earlier_failures() {
        let endpoint = endpoint();
        endpoint.failed(&POLICY, 0);
        endpoint.succeeded();
        assert!(!endpoint.failed(&POLICY, 0));
    }
}
