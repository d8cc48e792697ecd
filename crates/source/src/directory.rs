//! A watched directory of manifests.
//!
//! Files `*.yaml`, `*.yml` and `*.json`, in it and below it. A change is heard of through inotify
//! and answered by looking at all files' times, reading only those that changed: so links swapped,
//! directories replaced and events lost all come out right, and a change among a thousand files
//! costs a thousand `stat` calls, some milliseconds.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ingest::yaml;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use crate::store::Store;
use ingest::Delivery;

mod alarm;
mod scan;

use alarm::Alarm;
use scan::{Found, Scan, Stamp, Watched};

/// The directory can't be used as a source.
#[derive(Debug, thiserror::Error)]
#[error("manifests directory {}: {reason}; {remedy}", .path.display())]
pub struct SourceError {
    /// The directory.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
    /// What to do about it.
    pub remedy: &'static str,
}

/// When to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Changes are read once none has come for so long,
    pub quiet: Duration,
    /// or so long after the first.
    pub longest: Duration,
    /// Without any news: what inotify doesn't tell, as on network file systems.
    pub resync: Duration,
    /// The same while inotify doesn't work or the directory is gone.
    pub fallback: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            quiet: Duration::from_millis(50),
            longest: Duration::from_millis(500),
            resync: Duration::from_secs(30),
            fallback: Duration::from_secs(2),
        }
    }
}

/// A directory being watched.
pub struct Directory {
    state: State,
    pace: Pace,
    sender: watch::Sender<Arc<Delivery>>,
}

impl Directory {
    /// Reads the directory and begins to watch it. The receiver holds what was read.
    ///
    /// # Errors
    /// If the directory can't be read. Once it is open, it may go and come back.
    pub fn open(
        root: PathBuf,
        pace: Pace,
    ) -> Result<(Self, watch::Receiver<Arc<Delivery>>), SourceError> {
        let mut state = State { reader: Reader::new(root), ears: Ears::new(Alarm::new) };
        state.look();
        state.reader.refuse_if_gone()?;
        let (sender, receiver) = watch::channel(Arc::new(state.reader.store.delivery()));
        Ok((Self { state, pace, sender }, receiver))
    }

    /// Sends a new [`Delivery`] whenever something changed, until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let wake = Arc::clone(&self.state.ears.wake);
        loop {
            let wait = if self.state.hears() { self.pace.resync } else { self.pace.fallback };
            tokio::select! {
                () = stop.cancelled() => return,
                () = wake.notified() => settle(&wake, self.pace).await,
                () = tokio::time::sleep(wait) => {}
            }
            // Reading files blocks, and the control thread has other things to do.
            let mut state = self.state;
            let look = tokio::task::spawn_blocking(move || {
                let delivery = state.look().then(|| state.reader.store.delivery());
                (state, delivery)
            });
            let delivery;
            (self.state, delivery) = match look.await {
                Ok(done) => done,
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                // The runtime is going down.
                Err(_) => return,
            };
            if let Some(delivery) = delivery {
                let objects = delivery.objects.origins.len();
                info!(files = self.state.reader.store.len(), objects, "manifests changed");
                self.sender.send_replace(Arc::new(delivery));
            }
        }
    }
}

/// Reads the directory once.
///
/// # Errors
/// If the directory can't be read.
pub fn read(root: &Path) -> Result<Delivery, SourceError> {
    let mut reader = Reader::new(root.to_path_buf());
    reader.look();
    reader.refuse_if_gone()?;
    Ok(reader.store.delivery())
}

/// Waits until changes stop coming, after the first one.
async fn settle(wake: &Notify, pace: Pace) {
    let deadline = Instant::now() + pace.longest;
    loop {
        let quiet = (Instant::now() + pace.quiet).min(deadline);
        if timeout_at(quiet, wake.notified()).await.is_err() || Instant::now() >= deadline {
            return;
        }
    }
}

struct State {
    reader: Reader,
    ears: Ears,
}

impl State {
    /// Reads what changed, and watches what is there now. Returns whether anything changed.
    fn look(&mut self) -> bool {
        let mut changed = false;
        // What changes in a directory before it is watched goes unheard, so look again then.
        // Should directories keep coming, their events will too.
        for _ in 0..3 {
            let look = self.reader.look();
            changed |= look.changed;
            if !self.ears.follow(&look.watched) {
                break;
            }
        }
        changed
    }

    /// Whether changes will be heard of.
    fn hears(&self) -> bool {
        self.ears.alarm.is_some() && self.reader.gone.is_none()
    }
}

/// The alarm, as far as there is one.
struct Ears {
    wake: Arc<Notify>,
    make: MakeAlarm,
    alarm: Option<Alarm>,
    /// Said once, not at every attempt.
    complained: bool,
}

type MakeAlarm = fn(Arc<Notify>) -> notify::Result<Alarm>;

