//! The task that writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kube::Client;
use model::Diagnostic;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::events::{Book, Limits};
use super::queue::Queue;
use super::{Author, Event, Outcome, Target, Written, events, perform};

/// Events under way at once.
const EVENTS_AT_ONCE: usize = 4;
/// The rest of all Events where none is allowed, and where the API server has too much to do.
const FORBIDDEN_REST: Duration = Duration::from_secs(120);
const BUSY_REST: Duration = Duration::from_secs(2);
/// The rest after an Event that couldn't be sent.
const EVENT_REST: Duration = Duration::from_secs(30);

/// Who writes, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The edge's or node's name: `reportingInstance` of Events.
    pub instance: String,
    /// What kind of program: `reportingController`.
    pub controller: &'static str,
    /// How often Events are told.
    pub events: Limits,
    /// How long what is pending at the stop may take.
    pub deadline: Duration,
    /// Where jitter comes from.
    pub seed: u64,
}

impl Options {
    /// The usual ones.
    pub fn new(instance: impl Into<String>) -> Self {
        Self {
            instance: instance.into(),
            controller: "tidegate.io/gateway",
            events: Limits::default(),
            deadline: Duration::from_secs(2),
            seed: fastrand::u64(..),
        }
    }
}

/// What was written, since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Changes that were made.
    pub changes: AtomicU64,
    /// Changes that weren't taken, for whatever reason.
    pub failures: AtomicU64,
    /// Events that were sent.
    pub events: AtomicU64,
}

/// The task, running.
#[derive(Debug)]
pub struct Writer {
    /// What can't be written, and why.
    pub findings: watch::Receiver<Arc<Vec<Diagnostic>>>,
    /// What was written.
    pub counters: Arc<Counters>,
    task: tokio::task::JoinHandle<()>,
}

impl Writer {
    /// Waits for its end, after `stop` was cancelled.
    pub async fn ended(self) {
        if self.task.await.is_err() {
            tracing::error!("the task that writes to the API server panicked");
        }
    }
}

/// Starts to write what `written` says, now and later. What is the leader's is written only while
/// `leader` says so. After `stop` what is pending gets a short deadline.
pub fn start(
    client: Client,
    options: Options,
    written: watch::Receiver<Arc<Written>>,
    leader: watch::Receiver<bool>,
    stop: CancellationToken,
) -> Writer {
    let (sender, findings) = watch::channel(Arc::default());
    let counters = Arc::new(Counters::default());
    let task = Task {
        client,
        queue: Queue::new(options.seed),
        book: Book::new(options.events),
        running: JoinSet::new(),
        term: CancellationToken::new(),
        events: 0,
        counters: Arc::clone(&counters),
        findings: sender,
        options,
    };
    Writer { findings, counters, task: tokio::spawn(task.run(written, leader, stop)) }
}

/// What has ended.
enum Ended {
    /// None: broken off.
    Change(Target, Option<Outcome>),
    Event(Event, Outcome),
}

struct Task {
    client: Client,
    options: Options,
    queue: Queue,
    book: Book,
    running: JoinSet<Ended>,
    /// Cancelled when this edge leads no more.
    term: CancellationToken,
    /// Events under way.
    events: usize,
    counters: Arc<Counters>,
    findings: watch::Sender<Arc<Vec<Diagnostic>>>,
}

impl Task {
    async fn run(
        mut self,
        mut written: watch::Receiver<Arc<Written>>,
        mut leader: watch::Receiver<bool>,
        stop: CancellationToken,
    ) {
        self.take(&mut written, &mut leader);
        let mut until: Option<Instant> = None;
        let mut joined = true;
        loop {
            self.begin();
            if until.is_some_and(|until| self.queue.is_idle() || Instant::now() >= until) {
                break;
            }
            let wakes = [self.queue.wake(), self.wake_for_events(), until];
            let wake = wakes.into_iter().flatten().min();
            let (told, stopped) = (until.is_none(), until.is_some());
            tokio::select! {
                biased;
                () = stop.cancelled(), if !stopped => {
                    // The last word: what the end of the edge means.
                    self.take(&mut written, &mut leader);
                    self.queue.hurry();
                    until = Some(Instant::now() + self.options.deadline);
                }
                changed = written.changed(), if told => match changed {
                    Ok(()) => self.take(&mut written, &mut leader),
                    Err(_) => until = Some(Instant::now() + self.options.deadline),
                },
                changed = leader.changed(), if told && joined => {
                    // An edge that has left the others still has a last word of its own.
                    joined = changed.is_ok();
                    self.take(&mut written, &mut leader);
                }
                Some(ended) = self.running.join_next() => {
                    if let Ok(ended) = ended {
                        self.ended(ended);
                    }
                }
                () = at(wake) => {}
            }
        }
        self.running.shutdown().await;
    }

