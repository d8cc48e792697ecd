use std::collections::BTreeMap;

use super::*;
use crate::load::outcome::{Distribution, Named, Process, RunReport, Slice, Tally, TimedEvent};
use crate::report::Document;

const EVIL: &str = "</script><script>alert('x')</script>&\"<b>";

fn distribution(count: u64) -> Distribution {
    let quantiles = [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 1.0];
    Distribution {
        count,
        mean_us: 300.0,
        max_us: 9_000.0,
        quantiles: quantiles.iter().map(|at| [*at, 100.0 + 8_900.0 * at * at]).collect(),
    }
}

fn a_run() -> RunReport {
    let tally = Tally {
        succeeded: 50_000,
        failed: 3,
        failures: BTreeMap::from([(EVIL.to_owned(), 3)]),
        first_failure: Some(EVIL.to_owned()),
        seconds: 20.0,
        latency: distribution(50_000),
        ..Tally::default()
    };
    let slice = |at: u32| Slice {
        at: f64::from(at),
        seconds: 1.0,
        due: 2_500,
        succeeded: 2_500,
        p50_us: 200.0,
        p99_us: 900.0,
        max_us: 2_000.0,
        ..Slice::default()
    };
    RunReport {
        name: EVIL.to_owned(),
        description: EVIL.to_owned(),
        machine: EVIL.to_owned(),
        seconds: 20.0,
        mix: vec![
            Named { name: EVIL.to_owned(), value: tally.clone() },
            Named { name: "post".to_owned(), value: tally.clone() },
        ],
        total: tally,
        series: (0..20).map(slice).collect(),
        processes: vec![Process {
            name: EVIL.to_owned(),
            cpu_us_per_operation: 4.0,
            series: vec![[0.5, 0.2, 1e6], [1.5, 0.3, 2e6]],
            ..Process::default()
        }],
        events: vec![
            TimedEvent { at: 9.0, what: format!("phase: {EVIL}") },
            TimedEvent { at: 10.0, what: "fault: origin killed".to_owned() },
            TimedEvent { at: 12.0, what: "fault over: origin started again".to_owned() },
        ],
        backends: BTreeMap::from([(EVIL.to_owned(), 7)]),
        notes: vec![EVIL.to_owned()],
        ..RunReport::default()
    }
}

fn a_comparison() -> crate::report::compared::Compared {
    let trial = |target: &str, pass: u32, cost: f64| {
        serde_json::json!({"target": target, "pass": pass, "cost": cost, "p99_us": cost * 100.0,
            "memory": {"rss": 1, "pss": 7_000_000}, "latency": distribution(10_000)})
    };
    let json = serde_json::json!({"format": 2, "kind": "compare", "machine": EVIL,
        "settings": {"passes": 2, "window": 1.0}, "targets": [["gateway", EVIL], [EVIL, "2"]],
        "left_out": [{"id": "l4", "reason": EVIL}],
        "scenarios": [{"id": "h1-64", "suite": "l7", "title": EVIL, "unit": "CPU µs/request",
            "verdicts": [{"of": "cost", "goal": {"ratio": 0.85}, "figure": 0.9, "met": false}],
            "notes": [EVIL], "trials": [trial("gateway", 0, 9.0), trial(EVIL, 0, 10.0),
                trial(EVIL, 1, 12.0), trial("gateway", 1, 9.0)]}]});
    let bytes = serde_json::to_vec(&json).expect("JSON");
    let Ok(Document::Compare(report)) = Document::parse(&bytes) else { panic!("a comparison") };
    *report
}

/// The page without its own style and script.
fn content(page: &str) -> String {
    let (before, rest) = page.split_once("<style>").expect("a style");
    let (_, rest) = rest.split_once("</style>").expect("its end");
    let (middle, rest) = rest.rsplit_once("<script>").expect("a script");
    let (_, after) = rest.split_once("</script>").expect("its end");
    format!("{before}{middle}{after}")
}

