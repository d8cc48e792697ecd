//! Choice of an endpoint.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use plan::l7::Balance;

use super::upstream::Endpoint;

/// The longest schedule for weighted round robin; larger sums of weights are scaled down to it.
const SCHEDULE: u32 = 4096;

/// A Service's endpoints, and the way to choose among them.
#[derive(Debug)]
pub(crate) struct Backend {
    endpoints: Arc<[Arc<Endpoint>]>,
    choice: Choice,
}

#[derive(Debug)]
enum Choice {
    /// Two at random, the less loaded one.
    LeastRequests,
    /// As before; running sums of the weights.
    WeightedLeastRequests(Arc<[u32]>),
    RoundRobin {
        next: AtomicUsize,
    },
    /// Positions in an order where each endpoint's turns are spread evenly.
    WeightedRoundRobin {
        next: AtomicUsize,
        schedule: Arc<[u32]>,
    },
}

impl Backend {
    pub(crate) fn new(endpoints: Vec<(Arc<Endpoint>, u16)>, balance: Balance) -> Self {
        let (endpoints, weights): (Vec<_>, Vec<u16>) = endpoints.into_iter().unzip();
        let even = weights.windows(2).all(|pair| pair[0] == pair[1]);
        // Each generation starts at another place, so that frequent changes don't favour the
        // first endpoints.
        let next = AtomicUsize::new(fastrand::usize(..1 << 16));
        let choice = match (balance, even) {
            (Balance::LeastRequests, true) => Choice::LeastRequests,
            (Balance::LeastRequests, false) => Choice::WeightedLeastRequests(
                weights
                    .iter()
                    .scan(0u32, |sum, weight| {
                        *sum += u32::from((*weight).max(1));
                        Some(*sum)
                    })
                    .collect(),
            ),
            (Balance::RoundRobin, true) => Choice::RoundRobin { next },
            (Balance::RoundRobin, false) => {
                Choice::WeightedRoundRobin { next, schedule: schedule(&weights).into() }
            }
        };
        Self { endpoints: endpoints.into(), choice }
    }

    /// The same for the next table: turns go on from where they are.
    pub(crate) fn again(&self) -> Self {
        let on = |next: &AtomicUsize| AtomicUsize::new(next.load(Ordering::Relaxed));
        let choice = match &self.choice {
            Choice::LeastRequests => Choice::LeastRequests,
            Choice::WeightedLeastRequests(sums) => Choice::WeightedLeastRequests(Arc::clone(sums)),
            Choice::RoundRobin { next } => Choice::RoundRobin { next: on(next) },
            Choice::WeightedRoundRobin { next, schedule } => {
                Choice::WeightedRoundRobin { next: on(next), schedule: Arc::clone(schedule) }
            }
        };
        Self { endpoints: Arc::clone(&self.endpoints), choice }
    }

    /// All of its endpoints.
    pub(crate) fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    #[cfg(test)]
    pub(crate) fn addresses(&self) -> Vec<std::net::SocketAddr> {
        self.endpoints.iter().map(|endpoint| endpoint.address).collect()
    }

    /// Whether there is nothing to choose from.
    pub(crate) fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    /// An endpoint that is in rotation and not among `tried`; where all are out, any that has not
    /// been tried; none where all have.
    pub(crate) fn pick(&self, tried: &[u64], now_ms: u64) -> Option<&Arc<Endpoint>> {
        let fit =
            |endpoint: &Endpoint| !tried.contains(&endpoint.id) && !endpoint.is_ejected(now_ms);
        if let [only] = &*self.endpoints {
            return (!tried.contains(&only.id)).then_some(only);
        }
        if let Some(endpoint) = self.draw(fit) {
            return Some(endpoint);
        }
        // Unlucky draws or few left: look at all, from a random place on.
        let from = fastrand::usize(..self.endpoints.len().max(1));
        let around = || self.endpoints[from..].iter().chain(&self.endpoints[..from]);
        around().find(|e| fit(e)).or_else(|| around().find(|e| !tried.contains(&e.id)))
    }

    fn draw(&self, fit: impl Fn(&Endpoint) -> bool) -> Option<&Arc<Endpoint>> {
        let n = self.endpoints.len();
        match &self.choice {
            _ if n == 0 => None,
            Choice::LeastRequests => {
                let first = fastrand::usize(..n);
                let second = (first + 1 + fastrand::usize(..n - 1)) % n;
                self.less_loaded(first, second, fit)
            }
            Choice::WeightedLeastRequests(sums) => {
                let total = sums.last().copied().unwrap_or(1);
                let at = || {
                    let drawn = fastrand::u32(..total);
                    sums.partition_point(|sum| *sum <= drawn)
                };
                self.less_loaded(at(), at(), fit)
            }
            Choice::RoundRobin { next } => {
                let at = next.fetch_add(1, Ordering::Relaxed) % n;
                self.endpoints.get(at).filter(|e| fit(e))
            }
            Choice::WeightedRoundRobin { next, schedule } => {
                let at = next.fetch_add(1, Ordering::Relaxed) % schedule.len().max(1);
                let at = schedule.get(at).copied()? as usize;
                self.endpoints.get(at).filter(|e| fit(e))
            }
        }
    }

