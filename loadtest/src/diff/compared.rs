//! Figures of two comparisons, scenario by scenario.

use anyhow::bail;

use super::{Difference, Pair, Sample};
use crate::report::compared::{Compared, Kind, Scenario};

/// What the note of a scenario holds that something disturbed.
const DISTURBED: &str = "something else runs on this machine";

/// All figures that both comparisons have.
pub(super) fn pairs(
    before: &Compared,
    after: &Compared,
    difference: &mut Difference,
) -> anyhow::Result<Vec<Pair>> {
    let (old, new) = (&before.settings, &after.settings);
    if old.quick != new.quick {
        bail!("one of the reports is of a quick run, whose figures mean nothing");
    }
    if old.cores != new.cores {
        bail!("different cores ({:?} and {:?}): measure again on the same", old.cores, new.cores);
    }
    if old.quick {
        difference.notes.push("both are quick runs, whose figures mean nothing".to_owned());
    }
    if old.window.to_bits() != new.window.to_bits() {
        let note = format!("windows of {} s and {} s", old.window, new.window);
        difference.notes.push(note);
    }
    let references = references(before, after, difference);
    let mut pairs = Vec::new();
    for scenario in &before.scenarios {
        let id = &scenario.id;
        let Some(other) = after.scenarios.iter().find(|other| other.id == *id) else {
            difference.not_compared.push(format!("{id}: only in the first report"));
            continue;
        };
        let holds_idle = scenario.trials.iter().any(|trial| trial.after.is_some());
        let held = |scenario: &Scenario| scenario.trials.first().map(|trial| trial.operations);
        if scenario.unit != other.unit || (holds_idle && held(scenario) != held(other)) {
            let reason = format!("{id}: measured with other settings");
            difference.not_compared.push(reason);
            continue;
        }
        for (report, which) in [(scenario, "first"), (other, "second")] {
            for note in report.notes.iter().filter(|note| note.contains(DISTURBED)) {
                difference.notes.push(format!("{id}, the {which} report: {note}"));
            }
        }
        pairs.extend(of_scenario(scenario, other, &references, difference));
    }
    for scenario in &after.scenarios {
        if !before.scenarios.iter().any(|other| other.id == scenario.id) {
            let reason = format!("{}: only in the second report", scenario.id);
            difference.not_compared.push(reason);
        }
    }
    Ok(pairs)
}

/// Names of the targets whose versions changed can't be measured against.
struct Changed(Vec<String>);

fn references(before: &Compared, after: &Compared, difference: &mut Difference) -> Changed {
    let mut changed = Vec::new();
    for (name, version) in before.targets.iter().skip(1) {
        let other = after.targets.iter().find(|(other, _)| other == name);
        match other {
            Some((_, other)) if other != version => {
                difference.notes.push(format!(
                    "{name} is no measure, its version changed: {version} and {other}"
                ));
                changed.push(name.clone());
            }
            _ => {}
        }
    }
    Changed(changed)
}

fn of_scenario(
    before: &Scenario,
    after: &Scenario,
    changed: &Changed,
    difference: &mut Difference,
) -> Vec<Pair> {
    let (old, new) = (before.targets(), after.targets());
    let Some((subject, others)) = old.split_first() else { return Vec::new() };
    if !new.contains(subject) {
        let reason = format!("{}: {subject} is in the first report only", before.id);
        difference.not_compared.push(reason);
        return Vec::new();
    }
    let peers: Vec<&str> = others
        .iter()
        .copied()
        .filter(|name| new.contains(name) && !changed.0.iter().any(|other| other == name))
        .collect();
    for name in others.iter().filter(|name| !new.contains(name)) {
        difference.not_compared.push(format!("{}: {name} is in one report only", before.id));
    }
    let limited = |scenario: &Scenario| {
        let counts = |name: &str| name == *subject || peers.contains(&name);
        scenario.trials.iter().any(|trial| trial.limited_by_load && counts(&trial.target))
    };
    let limited = limited(before) || limited(after);
    let mut pairs = Vec::new();
    let mut too_few = Vec::new();
    for kind in Kind::OF_TRIALS {
        let is_timing = matches!(kind, Kind::Rate | Kind::P50 | Kind::P99);
        if limited && is_timing {
            continue;
        }
        let own = (before.spread(subject, kind), after.spread(subject, kind));
        let (Some(own_before), Some(own_after)) = own else { continue };
        let samples =
            (logarithms(before, subject, &peers, kind), logarithms(after, subject, &peers, kind));
        if samples.0.len() < 2 || samples.1.len() < 2 {
            too_few.push(kind.name());
            continue;
        }
        let middle = |sample: &[f64], own: f64| match peers.is_empty() {
            true => own,
            false => (sample.iter().sum::<f64>() / sample.len() as f64).exp(),
        };
        pairs.push(Pair {
            of: format!("{} {subject}", before.id),
            kind,
            unit: match peers.is_empty() {
                true => unit(kind, &before.unit),
                false => format!("of {}", peers.join(", ")),
            },
            before: middle(&samples.0, own_before.median),
            after: middle(&samples.1, own_after.median),
            sample: Sample::Passes(samples.0, samples.1),
            has_peers: !peers.is_empty(),
        });
    }
    if limited {
        let reason =
            format!("{}: rate, p50, p99: the load was the limit, not the target", before.id);
        difference.not_compared.push(reason);
    }
    if !too_few.is_empty() {
        let reason = format!(
            "{}: {}: fewer than two passes that can be used",
            before.id,
            too_few.join(", ")
        );
        difference.not_compared.push(reason);
    }
    pairs
}

fn unit(kind: Kind, cost: &str) -> String {
    match kind {
        Kind::Cost => cost.to_owned(),
        Kind::Rate => "/s".to_owned(),
        Kind::P50 | Kind::P99 => "µs".to_owned(),
        Kind::Memory => "bytes".to_owned(),
        Kind::Failures => String::new(),
    }
}

/// The logarithms of a target's figures, or of their ratios to the geometric mean of the peers'
/// in the same pass.
fn logarithms(scenario: &Scenario, subject: &str, peers: &[&str], kind: Kind) -> Vec<f64> {
    let peers: Vec<_> = peers.iter().map(|peer| scenario.by_pass(peer, kind)).collect();
    let log = |figure: f64| (figure > 0.0).then(|| figure.ln());
    let own = scenario.by_pass(subject, kind);
    own.iter()
        .filter_map(|(pass, figure)| {
            let logs = peers.iter().map(|peer| log(*peer.get(pass)?));
            let sum = logs.sum::<Option<f64>>()?;
            Some(log(*figure)? - sum / peers.len().max(1) as f64)
        })
        .collect()
}
