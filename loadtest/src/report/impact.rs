//! What clients saw around each fault of a run.

use crate::compare::summary::Spread;
use crate::faults::{BEGINS, FAILED, IS_OVER};
use crate::load::outcome::{RunReport, Slice};

/// Slices before a fault that say what is normal.
const BASELINE: usize = 10;
/// Slices in a row that are normal again.
const IN_A_ROW: usize = 2;
/// The share of failures above what is normal that is normal still.
const FAILURES: f64 = 0.001;
/// The share of the normal rate that is normal still.
const RATE: f64 = 0.9;
/// How many times the median of normal p99s is normal still.
const SLOWER: f64 = 2.0;

/// A fault as clients saw it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Impact {
    /// What happened, as in `origin killed`.
    pub(crate) what: String,
    /// When, seconds after the load began.
    pub(crate) at: f64,
    /// When it was over, if it was.
    pub(crate) over: Option<f64>,
    /// Operations that failed until all was normal again, the next fault came or the run ended.
    pub(crate) failed: u64,
    /// The slowest answer in that time, µs.
    pub(crate) slowest_us: f64,
    /// How all came back to normal.
    pub(crate) back: Back,
}

/// How all came back to normal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Back {
    /// Clients saw nothing of it.
    NeverAway,
    /// So many seconds after the fault's end, to the precision of a slice.
    AfterEnd(f64),
    /// So many seconds after the beginning of a fault that has no end, to the same precision.
    AfterBeginning(f64),
    /// Not before the next fault, or the end.
    NotSeen,
    /// There is too little before the fault to know what is normal.
    Unknown,
}

impl Back {
    /// In words.
    pub(crate) fn text(self) -> String {
        match self {
            Self::NeverAway => "never away from normal".to_owned(),
            Self::AfterEnd(seconds) => format!("normal {seconds:.1} s after its end"),
            Self::AfterBeginning(seconds) => format!("normal {seconds:.1} s after it began"),
            Self::NotSeen => "not back to normal".to_owned(),
            Self::Unknown => "what is normal is not known".to_owned(),
        }
    }
}

/// One for each fault of the run, in the order of time.
pub(crate) fn impacts(report: &RunReport) -> Vec<Impact> {
    let begins: Vec<(f64, &str)> = report
        .events
        .iter()
        .filter_map(|event| Some((event.at, event.what.strip_prefix(BEGINS)?)))
        .collect();
    let mut impacts: Vec<Impact> = Vec::new();
    let mut disturbed = Disturbed::default();
    for (place, &(at, what)) in begins.iter().enumerate() {
        let next = begins.get(place + 1).map_or(f64::INFINITY, |(next, _)| *next);
        let party = what.split(' ').next().unwrap_or_default();
        let over = report.events.iter().find(|event| {
            let ended = event.what.strip_prefix(IS_OVER);
            event.at >= at && ended.is_some_and(|ended| ended.split(' ').next() == Some(party))
        });
        let over = over.map(|event| event.at);
        disturbed.begin(at);
        let (impact, normal) = impact(report, what, (at, over), next, &disturbed);
        if let Some(normal) = normal {
            disturbed.end(normal);
        }
        impacts.push(impact);
    }
    impacts
}

/// When faults had their effect: these times say nothing of what is normal.
#[derive(Debug, Default)]
struct Disturbed {
    /// From a fault's beginning until all was normal again, seconds.
    past: Vec<(f64, f64)>,
    /// The beginning of what is not over yet.
    open: Option<f64>,
}

impl Disturbed {
    fn begin(&mut self, at: f64) {
        self.open.get_or_insert(at);
    }

    fn end(&mut self, at: f64) {
        self.past.extend(self.open.take().map(|from| (from, at)));
    }

    fn holds(&self, slice: &Slice) -> bool {
        let open = self.open.map(|from| (from, f64::INFINITY));
        let end = slice.at + slice.seconds;
        self.past.iter().copied().chain(open).any(|(from, until)| end > from && slice.at < until)
    }
}

/// What faults could not be carried out, in words.
pub(crate) fn failed_faults(report: &RunReport) -> impl Iterator<Item = String> {
    report.events.iter().filter_map(|event| {
        let what = event.what.strip_prefix(FAILED)?;
        Some(format!("a fault could not be carried out at {:.1} s: {what}", event.at))
    })
}

