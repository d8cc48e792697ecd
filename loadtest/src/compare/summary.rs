//! From single measurements to medians, ranges and ratios.

use serde::Serialize;

use super::scenario::Goal;
use super::trial::{TrafficDetail, Trial, TunnelDetail};

/// Median and range of some figures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// The middle one, or the mean of the two in the middle.
    pub(crate) median: f64,
    /// The least.
    pub(crate) min: f64,
    /// The greatest.
    pub(crate) max: f64,
}

impl Spread {
    /// Of some figures; nothing if there are none.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let upper = *sorted.get(sorted.len() / 2)?;
        let lower = *sorted.get((sorted.len() - 1) / 2)?;
        Some(Self { median: f64::midpoint(lower, upper), min, max })
    }
}

/// All measurements of one target in one scenario.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    /// The target.
    pub(crate) target: String,
    /// CPU µs a request, or KiB a connection.
    pub(crate) cost: Spread,
    /// What traffic showed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) traffic: Option<TrafficSummary>,
    /// What packets through a tunnel showed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tunnel: Option<TunnelSummary>,
}

/// What packets through a tunnel showed, over all passes.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TunnelSummary {
    /// Packets a second.
    pub(crate) packets_per_second: Spread,
    /// Gb a second.
    pub(crate) gigabits_per_second: Spread,
    /// Gb for a CPU second of both gateways.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gigabits_per_cpu_second: Option<Spread>,
    /// CPU µs a packet: A's gateway, B's, both hosts.
    pub(crate) parts_us: [Spread; 3],
}

/// What traffic showed, over all passes.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TrafficSummary {
    /// Requests a second.
    pub(crate) requests_per_second: Spread,
    /// Median latency, µs.
    pub(crate) p50_us: Spread,
    /// 99th percentile, µs.
    pub(crate) p99_us: Spread,
    /// Share of its core that the target used.
    pub(crate) target_busy: Spread,
    /// Whether the load set the pace in any pass.
    pub(crate) limited_by_load: bool,
}

/// The first target beside another one, pass by pass.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Ratio {
    /// The target above.
    pub(crate) subject: String,
    /// The target below.
    pub(crate) against: String,
    /// Costs.
    pub(crate) cost: Spread,
    /// Medians of latency, for traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p50: Option<Spread>,
    /// 99th percentiles of latency, for traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p99: Option<Spread>,
    /// Throughput for a CPU second, for tunnels: more is better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) throughput: Option<Spread>,
}

/// Whether a goal was reached.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Verdict {
    /// What the goal is about.
    pub(crate) of: Figure,
    /// Who it is held against, where that is one of several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) against: Option<String>,
    /// The goal.
    pub(crate) goal: Goal,
    /// What it is compared with: a ratio, KiB, or a time.
    pub(crate) figure: f64,
    /// Whether the figure is at most the goal, or at least where that is what it says.
    pub(crate) met: bool,
}

/// A figure that goals are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Figure {
    /// CPU time a request, or memory a connection.
    Cost,
    /// The median of latency.
    P50,
    /// The 99th percentile of latency.
    P99,
    /// Throughput for a CPU second.
    Throughput,
}

/// One summary a target, in the order of the targets.
pub(crate) fn summaries(targets: &[String], trials: &[Trial]) -> Vec<Summary> {
    targets
        .iter()
        .filter_map(|target| {
            let own = || trials.iter().filter(|trial| trial.target == *target);
            Some(Summary {
                target: target.clone(),
                cost: Spread::of(own().map(|trial| trial.cost))?,
                traffic: traffic_summary(own().filter_map(Trial::traffic)),
                tunnel: tunnel_summary(own().filter_map(Trial::tunnel)),
            })
        })
        .collect()
}

/// The first target beside each other one.
pub(crate) fn ratios(targets: &[String], trials: &[Trial]) -> Vec<Ratio> {
    let Some((subject, others)) = targets.split_first() else { return Vec::new() };
    others
        .iter()
        .filter_map(|against| {
            let cost = |trial: &Trial| Some(trial.cost);
            let p50 = |trial: &Trial| Some(trial.traffic()?.p50_us);
            let p99 = |trial: &Trial| Some(trial.traffic()?.p99_us);
            let throughput = |trial: &Trial| trial.tunnel()?.gigabits_per_cpu_second;
            Some(Ratio {
                subject: subject.clone(),
                against: against.clone(),
                cost: pair_by_pair(trials, subject, against, cost)?,
                p50: pair_by_pair(trials, subject, against, p50),
                p99: pair_by_pair(trials, subject, against, p99),
                throughput: pair_by_pair(trials, subject, against, throughput),
            })
        })
        .collect()
}

/// The cost's goal against the best of the others.
pub(crate) fn cost_verdict(goal: Goal, summaries: &[Summary], ratios: &[Ratio]) -> Option<Verdict> {
    let (figure, limit) = match goal {
        Goal::Ratio(limit) => (worst(ratios.iter().map(|ratio| ratio.cost))?, limit),
        Goal::Kibibytes(limit)
        | Goal::Mebibytes(limit)
        | Goal::Milliseconds(limit)
        | Goal::Microseconds(limit)
        | Goal::Seconds(limit) => (summaries.first()?.cost.median, limit),
        // About throughput.
        Goal::Times(_) => return None,
    };
    Some(Verdict { of: Figure::Cost, against: None, goal, figure, met: figure <= limit })
}

