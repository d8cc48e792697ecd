//! How much load there is to be at each moment: phases one after another, with linear ramps.
//!
//! A level is a number of operations a second (open loop) or of connections (closed loop). Time is
//! in nanoseconds since the load began.

use std::time::Duration;

/// Nanoseconds in a second.
const SECOND: f64 = 1e9;

/// A stretch of time in which the level is held or changes evenly.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Phase {
    /// Its name in reports.
    pub(crate) name: String,
    /// How long it takes.
    pub(crate) length: Duration,
    /// The level at its beginning.
    pub(crate) from: f64,
    /// The level at its end.
    pub(crate) to: f64,
    /// Whether it counts; a warm-up does not.
    pub(crate) counted: bool,
}

#[derive(Clone, Debug)]
struct Placed {
    phase: Phase,
    /// When it begins and ends, nanoseconds.
    start: u64,
    end: u64,
    /// Operations due before it and up to its end, had the level been operations a second.
    before: f64,
    through: f64,
}

/// The level over time.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    phases: Vec<Placed>,
}

impl Profile {
    /// These phases, one after another. The last level stays for ever.
    pub(crate) fn new(phases: impl IntoIterator<Item = Phase>) -> Self {
        let (mut start, mut before) = (0_u64, 0.0);
        let phases = phases.into_iter().map(|phase| {
            let end =
                start.saturating_add(u64::try_from(phase.length.as_nanos()).unwrap_or(u64::MAX));
            let through = before + (phase.from + phase.to) / 2.0 * phase.length.as_secs_f64();
            let placed = Placed { phase, start, end, before, through };
            (start, before) = (end, through);
            placed
        });
        Self { phases: phases.collect() }
    }

    /// One level, for as long as the load is driven.
    pub(crate) fn constant(level: f64) -> Self {
        let length = Duration::from_nanos(u64::MAX);
        Self::new([Phase { name: String::new(), length, from: level, to: level, counted: true }])
    }

    /// When the last phase ends, nanoseconds.
    pub(crate) fn end(&self) -> u64 {
        self.phases.last().map_or(0, |placed| placed.end)
    }

    /// The phases with their beginnings and ends, nanoseconds.
    pub(crate) fn phases(&self) -> impl Iterator<Item = (&Phase, u64, u64)> {
        self.phases.iter().map(|placed| (&placed.phase, placed.start, placed.end))
    }

    /// Which phase a moment belongs to: the last one also has all that comes after it.
    pub(crate) fn phase_at(&self, at: u64) -> usize {
        let after = self.phases.partition_point(|placed| placed.end <= at);
        after.min(self.phases.len().saturating_sub(1))
    }

    /// The level at a moment.
    pub(crate) fn level(&self, at: u64) -> f64 {
        let Some(placed) = self.phases.get(self.phase_at(at)) else { return 0.0 };
        let phase = &placed.phase;
        if phase.from == phase.to {
            return phase.to;
        }
        let share = at.saturating_sub(placed.start) as f64 / (placed.end - placed.start) as f64;
        phase.from + (phase.to - phase.from) * share.clamp(0.0, 1.0)
    }

    /// Whether the level changes with every moment just now.
    pub(crate) fn is_ramp(&self, at: u64) -> bool {
        self.phases.get(self.phase_at(at)).is_some_and(|p| p.phase.from != p.phase.to && at < p.end)
    }

    /// The greatest level of all phases.
    pub(crate) fn greatest(&self) -> f64 {
        self.phases.iter().map(|placed| placed.phase.from.max(placed.phase.to)).fold(0.0, f64::max)
    }

    /// The moments at which operations are due.
    pub(crate) fn arrivals(&self) -> Arrivals {
        let mut arrivals = Arrivals { profile: self.clone(), phase: 0, count: 0, next: None };
        arrivals.find();
        arrivals
    }
}

/// The moments at which operations are due, evenly spaced as the level says: one operation
/// whenever the integral of the level reaches a whole number, the first at once.
#[derive(Clone, Debug)]
pub(crate) struct Arrivals {
    profile: Profile,
    phase: usize,
    count: u64,
    next: Option<u64>,
}

