//! Puts together what the followers tell, and hands it on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ingest::{Delivery, ObjectSet};
use kube::Client;
use model::{Diagnostic, ObjectKey, ObjectRef};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ask::Asker;
use super::follow::{Event, Follower, News, Slot};
use super::gate::Gate;
use super::object::{self, Fault, Read};
use super::state::SourceState;
use super::{Pace, Selected, What, secrets};
use crate::access::{self, Need};
use crate::kind::{Kind, Owner, Place};

/// How much may be told before it is taken in.
const BACKLOG: usize = 1024;
/// A Secret that is asked for by its name may keep the rest waiting so long.
const FOR_SECRETS: Duration = Duration::from_millis(500);
const KEPT: &str = "what was read before stays in force until then";

/// What is known, and who watches.
pub(super) struct Collector {
    pub(super) client: Client,
    pub(super) what: What,
    pub(super) pace: Pace,
    pub(super) gate: Arc<Gate>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    pub(super) deliveries: watch::Sender<Arc<Delivery>>,
    pub(super) state: watch::Sender<Arc<SourceState>>,
    pub(super) known: Known,
}

/// What is known.
#[derive(Default)]
pub(super) struct Known {
    set: ObjectSet,
    slots: BTreeMap<Slot, Progress>,
    /// Objects that can't be read.
    broken: BTreeMap<ObjectRef, Diagnostic>,
    /// What isn't allowed.
    missing: Vec<Need>,
    /// Whether any of that has changed since it was last handed on.
    changed: bool,
}

/// How far a follower has come.
#[derive(Default)]
struct Progress {
    /// Whether it has told all once, or that it can't.
    settled: bool,
    /// Whether it ever told all.
    listed: bool,
    /// How often in turn the kind was absent.
    absent: u32,
    /// Why it may not be read.
    denied: Option<String>,
    /// What a list that is under way has told.
    seen: Option<BTreeSet<ObjectKey>>,
    /// Ends the follower.
    stop: Option<CancellationToken>,
}

