//! Which endpoint stands in which slot.
//!
//! The kernel draws a slot's number, by chance, in turn or by a hash, and the slot holds an
//! endpoint. Shares are thus exact to the number of slots.

use std::net::{IpAddr, SocketAddr};

use model::snapshot::{Algorithm, Endpoint};

use super::PortPlan;
use super::hash::{fnv, jhash_mod};
use super::table::SEED;

/// The most slots of a port that isn't hashed, unless it has more endpoints than that.
pub const MAX_SLOTS: usize = 256;

/// Sizes of hashed ports' tables, all prime: the size depends on the number of endpoints so
/// coarsely that it seldom changes when one of them comes or goes.
const TABLE_SIZES: [(usize, usize); 4] = [(12, 251), (50, 1021), (200, 4093), (usize::MAX, 16_381)];

/// The slots of a port for clients of one family; none if it has no endpoint of that family.
pub fn slots(port: &PortPlan, v6: bool) -> Vec<SocketAddr> {
    let endpoints: Vec<&Endpoint> =
        port.endpoints.iter().filter(|endpoint| endpoint.address.is_ipv6() == v6).collect();
    if endpoints.is_empty() {
        return Vec::new();
    }
    match port.algorithm {
        // The last never comes here: it needs user space.
        Algorithm::Random | Algorithm::LeastConnections => repeated(&endpoints),
        Algorithm::RoundRobin => interleaved(&endpoints),
        Algorithm::SourceHash | Algorithm::Maglev => maglev(&endpoints),
    }
}

/// The endpoint that a client is sent to, where a hash decides; none if it is chance, turns, or
/// there is no endpoint.
pub fn chosen(port: &PortPlan, client: SocketAddr) -> Option<SocketAddr> {
    let mut key = match client.ip() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    match port.algorithm {
        Algorithm::SourceHash => {}
        Algorithm::Maglev => {
            key.extend(client.port().to_be_bytes());
            // Each field of the kernel's key begins with a new word.
            key.extend([0, 0]);
        }
        Algorithm::Random | Algorithm::RoundRobin | Algorithm::LeastConnections => return None,
    }
    let slots = slots(port, client.is_ipv6());
    let slot = jhash_mod(&key, u32::try_from(slots.len()).ok()?, SEED);
    slots.get(slot as usize).copied()
}

/// How many slots each endpoint gets, in their order.
fn shares(endpoints: &[&Endpoint]) -> Vec<usize> {
    let weights = || endpoints.iter().map(|endpoint| usize::from(endpoint.weight.max(1)));
    let divisor = weights().fold(0, gcd).max(1);
    let mut shares: Vec<usize> = weights().map(|weight| weight / divisor).collect();
    let total: usize = shares.iter().sum();
    if total > MAX_SLOTS {
        for share in &mut shares {
            *share = ((*share * MAX_SLOTS + total / 2) / total).max(1);
        }
        // Rounding up may have made too many: the largest can spare them best.
        let mut excess = shares.iter().sum::<usize>().saturating_sub(MAX_SLOTS);
        while excess > 0 {
            let Some(largest) = shares.iter_mut().filter(|share| **share > 1).max() else { break };
            *largest -= 1;
            excess -= 1;
        }
    }
    shares
}

fn repeated(endpoints: &[&Endpoint]) -> Vec<SocketAddr> {
    let shares = shares(endpoints);
    let each = endpoints.iter().zip(shares);
    each.flat_map(|(endpoint, share)| std::iter::repeat_n(endpoint.address, share)).collect()
}

/// Each endpoint's slots as far from one another as can be.
fn interleaved(endpoints: &[&Endpoint]) -> Vec<SocketAddr> {
    let shares = shares(endpoints);
    let mut placed = Vec::with_capacity(shares.iter().sum());
    for (endpoint, share) in endpoints.iter().zip(shares) {
        // In the middle of its part of the round; in 2^32nds, so that it is exact enough.
        placed.extend(
            (0..share as u64).map(|turn| (((2 * turn + 1) << 31) / share as u64, endpoint.address)),
        );
    }
    placed.sort();
    placed.into_iter().map(|(_, address)| address).collect()
}

