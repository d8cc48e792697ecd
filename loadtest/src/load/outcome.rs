//! What a run leaves for reports: distributions and time series, as they stand in JSON.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// A distribution of latencies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Distribution {
    /// How many there were.
    pub(crate) count: u64,
    /// The mean, µs.
    pub(crate) mean_us: f64,
    /// The greatest, µs.
    pub(crate) max_us: f64,
    /// `[quantile, µs]`, quantiles rising from 0 to 1, close together towards 1 (0.5, 0.9, 0.99,
    /// 0.999, … are among them): enough to plot.
    pub(crate) quantiles: Vec<[f64; 2]>,
}

impl Distribution {
    /// Of a histogram of nanoseconds, with as many quantiles as a plot needs, and no finer than
    /// there are values.
    pub(crate) fn of(latency: &Histogram<u64>) -> Self {
        let count = latency.len();
        if count == 0 {
            return Self::default();
        }
        let mut quantiles: Vec<f64> = (0..18).map(|step| f64::from(step) * 0.05).collect();
        let mut rest = 0.1;
        while rest * count as f64 >= 1.0 {
            quantiles
                .extend([1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2, 0.15].map(|part| 1.0 - rest * part));
            rest /= 10.0;
        }
        // Rounded, so that 0.999 is that and nothing just beside it.
        let rounded = quantiles.into_iter().map(|quantile| (quantile * 1e12).round() / 1e12);
        let known = [0.5, 0.9, 0.99, 0.999, 1.0];
        let mut all: Vec<f64> = rounded.chain(known).collect();
        all.sort_by(f64::total_cmp);
        all.dedup();
        Self {
            count,
            mean_us: latency.mean() / 1_000.0,
            max_us: latency.max() as f64 / 1_000.0,
            quantiles: all
                .into_iter()
                .map(|q| [q, latency.value_at_quantile(q) as f64 / 1_000.0])
                .collect(),
        }
    }
}

/// What happened in one slice of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Slice {
    /// When it began, seconds after the load did.
    pub(crate) at: f64,
    /// How long it was, seconds.
    pub(crate) seconds: f64,
    /// Operations that were due, had the plan been kept (open loop), or were started (closed loop).
    pub(crate) due: u64,
    /// Operations answered as expected.
    pub(crate) succeeded: u64,
    /// Operations failed.
    pub(crate) failed: u64,
    /// Median latency of those that succeeded, µs; 0 if none did.
    pub(crate) p50_us: f64,
    /// Their 99th percentile, µs.
    pub(crate) p99_us: f64,
    /// Their greatest, µs.
    pub(crate) max_us: f64,
}

/// All that one `loadtest run` found, as it stands in JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunReport {
    /// The version of this form: 2.
    pub(crate) format: u32,
    /// `run`, to tell it from other reports.
    pub(crate) kind: String,
    /// The scenario's name.
    pub(crate) name: String,
    /// What the scenario says about itself.
    #[serde(default)]
    pub(crate) description: String,
    /// Processor, cores, kernel.
    pub(crate) machine: String,
    /// What was run: target, protocol, load, rate or connections, mix, date.
    #[serde(default)]
    pub(crate) settings: std::collections::BTreeMap<String, String>,
    /// Seconds of load.
    pub(crate) seconds: f64,
    /// All operations together.
    pub(crate) total: Tally,
    /// Each entry of the mix by its name.
    pub(crate) mix: Vec<Named<Tally>>,
    /// Each phase by its name.
    pub(crate) phases: Vec<Named<Tally>>,
    /// The load over time.
    pub(crate) series: Vec<Slice>,
    /// The processes watched, the generator first.
    pub(crate) processes: Vec<Process>,
    /// What happened when: phases, faults.
    pub(crate) events: Vec<TimedEvent>,
    /// Answers by the value of the header that names the backend.
    #[serde(default)]
    pub(crate) backends: std::collections::BTreeMap<String, u64>,
    /// Connections: made, TLS sessions resumed among them, and what handshakes agreed on.
    pub(crate) connections: u64,
    /// TLS handshakes that resumed a session.
    pub(crate) resumed: u64,
    /// What TLS handshakes agreed on, with how often.
    #[serde(default)]
    pub(crate) tls: std::collections::BTreeMap<String, u64>,
    /// What a reader must know before believing the figures, "limited by the generator" first.
    pub(crate) notes: Vec<String>,
}

/// Something with its name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Named<T> {
    /// The name.
    pub(crate) name: String,
    /// The thing.
    #[serde(flatten)]
    pub(crate) value: T,
}

/// What came of some operations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// Answered as expected.
    pub(crate) succeeded: u64,
    /// Failed.
    pub(crate) failed: u64,
    /// Failed, by kind.
    pub(crate) failures: std::collections::BTreeMap<String, u64>,
    /// What the first failure said.
    #[serde(default)]
    pub(crate) first_failure: Option<String>,
    /// Tried again after a failure and then answered, where the scenario allows retries.
    #[serde(default)]
    pub(crate) retried: u64,
    /// Bytes of content received.
    pub(crate) content_bytes: u64,
    /// Seconds over which they were counted.
    pub(crate) seconds: f64,
    /// Latency of those that succeeded, from the moment when each was due (open loop) or started.
    pub(crate) latency: Distribution,
}

/// A process that was watched.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Process {
    /// Its name in the scenario; `generator` for this program.
    pub(crate) name: String,
    /// CPU time, user and system, over the counted load, seconds.
    pub(crate) cpu_seconds: f64,
    /// CPU time for each operation that succeeded, µs.
    pub(crate) cpu_us_per_operation: f64,
    /// The most memory seen (Pss), bytes.
    pub(crate) peak_pss: u64,
    /// `[seconds after the start, share of one core, Pss in bytes]`.
    pub(crate) series: Vec<[f64; 3]>,
}

/// Something that happened at a moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct TimedEvent {
    /// Seconds after the load began.
    pub(crate) at: f64,
    /// What, for people: `fault: backend killed`, `phase: spike`.
    pub(crate) what: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_rises_from_the_least_to_the_greatest() {
        let mut histogram = Histogram::new(3).expect("a histogram");
        (1..=100_000_u64).for_each(|value| histogram.record(value * 1_000).expect("recorded"));
        let Distribution { count, quantiles, max_us, mean_us } = Distribution::of(&histogram);
        assert_eq!(count, 100_000);
        assert!((max_us - 100_000.0).abs() < 100.0 && (mean_us - 50_000.0).abs() < 50.0);
        assert!(quantiles.is_sorted(), "{quantiles:?}");
        for wanted in [0.0, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let [_, us] = quantiles
                .iter()
                .find(|[quantile, _]| (quantile - wanted).abs() < 1e-9)
                .expect("the quantile");
            assert!((us - wanted * 100_000.0).abs() <= 110.0, "{wanted}: {us}");
        }
    }
}
