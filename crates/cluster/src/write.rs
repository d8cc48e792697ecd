//! Writing back: what the API server is to know of what is in force.
//!
//! **What it is:** a task that brings a desired state ([`Written`]) to the API server by
//! server-side apply and Events, and keeps the ConfigMap of allocations ([`allocations`]).
//!
//! **What it is not:** the decision what is written (the gateway's `status`). It never makes the
//! one who tells it wait: of several desired states only the newest counts.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

pub mod allocations;
pub mod events;
mod outcome;
mod perform;
pub mod queue;
mod request;
mod writer;

pub use events::Event;
pub use outcome::Outcome;
pub use perform::delete_edge;
pub use writer::{Counters, Options, Writer, start};

/// The field manager that statuses are written by.
pub const MANAGER: &str = "tidegate";
/// The field manager by which the leading edge tells of edges that are lost.
pub const MANAGER_OF_LOST: &str = "tidegate-leader";
/// The finalizer that keeps an object until its address is given up.
pub const FINALIZER: &str = "tidegate.io/address";

/// Everything that is to be written, where the objects that were seen don't have it yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Written {
    /// Changes of objects, sorted by target; each target once.
    pub patches: Vec<Patch>,
    /// What is to be told about objects as long as it holds.
    pub events: Vec<Event>,
}

/// Who writes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Author {
    /// Only the leading edge: what all edges know.
    Leader,
    /// This edge: what nobody else knows.
    Own,
}

/// The kinds whose objects are changed. In the order in which they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Kind {
    /// tidegate.io/v1alpha1
    EdgeGateway,
    /// tidegate.io/v1alpha1
    VpnConnection,
    /// tidegate.io/v1alpha1
    AddressPool,
    /// v1
    Service,
    /// networking.k8s.io/v1
    Ingress,
}

impl Kind {
    /// What stands in `apiVersion`.
    pub fn api_version(self) -> &'static str {
        match self {
            Self::Service => "v1",
            Self::Ingress => "networking.k8s.io/v1",
            Self::EdgeGateway | Self::VpnConnection | Self::AddressPool => {
                ingest::crds::API_VERSION
            }
        }
    }

    /// Its name in URLs and in RBAC rules.
    pub fn plural(self) -> &'static str {
        match self {
            Self::EdgeGateway => "edgegateways",
            Self::VpnConnection => "vpnconnections",
            Self::AddressPool => "addresspools",
            Self::Service => "services",
            Self::Ingress => "ingresses",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// An object that is changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Target {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace, none for cluster-scoped kinds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl Target {
    /// As diagnostics name it.
    pub fn object(&self) -> model::ObjectRef {
        model::ObjectRef {
            kind: self.kind.to_string(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }
}

/// A change of one object.
#[derive(Clone, Debug, PartialEq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Patch {
    /// The object.
    pub target: Target,
    /// Its `metadata.uid`; none where the object isn't there yet. One that was made anew under the
    /// same name isn't changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Who writes it.
    pub author: Author,
    /// Its status.
    pub status: StatusChange,
    /// Its finalizer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finalizer: Option<FinalizerChange>,
}

/// What becomes of a status.
#[derive(Clone, Debug, PartialEq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum StatusChange {
    /// It stays.
    Keep,
    /// These fields are applied, by [`MANAGER`]; what the last apply had and this one hasn't goes.
    Apply {
        /// The `status`.
        fields: Value,
        /// Take the fields from whoever has written them, too; otherwise that is a conflict.
        force: bool,
    },
    /// The same by [`MANAGER_OF_LOST`].
    Lost {
        /// The `status`.
        fields: Value,
    },
    /// What [`MANAGER`] has applied goes, if there is any; what others have written stays.
    TakeBack,
}

/// What becomes of [`FINALIZER`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum FinalizerChange {
    /// It joins the others, before the status is written.
    Add,
    /// It goes, after the status is written.
    Remove,
}