impl Ears {
    fn new(make: MakeAlarm) -> Self {
        Self { wake: Arc::default(), make, alarm: None, complained: false }
    }

    /// Returns whether a directory is watched that wasn't before.
    fn follow(&mut self, watched: &Watched) -> bool {
        match self.try_follow(watched) {
            Ok(new) => {
                if std::mem::take(&mut self.complained) {
                    info!("manifests directory is watched again");
                }
                new
            }
            Err(reason) => {
                self.alarm = None;
                if !std::mem::replace(&mut self.complained, true) {
                    error!(
                        %reason,
                        remedy = "raise fs.inotify.max_user_watches and max_user_instances",
                        "manifests directory can't be watched and is polled instead"
                    );
                }
                false
            }
        }
    }

    fn try_follow(&mut self, watched: &Watched) -> notify::Result<bool> {
        if self.alarm.is_none() {
            self.alarm = Some((self.make)(Arc::clone(&self.wake))?);
        }
        self.alarm.as_mut().map_or(Ok(false), |alarm| alarm.arm(watched))
    }
}

/// The directory's files, read as they change.
struct Reader {
    root: PathBuf,
    store: Store,
    /// Every file taken in, with the state in which it was read; none if it is to be read again.
    stamps: BTreeMap<String, Option<Stamp>>,
    /// Why the directory itself can't be read.
    gone: Option<std::io::Error>,
}

struct Look {
    changed: bool,
    watched: Watched,
}

impl Reader {
    fn new(root: PathBuf) -> Self {
        Self { root, store: Store::default(), stamps: BTreeMap::new(), gone: None }
    }

    fn look(&mut self) -> Look {
        // Ends in `/`, as no file's name does.
        let own_name = format!("{}/", self.root.to_string_lossy().trim_end_matches('/'));
        match Scan::of(&self.root) {
            Ok(scan) => {
                self.gone = None;
                let back = self.store.remove(&own_name);
                let changed = self.take_in(&scan);
                Look { changed: changed || back, watched: scan.watched }
            }
            Err((error, watched)) => {
                let reason = format!("can't be read: {error}");
                let changed = self.store.unreadable(&own_name, &reason, "put the directory back");
                self.gone = Some(error);
                Look { changed, watched }
            }
        }
    }

    fn take_in(&mut self, scan: &Scan) -> bool {
        let mut changed = false;
        for (name, reason) in &scan.problems {
            let reason = format!("can't be read: {reason}");
            changed |= self.store.unreadable(name, &reason, "see to the file's place and rights");
            self.stamps.insert(name.clone(), None);
        }
        for (name, found) in &scan.files {
            let known = self.stamps.get(name).copied().flatten();
            if known.is_some() && known == found.stamp {
                continue;
            }
            changed |= self.read(name, found);
        }
        // What stands below a directory that can't be read may be there still.
        let is_there = |name: &String| {
            scan.files.contains_key(name)
                || scan.problems.contains_key(name)
                || scan.problems.keys().any(|place| place.ends_with('/') && name.starts_with(place))
        };
        let gone: Vec<String> =
            self.stamps.keys().filter(|name| !is_there(name)).cloned().collect();
        for name in gone {
            debug!(file = name, "manifest removed");
            self.stamps.remove(&name);
            changed |= self.store.remove(&name);
        }
        changed
    }

    fn read(&mut self, name: &str, found: &Found) -> bool {
        debug!(file = name, "manifest read");
        match text_of(&found.path) {
            Ok(text) => {
                self.stamps.insert(name.to_owned(), found.stamp);
                self.store.put(name, &text)
            }
            // It went after the look, and whoever took it away will make the next look.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            Err(error) => {
                self.stamps.insert(name.to_owned(), None);
                let reason = format!("can't be read: {error}");
                self.store.unreadable(name, &reason, "see to the file's rights and content")
            }
        }
    }

    fn refuse_if_gone(&self) -> Result<(), SourceError> {
        let Some(error) = &self.gone else { return Ok(()) };
        let remedy = match error.kind() {
            std::io::ErrorKind::NotFound => "make it, or correct source.manifests",
            std::io::ErrorKind::NotADirectory => "name the directory that the file lies in",
            _ => "give the gateway's user the right to read and enter it",
        };
        Err(SourceError { path: self.root.clone(), reason: error.to_string(), remedy })
    }
}

/// Reads a file, up to what the parser takes.
fn text_of(path: &Path) -> std::io::Result<String> {
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    if bytes > yaml::MAX_BYTES as u64 {
        let reason = format!("it has {bytes} bytes, and at most {} are read", yaml::MAX_BYTES);
        return Err(std::io::Error::other(reason));
    }
    let mut text = String::new();
    // It may have grown since; the parser refuses what is over.
    file.take(yaml::MAX_BYTES as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests;
