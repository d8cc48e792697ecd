//! Handshakes that one address may begin.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Within a second.
const MOST: u32 = 20;
/// Addresses that are remembered within a second; more are not counted singly, since the cookies
/// that they need then are limit enough.
const SOURCES: usize = 4096;

/// Counts for each address; of IPv6 for each /64.
#[derive(Debug, Default)]
pub(super) struct PerSource(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    since: Option<Instant>,
    by_source: BTreeMap<IpAddr, u32>,
}

impl PerSource {
    pub(super) fn allows(&self, source: IpAddr, now: Instant) -> bool {
        let source = match source {
            IpAddr::V4(_) => source,
            IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> 64 << 64).into()),
        };
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |since| now.saturating_duration_since(since) >= Duration::from_secs(1);
        if counts.since.is_none_or(is_over) {
            counts.since = Some(now);
            counts.by_source.clear();
        }
        if counts.by_source.len() >= SOURCES && !counts.by_source.contains_key(&source) {
            return true;
        }
        let count = counts.by_source.entry(source).or_default();
        *count = count.saturating_add(1);
        *count <= MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_begins_so_many_in_a_second() {
        let limit = PerSource::default();
        let now = Instant::now();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let one = ip("192.0.2.1");
        assert_eq!((0..100).filter(|_| limit.allows(one, now)).count(), 20);
        assert!(limit.allows(ip("192.0.2.2"), now));
        assert!(limit.allows(one, now + Duration::from_secs(1)));
        // Whoever has one address of IPv6 has more.
        let many = (0..100).filter(|at| limit.allows(ip(&format!("2001:db8::{at}")), now));
        assert_eq!(many.count(), 20);
    }
}
