//! What the backend learns of the client, and which fields stay on their hop.

use testkit::manifest::{Ingress, service, tls_secret};
use testkit::{Backend, Gateway, Head};

use crate::{builder, everything_to, gateway_to};

/// Sends a GET with these fields, and answers the head that the backend saw.
#[track_caller]
fn seen(gateway: &Gateway, fields: &str) -> Head {
    let mut client = gateway.client();
    client.send(format!("GET /p?q HTTP/1.1\r\nHost: a.test:8080\r\n{fields}\r\n"));
    let response = client.response();
    assert_eq!(response.status, 200, "{response:?}");
    Head::parse(&response.body)
}

/// As [`gateway_to`], believing the proxies on loopback and in 10/8.
#[track_caller]
fn trusting_gateway_to(backend: &Backend) -> Gateway {
    builder()
        .alb("trustedProxies: [127.0.0.0/8, 10.0.0.0/8]")
        .manifest("all.yaml", everything_to(&[backend]))
        .start()
}

#[test]
fn backend_learns_the_clients_address_scheme_host_and_port() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let head = seen(&gateway, "");
    assert_eq!(head.line, "GET /p?q HTTP/1.1");
    assert_eq!(head.value("host"), Some("a.test:8080"));
    assert_eq!(head.value("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(head.value("x-forwarded-proto"), Some("http"));
    assert_eq!(head.value("x-forwarded-host"), Some("a.test:8080"));
    assert_eq!(head.value("x-forwarded-port"), Some("8080"));
    let forwarded = head.value("forwarded").unwrap();
    let mut parts: Vec<&str> = forwarded.split(';').map(str::trim).collect();
    parts.sort_unstable();
    assert_eq!(parts, ["for=127.0.0.1", "host=\"a.test:8080\"", "proto=http"]);
}

#[test]
fn over_tls_the_backend_learns_https() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let settings = testkit::TlsSettings::trusting_anyone();
    let mut client = testkit::Client::connect_tls(gateway.https(), "a.test", &settings);
    let head = Head::parse(&client.get("a.test", "/").body);
    assert_eq!(head.value("x-forwarded-proto"), Some("https"));
    assert_eq!(head.value("x-forwarded-port"), Some("8443"));
    assert!(head.value("forwarded").unwrap().contains("proto=https"));
}

#[test]
fn what_an_untrusted_client_says_of_itself_is_replaced() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let head = seen(
        &gateway,
        "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 7.7.7.7\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nForwarded: for=6.6.6.6\r\n\
         X-Real-IP: 6.6.6.6\r\nX-Request-ID: mine\r\n",
    );
    assert_eq!(head.value("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(head.value("x-forwarded-proto"), Some("http"));
    assert_eq!(head.value("x-forwarded-host"), Some("a.test:8080"));
    assert_eq!(head.value("x-forwarded-port"), Some("8080"));
    assert_eq!(head.value("x-real-ip"), Some("127.0.0.1"));
    assert!(!head.value("forwarded").unwrap().contains("6.6.6.6"));
    assert_ne!(head.value("x-request-id"), Some("mine"));
    assert!(!format!("{head:?}").contains("6.6.6.6"), "{head:?}");
}

#[test]
fn other_spellings_of_forwarding_fields_do_not_slip_through() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    // To a backend that turns names into variables (CGI), `_` and `-` are the same.
    let head = seen(
        &gateway,
        "X_Forwarded_For: 6.6.6.6\r\nx_forwarded-proto: https\r\nX_Real_IP: 6.6.6.6\r\n",
    );
    assert!(!format!("{head:?}").contains("6.6.6.6"), "{head:?}");
}

