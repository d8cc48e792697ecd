//! Which child a packet is for.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::child::Child;
use super::prefix::{Prefix, bits};

/// All policies. Found by the longest prefix that has the destination, and of those the longest
/// that has the source.
#[derive(Debug, Default)]
pub(super) struct Policies {
    v4: Table,
    v6: Table,
}

/// Policies of one family, by destination.
#[derive(Debug, Default)]
struct Table {
    /// The masks that there are, longest first.
    masks: Vec<u128>,
    by_destination: HashMap<(u128, u128), Vec<Candidate>, foldhash::fast::FixedState>,
}

/// A policy for a destination.
#[derive(Debug)]
struct Candidate {
    local: Prefix,
    /// Where packets may come from besides; all if none.
    sources: Option<Arc<[Prefix]>>,
    child: Arc<Child>,
}

impl Policies {
    /// With all of these: a child, its networks, and where packets may come from.
    pub(super) fn new<'a>(all: impl Iterator<Item = (Arc<Child>, &'a plan::vpn::Policy)>) -> Self {
        let mut policies = Self::default();
        for (child, policy) in all {
            let sources: Option<Arc<[Prefix]>> = policy
                .sources
                .as_ref()
                .map(|sources| sources.iter().copied().map(Prefix::new).collect());
            for remote in &policy.remote {
                policies.table(*remote).insert(*remote, &policy.local, sources.as_ref(), &child);
            }
        }
        policies.v4.sort();
        policies.v6.sort();
        policies
    }

    fn table(&mut self, network: IpNet) -> &mut Table {
        match network {
            IpNet::V4(_) => &mut self.v4,
            IpNet::V6(_) => &mut self.v6,
        }
    }

    /// The child that a packet is for.
    #[inline]
    pub(super) fn find(&self, source: IpAddr, destination: IpAddr) -> Option<&Arc<Child>> {
        let table = if destination.is_ipv4() { &self.v4 } else { &self.v6 };
        let number = bits(destination);
        table.masks.iter().find_map(|mask| {
            let candidates = table.by_destination.get(&(number & mask, *mask))?;
            let fits = |candidate: &&Candidate| {
                candidate.local.contains(source)
                    && candidate.sources.as_ref().is_none_or(|sources| {
                        sources.iter().any(|allowed| allowed.contains(source))
                    })
            };
            candidates.iter().find(fits).map(|candidate| &candidate.child)
        })
    }
}

impl Table {
    fn insert(
        &mut self,
        remote: IpNet,
        local: &[IpNet],
        sources: Option<&Arc<[Prefix]>>,
        child: &Arc<Child>,
    ) {
        let key = Prefix::new(remote).key();
        let candidates = self.by_destination.entry(key).or_default();
        let local = local.iter().filter(|network| network.addr().is_ipv4() == is_ipv4(remote));
        candidates.extend(local.map(|network| Candidate {
            local: Prefix::new(*network),
            sources: sources.cloned(),
            child: Arc::clone(child),
        }));
        if !self.masks.contains(&key.1) {
            self.masks.push(key.1);
        }
    }

    fn sort(&mut self) {
        self.masks.sort_unstable_by(|a, b| b.cmp(a));
        for candidates in self.by_destination.values_mut() {
            // Of equals those of the first connection come first: the order that they came in.
            candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.local.key().1));
        }
    }
}

fn is_ipv4(network: IpNet) -> bool {
    matches!(network, IpNet::V4(_))
}

#[cfg(test)]
mod tests {
    use plan::vpn::Policy;

    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn policy(local: &[&str], remote: &[&str], sources: Option<&[&str]>) -> Policy {
        Policy {
            child: "c".to_owned(),
            local: nets(local),
            remote: nets(remote),
            local_nat: Vec::new(),
            remote_nat: Vec::new(),
            sources: sources.map(nets),
            local_selectors: nets(local),
            remote_selectors: nets(remote),
        }
    }

    fn child(name: &str) -> Arc<Child> {
        Arc::new(Child::new("ns/c".into(), name.into(), 1))
    }

    fn found(policies: &Policies, source: &str, destination: &str) -> Option<String> {
        let found = policies.find(source.parse().unwrap(), destination.parse().unwrap());
        found.map(|child| child.name.to_string())
    }

    #[test]
    fn the_longest_destination_and_then_the_longest_source_counts() {
        let wide = policy(&["10.0.0.0/8", "fd00::/8"], &["192.168.0.0/16", "2001:db8::/32"], None);
        let narrow = policy(&["10.0.0.0/8"], &["192.168.7.0/24"], None);
        let host = policy(&["10.1.1.1/32"], &["192.168.7.0/24"], None);
        let all = [(child("wide"), &wide), (child("narrow"), &narrow), (child("host"), &host)];
        let policies = Policies::new(all.into_iter());
        let found = |source, destination| found(&policies, source, destination);
        assert_eq!(found("10.1.1.2", "192.168.1.1").as_deref(), Some("wide"));
        assert_eq!(found("10.1.1.2", "192.168.7.1").as_deref(), Some("narrow"));
        assert_eq!(found("10.1.1.1", "192.168.7.1").as_deref(), Some("host"));
        assert_eq!(found("fd00::1", "2001:db8::1").as_deref(), Some("wide"));
        assert_eq!(found("11.1.1.1", "192.168.7.1"), None);
        assert_eq!(found("10.1.1.1", "192.169.7.1"), None);
        assert_eq!(found("fd00::1", "2001:db9::1"), None);
    }

    #[test]
    fn connections_of_zones_share_a_network() {
        let east = policy(&["10.0.0.0/8"], &["192.168.0.0/16"], Some(&["10.1.0.0/16"]));
        let west = policy(&["10.0.0.0/8"], &["192.168.0.0/16"], Some(&["10.2.0.0/16"]));
        let all = [(child("east"), &east), (child("west"), &west)];
        let policies = Policies::new(all.into_iter());
        assert_eq!(found(&policies, "10.2.0.1", "192.168.1.1").as_deref(), Some("west"));
        assert_eq!(found(&policies, "10.1.0.1", "192.168.1.1").as_deref(), Some("east"));
        assert_eq!(found(&policies, "10.3.0.1", "192.168.1.1"), None);
    }
}
