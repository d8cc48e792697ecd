//! Listeners that come and go at run time: the ALBs' addresses out of pools, and streams.
//!
//! All workers have a socket of their own for each (`SO_REUSEPORT`). They are opened here, one
//! after the other, and handed over; connections that come meanwhile wait in the sockets that are
//! there already. A listener that is closed first serves who has been let in by the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use foldhash::HashSet;
use model::net::Protocol;
use model::{AlbKind, Diagnostic, ObjectKey, ObjectRef};
use plan::l4::L4Plan;
use rustls::ServerConfig;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{AlbListeners, accept, take};
use crate::l7::context::ListenerContext;
use crate::l7::worker::socket::{self, Bind};
use crate::stream::StreamCounters;
use crate::stream::connection::{self, Common, StreamContext};
use crate::stream::table::{Builder, Front, Routes, Wanted, WantedSet};
use crate::stream::udp;

/// How long a listener that comes back waits for the one before to be gone, so that no client ends
/// up in a socket that is about to close.
const GONE: Duration = Duration::from_millis(200);

/// What is known of a worker from outside.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) handle: Handle,
    pub(super) acceptors: TaskTracker,
    pub(super) connections: TaskTracker,
}

/// An ALB, for listeners that are opened later.
#[derive(Debug)]
pub(super) struct Alb {
    pub(super) listeners: AlbListeners,
    pub(super) tls: Arc<ServerConfig>,
    /// By worker, of no listener in particular.
    pub(super) contexts: Vec<ListenerContext>,
}

/// Listeners that come and go while the engine runs.
#[derive(Debug)]
pub struct Listeners {
    workers: Vec<Worker>,
    albs: Vec<Alb>,
    /// What the configuration has opened, port 0 resolved.
    fixed: BTreeSet<SocketAddr>,
    common: Arc<Common>,
    stop: CancellationToken,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    open: BTreeMap<(Protocol, SocketAddr), Open>,
    /// Ports of listeners that are told to close, until all workers have done so.
    closing: Vec<((Protocol, SocketAddr), Weak<()>)>,
    builder: Builder,
    /// The last plan, if something of it could not be opened.
    unfinished: Option<Arc<L4Plan>>,
}

/// A listener on all workers.
#[derive(Debug)]
struct Open {
    what: What,
    close: CancellationToken,
    /// Each worker holds it as long as it has the socket.
    alive: Arc<()>,
}

#[derive(Debug)]
enum What {
    Alb(AlbKind, bool),
    Stream(Arc<Front>),
}

/// What an address is wanted for.
enum Use {
    Alb { kind: AlbKind, tls: bool, pool: Option<String> },
    Stream(Wanted),
}

impl Use {
    /// Whether an address can't be had because the machine speaks no IPv6, and nobody has asked
    /// for it by name.
    fn is_optional(&self, address: SocketAddr, error: &io::Error) -> bool {
        let errno = rustix::io::Errno::from_io_error(error);
        matches!(self, Self::Stream(wanted) if wanted.node_port)
            && address.is_ipv6()
            && matches!(
                errno,
                Some(rustix::io::Errno::AFNOSUPPORT | rustix::io::Errno::ADDRNOTAVAIL)
            )
    }
}

impl Listeners {
    pub(super) fn new(
        workers: Vec<Worker>,
        albs: Vec<Alb>,
        fixed: BTreeSet<SocketAddr>,
        common: Common,
        stop: CancellationToken,
    ) -> Self {
        let state = State {
            open: BTreeMap::new(),
            closing: Vec::new(),
            builder: Builder::new(workers.len()),
            unfinished: None,
        };
        let common = Arc::new(common);
        Self { workers, albs, fixed, common, stop, state: Mutex::new(state) }
    }

