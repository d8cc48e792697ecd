use super::{accepted, get_with, refused, refused_within};
use crate::{
    FieldId, Framing, HeadError, Limits, Method, Scheme, TargetForm, Version, parse_request,
};

#[test]
fn plain_request_is_read_in_all_parts() {
    let text = b"GET /a/b?c=d HTTP/1.1\r\nHost: example.test:8080\r\nUser-Agent: x y\r\n\r\nrest";
    let (head, fields) = accepted(text);
    assert_eq!(head.method, Method::Get);
    assert_eq!(head.method_span.of(text), b"GET");
    assert_eq!(head.version, Version::Http11);
    assert_eq!(head.form, TargetForm::Origin);
    assert_eq!(head.path.of(text), b"/a/b");
    assert_eq!(head.path_and_query.of(text), b"/a/b?c=d");
    assert_eq!(head.host.of(text), b"example.test");
    assert_eq!(head.authority.of(text), b"example.test:8080");
    assert_eq!(head.port, Some(8080));
    assert_eq!(&text[head.len..], b"rest");
    assert_eq!(fields.len(), 2);
    assert_eq!(fields[1].name.of(text), b"User-Agent");
    assert_eq!(fields[1].value.of(text), b"x y");
}

#[test]
fn known_methods_are_told_apart_and_case_counts() {
    for (name, method) in [
        ("GET", Method::Get),
        ("HEAD", Method::Head),
        ("POST", Method::Post),
        ("PUT", Method::Put),
        ("DELETE", Method::Delete),
        ("PATCH", Method::Patch),
        ("OPTIONS", Method::Options),
        ("TRACE", Method::Trace),
        ("get", Method::Other),
        ("PROPFIND", Method::Other),
        ("M-SEARCH", Method::Other),
        ("!#$%&'*+-.^_`|~09az", Method::Other),
    ] {
        let text = format!("{name} / HTTP/1.1\r\nHost: a\r\n\r\n");
        let (head, _) = accepted(&text);
        assert_eq!(head.method, method, "{name}");
        assert_eq!(head.method_span.of(text.as_bytes()), name.as_bytes());
    }
}

#[test]
fn only_idempotent_methods_may_be_repeated() {
    let repeatable =
        [Method::Get, Method::Head, Method::Put, Method::Delete, Method::Options, Method::Trace];
    assert!(repeatable.into_iter().all(Method::is_idempotent));
    let not = [Method::Post, Method::Patch, Method::Connect, Method::Other];
    assert!(!not.into_iter().any(Method::is_idempotent));
}

