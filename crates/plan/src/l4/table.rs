//! The nftables table of the L4 plane.
//!
//! Laid out flat, so that a Service costs elements and no rules: a connection's destination leads
//! to the number of a Service's port (`frontends*`, `node_ports`), that to a chain that draws a
//! slot's number (`services*`), and both numbers to an endpoint (`slots*`). Chains are shared by
//! all ports that draw alike. The number is kept in the packet's priority between these steps;
//! forwarding sets that anew, and nothing is read from it later.

use std::collections::{BTreeMap, BTreeSet};

use model::AlbKind;
use model::settings::L4Settings;

use crate::nft::Table;

use super::hash::fnv;
use super::{L4Plan, PortPlan, ServicePlan};

mod builder;
mod rules;
mod ruleset;
#[cfg(test)]
mod tests;

use builder::Builder;
pub use ruleset::{Ruleset, Step};

/// The TCP ports that each ALB serves on its addresses out of pools.
pub type AlbPorts = BTreeMap<AlbKind, Vec<u16>>;

/// The seed of all hashes in the kernel: the same everywhere, so that every edge chooses alike.
pub const SEED: u32 = 0x7469_6465;

/// The table that does what the plan says.
pub fn table(plan: &L4Plan, settings: &L4Settings, alb_ports: &AlbPorts) -> Table {
    let mut builder = Builder::default();
    builder.plan(plan, alb_ports);
    builder.finish(settings)
}

/// Every port of every Service with its number: stable as long as the port exists, and not below
/// 2³¹, where no program sets a packet's priority.
pub fn numbered(plan: &L4Plan) -> impl Iterator<Item = (&ServicePlan, &PortPlan, u32)> {
    let mut taken = BTreeSet::new();
    let ports =
        plan.services.iter().flat_map(|service| service.ports.iter().map(move |p| (&**service, p)));
    ports.map(move |(service, port)| {
        let name = format!("{}/{}/{}", service.service, port.protocol.lower(), port.number);
        let mut number = fnv(name.as_bytes(), 0) as u32 | 0x8000_0000;
        // The last has a name of its own for nft.
        while number == u32::MAX || !taken.insert(number) {
            number = number.wrapping_add(1) | 0x8000_0000;
        }
        (service, port, number)
    })
}