/// Whether median and 99th percentile of latency are not above the best of the others'. Says
/// nothing where the load set the pace: the latencies are its own then.
pub(crate) fn latency_verdicts(summaries: &[Summary], ratios: &[Ratio]) -> Vec<Verdict> {
    let limited = |s: &Summary| s.traffic.as_ref().is_none_or(|traffic| traffic.limited_by_load);
    if summaries.iter().any(limited) {
        return Vec::new();
    }
    let verdict = |of, figure: fn(&Ratio) -> Option<Spread>| {
        let figure = worst(ratios.iter().filter_map(figure))?;
        Some(Verdict { of, against: None, goal: Goal::Ratio(1.0), figure, met: figure <= 1.0 })
    };
    let both = [verdict(Figure::P50, |ratio| ratio.p50), verdict(Figure::P99, |ratio| ratio.p99)];
    both.into_iter().flatten().collect()
}

/// The ratio to the best of the others is the greatest of all ratios.
fn worst(ratios: impl Iterator<Item = Spread>) -> Option<f64> {
    ratios.map(|ratio| ratio.median).max_by(f64::total_cmp)
}

/// Both targets of a pass saw the same minute of the same machine, so their ratio holds where the
/// figures themselves drift.
fn pair_by_pair(
    trials: &[Trial],
    subject: &str,
    against: &str,
    figure: impl Fn(&Trial) -> Option<f64>,
) -> Option<Spread> {
    let own = trials.iter().filter(|trial| trial.target == subject);
    Spread::of(own.filter_map(|trial| {
        let same_pass = |other: &&Trial| other.target == against && other.pass == trial.pass;
        let other = trials.iter().find(same_pass)?;
        Some(figure(trial)? / figure(other)?)
    }))
}

fn traffic_summary<'a>(
    details: impl Iterator<Item = &'a TrafficDetail> + Clone,
) -> Option<TrafficSummary> {
    let spread = |figure: fn(&TrafficDetail) -> f64| Spread::of(details.clone().map(figure));
    Some(TrafficSummary {
        requests_per_second: spread(|detail| detail.requests_per_second)?,
        p50_us: spread(|detail| detail.p50_us)?,
        p99_us: spread(|detail| detail.p99_us)?,
        target_busy: spread(|detail| detail.target_busy)?,
        limited_by_load: details.clone().any(|detail| detail.limited_by_load),
    })
}

fn tunnel_summary<'a>(
    details: impl Iterator<Item = &'a TunnelDetail> + Clone,
) -> Option<TunnelSummary> {
    let spread = |figure: fn(&TunnelDetail) -> f64| Spread::of(details.clone().map(figure));
    Some(TunnelSummary {
        packets_per_second: spread(|detail| detail.requests_per_second)?,
        gigabits_per_second: spread(|detail| detail.gigabits_per_second)?,
        gigabits_per_cpu_second: Spread::of(
            details.clone().filter_map(|detail| detail.gigabits_per_cpu_second),
        ),
        parts_us: [
            spread(|detail| detail.sides_us[0])?,
            spread(|detail| detail.sides_us[1])?,
            spread(|detail| detail.hosts_us)?,
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::super::trial::Detail;
    use super::*;
    use crate::system::Memory;

    fn trial(target: &str, pass: u32, cost: f64) -> Trial {
        let nothing = Memory::default();
        Trial {
            target: target.to_owned(),
            pass,
            cost,
            operations: 1,
            all_requests: 1,
            detail: Detail::Idle { before: nothing, after: nothing },
        }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_median_of_an_even_count_is_the_mean_of_the_middle_two() {
        let spread = Spread { median: 2.5, min: 1.0, max: 9.0 };
        assert_eq!(Spread::of([9.0, 2.0, 1.0, 3.0]), Some(spread));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn ratios_pair_the_trials_of_one_pass_whatever_their_order() {
        // The machine is twice as slow in the second pass; the ratio does not see it.
        let trials =
            [trial("a", 0, 1.0), trial("b", 0, 2.0), trial("b", 1, 4.0), trial("a", 1, 2.0)];
        let ratios = ratios(&names(&["a", "b"]), &trials);
        assert_eq!(ratios.len(), 1);
        assert_eq!(ratios[0].cost, Spread { median: 0.5, min: 0.5, max: 0.5 });
    }

    fn traffic(target: &str, p50: f64, p99: f64, limited_by_load: bool) -> Trial {
        let detail = Detail::Traffic(TrafficDetail {
            p50_us: p50,
            p99_us: p99,
            limited_by_load,
            ..TrafficDetail::default()
        });
        Trial { detail, ..trial(target, 0, 1.0) }
    }

    #[test]
    fn latencies_are_held_against_the_better_peer_unless_they_are_the_loads_own() {
        let targets = names(&["ours", "slow", "fast"]);
        let verdicts = |limited| {
            let trials = [
                traffic("ours", 90.0, 900.0, limited),
                traffic("slow", 200.0, 2000.0, false),
                traffic("fast", 100.0, 600.0, false),
            ];
            latency_verdicts(&summaries(&targets, &trials), &ratios(&targets, &trials))
        };
        let found: Vec<_> = verdicts(false).iter().map(|v| (v.of, v.figure, v.met)).collect();
        assert_eq!(found, [(Figure::P50, 0.9, true), (Figure::P99, 1.5, false)]);
        assert_eq!(verdicts(true), []);
    }

    #[test]
    fn a_ratio_goal_is_held_against_the_better_peer() {
        let targets = names(&["ours", "slow", "fast"]);
        let trials = [trial("ours", 0, 8.0), trial("slow", 0, 20.0), trial("fast", 0, 10.0)];
        let (summaries, ratios) = (summaries(&targets, &trials), ratios(&targets, &trials));
        let at = |limit| cost_verdict(Goal::Ratio(limit), &summaries, &ratios).expect("a verdict");
        assert_eq!((at(0.85).figure, at(0.85).met), (0.8, true));
        assert!(!at(0.75).met);
        assert!(cost_verdict(Goal::Kibibytes(8.0), &summaries, &ratios).expect("a verdict").met);
    }
}
