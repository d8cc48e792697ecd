//! An nftables table as data: what the L4 plane and the policies want the kernel to hold.
//!
//! **What it is:** chains with their rules and sets with their elements, for one table of our own
//! (`inet tidegate`); [`Table::load`] is the text that brings it up whole, [`Table::change_from`]
//! the text that leads from one table to another, and touches only what differs. Either is one
//! transaction of `nft -f -`. Syntax: nft(8), of version 1.0.6 or later.
//!
//! **What it is not:** the decision what stands in it (`l4`, `policy`), or what applies it.

use std::collections::BTreeMap;

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
