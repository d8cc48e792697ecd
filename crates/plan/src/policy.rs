//! Calico's host policies, as rules of the kernel and as a judgement on one packet.
//!
//! **What it is:** [`compile`] turns the policies into chains of [`nft`](crate::nft), [`evaluate`]
//! says from the same objects, without any chain, what becomes of a packet and why. Meaning:
//! Calico's reference for GlobalNetworkPolicy and HostEndpoint.
//!
//! What a packet meets, in this order:
//! 1. [`Stage::Prerouting`]: `preDNAT` policies of the endpoint that it comes in by. What none
//!    allows or denies goes on. What one allows isn't asked of any ingress policy again.
//! 2. If it is for a local process, [`Stage::Input`]; if it is forwarded, [`Stage::ForwardIn`] of
//!    the endpoint that it comes in by and [`Stage::ForwardOut`] of the one that it leaves by
//!    (policies with `applyOnForward`); if it is from a local process, [`Stage::Output`].
//!
//! Connections under way, neighbour discovery, fail-safe ports (before translation and of local
//! processes) and the loopback interface are never asked about. Packets that connection tracking
//! finds invalid are dropped where a policy would be asked, as Calico does.

use std::collections::BTreeMap;
use std::fmt;

use model::snapshot::policy::{Direction, Policies};
use model::{Diagnostic, HostAddress, L4Settings};
use serde::Serialize;

use crate::nft::Table;

mod chains;
mod counters;
mod evaluate;
mod rules;
mod scope;

pub use counters::{Counter, Listing};
pub use evaluate::{
    Decision, Packet, Path, Reason, StageDecision, State, Translated, Verdict, evaluate,
};

/// A point at which policies are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Of everything that comes in, before translation.
    Prerouting,
    /// Of what is for local processes.
    Input,
    /// Of what is forwarded, by the endpoint that it comes in by.
    ForwardIn,
    /// Of what is forwarded, by the endpoint that it leaves by.
    ForwardOut,
    /// Of what local processes send.
    Output,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Prerouting, Self::Input, Self::ForwardIn, Self::ForwardOut, Self::Output];

    /// Whose rules are asked.
    pub fn direction(self) -> Direction {
        match self {
            Self::Prerouting | Self::Input | Self::ForwardIn => Direction::Ingress,
            Self::ForwardOut | Self::Output => Direction::Egress,
        }
    }

    fn short(self) -> &'static str {
        match self {
            Self::Prerouting => "pre",
            Self::Input => "in",
            Self::ForwardIn => "fin",
            Self::ForwardOut => "fout",
            Self::Output => "out",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prerouting => "before translation",
            Self::Input => "to local processes",
            Self::ForwardIn => "forwarded, coming in",
            Self::ForwardOut => "forwarded, going out",
            Self::Output => "from local processes",
        })
    }
}

/// The policies as rules of the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// Chains and sets whose names begin with `policy_`; nothing if no HostEndpoint is ours.
    pub table: Table,
    /// What each rule with a counter stands for, by the rule's comment.
    pub counted: BTreeMap<String, Counted>,
}

/// What a counter counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Counted {
    /// Packets that a policy's rule matched.
    Rule {
        /// The policy.
        policy: String,
        /// Which of its lists.
        direction: Direction,
        /// The index in it.
        index: usize,
    },
    /// Packets that were dropped since nothing allowed them.
    Unmatched {
        /// The HostEndpoint.
        endpoint: String,
        /// Where.
        stage: Stage,
    },
    /// Packets that were dropped since connection tracking finds them invalid.
    Invalid {
        /// The HostEndpoint.
        endpoint: String,
    },
}

/// The chains and sets for the HostEndpoints of this machine. `host` are its addresses, for
/// HostEndpoints that don't name their interface.
pub fn compile(
    policies: &Policies,
    settings: &L4Settings,
    host: &[HostAddress],
) -> (Compiled, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let scope = scope::Scope::new(policies, settings, host, &mut diagnostics);
    let compiled = chains::chains(&scope, settings, &mut diagnostics);
    diagnostics.sort();
    diagnostics.dedup();
    (compiled, diagnostics)
}

#[cfg(test)]
mod tests;
