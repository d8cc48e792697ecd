//! The task that keeps what is written up to date.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use cluster::write::{self, Written};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Client;
use model::{Diagnostic, ObjectKey};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Connection, Context, Facts, vpn_states, written};
use crate::vpn;

/// The shortest rest between two looks at everything.
const REST: Duration = Duration::from_millis(100);
/// A look may take this part of the time.
const SHARE: u32 = 20;
/// How often the VPN plane is asked how its connections are.
const ASK: Duration = Duration::from_secs(1);

/// What it works with.
pub struct Options {
    /// The API server.
    pub client: Client,
    /// Whose edge it is, and how it is configured.
    pub context: Context,
    /// Whether this edge leads.
    pub leader: watch::Receiver<bool>,
    /// The VPN plane, to be asked how connections are.
    pub vpn: Option<vpn::Handle>,
}

/// The task, running.
#[derive(Debug)]
pub struct Handle {
    facts: watch::Sender<Facts>,
    findings: watch::Receiver<Arc<Vec<Diagnostic>>>,
    counters: Arc<write::Counters>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Handle {
    /// Tells what is known now. Never waits; of several that come at once only the last one
    /// counts.
    pub fn tell(&self, facts: Facts) {
        self.facts.send_replace(facts);
    }

    /// The way to tell, for whoever has not got the handle.
    pub fn facts(&self) -> watch::Sender<Facts> {
        self.facts.clone()
    }

    /// Changes a part of what is known.
    pub fn update(&self, change: impl FnOnce(&mut Facts)) {
        self.facts.send_modify(change);
    }

    /// What can't be written, and why, now and later.
    pub fn findings(&self) -> watch::Receiver<Arc<Vec<Diagnostic>>> {
        self.findings.clone()
    }

    /// Changes, failures and Events since the start.
    pub fn counts(&self) -> [u64; 3] {
        let write::Counters { changes, failures, events } = &*self.counters;
        [changes, failures, events].map(|counter| counter.load(Ordering::Relaxed))
    }

    /// Tells that the gateway ends, and ends. Takes two seconds at most, or a little more.
    pub async fn stop(self) {
        self.facts.send_modify(|facts| facts.stopping = true);
        self.stop.cancel();
        if self.task.await.is_err() {
            tracing::error!("the task that says what is written panicked");
        }
    }
}

/// Starts to write. Nothing is written before [`Handle::tell`].
pub fn start(options: Options) -> Handle {
    let Options { client, context, leader, vpn } = options;
    let (facts, known) = watch::channel(Facts::default());
    let (sender, receiver) = watch::channel(Arc::<Written>::default());
    let stop = CancellationToken::new();
    // The writer ends after the last word.
    let writers = CancellationToken::new();
    let of_writer = write::Options::new(context.name.clone());
    let writer = write::start(client, of_writer, receiver, leader, writers.clone());
    let (findings, counters) = (writer.findings.clone(), Arc::clone(&writer.counters));
    let stopped = stop.clone();
    let task = tokio::spawn(async move {
        follow(Arc::new(context), known, vpn, &sender, stopped).await;
        writers.cancel();
        writer.ended().await;
    });
    Handle { facts, findings, counters, stop, task }
}

async fn follow(
    context: Arc<Context>,
    mut facts: watch::Receiver<Facts>,
    vpn: Option<vpn::Handle>,
    sender: &watch::Sender<Arc<Written>>,
    stop: CancellationToken,
) {
    // Nothing is known before the first word.
    tokio::select! {
        changed = facts.changed() => if changed.is_err() { return },
        () = stop.cancelled() => return,
    }
    let mut ask = tokio::time::interval(ASK);
    ask.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut connections = Arc::default();
    loop {
        let started = Instant::now();
        look(&context, &mut facts, &connections, sender).await;
        let rest = REST.max(started.elapsed() * SHARE);
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            () = stop.cancelled() => {}
        }
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    return look(&context, &mut facts, &connections, sender).await;
                }
                changed = facts.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    break;
                }
                _ = ask.tick(), if vpn.is_some() => {
                    let now = states(vpn.as_ref()).await;
                    if now != *connections {
                        connections = Arc::new(now);
                        break;
                    }
                }
            }
        }
    }
}

/// Looks at everything, on a thread of its own.
async fn look(
    context: &Arc<Context>,
    facts: &mut watch::Receiver<Facts>,
    connections: &Arc<BTreeMap<ObjectKey, Connection>>,
    sender: &watch::Sender<Arc<Written>>,
) {
    let facts = facts.borrow_and_update().clone();
    let (context, connections) = (Arc::clone(context), Arc::clone(connections));
    let looking = tokio::task::spawn_blocking(move || {
        written(&context, &facts, &connections, Timestamp::now())
    });
    match looking.await {
        Ok(now) => {
            sender.send_if_modified(|before| {
                let changed = **before != now;
                if changed {
                    *before = Arc::new(now);
                }
                changed
            });
        }
        Err(error) => tracing::error!(%error, "what is written can't be found out"),
    }
}

async fn states(vpn: Option<&vpn::Handle>) -> BTreeMap<ObjectKey, Connection> {
    let Some(vpn) = vpn else { return BTreeMap::new() };
    let Ok(report) = vpn.report().await else { return BTreeMap::new() };
    let now = Timestamp::now();
    let ago = |at| {
        let ago = SignedDuration::try_from(report.since(at)).ok()?;
        now.checked_sub(ago).ok()
    };
    let of = |one: &vpn::report::OneConnection| (one.key.clone(), vpn_states::of(one, &ago));
    report.connections.iter().map(of).collect()
}
