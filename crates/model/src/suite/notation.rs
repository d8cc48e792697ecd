//! swanctl's notation of proposals.

use thiserror::Error;

use super::{Proposal, Purpose};

/// Why a proposal can't be read or must not be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotationError {
    /// A word that names no algorithm.
    #[error("{word:?} is no algorithm")]
    Unknown {
        /// The word.
        word: String,
    },
    /// An algorithm that needs `allowLegacy`.
    #[error("{word:?} is too weak (RFC 8247)")]
    Legacy {
        /// The word.
        word: String,
        /// What to write in its place.
        instead: &'static str,
    },
    /// Parts that can't stand together, or one that is missing.
    #[error("{reason}")]
    Unfit {
        /// What is wrong and what to write.
        reason: String,
    },
}

impl Proposal {
    /// Reads swanctl's notation.
    ///
    /// # Errors
    /// [`NotationError`]
    pub fn parse(text: &str, purpose: Purpose, allow_legacy: bool) -> Result<Self, NotationError> {
        let _ = (purpose, allow_legacy);
        Err(NotationError::Unknown { word: text.to_owned() })
    }
}

/// What is proposed for IKE SAs if nothing is written (RFC 8247).
pub fn default_ike() -> Vec<Proposal> {
    Vec::new()
}

/// The same for ESP (RFC 8221).
pub fn default_esp() -> Vec<Proposal> {
    Vec::new()
}