    /// Takes in the newest desired state.
    fn take(
        &mut self,
        written: &mut watch::Receiver<Arc<Written>>,
        leader: &mut watch::Receiver<bool>,
    ) {
        let leads = *leader.borrow_and_update();
        if !leads {
            // Others write now.
            std::mem::take(&mut self.term).cancel();
        }
        let written = Arc::clone(&written.borrow_and_update());
        self.queue.want(&written, leads, Instant::now());
        let mine = |event: &&Event| leads || event.author == Author::Own;
        self.book.tell(written.events.iter().filter(mine), Instant::now());
        self.report();
    }

    /// Begins what can be begun.
    fn begin(&mut self) {
        let now = Instant::now();
        while let Some(patch) = self.queue.next(now) {
            let (client, broken_off) = (self.client.clone(), self.token(patch.author));
            self.running.spawn(async move {
                let outcome = tokio::select! {
                    () = broken_off.cancelled() => None,
                    outcome = perform::perform(&client, &patch) => Some(outcome),
                };
                Ended::Change(patch.target.clone(), outcome)
            });
        }
        while self.events < EVENTS_AT_ONCE
            && let Some(event) = self.book.next(now)
        {
            self.events += 1;
            let (client, broken_off) = (self.client.clone(), self.token(event.author));
            let Options { instance, controller, .. } = self.options.clone();
            self.running.spawn(async move {
                let outcome = tokio::select! {
                    () = broken_off.cancelled() => Outcome::Busy(None),
                    outcome = events::send::send(&client, &event, controller, &instance) => outcome,
                };
                Ended::Event(event, outcome)
            });
        }
    }

    /// What ends a request early.
    fn token(&self, author: Author) -> CancellationToken {
        match author {
            Author::Leader => self.term.clone(),
            Author::Own => CancellationToken::new(),
        }
    }

    fn ended(&mut self, ended: Ended) {
        let now = Instant::now();
        match ended {
            Ended::Change(target, outcome) => {
                let counter = match &outcome {
                    Some(Outcome::Done) => &self.counters.changes,
                    _ => &self.counters.failures,
                };
                counter.fetch_add(1, Ordering::Relaxed);
                if !matches!(outcome, Some(Outcome::Done) | None) {
                    tracing::debug!(object = %target.object(), ?outcome, "not written");
                }
                self.queue.finished(&target, outcome, now);
            }
            Ended::Event(event, outcome) => {
                self.events = self.events.saturating_sub(1);
                let failed = match &outcome {
                    Outcome::Done => None,
                    // It would never be taken.
                    Outcome::Refused(why) => {
                        tracing::warn!(why, event.reason, "an Event isn't taken");
                        None
                    }
                    _ => Some(EVENT_REST),
                };
                match &outcome {
                    Outcome::Done => {
                        self.counters.events.fetch_add(1, Ordering::Relaxed);
                        self.queue.has("events.events.k8s.io");
                    }
                    Outcome::Forbidden { verb, resource } => {
                        self.queue.lacks(verb, resource, now);
                        self.book.pause(now + FORBIDDEN_REST);
                    }
                    Outcome::Busy(after) => {
                        self.book.pause(now + after.unwrap_or(BUSY_REST));
                    }
                    _ => {}
                }
                self.book.finished(&event, failed, now);
            }
        }
        self.report();
    }

    fn wake_for_events(&self) -> Option<Instant> {
        (self.events < EVENTS_AT_ONCE).then(|| self.book.wake()).flatten()
    }

    fn report(&self) {
        let findings = self.queue.findings();
        self.findings.send_if_modified(|known| {
            let changed = **known != findings;
            if changed {
                *known = Arc::new(findings);
            }
            changed
        });
    }
}

/// Waits until then; for ever where there is no then.
async fn at(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake.into()).await,
        None => std::future::pending().await,
    }
}
