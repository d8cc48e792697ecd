//! An nftables table as data: what the L4 plane and the policies want the kernel to hold.
//!
//! **What it is:** chains with their rules and sets with their elements, for one table of our own
//! (`inet tidegate`); [`Table::load`] is the text that brings it up whole, [`Table::change_from`]
//! the text that leads from one table to another, and touches only what differs. Either is one
//! transaction of `nft -f -`. Syntax: nft(8), of version 1.0.6 or later.
//!
//! **What it is not:** the decision what stands in it (`l4`, `policy`), or what applies it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

mod change;
mod flat;
#[cfg(test)]
mod tests;

pub use flat::{Flat, FlatBuilder, Key, Value, id};

/// The table's family and name.
pub const TABLE: &str = "inet tidegate";
/// Bit of the packet mark: a policy before translation has allowed the packet for good, and no
/// later one is asked (Calico's meaning of Allow).
pub const MARK_ACCEPTED: u32 = 0x1000_0000;
/// Bit of the packet mark: the source address becomes the edge's on the way out.
pub const MARK_MASQUERADE: u32 = 0x2000_0000;

/// A table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Sets and maps, by name.
    pub sets: BTreeMap<String, Set>,
    /// Chains, by name.
    pub chains: BTreeMap<String, Chain>,
    /// Sets and maps that grow with the number of Services, by name. None has a name that is
    /// also in `sets`.
    pub flat: BTreeMap<String, Flat>,
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// The hook that calls it, as in `type nat hook prerouting priority -100; policy accept;`;
    /// none for a chain that others jump to.
    pub hook: Option<String>,
    /// Its rules, each one line of nft's text.
    pub rules: Vec<String>,
}

/// A set, or a map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// Whether its elements have values.
    pub is_map: bool,
    /// What stands in it before the elements, without `elements`: `type ipv4_addr; flags interval;`.
    pub head: String,
    /// The kernel adds elements itself (`flags dynamic`): they are not compared and survive changes.
    pub dynamic: bool,
    /// Its elements: key, and value or nothing.
    pub elements: BTreeMap<String, String>,
}

/// Elements of dynamic sets that go with the replacing transaction, by set: each one line of nft's
/// text, such as `192.0.2.1 . 8000:1 timeout 60s expires 30s : 8:1`.
pub type Carried = BTreeMap<String, Vec<String>>;

impl Table {
    /// The text that brings the whole table up, in the place of one that may be there already.
    pub fn load(&self) -> String {
        self.load_with(&Carried::new())
    }

    /// As [`Self::load`]; dynamic sets begin with these elements. Those of sets that the table
    /// hasn't are left out.
    pub fn load_with(&self, carried: &Carried) -> String {
        let elements: usize = self.flat.values().map(Flat::len).sum();
        let mut text = String::with_capacity(4096 + elements * 48);
        // Only a table that is there can be deleted.
        let _ = write!(text, "add table {TABLE}\ndelete table {TABLE}\n");
        let _ = writeln!(text, "table {TABLE} {{");
        for (name, set) in &self.sets {
            open_set(&mut text, set.kind(), name, &set.head);
            let extra = carried.get(name).filter(|_| set.dynamic).into_iter().flatten();
            let own = set.elements.iter().map(|(key, value)| element(key, value));
            write_elements(&mut text, own.chain(extra.cloned()));
            text.push_str("\t}\n\n");
        }
        for (name, flat) in &self.flat {
            open_set(&mut text, flat.kind(), name, &flat.head);
            text.push_str("\t}\n\n");
        }
        for (name, chain) in &self.chains {
            let _ = writeln!(text, "\tchain {name} {{");
            for line in chain.hook.iter().chain(&chain.rules) {
                let _ = writeln!(text, "\t\t{line}");
            }
            text.push_str("\t}\n\n");
        }
        text.push_str("}\n");
        // Behind the rules: for each rule that uses a map the kernel walks all elements that are
        // in it already.
        for (name, flat) in self.flat.iter().filter(|(_, flat)| !flat.is_empty()) {
            let _ = write!(text, "add element {TABLE} {name} {{\n\t");
            flat.write(&mut text, ",\n\t");
            text.push_str("\n}\n");
        }
        text
    }

    /// Adds another table's sets and chains. Where a chain is in both, the other's rules come
    /// after; where a set is in both, it gets the other's elements too.
    pub fn merge(&mut self, other: Self) {
        for (name, set) in other.sets {
            match self.sets.entry(name) {
                std::collections::btree_map::Entry::Vacant(vacant) => {
                    vacant.insert(set);
                }
                std::collections::btree_map::Entry::Occupied(mut own) => {
                    own.get_mut().elements.extend(set.elements);
                }
            }
        }
        for (name, chain) in other.chains {
            let own = self.chains.entry(name).or_default();
            own.hook = own.hook.take().or(chain.hook);
            own.rules.extend(chain.rules);
        }
        self.flat.extend(other.flat);
    }
}

impl Set {
    /// `map` or `set`, as nft's commands have it.
    fn kind(&self) -> &'static str {
        if self.is_map { "map" } else { "set" }
    }
}

fn open_set(text: &mut String, kind: &str, name: &str, head: &str) {
    let _ = writeln!(text, "\t{kind} {name} {{\n\t\t{head}");
}

fn element(key: &str, value: &str) -> String {
    if value.is_empty() { key.to_owned() } else { format!("{key} : {value}") }
}

fn write_elements(text: &mut String, elements: impl Iterator<Item = String>) {
    let mut first = true;
    for element in elements {
        text.push_str(if first { "\t\telements = {\n\t\t\t" } else { ",\n\t\t\t" });
        text.push_str(&element);
        first = false;
    }
    if !first {
        text.push_str("\n\t\t}\n");
    }
}
