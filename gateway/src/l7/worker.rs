//! The workers' threads: listeners, accepting, draining.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use model::{AlbKind, Diagnostic};
use plan::l4::L4Plan;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection;
use super::context::ListenerContext;
use super::settings::{Settings, Timeouts};
use super::table::Shared;
use super::upstream::Ejection;
use super::{buffer, gate, timer, tls, upstream};
use crate::access_log::AccessLog;
use crate::config::Alb;
use crate::stream::connection::Common;
use listeners::{Listeners, Worker};
use socket::{Bind, listen};

pub(crate) mod listeners;
mod socket;

/// How often idle upstream connections and free buffers are looked through, in ticks.
const TIDY_TICKS: u32 = 20;
/// How long requests that are cut may take to be noted.
const CUT: Duration = Duration::from_millis(500);
/// Rest after a failure to accept, as when file descriptors have run out.
const ACCEPT_REST: Duration = Duration::from_millis(50);
/// How often such failures are logged.
const WARN_EVERY: Duration = Duration::from_secs(5);
/// The ports of addresses out of pools unless others are given.
const POOL_PORTS: (Option<u16>, Option<u16>) = (Some(80), Some(443));
/// What streams may take where there is no ALB to say so.
const STREAM_HEAD: Duration = Duration::from_secs(10);
const STREAM_CONNECT: Duration = Duration::from_secs(5);

/// A listener could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address can't be bound.
    #[error(
        "alb.{kind}.listen: {address}: {error}; stop what listens there, give another address or \
         port, or run with the right to bind it"
    )]
    Bind {
        /// The ALB.
        kind: AlbKind,
        /// The address.
        address: SocketAddr,
        /// bind(2)'s or listen(2)'s error.
        error: io::Error,
    },
    /// TLS can't be set up.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// A thread or its event loop can't be made.
    #[error("starting a worker: {0}")]
    Thread(io::Error),
}

/// One ALB's listeners, as configured.
#[derive(Clone, Debug)]
pub struct AlbListeners {
    kind: AlbKind,
    settings: Arc<Settings>,
    addresses: Vec<(SocketAddr, bool)>,
    pool_ports: (Option<u16>, Option<u16>),
}

impl AlbListeners {
    /// From an ALB's part of the configuration, for this many workers.
    pub fn new(kind: AlbKind, alb: &Alb, workers: usize) -> Self {
        let addresses = alb
            .listen
            .addresses
            .iter()
            .flat_map(|ip| {
                let http = alb.listen.http.map(|port| (SocketAddr::new(*ip, port), false));
                let https = alb.listen.https.map(|port| (SocketAddr::new(*ip, port), true));
                http.into_iter().chain(https)
            })
            .collect();
        Self { kind, settings: Arc::new(settings(alb, workers)), addresses, pool_ports: POOL_PORTS }
    }

    /// With these ports for HTTP and HTTPS on addresses out of pools.
    #[must_use]
    pub fn with_pool_ports(self, http: Option<u16>, https: Option<u16>) -> Self {
        Self { pool_ports: (http, https), ..self }
    }

    /// The ports on addresses out of pools, and whether TLS is spoken there.
    fn pool_ports(&self) -> impl Iterator<Item = (bool, u16)> {
        let (http, https) = self.pool_ports;
        http.map(|port| (false, port)).into_iter().chain(https.map(|port| (true, port)))
    }

    /// Whether a configured listener takes connections to the address as well.
    fn covers(&self, address: SocketAddr, tls: bool) -> bool {
        self.addresses.iter().any(|&(own, own_tls)| {
            let all = own.ip().is_unspecified() && own.is_ipv4() == address.is_ipv4();
            own_tls == tls && own.port() == address.port() && (all || own.ip() == address.ip())
        })
    }

    /// Every address, and whether TLS is spoken there.
    pub fn addresses(&self) -> &[(SocketAddr, bool)] {
        &self.addresses
    }
}

