//! The edge's keys: one, or two while it is being changed.
//!
//! A key that is changed goes in three steps, so that no packet is lost: the new one is told to
//! the nodes as the second of two; once all that live are heard by it, it becomes the first, and
//! they take it; once none uses the old one any more, that one goes. A key keeps its port.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::PublicKey;
use overlay::PrivateKey;
use serde::{Deserialize, Serialize};
use wireguard::Keys;
use zeroize::{Zeroize, Zeroizing};

/// The file in the state directory.
pub(super) const FILE: &str = "overlay-keys.json";
/// The format that this version writes, and the only one that it reads.
const VERSION: u32 = 1;

/// Why keys can't be had.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file can't be written.
    #[error("{path} can't be written: {error}; make room, or give the gateway the right to")]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file is there and can't be read.
    #[error(
        "{path} {reason}; put back a copy, or remove it: the nodes learn the new key that is made \
         then"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

#[derive(Clone, Debug)]
struct Held {
    private: PrivateKey,
    port: u16,
    generation: u64,
    made: u64,
}

/// The keys, the one in use first.
#[derive(Debug)]
pub(super) struct KeyRing {
    directory: PathBuf,
    held: Vec<Held>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    keys: Vec<StoredKey>,
}

#[derive(Serialize, Deserialize)]
struct StoredKey {
    public: String,
    private: String,
    port: u16,
    generation: u64,
    made: u64,
}

impl Drop for StoredKey {
    fn drop(&mut self) {
        self.private.zeroize();
    }
}

impl KeyRing {
    /// Reads them, or makes the first one. One whose port is no longer one of the two stays in use
    /// with another one.
    pub(super) fn open(directory: &Path, port: u16) -> Result<Self, KeysError> {
        let path = directory.join(FILE);
        let broken = |reason: String| KeysError::Unreadable { path: path.clone(), reason };
        let mut ring = Self { directory: directory.to_owned(), held: Vec::new() };
        let text = match fs::read(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                ring.held.push(Held::new(1, port));
                ring.save()?;
                return Ok(ring);
            }
            Err(error) => return Err(broken(format!("can't be read: {error}"))),
        };
        // What an error quotes may be a key.
        let stored: Stored = serde_json::from_slice(&text)
            .map_err(|error| broken(format!("is broken in line {}", error.line())))?;
        if stored.version != VERSION {
            return Err(broken(format!("has version {}, not {VERSION}", stored.version)));
        }
        let ports = [port, port.saturating_add(1)];
        for key in stored.keys.iter().take(2) {
            let private =
                key.private.parse().map_err(|error| broken(format!("has a key that {error}")))?;
            let taken = ring.held.first().map(|held: &Held| held.port);
            let free = |port: &u16| Some(*port) != taken;
            let port = Some(key.port).filter(|own| ports.contains(own) && free(own));
            let port = port.or_else(|| ports.into_iter().find(free)).unwrap_or(key.port);
            ring.held.push(Held { private, port, generation: key.generation, made: key.made });
        }
        if ring.held.is_empty() {
            return Err(broken("holds no key".to_owned()));
        }
        Ok(ring)
    }

    /// The public halves with their ports.
    pub(super) fn public(&self) -> Vec<(PublicKey, u16)> {
        self.held.iter().map(|held| (held.private.public(), held.port)).collect()
    }

    /// All of them.
    pub(super) fn private(&self) -> Vec<PrivateKey> {
        self.held.iter().map(|held| held.private.clone()).collect()
    }

    /// By public half, for interfaces.
    pub(super) fn by_public(&self) -> Keys {
        self.held.iter().map(|held| (held.private.public(), held.private.clone())).collect()
    }

    /// How old the newest one is.
    pub(super) fn age(&self, now: SystemTime) -> Duration {
        let made = self.held.iter().map(|held| held.made).max().unwrap_or_default();
        Duration::from_secs(seconds(now).saturating_sub(made))
    }

    /// While a key is being changed: the one that is to be used, and the one that is to go.
    pub(super) fn changing(&self) -> Option<Changing> {
        let [first, second] = self.held.as_slice() else { return None };
        let (one, other) = (first.private.public(), second.private.public());
        Some(match first.generation < second.generation {
            true => Changing::Offered { new: other },
            false => Changing::Leaving { old: other, new: one },
        })
    }

    /// Makes another key, unless there are two already.
    pub(super) fn renew(&mut self, port: u16) -> Result<(), KeysError> {
        let [only] = self.held.as_slice() else { return Ok(()) };
        let free = if only.port == port { port.saturating_add(1) } else { port };
        let generation = only.generation + 1;
        self.change(|held| held.push(Held::new(generation, free)))
    }

    /// The next step of a change.
    pub(super) fn step(&mut self) -> Result<(), KeysError> {
        match self.changing() {
            None => Ok(()),
            Some(Changing::Offered { .. }) => self.change(|held| held.reverse()),
            Some(Changing::Leaving { .. }) => self.change(|held| held.truncate(1)),
        }
    }

    /// Nothing changes unless it is on the disk.
    fn change(&mut self, change: impl FnOnce(&mut Vec<Held>)) -> Result<(), KeysError> {
        let before = self.held.clone();
        change(&mut self.held);
        self.save().inspect_err(|_| self.held = before)
    }

    fn save(&self) -> Result<(), KeysError> {
        let keys = self.held.iter().map(|held| StoredKey {
            public: held.private.public().to_string(),
            private: held.private.to_base64().to_string(),
            port: held.port,
            generation: held.generation,
            made: held.made,
        });
        let stored = Stored { version: VERSION, keys: keys.collect() };
        let text = Zeroizing::new(serde_json::to_vec_pretty(&stored).unwrap_or_default());
        replace(&self.directory, FILE, &text)
            .map_err(|error| KeysError::Unwritable { path: self.directory.join(FILE), error })
    }
}

