use super::{accepted, refused};
use crate::{Authority, HeadError, authority};

fn with_host(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

#[test]
fn host_is_required_once_in_http_1_1() {
    assert_eq!(refused("GET / HTTP/1.1\r\n\r\n"), HeadError::Host);
    assert_eq!(refused("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"), HeadError::Host);
    assert_eq!(refused("GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n"), HeadError::Host);
    assert_eq!(refused("GET http://a/ HTTP/1.1\r\n\r\n"), HeadError::Host);
    assert_eq!(HeadError::Host.status(), 400);
}

#[test]
fn host_may_be_missing_in_http_1_0_but_never_repeated() {
    let (head, _) = accepted("GET / HTTP/1.0\r\n\r\n");
    assert!(head.host.is_empty() && head.authority.is_empty() && head.port.is_none());
    let text = "GET / HTTP/1.0\r\nHost: a\r\n\r\n";
    assert_eq!(accepted(text).0.host.of(text.as_bytes()), b"a");
    let text = "GET http://b/ HTTP/1.0\r\n\r\n";
    assert_eq!(accepted(text).0.host.of(text.as_bytes()), b"b");
    assert_eq!(refused("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"), HeadError::Host);
}

#[test]
fn valid_hosts_are_read_with_their_ports() {
    for (value, host, port) in [
        ("a", "a", None),
        ("a.example.test", "a.example.test", None),
        ("a.example.test.", "a.example.test.", None),
        ("A:80", "A", Some(80)),
        ("a:", "a", None),
        ("a:65535", "a", Some(65535)),
        ("192.0.2.1:8080", "192.0.2.1", Some(8080)),
        ("[2001:db8::1]", "[2001:db8::1]", None),
        ("[2001:db8::1]:443", "[2001:db8::1]", Some(443)),
        ("[::ffff:192.0.2.1]:1", "[::ffff:192.0.2.1]", Some(1)),
        ("under_score.test", "under_score.test", None),
        ("xn--bcher-kva.test", "xn--bcher-kva.test", None),
    ] {
        let text = with_host(value);
        let (head, _) = accepted(&text);
        assert_eq!(head.host.of(text.as_bytes()), host.as_bytes(), "{value}");
        assert_eq!(head.authority.of(text.as_bytes()), value.as_bytes(), "{value}");
        assert_eq!(head.port, port, "{value}");
        let parts = authority(value.as_bytes());
        assert_eq!(parts, Some(Authority { host: host.as_bytes(), port }), "{value}");
    }
}

#[test]
fn invalid_hosts_are_refused() {
    let long = "a".repeat(256);
    for value in [
        "",
        ":80",
        "a b",
        "a, b",
        "a/b",
        "a?b",
        "a#b",
        "a@b",
        "user@a",
        "a:b",
        "a:80:80",
        "a:+80",
        "a:-1",
        "a:65536",
        "a: 80",
        "a%2eb",
        "a\\b",
        "a\"b",
        "<a>",
        "http://a",
        "[",
        "[]",
        "[::1",
        "[::1]x",
        "[::1]80",
        "::1",
        "[fe80::1%25eth0]",
        "[v1.x]",
        "[192.0.2.1]",
        "b\u{fc}cher.test",
        "a\tb",
        "a|b",
        "a^b",
        "{a}",
        "a`b",
        &long,
    ] {
        assert_eq!(refused(with_host(value)), HeadError::Host, "{value:?}");
        assert_eq!(authority(value.as_bytes()), None, "{value:?}");
    }
}

#[test]
fn host_of_255_bytes_is_the_longest() {
    accepted(with_host(&"a".repeat(255)));
}

#[test]
fn target_and_host_that_differ_are_refused() {
    for (target, host) in [
        ("http://a/", "b"),
        ("http://a/", "a:8080"),
        ("http://a:8080/", "a"),
        ("http://a:80/", "a:443"),
        ("https://a/", "a:80"),
        ("http://a.test/", "a.test."),
        ("http://[::1]/", "[::2]"),
    ] {
        let text = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let error = refused(&text);
        assert_eq!((error, error.status()), (HeadError::HostMismatch, 400), "{target} {host}");
    }
    let connect = "CONNECT a:443 HTTP/1.1\r\nHost: b:443\r\n\r\n";
    assert_eq!(refused(connect), HeadError::HostMismatch);
}

#[test]
fn target_and_host_agree_whatever_their_case_and_default_port() {
    for (target, host) in [
        ("http://a.test/", "A.Test"),
        ("http://a:80/", "a"),
        ("http://a/", "a:80"),
        ("https://a:443/", "a"),
        ("https://a/", "a:443"),
        ("http://a:/", "a"),
        ("http://[::1]:80/", "[::1]"),
    ] {
        accepted(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    }
}
