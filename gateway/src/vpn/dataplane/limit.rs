//! Answers that are given only so often.

use std::collections::HashMap;
use std::net::IpAddr;

/// Sources that are remembered.
const SOURCES: usize = 1024;
/// In milliseconds.
const SECOND: u64 = 1000;

/// So many within a second.
#[derive(Debug)]
pub(super) struct Rate {
    most: u32,
    since: u64,
    count: u32,
}

impl Rate {
    pub(super) fn new(most: u32) -> Self {
        Self { most, since: 0, count: 0 }
    }

    /// Whether one more is allowed, `now` in milliseconds.
    pub(super) fn allows(&mut self, now: u64) -> bool {
        if now >= self.since + SECOND {
            (self.since, self.count) = (now, 0);
        }
        self.count += 1;
        self.count <= self.most
    }
}

/// Once a second for each source.
#[derive(Debug, Default)]
pub(super) struct PerSource {
    since: u64,
    seen: HashMap<IpAddr, u64, foldhash::fast::RandomState>,
}

impl PerSource {
    /// Whether it is time for this source, `now` in milliseconds. Where there are very many within
    /// a second, not all are remembered, and those are refused.
    pub(super) fn allows(&mut self, source: IpAddr, now: u64) -> bool {
        if now >= self.since + SECOND {
            self.since = now;
            self.seen.retain(|_, last| *last + SECOND > now);
        }
        if let Some(last) = self.seen.get_mut(&source) {
            let is_due = now >= *last + SECOND;
            if is_due {
                *last = now;
            }
            return is_due;
        }
        let has_room = self.seen.len() < SOURCES;
        if has_room {
            self.seen.insert(source, now);
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_a_second() {
        let mut rate = Rate::new(2);
        let allowed: Vec<bool> = [5, 6, 7, 1006, 1007].map(|now| rate.allows(now)).into();
        assert_eq!(allowed, [true, true, false, true, true]);
    }

    #[test]
    fn each_source_once_a_second_and_no_more_sources_than_are_remembered() {
        let mut limit = PerSource::default();
        let ip = |number: u32| IpAddr::V4(number.into());
        assert!(limit.allows(ip(1), 0));
        assert!(!limit.allows(ip(1), 999));
        assert!(limit.allows(ip(2), 999));
        assert!(limit.allows(ip(1), 1000));
        let allowed = (10..5000).filter(|number| limit.allows(ip(*number), 1001)).count();
        assert_eq!(allowed, SOURCES - 2);
        assert!(limit.allows(ip(4999), 2500));
    }
}