/// How far a change of keys is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Changing {
    /// Nodes get to know the new one.
    Offered {
        /// It.
        new: PublicKey,
    },
    /// Nodes leave the old one.
    Leaving {
        /// It.
        old: PublicKey,
        /// What they use in its place.
        new: PublicKey,
    },
}

impl Held {
    fn new(generation: u64, port: u16) -> Self {
        let private = wireguard::random::private_key();
        Self { private, port, generation, made: seconds(SystemTime::now()) }
    }
}

/// Replaces a file of the state directory as a whole, for this user's eyes only.
pub(super) fn replace(directory: &Path, name: &str, text: &[u8]) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let beside = directory.join(format!(".{name}.new"));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options.open(&beside).and_then(|mut file| {
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&beside, directory.join(name))?;
        File::open(directory)?.sync_all()
    });
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_outlive_a_restart_and_change_in_three_steps() {
        let folder = tempfile::tempdir().unwrap();
        let mut ring = KeyRing::open(folder.path(), 51821).unwrap();
        let first = ring.public();
        assert_eq!((first.len(), first[0].1, ring.changing()), (1, 51821, None));
        assert_eq!(KeyRing::open(folder.path(), 51821).unwrap().public(), first);
        ring.renew(51821).unwrap();
        ring.renew(51821).unwrap();
        let both = ring.public();
        assert_eq!((both.len(), both[0], both[1].1), (2, first[0], 51822));
        assert_eq!(ring.changing(), Some(Changing::Offered { new: both[1].0 }));
        ring.step().unwrap();
        assert_eq!(ring.public(), [both[1], both[0]]);
        let leaving = Changing::Leaving { old: both[0].0, new: both[1].0 };
        assert_eq!(KeyRing::open(folder.path(), 51821).unwrap().changing(), Some(leaving));
        ring.step().unwrap();
        assert_eq!(ring.public(), [both[1]]);
        ring.renew(51821).unwrap();
        assert_eq!(ring.public()[1].1, 51821);
        let mode = fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // Another port in the configuration.
        assert_eq!(KeyRing::open(folder.path(), 4000).unwrap().public()[0].1, 4000);
    }

    #[test]
    fn a_broken_file_is_kept_and_named_and_no_key_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        for text in ["{", "{\"version\": 2, \"keys\": []}", "{\"version\": 1, \"keys\": []}"] {
            fs::write(&path, text).unwrap();
            let error = KeyRing::open(folder.path(), 1).unwrap_err().to_string();
            assert!(error.contains(FILE) && error.contains("put back"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