#[test]
fn text_is_escaped_wherever_it_comes_from() {
    for page in [run(&a_run()), compare(&a_comparison())] {
        let content = content(&page);
        assert!(content.matches("&lt;/script&gt;&lt;script&gt;").count() > 5);
        for never in ["<script", "alert('x')", "<b>alert", "NaN", "inf\""] {
            assert!(!content.contains(never), "{never}: {content}");
        }
    }
}

#[test]
fn nothing_is_fetched_from_anywhere() {
    for page in [run(&a_run()), compare(&a_comparison())] {
        for never in ["http://", "https://", "src=", "@import", "url(", "fetch("] {
            assert!(!page.contains(never), "{never}");
        }
    }
}

/// Elements that have an end are ended, in order.
#[test]
fn the_markup_is_well_formed() {
    for page in [run(&a_run()), compare(&a_comparison())] {
        let mut open: Vec<String> = Vec::new();
        let content = content(&page);
        for tag in content.split('<').skip(1) {
            let tag = tag.split('>').next().unwrap_or_default();
            let name = tag.trim_start_matches('/').split([' ', '\n', '/']).next().unwrap_or("");
            if tag.starts_with('/') {
                assert_eq!(open.pop().as_deref(), Some(name), "{tag}");
            } else if !tag.ends_with('/') && !["!doctype", "meta", "link"].contains(&name) {
                open.push(name.to_owned());
            }
        }
        assert_eq!(open, Vec::<String>::new());
        let mut ids: Vec<_> =
            content.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all, "two elements of one id");
    }
}

#[test]
fn every_plot_has_a_title_a_description_and_its_data() {
    for page in [run(&a_run()), compare(&a_comparison())] {
        let plots: Vec<_> = page.split("<figure").skip(1).collect();
        assert!(plots.len() >= 3, "{}", plots.len());
        for plot in plots {
            let plot = plot.split("</figure>").next().unwrap_or_default();
            assert!(plot.contains("<h3>") && plot.contains("<details>"), "{plot}");
            assert!(plot.contains("<desc") || plot.contains("aria-describedby"), "{plot}");
            assert!(plot.contains("<table>"), "{plot}");
        }
    }
}

#[test]
fn a_report_of_nothing_makes_a_page_all_the_same() {
    assert!(run(&RunReport::default()).ends_with("</html>\n"));
    assert!(compare(&crate::report::compared::Compared::default()).ends_with("</html>\n"));
}

/// The relative luminance of a colour (WCAG 2.2).
fn luminance(colour: &str) -> f64 {
    let channel = |at: usize| {
        let byte = u8::from_str_radix(&colour[at..at + 2], 16).expect("a colour");
        let share = f64::from(byte) / 255.0;
        if share <= 0.04045 { share / 12.92 } else { ((share + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
}

#[test]
fn colours_stand_out_in_light_and_in_dark() {
    let style = include_str!("page.css");
    let blocks: Vec<_> = style.split("--page:").skip(1).collect();
    assert_eq!(blocks.len(), 3, "light, dark by the system and dark by choice");
    let value = |block: &str, name: &str| {
        let (_, rest) = block.split_once(&format!("{name}: ")).expect(name);
        rest.split(';').next().expect("a value").to_owned()
    };
    for block in &blocks {
        let contrast = |name: &str, on: &str| {
            let (a, b) = (luminance(&value(block, name)), luminance(&value(block, on)));
            (a.max(b) + 0.05) / (a.min(b) + 0.05)
        };
        for name in ["--c0", "--c1", "--c2", "--c3", "--c4", "--c5"] {
            assert!(contrast(name, "--card") >= 3.0, "{name}: {}", contrast(name, "--card"));
        }
        for (name, on) in [
            ("--text", "--card"),
            ("--quiet", "--card"),
            ("--link", "--card"),
            ("--good", "--good-back"),
            ("--bad", "--bad-back"),
            ("--text", "--bad-back"),
        ] {
            assert!(contrast(name, on) >= 4.5, "{name} on {on}: {}", contrast(name, on));
        }
    }
    let dark = |block: &str| block.split('}').next().expect("a block").replace([' ', '\n'], "");
    assert_eq!(dark(blocks[1]), dark(blocks[2]), "the two dark styles are one");
}