/// A table after Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer"
/// (NSDI 2016), section 3.4, with weights: in each round an endpoint takes as many slots as its
/// share. When one endpoint goes, nearly only its own slots change hands.
fn maglev(endpoints: &[&Endpoint]) -> Vec<SocketAddr> {
    let fits = |(most, _): &&(usize, usize)| endpoints.len() <= *most;
    let size = TABLE_SIZES.iter().find(fits).map_or(16_381, |(_, size)| *size);
    let size = size as u64;
    struct Walk {
        address: SocketAddr,
        share: usize,
        next: u64,
        skip: u64,
    }
    let mut walks: Vec<Walk> = endpoints
        .iter()
        .zip(shares(endpoints))
        .map(|(endpoint, share)| {
            let name = endpoint.address.to_string();
            Walk {
                address: endpoint.address,
                share,
                next: fnv(name.as_bytes(), 1) % size,
                skip: fnv(name.as_bytes(), 2) % (size - 1) + 1,
            }
        })
        .collect();
    let mut table: Vec<Option<SocketAddr>> = vec![None; size as usize];
    let mut left = table.len();
    while left > 0 {
        for walk in &mut walks {
            for _ in 0..walk.share.min(left) {
                // The size is prime, so the walk comes by every slot.
                while table.get(walk.next as usize).is_some_and(Option::is_some) {
                    walk.next = (walk.next + walk.skip) % size;
                }
                if let Some(slot) = table.get_mut(walk.next as usize) {
                    *slot = Some(walk.address);
                }
                left -= 1;
            }
        }
    }
    table.into_iter().flatten().collect()
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use model::net::Protocol;

    use super::super::Path;
    use super::*;

    fn port(algorithm: Algorithm, weights: &[u16]) -> PortPlan {
        let endpoints = weights.iter().enumerate().map(|(i, weight)| Endpoint {
            address: SocketAddr::from(([10, 0, (i >> 8) as u8, i as u8], 80)),
            weight: *weight,
            terminating: false,
            local: true,
        });
        PortPlan {
            name: String::new(),
            protocol: Protocol::Tcp,
            number: 80,
            frontends: Vec::new(),
            endpoints: endpoints.collect(),
            only_remote: false,
            algorithm,
            path: Path::Kernel,
        }
    }

    fn counts(slots: &[SocketAddr]) -> Vec<usize> {
        let mut counts = BTreeMap::new();
        slots.iter().for_each(|slot| *counts.entry(slot).or_insert(0) += 1);
        counts.into_values().collect()
    }

    #[test]
    fn weights_are_shares_in_lowest_terms() {
        for (weights, expected) in [
            (&[1, 1, 1][..], &[1, 1, 1][..]),
            (&[100, 50], &[2, 1]),
            (&[7], &[1]),
            (&[60_000, 1], &[255, 1]),
            (&[0, 2], &[1, 2]),
        ] {
            let slots = slots(&port(Algorithm::Random, weights), false);
            assert_eq!(counts(&slots), expected, "{weights:?}");
        }
    }

    #[test]
    fn more_endpoints_than_slots_get_one_each() {
        let weights: Vec<u16> = (1..=300).collect();
        let slots = slots(&port(Algorithm::Random, &weights), false);
        assert_eq!(counts(&slots), vec![1; 300]);
    }

    #[test]
    fn turns_of_a_heavy_endpoint_are_spread() {
        let slots = slots(&port(Algorithm::RoundRobin, &[2, 1, 1]), false);
        let last: Vec<u8> =
            slots.iter().map(|slot| slot.to_string().as_bytes()[7] - b'0').collect();
        assert_eq!(last, [0, 1, 2, 0]);
    }

    #[test]
    fn endpoints_of_the_other_family_have_no_slots() {
        assert!(slots(&port(Algorithm::Random, &[1]), true).is_empty());
    }

    #[test]
    fn hashed_shares_follow_weights() {
        let slots = slots(&port(Algorithm::Maglev, &[3, 1]), false);
        assert_eq!(slots.len(), 251);
        let counts = counts(&slots);
        assert!((186..=190).contains(&counts[0]), "{counts:?}");
    }

    #[test]
    fn removing_an_endpoint_moves_nearly_only_its_own_share() {
        for count in [2_usize, 3, 5, 10, 12, 30, 100] {
            let mut before = port(Algorithm::SourceHash, &vec![1; count]);
            let old = slots(&before, false);
            for gone in (0..count).step_by(count.div_ceil(5)) {
                let mut left = before.endpoints.to_vec();
                let address = left.remove(gone).address;
                let all = std::mem::replace(&mut before.endpoints, left.into());
                let new = slots(&before, false);
                before.endpoints = all;
                if new.len() != old.len() {
                    continue; // another class of size
                }
                let moved = old.iter().zip(&new).filter(|(was, is)| was != is);
                let others = moved.filter(|(was, _)| **was != address).count();
                assert!(others * 100 <= old.len() * 8, "{count} {gone}: {others} of {}", old.len());
            }
        }
    }
}
