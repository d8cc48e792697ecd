//! What the driver is told by the rest of the gateway. Of plans and addresses only the newest
//! stand in it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipsec::ike::event::Rekey;
use ipsec::sa::ConnectionName;
use plan::vpn::VpnPlan;
use tokio::sync::{oneshot, watch};

use super::dataplane::FromNetwork;
use super::report::Report;
use crate::edges::Holdings;

/// What is to be in force.
#[derive(Clone, Debug)]
pub struct Desired {
    /// Counts up.
    pub generation: u64,
    /// The plan.
    pub plan: Arc<VpnPlan>,
}

/// Addresses of the other ends that are known by name.
pub type Names = BTreeMap<String, Vec<IpAddr>>;

/// Something that a person asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Begin a connection.
    Up,
    /// End it; it stays down until it is begun.
    Down,
    /// Rekey.
    Rekey(Rekey),
}

/// Why it isn't done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such connection, or it can't be.
    #[error(
        "there is no connection {0} in force; `gateway check` says what is wrong with those that can't be"
    )]
    Unknown(ConnectionName),
    /// It has no such child.
    #[error("connection {connection} has no child {child:?}; it has {children}")]
    NoChild {
        /// The connection.
        connection: ConnectionName,
        /// What was asked for.
        child: String,
        /// What it has.
        children: String,
    },
    /// What is to be rekeyed isn't there.
    #[error("connection {0} is not up, so there is nothing to rekey")]
    NotUp(ConnectionName),
    /// Too many captures at once.
    #[error("another capture is under way; wait for its end")]
    Capturing,
}

/// An IKE message of a capture: decrypted, and when and which way it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// Since the epoch.
    pub at: Duration,
    /// From where to where it went.
    pub source: std::net::SocketAddr,
    /// See there.
    pub destination: std::net::SocketAddr,
    /// The message.
    pub message: Vec<u8>,
}

/// One question to the driver.
#[derive(Debug)]
pub enum Request {
    /// Do something.
    Act {
        /// With which connection.
        connection: ConnectionName,
        /// What.
        action: Action,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<(), Refused>>,
    },
    /// Say how everything is.
    Report {
        /// Where the answer goes.
        reply: oneshot::Sender<Report>,
    },
    /// Keep the decrypted messages of a connection from now on.
    Capture {
        /// Of which connection.
        connection: ConnectionName,
        /// For how long at most.
        within: Duration,
        /// Where they go, once that is over.
        reply: oneshot::Sender<Result<Vec<Captured>, Refused>>,
    },
}

/// Everything that came since the last look.
#[derive(Debug, Default)]
pub struct Mail {
    /// A new plan.
    pub desired: Option<Desired>,
    /// Several edges share the connections: what this one holds, now and later.
    pub holdings: Option<watch::Receiver<Arc<Holdings>>>,
    /// Addresses of names.
    pub names: Option<Names>,
    /// Somebody else has changed the guard table: who.
    pub foreign: Option<String>,
    /// Interfaces or addresses have changed.
    pub links: bool,
    /// In order.
    pub requests: Vec<Request>,
    /// Stop.
    pub stop: bool,
}

/// Questions that may lie there at one time: more are not answered.
const REQUESTS: usize = 256;

/// Where it lies until the driver looks.
#[derive(Debug)]
pub struct Mailbox {
    contents: Mutex<Contents>,
    /// Has the driver look.
    bell: SyncSender<FromNetwork>,
}

#[derive(Debug, Default)]
struct Contents {
    mail: Mail,
    /// Nobody looks any more.
    closed: bool,
}

/// Closes a mailbox when it goes out of scope, by a panic, too.
#[derive(Debug)]
pub struct Closing(pub Arc<Mailbox>);

impl Drop for Closing {
    fn drop(&mut self) {
        let mut contents = self.0.lock();
        contents.closed = true;
        contents.mail = Mail::default();
    }
}

impl Mailbox {
    /// An empty one; `bell` is what the driver waits for.
    pub fn new(bell: SyncSender<FromNetwork>) -> Self {
        Self { contents: Mutex::default(), bell }
    }

    /// Adds to it, and has the driver look.
    pub fn post(&self, write: impl FnOnce(&mut Mail)) {
        write(&mut self.lock().mail);
        // If the queue is full, the driver is awake and looks after each message.
        let _ = self.bell.try_send(FromNetwork::Wake);
    }

    /// Asks something. Where there are too many questions, or nobody is there any more, the sender
    /// of the answer is dropped.
    pub fn ask(&self, request: Request) {
        let mut contents = self.lock();
        if !contents.closed && contents.mail.requests.len() < REQUESTS {
            contents.mail.requests.push(request);
        }
        drop(contents);
        let _ = self.bell.try_send(FromNetwork::Wake);
    }

    /// Takes everything.
    pub fn take(&self) -> Mail {
        std::mem::take(&mut self.lock().mail)
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    #[test]
    fn once_nobody_looks_any_more_questions_have_no_answer_and_nobody_waits() {
        let (bell, _driver) = std::sync::mpsc::sync_channel(1);
        let mailbox = Arc::new(Mailbox::new(bell));
        let ask = || {
            let (reply, answer) = oneshot::channel();
            mailbox.ask(Request::Report { reply });
            answer
        };
        let mut before = ask();
        assert!(matches!(before.try_recv(), Err(TryRecvError::Empty)));
        drop(Closing(Arc::clone(&mailbox)));
        assert!(matches!(before.try_recv(), Err(TryRecvError::Closed)));
        assert!(matches!(ask().try_recv(), Err(TryRecvError::Closed)));
    }
}
