//! What the API lets this program do, asked of it beforehand (SelfSubjectAccessReview).

use std::fmt;

use model::{Diagnostic, ObjectRef};

use crate::kind::{Kind, Place};

/// One thing that has to be allowed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// `list`, `watch`, `patch`, …
    pub verb: &'static str,
    /// The group, empty for the core's.
    pub group: &'static str,
    /// The plural.
    pub resource: &'static str,
    /// `status`, for one.
    pub subresource: Option<&'static str>,
    /// None for all namespaces.
    pub namespace: Option<String>,
    /// What isn't done without it, such as "no Ingress is served".
    pub purpose: &'static str,
}
