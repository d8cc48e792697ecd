//! The VPN plane at work: IKE and ESP follow the plan.
//!
//! **What it is:** the thread that owns the IKE engine (`driver`), what it does to the kernel's
//! rules and routes, and the data path ([`dataplane`]).
//!
//! **What it is not:** the protocols (`ipsec`), or decisions which networks go where
//! (`plan::vpn`).

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use ipsec::crypto::rng::SystemRng;
use ipsec::ike::Engine;
use ipsec::ike::config::Settings;
use ipsec::sa::ConnectionName;
use plan::vpn::table::MARK;
use tokio::sync::{oneshot, watch};

mod captures;
mod connections;
pub mod dataplane;
pub mod diagnose;
mod driver;
pub mod failure;
pub mod former;
mod forwarding;
pub mod guard;
mod holds;
mod journal;
mod kernel;
pub mod mailbox;
pub mod report;
mod routes;
mod watch_kernel;

use dataplane::{Auto, Dataplane, FromNetwork, Nothing, UserSpace, Xfrm};
use driver::{Driver, Parts};
use guard::Counts;
pub(crate) use holds::claim;
use kernel::Linux;
use mailbox::{Action, Captured, Closing, Desired, Mailbox, Names, Refused, Request};
use report::{Report, View};
use watch_kernel::Watch;

use crate::config::{self, Vpn};
use crate::edges::Holdings;
use crate::l4::kernel::Fault;
use crate::l4::sole::{Sole, SoleError};
use crate::metrics::Metrics;

/// Messages that may wait for the driver.
const QUEUE: usize = 4096;

