//! Follows one kind.

use std::sync::Arc;
use std::time::Duration;

use model::ObjectKey;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::ask::{AskError, Asker, Status};
use super::gate::Gate;
use super::lines::{End, Lines};
use super::object::{self, Head, Read};
use super::{Pace, Selected};
use crate::kind::{Kind, Owner, Place};

/// A list's stream may pause so long; then it isn't one, and pages are asked for.
const LIST_PAUSE: Duration = Duration::from_secs(20);
/// A watch may be silent so long: the server ends it before.
const WATCH_PAUSE: Duration = Duration::from_secs(490);
/// A watch that ends sooner wasn't one.
const SHORT: Duration = Duration::from_secs(1);
const INITIAL_END: &str = "k8s.io/initial-events-end";

/// Who has something to tell: a kind, its objects of one namespace, or one Secret that is watched
/// by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Slot {
    Kind(Kind),
    Part(Kind, String),
    Secret(ObjectKey),
}

impl Slot {
    pub(super) fn of(selected: &Selected) -> Self {
        match &selected.namespace {
            None => Self::Kind(selected.kind),
            Some(namespace) => Self::Part(selected.kind, namespace.clone()),
        }
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Kind(kind) | Self::Part(kind, _) => *kind,
            Self::Secret(_) => Kind::Secret,
        }
    }
}

/// What is told.
pub(super) struct News {
    pub(super) slot: Slot,
    pub(super) event: Event,
}

pub(super) enum Event {
    /// All objects come now.
    Begin,
    /// An object, new, changed or as it was.
    Put(Read),
    /// An object is gone.
    Remove(ObjectKey),
    /// All objects have come.
    End,
    /// A watch has begun.
    Watching,
    /// The cluster hasn't got the kind.
    Absent,
    /// It may not be read, for this reason.
    Denied(String),
    /// It couldn't be asked for, and will be again.
    Failed(String),
}

/// Why following has stopped.
enum Stop {
    Ask(AskError),
    /// The collector is gone.
    Over,
}

impl From<AskError> for Stop {
    fn from(error: AskError) -> Self {
        Self::Ask(error)
    }
}

pub(super) struct Follower {
    pub(super) asker: Asker,
    pub(super) slot: Slot,
    pub(super) pace: Pace,
    pub(super) gate: Arc<Gate>,
    pub(super) news: mpsc::Sender<News>,
}

/// Where a kind stands.
struct Course {
    place: Place,
    /// The place in the course of changes; none before all were listed.
    version: Option<String>,
    /// Whether lists come as streams.
    streams: bool,
    /// Whether lists come by pages.
    paged: bool,
    /// How often in turn nothing came of it.
    vain: u32,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type", borrow)]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

impl Follower {
    /// Follows the kind for ever.
    pub(super) async fn run(self) {
        let kind = self.slot.kind();
        let places = kind.places();
        let mut course =
            Course { place: kind.place(), version: None, streams: true, paged: true, vain: 0 };
        let (mut place, mut denied) = (0, None);
        loop {
            let began = Instant::now();
            let stop = match self.step(&mut course).await {
                Ok(()) => {
                    // A watch has ended, as they do. If it does so at once, that isn't how.
                    course.vain = if began.elapsed() < SHORT { course.vain + 1 } else { 0 };
                    self.pause(course.vain).await;
                    continue;
                }
                Err(stop) => stop,
            };
            let Stop::Ask(error) = stop else { return };
            tracing::debug!(%kind, %error, "watch ended");
            match error {
                // The gate knows how long to wait.
                AskError::Outage(reason) => self.tell(Event::Failed(reason)).await,
                AskError::Ill(reason) => {
                    self.tell(Event::Failed(reason)).await;
                    if self.is_of_others() {
                        self.pause(course.vain).await;
                        course.vain += 1;
                    }
                }
                AskError::Busy { ref reason, after } => {
                    self.tell(Event::Failed(reason.clone())).await;
                    tokio::time::sleep(after + self.pace.jitter.mul_f64(fastrand::f64())).await;
                }
                AskError::Gone => {
                    course.paged &= course.version.is_some() || course.vain == 0;
                    course.version = None;
                    self.pause(course.vain).await;
                    course.vain += 1;
                }
                AskError::NotUnderstood(reason) => {
                    if course.version.is_none() && course.streams {
                        course.streams = false;
                    } else {
                        self.tell(Event::Failed(reason)).await;
                        course.version = None;
                        self.rest().await;
                    }
                }
                AskError::Absent | AskError::Denied(_) => {
                    if let AskError::Denied(reason) = error {
                        denied.get_or_insert(reason);
                    }
                    if places.len() > 1 {
                        course.version = None;
                        place = (place + 1) % places.len();
                        course.place = places.get(place).copied().unwrap_or(kind.place());
                    }
                    if place == 0 {
                        let event = denied.take().map_or(Event::Absent, Event::Denied);
                        if matches!(event, Event::Absent) {
                            course.version = None;
                        }
                        self.tell(event).await;
                        self.rest().await;
                    }
                }
            }
        }
    }

    /// Lists if need be, and watches until the watch ends.
    async fn step(&self, course: &mut Course) -> Result<(), Stop> {
        let Some(version) = course.version.clone() else {
            return if course.streams {
                self.stream(course).await
            } else {
                self.pages(course).await
            };
        };
        let lines = self.pass(self.asker.watch(course.place, &version)).await?;
        self.send(Event::Watching).await?;
        self.follow(lines, course, false).await
    }

