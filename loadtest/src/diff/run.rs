//! Figures of two runs of one scenario: all of it, each entry of the mix, each process.

use anyhow::bail;

use super::{Difference, Pair, Sample};
use crate::load::outcome::{Distribution, Process, RunReport, Slice, Tally};
use crate::report::compared::Kind;

/// Stretches that a run is cut into: long enough that one says little of the next.
const STRETCHES: usize = 10;
/// Runs whose lengths differ by more than this share are not of one scenario.
const SAME_LENGTH: f64 = 0.05;

/// All figures that both runs have.
pub(super) fn pairs(
    before: &RunReport,
    after: &RunReport,
    difference: &mut Difference,
) -> anyhow::Result<Vec<Pair>> {
    let names = |report: &RunReport| -> Vec<String> {
        report.phases.iter().map(|phase| phase.name.clone()).collect()
    };
    let longer = before.seconds.max(after.seconds);
    if (before.seconds - after.seconds).abs() > longer * SAME_LENGTH
        || names(before) != names(after)
    {
        bail!(
            "different settings: {} s of {:?} and {} s of {:?}; run one scenario twice",
            before.seconds,
            names(before),
            after.seconds,
            names(after)
        );
    }
    same_settings(before, after, difference)?;
    if before.name != after.name {
        difference.notes.push(format!("the scenarios are {:?} and {:?}", before.name, after.name));
    }
    for (report, which) in [(before, "first"), (after, "second")] {
        for note in report.notes.iter().filter(|note| note.contains("limited by the generator")) {
            difference.notes.push(format!("the {which} run: {note}"));
        }
    }
    let note = "no peers stand beside a run: a machine's drift between the two can't be told from \
                a change";
    difference.notes.push(note.to_owned());
    let stretches = (stretches(&before.series), stretches(&after.series));
    let noise = |figure: fn(&Stretch) -> f64| -> Vec<f64> {
        let logs = stretches.0.iter().zip(&stretches.1);
        logs.map(|(a, b)| (figure(b) / figure(a)).ln()).filter(|log| log.is_finite()).collect()
    };
    let noise = Noise {
        rate: noise(|stretch| stretch.rate),
        p50: noise(|stretch| stretch.p50),
        p99: noise(|stretch| stretch.p99),
    };
    let mut pairs = of_tally("total", &before.total, &after.total, &noise, 1.0);
    // The only entry of a mix is the total.
    if before.mix.len() > 1 {
        for entry in &before.mix {
            let Some(other) = after.mix.iter().find(|other| other.name == entry.name) else {
                let reason = format!("mix entry {}: only in the first report", entry.name);
                difference.not_compared.push(reason);
                continue;
            };
            let all = before.total.succeeded as f64 / entry.value.succeeded.max(1) as f64;
            let of = format!("mix {}", entry.name);
            pairs.extend(of_tally(&of, &entry.value, &other.value, &noise, all.max(1.0).sqrt()));
        }
    }
    for process in before.processes.iter().filter(|process| process.name != "generator") {
        match after.processes.iter().find(|other| other.name == process.name) {
            Some(other) => pairs.extend(of_process(process, other, &stretches)),
            None => {
                let reason = format!("process {}: only in the first report", process.name);
                difference.not_compared.push(reason);
            }
        }
    }
    Ok(pairs)
}

/// Refuses runs that are not of the same load. The address may differ: what answers there is what
/// is compared.
fn same_settings(
    before: &RunReport,
    after: &RunReport,
    difference: &mut Difference,
) -> anyhow::Result<()> {
    for (report, which) in [(before, "first"), (after, "second")] {
        if report.settings.is_empty() {
            let note =
                format!("the {which} report does not say its settings: it may be another load");
            difference.notes.push(note);
        }
    }
    if before.settings.is_empty() || after.settings.is_empty() {
        return Ok(());
    }
    let shown = |report: &RunReport, key: &str| {
        let value = report.settings.get(key).map_or("none", String::as_str);
        value.chars().take(120).collect::<String>()
    };
    let differing: Vec<String> = ["protocol", "load", "rate", "connections", "mix"]
        .into_iter()
        .filter(|key| before.settings.get(*key) != after.settings.get(*key))
        .map(|key| format!("{key} ({:?} and {:?})", shown(before, key), shown(after, key)))
        .collect();
    if differing.is_empty() {
        return Ok(());
    }
    bail!("different settings: {}; run one load twice", differing.join(", "))
}

struct Noise {
    rate: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
}

#[derive(Clone, Debug)]
struct Stretch {
    from: f64,
    to: f64,
    rate: f64,
    p50: f64,
    p99: f64,
}