#[test]
fn trusted_proxy_is_believed_and_its_own_address_added() {
    let backend = Backend::echo();
    let gateway = trusting_gateway_to(&backend);
    let head = seen(
        &gateway,
        "X-Forwarded-For: 192.0.2.9, 10.0.0.1\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Host: outer.test\r\nX-Forwarded-Port: 443\r\nForwarded: for=192.0.2.9\r\n\
         X-Request-ID: given-id\r\n",
    );
    assert_eq!(head.value("x-forwarded-for"), Some("192.0.2.9, 10.0.0.1, 127.0.0.1"));
    assert_eq!(head.value("x-forwarded-proto"), Some("https"));
    assert_eq!(head.value("x-forwarded-host"), Some("outer.test"));
    assert_eq!(head.value("x-forwarded-port"), Some("443"));
    assert_eq!(head.value("x-request-id"), Some("given-id"));
    assert_eq!(head.value("x-real-ip"), Some("192.0.2.9"));
    let forwarded = head.value("forwarded").unwrap();
    assert!(
        forwarded.starts_with("for=192.0.2.9, ") && forwarded.contains("for=127.0.0.1"),
        "{forwarded}"
    );
}

#[test]
fn client_behind_trusted_proxies_is_the_last_address_that_none_of_them_has() {
    let backend = Backend::echo();
    let gateway = trusting_gateway_to(&backend);
    for (fields, client) in [
        ("X-Forwarded-For: 192.0.2.9, 10.0.0.1\r\n", "192.0.2.9"),
        // What stands before an untrusted address may be made up.
        ("X-Forwarded-For: 6.6.6.6, 192.0.2.9, 10.0.0.1\r\n", "192.0.2.9"),
        ("X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 192.0.2.9\r\n", "192.0.2.9"),
        ("X-Forwarded-For: 2001:db8::9\r\n", "2001:db8::9"),
        ("X-Forwarded-For: [2001:db8::9]:4711, 10.0.0.1\r\n", "2001:db8::9"),
        ("X-Forwarded-For: 192.0.2.9:4711\r\n", "192.0.2.9"),
        ("X-Forwarded-For: 6.6.6.6, unknown, 10.0.0.1\r\n", "10.0.0.1"),
        ("", "127.0.0.1"),
    ] {
        assert_eq!(seen(&gateway, fields).value("x-real-ip"), Some(client), "{fields:?}");
    }
}

#[test]
fn every_request_gets_an_id_of_its_own() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let one = seen(&gateway, "");
    let two = seen(&gateway, "");
    let (one, two) = (one.value("x-request-id").unwrap(), two.value("x-request-id").unwrap());
    assert!(one.len() >= 16 && two.len() >= 16, "{one} {two}");
    assert_ne!(one, two);
}

#[test]
fn fields_of_the_hop_stay_on_it() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let head = seen(
        &gateway,
        "Connection: keep-alive, X-Mine, X-Other\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\n\
         X-Mine: 1\r\nx-other: 2\r\nX-End-To-End: 3\r\nTE: gzip\r\nUpgrade: foo\r\n",
    );
    for name in
        ["connection", "keep-alive", "proxy-connection", "x-mine", "x-other", "te", "upgrade"]
    {
        assert_eq!(head.value(name), None, "{name}");
    }
    assert_eq!(head.value("x-end-to-end"), Some("3"));
}

#[test]
fn fields_of_the_backends_hop_stay_on_it_too() {
    let backend = Backend::answering(
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Mine\r\nKeep-Alive: timeout=5\r\nX-Mine: 1\r\n\
         Upgrade: foo\r\nX-End-To-End: 3\r\nContent-Length: 0\r\n\r\n",
    );
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    let response = client.get("a.test", "/");
    for name in ["connection", "keep-alive", "x-mine", "upgrade"] {
        assert_eq!(response.header(name), None, "{name}");
    }
    assert_eq!(response.header("x-end-to-end"), Some("3"));
}

