//! What the L4 plane must remember over restarts: which Service holds which address, and which
//! addresses it has put on which interface.
//!
//! One file, `allocations.json`, replaced as a whole: a new one is written beside it, brought to
//! the disk, and renamed into its place. So whoever reads it finds the old state or the new one.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use plan::l4::Allocations;
use serde::{Deserialize, Serialize};

/// The format that this version writes, and the only one that it reads.
const VERSION: u32 = 1;
/// The file's name in the state directory.
const FILE: &str = "allocations.json";

/// An address on an interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Taken {
    /// The interface.
    pub interface: String,
    /// The address.
    pub address: IpAddr,
}

/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Which Service holds which addresses.
    #[serde(with = "shared")]
    pub allocations: Arc<Allocations>,
    /// The addresses that the gateway has put on interfaces, or is about to.
    #[serde(with = "shared")]
    pub taken: Arc<BTreeSet<Taken>>,
}

/// What is compared again and again is known by where it lies in memory.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(
        value: &Arc<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().serialize(serializer)
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<T>, D::Error> {
        T::deserialize(deserializer).map(Arc::new)
    }
}

/// The file's content.
#[derive(Serialize, Deserialize)]
struct Versioned {
    version: u32,
    #[serde(flatten)]
    memory: Memory,
}

/// Why the state can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The directory can't be made or opened.
    #[error("state: {path}: {error}; name a directory that the gateway may write")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Another process uses it.
    #[error(
        "state: {path} is in use by another gateway; stop that one, or give each its own directory"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The file is there, but can't be read.
    #[error(
        "{path}: {reason}; it holds which Service has which address, so it isn't replaced: mend it, \
         put back a copy, or remove it to have all addresses given out anew"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// The state directory, with what is known to be on its disk.
#[derive(Debug)]
pub struct State {
    directory: PathBuf,
    saved: Memory,
    /// What is saved is surely on the disk.
    synced: bool,
    /// Held for as long as the state is used.
    _lock: File,
}

impl State {
    /// Opens the directory, makes it if need be, and reads what is there.
    ///
    /// # Errors
    /// [`StateError`]. A file that can't be read is left as it is.
    pub fn open(directory: &Path) -> Result<Self, StateError> {
        let fail = |error| StateError::Directory { path: directory.to_owned(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(fail)?;
        // Not mended: it may be a folder that is shared for a reason.
        if let Ok(found) = fs::metadata(directory)
            && found.permissions().mode() & 0o022 != 0
        {
            tracing::warn!(
                directory = %directory.display(),
                mode = format!("{:o}", found.permissions().mode() & 0o7777),
                "others may write to the state directory; make it 0700"
            );
        }
        let lock = private().open(directory.join("lock")).map_err(fail)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StateError::InUse { path: directory.to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
        let saved = read(&directory.join(FILE))?;
        Ok(Self { directory: directory.to_owned(), saved, synced: true, _lock: lock })
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What is on the disk.
    pub fn saved(&self) -> &Memory {
        &self.saved
    }

    /// Brings it to the disk, if it isn't there.
    ///
    /// # Errors
    /// As open(2), write(2), fsync(2), rename(2): then the old state is still there.
    pub fn save(&mut self, memory: &Memory) -> io::Result<()> {
        if self.synced && *memory == self.saved {
            // Seen at once the next time.
            self.saved.clone_from(memory);
            return Ok(());
        }
        let mut text =
            serde_json::to_vec_pretty(&Versioned { version: VERSION, memory: memory.clone() })?;
        text.push(b'\n');
        let (path, beside) = (self.directory.join(FILE), self.directory.join(".allocations.new"));
        let written = private().truncate(true).open(&beside).and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_all()
        });
        if let Err(error) = written {
            // What it takes of a full disk may be what others need.
            let _ = fs::remove_file(&beside);
            return Err(error);
        }
        fs::rename(&beside, &path)?;
        self.synced = false;
        File::open(&self.directory)?.sync_all()?;
        self.saved.clone_from(memory);
        self.synced = true;
        Ok(())
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600);
    options
}

fn read(path: &Path) -> Result<Memory, StateError> {
    let fail = |reason: String| StateError::Unreadable { path: path.to_owned(), reason };
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Memory::default()),
        Err(error) => return Err(fail(format!("can't be read: {error}"))),
    };
    let value: serde_json::Value =
        serde_json::from_slice(&text).map_err(|error| fail(format!("is broken: {error}")))?;
    match value.get("version").and_then(serde_json::Value::as_u64) {
        Some(version) if version == u64::from(VERSION) => {}
        Some(version) => {
            return Err(fail(format!(
                "has version {version}, and this gateway reads version {VERSION}"
            )));
        }
        None => return Err(fail("is broken: it has no version".to_owned())),
    }
    let Versioned { memory, .. } =
        serde_json::from_value(value).map_err(|error| fail(format!("is broken: {error}")))?;
    Ok(memory)
}

#[cfg(test)]
mod tests;
