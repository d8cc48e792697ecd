//! The allocations that all edges share: who has which address.
//!
//! They stand in a ConfigMap in the gateway's namespace. The leading edge proposes what its
//! planning has come to; what counts is what stands there, for the leader, too. Where the
//! ConfigMap is lost, the next plan makes it anew from what Services have in their status.

use std::sync::Arc;

use cluster::write::Outcome;
use cluster::write::allocations::{self, KEY, Known, LARGEST, NAME, Proposal};
use kube::Client;
use model::{Diagnostic, ObjectKey, ObjectRef};
use plan::l4::{Allocations, Giving};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The format that this version writes, and the only one that it reads: the disk's.
const VERSION: u32 = 1;

/// The ConfigMap's content.
#[derive(Serialize, Deserialize)]
struct Versioned {
    version: u32,
    allocations: Allocations,
}

/// The ConfigMap, read and written.
#[derive(Debug)]
pub struct Shared {
    namespace: String,
    known: watch::Receiver<Known>,
    failure: watch::Receiver<Option<Outcome>>,
    proposals: watch::Sender<Option<Arc<Proposal>>>,
    leader: watch::Receiver<bool>,
    /// What could be read last.
    last: Arc<Allocations>,
    /// The text that was read last, and why it can't be read, if it can't.
    text: Option<(Arc<str>, Result<(), String>)>,
    finding: Option<Diagnostic>,
    /// Planning may give out addresses: what is there could be read, or nothing is there.
    sound: bool,
    task: tokio::task::JoinHandle<()>,
}

/// What planning goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Basis {
    /// Who has which address.
    pub allocations: Arc<Allocations>,
    /// Whether this edge gives out addresses.
    pub giving: Giving,
}

impl Shared {
    /// Reads it, and goes on watching it. Until it could be read `remembered` counts, what was on
    /// this edge's disk.
    pub fn start(
        client: Client,
        namespace: String,
        remembered: Allocations,
        leader: watch::Receiver<bool>,
        stop: CancellationToken,
    ) -> Self {
        let (proposals, proposed) = watch::channel(None);
        let followed =
            allocations::start(client, namespace.clone(), proposed, leader.clone(), stop);
        Self {
            namespace,
            known: followed.known,
            failure: followed.failure,
            proposals,
            leader,
            last: Arc::new(remembered),
            text: None,
            finding: None,
            sound: false,
            task: followed.task,
        }
    }

    /// Waits until [`Self::basis`] may say something else.
    ///
    /// # Errors
    /// Whoever watches has ended.
    pub async fn changed(&mut self) -> Result<(), watch::error::RecvError> {
        tokio::select! {
            changed = self.known.changed() => changed,
            changed = self.leader.changed() => changed,
            changed = self.failure.changed() => changed,
        }
    }

    /// What planning goes by now.
    pub fn basis(&mut self) -> Basis {
        let known = self.known.borrow_and_update().clone();
        let leads = *self.leader.borrow_and_update();
        self.failure.mark_unchanged();
        self.finding = None;
        self.sound = match &known {
            Known::Unknown => false,
            // What was known goes on to count: it is written anew.
            Known::Absent => true,
            Known::There { text, .. } => match self.read(text) {
                Ok(()) => true,
                Err(reason) => {
                    self.finding = Some(self.unreadable(reason));
                    false
                }
            },
        };
        if leads && known == Known::Absent && *self.last != Allocations::default() {
            self.propose(&Arc::clone(&self.last));
        }
        let giving = if leads && self.sound { Giving::New } else { Giving::Nothing };
        Basis { allocations: Arc::clone(&self.last), giving }
    }

    /// Reads what stands there, unless it has been read.
    fn read(&mut self, text: &Arc<str>) -> Result<(), String> {
        if let Some((known, result)) = &self.text
            && known == text
        {
            return result.clone();
        }
        let result = read(text).map(|now| {
            if *self.last != now {
                self.last = Arc::new(now);
            }
        });
        self.text = Some((Arc::clone(text), result.clone()));
        result
    }

    /// Has the ConfigMap say what a plan with [`Giving::New`] has come to. Once it does
    /// [`Self::changed`] tells. Nothing happens where it says so already, or on other edges.
    pub fn propose(&mut self, allocations: &Allocations) {
        let version = match &*self.known.borrow() {
            Known::Unknown => return,
            Known::Absent => None,
            Known::There { .. } if !self.sound || *allocations == *self.last => return,
            Known::There { version, .. } => Some(version.clone()),
        };
        let content = Versioned { version: VERSION, allocations: allocations.clone() };
        let Ok(text) = serde_json::to_string(&content) else { return };
        if text.len() > LARGEST {
            self.finding = Some(self.too_large(text.len()));
            return;
        }
        let proposal = Proposal { version, text: text.into() };
        self.proposals.send_if_modified(|before| {
            let changed = before.as_deref() != Some(&proposal);
            if changed {
                *before = Some(Arc::new(proposal));
            }
            changed
        });
    }

    /// What is wrong with it.
    pub fn finding(&self) -> Option<Diagnostic> {
        if let Some(finding) = &self.finding {
            return Some(finding.clone());
        }
        let (reason, remedy) = match &*self.failure.borrow() {
            Some(Outcome::Forbidden { verb, resource }) => (
                format!("RBAC doesn't allow {verb} of {resource}; no new addresses are given out"),
                format!("allow {verb} of {resource} to the gateway's ServiceAccount"),
            ),
            Some(Outcome::Refused(why)) => {
                let reason = format!("isn't taken: {why}; no new addresses are given out");
                (reason, "mend what the API server names".to_owned())
            }
            _ => return None,
        };
        Some(Diagnostic::error(self.object(), "", reason).remedy(remedy))
    }

    /// Waits for its end, after `stop` was cancelled.
    pub async fn ended(self) {
        if self.task.await.is_err() {
            tracing::error!("the task that watches the allocations panicked");
        }
    }

    fn unreadable(&self, reason: String) -> Diagnostic {
        Diagnostic::error(self.object(), format!("data[{KEY:?}]"), reason).remedy(
            "put a copy back, or delete the ConfigMap: then it is made anew from what Services \
             have in their status; until then no new addresses are given out",
        )
    }

    fn too_large(&self, size: usize) -> Diagnostic {
        let reason = format!("would have {size} bytes, and a ConfigMap holds {LARGEST}");
        Diagnostic::error(self.object(), format!("data[{KEY:?}]"), reason)
            .remedy("have Services share addresses (tidegate.io/sharing-key), or delete some")
    }

    fn object(&self) -> ObjectRef {
        ObjectRef::namespaced("ConfigMap", &ObjectKey::new(&self.namespace, NAME))
    }
}

fn read(text: &str) -> Result<Allocations, String> {
    let broken = |error: serde_json::Error| format!("is broken: {error}");
    let value: serde_json::Value = serde_json::from_str(text).map_err(broken)?;
    match value.get("version").and_then(serde_json::Value::as_u64) {
        Some(version) if version == u64::from(VERSION) => {}
        Some(version) => {
            return Err(format!("has version {version}, and this gateway reads {VERSION}"));
        }
        None => return Err("is broken: it has no version".to_owned()),
    }
    let Versioned { allocations, .. } = serde_json::from_value(value).map_err(broken)?;
    Ok(allocations)
}
