//! Letting a process run a share of the time.

use std::time::Duration;

/// One turn of running and resting, at least.
const TURN: Duration = Duration::from_millis(50);
/// The shortest time that it runs at once.
const SHORTEST: Duration = Duration::from_millis(2);

/// When a slowed process runs and when it rests.
///
/// It keeps an account: whoever calls late lets it run, or rest, too long, and gets it back on the
/// next turn.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Duty {
    share: f64,
    runs: bool,
    since: Duration,
    until: Duration,
    /// Seconds that it is owed to run; negative if it ran too long.
    owed: f64,
}

impl Duty {
    /// From now on, at rest first.
    pub(super) fn new(share: f64, now: Duration) -> Self {
        let mut duty = Self { share, runs: false, since: now, until: now, owed: 0.0 };
        duty.until = now + duty.rest();
        duty
    }

    /// When to look again.
    pub(super) fn due(&self) -> Duration {
        self.until
    }

    /// Whether it shall change, and if so whether it shall run from now on.
    pub(super) fn turn(&mut self, now: Duration) -> Option<bool> {
        if now < self.until {
            return None;
        }
        let passed = now.saturating_sub(self.since).as_secs_f64();
        self.owed += passed * self.share - if self.runs { passed } else { 0.0 };
        self.runs = !self.runs;
        self.since = now;
        let length = if self.runs {
            // What it is owed now, and what it earns while it runs.
            let seconds = (self.owed / (1.0 - self.share)).clamp(0.0, 1.0);
            Duration::from_secs_f64(seconds).max(SHORTEST)
        } else {
            self.rest()
        };
        self.until = now + length;
        Some(self.runs)
    }

    /// A rest after which it has earned its time of a turn.
    fn rest(&self) -> Duration {
        let run = (TURN.as_secs_f64() * self.share).max(SHORTEST.as_secs_f64());
        let earned = (run * (1.0 - self.share) - self.owed) / self.share;
        Duration::from_secs_f64(earned.clamp(0.0005, 10.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_runs_its_share_however_late_the_calls_come() {
        for share in [0.01, 0.1, 0.5, 0.9] {
            for lateness in [0, 1, 7, 30] {
                let (mut duty, mut now) = (Duty::new(share, Duration::ZERO), Duration::ZERO);
                let (mut ran, mut runs) = (0.0, false);
                let mut calls = 0;
                while now < Duration::from_secs(120) && calls < 1_000_000 {
                    let next = duty.due().max(now) + Duration::from_millis(lateness * (calls % 3));
                    ran += if runs { (next - now).as_secs_f64() } else { 0.0 };
                    now = next;
                    runs = duty.turn(now).unwrap_or(runs);
                    calls += 1;
                }
                let got = ran / now.as_secs_f64();
                assert!((got - share).abs() < 0.01, "{got} of {share}, {lateness} ms late");
                // No busy waiting: a turn has two calls, and lasts some tens of milliseconds.
                assert!(calls < 120 * 500, "{calls} calls");
            }
        }
    }
}
