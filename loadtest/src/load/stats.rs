//! What a run counted.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;

/// The longest latency told apart from longer ones.
const LONGEST: Duration = Duration::from_secs(120);

/// How a request or a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failure {
    /// The connection was refused or never came about.
    Connect,
    /// The TLS handshake, or a record after it, failed.
    Tls,
    /// The connection ended before the response did.
    Closed,
    /// No complete response within the time allowed.
    Timeout,
    /// Not HTTP/1.1, or bytes that nobody asked for.
    Protocol,
    /// Another status than the expected one.
    Status,
    /// Another length of the body than the expected one.
    Length,
    /// Content with another digest than the expected one.
    Digest,
}

impl Failure {
    /// All kinds.
    pub(crate) const ALL: [Self; 8] = [
        Self::Connect,
        Self::Tls,
        Self::Closed,
        Self::Timeout,
        Self::Protocol,
        Self::Status,
        Self::Length,
        Self::Digest,
    ];

    /// The kind of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Closed => "closed",
            Self::Timeout => "timeout",
            Self::Protocol => "protocol",
            Self::Status => "status",
            Self::Length => "length",
            Self::Digest => "digest",
        }
    }
}

/// Counts since the last reset.
#[derive(Clone, Debug)]
pub(crate) struct Stats {
    /// Requests answered as expected.
    pub(crate) requests: u64,
    /// Bytes of their bodies.
    pub(crate) body_bytes: u64,
    /// Connections established (with TLS: handshakes done).
    pub(crate) connections: u64,
    /// TLS handshakes among them that resumed a session.
    pub(crate) resumed: u64,
    /// Failures by kind.
    pub(crate) failures: BTreeMap<Failure, u64>,
    /// What the first failure said.
    pub(crate) first_failure: Option<String>,
    /// Requests among those answered that had failed before and were tried again.
    pub(crate) retried: u64,
    /// Nanoseconds from sending a request, or from starting its connection where each request has
    /// one of its own, to the response's last byte.
    pub(crate) latency: Histogram<u64>,
}

impl Stats {
    /// Nothing counted yet.
    pub(crate) fn new() -> anyhow::Result<Self> {
        Self::with_digits(3)
    }

    /// The same with latencies told apart by so many significant digits.
    pub(crate) fn with_digits(digits: u8) -> anyhow::Result<Self> {
        let longest = u64::try_from(LONGEST.as_nanos()).unwrap_or(u64::MAX);
        Ok(Self {
            requests: 0,
            body_bytes: 0,
            connections: 0,
            resumed: 0,
            failures: BTreeMap::new(),
            first_failure: None,
            retried: 0,
            latency: Histogram::new_with_bounds(1_000, longest, digits)
                .context("latency histogram")?,
        })
    }

    /// Forgets everything, keeping the histogram's memory.
    pub(crate) fn reset(&mut self) {
        self.requests = 0;
        self.body_bytes = 0;
        self.connections = 0;
        self.resumed = 0;
        self.failures.clear();
        self.first_failure = None;
        self.retried = 0;
        self.latency.reset();
    }

    /// Counts one request answered as expected.
    pub(crate) fn succeeded(&mut self, latency: Duration, body: u64) {
        self.requests += 1;
        self.body_bytes += body;
        self.latency.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Counts one request answered as expected, but not its latency.
    pub(crate) fn succeeded_somehow(&mut self, body: u64) {
        self.requests += 1;
        self.body_bytes += body;
    }

    /// Adds what another account of the same precision counted.
    pub(crate) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.body_bytes += other.body_bytes;
        self.connections += other.connections;
        self.resumed += other.resumed;
        self.retried += other.retried;
        for (kind, count) in &other.failures {
            *self.failures.entry(*kind).or_default() += count;
        }
        if self.first_failure.is_none() {
            self.first_failure.clone_from(&other.first_failure);
        }
        // Both have the same bounds, so that nothing can be out of range.
        let _ = self.latency.add(&other.latency);
    }

    /// Counts one failure.
    pub(crate) fn failed(&mut self, kind: Failure, detail: impl FnOnce() -> String) {
        *self.failures.entry(kind).or_default() += 1;
        self.first_failure.get_or_insert_with(detail);
    }

    /// Failures of all kinds.
    pub(crate) fn failure_count(&self) -> u64 {
        self.failures.values().sum()
    }

    /// The share of failures in everything tried, 0 to 1.
    pub(crate) fn failure_share(&self) -> f64 {
        let failed = self.failure_count();
        if failed == 0 { 0.0 } else { failed as f64 / (failed + self.requests) as f64 }
    }

    /// Failures by kind in words: `3 closed, 1 timeout`.
    pub(crate) fn failure_text(&self) -> String {
        let kinds: Vec<_> =
            self.failures.iter().map(|(kind, count)| format!("{count} {}", kind.name())).collect();
        let first = self.first_failure.as_deref().unwrap_or("none");
        if kinds.is_empty() {
            "none".to_owned()
        } else {
            format!("{} (the first: {first})", kinds.join(", "))
        }
    }

    /// A quantile of the latency in microseconds.
    pub(crate) fn latency_us(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1_000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_by_kind_with_the_first_ones_words() {
        let mut stats = Stats::new().expect("histogram");
        stats.failed(Failure::Status, || "503 for /".to_owned());
        stats.failed(Failure::Closed, || "never shown".to_owned());
        stats.failed(Failure::Status, || "never shown".to_owned());
        for _ in 0..997 {
            stats.succeeded(Duration::from_micros(250), 10);
        }
        assert_eq!(stats.failure_text(), "1 closed, 2 status (the first: 503 for /)");
        assert!((stats.failure_share() - 0.003).abs() < 1e-9);
        assert!((stats.latency_us(0.5) - 250.0).abs() < 1.0);
        stats.reset();
        assert_eq!((stats.requests, stats.failure_count()), (0, 0));
    }
}
