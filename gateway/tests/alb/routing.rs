//! What Kubernetes' documentation of Ingress says, by its own examples.

use testkit::manifest::{Ingress, service, service_at};
use testkit::{Backend, Client, eventually};

use crate::gateway;

#[test]
fn simple_fan_out_goes_by_path() {
    let (one, two) = (Backend::named("one"), Backend::named("two"));
    let ingress =
        Ingress::new("fanout").host("foo.bar.com").prefix("/foo", "one").prefix("/bar", "two");
    let gateway = gateway(&[&service("one", &[&one]), &service("two", &[&two]), &ingress.yaml()]);
    assert_eq!(gateway.get("foo.bar.com", "/foo").text(), "one");
    assert_eq!(gateway.get("foo.bar.com", "/bar/x?y").text(), "two");
    assert_eq!(gateway.get("foo.bar.com", "/").status, 404);
    assert_eq!(gateway.get("other.com", "/foo").status, 404);
}

#[test]
fn name_based_virtual_hosts_go_by_host_and_a_rule_without_host_takes_the_rest() {
    let (one, two, rest) = (Backend::named("one"), Backend::named("two"), Backend::named("rest"));
    let ingress = Ingress::new("names")
        .host("first.bar.com")
        .prefix("/", "one")
        .host("second.bar.com")
        .prefix("/", "two")
        .any_host()
        .prefix("/", "rest");
    let gateway = gateway(&[
        &service("one", &[&one]),
        &service("two", &[&two]),
        &service("rest", &[&rest]),
        &ingress.yaml(),
    ]);
    for (host, name) in [
        ("first.bar.com", "one"),
        ("First.BAR.com", "one"),
        ("first.bar.com:8080", "one"),
        ("first.bar.com.", "one"),
        ("second.bar.com", "two"),
        ("third.bar.com", "rest"),
        ("192.0.2.7", "rest"),
        ("[2001:db8::1]:80", "rest"),
    ] {
        assert_eq!(gateway.get(host, "/").text(), name, "{host}");
    }
}

#[test]
fn wildcard_host_matches_exactly_one_label_and_yields_to_an_exact_one() {
    let (exact, wild) = (Backend::named("exact"), Backend::named("wild"));
    let ingress = Ingress::new("wild")
        .host("*.foo.com")
        .prefix("/", "wild")
        .host("bar.foo.com")
        .prefix("/deep", "exact");
    let gateway =
        gateway(&[&service("exact", &[&exact]), &service("wild", &[&wild]), &ingress.yaml()]);
    assert_eq!(gateway.get("baz.foo.com", "/").text(), "wild");
    assert_eq!(gateway.get("baz.bar.foo.com", "/").status, 404);
    assert_eq!(gateway.get("foo.com", "/").status, 404);
    assert_eq!(gateway.get("bar.foo.com", "/deep").text(), "exact");
}

/// The table in "Multiple matches" and "Path types" of the documentation.
#[test]
fn paths_match_as_in_the_documentations_table() {
    let names = ["root", "foo", "aaa", "aaabbb", "exact"];
    let backends: Vec<Backend> = names.iter().map(|name| Backend::named(name)).collect();
    let services: String =
        names.iter().zip(&backends).map(|(name, b)| service(name, &[b])).collect();
    let ingress = Ingress::new("paths")
        .host("a.test")
        .prefix("/", "root")
        .exact("/foo", "exact")
        .prefix("/foo/", "foo")
        .prefix("/aaa", "aaa")
        .prefix("/aaa/bbb", "aaabbb")
        .host("b.test")
        .exact("/foo/", "exact")
        .host("c.test")
        .prefix("/aaa/bbb/", "aaabbb");
    let gateway = gateway(&[&services, &ingress.yaml()]);
    for (host, path, name) in [
        ("a.test", "/any", "root"),
        // Exact beats Prefix for the same path.
        ("a.test", "/foo", "exact"),
        ("a.test", "/foo?q", "exact"),
        ("a.test", "/foo/", "foo"),
        ("a.test", "/foo/x", "foo"),
        ("a.test", "/FOO", "root"),
        ("a.test", "/foobar", "root"),
        ("a.test", "/aaa", "aaa"),
        ("a.test", "/aaa/", "aaa"),
        ("a.test", "/aaa/ccc", "aaa"),
        ("a.test", "/aaaccc", "root"),
        ("a.test", "/aaa/bbb", "aaabbb"),
        ("a.test", "/aaa/bbb/ccc", "aaabbb"),
        ("a.test", "/aaa/bbbxyz", "aaa"),
        ("b.test", "/foo/", "exact"),
        ("b.test", "/foo", ""),
        ("c.test", "/aaa/bbb", "aaabbb"),
        ("c.test", "/aaa/bbbxyz", ""),
    ] {
        let response = gateway.get(host, path);
        if name.is_empty() {
            assert_eq!(response.status, 404, "{host}{path}");
        } else {
            assert_eq!(response.text(), name, "{host}{path}");
        }
    }
}

