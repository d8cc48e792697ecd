//! The data path in this process: a TUN interface, UDP and raw sockets, and threads between them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use ipsec::crypto::rng::SystemRng;
use ipsec::ike::event::Transmit;
use ipsec::sa::{ChildSa, ChildSaId, ConnectionName, Path};
use netdev::esp_socket::EspSocket;
use netdev::tun::{self, Offloads};
use netdev::udp::{self, UdpSocket};
use netdev::wait::Waker;
use plan::vpn::Policy;

use super::control::Control;
use super::settings::{Settings, StartError};
use super::shared::{Shared, Sockets};
use super::tally::Drops;
use super::worker::Worker;
use super::{Counters, Dataplane, FromNetwork, Limits};

/// How often SAs are looked after.
const TICK: Duration = Duration::from_millis(200);

/// The data path in this process. It ends when it is dropped.
pub struct UserSpace {
    control: Arc<Mutex<Control>>,
    shared: Arc<Shared>,
    wakers: Vec<Waker>,
    threads: Vec<JoinHandle<()>>,
    /// Ends the thread that looks after SAs, once dropped.
    housekeeping: Option<mpsc::Sender<()>>,
    interface: String,
    index: u32,
}

impl UserSpace {
    /// Makes the TUN interface, binds the sockets and starts the threads, all in the network
    /// namespace of the caller. What they tell goes to `sender`.
    ///
    /// # Errors
    /// [`StartError`]. Nothing is left then.
    pub fn start(settings: &Settings, sender: SyncSender<FromNetwork>) -> Result<Self, StartError> {
        let workers = settings.workers.max(1);
        let mut tun = tun::open(&tun::Settings {
            name: settings.interface.clone(),
            mtu: settings.mtu,
            queues: workers,
            offloads: settings.offloads,
        })?;
        let sockets = sockets(settings, workers)?;
        let shared = Arc::new(Shared {
            policies: ArcSwap::default(),
            by_spi: ArcSwap::default(),
            drops: Drops::new(workers),
            stopping: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            offloads: tun.offloads,
            copy_dscp: settings.copy_dscp,
            port: settings.port,
            nat_port: settings.nat_port,
            sender,
            began: Instant::now(),
        });
        let mut control = Control::new(
            Arc::clone(&shared),
            Arc::clone(&sockets[0]),
            workers,
            settings.mark,
            Box::new(SystemRng),
        );
        control.limit_packets(settings.path_mtu);
        let mut running = Self {
            control: Arc::new(Mutex::new(control)),
            shared,
            wakers: Vec::new(),
            threads: Vec::new(),
            housekeeping: None,
            interface: tun.name,
            index: tun.index,
        };
        for (number, (queue, sockets)) in tun.queues.drain(..).zip(sockets).enumerate() {
            running.work(number, queue, sockets)?;
        }
        running.keep_house()?;
        Ok(running)
    }

    fn work(
        &mut self,
        number: usize,
        queue: tun::Queue,
        sockets: Arc<Sockets>,
    ) -> Result<(), StartError> {
        let failed = |step| move |source| StartError::Thread { step, source };
        let waker = Waker::new().map_err(failed("making an eventfd"))?;
        let shared = Arc::clone(&self.shared);
        let mut worker = Worker::new(number, shared, queue, sockets, waker.clone())
            .map_err(failed("preparing to wait"))?;
        let thread = thread::Builder::new()
            .name(format!("vpn-{number}"))
            .spawn(move || worker.run())
            .map_err(failed("starting a thread"))?;
        self.wakers.push(waker);
        self.threads.push(thread);
        Ok(())
    }

