//! The kernel as the data path: XFRM's SAs and policies, an xfrm interface, and sockets for IKE.
//!
//! Packets that are routed into the interface meet its policies. Without an SA a policy is there
//! that asks for one and lets nothing pass; without any policy the interface drops what comes.
//! The policy of what leaves names the SPI of the SA that is sent on, so that a rekeying replaces
//! it in one step.
//!
//! The kernel translates no networks, and can't tell two connections apart that share both their
//! networks: such ones are refused here ([`lacking`]).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ipsec::ike::event::Transmit;
use ipsec::sa::{ChildSa, ChildSaId, ConnectionName, Path};
use netdev::address;
use netdev::udp::{Inbox, Received, UdpSocket};
use netdev::wait::{self, Waker};
use netdev::xfrm::{self, Monitor};
use plan::vpn::Policy;

use super::settings::{Settings, StartError};
use super::shared::Sockets;
use super::user_space::{addresses, options};
use super::{Counters, Dataplane, FromNetwork, Limits};

mod clamp;
mod control;
mod selectors;
mod statistics;
mod suite;

use clamp::Clamp;
use control::Control;

/// How often SAs are looked after.
const TICK: Duration = Duration::from_millis(200);
/// How often the interface is.
const LOOK: Duration = Duration::from_secs(2);
/// A rest where nothing can be waited for.
const REST: Duration = Duration::from_millis(100);
/// Whose SAs and policies these are, and which interface's.
const IF_ID: u32 = 0x5447;
/// What ESP takes of a packet, at most, so that inner packets are that much smaller.
const OVERHEAD: u16 = 100;
/// IPv6 needs that much.
const LEAST_MTU: u16 = 1280;
/// Before IKE on the port that it shares with ESP (RFC 3948, 2.2).
const MARKER: [u8; 4] = [0; 4];
const BUFFERS: usize = 16;

/// What of these policies the kernel can't do: a connection that needs it, and what that is.
pub(super) fn lacking(
    policies: &BTreeMap<ConnectionName, Vec<Policy>>,
) -> Option<(&ConnectionName, &'static str)> {
    policies.iter().find_map(|(connection, policies)| {
        policies.iter().find_map(|policy| Some((connection, lacking_one(policy)?)))
    })
}

fn lacking_one(policy: &Policy) -> Option<&'static str> {
    if !policy.local_nat.is_empty() || !policy.remote_nat.is_empty() {
        return Some("translates networks (localSubnetNAT, remoteSubnetNAT)");
    }
    policy.sources.as_ref().map(|_| "serves one zone (zone)")
}

/// The kernel as the data path. SAs, policies and the interface go when it is dropped.
pub struct Xfrm {
    control: Arc<Mutex<Control>>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
    interface: String,
    /// The interface is gone.
    broken: Arc<AtomicBool>,
    _clamp: Option<Clamp>,
}

impl Xfrm {
    /// Removes what a former run has left, makes the interface, binds the sockets and starts the
    /// thread, all in the network namespace of the caller. What is told goes to `sender`.
    ///
    /// # Errors
    /// [`StartError`]. Nothing is left then.
    pub fn start(settings: &Settings, sender: SyncSender<FromNetwork>) -> Result<Self, StartError> {
        let mut kernel = xfrm::Xfrm::open()?;
        let monitor = Monitor::open()?;
        kernel.flush(IF_ID)?;
        let sockets = Arc::new(sockets(settings)?);
        let failed = |step| move |source| StartError::Thread { step, source };
        let waker = Waker::new().map_err(failed("making an eventfd"))?;
        let mtu = settings.path_mtu.unwrap_or(settings.mtu);
        let mtu = mtu.saturating_sub(OVERHEAD).max(LEAST_MTU);
        xfrm::create(&settings.interface, mtu, IF_ID)?;
        let control = Control::new(kernel, settings, sender.clone(), Arc::clone(&sockets));
        let broken = Arc::<AtomicBool>::default();
        let mut started = Self {
            control: Arc::new(Mutex::new(control)),
            broken: Arc::clone(&broken),
            waker: waker.clone(),
            thread: None,
            interface: settings.interface.clone(),
            _clamp: Clamp::new(&settings.interface),
        };
        let mut work = Work {
            control: Arc::clone(&started.control),
            interface: settings.interface.clone(),
            broken,
            sockets,
            monitor: Some(monitor),
            waker,
            sender,
            nat_port: settings.nat_port,
            inbox: Inbox::new(BUFFERS),
        };
        let thread = thread::Builder::new().name("vpn-xfrm".to_owned()).spawn(move || work.run());
        started.thread = Some(thread.map_err(failed("starting a thread"))?);
        Ok(started)
    }

    /// Removes what a run that was killed has left in the kernel, so that another data path can
    /// begin.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn clean(interface: &str) -> Result<(), StartError> {
        if xfrm::remove_left(interface, IF_ID)? {
            xfrm::Xfrm::open()?.flush(IF_ID)?;
        }
        Ok(())
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        lock(&self.control)
    }
}

impl Drop for Xfrm {
    fn drop(&mut self) {
        self.control().stop();
        self.waker.wake();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the vpn-xfrm thread panicked");
        }
        // The interface first: what is routed elsewhere then is the routes' and the guard's.
        if let Err(error) = xfrm::remove(&self.interface) {
            tracing::warn!(%error, "vpn: an interface stays");
        }
        self.control().clear();
    }
}