fn settings(alb: &Alb, workers: usize) -> Settings {
    let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let (t, u) = (&alb.timeouts, &alb.upstream);
    Settings {
        timeouts: Timeouts {
            head: t.head.into(),
            idle: t.idle.into(),
            connect: t.connect.into(),
            upstream_head: t.upstream_head.into(),
            body_stall: t.body_stall.into(),
            tunnel: t.tunnel.into(),
        },
        limits: http1::Limits {
            head_bytes: alb.limits.head_bytes as usize,
            target_bytes: alb.limits.target_bytes as usize,
            fields: usize::from(alb.limits.headers),
        },
        body_bytes: alb.limits.body_bytes,
        trusted_proxies: alb.trusted_proxies.clone(),
        max_idle: u.max_idle_per_endpoint as usize,
        idle: u.idle.into(),
        tries: usize::from(u.tries).clamp(1, 8),
        ejection: Ejection {
            failures: u.ejection.failures,
            time_ms: ms(u.ejection.time.into()),
            max_time_ms: ms(u.ejection.max_time.into()),
        },
        https_port: alb.listen.public_https.or(alb.listen.https).unwrap_or(443),
        connections: alb
            .limits
            .connections
            .map_or(u64::MAX, |all| u64::from(all).div_ceil(workers as u64)),
    }
}

/// The workers, running.
#[derive(Debug)]
pub struct Engine {
    threads: Vec<JoinHandle<()>>,
    listeners: Arc<Listeners>,
    stop: CancellationToken,
    /// Cut off what is left.
    cut: CancellationToken,
}

/// A socket that listens, and what its connections need.
struct Bound {
    socket: std::net::TcpListener,
    context: ListenerContext,
}

impl Engine {
    /// Opens all listeners and starts the workers.
    ///
    /// # Errors
    /// [`StartError`]: then nothing runs.
    pub fn start(
        workers: usize,
        albs: &[AlbListeners],
        shared: &Arc<Shared>,
        log: &AccessLog,
    ) -> Result<Self, StartError> {
        let draining = Arc::new(AtomicBool::new(false));
        let (stop, cut) = (CancellationToken::new(), CancellationToken::new());
        let epoch = Instant::now();
        let mut bound: Vec<Vec<Bound>> = (0..workers).map(|_| Vec::new()).collect();
        let mut later = Vec::new();
        let mut fixed = BTreeSet::new();
        let exclusive = Bind::default();
        let shared_port = Bind { shared_port: true, ..exclusive };
        for alb in albs {
            let tls = Arc::new(tls::server_config(Arc::clone(shared), alb.kind)?);
            let context = |worker| ListenerContext {
                kind: alb.kind,
                tls: None,
                settings: Arc::clone(&alb.settings),
                shared: Arc::clone(shared),
                worker,
                log: log.clone(),
                port_text: Vec::new(),
                draining: Arc::clone(&draining),
                epoch,
            };
            for &(address, is_tls) in &alb.addresses {
                let fail = |error| StartError::Bind { kind: alb.kind, address, error };
                // Shared ports would also let a second gateway bind unnoticed; an exclusive
                // socket finds that out first, and which port stands for 0.
                let address =
                    listen(address, exclusive).and_then(|s| s.local_addr()).map_err(fail)?;
                fixed.insert(address);
                tracing::info!(alb = %alb.kind, %address, tls = is_tls, "listening");
                for (worker, list) in bound.iter_mut().enumerate() {
                    let socket = listen(address, shared_port).map_err(fail)?;
                    list.push(Bound {
                        socket,
                        context: ListenerContext {
                            tls: is_tls.then(|| Arc::<ServerConfig>::clone(&tls)),
                            port_text: address.port().to_string().into_bytes(),
                            ..context(worker)
                        },
                    });
                }
            }
            later.push(listeners::Alb {
                listeners: alb.clone(),
                tls,
                contexts: (0..workers).map(context).collect(),
            });
        }
        let timeouts = albs.first().map(|alb| &alb.settings.timeouts);
        let common = Common {
            head: timeouts.map_or(STREAM_HEAD, |timeouts| timeouts.head),
            connect: timeouts.map_or(STREAM_CONNECT, |timeouts| timeouts.connect),
            epoch,
        };
        let mut threads = Vec::new();
        let mut reached = Vec::new();
        for (worker, bound) in bound.into_iter().enumerate() {
            let (acceptors, connections) = (TaskTracker::new(), TaskTracker::new());
            let work = Work {
                acceptors: acceptors.clone(),
                connections: connections.clone(),
                bound,
                worker,
                shared: Arc::clone(shared),
                log: log.clone(),
                draining: Arc::clone(&draining),
                stop: stop.clone(),
                cut: cut.clone(),
            };
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .enable_time()
                .build()
                .map_err(StartError::Thread)?;
            reached.push(Worker { handle: runtime.handle().clone(), acceptors, connections });
            let thread = std::thread::Builder::new()
                .name(format!("worker-{worker}"))
                .spawn(move || runtime.block_on(work.run()))
                .map_err(StartError::Thread)?;
            threads.push(thread);
        }
        let listeners = Arc::new(Listeners::new(reached, later, fixed, common, stop.clone()));
        Ok(Self { threads, listeners, stop, cut })
    }