/// Slices put together, so that there are [`STRETCHES`] at most.
fn stretches(series: &[Slice]) -> Vec<Stretch> {
    let size = series.len().div_ceil(STRETCHES).max(1);
    let one = |slices: &[Slice]| {
        let (first, last) = (slices.first()?, slices.last()?);
        let seconds: f64 = slices.iter().map(|slice| slice.seconds).sum();
        let succeeded: u64 =
            slices.iter().fold(0, |sum, slice| slice.succeeded.saturating_add(sum));
        let answered = || slices.iter().filter(|slice| slice.succeeded > 0);
        let middle = |figure: fn(&Slice) -> f64| {
            let logs: f64 = answered().map(|slice| figure(slice).ln()).sum();
            (logs / answered().count() as f64).exp()
        };
        Some(Stretch {
            from: first.at,
            to: last.at + last.seconds,
            rate: succeeded as f64 / seconds,
            p50: middle(|slice| slice.p50_us),
            p99: middle(|slice| slice.p99_us),
        })
    };
    // A rest at the end is none: it would weigh as much as the others.
    series.chunks_exact(size).filter_map(one).collect()
}

/// `factor` is by how much the noise of a part is greater than that of the whole.
fn of_tally(of: &str, before: &Tally, after: &Tally, noise: &Noise, factor: f64) -> Vec<Pair> {
    let rate = |tally: &Tally| tally.succeeded as f64 / tally.seconds;
    let at = |quantile: f64| move |tally: &Tally| quantile_us(&tally.latency, quantile);
    let figures: [(Kind, &str, f64, f64, &[f64]); 3] = [
        (Kind::Rate, "/s", rate(before), rate(after), &noise.rate),
        (Kind::P50, "µs", at(0.5)(before), at(0.5)(after), &noise.p50),
        (Kind::P99, "µs", at(0.99)(before), at(0.99)(after), &noise.p99),
    ];
    let timed = figures.into_iter().filter_map(|(kind, unit, before, after, differences)| {
        let is_there = |figure: f64| figure.is_finite() && figure > 0.0;
        (is_there(before) && is_there(after)).then(|| Pair {
            of: of.to_owned(),
            kind,
            unit: unit.to_owned(),
            before,
            after,
            sample: Sample::Stretches(differences.to_vec(), factor),
            has_peers: false,
        })
    });
    let counts = |tally: &Tally| [tally.failed, tally.failed.saturating_add(tally.succeeded)];
    let failures = Pair {
        of: of.to_owned(),
        kind: Kind::Failures,
        unit: "of all".to_owned(),
        before: 0.0,
        after: 0.0,
        sample: Sample::Counts(counts(before), counts(after)),
        has_peers: false,
    };
    timed.chain([failures]).collect()
}

fn quantile_us(latency: &Distribution, wanted: f64) -> f64 {
    let is_it = |[quantile, _]: &&[f64; 2]| (quantile - wanted).abs() < 1e-9;
    latency.quantiles.iter().find(is_it).map_or(f64::NAN, |[_, us]| *us)
}

fn of_process(
    before: &Process,
    after: &Process,
    stretches: &(Vec<Stretch>, Vec<Stretch>),
) -> Vec<Pair> {
    let cost = |process: &Process, stretch: &Stretch| {
        let within = |[at, _, _]: &&[f64; 3]| (stretch.from..stretch.to).contains(at);
        let shares: Vec<f64> =
            process.series.iter().filter(within).map(|[_, cpu, _]| *cpu).collect();
        shares.iter().sum::<f64>() / shares.len() as f64 / stretch.rate
    };
    let differences = stretches.0.iter().zip(&stretches.1);
    let differences = differences
        .map(|(a, b)| (cost(after, b) / cost(before, a)).ln())
        .filter(|log| log.is_finite())
        .collect();
    let one = |kind, unit: &str, from: f64, to: f64, sample| {
        (from > 0.0 && to > 0.0).then(|| Pair {
            of: format!("process {}", before.name),
            kind,
            unit: unit.to_owned(),
            before: from,
            after: to,
            sample,
            has_peers: false,
        })
    };
    let (from, to) = (before.cpu_us_per_operation, after.cpu_us_per_operation);
    let cost = one(Kind::Cost, "CPU µs", from, to, Sample::Stretches(differences, 1.0));
    let (from, to) = (before.peak_pss as f64, after.peak_pss as f64);
    let memory = one(Kind::Memory, "bytes", from, to, Sample::Unknown);
    [cost, memory].into_iter().flatten().collect()
}
