//! What a Service had stays reserved for it while it exists but is not of type LoadBalancer.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::snapshot::Exposure;
use model::{ObjectKey, Snapshot};

use super::super::super::Allocations;
use super::{Allocator, Holdings};

/// The addresses of Services that exist but get no VIPs, by Service.
pub(super) fn absent(snapshot: &Snapshot, previous: &Allocations) -> BTreeMap<String, Vec<IpAddr>> {
    let is_absent = |name: &str, addresses: &[IpAddr]| {
        let key = name.split_once('/').map(|(namespace, name)| ObjectKey::new(namespace, name));
        let Some(service) = key.and_then(|key| snapshot.services.get(&key)) else { return false };
        match &service.exposure {
            Some(exposure) => !exposure.load_balancer && exposure.refused.is_none(),
            // What a broken one had as a VIP it goes on to have, but it gets none by breaking.
            None if service.broken.is_some() => {
                let mut vips = previous.vips.iter().map(|vip| vip.address);
                !vips.any(|vip| addresses.contains(&vip))
            }
            None => true,
        }
    };
    let all = previous.services.iter().filter(|(name, has)| is_absent(name, has));
    all.map(|(name, has)| (name.clone(), has.clone())).collect()
}

/// The addresses that are reserved, and the sharing key of those for whom.
pub(super) fn awaited(
    absent: &BTreeMap<String, Vec<IpAddr>>,
    previous: &Allocations,
) -> BTreeMap<IpAddr, Option<String>> {
    let all = absent.iter().flat_map(|(name, addresses)| {
        let key = previous.asked.get(name).and_then(|asked| asked.sharing_key.clone());
        addresses.iter().map(move |address| (*address, key.clone()))
    });
    all.collect()
}

impl Holdings {
    pub(super) fn is_absent(&self, name: &str) -> bool {
        self.absent.contains_key(name)
    }
}

impl Allocator<'_, '_> {
    /// Whether an address is reserved for somebody who doesn't share it with such a Service.
    pub(super) fn is_awaited(&self, exposure: &Exposure, address: IpAddr) -> bool {
        self.awaited.get(&address).is_some_and(|key| key.is_none() || *key != exposure.sharing_key)
    }

    /// Keeps from everybody what is reserved for Services that get no VIPs now. What others share
    /// with one of them they go on to have.
    pub(super) fn reserve(&mut self) {
        let mut free = BTreeMap::new();
        for (name, addresses) in &self.holdings.absent {
            for address in addresses {
                if !self.holdings.holders.contains_key(address) {
                    free.entry(*address).or_insert_with(|| name.clone());
                }
            }
        }
        for address in free.keys() {
            self.count(*address);
        }
        self.holdings.reserved = free;
    }
}
