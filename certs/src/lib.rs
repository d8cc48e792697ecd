//! Development certificates: a CA of one's own, leaf certificates signed by it, and the
//! `kubernetes.io/tls` Secrets that carry them to the gateway.
//!
//! **What it is:** a thin layer over rcgen (X.509 as of RFC 5280, names as of RFC 6125) for
//! development and tests. [`Authority`] makes everything in memory; [`Directory`] keeps it in a
//! folder, private keys readable by their owner alone.
//!
//! **What it is not:** a CA for production. Nothing is ever revoked, and the CA's key lies
//! unencrypted beside its certificate.
//!
//! ```
//! use certs::{Authority, LeafRequest, SecretName};
//!
//! # fn main() -> Result<(), certs::Error> {
//! let ca = Authority::new("Example CA")?;
//! let leaf = ca.issue(&LeafRequest::new(["shop.example", "*.shop.example"])?)?;
//! let manifest = leaf.secret_manifest(&SecretName::parse("shop/shop-tls")?);
//! assert!(manifest.contains("type: kubernetes.io/tls"));
//! # Ok(())
//! # }
//! ```

mod authority;
mod directory;
mod error;
mod names;

pub use authority::{Authority, KeyKind, Leaf, LeafRequest, Validity};
pub use directory::{Directory, LeafFiles};
pub use error::Error;
pub use names::{SecretName, SubjectName};