#[test]
fn one_empty_line_before_the_request_line_is_ignored() {
    let text = b"\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n";
    let (head, fields) = accepted(text);
    assert_eq!(head.method_span.of(text), b"GET");
    assert_eq!(head.path.of(text), b"/x");
    assert_eq!(fields[0].value.of(text), b"a");
    assert_eq!(head.len, text.len());
    assert_eq!(refused("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").status(), 400);
    assert_eq!(refused("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), HeadError::BareLf);
}

#[test]
fn minor_versions_above_one_are_read_as_http_1_1() {
    for version in ["HTTP/1.1", "HTTP/1.2", "HTTP/1.9"] {
        let (head, _) = accepted(format!("GET / {version}\r\nHost: a\r\n\r\n"));
        assert_eq!(head.version, Version::Http11, "{version}");
    }
}

#[test]
fn other_major_versions_are_answered_with_505() {
    for line in ["GET / HTTP/2.0", "GET / HTTP/0.9", "PRI * HTTP/2.0", "GET / HTTP/3.1"] {
        let error = refused(format!("{line}\r\nHost: a\r\n\r\n"));
        assert_eq!((error, error.status()), (HeadError::Version, 505), "{line}");
    }
}

#[test]
fn malformed_request_lines_are_refused() {
    for (line, error) in [
        ("GET /", HeadError::RequestLine),
        ("GET", HeadError::RequestLine),
        ("GET ", HeadError::RequestLine),
        ("GET / HTTP/1.1 ", HeadError::RequestLine),
        ("GET / HTTP/1.1 x", HeadError::RequestLine),
        ("GET /a b HTTP/1.1", HeadError::RequestLine),
        ("GET / http/1.1", HeadError::RequestLine),
        ("GET / HTTP/1", HeadError::RequestLine),
        ("GET / HTTP/1.10", HeadError::RequestLine),
        ("GET / HTTP/11.1", HeadError::RequestLine),
        ("GET / HTTP/1,1", HeadError::RequestLine),
        ("GET / HTTPS/1.1", HeadError::RequestLine),
        ("GET / \tHTTP/1.1", HeadError::RequestLine),
        ("GET /\tHTTP/1.1", HeadError::RequestLine),
        ("GET  / HTTP/1.1", HeadError::Target),
        ("GET /  HTTP/1.1", HeadError::RequestLine),
        (" GET / HTTP/1.1", HeadError::Method),
        ("GET\t/ HTTP/1.1", HeadError::Method),
        ("GE\0T / HTTP/1.1", HeadError::Method),
        ("GE(T / HTTP/1.1", HeadError::Method),
        ("G\u{e9}T / HTTP/1.1", HeadError::Method),
        ("GET: / HTTP/1.1", HeadError::Method),
        ("\rGET / HTTP/1.1", HeadError::Method),
    ] {
        assert_eq!(refused(format!("{line}\r\nHost: a\r\n\r\n")), error, "{line:?}");
    }
}

#[test]
fn method_of_over_32_bytes_is_refused() {
    let method = "M".repeat(32);
    accepted(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(refused(format!("{method}M / HTTP/1.1\r\nHost: a\r\n\r\n")), HeadError::Method);
}

#[test]
fn every_byte_is_allowed_or_refused_in_a_target_as_it_should_be() {
    for b in 0..=255u8 {
        let mut text = b"GET /x".to_vec();
        text.push(b);
        text.extend_from_slice(b"y HTTP/1.1\r\nHost: a\r\n\r\n");
        let read = parse_request(&text, &Limits::default(), &mut Vec::new());
        let visible = (0x21..=0x7e).contains(&b) && b != b'#';
        assert_eq!(matches!(read, Ok(Some(_))), visible, "byte {b:#04x} gave {read:?}");
        if !visible {
            assert_eq!(read.map(|_| ()).map_err(HeadError::status), Err(400), "byte {b:#04x}");
        }
    }
}

#[test]
fn every_byte_is_allowed_or_refused_in_a_field_name_as_it_should_be() {
    for b in 0..=255u8 {
        let mut text = b"GET / HTTP/1.1\r\nHost: a\r\nx".to_vec();
        text.push(b);
        text.extend_from_slice(b"y: 1\r\n\r\n");
        let read = parse_request(&text, &Limits::default(), &mut Vec::new());
        // A colon ends the name early, and the rest is a value.
        let fine = b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:".contains(&b);
        assert_eq!(matches!(read, Ok(Some(_))), fine, "byte {b:#04x} gave {read:?}");
    }
}

#[test]
fn every_byte_is_allowed_or_refused_in_a_field_value_as_it_should_be() {
    for b in 0..=255u8 {
        let mut text = b"GET / HTTP/1.1\r\nHost: a\r\nx: 1".to_vec();
        text.push(b);
        text.extend_from_slice(b"2\r\n\r\n");
        let read = parse_request(&text, &Limits::default(), &mut Vec::new());
        let fine = b == b'\t' || (b >= 0x20 && b != 0x7f);
        assert_eq!(matches!(read, Ok(Some(_))), fine, "byte {b:#04x} gave {read:?}");
        match (b, read) {
            (b'\n', read) => assert_eq!(read.err(), Some(HeadError::BareLf)),
            (_, Err(error)) => assert_eq!(error, HeadError::FieldValue, "byte {b:#04x}"),
            _ => {}
        }
    }
}

#[test]
fn line_ending_in_bare_lf_is_refused_wherever_it_stands() {
    for text in [
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\nx: 1\ny: 2\r\n\r\n",
        "GET / HTTP/1.1\n\n",
    ] {
        assert_eq!(refused(text), HeadError::BareLf, "{text:?}");
    }
}

#[test]
fn bare_cr_is_refused_wherever_it_stands() {
    for (text, error) in [
        ("GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", HeadError::RequestLine),
        ("GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Target),
        ("GET / HTTP/1.1\rX: y\r\nHost: a\r\n\r\n", HeadError::RequestLine),
        ("GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", HeadError::FieldValue),
        ("GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n", HeadError::FieldValue),
        ("GET / HTTP/1.1\r\nHost: a\r\nX\r: y\r\n\r\n", HeadError::FieldName),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\r\n\r\n", HeadError::FieldName),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \r\r\n\r\n", HeadError::FieldValue),
    ] {
        assert_eq!(refused(text), error, "{text:?}");
    }
}

#[test]
fn obsolete_line_folding_is_refused() {
    assert_eq!(refused(get_with("X: 1\r\n 2\r\n")), HeadError::ObsFold);
    assert_eq!(refused(get_with("X: 1\r\n\t2\r\n")), HeadError::ObsFold);
    assert_eq!(refused(get_with("X: 1\r\n \r\n")), HeadError::ObsFold);
    // In front of the first field it could hide that one.
    assert_eq!(refused("GET / HTTP/1.1\r\n Host: a\r\n\r\n"), HeadError::ObsFold);
}

#[test]
fn invalid_field_names_are_refused() {
    for line in [
        "X : 1",
        "X\t: 1",
        ": 1",
        "X",
        "X Y: 1",
        "X(: 1",
        "\"X\": 1",
        "X\0: 1",
        "\u{e9}: 1",
        "{}: 1",
        "Content-Length : 5",
        "Transfer-Encoding\u{b}: chunked",
        "GET / HTTP/1.1",
    ] {
        assert_eq!(refused(get_with(&format!("{line}\r\n"))), HeadError::FieldName, "{line:?}");
    }
}

#[test]
fn field_value_loses_the_white_space_around_it_and_nothing_else() {
    for (line, value) in [
        ("X:1", "1"),
        ("X: 1", "1"),
        ("X: \t 1 \t ", "1"),
        ("X: a  b", "a  b"),
        ("X: a\tb", "a\tb"),
        ("X: :", ":"),
        ("X:", ""),
        ("X: ", ""),
        ("X: \t ", ""),
        ("X: \"q, r\"", "\"q, r\""),
        ("X: caf\u{e9}", "caf\u{e9}"),
    ] {
        let text = get_with(&format!("{line}\r\n"));
        let (_, fields) = accepted(&text);
        assert_eq!(fields[1].value.of(text.as_bytes()), value.as_bytes(), "{line:?}");
        assert_eq!(fields[1].name.of(text.as_bytes()), b"X", "{line:?}");
    }
}

#[test]
fn known_names_are_recognised_in_any_case_and_their_neighbours_are_not() {
    for (name, id) in [
        ("connection", FieldId::Connection),
        ("date", FieldId::Date),
        ("content-length", FieldId::ContentLength),
        ("expect", FieldId::Expect),
        ("forwarded", FieldId::Forwarded),
        ("http2-settings", FieldId::Http2Settings),
        ("keep-alive", FieldId::KeepAlive),
        ("max-forwards", FieldId::MaxForwards),
        ("proxy-connection", FieldId::ProxyConnection),
        ("te", FieldId::Te),
        ("trailer", FieldId::Trailer),
        ("transfer-encoding", FieldId::TransferEncoding),
        ("upgrade", FieldId::Upgrade),
        ("user-agent", FieldId::UserAgent),
        ("x-forwarded-for", FieldId::XForwardedFor),
        ("x-forwarded-host", FieldId::XForwardedHost),
        ("x-forwarded-port", FieldId::XForwardedPort),
        ("x-forwarded-proto", FieldId::XForwardedProto),
        ("x-real-ip", FieldId::XRealIp),
        ("x-request-id", FieldId::XRequestId),
    ] {
        let value = match id {
            FieldId::ContentLength => "1",
            FieldId::TransferEncoding => "chunked",
            _ => "v",
        };
        let upper = name.to_ascii_uppercase();
        let mixed: String = name
            .char_indices()
            .map(|(i, c)| if i % 2 == 0 { c.to_ascii_uppercase() } else { c })
            .collect();
        for spelled in [name, &upper, &mixed] {
            let (_, fields) = accepted(get_with(&format!("{spelled}: {value}\r\n")));
            assert_eq!(fields[1].id, id, "{spelled}");
        }
        // A change of one byte makes another name, but `_` for `-` gives the same to a backend that
        // turns names into variables.
        for (i, old) in name.bytes().enumerate() {
            let mut changed = name.as_bytes().to_vec();
            changed[i] = b'_';
            let changed = String::from_utf8(changed).unwrap();
            let expected = if old == b'-' { FieldId::Alias } else { FieldId::Other };
            let (head, fields) = accepted(get_with(&format!("{changed}: {value}\r\n")));
            assert_eq!(fields[1].id, expected, "{changed}");
            assert_eq!(head.framing, Framing::Empty, "{changed}");
        }
    }
}

#[test]
fn target_above_its_limit_is_answered_with_414() {
    let limits = Limits { target_bytes: 100, ..Limits::default() };
    let head = |n: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(n - 1));
    assert!(parse_request(head(100).as_bytes(), &limits, &mut Vec::new()).unwrap().is_some());
    let error = refused_within(head(101), &limits);
    assert_eq!((error, error.status()), (HeadError::TargetTooLong, 414));
    // The longest one allowed is waited for to its last byte, whatever its method.
    let longest = head(100).replace("GET", &"M".repeat(32));
    for end in 0..longest.len() {
        let read = parse_request(&longest.as_bytes()[..end], &limits, &mut Vec::new());
        assert!(matches!(read, Ok(None)), "at {end}: {read:?}");
    }
    // Known before the line has ended.
    let endless = format!("GET /{}", "x".repeat(300));
    assert_eq!(refused_within(endless, &limits), HeadError::TargetTooLong);
}

#[test]
fn head_above_its_limit_is_answered_with_431() {
    let limits = Limits { head_bytes: 200, ..Limits::default() };
    let head = |len: usize| {
        let frame = get_with("X: \r\n");
        get_with(&format!("X: {}\r\n", "v".repeat(len - frame.len())))
    };
    assert_eq!(head(200).len(), 200);
    assert!(parse_request(head(200).as_bytes(), &limits, &mut Vec::new()).unwrap().is_some());
    let error = refused_within(head(201), &limits);
    assert_eq!((error, error.status()), (HeadError::TooLarge, 431));
    // Known as soon as that many bytes hold no end.
    assert_eq!(refused_within(&head(300)[..200], &limits), HeadError::TooLarge);
    assert!(
        parse_request(&head(300).as_bytes()[..199], &limits, &mut Vec::new()).unwrap().is_none()
    );
    // What follows the head doesn't count.
    let mut with_body = head(200);
    with_body.push_str(&"b".repeat(1000));
    assert!(parse_request(with_body.as_bytes(), &limits, &mut Vec::new()).unwrap().is_some());
}

#[test]
fn fault_behind_the_head_limit_is_no_concern() {
    let limits = Limits { head_bytes: 100, ..Limits::default() };
    for behind in ["bad line\r\n", "X: y\n", " folded\r\n"] {
        let text = get_with(&format!("X: {}\r\n{behind}", "v".repeat(200)));
        assert_eq!(refused_within(text, &limits), HeadError::TooLarge, "{behind:?}");
    }
}

#[test]
fn too_many_fields_are_answered_with_431() {
    let limits = Limits { fields: 10, ..Limits::default() };
    let head = |n: usize| get_with(&"X: 1\r\n".repeat(n - 1));
    assert!(parse_request(head(10).as_bytes(), &limits, &mut Vec::new()).unwrap().is_some());
    let error = refused_within(head(11), &limits);
    assert_eq!((error, error.status()), (HeadError::TooManyFields, 431));
}

#[test]
fn absolute_form_gives_path_and_authority_of_the_target() {
    for (target, form, path, query, host, port) in [
        ("http://a/x?y", Scheme::Http, "/x", "/x?y", "a", None),
        ("HTTPS://a:444/", Scheme::Https, "/", "/", "a", Some(444)),
        ("http://a", Scheme::Http, "", "", "a", None),
        ("http://a?q", Scheme::Http, "", "?q", "a", None),
        ("http://[::1]:81/x", Scheme::Http, "/x", "/x", "[::1]", Some(81)),
    ] {
        let authority = target.split("://").nth(1).unwrap().split(['/', '?']).next().unwrap();
        let text = format!("GET {target} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
        let (head, _) = accepted(&text);
        let buf = text.as_bytes();
        assert_eq!(head.form, TargetForm::Absolute(form), "{target}");
        assert_eq!(head.path.of(buf), path.as_bytes(), "{target}");
        assert_eq!(head.path_and_query.of(buf), query.as_bytes(), "{target}");
        assert_eq!(head.host.of(buf), host.as_bytes(), "{target}");
        assert_eq!(head.authority.of(buf), authority.as_bytes(), "{target}");
        assert_eq!(head.port, port, "{target}");
    }
}

#[test]
fn targets_in_no_allowed_form_are_refused() {
    for (method, target) in [
        ("GET", "*"),
        ("GET", "x"),
        ("GET", "?x"),
        ("GET", "a:80"),
        ("GET", "ftp://a/"),
        ("GET", "http:/a/"),
        ("GET", "http:///x"),
        ("GET", "http://"),
        ("GET", "http://user@a/"),
        ("GET", "http://user:pw@a/"),
        ("GET", "http://a:99999/"),
        ("GET", "http://a:8x/"),
        ("GET", "http://a\\b/"),
        ("GET", "://a/"),
        ("OPTIONS", "**"),
        ("CONNECT", "a"),
        ("CONNECT", "a:"),
        ("CONNECT", "/"),
        ("CONNECT", "http://a/"),
        ("CONNECT", "a:80/"),
        ("CONNECT", ":80"),
    ] {
        let text = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(refused(&text), HeadError::Target, "{method} {target}");
    }
}

#[test]
fn asterisk_form_is_for_options_only() {
    let text = "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n";
    let (head, _) = accepted(text);
    assert_eq!((head.method, head.form), (Method::Options, TargetForm::Asterisk));
    assert_eq!(head.path_and_query.of(text.as_bytes()), b"*");
}

#[test]
fn authority_form_is_for_connect_only() {
    let text = "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n";
    let (head, _) = accepted(text);
    assert_eq!((head.method, head.form), (Method::Connect, TargetForm::Authority));
    assert_eq!(head.host.of(text.as_bytes()), b"a");
    assert_eq!(head.port, Some(443));
    assert!(head.path.is_empty());
}

#[test]
fn fields_of_an_earlier_head_do_not_stay() {
    let mut fields = Vec::new();
    let long = get_with("A: 1\r\nB: 2\r\n");
    parse_request(long.as_bytes(), &Limits::default(), &mut fields).unwrap().unwrap();
    assert_eq!(fields.len(), 3);
    parse_request(get_with("").as_bytes(), &Limits::default(), &mut fields).unwrap().unwrap();
    assert_eq!(fields.len(), 1);
}