impl Collector {
    pub(super) async fn run(mut self) {
        let (sender, mut news) = mpsc::channel(BACKLOG);
        let stop = self.stop.clone();
        for selected in self.what.kinds.clone() {
            self.follow(Slot::of(&selected), selected, &sender);
        }
        let (reviews, mut missing) = mpsc::channel(1);
        self.tasks.spawn(review(
            self.client.clone(),
            self.what.needs(),
            self.pace,
            reviews,
            self.stop.clone(),
        ));
        let mut failing = self.gate.failing();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Ok(()) = failing.changed() => self.note_outage(&mut failing),
                Some(found) = missing.recv() => {
                    self.known.changed |= self.known.missing != found;
                    self.known.missing = found;
                }
                Some(told) = news.recv() => self.take_in(told),
            }
            self.gather(&mut news, &sender).await;
        }
    }

    /// Takes in what comes in a moment, and hands it on.
    async fn gather(&mut self, news: &mut mpsc::Receiver<News>, sender: &mpsc::Sender<News>) {
        let began = Instant::now();
        loop {
            while let Ok(told) = news.try_recv() {
                self.take_in(told);
            }
            self.follow_secrets(sender);
            if !self.known.changed && self.known.is_delivered(&self.state) {
                return;
            }
            if !self.known.may_deliver(began.elapsed() > FOR_SECRETS, &self.state) {
                // It is a matter of the next news, or of some time.
                if !self.state.borrow().synced {
                    return;
                }
                let wait = tokio::time::timeout_at(began + FOR_SECRETS, news.recv()).await;
                if let Ok(Some(told)) = wait {
                    self.take_in(told);
                }
                if self.stop.is_cancelled() {
                    return;
                }
                continue;
            }
            let quiet = (Instant::now() + self.pace.quiet).min(began + self.pace.longest);
            match tokio::time::timeout_at(quiet, news.recv()).await {
                Ok(Some(told)) if Instant::now() < began + self.pace.longest => {
                    self.take_in(told);
                }
                Ok(Some(told)) => {
                    self.take_in(told);
                    break;
                }
                Ok(None) | Err(_) => break,
            }
        }
        self.hand_on();
    }

    fn hand_on(&mut self) {
        self.known.changed = false;
        let delivery = self.known.delivery(self.what.owner.as_ref());
        self.deliveries.send_replace(Arc::new(delivery));
        let set = &self.known.set;
        self.state.send_if_modified(|state| {
            let state = Arc::make_mut(state);
            for (kind, of) in &mut state.kinds {
                of.objects = object::count(*kind, set);
            }
            !std::mem::replace(&mut state.synced, true)
        });
    }

    fn take_in(&mut self, News { slot, event }: News) {
        let kind = slot.kind();
        let outcome = match &event {
            Event::Failed(reason) | Event::Denied(reason) => Some(reason.clone()),
            _ => None,
        };
        let (is_kind, listed) = (!matches!(slot, Slot::Secret(_)), matches!(event, Event::End));
        let (begins, watching, absent) = (
            matches!(event, Event::Begin),
            matches!(event, Event::Watching),
            matches!(event, Event::Absent),
        );
        let is_change = matches!(event, Event::Put(_) | Event::Remove(_));
        self.known.take_in(&slot, event);
        // Of a change nothing of this follows, and there are many.
        let whole = (!is_change && is_kind)
            .then(|| (self.known.is_listed(kind), self.known.is_denied(kind)));
        self.state.send_if_modified(|state| {
            let state = Arc::make_mut(state);
            let answers = begins || watching || listed;
            let first = answers && state.since.is_none();
            if first {
                state.connected = true;
                state.since = Some(SystemTime::now());
            }
            let of = state.kinds.entry(kind).or_default();
            let before = (of.synced, of.absent, of.denied, of.last_error.is_some());
            of.lists += u64::from(listed);
            of.watches += u64::from(watching);
            of.events += u64::from(is_change);
            if let Some((synced, denied)) = whole {
                of.synced |= synced;
                of.absent = absent || (of.absent && !listed);
                of.denied = denied;
            }
            if watching || listed || absent {
                of.last_error = None;
            }
            if outcome.is_some() {
                of.last_error = outcome;
            }
            first || before != (of.synced, of.absent, of.denied, of.last_error.is_some())
        });
    }

    fn note_outage(&self, failing: &mut watch::Receiver<Option<String>>) {
        let reason = failing.borrow_and_update().clone();
        self.state.send_if_modified(|state| {
            let connected = reason.is_none();
            let news = state.connected != connected || state.since.is_none();
            let state = Arc::make_mut(state);
            if news {
                state.connected = connected;
                state.since = Some(SystemTime::now());
                match &reason {
                    Some(reason) => tracing::warn!(reason, "the Kubernetes API can't be used"),
                    None => tracing::info!("the Kubernetes API answers again"),
                }
            }
            if reason.is_some() {
                state.last_error = reason;
            }
            news
        });
    }

    fn follow(&mut self, slot: Slot, selected: Selected, news: &mpsc::Sender<News>) {
        let stop = self.stop.child_token();
        let follower = Follower {
            asker: Asker { client: self.client.clone(), selected },
            slot: slot.clone(),
            pace: self.pace,
            gate: Arc::clone(&self.gate),
            news: news.clone(),
        };
        let progress = Progress { stop: Some(stop.clone()), ..Progress::default() };
        self.known.slots.insert(slot, progress);
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = follower.run() => {}
            }
        });
    }

    /// Watches the Secrets that connections name and that aren't watched anyway.
    fn follow_secrets(&mut self, news: &mpsc::Sender<News>) {
        if !self.what.secrets_of_connections || !self.known.has_settled(Kind::Secret) {
            return;
        }
        let named = secrets::named(&self.known.set);
        let is_new = |key: &&ObjectKey| {
            !self.known.slots.contains_key(&Slot::Secret((*key).clone()))
                && !object::has(Kind::Secret, key, &self.known.set)
        };
        let new: Vec<ObjectKey> = named.iter().filter(is_new).cloned().collect();
        for key in new {
            let selected = Selected {
                kind: Kind::Secret,
                namespace: Some(key.namespace.clone()),
                fields: Some(format!("metadata.name={}", key.name)),
                labels: None,
            };
            self.follow(Slot::Secret(key), selected, news);
        }
        self.known.forget_secrets(&named);
    }
}

impl Known {
    /// The followers of a kind, but for those of single Secrets.
    fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Progress> {
        let of_kind = move |slot: &Slot| slot.kind() == kind && !matches!(slot, Slot::Secret(_));
        self.slots.iter().filter(move |(slot, _)| of_kind(slot)).map(|(_, progress)| progress)
    }

    fn has_settled(&self, kind: Kind) -> bool {
        self.of_kind(kind).all(|progress| progress.settled)
    }

    fn is_listed(&self, kind: Kind) -> bool {
        self.of_kind(kind).all(|progress| progress.listed)
    }

    fn is_denied(&self, kind: Kind) -> bool {
        self.of_kind(kind).any(|progress| progress.denied.is_some())
    }

