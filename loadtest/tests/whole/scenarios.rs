//! The scenarios for other protocols than HTTP/1.1, each against a target that counts for itself.

use std::net::SocketAddr;
use std::path::Path;

use crate::nginx::Nginx;
use crate::shared::{Backend, run_scenario};
use serde_json::Value;

fn run(name: &str, target: SocketAddr, flags: &[&str]) -> Value {
    let scenarios = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let connect = target.to_string();
    let all = [&["--seconds", "0.6", "--connect", &connect], flags].concat();
    run_scenario(&scenarios.join(format!("{name}.yaml")), &all).0
}

#[track_caller]
fn number(report: &Value, field: &str) -> u64 {
    let number = report[field].as_u64();
    assert!(number.is_some(), "{field}: {report}");
    number.unwrap_or_default()
}

/// Operations of a run of which none failed.
#[track_caller]
fn all_succeeded(report: &Value) -> u64 {
    let succeeded = number(&report["total"], "succeeded");
    assert_eq!(number(&report["total"], "failed"), 0, "{report}");
    assert!(succeeded > 0, "{report}");
    succeeded
}

#[test]
fn websocket_messages_are_those_that_the_backend_echoed() {
    let backend = Backend::start();
    let report = run("websocket", backend.address, &[]);
    let counts = backend.counts();
    let messages = all_succeeded(&report);
    assert_eq!(number(&counts, "websocket_messages"), messages);
    assert_eq!(number(&counts, "websocket_bytes"), messages * 100);
    assert_eq!(number(&counts, "websocket_connections"), 100);
    assert_eq!(number(&report, "connections"), 100);
}

#[test]
fn tcp_exchanges_are_those_that_the_backend_echoed_each_on_a_connection_of_its_own() {
    let backend = Backend::start();
    let report = run("tcp-connections", backend.tcp, &[]);
    let counts = backend.counts();
    let exchanges = all_succeeded(&report);
    assert_eq!(number(&counts, "tcp_bytes"), exchanges * 64);
    assert_eq!(number(&report, "connections"), exchanges);
    // Each of the 32 may have been about to connect once more when the time was over.
    let unused = number(&counts, "tcp_connections") - exchanges;
    assert!(unused <= 32, "{unused}");
}

#[test]
fn tcp_bulk_carries_every_byte_there_and_back_on_few_connections() {
    let backend = Backend::start();
    let report = run("tcp-bulk", backend.tcp, &[]);
    let counts = backend.counts();
    let mebibytes = all_succeeded(&report);
    assert_eq!(number(&counts, "tcp_bytes"), mebibytes << 20);
    assert_eq!(number(&report["total"], "content_bytes"), mebibytes << 20);
    assert_eq!(number(&counts, "tcp_connections"), 4);
}

#[test]
fn datagrams_sent_are_those_that_the_backend_saw() {
    let backend = Backend::start();
    // As few as no socket's buffer loses, however late its owner gets a core.
    let report = run("udp", backend.udp, &["--rate", "500"]);
    let counts = backend.counts();
    let back = all_succeeded(&report);
    assert_eq!(number(&counts, "udp_packets"), back);
    assert_eq!(number(&counts, "udp_bytes"), back * 200);
    assert_eq!(back, 300);
}

#[test]
fn http2_requests_over_tls_are_those_in_nginxs_access_log() {
    let nginx = Nginx::start();
    let report = run("http2", nginx.tls, &[]);
    let requests = all_succeeded(&report);
    assert_eq!(number(&report, "connections"), 8);
    let tls = report["tls"].as_object().expect("handshakes");
    assert_eq!(tls.values().map(|count| count.as_u64().expect("a count")).sum::<u64>(), 8);
    let log = nginx.log();
    assert!(log.iter().all(|line| line == "HTTP/2.0 200 h2"), "{:?}", log.first());
    assert_eq!(log.len() as u64, requests);
}

#[test]
fn http2_requests_in_the_clear_are_those_in_nginxs_access_log() {
    let nginx = Nginx::start();
    let text = include_str!("../../scenarios/http2.yaml")
        .replace("https://127.0.0.1:8443", &format!("http://{}", nginx.clear))
        .replace("  tls: {insecure: true}\n", "");
    let folder = tempfile::tempdir().expect("a folder");
    let scenario = folder.path().join("h2c.yaml");
    std::fs::write(&scenario, text).expect("written");
    let (report, _) = run_scenario(&scenario, &["--seconds", "0.6"]);
    let requests = all_succeeded(&report);
    assert_eq!(number(&report, "connections"), 8);
    assert!(report["tls"].as_object().expect("handshakes").is_empty(), "{report}");
    let log = nginx.log();
    assert!(log.iter().all(|line| line == "HTTP/2.0 200 -"), "{:?}", log.first());
    assert_eq!(log.len() as u64, requests);
}
