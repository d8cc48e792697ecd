//! What the thread is told by the rest of the gateway. Of each thing only the newest stands in it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::Snapshot;
use netdev::wait::Waker;
use overlay::probe::Holds;
use tokio::sync::watch;

use super::responder::Findings;
use crate::edges::Holdings;

/// What is to be in force.
#[derive(Clone, Debug)]
pub struct Desired {
    /// Counts up.
    pub generation: u64,
    /// The objects: [`super::part`] of a snapshot.
    pub snapshot: Arc<Snapshot>,
    /// What this edge holds, and tells to agents.
    pub holds: Holds,
    /// Until when at most; none for ever.
    pub until: Option<watch::Receiver<Arc<Holdings>>>,
    /// This edge's incarnation.
    pub incarnation: u64,
}

#[derive(Debug, Default)]
pub(super) struct Mail {
    pub(super) desired: Option<Desired>,
    pub(super) findings: Option<Findings>,
    pub(super) renew: bool,
    pub(super) stop: bool,
}

/// Where it lies until the thread looks.
#[derive(Clone, Debug)]
pub(super) struct Mailbox {
    mail: Arc<Mutex<Mail>>,
    pub(super) waker: Waker,
}

impl Mailbox {
    pub(super) fn new(waker: Waker) -> Self {
        Self { mail: Arc::default(), waker }
    }

    /// Adds to it, and has the thread look.
    pub(super) fn post(&self, write: impl FnOnce(&mut Mail)) {
        write(&mut self.lock());
        self.waker.wake();
    }

    /// Takes everything.
    pub(super) fn take(&self) -> Mail {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