    /// Whether everything has been handed on once, with nothing new since.
    fn is_delivered(&self, state: &watch::Sender<Arc<SourceState>>) -> bool {
        state.borrow().synced || !self.slots.values().all(|progress| progress.settled)
    }

    /// Whether what is known is whole: before the first time everything has to be.
    fn may_deliver(&self, is_late: bool, state: &watch::Sender<Arc<SourceState>>) -> bool {
        let late = is_late && state.borrow().synced;
        self.slots
            .iter()
            .all(|(slot, progress)| progress.settled || (late && matches!(slot, Slot::Secret(_))))
    }

    fn take_in(&mut self, slot: &Slot, event: Event) {
        let kind = slot.kind();
        // Of one that has been ended meanwhile.
        let Some(progress) = self.slots.get_mut(slot) else { return };
        match event {
            Event::Begin => progress.seen = Some(BTreeSet::new()),
            Event::Put(read) => {
                if let Some(seen) = &mut progress.seen {
                    seen.insert(read.key.clone());
                }
                self.put(kind, read);
            }
            Event::Remove(key) => self.remove(kind, &key),
            Event::End => {
                let seen = progress.seen.take().unwrap_or_default();
                self.changed |= !progress.settled || progress.denied.is_some();
                *progress = Progress {
                    settled: true,
                    listed: true,
                    stop: progress.stop.take(),
                    ..Progress::default()
                };
                self.keep_only(slot, &seen);
            }
            Event::Watching | Event::Failed(_) => {}
            Event::Absent => {
                progress.absent += 1;
                let again = progress.absent > 1;
                self.changed |= !progress.settled || progress.absent == 1;
                progress.settled = true;
                if again {
                    // It is no slip of a server that is just starting.
                    self.keep_only(slot, &BTreeSet::new());
                }
            }
            Event::Denied(reason) => {
                self.changed |= !progress.settled || progress.denied.is_none();
                progress.settled = true;
                progress.denied = Some(reason);
            }
        }
    }

    fn put(&mut self, kind: Kind, Read { key, object, .. }: Read) {
        let fault = match object {
            Ok(object) => {
                self.changed |= object.insert_into(&key, &mut self.set);
                if !self.broken.is_empty() {
                    let reference = object::reference(kind, &key);
                    self.changed |= self.broken.remove(&reference).is_some();
                }
                return;
            }
            Err(fault) => fault,
        };
        let Fault { field, reason } = fault;
        let reference = object::reference(kind, &key);
        let remedy = match object::has(kind, &key, &self.set) {
            true => format!("correct it with `kubectl edit`; {KEPT}"),
            false => "correct it with `kubectl edit`".to_owned(),
        };
        let finding = Diagnostic::error(reference.clone(), field, reason).remedy(remedy);
        self.changed |= self.broken.get(&reference) != Some(&finding);
        self.broken.insert(reference, finding);
    }

    fn remove(&mut self, kind: Kind, key: &ObjectKey) {
        self.changed |= object::remove(kind, key, &mut self.set);
        if !self.broken.is_empty() {
            let reference = object::reference(kind, key);
            self.changed |= self.broken.remove(&reference).is_some();
        }
    }

    /// Of what a follower tells of, only these are there.
    fn keep_only(&mut self, slot: &Slot, seen: &BTreeSet<ObjectKey>) {
        let kind = slot.kind();
        let gone: Vec<ObjectKey> = match slot {
            Slot::Secret(key) => {
                [key].into_iter().filter(|key| !seen.contains(key)).cloned().collect()
            }
            Slot::Kind(_) | Slot::Part(..) => {
                let elsewhere = |key: &ObjectKey| match slot {
                    Slot::Part(_, namespace) => key.namespace != *namespace,
                    _ => false,
                };
                let others = |key: &ObjectKey| {
                    kind == Kind::Secret && self.slots.contains_key(&Slot::Secret(key.clone()))
                };
                let broken = self.broken.keys().filter(|object| object.kind == kind.name());
                let broken = broken.map(|object| {
                    ObjectKey::new(object.namespace.clone().unwrap_or_default(), &object.name)
                });
                object::keys(kind, &self.set)
                    .into_iter()
                    .chain(broken)
                    .filter(|key| !seen.contains(key) && !others(key) && !elsewhere(key))
                    .collect()
            }
        };
        for key in gone {
            self.remove(kind, &key);
        }
    }