#[test]
fn all_other_fields_pass_unchanged_and_in_order() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let head = seen(
        &gateway,
        "Accept: */*\r\nX-a: 1\r\nCookie: a=b; c=d\r\nX-A: 2\r\nx-empty:\r\nX-Latin: caf\u{e9}\r\n\
         Authorization: Basic eDp5\r\n",
    );
    let kept: Vec<(&str, &str)> = head
        .fields
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .filter(|(n, _)| {
            !n.starts_with("X-Forwarded")
                && !["Host", "Forwarded", "X-Request-ID", "X-Real-IP"].contains(n)
        })
        .collect();
    assert_eq!(
        kept,
        [
            ("Accept", "*/*"),
            ("X-a", "1"),
            ("Cookie", "a=b; c=d"),
            ("X-A", "2"),
            ("x-empty", ""),
            ("X-Latin", "caf\u{e9}"),
            ("Authorization", "Basic eDp5"),
        ]
    );
}

#[test]
fn absolute_form_goes_on_in_origin_form() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    for (target, line) in [
        ("http://a.test/x?y", "GET /x?y HTTP/1.1"),
        ("http://a.test", "GET / HTTP/1.1"),
        ("http://a.test?y", "GET /?y HTTP/1.1"),
    ] {
        let mut client = gateway.client();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
        assert_eq!(Head::parse(&client.response().body).line, line);
    }
}

#[test]
fn target_passes_byte_for_byte() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    for target in
        ["/a%20b%2Fc?x=%zz&y=/../", "/;p=1/a//b/", "/a/..b", "/|^{}\"<>`\\", "/?a=http://b/?c"]
    {
        let mut client = gateway.client();
        client.send_get("a.test", target);
        assert_eq!(Head::parse(&client.response().body).line, format!("GET {target} HTTP/1.1"));
    }
}

/// The rules have been applied to the path without dots, so that is what the endpoint gets.
#[test]
fn dot_segments_are_resolved_before_the_endpoint() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    for (target, expected) in [
        ("/a/../b", "/b"),
        ("/a/%2e%2E/b%20c?x=/../", "/b%20c?x=/../"),
        ("/a%2f..%2fb", "/b"),
        ("/a/./b", "/a/b"),
    ] {
        let mut client = gateway.client();
        client.send_get("a.test", target);
        assert_eq!(Head::parse(&client.response().body).line, format!("GET {expected} HTTP/1.1"));
    }
}

#[test]
fn http_1_0_request_goes_on_as_http_1_1() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("GET /old HTTP/1.0\r\nHost: a.test\r\n\r\n");
    assert_eq!(Head::parse(&client.response().body).line, "GET /old HTTP/1.1");
}

#[test]
fn response_without_date_gets_one() {
    let gateway = gateway_to(&Backend::named("x"));
    let backend = Backend::answering("HTTP/1.1 200 OK\r\nDate: then\r\nContent-Length: 0\r\n\r\n");
    let dated = gateway_to(&backend);
    assert_eq!(dated.get("a.test", "/").header("date"), Some("then"));
    // The other backend is gone, so this is the gateway's own answer.
    assert!(gateway.get("a.test", "/").header("date").unwrap().ends_with(" GMT"));
}

#[test]
fn of_several_schemes_that_a_trusted_proxy_passes_on_its_own_counts() {
    let backend = Backend::echo();
    let pair = testkit::Authority::new().issue(&["a.test"]);
    let secured = Ingress::new("all").tls(&["a.test"], "cert").host("a.test").prefix("/", "app");
    let manifests = service("app", &[&backend]) + &tls_secret("cert", &pair) + &secured.yaml();
    let gateway =
        builder().alb("trustedProxies: [127.0.0.0/8]").manifest("all.yaml", manifests).start();
    let ask = |first: &str, last: &str| {
        let mut client = gateway.client();
        client.send(format!(
            "GET /p HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Proto: {first}\r\nX-Other: y\r\n\
             X-Forwarded-Proto: {last}\r\n\r\n"
        ));
        client.response()
    };
    assert_eq!(ask("https", "http").status, 308, "the nearest proxy was asked by http");
    let response = ask("http", "https");
    assert_eq!(response.status, 200);
    let head = Head::parse(&response.body);
    assert_eq!(head.values("x-forwarded-proto"), ["https"]);
    assert_eq!(head.value("x-other"), Some("y"));
}
