//! What the kernel has counted, from `nft -j list table`.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::{Compiled, Counted};

/// What `nft -j list table` (or `list chain`) prints, as far as counters go: libnftables-json(5).
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Listing {
    nftables: Vec<Entry>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
struct Entry {
    rule: Option<Rule>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Rule {
    comment: Option<String>,
    #[serde(default)]
    expr: Vec<Statement>,
}

/// nft writes some statements as plain text: those that its JSON has no form for.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Statement {
    Counter { counter: Counter },
    Other(IgnoredAny),
}

impl Statement {
    fn counter(&self) -> Option<Counter> {
        if let Self::Counter { counter } = self { Some(*counter) } else { None }
    }
}

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// How many packets.
    pub packets: u64,
    /// How many bytes they have, from the IP header on.
    pub bytes: u64,
}

impl Compiled {
    /// What was counted by rule, over all chains that the rule stands in. Rules of other tables
    /// or from before the last change are left out.
    pub fn counters(&self, listing: &Listing) -> BTreeMap<Counted, Counter> {
        let mut sums: BTreeMap<Counted, Counter> = BTreeMap::new();
        for rule in listing.nftables.iter().filter_map(|entry| entry.rule.as_ref()) {
            let counted = rule.comment.as_ref().and_then(|comment| self.counted.get(comment));
            let Some(counted) = counted else { continue };
            let counters = rule.expr.iter().filter_map(Statement::counter);
            for counter in counters {
                let sum = sums.entry(counted.clone()).or_default();
                sum.packets += counter.packets;
                sum.bytes += counter.bytes;
            }
        }
        sums
    }
}
