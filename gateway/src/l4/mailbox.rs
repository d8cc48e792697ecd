//! What the driver is told. Nothing queues up here: of each kind only the newest stands in it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use netdev::wait::Waker;
use plan::l4::L4Plan;
use plan::policy::Compiled;
use tokio::sync::watch;

use crate::edges::Holdings;

/// What is to be in force.
#[derive(Clone, Debug)]
pub struct Desired {
    /// Counts up.
    pub generation: u64,
    /// VIPs and Services.
    pub plan: Arc<L4Plan>,
    /// The policies.
    pub policy: Arc<Compiled>,
}

/// Everything that came since the last look.
#[derive(Debug, Default)]
pub struct Mail {
    /// New plans.
    pub desired: Option<Desired>,
    /// All VIPs are to be announced.
    pub announce: bool,
    /// Several edges share the VIPs: what this one holds, now and later. Whoever changes what is
    /// held rings the bell; when its time is over the driver sees by itself.
    pub holdings: Option<watch::Receiver<Arc<Holdings>>>,
    /// The gateway drains: no VIP is to be taken any more.
    pub drain: bool,
    /// Stop; true: take down what was put up.
    pub stop: Option<bool>,
}

/// Where it lies until the driver looks.
#[derive(Debug)]
pub struct Mailbox {
    mail: Mutex<Mail>,
    bell: Waker,
}

impl Mailbox {
    /// An empty one.
    ///
    /// # Errors
    /// As eventfd(2).
    pub fn new() -> io::Result<Self> {
        Ok(Self { mail: Mutex::default(), bell: Waker::new()? })
    }

    /// Adds to it, and rings.
    pub fn post(&self, write: impl FnOnce(&mut Mail)) {
        write(&mut self.mail.lock().unwrap_or_else(PoisonError::into_inner));
        self.bell.wake();
    }

    /// Takes everything.
    pub fn take(&self) -> Mail {
        self.bell.clear();
        std::mem::take(&mut *self.mail.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What rings.
    pub fn bell(&self) -> &Waker {
        &self.bell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_plan_is_delivered() {
        let mailbox = Mailbox::new().unwrap();
        for generation in 1..=3 {
            mailbox.post(|mail| {
                mail.desired =
                    Some(Desired { generation, plan: Arc::default(), policy: Arc::default() });
            });
        }
        mailbox.post(|mail| mail.announce = true);
        let mail = mailbox.take();
        assert_eq!(mail.desired.unwrap().generation, 3);
        assert!(mail.announce);
        assert!(mailbox.take().desired.is_none());
    }
}
