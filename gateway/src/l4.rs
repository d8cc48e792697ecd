//! The L4 plane at work: the kernel's rules and addresses follow the plan.
//!
//! **What it is:** one thread that owns what the kernel holds (`driver`), the file that
//! remembers who has which address ([`state`]), and the ports that tell of local endpoints
//! ([`health`]).
//!
//! **What it is not:** decisions who gets which address and what the rules are (`plan::l4`), or
//! system calls (`netdev`).

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use plan::l4::{AlbPorts, Allocations};
use tokio::sync::watch;

mod drain;
mod driver;
mod effective;
mod forwarding;
pub mod health;
pub mod kernel;
mod linux;
mod local;
pub mod mailbox;
pub(crate) mod retry;
mod rules;
pub(crate) mod sole;
pub mod state;
pub mod traffic;
pub mod view;
mod vips;

use driver::Driver;
use kernel::Fault;
use linux::Linux;
pub(crate) use linux::keep_router_advertisements;
use mailbox::{Desired, Mailbox};
use sole::Sole;
pub use sole::SoleError;
use state::{State, StateError};
use traffic::Traffic;
use view::View;

use crate::config::{L4, OnStop};
use crate::edges::Holdings;
use crate::metrics::Metrics;

/// Why there is no L4 plane.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state can't be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// Another process has it.
    #[error(transparent)]
    Sole(#[from] SoleError),
    /// Something of the machine is missing.
    #[error("l4: {0}")]
    Machine(#[from] Fault),
}

/// The L4 plane, running.
#[derive(Debug)]
pub struct Plane {
    mailbox: Arc<Mailbox>,
    view: watch::Receiver<Arc<View>>,
    traffic: Arc<Traffic>,
    thread: JoinHandle<()>,
    on_stop: OnStop,
    remembered: Arc<Allocations>,
    _sole: Sole,
}

impl Plane {
    /// Looks whether everything that is needed is there, and starts the thread. The kernel is
    /// left as it is until the first plan.
    ///
    /// # Errors
    /// [`StartError`]
    pub fn start(
        config: &L4,
        alb_ports: AlbPorts,
        state: &Path,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, StartError> {
        let mailbox = Arc::new(Mailbox::new().map_err(Fault::of)?);
        let kernel = Linux::open(Arc::clone(&mailbox))?;
        let traffic = Arc::new(Traffic::new(kernel.nft()));
        let state = State::open(state)?;
        let sole = Sole::claim("l4")?;
        let remembered = Arc::clone(&state.saved().allocations);
        let (driver, view) = Driver::new(
            kernel,
            config.settings.clone(),
            alb_ports,
            state,
            Arc::clone(&mailbox),
            Arc::clone(metrics),
        )?;
        let thread = std::thread::Builder::new()
            .name("l4".to_owned())
            .spawn(move || driver.run())
            .map_err(|error| Fault(format!("no thread can be started: {error}")))?;
        Ok(Self {
            mailbox,
            view,
            traffic,
            thread,
            on_stop: config.on_stop,
            remembered,
            _sole: sole,
        })
    }

    /// Which Service had which address before the start.
    pub fn remembered(&self) -> &Allocations {
        &self.remembered
    }

    /// What is in force, now and later.
    pub fn view(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// What the kernel has counted.
    pub fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.traffic)
    }

    /// Brings a plan into force. Of several that come at once only the last one is.
    pub fn apply(&self, desired: Desired) {
        self.mailbox.post(|mail| mail.desired = Some(desired));
    }

    /// Tells the network anew where the VIPs are.
    pub fn announce(&self) {
        self.mailbox.post(|mail| mail.announce = true);
    }

    /// Takes no further VIPs; those that are held are kept.
    pub fn drain(&self) {
        self.mailbox.post(|mail| mail.drain = true);
    }

    /// From now on only VIPs that are held are on interfaces. Has it look whenever that changes.
    pub fn hold(&self, holdings: watch::Receiver<Arc<Holdings>>) -> impl Fn() + Send + use<> {
        self.mailbox.post(|mail| mail.holdings = Some(holdings));
        let mailbox = Arc::clone(&self.mailbox);
        move || mailbox.post(|_| {})
    }

    /// Whether the thread is there. It only ends when it is told to, or by a fault.
    pub fn is_whole(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Stops it. Rules and addresses stay or go as configured.
    pub fn stop(self) {
        let remove = self.on_stop == OnStop::Remove;
        self.mailbox.post(|mail| mail.stop = Some(remove));
        if self.thread.join().is_err() {
            tracing::error!("the l4 thread panicked");
        }
    }
}
