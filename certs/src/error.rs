//! What can go wrong, and what to do about it.

use std::path::PathBuf;

/// Why no certificate was made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that no certificate can carry.
    #[error(
        "name {value:?}: {reason}; write a DNS name (www.example.test), a wildcard \
         (*.example.test) or an IP address"
    )]
    Subject {
        /// The name as given.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A leaf certificate without any name.
    #[error("a certificate needs at least one name")]
    NoName,
    /// A Secret's name that Kubernetes would refuse.
    #[error("secret {value:?}: {reason}; write NAMESPACE/NAME, such as demo/demo-tls")]
    Secret {
        /// The name as given.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A validity that ends before it begins, or lies beyond what X.509 can say.
    #[error("validity: {0}")]
    Validity(&'static str),
    /// A CA's certificate and key that don't belong together.
    #[error("the CA's key is not the key of its certificate")]
    Mismatch,
    /// A file that could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A CA of which only one half is there.
    #[error(
        "{} is missing beside {}; put it back, or remove both to start with a new CA",
        missing.display(),
        present.display()
    )]
    HalfAuthority {
        /// The half that is there.
        present: PathBuf,
        /// The half that is not.
        missing: PathBuf,
    },
    /// Something that the X.509 library refused.
    #[error("X.509: {0}")]
    X509(#[from] rcgen::Error),
}
