//! What the gateway shows of itself.

use std::io::Write;
use std::process::{Command, Stdio};

use testkit::manifest::{Ingress, service};
use testkit::{Backend, eventually};

use crate::{builder, everything_to, gateway, gateway_to};

#[test]
fn health_and_readiness_answer_200() {
    let gateway = gateway(&[]);
    assert_eq!(gateway.admin_get("/healthz").status, 200);
    assert_eq!(gateway.admin_get("/readyz").status, 200);
    assert_eq!(gateway.admin_get("/nothing").status, 404);
}

#[test]
fn metrics_pass_promtool() {
    let backend = Backend::named("x");
    let gateway = gateway_to(&backend);
    gateway.get("a.test", "/");
    let page = gateway.admin_get("/metrics");
    assert!(page.header("content-type").unwrap().starts_with("text/plain"), "{page:?}");
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool (Debian: prometheus) is needed by this test");
    promtool.stdin.take().unwrap().write_all(&page.body).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn requests_are_counted_by_ingress_and_class_of_status() {
    let backend = Backend::named("x");
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    for _ in 0..7 {
        client.get("a.test", "/");
    }
    eventually("seven requests are counted", || {
        let page = gateway.admin_get("/metrics").text();
        page.lines()
            .any(|line| {
                line.starts_with("tidegate_requests_total{")
                    && line.contains("shop/all")
                    && line.contains("2xx")
                    && line.ends_with(" 7")
            })
            .then_some(())
    });
    assert_eq!(
        gateway.metric("tidegate_connections_open", &[("protocol", "http"), ("alb", "public")]),
        1.0
    );
    drop(client);
    eventually("the connection is gone", || {
        (gateway.metric("tidegate_connections_open", &[]) == 0.0).then_some(())
    });
}

#[test]
fn labels_stay_few_whatever_clients_send() {
    let backend = Backend::named("x");
    let gateway = gateway_to(&backend);
    gateway.get("a.test", "/warm");
    let lines = gateway.admin_get("/metrics").text().lines().count();
    let mut client = gateway.client();
    for i in 0..50 {
        client.send(format!(
            "METHOD{i} /path{i} HTTP/1.1\r\nHost: host{i}.test\r\nUser-Agent: u{i}\r\n\r\n"
        ));
        client.response();
    }
    let page = gateway.admin_get("/metrics").text();
    assert!(!page.contains("path1") && !page.contains("host1") && !page.contains("METHOD1"));
    assert!(page.lines().count() <= lines + 40, "{lines} grew to {}", page.lines().count());
}

#[test]
fn routes_are_listed_as_json() {
    let backend = Backend::named("x");
    let ingress = Ingress::new("listed").host("a.test").prefix("/listed", "app").yaml();
    let gateway = gateway(&[&service("app", &[&backend]), &ingress]);
    let response = gateway.admin_get("/api/v1/routes");
    assert_eq!(response.header("content-type"), Some("application/json"));
    let routes: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    let text = routes.to_string();
    for part in ["listed", "a.test", "/listed", &backend.address().to_string()] {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
}

#[test]
fn access_log_has_a_json_line_for_each_request() {
    let backend = Backend::named("hello");
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send(
        "POST /p?q=\"x\\y\" HTTP/1.1\r\nHost: a.test\r\nUser-Agent: tab\tquote\" \u{e9}\r\n\
         Content-Length: 3\r\n\r\nabc",
    );
    assert_eq!(client.response().text(), "hello");
    gateway.get("a.test", "/two");
    let mut refused = gateway.client();
    refused.send("BAD\r\n\r\n");
    assert_eq!(refused.response().status, 400);
    let lines = eventually("three lines are written", || {
        let lines = gateway.access_log();
        (lines.len() >= 3).then_some(lines)
    });
    assert_eq!(lines.len(), 3);
    let first = lines.iter().find(|line| line["method"] == "POST").unwrap();
    assert_eq!(first["path"], "/p?q=\"x\\y\"");
    assert_eq!(first["host"], "a.test");
    assert_eq!(first["status"], 200);
    assert_eq!(first["client"], "127.0.0.1");
    assert_eq!(first["scheme"], "http");
    assert_eq!(first["received"], 3);
    assert_eq!(first["sent"], 5);
    assert_eq!(first["ingress"], "shop/all");
    assert_eq!(first["upstream"], backend.address().to_string());
    assert_eq!(first["user_agent"], "tab\tquote\" \u{e9}");
    assert!(first["duration_ms"].as_f64().unwrap() >= 0.0);
    // The id is the one that the backend has seen.
    let id = first["request_id"].as_str().unwrap();
    assert!(backend.received_text().contains(&format!("X-Request-ID: {id}\r\n")));
    assert!(lines.iter().any(|line| line["status"] == 400));
}

#[test]
fn log_names_the_client_behind_a_trusted_proxy() {
    let backend = Backend::named("x");
    let gateway = builder()
        .alb("trustedProxies: [127.0.0.0/8]")
        .manifest("all.yaml", everything_to(&[&backend]))
        .start();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 192.0.2.9\r\n\r\n");
    client.response();
    let lines = eventually("a line is written", || {
        let lines = gateway.access_log();
        (!lines.is_empty()).then_some(lines)
    });
    assert_eq!(lines[0]["client"], "192.0.2.9");
}

#[test]
fn rotated_log_is_opened_anew_on_sighup() {
    let backend = Backend::named("x");
    let gateway = gateway_to(&backend);
    gateway.get("a.test", "/before");
    eventually("the line is written", || (gateway.access_log().len() == 1).then_some(()));
    let log = gateway.folder().join("access.log");
    std::fs::rename(&log, gateway.folder().join("access.log.1")).unwrap();
    gateway.hang_up();
    eventually("the file is there again", || {
        gateway.get("a.test", "/after");
        log.exists().then_some(())
    });
}

#[test]
fn failure_of_a_backend_is_told_apart_in_the_log() {
    let backend = Backend::start(|connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send_get("a.test", "/");
    assert!(client.try_response_to("GET").is_err());
    let lines = eventually("a line is written", || {
        let lines = gateway.access_log();
        (!lines.is_empty()).then_some(lines)
    });
    assert!(lines[0]["error"].as_str().is_some_and(|e| !e.is_empty()), "{}", lines[0]);
}

#[test]
fn explain_names_the_rule_and_the_backend() {
    let backend = Backend::named("x");
    let ingress = Ingress::new("explained").host("a.test").prefix("/x", "app").yaml();
    let gateway = gateway(&[&service("app", &[&backend]), &ingress]);
    let (code, out, err) = gateway.run(&["explain", "http://a.test/x/y"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("explained") && out.contains(&backend.address().to_string()), "{out}");
}

#[test]
fn plan_and_check_of_good_manifests_succeed() {
    let backend = Backend::named("x");
    let gateway = gateway_to(&backend);
    let (code, out, err) = gateway.run(&["check"]);
    assert_eq!(code, Some(0), "{out}{err}");
    let (code, out, err) = gateway.run(&["plan", "--output", "json"]);
    assert_eq!(code, Some(0), "{err}");
    let plan: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(plan.to_string().contains(&backend.address().to_string()), "{plan}");
}