/// Why there is no VPN plane.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process has it.
    #[error(transparent)]
    Sole(#[from] SoleError),
    /// Something of the machine is missing.
    #[error("vpn: {0}")]
    Machine(#[from] Fault),
    /// Something that is configured is not there.
    #[error("vpn.dataplane: {0}")]
    Dataplane(String),
}

/// The VPN plane, running.
#[derive(Debug)]
pub struct Plane {
    handle: Handle,
    view: watch::Receiver<Arc<View>>,
    thread: JoinHandle<()>,
    lacking: Option<StartError>,
    _watch: Watch,
    _sole: Sole,
}

/// A way to ask the plane, from any thread.
#[derive(Clone, Debug)]
pub struct Handle {
    mailbox: Arc<Mailbox>,
    counts: Arc<Counts>,
}

impl Plane {
    /// Looks whether everything that is needed is there, opens sockets and the tunnel interface,
    /// and starts the threads. Rules and routes are left as they are until the first plan. Without
    /// a data path ([`Self::lacking`]) it only guards the remote networks.
    ///
    /// # Errors
    /// [`StartError`]
    pub fn start(config: &Vpn, metrics: &Arc<Metrics>) -> Result<Self, StartError> {
        let sole = Sole::claim("vpn")?;
        let kernel = Linux::open()?;
        let (sender, network) = mpsc::sync_channel(QUEUE);
        let mailbox = Arc::new(Mailbox::new(sender.clone()));
        let counts = Arc::new(Counts::new(kernel.nft().clone()));
        let watch = Watch::start(kernel.nft(), Arc::clone(&mailbox))?;
        let (again, sending) = (config.clone(), sender.clone());
        let renewal = Box::new(move || data_path(&again, sending.clone()));
        let (dataplane, lacking) = match data_path(config, sender) {
            Ok(dataplane) => (dataplane, None),
            Err(error) => (Box::new(Nothing) as Box<dyn Dataplane>, Some(error)),
        };
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let engine = Engine::new(settings(config), Box::new(SystemRng), (Instant::now(), unix));
        let (driver, view) = Driver::new(Parts {
            kernel,
            engine,
            dataplane,
            renewal,
            network,
            mailbox: Arc::clone(&mailbox),
            counts: Some(Arc::clone(&counts)),
            settings: config.settings.clone(),
            on_stop: config.on_stop,
            metrics: Arc::clone(metrics),
        });
        let closing = Closing(Arc::clone(&mailbox));
        let thread = std::thread::Builder::new()
            .name("vpn".to_owned())
            .spawn(move || {
                let _closing = closing;
                driver.run();
            })
            .map_err(|error| Fault(format!("no thread can be started: {error}")))?;
        let handle = Handle { mailbox, counts };
        Ok(Self { handle, view, thread, lacking, _watch: watch, _sole: sole })
    }

    /// Why there is no data path, if there is none.
    pub fn lacking(&self) -> Option<&StartError> {
        self.lacking.as_ref()
    }

    /// For whoever asks.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// What is in force, now and later.
    pub fn view(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// Brings a plan into force. Of several that come at once only the last one is.
    pub fn apply(&self, desired: Desired) {
        self.handle.mailbox.post(|mail| mail.desired = Some(desired));
    }

    /// Tells the addresses of other ends that are known by name.
    pub fn resolved(&self, names: Names) {
        self.handle.mailbox.post(|mail| mail.names = Some(names));
    }

    /// From now on only connections that are held are brought up; all stay guarded. Has it look
    /// whenever what is held changes.
    pub fn hold(&self, holdings: watch::Receiver<Arc<Holdings>>) -> impl Fn() + Send + use<> {
        self.handle.mailbox.post(|mail| mail.holdings = Some(holdings));
        let mailbox = Arc::clone(&self.handle.mailbox);
        move || mailbox.post(|_| {})
    }

    /// Whether the thread is there. It only ends when it is told to, or by a fault.
    pub fn is_whole(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Stops it: the other ends are told, and the data path ends. The guard table stays, and the
    /// routes stay or go as configured.
    pub fn stop(self) {
        self.handle.mailbox.post(|mail| mail.stop = true);
        if self.thread.join().is_err() {
            tracing::error!("the vpn thread panicked");
        }
    }
}

/// What holds for all connections.
fn settings(config: &Vpn) -> Settings {
    let Vpn { half_open, retransmit, .. } = config;
    Settings {
        port: config.settings.port,
        nat_port: config.settings.nat_port,
        cookie_threshold: half_open.cookie_threshold as usize,
        half_open_limit: half_open.limit as usize,
        half_open_per_source: half_open.per_source as usize,
        half_open_lifetime: half_open.lifetime.into(),
        retransmit_first: retransmit.first.into(),
        retransmit_base: retransmit.base,
        retransmit_max: retransmit.max.into(),
        retransmit_tries: retransmit.tries,
        ..Settings::default()
    }
}

/// The plane has ended, or is asked too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the VPN plane does not answer; it ends, or is asked too much at once")]
pub struct Silent;

impl Handle {
    /// How everything is.
    ///
    /// # Errors
    /// [`Silent`]
    pub async fn report(&self) -> Result<Report, Silent> {
        let mut report = self.ask(|reply| Request::Report { reply }).await?;
        let counts = Arc::clone(&self.counts);
        let read = tokio::task::spawn_blocking(move || (counts.sums(), forwards()));
        (report.guard, report.forwards) = read.await.unwrap_or_default();
        Ok(report)
    }

    /// Does something with a connection.
    ///
    /// # Errors
    /// [`Silent`], or within why it isn't done.
    pub async fn act(
        &self,
        connection: ConnectionName,
        action: Action,
    ) -> Result<Result<(), Refused>, Silent> {
        self.ask(|reply| Request::Act { connection, action, reply }).await
    }

    /// Decrypted IKE messages of a connection, from now on for a while.
    ///
    /// # Errors
    /// [`Silent`], or within why it isn't done.
    pub async fn capture(
        &self,
        connection: ConnectionName,
        within: Duration,
    ) -> Result<Result<Vec<Captured>, Refused>, Silent> {
        self.ask(|reply| Request::Capture { connection, within, reply }).await
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, Silent> {
        let (reply, answer) = oneshot::channel();
        self.mailbox.ask(request(reply));
        answer.await.map_err(|_| Silent)
    }
}

/// Whether the kernel forwards: IPv4, IPv6.
fn forwards() -> [Option<bool>; 2] {
    use netdev::sysctl;
    [sysctl::forwarding_v4(), sysctl::forwarding_v6()]
        .map(|key| sysctl::read(&key).ok().map(|value| value == "1"))
}

/// The data path that is configured, or the better one of those that work here.
fn data_path(
    config: &Vpn,
    sender: mpsc::SyncSender<FromNetwork>,
) -> Result<Box<dyn Dataplane>, StartError> {
    let defaults = dataplane::Settings::default();
    let settings = dataplane::Settings {
        interface: config.settings.interface.clone(),
        path_mtu: config.mtu,
        workers: config.workers.count(),
        port: config.settings.port,
        nat_port: config.settings.nat_port,
        mark: MARK,
        offloads: config.offloads,
        ..defaults
    };
    let able = match config.dataplane {
        config::Dataplane::Userspace => None,
        config::Dataplane::Auto | config::Dataplane::Xfrm => Some(netdev::xfrm::probe()),
    };
    let started: Box<dyn Dataplane> = match (able, config.dataplane) {
        (Some(Ok(())), config::Dataplane::Xfrm) => {
            Box::new(Xfrm::start(&settings, sender).map_err(Fault::of)?)
        }
        (Some(Ok(())), _) => Box::new(Auto::start(settings, sender).map_err(Fault::of)?),
        (Some(Err(unable)), config::Dataplane::Xfrm) => {
            return Err(StartError::Dataplane(format!(
                "xfrm is not possible here: {unable}; or write auto or userspace"
            )));
        }
        (unable, _) => {
            Xfrm::clean(&settings.interface).map_err(Fault::of)?;
            let started = UserSpace::start(&settings, sender).map_err(Fault::of)?;
            let offloads = started.offloads();
            let why = match unable {
                Some(Err(unable)) => unable.to_string(),
                _ => "as configured".to_owned(),
            };
            let workers = settings.workers;
            let (segments, datagrams) = (offloads.header, offloads.udp);
            tracing::info!(
                dataplane = "userspace",
                why,
                workers,
                segments,
                datagrams,
                "VPN data path"
            );
            return Ok(Box::new(started));
        }
    };
    tracing::info!(dataplane = started.name(), "VPN data path");
    Ok(started)
}
