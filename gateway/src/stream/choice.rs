//! Choice of an endpoint for a new connection.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use model::snapshot::Algorithm;

use crate::l7::balance::schedule;
use crate::l7::upstream::{Endpoint, InFlight};

/// Endpoints of one port, and the way to choose among them.
#[derive(Debug)]
pub(crate) struct Choice {
    endpoints: Vec<Candidate>,
    way: Way,
}

#[derive(Debug)]
struct Candidate {
    endpoint: Arc<Endpoint>,
    weight: u32,
    /// What its score is hashed from.
    hash: u64,
}

#[derive(Debug)]
enum Way {
    Random,
    RoundRobin { next: AtomicUsize, schedule: Vec<u32> },
    Hash { with_port: bool },
    LeastConnections,
}

impl Choice {
    pub(crate) fn new(endpoints: Vec<(Arc<Endpoint>, u16)>, algorithm: Algorithm) -> Self {
        let way = match algorithm {
            Algorithm::Random => Way::Random,
            Algorithm::RoundRobin => {
                let weights: Vec<u16> = endpoints.iter().map(|(_, weight)| *weight).collect();
                // Another start each time, so that changes don't favour the first endpoints.
                let next = AtomicUsize::new(fastrand::usize(..1 << 16));
                Way::RoundRobin { next, schedule: schedule(&weights) }
            }
            // Rendezvous hashing is as consistent, and the same on every edge.
            Algorithm::SourceHash => Way::Hash { with_port: false },
            Algorithm::Maglev => Way::Hash { with_port: true },
            Algorithm::LeastConnections => Way::LeastConnections,
        };
        let endpoints = endpoints
            .into_iter()
            .map(|(endpoint, weight)| Candidate {
                hash: mix(hash_ip(endpoint.address.ip()) ^ u64::from(endpoint.address.port())),
                weight: u32::from(weight.max(1)),
                endpoint,
            })
            .collect();
        Self { endpoints, way }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.endpoints.iter().map(|candidate| &candidate.endpoint)
    }

    /// The endpoint with this id, if it is in rotation and not among `tried`.
    pub(crate) fn again(
        &self,
        id: u64,
        tried: &[u64],
        now_ms: u64,
    ) -> Option<(Arc<Endpoint>, InFlight)> {
        let mut all = self.endpoints().filter(|e| e.id == id);
        let endpoint = all.find(|e| !tried.contains(&e.id) && !e.is_ejected(now_ms))?;
        Some((Arc::clone(endpoint), endpoint.enter()))
    }

    /// An endpoint that is in rotation and not among `tried`; where all are out, one that has not
    /// been tried; none where all have. It counts one more.
    pub(crate) fn pick(
        &self,
        client: SocketAddr,
        tried: &[u64],
        now_ms: u64,
    ) -> Option<(Arc<Endpoint>, InFlight)> {
        let untried = |e: &Endpoint| !tried.contains(&e.id);
        let fit = |e: &Endpoint| untried(e) && !e.is_ejected(now_ms);
        self.draw(client, fit).or_else(|| self.draw(client, untried))
    }

    fn draw(
        &self,
        client: SocketAddr,
        fit: impl Fn(&Endpoint) -> bool,
    ) -> Option<(Arc<Endpoint>, InFlight)> {
        let fitting = || self.endpoints.iter().filter(|one| fit(&one.endpoint));
        let enter = |one: &Candidate| (Arc::clone(&one.endpoint), one.endpoint.enter());
        match &self.way {
            Way::Random => {
                let total: u32 = fitting().map(|one| one.weight).sum();
                let mut drawn = fastrand::u32(..total.max(1));
                fitting()
                    .find(|one| {
                        let hit = drawn < one.weight;
                        drawn = drawn.saturating_sub(one.weight);
                        hit
                    })
                    .map(enter)
            }
            Way::RoundRobin { next, schedule } => {
                // Turns of those that are out fall to whoever is next.
                let at = |i: usize| self.endpoints.get(*schedule.get(i % schedule.len())? as usize);
                let first = next.fetch_add(1, Ordering::Relaxed);
                let mut turns = (first..first.wrapping_add(schedule.len())).filter_map(at);
                turns.find(|one| fit(&one.endpoint)).map(enter)
            }
            Way::Hash { with_port } => {
                let port = if *with_port { u64::from(client.port()) } else { 0 };
                let client = mix(hash_ip(client.ip()) ^ port);
                let score = |one: &Candidate| score(mix(client ^ one.hash), one.weight);
                fitting().max_by(|a, b| score(a).total_cmp(&score(b))).map(enter)
            }
            Way::LeastConnections => loop {
                // Somebody else may take the place meanwhile: then it isn't the least any more.
                let (least, seen) = least(fitting())?;
                if let Some(guard) = least.endpoint.enter_if(seen) {
                    return Some((Arc::clone(&least.endpoint), guard));
                }
            },
        }
    }
}

/// The one with the fewest connections for its weight, with the new one counted in; ties fall at
/// random. And how many it has.
fn least<'a>(all: impl Iterator<Item = &'a Candidate>) -> Option<(&'a Candidate, u32)> {
    let mut best: Option<(&Candidate, u32)> = None;
    let mut ties = 1;
    for one in all {
        let seen = one.endpoint.inflight();
        let order = best.map_or(std::cmp::Ordering::Less, |(least, fewest)| {
            let mine = (u64::from(seen) + 1) * u64::from(least.weight);
            mine.cmp(&((u64::from(fewest) + 1) * u64::from(one.weight)))
        });
        ties = match order {
            std::cmp::Ordering::Less => 1,
            std::cmp::Ordering::Equal => ties + 1,
            std::cmp::Ordering::Greater => continue,
        };
        if fastrand::u32(..ties) == 0 {
            best = Some((one, seen));
        }
    }
    best
}

