//! What is counted of probes.

use std::collections::BTreeMap;
use std::time::Duration;

/// Upper bounds of round trips, in seconds.
pub const BUCKETS: [f64; 9] = [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.25];

/// By edge.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics(pub BTreeMap<String, EdgeStatistics>);

/// Of one edge.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EdgeStatistics {
    /// How often it was asked.
    pub sent: u64,
    /// How often it answered.
    pub answered: u64,
    /// How many answers came within each of [`BUCKETS`], and not within a lower one.
    pub within: [u64; BUCKETS.len()],
    /// All round trips together, in seconds.
    pub sum: f64,
    /// The last round trip.
    pub last: Option<Duration>,
}

impl Statistics {
    pub(super) fn sent(&mut self, edge: &str) {
        self.of(edge).sent += 1;
    }

    pub(super) fn answered(&mut self, edge: &str, took: Duration) {
        let edge = self.of(edge);
        let seconds = took.as_secs_f64();
        edge.answered += 1;
        edge.sum += seconds;
        edge.last = Some(took);
        if let Some(place) = BUCKETS.iter().position(|bound| seconds <= *bound) {
            edge.within[place] += 1;
        }
    }

    pub(super) fn retain(&mut self, is_edge: impl Fn(&str) -> bool) {
        self.0.retain(|name, _| is_edge(name));
    }

    fn of(&mut self, edge: &str) -> &mut EdgeStatistics {
        self.0.entry(edge.to_owned()).or_default()
    }
}
