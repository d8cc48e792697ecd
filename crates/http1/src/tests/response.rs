use super::{answer_refused, answered, ids};
use crate::{FieldId, Framing, HeadError, Limits, Method, Version, parse_response};

#[test]
fn plain_response_is_read_in_all_parts() {
    let text = b"HTTP/1.1 200 All Good\r\nContent-Length: 4\r\nX: y\r\n\r\nbody";
    let (head, fields) = answered(Method::Get, text);
    assert_eq!((head.status, head.version), (200, Version::Http11));
    assert_eq!(head.reason.of(text), b"All Good");
    assert_eq!(head.framing, Framing::Length(4));
    assert_eq!(head.content_length, Some(4));
    assert!(head.keep_alive);
    assert_eq!(&text[head.len..], b"body");
    assert_eq!(ids(&fields), [FieldId::ContentLength, FieldId::Other]);
}

#[test]
fn reason_may_be_empty_and_even_its_space_missing() {
    for (line, reason) in [
        ("HTTP/1.1 204 ", ""),
        ("HTTP/1.1 204", ""),
        ("HTTP/1.1 204 a\tb", "a\tb"),
        ("HTTP/1.1 204  x ", " x "),
    ] {
        let text = format!("{line}\r\n\r\n");
        let (head, _) = answered(Method::Get, &text);
        assert_eq!(head.reason.of(text.as_bytes()), reason.as_bytes(), "{line:?}");
    }
}

#[test]
fn malformed_status_lines_are_refused() {
    for (line, error) in [
        ("", HeadError::StatusLine),
        ("HTTP/1.1", HeadError::StatusLine),
        ("HTTP/1.1 ", HeadError::StatusLine),
        ("HTTP/1.1 20", HeadError::StatusLine),
        ("HTTP/1.1 2000", HeadError::StatusLine),
        ("HTTP/1.1 200OK", HeadError::StatusLine),
        ("HTTP/1.1 099 x", HeadError::StatusLine),
        ("HTTP/1.1 +20 x", HeadError::StatusLine),
        ("HTTP/1.1  200 x", HeadError::StatusLine),
        ("HTTP/1.1\t200 x", HeadError::StatusLine),
        ("HTTP/1.1 200\tOK", HeadError::StatusLine),
        ("HTTP/1.1 200 O\rK", HeadError::StatusLine),
        ("HTTP/1.1 200 O\0K", HeadError::StatusLine),
        ("http/1.1 200 OK", HeadError::StatusLine),
        ("ICY 200 OK", HeadError::StatusLine),
        (" HTTP/1.1 200 OK", HeadError::StatusLine),
        ("\r\nHTTP/1.1 200 OK", HeadError::StatusLine),
        ("HTTP/2.0 200 OK", HeadError::Version),
        ("HTTP/1.x 200 OK", HeadError::Version),
    ] {
        assert_eq!(answer_refused(format!("{line}\r\n\r\n")), error, "{line:?}");
    }
}

#[test]
fn response_fields_are_held_to_the_same_rules_as_a_requests() {
    for (fields, error) in [
        ("X : y\r\n", HeadError::FieldName),
        ("X: y\r\n z\r\n", HeadError::ObsFold),
        ("X: y\n", HeadError::BareLf),
        ("X: a\rb\r\n", HeadError::FieldValue),
        ("X: a\0b\r\n", HeadError::FieldValue),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", HeadError::ContentLength),
        ("Content-Length: 5, 5\r\n", HeadError::ContentLength),
        ("Content-Length: -1\r\n", HeadError::ContentLength),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", HeadError::LengthWithCoding),
        ("Transfer-Encoding: chunked, identity\r\n", HeadError::Coding),
        ("Transfer-Encoding: gzip, chunked\r\n", HeadError::UnknownCoding),
    ] {
        assert_eq!(answer_refused(format!("HTTP/1.1 200 OK\r\n{fields}\r\n")), error, "{fields:?}");
    }
    let old = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(answer_refused(old), HeadError::CodingInHttp10);
}

#[test]
fn responses_that_never_have_a_body_are_framed_empty() {
    let length = "Content-Length: 10\r\n";
    for (method, status) in [
        (Method::Head, 200),
        (Method::Head, 404),
        (Method::Get, 204),
        (Method::Get, 304),
        (Method::Get, 100),
        (Method::Get, 103),
        (Method::Get, 101),
        (Method::Post, 204),
    ] {
        let (head, _) = answered(method, format!("HTTP/1.1 {status} x\r\n{length}\r\n"));
        assert_eq!(head.framing, Framing::Empty, "{method:?} {status}");
        assert_eq!(head.content_length, Some(10), "{method:?} {status}");
    }
    let chunked = "HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(answered(Method::Head, chunked).0.framing, Framing::Empty);
    let chunked = "HTTP/1.1 304 x\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(answered(Method::Get, chunked).0.framing, Framing::Empty);
}

#[test]
fn coding_in_a_response_that_ends_with_its_head_is_refused() {
    for status in [100, 101, 199, 204] {
        let text = format!("HTTP/1.1 {status} x\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(answer_refused(text), HeadError::Coding, "{status}");
    }
}

#[test]
fn response_without_framing_ends_with_the_connection() {
    let (head, _) = answered(Method::Get, "HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!((head.framing, head.content_length), (Framing::UntilClose, None));
    let (head, _) = answered(Method::Get, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(head.framing, Framing::Length(0));
}

#[test]
fn persistence_follows_version_and_connection_options() {
    let keep_alive = |text: &str| answered(Method::Get, text).0.keep_alive;
    assert!(keep_alive("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    assert!(!keep_alive("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"));
    assert!(!keep_alive("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"));
    assert!(keep_alive("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n"));
}

#[test]
fn upgrade_of_a_response_needs_the_connection_option() {
    let text = b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(answered(Method::Get, text).0.upgrade.unwrap().of(text), b"websocket");
    let text = b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n";
    assert!(answered(Method::Get, text).0.upgrade.is_none());
}

#[test]
fn response_head_above_its_limits_is_refused() {
    let limits = Limits { head_bytes: 64, fields: 2, ..Limits::default() };
    let parse = |text: &str| parse_response(text.as_bytes(), Method::Get, &limits, &mut Vec::new());
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "v".repeat(64));
    assert_eq!(parse(&long).err(), Some(HeadError::TooLarge));
    assert_eq!(parse(&long[..64]).err(), Some(HeadError::TooLarge));
    assert_eq!(parse(&"HTTP/1.1 200 ".repeat(8)).err(), Some(HeadError::TooLarge));
    assert!(matches!(parse(&long[..63]), Ok(None)));
    let many = "HTTP/1.1 200 OK\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n";
    assert_eq!(parse(many).err(), Some(HeadError::TooManyFields));
}
