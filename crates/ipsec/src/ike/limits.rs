//! Limits against floods (RFC 8019): half-open IKE SAs in all and by source, rates.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::config::Settings;
use super::engine::Map;
use crate::sa::ConnectionName;

/// How many half-open IKE SAs there are that others began.
#[derive(Default)]
pub(super) struct Limits {
    half_open: usize,
    by_source: BTreeMap<IpAddr, usize>,
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

/// How many IKE SAs this end begins at once with the same address: with more, the other end's
/// limits would take it for a flood.
const AT_ONCE: usize = 5;

/// What this end begins, by the other end's address.
#[derive(Default)]
pub(super) struct Pace {
    by_remote: Map<IpAddr, Under>,
}

#[derive(Default)]
struct Under {
    way: usize,
    waiting: VecDeque<ConnectionName>,
}

impl Pace {
    /// Whether one more may be begun. If not, it waits.
    pub(super) fn begins(&mut self, remote: IpAddr, name: &ConnectionName) -> bool {
        let under = self.by_remote.entry(remote).or_default();
        if under.way < AT_ONCE {
            under.way += 1;
            return true;
        }
        if !under.waiting.contains(name) {
            under.waiting.push_back(name.clone());
        }
        false
    }

    /// One is there or has failed.
    pub(super) fn ended(&mut self, remote: IpAddr) {
        if let Some(under) = self.by_remote.get_mut(&remote) {
            under.way = under.way.saturating_sub(1);
        }
    }

    /// Those for which there is room now: they ask again.
    pub(super) fn next(&mut self, remote: IpAddr) -> Vec<ConnectionName> {
        let Some(under) = self.by_remote.get_mut(&remote) else { return Vec::new() };
        let room = AT_ONCE.saturating_sub(under.way);
        let next = under.waiting.drain(..room.min(under.waiting.len())).collect();
        if under.way == 0 && under.waiting.is_empty() {
            self.by_remote.remove(&remote);
        }
        next
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_count_by_themselves_and_ipv6_by_its_network() {
        let settings = Settings::default();
        let mut limits = Limits::default();
        let address = |text: &str| -> IpAddr { text.parse().unwrap() };
        for _ in 0..settings.half_open_per_source {
            limits.add(address("2001:db8::1"));
        }
        assert_eq!(limits.verdict(&settings, address("2001:db8::2")), Verdict::Refused);
        assert_eq!(limits.verdict(&settings, address("2001:db8:0:1::2")), Verdict::Welcome);
        for _ in 0..settings.half_open_per_source {
            limits.remove(address("2001:db8::3"));
        }
        assert_eq!(limits.verdict(&settings, address("2001:db8::2")), Verdict::Welcome);
        assert_eq!(limits.half_open(), 0);
        assert!(limits.by_source.is_empty());
    }

    #[test]
    fn many_half_open_ones_ask_for_cookies_and_too_many_are_refused() {
        let settings = Settings::default();
        let mut limits = Limits::default();
        let one = |number: u32| IpAddr::from(number.to_be_bytes());
        (0..30).for_each(|number| limits.add(one(number)));
        assert_eq!(limits.verdict(&settings, one(9999)), Verdict::Cookie);
        (30..1000).for_each(|number| limits.add(one(number)));
        assert_eq!(limits.verdict(&settings, one(9999)), Verdict::Refused);
    }

    #[test]
    fn only_so_many_a_second() {
        let now = Instant::now();
        let mut rate = RateLimit::new(3, now);
        assert_eq!((0..9).filter(|_| rate.allows(now)).count(), 3);
        assert!(rate.allows(now + Duration::from_secs(1)));
    }

    #[test]
    fn who_waits_comes_when_another_is_done() {
        let mut pace = Pace::default();
        let remote = IpAddr::from([192, 0, 2, 1]);
        let name = |number: usize| ConnectionName::from(number.to_string());
        let begun = (0..7).filter(|number| pace.begins(remote, &name(*number))).count();
        assert_eq!(begun, AT_ONCE);
        assert!(pace.next(remote).is_empty());
        pace.ended(remote);
        assert_eq!(pace.next(remote), [name(5)]);
        assert!(pace.begins(remote, &name(5)));
        (0..5).for_each(|_| pace.ended(remote));
        assert_eq!(pace.next(remote), [name(6)]);
        assert!(pace.by_remote.is_empty());
    }
}