    /// Listeners that come and go while the engine runs.
    pub fn listeners(&self) -> &Arc<Listeners> {
        &self.listeners
    }

    /// As [`Listeners::listen`].
    pub fn listen(&self, plan: &Arc<L4Plan>) -> Vec<Diagnostic> {
        self.listeners.listen(plan)
    }

    /// Whether all workers are there. They only end when they are told to, or by a fault.
    pub fn is_whole(&self) -> bool {
        !self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Takes no more connections, lets requests under way end, and cuts what is left after
    /// `deadline`. Blocks until all workers have stopped.
    pub fn drain(self, deadline: Duration) {
        self.stop.cancel();
        let end = Instant::now() + deadline;
        while Instant::now() < end && !self.threads.iter().all(JoinHandle::is_finished) {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.cut.cancel();
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
    }
}

/// What one worker's thread does.
struct Work {
    acceptors: TaskTracker,
    connections: TaskTracker,
    bound: Vec<Bound>,
    worker: usize,
    shared: Arc<Shared>,
    log: AccessLog,
    draining: Arc<AtomicBool>,
    stop: CancellationToken,
    cut: CancellationToken,
}

impl Work {
    async fn run(self) {
        let Self { acceptors, connections, bound, worker, shared, log, draining, stop, cut } = self;
        for Bound { socket, context } in bound {
            let (context, connections) = (Arc::new(context), connections.clone());
            let take = move |stream, peer| take(stream, peer, &context, &connections);
            acceptors.spawn(accept(socket, stop.clone(), take));
        }
        tokio::spawn(gate::keep());
        let shard = &shared.metrics.workers[worker];
        let mut ticks = 0u32;
        let tick = timer::run(|| {
            ticks = ticks.wrapping_add(1);
            log.flush(shard);
            shared.refresh();
            if ticks.is_multiple_of(TIDY_TICKS) {
                buffer::tidy();
                let left = upstream::tidy();
                shard.upstream_idle.set(left as u64);
            }
            if draining.load(Ordering::Relaxed) {
                timer::wake_all();
            }
        });
        let serve = async {
            stop.cancelled().await;
            draining.store(true, Ordering::Relaxed);
            acceptors.close();
            acceptors.wait().await;
            connections.close();
            timer::wake_all();
            tokio::select! {
                () = connections.wait() => return,
                () = cut.cancelled() => {}
            }
            tracing::warn!(connections = connections.len(), "cut at the drain's deadline");
            // Every wait ends now, so that requests are noted before they go.
            timer::expire_all();
            let _ = tokio::time::timeout(CUT, connections.wait()).await;
        };
        first_of(tick, serve).await;
        log.flush(shard);
    }
}

/// Runs both until the second has ended.
async fn first_of(forever: impl Future<Output = ()>, ends: impl Future<Output = ()>) {
    tokio::select! {
        () = forever => {}
        () = ends => {}
    }
}

/// Accepts connections until `stop`, and those that the kernel has let in by then.
async fn accept(
    socket: std::net::TcpListener,
    stop: CancellationToken,
    take: impl Fn(tokio::net::TcpStream, SocketAddr),
) {
    let listener = match TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "listener lost");
            return;
        }
    };
    let mut warned: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => take(stream, peer),
            Err(error) => {
                if warned.is_none_or(|at| at.elapsed() > WARN_EVERY) {
                    warned = Some(Instant::now());
                    tracing::warn!(%error, "connections can't be accepted");
                }
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
    // Those that the kernel has let in already are still served. The socket itself is asked: the
    // event loop may not know of them yet.
    let Ok(socket) = listener.into_std() else { return };
    while let Ok((stream, peer)) = socket.accept() {
        let stream =
            stream.set_nonblocking(true).and_then(|()| tokio::net::TcpStream::from_std(stream));
        if let Ok(stream) = stream {
            take(stream, peer);
        }
    }
}

fn take(
    stream: tokio::net::TcpStream,
    peer: SocketAddr,
    context: &Arc<ListenerContext>,
    connections: &TaskTracker,
) {
    if context.settings.connections != u64::MAX && context.open() >= context.settings.connections {
        context.shard().over_limit.increment();
        return;
    }
    context.count_accepted();
    connections.spawn(connection::serve(stream, peer, Arc::clone(context)));
}