/// One fault, from its beginning to its end if it has one, and when all was normal again. `next` is
/// when the next fault began.
fn impact(
    report: &RunReport,
    what: &str,
    (at, over): (f64, Option<f64>),
    next: f64,
    disturbed: &Disturbed,
) -> (Impact, Option<f64>) {
    let series = &report.series;
    let end = |slice: &Slice| slice.at + slice.seconds;
    let before = series.iter().take_while(|slice| end(slice) <= at).count();
    let calm_before: Vec<&Slice> = series
        .iter()
        .take(before)
        .rev()
        .filter(|slice| !disturbed.holds(slice))
        .take(BASELINE)
        .collect();
    let baseline = Baseline::of(&calm_before);
    let normal_until = calm_before.first().map_or(at, |slice| end(slice));
    // The slice in which a fault falls is half of its time before.
    let during: Vec<&Slice> =
        series.iter().skip(before).take_while(|slice| slice.at < next).collect();
    let phases = || report.events.iter().filter(|event| event.what.starts_with("phase: "));
    let is_normal = |slice: &&Slice| {
        let same_phase = !phases().any(|event| event.at >= normal_until && event.at < end(slice));
        baseline.as_ref().is_some_and(|baseline| baseline.holds(slice, same_phase))
    };
    let calm = |place: usize, slices: usize| {
        let rest = during.get(place..).unwrap_or_default();
        !rest.is_empty() && rest.iter().take(slices).all(is_normal)
    };
    // Where it ended.
    let from = over.map_or(0, |over| during.iter().take_while(|slice| end(slice) <= over).count());
    // What began at its end shows in the slice behind it.
    let back_at = match calm(from, IN_A_ROW + 1) {
        true => Some(from),
        false => (from + 1..during.len()).find(|place| calm(*place, IN_A_ROW)),
    };
    let back_at = back_at.and_then(|place| Some((place, during.get(place)?.at)));
    let (back, normal) = match (&baseline, back_at) {
        (None, _) => (Back::Unknown, over),
        (_, None) => (Back::NotSeen, None),
        (_, Some((place, _))) if place == from && calm(0, from + IN_A_ROW + 1) => {
            // A fault that nobody saw still has its slowest answer while it lasted.
            (Back::NeverAway, Some(over.unwrap_or(at).max(at + f64::EPSILON)))
        }
        (_, Some((_, normal))) => match over {
            Some(over) => (Back::AfterEnd((normal - over).max(0.0)), Some(normal.max(over))),
            None => (Back::AfterBeginning((normal - at).max(0.0)), Some(normal.max(at))),
        },
    };
    let until = normal.filter(|_| back != Back::Unknown).unwrap_or(f64::INFINITY);
    let affected = || during.iter().filter(|slice| slice.at < until);
    let impact = Impact {
        what: what.to_owned(),
        at,
        over,
        failed: affected().fold(0, |sum, slice| slice.failed.saturating_add(sum)),
        slowest_us: affected().map(|slice| slice.max_us).fold(0.0, f64::max),
        back,
    };
    (impact, normal)
}

/// What is normal.
struct Baseline {
    rate: f64,
    /// Operations answered for each that was due.
    answered: f64,
    failures: f64,
    p99_us: f64,
}

impl Baseline {
    /// Nothing if there is too little before the fault.
    fn of(slices: &[&Slice]) -> Option<Self> {
        let slices = Some(slices).filter(|slices| slices.len() >= 2)?;
        let median = |figure: fn(&Slice) -> f64| {
            Spread::of(slices.iter().map(|slice| figure(slice))).map(|spread| spread.median)
        };
        Some(Self {
            rate: median(rate)?,
            answered: median(answered)?,
            failures: median(failures)?,
            p99_us: median(|slice| slice.p99_us)?,
        })
    }

    fn holds(&self, slice: &Slice, same_phase: bool) -> bool {
        // A phase of another rate is held against what was due in it.
        let is_answered = match same_phase {
            true => rate(slice) >= self.rate * RATE,
            false => slice.succeeded > 0 && answered(slice) >= self.answered * RATE,
        };
        is_answered
            && failures(slice) <= self.failures + FAILURES
            && slice.p99_us <= self.p99_us * SLOWER
    }
}

fn rate(slice: &Slice) -> f64 {
    slice.succeeded as f64 / slice.seconds.max(f64::EPSILON)
}

fn answered(slice: &Slice) -> f64 {
    slice.succeeded as f64 / slice.due.max(1) as f64
}

fn failures(slice: &Slice) -> f64 {
    slice.failed as f64 / slice.failed.saturating_add(slice.succeeded).max(1) as f64
}
