use super::*;
use crate::load::outcome::{Distribution, Named, Process, RunReport, Slice, Tally};
use crate::report::compared::{Compared, Scenario, Settings, Trial};

/// Numbers that look random and are the same on every run (SplitMix64).
struct Noise(u64);

impl Noise {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Normal, with mean 0 and deviation 1 (Box and Muller).
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (2.0 * std::f64::consts::PI * self.uniform()).cos()
    }
}

const COMMON: f64 = 0.05;
const OWN: f64 = 0.02;
const SCENARIOS: usize = 12;
const PASSES: u32 = 6;

/// A comparison whose machine drifts by 5 % from pass to pass for all alike and by 2 % for each
/// figure. The gateway's cost in the first scenario is `factor` times what it should be.
fn comparison(seed: u64, factor: f64, targets: &[&str]) -> Document {
    let mut noise = Noise(seed);
    let mut scenarios = Vec::new();
    for number in 0..SCENARIOS {
        let mut trials = Vec::new();
        for pass in 0..PASSES {
            let drift = COMMON * noise.normal();
            for (place, target) in targets.iter().enumerate() {
                let is_worse = number == 0 && place == 0;
                let cost = 20.0 * if is_worse { factor } else { 1.0 };
                let mut seen = |figure: f64| figure * (drift + OWN * noise.normal()).exp();
                trials.push(Trial {
                    target: (*target).to_owned(),
                    pass,
                    cost: seen(cost),
                    requests_per_second: Some(1.0 / seen(1.0 / 30_000.0)),
                    p50_us: Some(seen(2_000.0)),
                    p99_us: Some(seen(5_000.0)),
                    ..Trial::default()
                });
            }
        }
        scenarios.push(Scenario {
            id: format!("s{number}"),
            unit: "CPU µs/request".to_owned(),
            trials,
            ..Scenario::default()
        });
    }
    Document::Compare(Box::new(Compared {
        machine: "one".to_owned(),
        settings: Settings { passes: PASSES, window: 3.0, ..Settings::default() },
        targets: targets.iter().map(|name| ((*name).to_owned(), "1".to_owned())).collect(),
        scenarios,
        ..Compared::default()
    }))
}

const ALL: [&str; 3] = ["gateway", "nginx", "haproxy"];

fn between(before: &Document, after: &Document) -> Difference {
    difference(before, after, None, false).expect("a difference")
}

#[test]
fn noise_alone_is_seldom_taken_for_a_change() {
    const REPORTS: u64 = 1_000;
    let misled = (0..REPORTS).filter(|seed| {
        let (before, after) =
            (comparison(seed * 2, 1.0, &ALL), comparison(seed * 2 + 1, 1.0, &ALL));
        let changed = |line: &Line| matches!(line.verdict, Verdict::Worse | Verdict::Better);
        between(&before, &after).lines.iter().any(changed)
    });
    let misled = misled.count();
    println!("{misled} of {REPORTS} reports misled");
    // One in twenty, and three standard errors of the count.
    assert!(misled <= 70, "{misled} of {REPORTS}");
}

#[test]
fn a_tenth_more_is_caught_with_three_rounds() {
    const REPORTS: u64 = 1_000;
    let caught = (0..REPORTS).filter(|seed| {
        let before = comparison(seed * 2 + 1_000_000, 1.0, &ALL);
        let after = comparison(seed * 2 + 1_000_001, 1.1, &ALL);
        let is_it = |line: &Line| {
            line.verdict == Verdict::Worse && line.of == "s0 gateway" && line.figure == Kind::Cost
        };
        between(&before, &after).lines.iter().any(is_it)
    });
    let caught = caught.count();
    println!("{caught} of {REPORTS} caught");
    assert!(caught >= 950, "{caught} of {REPORTS}");
}

#[test]
fn a_drift_of_the_whole_machine_is_no_change_beside_peers_and_is_said_to_be_possible_without() {
    let slower = |document: Document| {
        let Document::Compare(mut report) = document else { panic!("a comparison") };
        for trial in report.scenarios.iter_mut().flat_map(|scenario| &mut scenario.trials) {
            trial.cost *= 1.5;
        }
        Document::Compare(report)
    };
    let (before, after) = (comparison(1, 1.0, &ALL), slower(comparison(2, 1.0, &ALL)));
    assert!(!between(&before, &after).is_worse());
    let alone = &ALL[..1];
    let (before, after) = (comparison(1, 1.0, alone), slower(comparison(2, 1.0, alone)));
    let difference = between(&before, &after);
    assert!(difference.is_worse());
    assert!(difference.lines.iter().all(|line| line.threshold == THRESHOLD_ALONE));
}

