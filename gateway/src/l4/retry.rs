//! When something that has failed is tried again.

use std::time::{Duration, Instant};

/// After the first failure,
const FIRST: Duration = Duration::from_millis(200);
/// twice as long each time, and at most this.
const LAST: Duration = Duration::from_secs(5);
/// What has held for this long is no longer counted as failing.
const QUIET: Duration = Duration::from_secs(30);

/// What is undone within this time is undone again.
const FIGHT: Duration = Duration::from_secs(2);

/// One thing that may fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Retry {
    at: Option<Instant>,
    last: Option<Instant>,
    delay: Duration,
}

impl Retry {
    /// It has failed: there is a rest before the next try, longer each time.
    pub(crate) fn failed(&mut self, now: Instant) {
        let quiet = self.last.is_none_or(|last| now.saturating_duration_since(last) > QUIET);
        self.delay = if quiet { FIRST } else { (self.delay * 2).clamp(FIRST, LAST) };
        self.last = Some(now);
        self.at = Some(now + self.delay);
    }

    /// It was undone by somebody: at once, unless it was undone just before. Then, as after
    /// failures, until it has held for some of the rests that it had come to.
    pub(crate) fn soon(&mut self, now: Instant) {
        let fight = (self.delay * 4).max(FIGHT);
        let quiet = self.last.is_none_or(|last| now.saturating_duration_since(last) > fight);
        if quiet {
            (self.last, self.delay, self.at) = (Some(now), FIRST / 2, None);
        } else {
            self.failed(now);
        }
    }

    /// To be done after that time.
    pub(crate) fn after(&mut self, now: Instant, delay: Duration) {
        self.at = Some(now + delay);
    }

    /// Whether it may be tried.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.at.is_none_or(|at| at <= now)
    }

    /// When it may be tried, if that was put off.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.at
    }

    /// Whether it has reached the longest rest.
    pub(crate) fn is_long(&self) -> bool {
        self.delay >= LAST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_grow_up_to_a_limit_and_quiet_times_begin_anew() {
        let mut now = Instant::now();
        let mut retry = Retry::default();
        let mut rests = Vec::new();
        for _ in 0..7 {
            retry.failed(now);
            let next = retry.next().unwrap();
            assert!(!retry.is_due(now) && retry.is_due(next));
            rests.push((next - now).as_millis());
            now = next;
        }
        assert_eq!(rests, [200, 400, 800, 1600, 3200, 5000, 5000]);
        assert!(retry.is_long());
        retry.failed(now + QUIET + FIRST);
        assert!(!retry.is_long());
    }

    #[test]
    fn what_is_undone_once_is_mended_at_once_and_a_fight_slows_down() {
        let now = Instant::now();
        let mut retry = Retry::default();
        retry.soon(now);
        assert!(retry.is_due(now));
        retry.soon(now);
        assert_eq!(retry.next(), Some(now + FIRST));
        retry.soon(now + FIRST);
        assert_eq!(retry.next(), Some(now + FIRST + FIRST * 2));
        // Who comes back after a while is no opponent.
        let mut later = now + FIRST;
        for _ in 0..10 {
            later += FIGHT * 2;
            retry.soon(later);
            assert!(retry.is_due(later));
        }
    }
}
