//! `loadtest diff` and `loadtest report`, as their users run them.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::shared::{loadtest, said};

/// A comparison of six passes whose figures move a little, the gateway's cost times `factor`.
fn comparison(folder: &Path, name: &str, shift: f64, factor: f64) -> PathBuf {
    let trial = |target: &str, pass: u32, cost: f64| {
        let wave = 1.0 + 0.01 * (f64::from(pass) * 2.4 + shift).sin();
        let drift = 1.0 + 0.08 * (f64::from(pass) + shift * 7.0).cos();
        json!({"target": target, "pass": pass, "cost": cost * wave * drift, "operations": 1000,
            "requests_per_second": 1e6 / (cost * wave * drift), "p50_us": 900.0 * drift,
            "p99_us": 2500.0 * drift, "target_busy": 0.98})
    };
    let trials: Vec<Value> = (0..6)
        .flat_map(|pass| [trial("gateway", pass, 15.0 * factor), trial("nginx", pass, 18.0)])
        .collect();
    let report = json!({"format": 2, "kind": "compare", "machine": "one", "left_out": [],
        "settings": {"passes": 6, "window": 3.0, "warm_up": 0.7, "idle": 5000, "quick": false,
            "cores": {"target": 0, "load": 1}},
        "targets": [["gateway", "0.1"], ["nginx", "1.22"]],
        "scenarios": [{"id": "h1-64", "suite": "l7", "title": "HTTP/1.1", "unit": "CPU µs/request",
            "notes": [], "trials": trials,
            "verdicts": [{"of": "cost", "goal": {"ratio": 0.85}, "figure": 0.83, "met": true}]}]});
    let path = folder.join(name);
    std::fs::write(&path, report.to_string()).expect("a file");
    path
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

#[test]
fn a_regression_ends_with_1_and_noise_with_0() {
    let folder = tempfile::tempdir().expect("a folder");
    let before = comparison(folder.path(), "before.json", 0.0, 1.0);
    let again = comparison(folder.path(), "again.json", 0.5, 1.0);
    let worse = comparison(folder.path(), "worse.json", 0.5, 1.1);

    let noise = loadtest(&["diff", text(&before), text(&again)]);
    assert_eq!(noise.status.code(), Some(0), "{}{}", said(&noise.stdout), said(&noise.stderr));
    let found = loadtest(&["diff", text(&before), text(&worse)]);
    let out = said(&found.stdout);
    assert_eq!(found.status.code(), Some(1), "{out}{}", said(&found.stderr));
    assert!(out.contains("worse: h1-64 gateway: cost +"), "{out}");
    let back = loadtest(&["diff", text(&worse), text(&before), "--json"]);
    assert_eq!(back.status.code(), Some(0));
    let lines: Value = serde_json::from_slice(&back.stdout).expect("JSON");
    let cost = &lines["lines"][0];
    assert_eq!((&cost["figure"], &cost["verdict"]), (&json!("cost"), &json!("better")));
    let lenient = loadtest(&["diff", text(&before), text(&worse), "--threshold", "25"]);
    assert_eq!(lenient.status.code(), Some(0));
}

#[test]
fn a_report_is_shown_and_made_into_one_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let before = comparison(folder.path(), "before.json", 0.0, 1.0);
    let shown = said(&loadtest(&["report", text(&before)]).stdout);
    assert!(shown.contains("gateway / nginx: cost 0.83"), "{shown}");
    let page = folder.path().join("page.html");
    let made = loadtest(&["report", text(&before), "--html", text(&page)]);
    assert!(made.status.success(), "{}", said(&made.stderr));
    let page = std::fs::read_to_string(page).expect("a page");
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    assert!(page.contains("HTTP/1.1 <code>h1-64</code>"));
}

#[test]
fn files_that_are_no_reports_are_named_with_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let other = folder.path().join("other.json");
    std::fs::write(&other, "{\"format\": 9, \"kind\": \"run\"}").expect("a file");
    for (path, expected) in [
        ("/nowhere.json", "No such file"),
        (text(&other), "format 9 is of a later version of loadtest; this one reads up to 2"),
    ] {
        for arguments in [&["report", path][..], &["diff", path, path]] {
            let output = loadtest(arguments);
            assert_eq!(output.status.code(), Some(1), "{arguments:?}");
            let err = said(&output.stderr);
            assert!(err.contains(path) && err.contains(expected), "{err}");
        }
    }
}