#[test]
fn default_backend_takes_what_no_rule_does() {
    let (default, one) = (Backend::named("default"), Backend::named("one"));
    let ingress = Ingress::new("d").default_backend("default").host("a.test").prefix("/one", "one");
    let gateway =
        gateway(&[&service("default", &[&default]), &service("one", &[&one]), &ingress.yaml()]);
    assert_eq!(gateway.get("a.test", "/one").text(), "one");
    assert_eq!(gateway.get("a.test", "/two").text(), "default");
    assert_eq!(gateway.get("b.test", "/one").text(), "default");
}

#[test]
fn service_without_endpoints_is_answered_with_503_and_the_rest_serves() {
    let one = Backend::named("one");
    let ingress = Ingress::new("e")
        .host("a.test")
        .prefix("/one", "one")
        .prefix("/none", "none")
        .prefix("/missing", "missing");
    let gateway = gateway(&[&service("one", &[&one]), &service_at("none", &[]), &ingress.yaml()]);
    assert_eq!(gateway.get("a.test", "/none").status, 503);
    assert_eq!(gateway.get("a.test", "/missing").status, 503);
    assert_eq!(gateway.get("a.test", "/one").text(), "one");
}

#[test]
fn ingress_of_another_class_is_left_alone() {
    let one = Backend::named("one");
    let ingress = Ingress::new("other").any_host().prefix("/", "one").yaml();
    let ingress = ingress.replace("tidegate-public", "somebody-else");
    let gateway = gateway(&[&service("one", &[&one]), &ingress]);
    assert_eq!(gateway.get("a.test", "/").status, 404);
}

#[test]
fn of_two_ingresses_for_the_same_path_the_older_wins() {
    let (old, new) = (Backend::named("old"), Backend::named("new"));
    let younger = Ingress::new("a-younger").created("2024-02-01T00:00:00Z");
    let older = Ingress::new("z-older").created("2024-01-01T00:00:00Z");
    let gateway = gateway(&[
        &service("old", &[&old]),
        &service("new", &[&new]),
        &younger.host("a.test").prefix("/", "new").prefix("/only", "new").yaml(),
        &older.host("a.test").prefix("/", "old").yaml(),
    ]);
    assert_eq!(gateway.get("a.test", "/").text(), "old");
    assert_eq!(gateway.get("a.test", "/only").text(), "new");
    let (code, out, err) = gateway.run(&["check"]);
    let all = format!("{out}{err}");
    assert!(all.contains("a-younger"), "exit {code:?}: {all}");
}

#[test]
fn requests_are_spread_over_all_ready_endpoints() {
    let backends: Vec<Backend> = (0..3).map(|i| Backend::named(&i.to_string())).collect();
    let all: Vec<&Backend> = backends.iter().collect();
    let gateway = gateway(&[&crate::everything_to(&all)]);
    let mut client = gateway.client();
    let mut seen = std::collections::BTreeSet::new();
    eventually("all three have answered", || {
        seen.insert(client.get("a.test", "/").text());
        (seen.len() == 3).then_some(())
    });
}

#[test]
fn round_robin_takes_turns() {
    let backends: Vec<Backend> = (0..3).map(|i| Backend::named(&i.to_string())).collect();
    let all: Vec<&Backend> = backends.iter().collect();
    let ingress = Ingress::new("rr")
        .annotation("nginx.ingress.kubernetes.io/load-balance", "round_robin")
        .any_host()
        .prefix("/", "app");
    let gateway = gateway(&[&service("app", &all), &ingress.yaml()]);
    let mut client = gateway.client();
    let answers: Vec<String> = (0..9).map(|_| client.get("a.test", "/").text()).collect();
    for turn in answers.chunks(3) {
        let mut turn = turn.to_vec();
        turn.sort();
        assert_eq!(turn, ["0", "1", "2"], "{answers:?}");
    }
}

