//! How the watching goes.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::Serialize;

use crate::kind::Kind;

/// How the watching goes, for status, metrics and the admin API.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceState {
    /// Whether the API answers.
    pub connected: bool,
    /// Since when it does or doesn't.
    pub since: Option<SystemTime>,
    /// Why it last didn't.
    pub last_error: Option<String>,
    /// Whether all kinds have been listed once.
    pub synced: bool,
    /// Each kind.
    pub kinds: BTreeMap<Kind, KindState>,
}

/// How the watching of one kind goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KindState {
    /// Whether it has been listed.
    pub synced: bool,
    /// Whether the cluster hasn't got it.
    pub absent: bool,
    /// Whether it may not be read.
    pub denied: bool,
    /// How many objects there are.
    pub objects: usize,
    /// How often all of them were listed.
    pub lists: u64,
    /// How often a watch was begun.
    pub watches: u64,
    /// How many changes have come.
    pub events: u64,
    /// Why it last failed.
    pub last_error: Option<String>,
}
