//! Certificates with their keys.

use std::fmt;
use std::sync::Arc;

/// A certificate chain and its private key, checked to belong together. Cheap to copy.
#[derive(Clone, PartialEq, Eq)]
pub struct TlsPair {
    /// DER, the leaf first.
    pub chain: Arc<Vec<Vec<u8>>>,
    /// DER (PKCS#8, PKCS#1 or SEC1). Never shown.
    pub key: Arc<Vec<u8>>,
    /// The leaf's DNS names, lower-case.
    pub names: Arc<Vec<String>>,
    /// The leaf's notBefore and notAfter, in seconds since the epoch.
    pub validity: (i64, i64),
}

impl TlsPair {
    /// Whether the leaf is for the host, a lower-case name or `*.suffix` (RFC 6125, 6.4.3: a
    /// wildcard stands for exactly one label).
    pub fn covers(&self, host: &str) -> bool {
        covers(&self.names, host)
    }
}

/// The same, of a leaf with these names.
pub fn covers(names: &[String], host: &str) -> bool {
    let parent = host.split_once('.').map(|(_, parent)| parent);
    names.iter().any(|name| {
        name == host || name.strip_prefix("*.").is_some_and(|suffix| Some(suffix) == parent)
    })
}

impl fmt::Debug for TlsPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsPair").field("names", &self.names).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(names: &[&str]) -> TlsPair {
        TlsPair {
            chain: Arc::default(),
            key: Arc::new(b"very secret".to_vec()),
            names: Arc::new(names.iter().map(|&name| name.to_owned()).collect()),
            validity: (0, 0),
        }
    }

    #[test]
    fn wildcard_certificate_covers_exactly_one_label() {
        let pair = pair(&["*.example.com"]);
        assert!(pair.covers("a.example.com"));
        assert!(pair.covers("*.example.com"));
        assert!(!pair.covers("a.b.example.com"));
        assert!(!pair.covers("example.com"));
    }

    #[test]
    fn debug_never_shows_the_key() {
        let shown = format!("{:?}", pair(&["a.example.com"]));
        assert!(shown.contains("a.example.com"));
        assert!(!shown.contains("key") && !shown.contains("118"), "{shown}");
    }
}