    async fn stream(&self, course: &mut Course) -> Result<(), Stop> {
        let lines = self.pass(self.asker.stream(course.place)).await?;
        self.send(Event::Begin).await?;
        self.follow(lines, course, true).await
    }

    async fn pages(&self, course: &mut Course) -> Result<(), Stop> {
        let mut next: Option<String> = None;
        let mut begun = false;
        loop {
            let page = self.asker.page(course.place, next.as_deref(), course.paged);
            let page = self.pass(page).await?;
            if !std::mem::replace(&mut begun, true) {
                self.send(Event::Begin).await?;
            }
            for item in page.items() {
                self.put(item).await?;
            }
            next = page.next;
            if next.is_none() {
                self.send(Event::End).await?;
                course.version = Some(page.version);
                course.vain = 0;
                return self.watch_on(course).await;
            }
        }
    }

    /// The watch after a list.
    async fn watch_on(&self, course: &mut Course) -> Result<(), Stop> {
        let version = course.version.clone().unwrap_or_default();
        let lines = self.pass(self.asker.watch(course.place, &version)).await?;
        self.send(Event::Watching).await?;
        self.follow(lines, course, false).await
    }

    /// Takes in what a watch tells, until it ends.
    async fn follow(
        &self,
        mut lines: Lines,
        course: &mut Course,
        mut listing: bool,
    ) -> Result<(), Stop> {
        loop {
            let line = match lines.next(if listing { LIST_PAUSE } else { WATCH_PAUSE }).await {
                Ok([]) => continue,
                Ok(line) => line,
                // A list that was cut begins anew. That may be an outage's beginning.
                Err(End::Closed) => return Ok(()),
                Err(End::Silent) if listing => {
                    course.streams = false;
                    return Ok(());
                }
                Err(End::Silent) => return Ok(()),
                Err(End::TooLong) => {
                    let reason = "a line of a watch has no end".to_owned();
                    return Err(AskError::NotUnderstood(reason).into());
                }
            };
            let Ok(Line { kind, object }) = serde_json::from_slice::<Line<'_>>(line) else {
                // Cut off, or nonsense; what follows it can't be trusted.
                return Ok(());
            };
            let object = object.get().as_bytes();
            match kind {
                "ADDED" | "MODIFIED" => {
                    let version = self.put(object).await?;
                    if !listing && !version.is_empty() {
                        course.version = Some(version);
                        course.vain = 0;
                    }
                }
                "DELETED" => {
                    let Ok(Head { metadata }) = serde_json::from_slice::<Head>(object) else {
                        continue;
                    };
                    let kind = self.slot.kind();
                    let key = object::key_of(kind, metadata.namespace, metadata.name);
                    self.send(Event::Remove(key)).await?;
                    if !listing {
                        course.version = Some(metadata.resource_version);
                        course.vain = 0;
                    }
                }
                "BOOKMARK" => {
                    let Ok(Head { metadata }) = serde_json::from_slice::<Head>(object) else {
                        continue;
                    };
                    let is_end = metadata
                        .annotations
                        .is_some_and(|all| all.get(INITIAL_END).is_some_and(|is| is == "true"));
                    if listing && is_end {
                        listing = false;
                        self.send(Event::End).await?;
                        self.send(Event::Watching).await?;
                    }
                    if !listing {
                        course.version = Some(metadata.resource_version);
                        course.vain = 0;
                    }
                }
                _ => {
                    let status: Status = serde_json::from_slice(object).unwrap_or_default();
                    return Err(status.error(None).into());
                }
            }
        }
    }

    /// Tells of an object. Returns its place in the course of changes.
    async fn put(&self, object: &[u8]) -> Result<String, Stop> {
        let Some(read) = object::read(self.slot.kind(), object) else { return Ok(String::new()) };
        let version = read.version.clone();
        self.send(Event::Put(read)).await?;
        Ok(version)
    }

    async fn pass<T>(&self, ask: impl Future<Output = Result<T, AskError>>) -> Result<T, AskError> {
        let is_outage = |error: &AskError| match error {
            AskError::Ill(_) if self.is_of_others() => None,
            error => error.outage(),
        };
        self.gate.pass(ask, is_outage).await
    }

    /// Whether another server may answer for the kind than for the rest.
    fn is_of_others(&self) -> bool {
        self.slot.kind().owner() == Owner::Calico
    }

    async fn send(&self, event: Event) -> Result<(), Stop> {
        let news = News { slot: self.slot.clone(), event };
        self.news.send(news).await.map_err(|_| Stop::Over)
    }

    /// The same, where the end is noticed later.
    async fn tell(&self, event: Event) {
        let _ = self.send(event).await;
    }

    /// A moment, so that not all do the same in one; longer the more often nothing came of it.
    async fn pause(&self, vain: u32) {
        let grown = match vain {
            0 | 1 => Duration::ZERO,
            more => Duration::from_millis(100).saturating_mul(1 << more.min(9)),
        };
        let longest = grown.min(self.pace.again) + self.pace.jitter / 2;
        tokio::time::sleep(longest.mul_f64(fastrand::f64())).await;
    }

    /// Until it is worth asking again.
    async fn rest(&self) {
        tokio::time::sleep(self.pace.again.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
    }
}