    /// Opens what the plan wants, closes what it no longer wants, and sends new connections where
    /// it says. Connections under way go on. Answers what can't be in force; the rest is.
    ///
    /// Giving the same plan again only tries anew what failed.
    pub fn listen(&self, plan: &Arc<L4Plan>) -> Vec<Diagnostic> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.stop.is_cancelled() {
            return Vec::new();
        }
        let (streams, mut diagnostics) = state.builder.build(plan);
        let wanted = self.wanted(plan, streams, &mut diagnostics);
        let vips: Arc<HashSet<IpAddr>> =
            Arc::new(plan.vips.iter().map(|vip| vip.address.to_canonical()).collect());
        state.close_all_but(&wanted);
        // Where a socket of our own has the port, on whichever address, nobody can be told apart.
        let mut own = state.ports();
        own.extend(self.fixed.iter().map(|fixed| (Protocol::Tcp, fixed.port())));
        let mut failed = false;
        for (key, usage) in wanted {
            let routes = |wanted: &Wanted| {
                Arc::new(Routes::new(&wanted.ports, wanted.node_port.then(|| Arc::clone(&vips))))
            };
            if let Some(open) = state.open.get(&key) {
                if let (What::Stream(front), Use::Stream(wanted)) = (&open.what, &usage) {
                    front.routes.store(routes(wanted));
                }
                continue;
            }
            let what = match &usage {
                Use::Alb { kind, tls, .. } => What::Alb(*kind, *tls),
                Use::Stream(wanted) => {
                    let routes = ArcSwap::new(routes(wanted));
                    What::Stream(Arc::new(Front { routes }))
                }
            };
            state.await_closed(key);
            let port = (key.0, key.1.port());
            match self.open(key, what, !own.contains(&port)) {
                Ok(open) => {
                    own.insert(port);
                    tracing::info!(protocol = %key.0, address = %key.1, "listening");
                    state.open.insert(key, open);
                }
                Err(error) if usage.is_optional(key.1, &error) => {
                    tracing::debug!(address = %key.1, %error, "not listened on");
                }
                Err(error) => {
                    failed = true;
                    diagnostics.push(refusal(key, &usage, &error));
                }
            }
        }
        state.unfinished = failed.then(|| Arc::clone(plan));
        diagnostics
    }

    /// Tries again what could not be opened, if there is such; to be called every few seconds.
    /// Answers as [`Listeners::listen`], none if there was nothing to do.
    pub fn retry(&self) -> Option<Vec<Diagnostic>> {
        let plan = {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.unfinished.clone()?
        };
        Some(self.listen(&plan))
    }

    /// The counters of each port that goes through user space: Service, protocol, number.
    pub fn counters(&self) -> Vec<((ObjectKey, Protocol, u16), Arc<StreamCounters>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).builder.counters()
    }

    /// Every address that is to be listened on, and what for.
    fn wanted(
        &self,
        plan: &L4Plan,
        streams: WantedSet,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> BTreeMap<(Protocol, SocketAddr), Use> {
        let mut all = BTreeMap::new();
        for alb in &self.albs {
            let kind = alb.listeners.kind;
            for address in plan.albs.get(&kind).into_iter().flatten() {
                let vip = plan.vips.iter().find(|vip| vip.address == *address);
                for (tls, port) in alb.listeners.pool_ports() {
                    let address = SocketAddr::new(*address, port);
                    if !alb.listeners.covers(address, tls) {
                        let pool = vip.map(|vip| vip.pool.clone());
                        all.insert((Protocol::Tcp, address), Use::Alb { kind, tls, pool });
                    }
                }
            }
        }
        for (key, wanted) in streams {
            let taken = match all.get(&key) {
                Some(Use::Alb { kind, .. }) => Some(format!("the {kind} ALB")),
                _ if key.0 == Protocol::Tcp && self.fixed.contains(&key.1) => {
                    Some("an ALB's configured listener".to_owned())
                }
                _ => None,
            };
            match taken {
                None => {
                    all.insert(key, Use::Stream(wanted));
                }
                Some(by) => diagnostics.push(
                    Diagnostic::error(
                        wanted.object,
                        wanted.field,
                        format!("{} {} is taken by {by}", key.0, key.1),
                    )
                    .value(key.1.to_string())
                    .remedy("give the Service another address or port"),
                ),
            }
        }
        all
    }

    /// Opens one on all workers, or on none.
    fn open(&self, key: (Protocol, SocketAddr), what: What, exclusive: bool) -> io::Result<Open> {
        let (protocol, address) = key;
        // Shared ports would also let another process in unnoticed; an exclusive socket finds
        // that out first.
        if exclusive {
            socket::probe(protocol, address)?;
        }
        let open = Open { what, close: self.stop.child_token(), alive: Arc::new(()) };
        match protocol {
            Protocol::Tcp => {
                let bind = Bind { shared_port: true, foreign: true };
                let sockets: Vec<_> = self
                    .workers
                    .iter()
                    .map(|_| socket::listen(address, bind))
                    .collect::<io::Result<_>>()?;
                for (at, socket) in sockets.into_iter().enumerate() {
                    self.hand_over_tcp(at, socket, &open, address);
                }
            }
            Protocol::Udp => {
                let bind = Bind { shared_port: true, foreign: true };
                let sockets: Vec<_> = self
                    .workers
                    .iter()
                    .map(|_| socket::datagrams(address, bind))
                    .collect::<io::Result<_>>()?;
                for (at, socket) in sockets.into_iter().enumerate() {
                    self.hand_over_udp(at, socket, &open);
                }
            }
            Protocol::Sctp => return Err(io::ErrorKind::Unsupported.into()),
        }
        Ok(open)
    }

    fn hand_over_tcp(
        &self,
        at: usize,
        socket: std::net::TcpListener,
        open: &Open,
        address: SocketAddr,
    ) {
        let Worker { handle, acceptors, connections } = &self.workers[at];
        let (close, alive) = (open.close.clone(), Arc::clone(&open.alive));
        let connections = connections.clone();
        match &open.what {
            What::Alb(kind, tls) => {
                let Some(alb) = self.albs.iter().find(|alb| alb.listeners.kind == *kind) else {
                    return;
                };
                let context = Arc::new(ListenerContext {
                    tls: tls.then(|| Arc::clone(&alb.tls)),
                    port_text: address.port().to_string().into_bytes(),
                    ..alb.contexts[at].clone()
                });
                let take = move |stream, peer| take(stream, peer, &context, &connections);
                acceptors.spawn_on(holding(alive, accept(socket, close, take)), handle);
            }
            What::Stream(front) => {
                let context = Arc::new(StreamContext {
                    front: Arc::clone(front),
                    common: Arc::clone(&self.common),
                    worker: at,
                });
                let take = move |stream, peer| {
                    connections.spawn(connection::serve(stream, peer, Arc::clone(&context)));
                };
                acceptors.spawn_on(holding(alive, accept(socket, close, take)), handle);
            }
        }
    }
}

