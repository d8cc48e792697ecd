//! inotify, through `notify`: wakes one waiting task when something that counts has changed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use notify::event::{AccessKind, AccessMode};
use notify::{ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use super::scan::Watched;

/// A set of watches that follows what is to be watched.
///
/// Watches are set one by one on each directory. `notify`'s own recursion isn't used: it doesn't
/// see links being swapped.
pub(super) struct Alarm {
    watcher: RecommendedWatcher,
    watched: Arc<Mutex<Watched>>,
    /// Directories that have a watch.
    armed: BTreeSet<PathBuf>,
}

impl Alarm {
    /// An alarm that watches nothing yet.
    ///
    /// # Errors
    /// If the kernel has no inotify, or this user too many instances of it.
    pub(super) fn new(wake: Arc<Notify>) -> notify::Result<Self> {
        let watched = Arc::new(Mutex::new(Watched::default()));
        let counted = Arc::clone(&watched);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error, such as lost events, may stand for any change.
            if event.map_or(true, |event| counts(&event, &lock(&counted))) {
                wake.notify_one();
            }
        })?;
        Ok(Self { watcher, watched, armed: BTreeSet::new() })
    }

    /// Watches this from now on, and nothing else. Returns whether a directory is new to it, so
    /// that changes in there may have been missed.
    ///
    /// # Errors
    /// If the kernel refuses a watch, as past the user's limit. Those set before stay.
    pub(super) fn arm(&mut self, watched: &Watched) -> notify::Result<bool> {
        lock(&self.watched).clone_from(watched);
        let parents = watched.entries.iter().filter_map(|entry| entry.parent());
        let wanted: BTreeSet<PathBuf> =
            parents.map(Path::to_path_buf).chain(watched.directories.iter().cloned()).collect();
        for gone in self.armed.difference(&wanted) {
            // Fails if the directory is gone, and the watch with it.
            let _ = self.watcher.unwatch(gone);
        }
        let mut armed = BTreeSet::new();
        for directory in wanted {
            // Also where there is a watch already: the directory may be another one of its name,
            // and if it isn't, the kernel changes nothing.
            match self.watcher.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => drop(armed.insert(directory)),
                Err(error) if is_gone(&error) => {}
                Err(error) => {
                    self.armed.append(&mut armed);
                    return Err(error);
                }
            }
        }
        let new = armed.difference(&self.armed).next().is_some();
        self.armed = armed;
        Ok(new)
    }
}

fn lock(watched: &Mutex<Watched>) -> MutexGuard<'_, Watched> {
    watched.lock().unwrap_or_else(PoisonError::into_inner)
}

fn counts(event: &Event, watched: &Watched) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => {}
        // Reading manifests makes these too: counting them would never end.
        EventKind::Access(_) => return false,
        _ => {}
    }
    event.need_rescan()
        || event.paths.iter().any(|path| {
            watched.entries.contains(path)
                || watched.directories.contains(path)
                || path.parent().is_some_and(|parent| watched.directories.contains(parent))
        })
}

fn is_gone(error: &notify::Error) -> bool {
    match &error.kind {
        ErrorKind::PathNotFound => true,
        ErrorKind::Io(error) => error.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, Flag, ModifyKind, RenameMode};

    use super::*;

    fn watched() -> Watched {
        Watched {
            directories: BTreeSet::from(["/m".into()]),
            entries: BTreeSet::from(["/m".into(), "/current".into()]),
        }
    }

    fn at(kind: EventKind, path: &str) -> Event {
        Event::new(kind).add_path(path.into())
    }

    #[test]
    fn what_reading_makes_does_not_count() {
        for kind in [AccessKind::Open(AccessMode::Any), AccessKind::Close(AccessMode::Read)] {
            assert!(!counts(&at(EventKind::Access(kind), "/m/a.yaml"), &watched()));
        }
        let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
        assert!(counts(&at(written, "/m/a.yaml"), &watched()));
    }

    #[test]
    fn beside_the_directory_only_the_way_to_it_counts() {
        let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::To));
        for (path, expected) in [
            ("/m", true),
            ("/m/..data", true),
            ("/current", true),
            ("/other", false),
            ("/other/current", false),
            ("/m/sub/a.yaml", false),
        ] {
            assert_eq!(counts(&at(renamed, path), &watched()), expected, "{path}");
        }
    }

    #[test]
    fn lost_events_count() {
        let lost = Event::new(EventKind::Other).set_flag(Flag::Rescan);
        assert!(counts(&lost, &watched()));
        assert!(!counts(&Event::new(EventKind::Create(CreateKind::Any)), &watched()));
    }
}
