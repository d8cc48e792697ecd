//! The part of the configuration that ingest and the planners need.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::ObjectKey;

/// Which of the gateway's two ALBs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlbKind {
    /// Faces the internet.
    Public,
    /// Faces the private network.
    Private,
}

impl fmt::Display for AlbKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "public",
            Self::Private => "private",
        })
    }
}

/// One ALB that is enabled, as far as rules depend on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AlbSettings {
    /// Which one.
    pub kind: AlbKind,
    /// The IngressClass whose objects it serves.
    pub ingress_class: String,
    /// Whether hosts with TLS have their HTTP requests redirected unless an annotation says
    /// otherwise.
    pub ssl_redirect: bool,
    /// The Secret of the default certificate, none for a self-made one.
    pub default_certificate: Option<ObjectKey>,
    /// The Service and port (name or number) for requests that no rule matches, none for 404.
    pub default_backend: Option<(ObjectKey, String)>,
}
