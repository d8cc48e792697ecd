//! Where objects come from.
//!
//! A source turns what it watches into [`Delivery`]s and decides nothing. The latest one stands in
//! a [`tokio::sync::watch`] channel: who is late sees the newest state and none of those between.

use std::collections::BTreeMap;

use ingest::ObjectSet;
use model::Diagnostic;

pub mod directory;
pub mod store;

/// All objects of a source at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delivery {
    /// The objects, those in force again because their newer versions can't be read included.
    pub objects: ObjectSet,
    /// What is wrong with what was read, in the order of files.
    pub diagnostics: Vec<Diagnostic>,
    /// How many objects of which kinds were left alone: `apps/v1 Deployment`.
    pub ignored: BTreeMap<String, usize>,
}