impl Arrivals {
    /// When the next operation is due, nanoseconds; none if all phases are over.
    pub(crate) fn peek(&self) -> Option<u64> {
        self.next
    }

    /// Goes on to the one after it.
    pub(crate) fn advance(&mut self) {
        self.count += 1;
        self.find();
    }

    fn find(&mut self) {
        /// Sums of levels and times are exact to far less than this.
        const ROUNDING: f64 = 1e-6;
        let wanted = self.count as f64;
        while let Some(placed) = self.profile.phases.get(self.phase) {
            if wanted + ROUNDING < placed.through {
                let (from, to) = (placed.phase.from, placed.phase.to);
                let seconds = placed.phase.length.as_secs_f64();
                let missing = (wanted - placed.before).max(0.0);
                // from·t + (to − from)·t²/(2·seconds) = missing, in the form that is stable for
                // small differences.
                let root = (from * from + 2.0 * (to - from) / seconds * missing).max(0.0).sqrt();
                let after = if missing == 0.0 { 0.0 } else { 2.0 * missing / (from + root) };
                let after = (after * SECOND) as u64;
                self.next = Some(placed.start.saturating_add(after).min(placed.end));
                return;
            }
            self.phase += 1;
        }
        self.next = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;

    fn phase(seconds: f64, from: f64, to: f64) -> Phase {
        let length = Duration::from_secs_f64(seconds);
        Phase { name: String::new(), length, from, to, counted: true }
    }

    fn all(profile: &Profile) -> Vec<u64> {
        let mut arrivals = profile.arrivals();
        let mut all = Vec::new();
        while let Some(due) = arrivals.peek() {
            all.push(due);
            arrivals.advance();
        }
        all
    }

    #[test]
    fn a_constant_rate_is_evenly_spaced_and_complete() {
        let due = all(&Profile::new([phase(2.0, 100.0, 100.0)]));
        assert_eq!(due.len(), 200);
        for (nth, at) in due.iter().enumerate() {
            assert!(at.abs_diff(nth as u64 * 10 * MILLI) < 1000, "{nth}: {at}");
        }
    }

    #[test]
    fn a_ramp_gets_denser_as_its_integral_says() {
        // 100·t + 225·t² at time t.
        let due = all(&Profile::new([phase(2.0, 100.0, 1000.0)]));
        assert_eq!(due.len(), 1100);
        let first_half = due.iter().filter(|at| **at < 1000 * MILLI).count();
        assert_eq!(first_half, 325);
        assert!(due.is_sorted());
    }

    #[test]
    fn ramps_down_to_nothing_and_pauses_lose_no_operation() {
        let profile = Profile::new([
            phase(1.0, 100.0, 0.0),
            phase(1.0, 0.0, 0.0),
            phase(1.0, 0.0, 50.0),
            phase(0.5, 10.0, 10.0),
        ]);
        let due = all(&profile);
        assert_eq!(due.len(), 50 + 25 + 5);
        assert!(due.is_sorted());
        let silent = due.iter().filter(|at| (1001 * MILLI..2000 * MILLI).contains(at)).count();
        assert_eq!(silent, 0);
        assert_eq!(profile.end(), 3500 * MILLI);
    }

    #[test]
    fn levels_and_phases_follow_the_time() {
        let profile = Profile::new([phase(1.0, 0.0, 10.0), phase(1.0, 20.0, 20.0)]);
        assert_eq!(profile.level(0), 0.0);
        assert_eq!(profile.level(500 * MILLI), 5.0);
        assert_eq!(profile.level(1500 * MILLI), 20.0);
        assert_eq!(profile.level(9000 * MILLI), 20.0);
        assert_eq!((profile.phase_at(999 * MILLI), profile.phase_at(1000 * MILLI)), (0, 1));
        assert_eq!(profile.phase_at(9000 * MILLI), 1);
        assert!(profile.is_ramp(1) && !profile.is_ramp(1000 * MILLI));
        assert_eq!(profile.greatest(), 20.0);
    }
}
