//! The watch verb. A watch reads the history of its resource from where it stands, so it needs no
//! queue of its own: one that is too slow finds that the history has gone on, and ends.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use crate::faults::{Caller, Faults};
use crate::form::{Form, Include};
use crate::kinds::Kind;
use crate::object::{Object, encode};
use crate::refusal::Refusal;
use crate::request::Parameters;
use crate::selector::Selection;
use crate::store::{Change, Store, at_version};

/// How many changes are taken from the history at once.
const BATCH: usize = 256;
/// About how many bytes are sent in one piece.
const PIECE: usize = 64 * 1024;

/// What a watch asks for.
#[derive(Debug)]
pub(crate) struct Watch {
    kind: Arc<Kind>,
    selection: Selection,
    form: Form,
    /// Behind which version it begins; none: with what is there.
    from: Option<u64>,
    bookmarks: Option<Duration>,
    /// A bookmark tells where the initial events end.
    streaming: bool,
    timeout: Duration,
}

/// The watch is over: nobody listens any more.
struct Over;

impl Watch {
    /// Out of a request's parameters.
    pub(crate) fn parse(
        store: &Store,
        kind: Arc<Kind>,
        selection: Selection,
        form: Form,
        parameters: &Parameters,
        bookmark_every: Duration,
    ) -> Result<Self, Refusal> {
        let streaming = parameters.is_true("sendInitialEvents");
        let given = parameters.get("sendInitialEvents").is_some();
        let matching = parameters.get("resourceVersionMatch");
        if given && matching != Some("NotOlderThan") {
            let message = "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: \
                           sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            return Err(Refusal::new(422, "Invalid", message));
        }
        if !given && matching.is_some() {
            let message = "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: \
                           resourceVersionMatch is forbidden for watch unless sendInitialEvents is \
                           provided";
            return Err(Refusal::new(422, "Invalid", message));
        }
        let asked = parameters.number("resourceVersion")?;
        {
            let contents = store.lock();
            if let Some(version) = asked.filter(|&version| version > contents.version()) {
                return Err(Refusal::too_large(version, contents.version()));
            }
        }
        let from = if streaming { None } else { asked.filter(|&version| version > 0) };
        let seconds = parameters.number("timeoutSeconds")?.filter(|&seconds| seconds > 0);
        Ok(Self {
            kind,
            selection,
            form,
            from,
            bookmarks: parameters.is_true("allowWatchBookmarks").then_some(bookmark_every),
            streaming,
            // As the server: half an hour to an hour if the client doesn't say.
            timeout: Duration::from_secs(seconds.unwrap_or_else(|| fastrand::u64(1_800..3_600))),
        })
    }

    /// Sends events until it is time to end.
    pub(crate) async fn run(
        self,
        store: Arc<Store>,
        faults: Arc<Faults>,
        caller: Caller,
        to: mpsc::Sender<Bytes>,
    ) {
        // Nobody listens or it is time: either way there is no more to do.
        let _ = self.events(&store, &faults, &caller, &to).await;
    }

    async fn events(
        &self,
        store: &Store,
        faults: &Faults,
        caller: &Caller,
        to: &mpsc::Sender<Bytes>,
    ) -> Result<(), Over> {
        let mut changed = store.lock().subscribe(&self.kind);
        let mut cut = faults.cut.subscribe();
        cut.borrow_and_update();
        let deadline = Instant::now() + self.timeout;
        let mut writer = Writer { watch: self, to, piece: BytesMut::new(), first: true };

        let mut at = match self.from {
            Some(version) => {
                let reached = store.lock().reaches_back_to(&self.kind, version);
                if let Err(refusal) = reached {
                    writer.error(&refusal);
                    return writer.flush().await;
                }
                version
            }
            None => {
                let (objects, version) = {
                    let contents = store.lock();
                    let objects = contents.all(&self.kind, self.selection.namespace.as_deref());
                    let objects = objects.filter(|object| self.selection.takes(object));
                    (objects.cloned().collect::<Vec<_>>(), contents.version())
                };
                for object in &objects {
                    writer.event("ADDED", object).await?;
                }
                if self.streaming {
                    writer.bookmark(version, true);
                }
                writer.flush().await?;
                version
            }
        };

        let mut bookmarks =
            tokio::time::interval(self.bookmarks.unwrap_or(Duration::from_secs(3_600)));
        bookmarks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        bookmarks.reset();
        loop {
            tokio::select! {
                () = faults.connected(caller) => {}
                () = to.closed() => return Err(Over),
            }
            changed.borrow_and_update();
            // Too slow: what came between is forgotten.
            let Some((changes, upto)) = store.lock().since(&self.kind, at, BATCH) else {
                return Err(Over);
            };
            let more = changes.len() == BATCH;
            at = upto;
            for change in &changes {
                writer.change(change).await?;
            }
            writer.flush().await?;
            if more {
                continue;
            }
            tokio::select! {
                _ = changed.changed() => {}
                _ = bookmarks.tick(), if self.bookmarks.is_some() => {
                    writer.bookmark(at, false);
                    writer.flush().await?;
                }
                _ = cut.changed() => {
                    if cut.borrow_and_update().1.meets(caller) {
                        return Err(Over);
                    }
                }
                () = tokio::time::sleep_until(deadline) => return Err(Over),
                () = to.closed() => return Err(Over),
            }
        }
    }
}