fn lock(control: &Mutex<Control>) -> MutexGuard<'_, Control> {
    control.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sockets for IKE. The kernel takes ESP out of those that have both.
fn sockets(settings: &Settings) -> Result<Sockets, StartError> {
    let mut options = options(settings);
    // IKE messages are few, and must not be put together with ESP.
    options.offloads = false;
    let addresses = addresses(settings, &options);
    let bind = |port| {
        let all = addresses.iter().map(move |ip| SocketAddr::new(*ip, port));
        all.map(|address| UdpSocket::bind(address, &options)).collect::<Result<Vec<_>, _>>()
    };
    let (ike, nat) = (bind(settings.port)?, bind(settings.nat_port)?);
    for socket in &nat {
        socket.leave_esp_to_kernel()?;
    }
    Ok(Sockets { nat, ike, raw: Arc::default() })
}

/// The thread between kernel and IKE side.
struct Work {
    control: Arc<Mutex<Control>>,
    interface: String,
    broken: Arc<AtomicBool>,
    sockets: Arc<Sockets>,
    /// None once it has failed.
    monitor: Option<Monitor>,
    waker: Waker,
    sender: SyncSender<FromNetwork>,
    nat_port: u16,
    inbox: Inbox,
}

impl Work {
    fn run(&mut self) {
        let mut next = Instant::now() + TICK;
        let mut look = Instant::now() + LOOK;
        loop {
            let left = next.saturating_duration_since(Instant::now());
            let udp = self.sockets.nat.iter().chain(&self.sockets.ike);
            let monitor = self.monitor.iter().map(AsFd::as_fd);
            let sources: Vec<_> =
                udp.map(AsFd::as_fd).chain([self.waker.as_fd()]).chain(monitor).collect();
            let ready = wait::any(&sources, Some(left)).unwrap_or_else(|error| {
                tracing::error!(%error, "waiting");
                thread::sleep(REST);
                Vec::new()
            });
            if self.waker.clear() {
                return;
            }
            let now = Instant::now();
            for place in 0..self.sockets.nat.len() + self.sockets.ike.len() {
                if ready.get(place) == Some(&true) {
                    self.receive(place, now);
                }
            }
            self.listen(now);
            if now >= next {
                lock(&self.control).tick(now);
                next = now + TICK;
            }
            if now >= look {
                self.look();
                look = now + LOOK;
            }
        }
    }

    /// Looks whether the interface is still there.
    fn look(&self) {
        let there = address::interfaces();
        if there.is_ok_and(|there| !there.iter().any(|one| one.name == self.interface)) {
            self.broken.store(true, Ordering::Relaxed);
        }
    }

    /// Takes IKE messages from a socket.
    fn receive(&mut self, place: usize, now: Instant) {
        let Sockets { nat, ike, .. } = &*self.sockets;
        let Some(socket) = nat.iter().chain(ike).nth(place) else { return };
        if socket.receive(&mut self.inbox).is_err() {
            return;
        }
        let bound = socket.address();
        for (received, datagrams) in self.inbox.received() {
            for datagram in datagrams.chunks(received.stride) {
                let message = match bound.port() == self.nat_port {
                    true => datagram.strip_prefix(&MARKER),
                    false => Some(datagram),
                };
                // What is left on the port is a keepalive, or junk.
                let Some(message) = message else { continue };
                let path = path(bound, &received);
                let told = FromNetwork::Ike { path, datagram: message.to_vec(), at: now };
                if self.sender.try_send(told).is_err() {
                    lock(&self.control).count_ike_behind();
                }
            }
        }
    }

    /// Takes what the kernel tells.
    fn listen(&mut self, now: Instant) {
        let Some(monitor) = &mut self.monitor else { return };
        match monitor.receive() {
            Ok(events) => {
                let mut control = lock(&self.control);
                for event in events {
                    control.event(event, now);
                }
            }
            Err(error) => {
                tracing::error!(%error, "vpn: nothing is learnt of the kernel's events any more");
                self.monitor = None;
            }
        }
    }
}

fn path(bound: SocketAddr, received: &Received) -> Path {
    let local = SocketAddr::new(received.to.unwrap_or(bound.ip()), bound.port());
    Path { local, remote: received.from }
}

impl Dataplane for Xfrm {
    fn name(&self) -> &'static str {
        super::XFRM
    }

    fn set_policies(&mut self, policies: BTreeMap<ConnectionName, Vec<Policy>>) {
        self.control().set_policies(policies);
    }

    fn set_limits(&mut self, limits: BTreeMap<ConnectionName, Limits>) {
        self.control().set_limits(limits);
    }

    fn install(
        &mut self,
        sa: &Arc<ChildSa>,
        send: bool,
        _replaces: Option<ChildSaId>,
    ) -> Result<(), String> {
        let mut control = self.control();
        control
            .install(sa, send)
            .map_err(|reason| format!("connection {}: child {}: {reason}", sa.connection, sa.child))
    }

    fn send(&mut self, sa: ChildSaId) {
        self.control().send(sa);
    }

    fn remove(&mut self, sa: ChildSaId, linger: Duration) {
        self.control().remove(sa, linger, Instant::now());
    }

    fn set_path(&mut self, sas: &[ChildSaId], path: Path, udp: bool) {
        self.control().set_path(sas, path, udp);
    }

    fn transmit(&mut self, message: &Transmit) {
        self.control().transmit(message);
    }

    fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
            || self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }

    fn counters(&self) -> Counters {
        self.control().counters()
    }
}