impl Listeners {
    fn hand_over_udp(&self, at: usize, socket: std::net::UdpSocket, open: &Open) {
        let What::Stream(front) = &open.what else { return };
        let Worker { handle, connections, .. } = &self.workers[at];
        let front = Arc::clone(front);
        let context = StreamContext { front, common: Arc::clone(&self.common), worker: at };
        let serve = udp::serve(socket, context, open.close.clone(), connections.clone());
        connections.spawn_on(holding(Arc::clone(&open.alive), serve), handle);
    }
}

/// The future, with something that lives as long as it does.
async fn holding<T>(alive: Arc<()>, future: impl Future<Output = T>) {
    future.await;
    drop(alive);
}

impl State {
    fn close_all_but(&mut self, wanted: &BTreeMap<(Protocol, SocketAddr), Use>) {
        self.closing.retain(|(_, alive)| alive.strong_count() > 0);
        let closing = &mut self.closing;
        self.open.retain(|key, open| {
            let stays = match (wanted.get(key), &open.what) {
                (Some(Use::Alb { kind, tls, .. }), What::Alb(k, t)) => kind == k && tls == t,
                (Some(Use::Stream(_)), What::Stream(_)) => true,
                _ => false,
            };
            if !stays {
                tracing::info!(protocol = %key.0, address = %key.1, "listening no longer");
                open.close.cancel();
                closing.push((*key, Arc::downgrade(&open.alive)));
            }
            stays
        });
    }

    /// Waits a little for the listener with this address that was told to close.
    fn await_closed(&self, key: (Protocol, SocketAddr)) {
        let end = Instant::now() + GONE;
        let is_there =
            || self.closing.iter().any(|(k, alive)| *k == key && alive.strong_count() > 0);
        while is_there() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The ports of all sockets that are open.
    fn ports(&self) -> BTreeSet<(Protocol, u16)> {
        let open = self.open.keys();
        let closing = self.closing.iter().filter(|(_, alive)| alive.strong_count() > 0);
        open.chain(closing.map(|(key, _)| key)).map(|key| (key.0, key.1.port())).collect()
    }
}

fn refusal(
    (protocol, address): (Protocol, SocketAddr),
    usage: &Use,
    error: &io::Error,
) -> Diagnostic {
    let (object, field) = match usage {
        Use::Alb { kind, pool, .. } => (
            ObjectRef::cluster("AddressPool", pool.clone().unwrap_or_else(|| kind.to_string())),
            "spec.alb".to_owned(),
        ),
        Use::Stream(wanted) => (wanted.object.clone(), wanted.field.clone()),
    };
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => "stop what listens there, or give another address or port",
        io::ErrorKind::PermissionDenied => "run with the right to bind it (CAP_NET_BIND_SERVICE)",
        _ => "see to it that the address can be bound; it is tried again",
    };
    let reason = format!("{protocol} {address} can't be listened on: {error}");
    Diagnostic::error(object, field, reason).value(address.to_string()).remedy(remedy)
}