#[test]
fn what_is_not_alike_is_not_compared_and_says_so() {
    let (before, after) = (comparison(1, 1.0, &ALL), comparison(2, 1.0, &ALL));
    let change = |document: &Document, change: &dyn Fn(&mut Compared)| {
        let Document::Compare(mut report) = document.clone() else { panic!("a comparison") };
        change(&mut report);
        Document::Compare(report)
    };
    let error = |after: &Document| {
        format!("{:#}", difference(&before, after, None, false).expect_err("an error"))
    };
    let moved = change(&after, &|report| report.machine = "another".to_owned());
    assert!(error(&moved).contains("different machines"), "{}", error(&moved));
    assert!(difference(&before, &moved, None, true).is_ok());
    let quick = change(&after, &|report| report.settings.quick = true);
    assert!(error(&quick).contains("quick run"));
    let run =
        Document::Run(Box::new(RunReport { machine: "one".to_owned(), ..RunReport::default() }));
    assert!(error(&run).contains("one report is of `loadtest run`"));

    let mixed = change(&after, &|report| {
        report.targets[1].1 = "2".to_owned();
        report.scenarios[3].id = "new".to_owned();
        report.scenarios[4].trials[0].limited_by_load = true;
        report.scenarios[5].trials.retain(|trial| trial.pass == 0);
    });
    let difference = between(&before, &mixed);
    let said = difference.not_compared.join("\n");
    for expected in [
        "s3: only in the first",
        "new: only in the second",
        "s4: rate, p50, p99: the load",
        "s5: cost, rate, p50, p99: fewer than two passes",
    ] {
        assert!(said.contains(expected), "{said}");
    }
    assert!(difference.notes[0].contains("nginx is no measure"), "{:?}", difference.notes);
    assert!(difference.lines.iter().all(|line| line.unit == "of haproxy"));
    let text = text::text(&difference);
    assert!(text.contains("not compared: s3: only in the first report"), "{text}");
}

/// A run of a minute; latency and cost are so many times what they should be.
fn minute(seed: u64, slower: f64, dearer: f64, failed: u64) -> Document {
    let mut noise = Noise(seed);
    let mut seen = |figure: f64| figure * (0.03 * noise.normal()).exp();
    let series: Vec<Slice> = (0..60)
        .map(|second| Slice {
            at: f64::from(second),
            seconds: 1.0,
            due: 1_000,
            succeeded: 1_000,
            p50_us: seen(200.0 * slower),
            p99_us: seen(900.0 * slower),
            ..Slice::default()
        })
        .collect();
    let tally = |share: f64| Tally {
        succeeded: (60_000.0 * share) as u64,
        failed,
        seconds: 60.0,
        latency: Distribution {
            count: 60_000,
            quantiles: vec![[0.5, 200.0 * slower], [0.99, 900.0 * slower]],
            ..Distribution::default()
        },
        ..Tally::default()
    };
    let mix = ["get", "post"].map(|name| Named { name: name.to_owned(), value: tally(0.5) });
    let gateway = Process {
        name: "gateway".to_owned(),
        cpu_us_per_operation: 20.0 * dearer,
        peak_pss: 10 << 20,
        series: (0..60).map(|at| [f64::from(at) + 0.5, seen(0.02 * dearer), 0.0]).collect(),
        ..Process::default()
    };
    Document::Run(Box::new(RunReport {
        machine: "one".to_owned(),
        seconds: 60.0,
        total: tally(1.0),
        mix: mix.to_vec(),
        series,
        processes: vec![Process { name: "generator".to_owned(), ..gateway.clone() }, gateway],
        ..RunReport::default()
    }))
}

#[test]
fn runs_are_compared_by_entry_and_process() {
    let verdicts = |after: &Document| -> Vec<(String, Kind)> {
        let difference = between(&minute(1, 1.0, 1.0, 0), after);
        let worse = difference.lines.into_iter().filter(|line| line.verdict == Verdict::Worse);
        worse.map(|line| (line.of, line.figure)).collect()
    };
    assert_eq!(verdicts(&minute(2, 1.0, 1.0, 0)), []);
    assert_eq!(verdicts(&minute(2, 1.0, 1.2, 0)), [("process gateway".to_owned(), Kind::Cost)]);
    let slower = verdicts(&minute(2, 1.25, 1.0, 0));
    let parts = ["total", "mix get", "mix post"];
    let expected: Vec<_> = parts
        .iter()
        .flat_map(|of| [Kind::P50, Kind::P99].map(|kind| ((*of).to_owned(), kind)))
        .collect();
    assert_eq!(slower, expected);
    let failing = verdicts(&minute(2, 1.0, 1.0, 600));
    assert!(failing.contains(&("total".to_owned(), Kind::Failures)), "{failing:?}");
    let better = between(&minute(1, 1.25, 1.0, 0), &minute(2, 1.0, 1.0, 0));
    assert!(!better.is_worse() && better.lines.iter().any(|l| l.verdict == Verdict::Better));
}

#[test]
fn runs_of_different_loads_are_refused_and_named() {
    let with = |seed: u64, settings: [(&str, &str); 3]| match minute(seed, 1.0, 1.0, 0) {
        Document::Run(mut report) => {
            report.settings =
                settings.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
            Document::Run(report)
        }
        other @ Document::Compare(_) => other,
    };
    let before = with(1, [("target", "a"), ("rate", "100 a second"), ("mix", "GET /")]);
    let moved = with(2, [("target", "b"), ("rate", "100 a second"), ("mix", "GET /")]);
    assert!(difference(&before, &moved, None, false).is_ok());
    let faster = with(2, [("target", "a"), ("rate", "200 a second"), ("mix", "GET /")]);
    let error = difference(&before, &faster, None, false).expect_err("another load");
    let said = "different settings: rate (\"100 a second\" and \"200 a second\")";
    assert!(format!("{error:#}").contains(said), "{error:#}");
    let old = between(&minute(1, 1.0, 1.0, 0), &before);
    assert!(old.notes.iter().any(|note| note.contains("does not say its settings")));
}
