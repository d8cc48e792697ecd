//! At which rates latencies are measured.

use std::collections::BTreeMap;

use anyhow::Context;

use super::Entrant;
use super::scenario::{Capacity, LATENCY_SHARE};
use super::summary::Spread;
use super::trial::{ANSWERED_AT_LEAST, OpenLoop, Trial};

/// The rate for each entrant, requests a second, from trials of a closed loop. A note says how they
/// came about.
///
/// # Errors
/// No trial of an entrant.
pub(super) fn rates(
    of: Capacity,
    entrants: &[Entrant<'_>],
    closed: &[Trial],
    notes: &mut Vec<String>,
) -> anyhow::Result<BTreeMap<String, f64>> {
    let mut capacities = Vec::new();
    for entrant in entrants {
        let own = closed.iter().filter(|trial| trial.target == entrant.label);
        let rates = own.filter_map(Trial::traffic).map(|traffic| traffic.requests_per_second);
        let capacity = Spread::of(rates).context("invariant: every entrant had a trial")?.median;
        let product = entrant.product;
        let counts = product.name() == "gateway" || product.sets_goals();
        capacities.push((entrant.label.clone(), capacity, counts));
    }
    let each: Vec<_> =
        capacities.iter().map(|(label, rate, _)| format!("{label} {rate:.0}")).collect();
    let least = least(capacities.iter().map(|(_, capacity, counts)| (*capacity, *counts)))
        .context("invariant: there is an entrant")?;
    if closed.iter().filter_map(Trial::traffic).any(|traffic| traffic.limited_by_load) {
        notes.push("the load's core set some of the capacities".to_owned());
    }
    let percent = LATENCY_SHARE * 100.0;
    notes.push(match of {
        Capacity::Least => format!(
            "{:.0} requests a second each, {percent:.0} % of {least:.0}, the least of the \
             gateway's, nginx's and HAProxy's capacities ({})",
            least * LATENCY_SHARE,
            each.join(", ")
        ),
        Capacity::Own => format!("{percent:.0} % of each capacity ({})", each.join(", ")),
    });
    let mut rates = BTreeMap::new();
    for (label, capacity, counts) in capacities {
        match of {
            Capacity::Own => drop(rates.insert(label, capacity * LATENCY_SHARE)),
            // It would only be seen to fall behind.
            Capacity::Least if !counts && capacity < least => {
                notes.push(format!("{label} is left out: it can take {capacity:.0}"));
            }
            Capacity::Least => drop(rates.insert(label, least * LATENCY_SHARE)),
        }
    }
    Ok(rates)
}

/// Says who fell behind the rate, as far as anybody did.
pub(super) fn behind(trials: &[Trial]) -> Option<String> {
    let open_loops = trials.iter().filter_map(|trial| Some((trial, trial.traffic()?.open_loop?)));
    let (trial, OpenLoop { answered, .. }) = open_loops
        .filter(|(_, open_loop)| open_loop.answered < ANSWERED_AT_LEAST)
        .min_by(|(_, one), (_, other)| one.answered.total_cmp(&other.answered))?;
    Some(format!(
        "{} answered only {:.0} % of what was due in pass {}: it, or the machine, could not keep up",
        trial.target,
        answered * 100.0,
        trial.pass + 1
    ))
}

/// The least capacity among those that count; among all, if none does.
fn least(capacities: impl Iterator<Item = (f64, bool)> + Clone) -> Option<f64> {
    let counting = capacities.clone().filter(|(_, counts)| *counts);
    let least = |all: &mut dyn Iterator<Item = (f64, bool)>| {
        all.map(|(capacity, _)| capacity).min_by(f64::total_cmp)
    };
    least(&mut counting.into_iter()).or_else(|| least(&mut capacities.into_iter()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_of_those_that_count_sets_the_rate() {
        let all = [(50.0, true), (40.0, true), (10.0, false)];
        assert_eq!(least(all.into_iter()), Some(40.0));
        assert_eq!(least([(10.0, false), (20.0, false)].into_iter()), Some(10.0));
        assert_eq!(least([].into_iter()), None);
    }
}
