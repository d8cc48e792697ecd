//! An interface in this process: a TUN interface, UDP sockets, and threads between them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use netdev::tun::{self, Offloads, TunError};
use netdev::udp::{self, Outgoing, UdpError, UdpSocket, Unsent};
use netdev::wait::Waker;
use overlay::PrivateKey;
use overlay::peers::{ANSWER, Peers, PeersError, Wanted, Way};
use thiserror::Error;

mod inbound;
mod outbound;
mod pending;
mod tally;
mod worker;

use tally::Tally;
use worker::Worker;

/// How often peers are looked after.
const TICK: Duration = Duration::from_millis(250);
/// Octets that may wait to be read from a socket, and to be sent.
const BUFFER: usize = 4 * 1024 * 1024;
/// Ports that are tried if any will do.
const TRIES: u32 = 20;

/// What is wanted of an interface.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) mtu: u16,
    pub(crate) mark: u32,
    pub(crate) workers: usize,
    pub(crate) offloads: bool,
}

/// An interface that can't be made.
#[derive(Debug, Error)]
pub(crate) enum UserSpaceError {
    #[error(transparent)]
    Tun(#[from] TunError),
    #[error("UDP {address}: {step}: {source}{}", remedy(.source))]
    Udp { address: SocketAddr, step: &'static str, source: io::Error },
    #[error("{step}: {source}")]
    Thread { step: &'static str, source: io::Error },
}

fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AddrInUse => "; another program has the port: stop it, or change `port`",
        io::ErrorKind::PermissionDenied => "; give the process CAP_NET_ADMIN",
        _ => "",
    }
}

impl From<UdpError> for UserSpaceError {
    fn from(error: UdpError) -> Self {
        Self::Udp { address: error.address, step: error.step, source: error.source }
    }
}

/// What all threads of an interface use.
#[derive(Debug)]
struct Shared {
    peers: ArcSwap<Peers>,
    tally: Tally,
    offloads: Offloads,
    mtu: usize,
    stopping: AtomicBool,
    /// A worker has ended, or the TUN interface is gone.
    broken: AtomicBool,
}

/// What one worker sends and takes with.
#[derive(Debug)]
struct Sockets(Vec<UdpSocket>);

impl Sockets {
    /// Sends datagrams of one size (the last may be shorter).
    fn send(&self, way: &Way, tos: u8, contents: &[u8], segment: usize) -> Result<(), Unsent> {
        let is_v4 = way.remote.is_ipv4();
        match self.0.iter().find(|socket| socket.address().is_ipv4() == is_v4) {
            Some(socket) => {
                let from = way.local.filter(|local| local.is_ipv4() == is_v4);
                socket.send(&Outgoing { from, to: way.remote, tos, contents, segment })
            }
            None => {
                let datagrams = contents.len().div_ceil(segment.max(1));
                Err(Unsent { datagrams, source: io::ErrorKind::AddrNotAvailable.into() })
            }
        }
    }
}

/// An interface in this process. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct UserSpace {
    shared: Arc<Shared>,
    port: u16,
    wakers: Vec<Waker>,
    threads: Vec<JoinHandle<()>>,
    /// Ends the thread that looks after peers, once dropped.
    housekeeping: Option<mpsc::Sender<()>>,
}

impl UserSpace {
    /// Makes the TUN interface, binds the sockets and starts the threads, in the network namespace
    /// of the caller. There is no peer yet.
    pub(crate) fn start(settings: &Settings, key: &PrivateKey) -> Result<Self, UserSpaceError> {
        let workers = settings.workers.max(1);
        let (sockets, port) = sockets(settings, workers)?;
        let mut tun = tun::open(&tun::Settings {
            name: settings.name.clone(),
            mtu: settings.mtu,
            queues: workers,
            offloads: settings.offloads,
        })?;
        let shared = Arc::new(Shared {
            peers: ArcSwap::from_pointee(Peers::new(key, crate::random::number())),
            tally: Tally::new(workers),
            offloads: tun.offloads,
            mtu: settings.mtu.into(),
            stopping: AtomicBool::new(false),
            broken: AtomicBool::new(false),
        });
        let mut running =
            Self { shared, port, wakers: Vec::new(), threads: Vec::new(), housekeeping: None };
        let house = Arc::clone(sockets.first().expect("invariant: there is a worker"));
        for (number, (queue, sockets)) in tun.queues.drain(..).zip(sockets).enumerate() {
            running.work(number, queue, sockets)?;
        }
        running.keep_house(house)?;
        Ok(running)
    }