    fn keep_house(&mut self) -> Result<(), StartError> {
        let (sender, receiver) = mpsc::channel();
        let control = Arc::clone(&self.control);
        let keep = move || {
            while receiver.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                lock(&control).tick(Instant::now());
            }
        };
        let thread = thread::Builder::new()
            .name("vpn-sas".to_owned())
            .spawn(keep)
            .map_err(|source| StartError::Thread { step: "starting a thread", source })?;
        self.threads.push(thread);
        self.housekeeping = Some(sender);
        Ok(())
    }

    /// The TUN interface: its name and its number.
    pub fn interface(&self) -> (&str, u32) {
        (&self.interface, self.index)
    }

    /// What the kernel does for it.
    pub fn offloads(&self) -> Offloads {
        self.shared.offloads
    }

    /// Ends it; the TUN interface goes with it.
    pub fn stop(self) {
        drop(self);
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
        lock(&self.control).clear();
    }
}

fn lock(control: &Mutex<Control>) -> MutexGuard<'_, Control> {
    control.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The sockets of each worker.
fn sockets(settings: &Settings, workers: usize) -> Result<Vec<Arc<Sockets>>, StartError> {
    let options = options(settings);
    let addresses = addresses(settings, &options);
    let bind = |port| {
        let all = addresses.iter().map(move |ip| SocketAddr::new(*ip, port));
        all.map(|address| UdpSocket::bind(address, &options)).collect::<Result<Vec<_>, _>>()
    };
    let raw = addresses.iter().map(|ip| EspSocket::bind(*ip, &options));
    let raw = Arc::new(raw.collect::<Result<Vec<_>, _>>()?);
    let mut all = Vec::with_capacity(workers);
    for number in 0..workers {
        let ike = if number == 0 { bind(settings.port)? } else { Vec::new() };
        let nat = bind(settings.nat_port)?;
        all.push(Arc::new(Sockets { nat, ike, raw: Arc::clone(&raw) }));
    }
    Ok(all)
}

/// How sockets are made.
pub(super) fn options(settings: &Settings) -> udp::Settings {
    udp::Settings {
        mark: settings.mark,
        dont_fragment: settings.dont_fragment,
        offloads: settings.offloads,
        buffer: settings.socket_buffer,
    }
}

/// What sockets are bound to.
pub(super) fn addresses(settings: &Settings, options: &udp::Settings) -> Vec<IpAddr> {
    let wildcards = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let mut addresses = settings.addresses.clone();
    if addresses.is_empty() {
        addresses.extend(wildcards.into_iter().filter(|ip| has_family(*ip, options)));
    }
    addresses
}

/// Whether the kernel has a family: IPv6 may be off.
fn has_family(wildcard: IpAddr, options: &udp::Settings) -> bool {
    wildcard.is_ipv4() || UdpSocket::bind(SocketAddr::new(wildcard, 0), options).is_ok()
}

impl Dataplane for UserSpace {
    fn name(&self) -> &'static str {
        "userspace"
    }

    fn set_policies(&mut self, policies: BTreeMap<ConnectionName, Vec<Policy>>) {
        lock(&self.control).set_policies(&policies);
    }

    fn set_limits(&mut self, limits: BTreeMap<ConnectionName, Limits>) {
        lock(&self.control).set_limits(limits);
    }

    fn install(
        &mut self,
        sa: &Arc<ChildSa>,
        send: bool,
        _replaces: Option<ChildSaId>,
    ) -> Result<(), String> {
        lock(&self.control).install(sa, send)
    }

    fn send(&mut self, sa: ChildSaId) {
        lock(&self.control).send(sa);
    }

    fn remove(&mut self, sa: ChildSaId, linger: Duration) {
        lock(&self.control).remove(sa, linger, Instant::now());
    }

    fn set_path(&mut self, sas: &[ChildSaId], path: Path, udp: bool) {
        lock(&self.control).set_path(sas, path, udp);
    }

    fn transmit(&mut self, message: &Transmit) {
        lock(&self.control).transmit(message);
    }

    fn is_broken(&self) -> bool {
        self.shared.broken.load(Ordering::Relaxed)
            || self.threads.iter().any(JoinHandle::is_finished)
    }

    fn counters(&self) -> Counters {
        lock(&self.control).counters()
    }
}
