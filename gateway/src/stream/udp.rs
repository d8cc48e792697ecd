//! UDP: a session for each client, with a socket of its own towards its endpoint.
//!
//! The kernel gives all of a client's datagrams to the same worker's socket, so each worker has
//! its own sessions. A session ends when nothing has moved for a while, when its endpoint is gone
//! or refuses, or when the listener goes.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Poll;
use std::time::Duration;

use foldhash::HashMap;
use nix::sys::resource::{Resource, getrlimit};
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{EJECTION, Open, StreamContext};
use super::port::Port;
use crate::l7::timer::{are_expired, coarse_now, timer};
use crate::l7::upstream::{Endpoint, InFlight};
use packet::{Packets, Path, Received};

pub(crate) mod packet;

/// Sessions of one port of a Service, on all workers.
const MOST: u64 = 65_536;
/// The share of the descriptors that this process may have which all sessions together may take:
/// the rest is for connections, the admin side and the manifests.
const SHARE: u64 = 2;
/// How often it is said that there are too many.
const WARN_EVERY_MS: u64 = 10_000;

/// All sessions of this process.
static ALL: AtomicU64 = AtomicU64::new(0);

/// How many sessions all ports together may have.
fn most_of_all() -> u64 {
    static MOST_OF_ALL: OnceLock<u64> = OnceLock::new();
    *MOST_OF_ALL
        .get_or_init(|| getrlimit(Resource::RLIMIT_NOFILE).map_or(MOST, |(soft, _)| soft / SHARE))
}

/// A place among all sessions, given back when it is dropped.
#[derive(Debug)]
struct Place;