    fn less_loaded(
        &self,
        first: usize,
        second: usize,
        fit: impl Fn(&Endpoint) -> bool,
    ) -> Option<&Arc<Endpoint>> {
        let (first, second) = (self.endpoints.get(first)?, self.endpoints.get(second)?);
        match (fit(first), fit(second)) {
            (true, true) if second.inflight() < first.inflight() => Some(second),
            (true, _) => Some(first),
            (false, true) => Some(second),
            (false, false) => None,
        }
    }
}

/// Smooth weighted round robin, written out for one whole cycle: at each step everybody gains its
/// weight, and whoever has most takes the turn and pays the sum.
pub(crate) fn schedule(weights: &[u16]) -> Vec<u32> {
    let divisor = weights.iter().fold(0, |a, b| gcd(a, *b)).max(1);
    let sum: u32 = weights.iter().map(|w| u32::from((*w / divisor).max(1))).sum();
    let scale = sum.div_ceil(SCHEDULE).max(1);
    let weights: Vec<i64> =
        weights.iter().map(|w| i64::from((u32::from(*w / divisor) / scale).max(1))).collect();
    let total: i64 = weights.iter().sum();
    let mut credit = vec![0i64; weights.len()];
    (0..total)
        .map(|_| {
            for (credit, weight) in credit.iter_mut().zip(&weights) {
                *credit += weight;
            }
            let mut best = 0;
            for (i, value) in credit.iter().enumerate() {
                if *value > credit[best] {
                    best = i;
                }
            }
            credit[best] -= total;
            best as u32
        })
        .collect()
}

fn gcd(a: u16, b: u16) -> u16 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(weights: &[u16]) -> Vec<(Arc<Endpoint>, u16)> {
        weights
            .iter()
            .zip(1u16..)
            .map(|(weight, i)| {
                let address = std::net::SocketAddr::from(([127, 0, 0, 1], i));
                (Arc::new(Endpoint::new(address, u64::from(i))), *weight)
            })
            .collect()
    }

    fn counts(backend: &Backend, picks: usize, n: usize) -> Vec<usize> {
        let mut counts = vec![0; n];
        for _ in 0..picks {
            let id = backend.pick(&[], 0).unwrap().id;
            counts[id as usize - 1] += 1;
        }
        counts
    }

    #[test]
    fn round_robin_takes_turns() {
        let backend = Backend::new(endpoints(&[1, 1, 1]), Balance::RoundRobin);
        assert_eq!(counts(&backend, 300, 3), [100, 100, 100]);
    }

    #[test]
    fn weighted_round_robin_keeps_the_shares_and_spreads_the_turns() {
        let backend = Backend::new(endpoints(&[500, 100, 100]), Balance::RoundRobin);
        assert_eq!(counts(&backend, 700, 3), [500, 100, 100]);
        assert_eq!(schedule(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn least_requests_shuns_the_loaded_one() {
        let backend = Backend::new(endpoints(&[1, 1]), Balance::LeastRequests);
        let busy = backend.endpoints[0].enter();
        assert_eq!(counts(&backend, 50, 2), [0, 50]);
        drop(busy);
    }

    #[test]
    fn weighted_least_requests_draws_by_weight() {
        let backend = Backend::new(endpoints(&[1, 1, 8]), Balance::LeastRequests);
        let counts = counts(&backend, 10_000, 3);
        for (count, share) in counts.iter().zip([1_000usize, 1_000, 8_000]) {
            assert!(count.abs_diff(share) < 300, "{counts:?}");
        }
    }

    #[test]
    fn an_ejected_endpoint_is_passed_over_until_all_are() {
        let backend = Backend::new(endpoints(&[1, 1]), Balance::RoundRobin);
        let policy =
            super::super::upstream::Ejection { failures: 1, time_ms: 1000, max_time_ms: 1000 };
        backend.endpoints[0].failed(&policy, 0);
        assert_eq!(counts(&backend, 20, 2), [0, 20]);
        backend.endpoints[1].failed(&policy, 0);
        assert!(backend.pick(&[], 0).is_some());
        assert!(backend.pick(&[1, 2], 0).is_none());
    }
}
