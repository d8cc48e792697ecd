//! `loadtest diff`: what got better or worse from one report to another, beyond the noise.
//!
//! Two things are asked of a difference: that it is larger than a threshold, so that it matters,
//! and that an interval around it does not reach zero, so that it is none of the noise. The noise
//! is that of the passes of a comparison, or of stretches of a run. Many figures are looked at, so
//! the intervals are wide enough that all of them together mislead in one report of twenty
//! (Bonferroni); three fifths of that are spent on costs, of which there are few.
//!
//! Where a comparison has peers, the figure is the ratio to them, pass by pass: what the machine
//! does to all alike, today and the day before, falls out.

mod compared;
mod run;
mod statistics;
mod text;

use anyhow::bail;
use serde::Serialize;

use crate::cli;
use crate::report::Document;
use crate::report::compared::Kind;
use statistics::Shift;

/// The change that matters, where peers in the same report take the machine's drift out.
const THRESHOLD: f64 = 0.03;
/// The change that matters where they don't: a machine drifts by as much from hour to hour.
const THRESHOLD_ALONE: f64 = 0.10;
/// The probability that noise alone is taken for a difference somewhere in a report.
const MISLED: f64 = 0.05;
/// The part of it that is spent on costs.
const FOR_COSTS: f64 = 0.6;
/// An interval that reaches further than this says too little.
const UNCLEAR: f64 = 0.10;

/// What is known of one figure before and after.
#[derive(Clone, Debug)]
struct Pair {
    of: String,
    kind: Kind,
    /// What the figure is, as in `ratio to nginx, haproxy` or `µs`.
    unit: String,
    before: f64,
    after: f64,
    sample: Sample,
    has_peers: bool,
}

/// What tells the noise of a figure; all values are natural logarithms.
#[derive(Clone, Debug)]
enum Sample {
    /// Passes before and after.
    Passes(Vec<f64>, Vec<f64>),
    /// Differences of stretches at the same place of their runs, and by how much their noise is
    /// greater for this figure.
    Stretches(Vec<f64>, f64),
    /// Counts of failures and operations before and after.
    Counts([u64; 2], [u64; 2]),
    /// Nothing.
    Unknown,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// Better by more than the threshold and the noise.
    Better,
    /// Worse by more than the threshold and the noise.
    Worse,
    /// Neither.
    Same,
    /// Neither, but the noise would hide a tenth.
    Unclear,
}

/// One figure's difference.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Line {
    /// The scenario and target, or the part of a run.
    pub(crate) of: String,
    /// The figure.
    pub(crate) figure: Kind,
    /// What it is counted in.
    pub(crate) unit: String,
    /// The median before.
    pub(crate) before: f64,
    /// The median after.
    pub(crate) after: f64,
    /// The change as a share of what was before, 0.1 for a tenth more.
    pub(crate) change: f64,
    /// The interval of the change, where the noise is known.
    pub(crate) interval: Option<[f64; 2]>,
    /// The change that would matter.
    pub(crate) threshold: f64,
    /// What came of it.
    pub(crate) verdict: Verdict,
}

/// A whole difference.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Difference {
    /// Figures that could be compared.
    pub(crate) lines: Vec<Line>,
    /// What could not, and why.
    pub(crate) not_compared: Vec<String>,
    /// What a reader should know.
    pub(crate) notes: Vec<String>,
}

/// Compares two files and says what came of it; false if something got worse.
///
/// # Errors
///
/// Files that can't be read, or of which nothing can be compared.
pub(crate) fn diff(arguments: &cli::Diff) -> anyhow::Result<bool> {
    let before = Document::read(&arguments.before)?;
    let after = Document::read(&arguments.after)?;
    let threshold = arguments.threshold.map(|percent| percent / 100.0);
    let difference = difference(&before, &after, threshold, arguments.across_machines)?;
    text::print(&difference, arguments.json)?;
    Ok(!difference.is_worse())
}