#[test]
fn path_that_hides_another_is_matched_as_what_it_means() {
    let (open, closed) = (Backend::named("open"), Backend::named("closed"));
    let ingress =
        Ingress::new("p").host("a.test").prefix("/open", "open").prefix("/closed", "closed");
    let gateway =
        gateway(&[&service("open", &[&open]), &service("closed", &[&closed]), &ingress.yaml()]);
    for (path, expected) in [
        ("/open/../closed", "closed"),
        ("/open/%2e%2e/closed", "closed"),
        ("/open/./x", "open"),
        ("/%6fpen", "open"),
    ] {
        assert_eq!(gateway.get("a.test", path).text(), expected, "{path}");
    }
    for path in ["/..", "/open/../../closed", "/open%00", "/open%", "/open%zz"] {
        assert_eq!(gateway.get("a.test", path).status, 400, "{path}");
    }
}

#[test]
fn http_goes_to_https_for_hosts_with_tls_unless_the_annotation_says_otherwise() {
    let one = Backend::named("one");
    let authority = testkit::Authority::new();
    let pair = authority.issue(&["a.test", "b.test"]);
    let secret = testkit::manifest::tls_secret("cert", &pair);
    let redirected = Ingress::new("r").tls(&["a.test"], "cert").host("a.test").prefix("/", "one");
    let plain = Ingress::new("s")
        .annotation("nginx.ingress.kubernetes.io/ssl-redirect", "false")
        .tls(&["b.test"], "cert")
        .host("b.test")
        .prefix("/", "one");
    let gateway = gateway(&[&service("one", &[&one]), &secret, &redirected.yaml(), &plain.yaml()]);
    let response = gateway.get("a.test:8080", "/x?y=z");
    assert_eq!(response.status, 308);
    let port = gateway.https().port();
    assert_eq!(response.header("location"), Some(format!("https://a.test:{port}/x?y=z").as_str()));
    assert_eq!(gateway.get("b.test", "/").text(), "one");
    let mut client = Client::connect_tls(gateway.https(), "a.test", &authority.client());
    assert_eq!(client.get("a.test", "/x").text(), "one");
}

#[test]
fn each_alb_serves_its_own_class_alone() {
    let (public, private) = (Backend::named("public"), Backend::named("private"));
    let outer = Ingress::new("outer").any_host().prefix("/", "public").yaml();
    let inner = Ingress::new("inner").host("a.test").prefix("/", "private").yaml();
    let inner = inner.replace("tidegate-public", "tidegate-private");
    let manifests =
        service("public", &[&public]) + &service("private", &[&private]) + &outer + &inner;
    let gateway = crate::builder().private().manifest("all.yaml", manifests).start();
    assert_eq!(gateway.get("a.test", "/").text(), "public");
    assert_eq!(testkit::get(gateway.private_http(), "a.test", "/").text(), "private");
    assert_eq!(testkit::get(gateway.private_http(), "b.test", "/").status, 404);
}

#[test]
fn default_backend_of_the_alb_takes_what_no_ingress_does() {
    let (default, one) = (Backend::named("default"), Backend::named("one"));
    let ingress = Ingress::new("one").host("a.test").prefix("/one", "one").yaml();
    let gateway = crate::builder()
        .alb("defaultBackend: shop/default:80")
        .manifest("all.yaml", service("default", &[&default]) + &service("one", &[&one]) + &ingress)
        .start();
    assert_eq!(gateway.get("a.test", "/one").text(), "one");
    assert_eq!(gateway.get("a.test", "/").text(), "default");
    assert_eq!(gateway.get("b.test", "/").text(), "default");
}

#[test]
fn endpoint_that_is_not_ready_gets_no_requests() {
    let (ready, other) = (Backend::named("ready"), Backend::named("other"));
    let ip = other.address().ip();
    let service = service("app", &[&ready, &other]).replace(
        &format!("[{ip}], conditions: {{ready: true}}"),
        &format!("[{ip}], conditions: {{ready: false}}"),
    );
    let gateway = gateway(&[&service, &Ingress::new("i").any_host().prefix("/", "app").yaml()]);
    let mut client = gateway.client();
    for _ in 0..20 {
        assert_eq!(client.get("a.test", "/").text(), "ready");
    }
    assert_eq!(other.connections(), 0);
}

