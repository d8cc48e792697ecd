//! What others may know of the L4 plane.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use model::{Diagnostic, HostAddress};
use plan::l4::L4Plan;
use serde::Serialize;

use super::traffic::Sums;

/// What is in force, and what isn't.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// The generation that is to be in force.
    pub desired: u64,
    /// The last one that was in force as a whole.
    pub applied: u64,
    /// The first objects are in force, or have been found to be impossible.
    pub settled: bool,
    /// The part of the plan that the kernel holds: without addresses that are not on an interface.
    pub plan: Arc<L4Plan>,
    /// How far the VIPs have come.
    pub vips: Arc<BTreeMap<IpAddr, VipState>>,
    /// What is wrong.
    pub diagnostics: Vec<Diagnostic>,
    /// The revision of what is held that was acted on last, where several edges share the VIPs.
    pub acted: u64,
    /// The VIPs that are on interfaces.
    pub on: Arc<BTreeSet<IpAddr>>,
    /// The machine's own addresses, VIPs not among them.
    pub host: Arc<Vec<HostAddress>>,
}

/// How far a VIP has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VipState {
    /// Its pool.
    pub pool: String,
    /// Its interface; empty without one.
    pub interface: String,
    /// One word: `probing`, `held`, `duplicate`, `failed`, `homeless`, `elsewhere`.
    pub state: &'static str,
    /// More about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// All that is told to people and to Prometheus.
#[derive(Clone, Debug)]
pub struct Report {
    /// What is to be done.
    pub plan: Arc<L4Plan>,
    /// What is done.
    pub view: Arc<View>,
    /// What went through.
    pub sums: Sums,
}