/// Weighted rendezvous hashing: the highest of these wins, in proportion to the weights.
fn score(hash: u64, weight: u32) -> f64 {
    // 53 bits are what an f64 holds; the half keeps it off 0 and 1.
    let uniform = ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -f64::from(weight) / uniform.ln()
}

fn hash_ip(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(v4) => mix(u64::from(v4.to_bits())),
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            mix(mix((bits >> 64) as u64) ^ bits as u64)
        }
    }
}

/// The finalizer of splitmix64: the same on every machine.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn choice(weights: &[u16], algorithm: Algorithm) -> Choice {
        let endpoint =
            |i: usize| Arc::new(Endpoint::new(([10, 0, 0, i as u8 + 1], 80).into(), i as u64));
        let all = weights.iter().enumerate().map(|(i, w)| (endpoint(i), *w)).collect();
        Choice::new(all, algorithm)
    }

    fn client(i: u32) -> SocketAddr {
        (std::net::Ipv4Addr::from(0xc000_0200 + i), 40_000).into()
    }

    /// How many of so many clients each endpoint gets.
    fn shares(choice: &Choice, clients: u32) -> BTreeMap<u64, u32> {
        let mut shares = BTreeMap::new();
        for i in 0..clients {
            let (endpoint, _) = choice.pick(client(i), &[], 0).unwrap();
            *shares.entry(endpoint.id).or_default() += 1;
        }
        shares
    }

    #[test]
    fn each_way_but_the_least_keeps_to_the_weights() {
        fastrand::seed(7);
        for way in
            [Algorithm::Random, Algorithm::RoundRobin, Algorithm::SourceHash, Algorithm::Maglev]
        {
            let shares = shares(&choice(&[1, 2, 5], way), 8000);
            for (id, expected) in [(0, 1000), (1, 2000), (2, 5000)] {
                let share = shares[&id];
                assert!(share.abs_diff(expected) < expected / 8, "{way:?}: {shares:?}");
            }
        }
    }

    #[test]
    fn the_same_client_comes_to_the_same_endpoint_and_only_those_of_a_removed_one_move() {
        let three = choice(&[1, 1, 1], Algorithm::SourceHash);
        for i in 0..1000 {
            let (first, _) = three.pick(client(i), &[], 0).unwrap();
            let from_elsewhere = SocketAddr::new(client(i).ip(), 50_000);
            let (again, _) = three.pick(from_elsewhere, &[], 0).unwrap();
            assert_eq!(first.id, again.id);
            let (without, _) = three.pick(client(i), &[2], 0).unwrap();
            assert_eq!(without.id == first.id, first.id != 2);
        }
    }

    #[test]
    fn maglev_looks_at_the_clients_port_too() {
        let three = choice(&[1, 1, 1], Algorithm::Maglev);
        let at = |port| SocketAddr::new(client(0).ip(), port);
        let chosen = |port| three.pick(at(port), &[], 0).unwrap().0.id;
        assert!((1..100).any(|port| chosen(port) != chosen(0)));
        assert!((0..100).all(|port| chosen(port) == chosen(port)));
    }

    #[test]
    fn the_least_connections_are_really_the_least() {
        let choice = choice(&[1, 1, 2], Algorithm::LeastConnections);
        let mut held: Vec<_> = (0..40).filter_map(|i| choice.pick(client(i), &[], 0)).collect();
        let counts = || choice.endpoints().map(|e| e.inflight()).collect::<Vec<_>>();
        assert_eq!(counts(), [10, 10, 20]);
        held.retain(|(endpoint, _)| endpoint.id != 1);
        assert_eq!(counts(), [10, 0, 20]);
        held.extend((0..10).filter_map(|i| choice.pick(client(i), &[], 0)));
        assert_eq!(counts(), [10, 10, 20]);
    }

    #[test]
    fn the_least_holds_over_threads() {
        let choice = choice(&[1; 4], Algorithm::LeastConnections);
        let held: Vec<_> = std::thread::scope(|scope| {
            let pick =
                |_| scope.spawn(|| (0..1000).map(|i| choice.pick(client(i), &[], 0)).collect());
            let threads: Vec<_> = (0..4).map(pick).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect::<Vec<Vec<_>>>()
        });
        assert_eq!(held.len(), 4);
        for endpoint in choice.endpoints() {
            assert!(endpoint.inflight().abs_diff(1000) <= 4, "{}", endpoint.inflight());
        }
    }

    #[test]
    fn what_was_tried_is_not_taken_again_and_what_is_out_only_at_last() {
        for way in [
            Algorithm::Random,
            Algorithm::RoundRobin,
            Algorithm::SourceHash,
            Algorithm::LeastConnections,
        ] {
            let choice = choice(&[1, 1], way);
            let first = choice.endpoints().next().unwrap();
            let policy =
                crate::l7::upstream::Ejection { failures: 1, time_ms: 10, max_time_ms: 10 };
            first.failed(&policy, 0);
            for i in 0..20 {
                assert_eq!(choice.pick(client(i), &[], 5).unwrap().0.id, 1, "{way:?}");
            }
            assert_eq!(choice.pick(client(0), &[1], 5).unwrap().0.id, 0, "{way:?}");
            assert!(choice.pick(client(0), &[0, 1], 5).is_none(), "{way:?}");
        }
        assert!(choice(&[], Algorithm::RoundRobin).pick(client(0), &[], 0).is_none());
    }
}
