//! The state directory: what outlives a restart, and that only one agent uses it.
//!
//! Files are replaced as a whole: a new one is written beside the old one, brought to the disk,
//! and renamed into its place.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Which numbers edges have, and by which keys they were known.
const EDGES: &str = "edges.json";
/// The Node with its annotations, where no API takes them.
pub const NODE: &str = "node.yaml";

/// Why the state can't be used.
#[derive(Debug, Error)]
pub enum StateError {
    /// The directory can't be made or opened.
    #[error("state: {path}: {error}; name a directory that the agent may write")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Another process uses it.
    #[error("state: {path} is in use by another agent; stop that one first")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// A file can't be read.
    #[error("{path}: {reason}; {remedy}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A file can't be written.
    #[error("{path} can't be written: {error}; make room, or give the agent the right to")]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// The directory, locked.
#[derive(Debug)]
pub struct State {
    directory: PathBuf,
    /// Held for as long as the state is used.
    _lock: File,
}

/// What is remembered of edges.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Edges {
    /// The number of each: connections under way keep their edge by it.
    pub numbers: BTreeMap<String, u32>,
    /// The keys that each had.
    pub keys: BTreeMap<String, Vec<String>>,
}

impl State {
    /// Opens the directory and makes it if need be.
    ///
    /// # Errors
    /// [`StateError::Directory`], [`StateError::InUse`].
    pub fn open(directory: &Path) -> Result<Self, StateError> {
        let fail = |error| StateError::Directory { path: directory.to_owned(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(fail)?;
        let mode = fs::metadata(directory).map_err(fail)?.permissions().mode();
        if mode & 0o077 != 0 {
            // Keys lie in it.
            fs::set_permissions(directory, PermissionsExt::from_mode(0o700)).map_err(fail)?;
        }
        let lock = private().truncate(false).open(directory.join("lock")).map_err(fail)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { directory: directory.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StateError::InUse { path: directory.to_owned() }),
            Err(TryLockError::Error(error)) => Err(fail(error)),
        }
    }

    /// A file's path.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Replaces a file, for this user's eyes only.
    ///
    /// # Errors
    /// [`StateError::Unwritable`]: the old one is still there.
    pub fn write(&self, name: &str, text: &[u8]) -> Result<(), StateError> {
        let (path, beside) = (self.path(name), self.path(&format!(".{name}.new")));
        let written = private().truncate(true).open(&beside).and_then(|mut file| {
            file.write_all(text)?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            File::open(&self.directory)?.sync_all()
        });
        written.map_err(|error| {
            let _ = fs::remove_file(&beside);
            StateError::Unwritable { path, error }
        })
    }

    /// Reads a file of JSON; none if there is none.
    ///
    /// # Errors
    /// [`StateError::Unreadable`], with this remedy.
    pub fn read<T: DeserializeOwned>(
        &self,
        name: &str,
        remedy: &'static str,
    ) -> Result<Option<T>, StateError> {
        let path = self.path(name);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                let reason = format!("can't be read: {error}");
                return Err(StateError::Unreadable { path, reason, remedy });
            }
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| {
            // What it quotes may be a key.
            let reason = format!("is broken in line {}", error.line());
            StateError::Unreadable { path, reason, remedy }
        })
    }

    /// What is remembered of edges. What can't be read is forgotten: it costs connections under
    /// way their edge, and no more.
    pub fn edges(&self) -> Edges {
        self.read(EDGES, "it is made anew")
            .unwrap_or_else(|error| {
                tracing::warn!(%error, "which edge has which number is forgotten");
                None
            })
            .unwrap_or_default()
    }

    /// Remembers it.
    ///
    /// # Errors
    /// [`StateError::Unwritable`].
    pub fn remember(&self, edges: &Edges) -> Result<(), StateError> {
        let text = serde_json::to_vec_pretty(edges).unwrap_or_default();
        self.write(EDGES, &text)
    }

    /// Removes all of the agent's files, and the directory if nothing else is in it.
    ///
    /// # Errors
    /// The first that remains.
    pub fn remove(self) -> Result<(), StateError> {
        for name in [EDGES, NODE, crate::kept::FILE, crate::keys::FILE, "lock"] {
            let path = self.path(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(StateError::Unwritable { path, error });
                }
                _ => {}
            }
        }
        // Others' files, or a mount point, keep it.
        let _ = fs::remove_dir(&self.directory);
        Ok(())
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_agent_uses_it_files_are_private_and_nothing_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("state");
        let state = State::open(&directory).unwrap();
        let error = State::open(&directory).unwrap_err();
        assert!(matches!(error, StateError::InUse { .. }), "{error}");
        assert_eq!(state.edges(), Edges::default());
        let edges = Edges { numbers: BTreeMap::from([("a".to_owned(), 1)]), ..Edges::default() };
        state.remember(&edges).unwrap();
        assert_eq!(state.edges(), edges);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory), 0o700);
        assert_eq!(mode(&state.path(EDGES)), 0o600);
        fs::write(state.path(EDGES), "{").unwrap();
        assert_eq!(state.edges(), Edges::default());
        state.remove().unwrap();
        assert!(!directory.exists());
    }

    #[test]
    fn a_directory_that_others_can_read_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let _state = State::open(folder.path()).unwrap();
        assert_eq!(fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