impl Place {
    fn take() -> Option<Self> {
        let place = ALL.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |all| {
            (all < most_of_all()).then_some(all + 1)
        });
        place.ok().map(|_| Self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        ALL.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Says now and then that there are too many sessions.
fn warn_of_too_many(port: &Port) {
    static WARNED: AtomicU64 = AtomicU64::new(0);
    let (now, before) = (coarse_now(), WARNED.load(Ordering::Relaxed));
    if before == 0 || now.saturating_sub(before) > WARN_EVERY_MS {
        WARNED.store(now.max(1), Ordering::Relaxed);
        tracing::warn!(
            service = %port.service,
            most = most_of_all(),
            "too many UDP sessions through user space: new clients are not served; raise the \
             limit of open files, or shorten tidegate.io/idle-timeout"
        );
    }
}

/// Datagrams that are taken in before others have their turn.
const BATCH: usize = 64;
/// The largest datagram.
const LARGEST: usize = 65_536;
/// Rest after a failure to receive.
const REST: Duration = Duration::from_millis(50);

thread_local! {
    /// Where datagrams stand between being received and sent on.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; LARGEST]);
}

type Sessions = HashMap<Path, (Arc<Session>, AbortHandle)>;

/// One listener on one worker.
#[derive(Debug)]
struct Listener {
    packets: Packets,
    context: StreamContext,
    /// Only this worker's thread looks at it; the lock is never waited for.
    sessions: Mutex<Sessions>,
}

/// A client's way to an endpoint.
#[derive(Debug)]
struct Session {
    upstream: UdpSocket,
    endpoint: Arc<Endpoint>,
    port: Arc<Port>,
    path: Path,
    /// When something last moved, by the thread's coarse clock.
    moved_ms: AtomicU64,
    _in_flight: InFlight,
    _place: Place,
}

/// Serves clients until `close`. Then all sessions end, also where the gateway stops: none tells
/// whether it is over, and a port that is closed refuses its clients, who may go elsewhere.
pub(crate) async fn serve(
    socket: std::net::UdpSocket,
    context: StreamContext,
    close: CancellationToken,
    connections: TaskTracker,
) {
    let packets = match Packets::new(socket) {
        Ok(packets) => packets,
        Err(error) => {
            tracing::error!(%error, "listener lost");
            return;
        }
    };
    let listener = Arc::new(Listener { packets, context, sessions: Mutex::default() });
    let take = |received: Received, bytes: &[u8]| {
        listener.take(received.path, bytes, &connections);
    };
    loop {
        let ready = poll_fn(|cx| listener.packets.poll_ready(cx));
        tokio::select! {
            _ = ready => {}
            () = close.cancelled() => break,
        }
        if listener.receive(take).is_err() {
            tokio::time::sleep(REST).await;
        }
    }
    let all = std::mem::take(&mut *listener.sessions());
    all.into_values().for_each(|(_, task)| task.abort());
}

impl Listener {
    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what is there, up to a batch.
    fn receive(&self, take: impl Fn(Received, &[u8])) -> io::Result<()> {
        BUFFER.with_borrow_mut(|buffer| {
            for _ in 0..BATCH {
                match self.packets.try_receive(buffer) {
                    Ok(received) => take(received, buffer.get(..received.len).unwrap_or_default()),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // An ICMP error about an earlier answer.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })
    }

    /// Passes a client's datagram on; begins a session if need be.
    fn take(self: &Arc<Self>, path: Path, bytes: &[u8], connections: &TaskTracker) {
        // A session may turn out to be over; the new one is only tried once.
        for _ in 0..2 {
            let known = self.sessions().get(&path).map(|(session, _)| Arc::clone(session));
            let Some(session) = known.or_else(|| self.begin(path, connections)) else { return };
            if !session.endpoint.retired.load(Ordering::Relaxed) {
                let shard = session.port.shard(self.context.worker);
                // The event loop doesn't know a new socket yet, so the system is asked itself.
                match SockRef::from(&session.upstream).send(bytes) {
                    Ok(n) => {
                        shard.received.add(n as u64);
                        session.moved();
                        return;
                    }
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                        session.endpoint.failed(&EJECTION, self.context.common.now_ms());
                    }
                    // Full, or too large.
                    Err(_) => return shard.dropped.increment(),
                }
            }
            self.end(&session);
        }
    }

    /// A new session, unless there are too many or nowhere to send to.
    fn begin(self: &Arc<Self>, path: Path, connections: &TaskTracker) -> Option<Arc<Session>> {
        let StreamContext { front, common, worker } = &self.context;
        let routes = front.routes.load();
        let port = routes.first.as_ref()?;
        let meant = |except: &foldhash::HashSet<_>| {
            path.local.is_none_or(|local| !except.contains(&local.to_canonical()))
        };
        if !routes.except.as_deref().is_none_or(meant) {
            return None;
        }
        let shard = port.shard(*worker);
        if port.counters.active() >= MOST {
            shard.dropped.increment();
            return None;
        }
        let Some(place) = Place::take() else {
            shard.dropped.increment();
            warn_of_too_many(port);
            return None;
        };
        let Some((endpoint, in_flight)) = port.pick(path.client, &[], common.now_ms()) else {
            shard.without_endpoint.increment();
            shard.dropped.increment();
            return None;
        };
        let upstream = match connected(endpoint.address) {
            Ok(upstream) => upstream,
            Err(error) => {
                tracing::debug!(endpoint = %endpoint.address, %error, "no UDP session");
                shard.connect_failures.increment();
                shard.dropped.increment();
                return None;
            }
        };
        let session = Arc::new(Session {
            upstream,
            endpoint,
            port: Arc::clone(port),
            path,
            moved_ms: AtomicU64::new(coarse_now()),
            _in_flight: in_flight,
            _place: place,
        });
        shard.accepted.increment();
        let open = Open(Arc::clone(port), *worker);
        let task = connections.spawn(answers(Arc::clone(self), Arc::clone(&session), open));
        self.sessions().insert(path, (Arc::clone(&session), task.abort_handle()));
        Some(session)
    }

    /// Ends a session from outside its task.
    fn end(&self, session: &Arc<Session>) {
        if let Some(task) = self.forget(session) {
            task.abort();
        }
    }

    /// Takes a session out, unless another has its place already.
    fn forget(&self, session: &Arc<Session>) -> Option<AbortHandle> {
        let mut sessions = self.sessions();
        let (known, _) = sessions.get(&session.path)?;
        if !Arc::ptr_eq(known, session) {
            return None;
        }
        sessions.remove(&session.path).map(|(_, task)| task)
    }

    /// Passes on what the endpoint has answered, up to a batch. Answers whether it is still there.
    fn answer(&self, session: &Session) -> bool {
        let shard = session.port.shard(self.context.worker);
        BUFFER.with_borrow_mut(|buffer| {
            for _ in 0..BATCH {
                let len = match session.upstream.try_recv(buffer) {
                    Ok(len) => len,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => {
                        tracing::debug!(endpoint = %session.endpoint.address, %error, "UDP");
                        session.endpoint.failed(&EJECTION, self.context.common.now_ms());
                        return false;
                    }
                };
                session.moved();
                session.endpoint.succeeded();
                let bytes = buffer.get(..len).unwrap_or_default();
                match self.packets.try_send(bytes, &session.path) {
                    Ok(n) => shard.sent.add(n as u64),
                    Err(_) => shard.dropped.increment(),
                }
            }
            true
        })
    }
}

impl Session {
    fn moved(&self) {
        self.moved_ms.store(coarse_now(), Ordering::Relaxed);
    }
}

/// A session's task: answers go back until it is over.
async fn answers(listener: Arc<Listener>, session: Arc<Session>, _open: Open) {
    let timer = timer().await;
    let idle = session.port.idle;
    timer.set(idle);
    poll_fn(|cx| {
        loop {
            match session.upstream.poll_recv_ready(cx) {
                Poll::Ready(Ok(())) if listener.answer(&session) => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        if !timer.is_elapsed() {
            return Poll::Pending;
        }
        // Something may have moved since it was set.
        let quiet = coarse_now().saturating_sub(session.moved_ms.load(Ordering::Relaxed));
        match idle.checked_sub(Duration::from_millis(quiet)).filter(|left| !left.is_zero()) {
            Some(left) if !are_expired() => {
                timer.set(left);
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    })
    .await;
    listener.forget(&session);
}

/// A socket that only talks with this endpoint.
fn connected(to: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = std::net::UdpSocket::bind(any)?;
    socket.connect(to)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}
