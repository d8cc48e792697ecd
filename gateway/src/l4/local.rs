//! The VIPs that stand on no link: the machine has them by local routes.
//!
//! An address on `lo` for each makes the kernel's lists long, which are gone through one by one,
//! and its table of local routes large, which every packet is looked up in. Routes can be
//! aggregated: the fewest prefixes that cover just these addresses do the same.
//!
//! IPv4 alone: an IPv6 address can be bound only where it stands on an interface.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::kernel::Fault;

/// The shortest prefix. Routes with a shorter one are somebody else's, whatever their mark is.
const SHORTEST: u8 = 16;

/// What is asked of the kernel: one answer each.
pub(super) trait Routes {
    /// Adds routes. That they are there already is fine.
    fn add(&mut self, networks: &[Ipv4Net]) -> Vec<Result<(), Fault>>;

    /// Removes routes. That they aren't there is fine.
    fn remove(&mut self, networks: &[Ipv4Net]) -> Vec<Result<(), Fault>>;

    /// Takes a single address off `lo`. That it isn't there is fine.
    fn remove_address(&mut self, address: Ipv4Addr) -> Result<(), Fault>;
}

/// The addresses, and the routes that are there.
#[derive(Debug, Default)]
pub(super) struct Local {
    wanted: BTreeSet<Ipv4Addr>,
    routes: BTreeSet<Ipv4Net>,
    /// Single addresses on `lo`, and whether they bear the gateway's mark: versions before local
    /// routes have left them.
    single: BTreeMap<Ipv4Addr, bool>,
    /// The routes may not be what they should be.
    is_due: bool,
}

impl Local {
    /// What is there now, all of which stays until it is removed.
    pub(super) fn look(&mut self, routes: Vec<Ipv4Net>, single: BTreeMap<Ipv4Addr, bool>) {
        self.routes = routes.into_iter().filter(|net| net.prefix_len() >= SHORTEST).collect();
        self.wanted = self.routes.iter().flat_map(addresses).collect();
        self.single = single;
        self.is_due = true;
    }

    /// The addresses.
    pub(super) fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.wanted.iter().copied()
    }

    /// One more, with the next [`Local::settle`].
    pub(super) fn add(&mut self, address: Ipv4Addr) {
        self.is_due |= self.wanted.insert(address) || self.single.contains_key(&address);
    }

    /// One less, with the next [`Local::settle`].
    ///
    /// # Errors
    /// It stands on `lo` by itself, and can't be taken off.
    pub(super) fn remove(
        &mut self,
        kernel: &mut impl Routes,
        address: Ipv4Addr,
    ) -> Result<(), Fault> {
        self.is_due |= self.wanted.remove(&address);
        if self.single.contains_key(&address) {
            kernel.remove_address(address)?;
            self.single.remove(&address);
        }
        Ok(())
    }

    /// Brings the routes in line: first the new ones, then those that are not wanted any more, so
    /// that no address is missing meanwhile. Returns the addresses that no route holds then; they
    /// are no longer wanted.
    pub(super) fn settle(&mut self, kernel: &mut impl Routes) -> Vec<(Ipv4Addr, Fault)> {
        if !std::mem::take(&mut self.is_due) {
            return Vec::new();
        }
        let target = fewest(&self.wanted);
        let refused = self.add_routes(kernel, &target);
        self.remove_routes(kernel, &target, &refused);
        self.remove_single(kernel);
        let mut failed = Vec::new();
        for (network, fault) in refused {
            let left = addresses(&network).filter(|address| !self.is_held(*address));
            failed.extend(left.map(|address| (address, fault.clone())));
        }
        for (address, _) in &failed {
            self.wanted.remove(address);
        }
        failed
    }

    fn add_routes(
        &mut self,
        kernel: &mut impl Routes,
        target: &BTreeSet<Ipv4Net>,
    ) -> Vec<(Ipv4Net, Fault)> {
        let new: Vec<Ipv4Net> = target.difference(&self.routes).copied().collect();
        let mut refused = Vec::new();
        for (network, result) in new.iter().zip(kernel.add(&new)) {
            match result {
                Ok(()) => _ = self.routes.insert(*network),
                Err(fault) => refused.push((*network, fault)),
            }
        }
        refused
    }

    fn remove_routes(
        &mut self,
        kernel: &mut impl Routes,
        target: &BTreeSet<Ipv4Net>,
        refused: &[(Ipv4Net, Fault)],
    ) {
        let (mut stale, mut kept) = (Vec::new(), false);
        for network in self.routes.difference(target) {
            // It holds addresses for those that have been refused.
            let is_needed =
                refused.iter().any(|(it, _)| it.contains(network) || network.contains(it));
            kept |= is_needed;
            if !is_needed {
                stale.push(*network);
            }
        }
        self.is_due |= kept;
        for (network, result) in stale.iter().zip(kernel.remove(&stale)) {
            match result {
                Ok(()) => _ = self.routes.remove(network),
                Err(fault) => {
                    tracing::warn!(%network, %fault, "addresses stay that nothing wants");
                    self.is_due = true;
                }
            }
        }
    }

    /// Takes off single addresses that a route holds now.
    fn remove_single(&mut self, kernel: &mut impl Routes) {
        let is_ours = |(address, ours): (&Ipv4Addr, &bool)| ours.then_some(*address);
        let ours: Vec<Ipv4Addr> = self.single.iter().filter_map(is_ours).collect();
        for address in ours {
            if !self.wanted.contains(&address) || !self.is_held(address) {
                continue;
            }
            match kernel.remove_address(address) {
                Ok(()) => _ = self.single.remove(&address),
                Err(fault) => {
                    tracing::warn!(%address, %fault, "it stays on lo, beside its route");
                    self.is_due = true;
                }
            }
        }
    }

    /// Whether a route holds it.
    fn is_held(&self, address: Ipv4Addr) -> bool {
        (SHORTEST..=32).any(|length| {
            Ipv4Net::new(address, length).is_ok_and(|net| self.routes.contains(&net.trunc()))
        })
    }
}

/// All of a prefix, its first and last too.
fn addresses(network: &Ipv4Net) -> impl Iterator<Item = Ipv4Addr> + use<> {
    (network.network().to_bits()..=network.broadcast().to_bits()).map(Ipv4Addr::from_bits)
}

/// The fewest prefixes that cover these addresses and no other.
fn fewest(addresses: &BTreeSet<Ipv4Addr>) -> BTreeSet<Ipv4Net> {
    let single: Vec<Ipv4Net> = addresses.iter().map(|address| Ipv4Net::from(*address)).collect();
    let mut fewest = BTreeSet::new();
    for network in Ipv4Net::aggregate(&single) {
        match network.subnets(SHORTEST) {
            Ok(parts) => fewest.extend(parts),
            // It is as long as that.
            Err(_) => _ = fewest.insert(network),
        }
    }
    fewest
}

#[cfg(test)]
mod tests;
