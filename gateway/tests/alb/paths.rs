//! Paths that are written in other ways than they are meant, in rules and in rewrites.

use testkit::manifest::{Ingress, service};
use testkit::{Backend, Gateway};

use crate::gateway;

const PREFIX: &str = "nginx.ingress.kubernetes.io/";

#[test]
fn address_list_of_a_path_holds_however_the_path_is_written() {
    let backend = Backend::named("in");
    let open = Ingress::new("open").host("a.test").prefix("/", "app").yaml();
    let admin = Ingress::new("admin")
        .annotation(&format!("{PREFIX}allowlist-source-range"), "10.0.0.0/8")
        .host("a.test")
        .prefix("/admin", "app")
        .yaml();
    let gateway = gateway(&[&service("app", &[&backend]), &open, &admin]);
    assert_eq!(gateway.get("a.test", "/").status, 200);
    assert_eq!(gateway.get("a.test", "/administration").status, 200);
    for path in [
        "/admin",
        "/admin/",
        "/admin?x",
        "//admin",
        "///admin//x",
        "/%2fadmin",
        "/%2Fadmin",
        "/%61dmin",
        "/./admin",
        "/x/../admin",
        "/x/..//admin",
        "/x/%2e%2e/admin",
        "/admin/../admin",
        "/admin%2fx",
        "http://a.test/admin",
        "http://a.test//admin",
        "http://a.test/x/..//admin",
    ] {
        assert_eq!(gateway.get("a.test", path).status, 403, "{path}");
    }
    let received = backend.received_text();
    assert_eq!(received.matches("GET ").count(), 2, "only what is open: {received}");
}

/// The request lines that came of a GET, as the backend saw them.
#[track_caller]
fn lines_of(gateway: &Gateway, backend: &Backend, path: &str) -> Vec<String> {
    let before = backend.received_text().len();
    assert_eq!(gateway.get("a.test", path).text(), "x", "{path}");
    let received = backend.received_text();
    let heads = received[before..].split_terminator("\r\n\r\n");
    heads.map(|head| head.split("\r\n").next().unwrap().to_owned()).collect()
}

#[test]
fn rewritten_path_stays_one_path_whatever_the_client_has_escaped() {
    let backend = Backend::named("x");
    let ingress = Ingress::new("rewrite")
        .annotation(&format!("{PREFIX}use-regex"), "true")
        .annotation(&format!("{PREFIX}rewrite-target"), "/$1")
        .host("a.test")
        .path("ImplementationSpecific", "/v/([^?]*)", "app")
        .yaml();
    // One worker, so one connection to the backend: what it gets stands in order.
    let gateway = crate::builder()
        .workers(1)
        .manifest("all.yaml", service("app", &[&backend]) + &ingress)
        .start();
    for (sent, seen) in [
        ("/v/plain/x", "/plain/x"),
        ("/v/x?a=b%20c", "/x?a=b%20c"),
        ("/v/x%20y", "/x%20y"),
        ("/v/x%20HTTP/1.0", "/x%20HTTP/1.0"),
        ("/v/x%0d%0aEvil:%201", "/x%0D%0AEvil:%201"),
        (
            "/v/x%20HTTP/1.1%0d%0aHost:%20h%0d%0a%0d%0aGET%20/admin%20HTTP/1.1%0d%0aX:",
            "/x%20HTTP/1.1%0D%0AHost:%20h%0D%0A%0D%0AGET%20/admin%20HTTP/1.1%0D%0AX:",
        ),
        ("/v/%25", "/%25"),
        ("/v/%250d%250a", "/%250d%250a"),
        ("/v/%252e%252e/x", "/%252e%252e/x"),
        ("/v/%c3%a4/%F0%9F%A6%80", "/%C3%A4/%F0%9F%A6%80"),
        ("/v/%23%22%3c%7f", "/%23%22%3C%7F"),
    ] {
        let expected = format!("GET {seen} HTTP/1.1");
        assert_eq!(lines_of(&gateway, &backend, sent), [expected], "{sent}");
    }
    // The pattern ends at the question mark, and it must not begin a query.
    let lines = lines_of(&gateway, &backend, "/v/x%3fadmin=1");
    assert_eq!(lines, ["GET /x HTTP/1.1"]);
    for (number, bytes) in backend.received().iter().enumerate() {
        let text = String::from_utf8_lossy(bytes);
        assert!(bytes.is_ascii() && !text.contains("\r\nEvil") && !text.contains("\nGET /admin"));
        assert_eq!(text.matches("\r\nHost: ").count(), text.matches("GET /").count(), "{number}");
    }
}
