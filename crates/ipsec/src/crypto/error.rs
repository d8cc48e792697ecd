//! What the algorithms refuse.

use model::suite::Group;

/// Why it could not be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// The other end's public value is none of this group's, or a weak one (RFC 6989).
    #[error("public value of {length} octets is not valid in group {group:?}")]
    PublicValue {
        /// The group.
        group: Group,
        /// How long it was.
        length: usize,
    },
    /// What was received is not what was sent.
    #[error("not authentic")]
    Unauthentic,
    /// Authentic, but its padding contradicts its length.
    #[error("padding longer than what is padded")]
    Padding,
    /// A key has another length than its algorithm takes.
    #[error("key of {length} octets for {algorithm}")]
    KeyLength {
        /// Of which algorithm.
        algorithm: &'static str,
        /// How long it is.
        length: usize,
    },
    /// A chosen suite has not what is needed.
    #[error("the suite has no {0}")]
    Suite(&'static str),
    /// aws-lc could not do it.
    #[error("{0} failed")]
    Failed(&'static str),
    /// Certificates or CRLs that were configured can't be used.
    #[error("{0}")]
    Certificate(String),
    /// A private key that was configured can't be used.
    #[error("{0}")]
    PrivateKey(String),
    /// Nothing that this end can sign with suits the other end.
    #[error("{0}")]
    NoSignature(String),
}
