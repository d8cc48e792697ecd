//! Commands and their mistakes.

use std::fs;

use crate::shared::{Backend, loadtest, said};

#[test]
fn the_backend_answers_what_it_is_asked_for() {
    let backend = Backend::start();
    let close = "Host: x\r\nConnection: close\r\n\r\n";
    let small = backend.ask(&format!("GET / HTTP/1.1\r\n{close}"));
    assert!(small.contains("\r\nX-Backend: tested\r\n"), "{small}");
    assert_eq!(small.split_once("\r\n\r\n").expect("a body").1.len(), 1024);
    let large = backend.ask(&format!("GET /bytes/1000000 HTTP/1.1\r\n{close}"));
    assert_eq!(large.split_once("\r\n\r\n").expect("a body").1.len(), 1_000_000);
    let head = backend.ask(&format!("HEAD /bytes/7 HTTP/1.1\r\n{close}"));
    assert!(head.contains("Content-Length: 7\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    let after_a_body = format!(
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhelloGET /count HTTP/1.1\r\n{close}"
    );
    let counted = backend.ask(&after_a_body);
    assert!(counted.ends_with("\r\n\r\n5 4\n"), "{counted}");
}

#[test]
fn a_run_and_the_backend_count_the_same_requests() {
    let backend = Backend::start();
    let url = format!("http://{}/bytes/300", backend.address);
    let folder = tempfile::tempdir().expect("a folder");
    let json = folder.path().join("report.json");
    let flags = ["--seconds", "0.5", "--connections", "7", "--length", "300", "--json"];
    let json_text = json.to_str().expect("UTF-8");
    let run = loadtest(&[&["run", &url], &flags[..], &[json_text]].concat());
    let (out, err) = (said(&run.stdout), said(&run.stderr));
    assert!(run.status.success(), "{out}{err}");
    let report = fs::read(&json).expect("a report");
    let report: serde_json::Value = serde_json::from_slice(&report).expect("JSON");
    let requests = report["total"]["succeeded"].as_u64().expect("a count");
    assert!(requests > 0);
    let counted = backend.ask("GET /count HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let expected = format!("\r\n\r\n{} 8\n", requests + 1);
    assert!(counted.ends_with(&expected), "{counted} does not end with {expected}");
}

#[test]
fn a_run_whose_answers_are_wrong_fails_and_says_how() {
    let backend = Backend::start();
    let url = format!("http://{}/", backend.address);
    let run = loadtest(&["run", &url, "--seconds", "5", "--connections", "2", "--length", "1"]);
    assert_eq!(run.status.code(), Some(1));
    assert!(said(&run.stderr).contains("1024 bytes for GET 127.0.0.1:"), "{}", said(&run.stderr));
}

#[test]
fn mistakes_are_named_with_what_to_do() {
    for (arguments, expected) in [
        (&["run", "ftp://127.0.0.1/"][..], "begin it with http:// or https://"),
        (&["run", "https://127.0.0.1:1/"], "--ca FILE, or --insecure"),
        (&["compare", "--gateway", "/nowhere/gateway"], "cargo build --release -p gateway"),
        (&["compare", "--without-gateway", "--only", "h1-63"], "there are h1-64"),
        (&["compare", "l6"], "[possible values: l7, tls, control,"),
        (&["compare", "--peers", "apache"], "[possible values: nginx, haproxy,"),
        (
            &["compare", "--without-gateway", "--peers", "envoy", "--peers-folder", "/nowhere"],
            "`loadtest peers --only envoy` fetches it",
        ),
        (&["compare", "--without-gateway", "--target-core", "4000"], "--target-core 4000: can't"),
        (&["compare", "--without-gateway", "--idle", "1000000"], "or hold "),
        (&["peers", "--only", "nginx"], "envoy, haproxy-2.8, traefik, caddy can"),
    ] {
        let output = loadtest(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        let err = said(&output.stderr);
        assert!(err.contains(expected), "{arguments:?}: {err}");
    }
}