/// Compares two reports; `threshold` is a share, in place of the usual ones.
///
/// # Errors
///
/// Reports of which nothing can be compared.
pub(crate) fn difference(
    before: &Document,
    after: &Document,
    threshold: Option<f64>,
    across_machines: bool,
) -> anyhow::Result<Difference> {
    let mut difference = Difference::default();
    let (machine, other) = (machine(before), machine(after));
    if machine != other {
        if !across_machines {
            bail!(
                "different machines, whose figures say nothing of each other: {machine:?} and \
                 {other:?}; --across-machines compares them none the less"
            );
        }
        difference.notes.push(format!("different machines: {machine:?} and {other:?}"));
    }
    let pairs = match (before, after) {
        (Document::Compare(before), Document::Compare(after)) => {
            compared::pairs(before, after, &mut difference)?
        }
        (Document::Run(before), Document::Run(after)) => {
            run::pairs(before, after, &mut difference)?
        }
        _ => bail!("one report is of `loadtest run`, the other of `loadtest compare`"),
    };
    if pairs.is_empty() {
        bail!("nothing can be compared: {}", difference.not_compared.join("; "));
    }
    let costs = pairs.iter().filter(|pair| pair.kind == Kind::Cost).count();
    let others = pairs.len() - costs;
    let share = |part: f64, count: usize| MISLED * part / count.max(1) as f64;
    let (for_cost, for_other) = match (costs, others) {
        (0, _) => (0.0, share(1.0, others)),
        (_, 0) => (share(1.0, costs), 0.0),
        _ => (share(FOR_COSTS, costs), share(1.0 - FOR_COSTS, others)),
    };
    for pair in pairs {
        let alpha = if pair.kind == Kind::Cost { for_cost } else { for_other };
        let usual = if pair.has_peers { THRESHOLD } else { THRESHOLD_ALONE };
        difference.lines.push(judge(pair, alpha, threshold.unwrap_or(usual)));
    }
    Ok(difference)
}

impl Difference {
    /// Whether a figure got worse.
    pub(crate) fn is_worse(&self) -> bool {
        self.lines.iter().any(|line| line.verdict == Verdict::Worse)
    }
}

fn machine(document: &Document) -> &str {
    match document {
        Document::Run(report) => &report.machine,
        Document::Compare(report) => &report.machine,
    }
}

fn judge(pair: Pair, alpha: f64, threshold: f64) -> Line {
    let shift = match &pair.sample {
        Sample::Passes(before, after) => statistics::shift(before, after, alpha),
        Sample::Stretches(differences, factor) => {
            statistics::mean(differences, alpha).map(|noise| {
                let mean = (pair.after / pair.before).ln();
                let half = (noise.high - noise.mean) * factor;
                Shift { mean, low: mean - half, high: mean + half }
            })
        }
        Sample::Counts(before, after) => return failures(&pair, *before, *after, alpha),
        Sample::Unknown => None,
    };
    let mean = shift.map_or_else(|| (pair.after / pair.before).ln(), |shift| shift.mean);
    let change = mean.exp_m1();
    let interval = shift.map(|shift| [shift.low.exp_m1(), shift.high.exp_m1()]);
    // Symmetric: a tenth more and its reverse are the same step.
    let matters = mean.abs() >= (1.0 + threshold).ln();
    let excludes_zero = interval.is_none_or(|[low, high]| low > 0.0 || high < 0.0);
    let verdict = if matters && excludes_zero {
        if (change > 0.0) == pair.kind.more_is_better() { Verdict::Better } else { Verdict::Worse }
    } else if interval.is_some_and(|[low, high]| low < -UNCLEAR || high > UNCLEAR) {
        Verdict::Unclear
    } else {
        Verdict::Same
    };
    Line {
        of: pair.of,
        figure: pair.kind,
        unit: pair.unit,
        before: pair.before,
        after: pair.after,
        change,
        interval,
        threshold,
        verdict,
    }
}

/// Shares of failures: the normal test of two proportions, and a thousandth more at least.
fn failures(pair: &Pair, before: [u64; 2], after: [u64; 2], alpha: f64) -> Line {
    const MATTERS: f64 = 0.001;
    let share = |[failed, all]: [u64; 2]| failed as f64 / all.max(1) as f64;
    let all = before[1].saturating_add(after[1]).max(1) as f64;
    let common = before[0].saturating_add(after[0]) as f64 / all;
    let each = 1.0 / before[1].max(1) as f64 + 1.0 / after[1].max(1) as f64;
    let error = (common * (1.0 - common) * each).sqrt();
    let half = statistics::student_quantile(1.0 - alpha / 2.0, 1e6) * error;
    let change = share(after) - share(before);
    let verdict = match change.abs() >= MATTERS && change.abs() > half {
        true if change > 0.0 => Verdict::Worse,
        true => Verdict::Better,
        false => Verdict::Same,
    };
    Line {
        of: pair.of.clone(),
        figure: Kind::Failures,
        unit: pair.unit.clone(),
        before: share(before),
        after: share(after),
        change,
        interval: Some([change - half, change + half]),
        threshold: MATTERS,
        verdict,
    }
}

#[cfg(test)]
mod tests;
