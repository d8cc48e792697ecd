//! A double of the Kubernetes API server, for tests and for trying things out: real HTTP for the
//! real clients (kube, kubectl).
//!
//! **What it is:** one process or thread with everything in memory, faithful in what a client can
//! go wrong with: one counter of versions over everything, lists with pages and versions, watches
//! with order, selectors, bookmarks and compaction, streaming lists, optimistic locking, status
//! subresources, generations, finalizers, server-side apply with managedFields and conflicts,
//! Tables for kubectl, and faults on demand.
//!
//! **What it is not:** a cluster. No controllers run (no EndpointSlices come of Services, nothing
//! is collected as garbage but a namespace's objects), no admission webhooks, no TLS, and
//! protobuf only as far as kubectl's `create` and `auth` send it. Roles are enforced only where [`Options::rbac`] says so; else everything
//! is allowed that no [`Denial`] denies. Of the
//! defaults only those that clients count on are filled in (Services' addresses and ports,
//! Secrets' types). Of custom kinds' schemas, types, enumerations, bounds and required fields are
//! checked; patterns, formats and CEL rules are not, and versions of one kind are not converted.
//!
//! kubectl sends no token over plain HTTP, so that it is always the administrator.
//!
//! API reference: <https://kubernetes.io/docs/reference/using-api/api-concepts/>.

mod access;
mod admit;
mod apply;
mod body;
mod calico;
mod control;
mod discovery;
mod double;
mod events;
mod faults;
mod fields;
mod form;
mod kinds;
mod list;
mod listen;
mod manifest;
mod object;
mod patch;
mod protobuf;
mod rbac;
mod refusal;
mod request;
mod schema;
mod selector;
mod serve;
mod shape;
mod store;
mod table;
mod typed;
mod watch;
mod write;

pub use access::{Denial, User};
pub use double::{Double, Options, StartError};
pub use faults::{Counter, Effect, Fault};
pub use manifest::LoadError;
pub use refusal::Refusal;