    fn work(
        &mut self,
        number: usize,
        queue: tun::Queue,
        sockets: Arc<Sockets>,
    ) -> Result<(), UserSpaceError> {
        let failed = |step| move |source| UserSpaceError::Thread { step, source };
        let waker = Waker::new().map_err(failed("making an eventfd"))?;
        let shared = Arc::clone(&self.shared);
        let mut worker = Worker::new(number, shared, queue, sockets, waker.clone())
            .map_err(failed("preparing to wait"))?;
        let thread = thread::Builder::new()
            .name(format!("wg-{number}"))
            .spawn(move || worker.run())
            .map_err(failed("starting a thread"))?;
        self.wakers.push(waker);
        self.threads.push(thread);
        Ok(())
    }

    fn keep_house(&mut self, sockets: Arc<Sockets>) -> Result<(), UserSpaceError> {
        let (sender, receiver) = mpsc::channel();
        let shared = Arc::clone(&self.shared);
        let keep = move || {
            while receiver.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                tick(&shared, &sockets, Instant::now());
            }
        };
        let thread = thread::Builder::new()
            .name("wg-timers".to_owned())
            .spawn(keep)
            .map_err(|source| UserSpaceError::Thread { step: "starting a thread", source })?;
        self.threads.push(thread);
        self.housekeeping = Some(sender);
        Ok(())
    }

    /// Replaces all peers at once. What of them can't be.
    pub(crate) fn set_peers(&self, wanted: &[Wanted]) -> Vec<PeersError> {
        let (next, errors) = self.shared.peers.load().replaced(wanted, Instant::now());
        self.shared.peers.store(Arc::new(next));
        errors
    }

    /// The UDP port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What the kernel does for it.
    pub(crate) fn offloads(&self) -> Offloads {
        self.shared.offloads
    }

    /// The peers.
    pub(crate) fn peers(&self) -> Arc<Peers> {
        self.shared.peers.load_full()
    }

    /// Packets that were not passed on, by reason.
    pub(crate) fn drops(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.shared.tally.sum()
    }

    /// Whether it has to be made anew.
    pub(crate) fn is_broken(&self) -> bool {
        self.shared.broken.load(Ordering::Relaxed)
            || self.threads.iter().any(JoinHandle::is_finished)
    }
}

impl Drop for UserSpace {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        for waker in &self.wakers {
            waker.wake();
        }
        self.housekeeping = None;
        for thread in self.threads.drain(..) {
            // A worker's panic has been logged.
            let _ = thread.join();
        }
    }
}

/// Sends what is due by the clock.
fn tick(shared: &Shared, sockets: &Sockets, now: Instant) {
    let peers = shared.peers.load_full();
    peers.tick();
    let mut buffer = [0; ANSWER];
    for peer in peers.iter() {
        let mut session = peer.lock();
        let (due, way) = (session.tick(now, &mut buffer), session.way());
        drop(session);
        let (Some(length), Some(way)) = (due, way) else { continue };
        let contents = buffer.get(..length).unwrap_or_default();
        if let Err(unsent) = sockets.send(&way, 0, contents, length)
            && unsent.datagrams > 0
        {
            shared.tally.add(0, tally::reason(&unsent), 1);
            // The address of this end may be gone.
            peer.lock().forget_local();
        }
    }
}

/// The sockets of each worker, and the port that all of them have.
fn sockets(
    settings: &Settings,
    workers: usize,
) -> Result<(Vec<Arc<Sockets>>, u16), UserSpaceError> {
    let options = udp::Settings {
        mark: settings.mark,
        dont_fragment: false,
        offloads: settings.offloads,
        buffer: BUFFER,
    };
    let v4 = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    let v6 = IpAddr::from(Ipv6Addr::UNSPECIFIED);
    let has_v6 = UdpSocket::bind(SocketAddr::new(v6, 0), &options).is_ok();
    let mut tries = 0;
    loop {
        let first = UdpSocket::bind(SocketAddr::new(v4, settings.port), &options)?;
        let port = first.address().port();
        let mut first = Some(first);
        let mut bind = || -> Result<Sockets, UdpError> {
            let socket = match first.take() {
                Some(first) => first,
                None => UdpSocket::bind(SocketAddr::new(v4, port), &options)?,
            };
            let mut sockets = vec![socket];
            if has_v6 {
                sockets.push(UdpSocket::bind(SocketAddr::new(v6, port), &options)?);
            }
            Ok(Sockets(sockets))
        };
        let all: Result<Vec<_>, _> = (0..workers).map(|_| bind().map(Arc::new)).collect();
        tries += 1;
        match all {
            Ok(all) => return Ok((all, port)),
            // Of IPv6 another program has it.
            Err(_) if settings.port == 0 && tries < TRIES => {}
            Err(error) => return Err(error.into()),
        }
    }
}
