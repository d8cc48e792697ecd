use super::impact::{Back, impacts};
use super::*;
use crate::load::outcome::{Slice, TimedEvent};

#[test]
fn reports_of_other_kinds_and_versions_are_refused_with_what_to_do() {
    for (json, said) in [
        (&b"{"[..], "no JSON; write one with"),
        (b"{}", "format and kind are missing"),
        (b"[1]", "format and kind are missing"),
        (br#"{"format":3,"kind":"run"}"#, "format 3 is of a later version"),
        (br#"{"format":2,"kind":"walk"}"#, "format and kind are missing"),
        (br#"{"format":2,"kind":"run","name":"x"}"#, "missing field"),
    ] {
        let error = Document::parse(json).expect_err(said);
        assert!(format!("{error:#}").contains(said), "{error:#}");
    }
}

/// The form in which the first version wrote comparisons.
const FORMAT_1: &str = r#"{"format":1,"machine":"EPYC","settings":{"passes":2,"window":0.4,
    "warm_up":0.2,"idle":500,"quick":true,"cores":{"target":0,"load":1}},
    "targets":[["gateway","0.1"],["nginx","1.22"]],"scenarios":[{"id":"h1-64","suite":"l7",
    "title":"HTTP","unit":"CPU µs/request","summaries":[],"ratios":[],
    "verdicts":[{"of":"cost","goal":{"ratio":0.85},"figure":0.8,"met":true}],"notes":[],"trials":[
    {"target":"gateway","pass":0,"cost":8.0,"operations":10,"requests_per_second":9.0,"p50_us":1.0,
    "p99_us":2.0,"target_busy":0.9,"load_busy":0.5,"limited_by_load":false,"generator_us":1.0,
    "backend_us":1.0,"upstream_connections":0.0,"failures":{},"tls":[]},
    {"target":"nginx","pass":0,"cost":10.0,"operations":10}]}]}"#;

#[test]
fn a_comparison_of_the_first_version_is_read() {
    let Document::Compare(report) = Document::parse(FORMAT_1.as_bytes()).expect("a report") else {
        panic!("a comparison");
    };
    let text = terminal::compare(&report);
    assert!(text.contains("gateway / nginx: cost 0.80 (0.80–0.80)"), "{text}");
    assert!(text.contains("goal: at most 0.85 times the better: met (0.80)"), "{text}");
}

/// A run of a thousand operations a second; `slice` may change each second.
fn run_of(seconds: u32, change: impl Fn(u32, &mut Slice)) -> RunReport {
    let slice = |second: u32| {
        let mut slice = Slice {
            at: f64::from(second),
            seconds: 1.0,
            due: 1_000,
            succeeded: 1_000,
            failed: 0,
            p50_us: 200.0,
            p99_us: 900.0,
            max_us: 2_000.0,
        };
        change(second, &mut slice);
        slice
    };
    let event = |at: f64, what: &str| TimedEvent { at, what: what.to_owned() };
    RunReport {
        series: (0..seconds).map(slice).collect(),
        events: vec![
            event(10.0, "fault: origin killed"),
            event(12.0, "fault over: origin started again"),
        ],
        ..RunReport::default()
    }
}

#[test]
fn a_fault_is_told_by_failures_slowest_and_the_time_until_all_is_normal() {
    let report = run_of(30, |second, slice| match second {
        10..=12 => (slice.succeeded, slice.failed, slice.max_us) = (100, 50, 3e6),
        13 => slice.p99_us = 5_000.0,
        _ => {}
    });
    let impacts = impacts(&report);
    assert_eq!(impacts.len(), 1);
    assert_eq!((impacts[0].what.as_str(), impacts[0].over), ("origin killed", Some(12.0)));
    assert_eq!((impacts[0].failed, impacts[0].slowest_us), (150, 3e6));
    assert_eq!(impacts[0].back, Back::AfterEnd(2.0));
}

#[test]
fn a_fault_soon_after_another_is_held_against_what_was_before_both() {
    let mut report = run_of(30, |second, slice| match second {
        10..=12 => (slice.succeeded, slice.failed, slice.p99_us) = (100, 50, 9e5),
        14 | 15 => slice.p99_us = 5_000.0,
        _ => {}
    });
    for (at, what) in [(14.0, "fault: origin paused"), (15.5, "fault over: origin continued")] {
        report.events.push(TimedEvent { at, what: what.to_owned() });
    }
    let impacts = impacts(&report);
    assert_eq!(impacts[0].back, Back::AfterEnd(1.0));
    assert_eq!((impacts[1].back, impacts[1].failed), (Back::AfterEnd(0.5), 0));
}

#[test]
fn a_fault_that_could_not_be_carried_out_has_a_row() {
    let mut report = run_of(30, |_, _| {});
    let what = "fault failed: origin: it has ended".to_owned();
    report.events.push(TimedEvent { at: 20.0, what });
    let text = terminal::run(&report);
    let row = text.lines().find(|line| line.contains("not carried out")).expect("a row");
    assert!(row.contains("origin: it has ended") && row.contains("20.0 s"), "{row}");
}

#[test]
fn a_fault_that_nobody_saw_and_one_that_never_ends_are_told_apart() {
    assert_eq!(impacts(&run_of(30, |_, _| {}))[0].back, Back::NeverAway);
    let for_good = run_of(30, |second, slice| {
        if second >= 10 {
            (slice.succeeded, slice.failed) = (0, 20);
        }
    });
    assert_eq!((impacts(&for_good)[0].back, impacts(&for_good)[0].failed), (Back::NotSeen, 400));
    let mut late = run_of(30, |_, _| {});
    late.events[0].at = 0.5;
    assert_eq!(impacts(&late)[0].back, Back::Unknown);
}

#[test]
fn a_phase_of_another_rate_is_no_harm() {
    let mut report = run_of(30, |second, slice| {
        if second >= 11 {
            (slice.due, slice.succeeded) = (200, 200);
        }
    });
    assert_eq!(impacts(&report)[0].back, Back::NotSeen);
    report.events.push(TimedEvent { at: 11.0, what: "phase: calm".to_owned() });
    assert_eq!(impacts(&report)[0].back, Back::NeverAway);
}
