//! Limits against floods (RFC 8019): half-open IKE SAs in all and by source, rates.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::config::Settings;
use super::engine::Map;

/// How many half-open IKE SAs there are that others began.
#[derive(Default)]
pub(super) struct Limits {
    half_open: usize,
    by_source: Map<IpAddr, usize>,
}

/// What becomes of a request to begin another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Welcome,
    /// Only with a cookie.
    Cookie,
    Refused,
}

impl Limits {
    pub(super) fn half_open(&self) -> usize {
        self.half_open
    }

    pub(super) fn verdict(&self, settings: &Settings, source: IpAddr) -> Verdict {
        let of_source = self.by_source.get(&network(source)).copied().unwrap_or(0);
        if self.half_open >= settings.half_open_limit || of_source >= settings.half_open_per_source
        {
            Verdict::Refused
        } else if self.half_open >= settings.cookie_threshold
            || of_source > settings.half_open_per_source / 2
        {
            Verdict::Cookie
        } else {
            Verdict::Welcome
        }
    }

    pub(super) fn add(&mut self, source: IpAddr) {
        self.half_open += 1;
        *self.by_source.entry(network(source)).or_default() += 1;
    }

    pub(super) fn remove(&mut self, source: IpAddr) {
        self.half_open = self.half_open.saturating_sub(1);
        let source = network(source);
        if let Some(count) = self.by_source.get_mut(&source) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_source.remove(&source);
            }
        }
    }
}

/// An IPv6 source counts by its /64.
fn network(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
        },
    }
}

/// So many a second.
pub(super) struct RateLimit {
    per_second: u32,
    left: u32,
    since: Instant,
}

impl RateLimit {
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second, left: per_second, since: now }
    }

    pub(super) fn allows(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) >= Duration::from_secs(1) {
            self.left = self.per_second;
            self.since = now;
        }
        let is_allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_allowed
    }
}
