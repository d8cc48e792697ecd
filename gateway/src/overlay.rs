//! The edge's end of the overlay at work: tunnels and routes to the cluster's nodes.
//!
//! **What it is:** the thread that plans and applies (`driver`), and the one that answers agents'
//! probes and so learns which nodes live (`responder`). The edge's keys lie in the state
//! directory, and beside them a file with the EdgeGateway as it should be known to the nodes,
//! where there is no API to tell it.
//!
//! **What it is not:** decisions what goes where (`plan::overlay`), tunnels themselves
//! (`wireguard`), or what probes look like (`overlay`).

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use model::Snapshot;
use netdev::wait::Waker;
use overlay::probe::Holds;
use tokio::sync::watch;
use wireguard::{Applier, ApplyError, Interfaces, Scope, Wanted};

mod driver;
pub mod follower;
mod keys;
mod mailbox;
mod own;
mod quiet;
mod responder;
mod sight;
pub mod view;

pub use keys::KeysError;
pub use mailbox::Desired;
pub use responder::Letters;
pub use view::View;

use crate::config::Overlay;
use crate::config::file::Backend;
use crate::l4::sole::{Sole, SoleError};
use driver::Driver;
use keys::KeyRing;
use mailbox::Mailbox;
use responder::{Post, Responder};

/// Why there is no overlay.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process has it.
    #[error(transparent)]
    Sole(#[from] SoleError),
    /// Routes and rules can't be made.
    #[error("overlay: {0}")]
    Apply(#[from] ApplyError),
    /// Tunnels can't be made.
    #[error("overlay.backend: {0}")]
    Interfaces(#[from] wireguard::StartError),
    /// Keys can't be had.
    #[error("state: {0}")]
    Keys(#[from] KeysError),
    /// There is no thread or descriptor left.
    #[error("overlay: no thread can be started: {0}")]
    Thread(#[from] io::Error),
}

/// The overlay, running.
#[derive(Debug)]
pub struct Plane {
    handle: Handle,
    view: watch::Receiver<Arc<View>>,
    thread: JoinHandle<()>,
    vpn: bool,
    _sole: Sole,
}

/// A way to tell the plane something, from any thread.
#[derive(Clone, Debug)]
pub struct Handle {
    mailbox: Mailbox,
    post: Post,
}

impl Handle {
    /// Sends octets to another edge, sealed; they may be lost.
    pub fn send(&self, edge: String, octets: Vec<u8>) {
        self.post.send(edge, octets);
    }

    /// Has the edge's key changed, without a gap.
    pub fn renew_key(&self) {
        self.mailbox.post(|mail| mail.renew = true);
    }

    /// What is to be in force. Of several that come at once only the last one is.
    pub fn apply(&self, desired: Desired) {
        self.mailbox.post(|mail| mail.desired = Some(desired));
    }
}

impl Plane {
    /// Looks whether everything that is needed is there, reads keys or makes the first one, and
    /// starts the threads, in the network namespace of the calling one. What a former run has left
    /// in the kernel stays until the first objects and probes. `letters` is called for what other
    /// edges send.
    ///
    /// # Errors
    /// [`StartError`]
    pub fn start(
        config: &Overlay,
        state: &std::path::Path,
        (vpn_interface, outside): (Option<String>, Vec<String>),
        letters: Letters,
    ) -> Result<Self, StartError> {
        let sole = Sole::claim("overlay")?;
        let vpn = vpn_interface.is_some();
        let keys = KeyRing::open(state, config.settings.port)?;
        let applier = Applier::open(Scope::edge())?;
        let interfaces = Interfaces::new(interfaces(config))?;
        let mailbox = Mailbox::new(Waker::new()?);
        let report = mailbox.clone();
        let responder = Responder::start(
            move |findings| report.post(|mail| mail.findings = Some(findings)),
            letters,
        )?;
        let handle = Handle { mailbox: mailbox.clone(), post: responder.post() };
        let (view_sender, view) = watch::channel(Arc::<View>::default());
        let driver = Driver::new(driver::Parts {
            config: config.clone(),
            state: state.to_owned(),
            vpn_interface,
            outside,
            keys,
            applier,
            interfaces,
            responder,
            mailbox,
            view: view_sender,
        });
        let thread =
            std::thread::Builder::new().name("overlay".to_owned()).spawn(move || driver.run())?;
        Ok(Self { handle, view, thread, vpn, _sole: sole })
    }

    /// For whoever tells it something.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// What is in force, now and later.
    pub fn view(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// Brings objects into force. Of several that come at once only the last ones are.
    pub fn apply(&self, desired: Desired) {
        self.handle.apply(desired);
    }

    /// Whether there is a VPN plane, whose connections agents may use.
    fn has_vpn(&self) -> bool {
        self.vpn
    }

    /// Whether the thread is there. It only ends when it is told to, or by a fault.
    pub fn is_whole(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Stops it. Tunnels and routes stay or go as configured.
    pub fn stop(self) {
        self.handle.mailbox.post(|mail| mail.stop = true);
        if self.thread.join().is_err() {
            tracing::error!("the overlay thread panicked");
        }
    }
}

/// How tunnels are made.
pub(crate) fn interfaces(config: &Overlay) -> wireguard::Settings {
    wireguard::Settings {
        backend: match config.backend {
            Backend::Auto => Wanted::Auto,
            Backend::Kernel => Wanted::Kernel,
            Backend::Userspace => Wanted::UserSpace,
        },
        prefix: config.settings.interface.clone(),
        mark: 0,
        workers: config.workers.count(),
        offloads: config.offloads,
    }
}

/// What of a snapshot the overlay needs.
pub fn part(snapshot: &Snapshot) -> Snapshot {
    Snapshot {
        nodes: snapshot.nodes.clone(),
        edges: snapshot.edges.clone(),
        connections: snapshot.connections.clone(),
        ..Snapshot::default()
    }
}

/// What an edge without others holds: everything that there is.
fn all(snapshot: &Snapshot, vpn: bool, vips: &[IpAddr]) -> Holds {
    let connections = snapshot.connections.keys().filter(|_| vpn);
    let vips: BTreeSet<IpAddr> = vips.iter().copied().collect();
    Holds {
        vpn: connections.map(|key| (key.clone(), 1)).collect(),
        vips: vips.into_iter().collect(),
    }
}