    /// Stops watching Secrets that nobody names any more, and forgets them.
    fn forget_secrets(&mut self, named: &BTreeSet<ObjectKey>) {
        let unnamed = |slot: &&Slot| matches!(slot, Slot::Secret(key) if !named.contains(key));
        let unnamed: Vec<Slot> = self.slots.keys().filter(unnamed).cloned().collect();
        for slot in unnamed {
            if let Some(Progress { stop: Some(stop), .. }) = self.slots.remove(&slot) {
                stop.cancel();
            }
            let Slot::Secret(key) = slot else { continue };
            let part = Slot::Part(Kind::Secret, key.namespace.clone());
            let is_watched =
                [part, Slot::Kind(Kind::Secret)].iter().any(|slot| self.slots.contains_key(slot));
            let is_tls = self
                .set
                .secrets
                .get(&key)
                .is_some_and(|secret| secret.type_.as_deref() == Some("kubernetes.io/tls"));
            // One of that type is told of by two.
            if !is_tls || !is_watched {
                self.remove(Kind::Secret, &key);
            }
        }
    }

    fn delivery(&self, owner: Option<&ObjectRef>) -> Delivery {
        let mut diagnostics: Vec<Diagnostic> = self.broken.values().cloned().collect();
        if let Some(owner) = owner {
            let missing = self.missing.iter().filter(|need| !self.is_had_elsewhere(need));
            diagnostics.extend(missing.map(|need| need.finding(owner)));
            for (slot, progress) in &self.slots {
                diagnostics.extend(self.finding(owner, slot, progress));
            }
        }
        let unread = |(slot, progress): (&Slot, &Progress)| match slot {
            Slot::Kind(kind) | Slot::Part(kind, _)
                if progress.denied.is_some() && !progress.listed =>
            {
                Some(kind.name())
            }
            _ => None,
        };
        Delivery {
            objects: self.set.clone(),
            diagnostics,
            ignored: BTreeMap::new(),
            unread: self.slots.iter().filter_map(unread).collect(),
        }
    }

    /// Whether what may not be read at one place was read at another.
    fn is_had_elsewhere(&self, need: &Need) -> bool {
        self.slots.iter().any(|(slot, progress)| {
            let places = slot.kind().places();
            let is_one =
                |place: &Place| (place.group, place.resource) == (need.group, need.resource);
            places.len() > 1 && progress.listed && places.iter().any(is_one)
        })
    }

    /// What is wrong with what a follower watches, unless the review says it already.
    fn finding(&self, owner: &ObjectRef, slot: &Slot, progress: &Progress) -> Option<Diagnostic> {
        let kind = slot.kind();
        let place = kind.place();
        if let Some(reason) = &progress.denied {
            let of_namespace =
                |name: &str| format!("its ClusterRole, or a Role of the namespace {name}");
            let (namespace, role) = match slot {
                Slot::Kind(_) => (None, "its ClusterRole".to_owned()),
                Slot::Part(_, name) => (Some(name), of_namespace(name)),
                Slot::Secret(key) => (Some(&key.namespace), of_namespace(&key.namespace)),
            };
            let said = |need: &Need| {
                (need.group, need.resource) == (place.group, place.resource)
                    && (need.namespace.is_none() || need.namespace.as_ref() == namespace)
            };
            if self.missing.iter().any(said) {
                return None;
            }
            let what = match slot {
                Slot::Kind(_) | Slot::Part(..) => access::purpose(kind).to_owned(),
                Slot::Secret(key) => format!("Secret {key} isn't known without"),
            };
            let rule = Need::to_read(&Selected::all(kind), "list\", \"watch").rule();
            let reason = format!("the API doesn't allow it: {reason}; {what}");
            return Some(
                Diagnostic::error(owner.clone(), "source.kubernetes", reason)
                    .remedy(format!("add to {role}: {rule}")),
            );
        }
        (progress.absent > 0 && kind.owner() == Owner::Tidegate).then(|| {
            let reason = format!("the cluster doesn't know the kind {kind}, so there is none");
            Diagnostic::warning(owner.clone(), "source.kubernetes", reason)
                .remedy("put in what `gateway crds` prints, or install the chart")
        })
    }
}

/// Asks what is allowed, again and again: sooner while something is missing.
async fn review(
    client: Client,
    needs: Vec<Need>,
    pace: Pace,
    reviews: mpsc::Sender<Vec<Need>>,
    stop: CancellationToken,
) {
    loop {
        let answer = tokio::select! {
            () = stop.cancelled() => return,
            answer = access::missing(&client, &needs) => answer,
        };
        let wait = match answer {
            Ok(missing) => {
                let lacks = !missing.is_empty();
                if reviews.send(missing).await.is_err() {
                    return;
                }
                if lacks { pace.again } else { pace.review }
            }
            Err(error) => {
                tracing::debug!(%error, "access review");
                pace.again
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait.mul_f64(0.75 + fastrand::f64() / 2.0)) => {}
        }
    }
}