#[test]
fn terminating_endpoint_serves_only_while_no_ready_one_is_left() {
    let (ready, leaving) = (Backend::named("ready"), Backend::named("leaving"));
    let ip = leaving.address().ip();
    let mark = |text: String| {
        text.replace(
            &format!("[{ip}], conditions: {{ready: true}}"),
            &format!("[{ip}], conditions: {{ready: false, serving: true, terminating: true}}"),
        )
    };
    let ingress = Ingress::new("i").any_host().prefix("/", "app").yaml();
    let gateway = gateway(&[&mark(service("app", &[&ready, &leaving])), &ingress]);
    let mut client = gateway.client();
    for _ in 0..20 {
        assert_eq!(client.get("a.test", "/").text(), "ready");
    }
    gateway.apply("all.yaml", mark(service("app", &[&leaving])) + &ingress);
    eventually("the terminating one serves", || {
        (client.get("a.test", "/").text() == "leaving").then_some(())
    });
}

#[test]
fn http_1_0_request_without_host_goes_by_the_rules_for_any_host() {
    let (one, any) = (Backend::named("one"), Backend::named("any"));
    let ingress =
        Ingress::new("i").host("a.test").prefix("/", "one").any_host().prefix("/", "any").yaml();
    let gateway = gateway(&[&service("one", &[&one]), &service("any", &[&any]), &ingress]);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.response().text(), "any");
}

#[test]
fn port_of_a_service_may_be_named() {
    let one = Backend::named("one");
    let ingress = Ingress::new("i").any_host().prefix("/", "app").yaml();
    let named = ingress.replace("port: {number: 80}", "port: {name: http}");
    let gateway = gateway(&[&service("app", &[&one]), &named]);
    assert_eq!(gateway.get("a.test", "/").text(), "one");
}

#[test]
fn external_name_is_resolved() {
    let any_port = "127.0.0.1:0".parse().unwrap();
    let external = Backend::start_at(any_port, |connection| {
        while connection.request().is_some() {
            connection.send_ok("external");
        }
    });
    let port = external.address().port();
    let service = format!(
        "apiVersion: v1
kind: Service
metadata: {{name: app, namespace: shop}}
spec:
  type: ExternalName
  externalName: localhost
  ports: [{{name: http, port: {port}}}]
---
"
    );
    let ingress = Ingress::new("i").any_host().prefix("/", "app").yaml();
    let ingress = ingress.replace("number: 80", &format!("number: {port}"));
    let gateway = gateway(&[&service, &ingress]);
    assert_eq!(gateway.get("a.test", "/").text(), "external");
}

#[test]
fn clients_are_let_in_by_address_as_the_annotations_say() {
    let one = Backend::named("one");
    let with = |name: &str, annotation: &str, value: &str| {
        Ingress::new(name)
            .annotation(&format!("nginx.ingress.kubernetes.io/{annotation}"), value)
            .host(&format!("{name}.test"))
            .prefix("/", "app")
            .yaml()
    };
    let gateway = gateway(&[
        &service("app", &[&one]),
        &with("inside", "whitelist-source-range", "10.0.0.0/8, 127.0.0.0/8"),
        &with("outside", "whitelist-source-range", "10.0.0.0/8"),
        &with("denied", "denylist-source-range", "127.0.0.1/32"),
    ]);
    assert_eq!(gateway.get("inside.test", "/").status, 200);
    assert_eq!(gateway.get("outside.test", "/").status, 403);
    assert_eq!(gateway.get("denied.test", "/").status, 403);
}

#[test]
fn annotation_that_can_not_be_honoured_is_named() {
    let one = Backend::named("one");
    let ingress = Ingress::new("i")
        .annotation("nginx.ingress.kubernetes.io/configuration-snippet", "return 200;")
        .any_host()
        .prefix("/", "app")
        .yaml();
    let gateway = gateway(&[&service("app", &[&one]), &ingress]);
    let (_, out, err) = gateway.run(&["check"]);
    assert!((out + &err).contains("configuration-snippet"));
}