/// Writes events in pieces.
struct Writer<'a> {
    watch: &'a Watch,
    to: &'a mpsc::Sender<Bytes>,
    piece: BytesMut,
    first: bool,
}

impl Writer<'_> {
    async fn change(&mut self, change: &Change) -> Result<(), Over> {
        let selection = &self.watch.selection;
        let before = change.before.as_ref().filter(|before| selection.takes(before));
        let now = Some(&change.object).filter(|object| !change.removed && selection.takes(object));
        match (before, now) {
            (None, Some(now)) => self.event("ADDED", now).await,
            (Some(_), Some(now)) => self.event("MODIFIED", now).await,
            (Some(_), None) if change.removed => self.event("DELETED", &change.object).await,
            // It left the selection: as it was before, with the version of what made it leave.
            (Some(before), None) => {
                let gone = at_version(&self.watch.stored(), before, change.version);
                self.event("DELETED", &gone).await
            }
            (None, None) => Ok(()),
        }
    }

    async fn event(&mut self, kind: &str, object: &Object) -> Result<(), Over> {
        self.head(kind);
        let watch = self.watch;
        if watch.form == Form::Whole && watch.kind.view == crate::kinds::View::Plain {
            self.piece.extend_from_slice(&object.json);
        } else {
            self.piece.extend_from_slice(&watch.form.watched(&watch.kind, object, self.first));
        }
        self.first = false;
        self.piece.extend_from_slice(b"}\n");
        if self.piece.len() >= PIECE { self.flush().await } else { Ok(()) }
    }

    fn head(&mut self, kind: &str) {
        self.piece.extend_from_slice(b"{\"type\":\"");
        self.piece.extend_from_slice(kind.as_bytes());
        self.piece.extend_from_slice(b"\",\"object\":");
    }

    fn bookmark(&mut self, version: u64, initial: bool) {
        let kind = &self.watch.kind;
        let mut meta = json!({"resourceVersion": version.to_string(), "creationTimestamp": null});
        if initial {
            meta["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        self.head("BOOKMARK");
        let object = match self.watch.form {
            Form::Whole => encode(kind, &json!({"metadata": meta})).0,
            Form::Metadata => json!({
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": meta,
            })
            .to_string()
            .into_bytes(),
            Form::Table(include) => {
                let object = match include {
                    Include::Nothing => json!(null),
                    _ => json!({
                        "kind": "PartialObjectMetadata",
                        "apiVersion": "meta.k8s.io/v1",
                        "metadata": meta,
                    }),
                };
                let row = json!({"cells": [], "object": object});
                let meta = json!({"resourceVersion": version.to_string()});
                crate::table::whole(kind, meta, vec![row], false).to_string().into_bytes()
            }
        };
        self.piece.extend_from_slice(&object);
        self.piece.extend_from_slice(b"}\n");
    }

    fn error(&mut self, refusal: &Refusal) {
        self.head("ERROR");
        self.piece.extend_from_slice(refusal.status().to_string().as_bytes());
        self.piece.extend_from_slice(b"}\n");
    }

    async fn flush(&mut self) -> Result<(), Over> {
        if self.piece.is_empty() {
            return Ok(());
        }
        self.to.send(self.piece.split().freeze()).await.map_err(|_| Over)
    }
}

impl Watch {
    /// The kind in the form that is stored, for encoding.
    fn stored(&self) -> Kind {
        let mut kind = Kind::clone(&self.kind);
        if kind.view == crate::kinds::View::Events {
            kind.group = String::new();
            kind.view = crate::kinds::View::Plain;
        }
        kind
    }
}
