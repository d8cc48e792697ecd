//! The node's keys: one, or two while it is being changed.
//!
//! A key that is changed goes in three steps, so that no packet is lost: the new one is told to
//! the edges beside the old one, which stays in use; once an edge answers over the new one, what
//! goes to it takes that way; once all edges that answer do, the old one goes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::PublicKey;
use overlay::PrivateKey;
use serde::{Deserialize, Serialize};
use wireguard::Keys;

use crate::state::{State, StateError};

/// The file in the state directory.
pub const FILE: &str = "keys.json";
const REMEDY: &str = "put back a copy, or remove it: the edges learn the new key that is made then";
/// How long all edges have to answer by the new key before the old one goes.
pub const SETTLE: Duration = Duration::from_secs(10);

/// A key.
#[derive(Clone, Debug)]
pub struct Held {
    /// It itself.
    pub private: PrivateKey,
    /// Greater than that of all keys before it.
    pub generation: u64,
    /// When it was made, in seconds since 1970.
    pub made: u64,
}

/// The node's keys, the newest first.
#[derive(Debug)]
pub struct KeyRing {
    held: Vec<Held>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    keys: Vec<StoredKey>,
}

#[derive(Serialize, Deserialize)]
struct StoredKey {
    private: String,
    generation: u64,
    made: u64,
}

impl Drop for StoredKey {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.private);
    }
}

impl KeyRing {
    /// Reads them, or makes the first one.
    ///
    /// # Errors
    /// The file is there and can't be read, or can't be written.
    pub fn open(state: &State) -> Result<Self, StateError> {
        let broken = |reason: String| StateError::Unreadable {
            path: state.path(FILE),
            reason,
            remedy: REMEDY,
        };
        let Some(stored) = state.read::<Stored>(FILE, REMEDY)? else {
            let ring = Self { held: vec![Held::new(1)] };
            ring.save(state)?;
            return Ok(ring);
        };
        if stored.version != 1 {
            return Err(broken(format!("has version {}, not 1", stored.version)));
        }
        let mut held = Vec::new();
        for key in stored.keys.iter().take(2) {
            let private = key.private.parse().map_err(|error| broken(format!("a key {error}")))?;
            held.push(Held { private, generation: key.generation, made: key.made });
        }
        held.sort_by_key(|key| std::cmp::Reverse(key.generation));
        if held.is_empty() {
            return Err(broken("holds no key".to_owned()));
        }
        Ok(Self { held })
    }

    /// All of them, the newest first.
    pub fn held(&self) -> &[Held] {
        &self.held
    }

    /// Their public halves.
    pub fn public(&self) -> Vec<PublicKey> {
        self.held.iter().map(|key| key.private.public()).collect()
    }

    /// By public half, for interfaces.
    pub fn by_public(&self) -> Keys {
        self.held.iter().map(|key| (key.private.public(), key.private.clone())).collect()
    }

    /// How old the newest one is.
    pub fn age(&self, now: SystemTime) -> Duration {
        let made = self.held.first().map_or(0, |key| key.made);
        Duration::from_secs(seconds(now).saturating_sub(made))
    }

    /// Whether it is being changed.
    pub fn is_changing(&self) -> bool {
        self.held.len() > 1
    }

    /// Makes another key, unless there are two already.
    ///
    /// # Errors
    /// It can't be written, and is not used then.
    pub fn renew(&mut self, state: &State) -> Result<(), StateError> {
        if self.is_changing() {
            return Ok(());
        }
        let generation = self.held.iter().map(|key| key.generation).max().unwrap_or(0) + 1;
        self.held.insert(0, Held::new(generation));
        self.save(state).inspect_err(|_| drop(self.held.remove(0)))
    }

    /// Forgets all but the newest one.
    ///
    /// # Errors
    /// It can't be written, and they are kept then.
    pub fn retire(&mut self, state: &State) -> Result<(), StateError> {
        let old = self.held.split_off(1);
        self.save(state).inspect_err(|_| self.held.extend(old))
    }

    fn save(&self, state: &State) -> Result<(), StateError> {
        let keys = self.held.iter().map(|key| StoredKey {
            private: key.private.to_base64().to_string(),
            generation: key.generation,
            made: key.made,
        });
        let stored = Stored { version: 1, keys: keys.collect() };
        let text = zeroize::Zeroizing::new(serde_json::to_vec_pretty(&stored).unwrap_or_default());
        state.write(FILE, &text)
    }
}

impl Held {
    fn new(generation: u64) -> Self {
        let private = wireguard::random::private_key();
        Self { private, generation, made: seconds(SystemTime::now()) }
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_outlive_a_restart_and_are_changed_one_by_one() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let mut ring = KeyRing::open(&state).unwrap();
        let first = ring.public();
        assert_eq!(first.len(), 1);
        assert_eq!(KeyRing::open(&state).unwrap().public(), first);
        ring.renew(&state).unwrap();
        ring.renew(&state).unwrap();
        let both = ring.public();
        assert_eq!(both.len(), 2);
        assert_eq!(both[1], first[0]);
        assert_ne!(both[0], first[0]);
        assert_eq!(KeyRing::open(&state).unwrap().public(), both);
        ring.retire(&state).unwrap();
        assert_eq!(KeyRing::open(&state).unwrap().public(), both[..1]);
        assert_eq!(ring.held()[0].generation, 2);
    }

    #[test]
    fn a_broken_file_is_kept_and_named_and_no_key_shown() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        for text in [
            "{",
            "{\"version\":2,\"keys\":[]}",
            "{\"version\":1,\"keys\":[]}",
            "{\"version\":1,\"keys\":[{\"private\":\"secret!\",\"generation\":1,\"made\":0}]}",
        ] {
            std::fs::write(state.path(FILE), text).unwrap();
            let error = KeyRing::open(&state).unwrap_err().to_string();
            assert!(error.contains(FILE) && error.contains("put back"), "{error}");
            assert!(!error.contains("secret"), "{error}");
            assert_eq!(std::fs::read_to_string(state.path(FILE)).unwrap(), text);
        }
    }
}
