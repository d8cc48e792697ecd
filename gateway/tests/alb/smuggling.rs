//! Requests that two parsers could read differently are refused, or go on in one plain form. What
//! the backend saw is compared byte by byte.

use testkit::{Backend, End};

use crate::gateway_to;

/// Sends raw bytes on a fresh connection; answers the statuses that came back in order, the last
/// of which must have closed the connection.
#[track_caller]
fn statuses(gateway: &testkit::Gateway, bytes: &[u8]) -> Vec<u16> {
    let mut client = gateway.client();
    client.send(bytes);
    client.finish_sending();
    let mut statuses = Vec::new();
    while let Ok(response) = client.try_response_to("GET") {
        statuses.push(response.status);
    }
    statuses
}

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n";

#[test]
fn ambiguous_heads_are_refused_and_nothing_reaches_the_backend() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let post = "POST / HTTP/1.1\r\nHost: a.test\r\n";
    for (name, bytes, status) in [
        (
            "CL.TE",
            format!("{post}Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG"),
            400,
        ),
        (
            "TE.CL",
            format!("{post}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\nGPOST"),
            400,
        ),
        (
            "TE.TE twice",
            format!("{post}Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n\r\n0\r\n\r\n"),
            400,
        ),
        (
            "TE.TE space",
            format!("{post}Transfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
            400,
        ),
        (
            "TE xchunked",
            format!("{post}Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
            400,
        ),
        ("TE vertical tab", format!("{post}Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n"), 400),
        ("TE quoted", format!("{post}Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"), 400),
        ("TE list", format!("{post}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), 501),
        (
            "TE identity",
            format!("{post}Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nabcde"),
            400,
        ),
        ("TE folded", format!("{post}X: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400),
        (
            "TE behind bare LF",
            format!("{post}X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            400,
        ),
        (
            "TE behind bare CR",
            format!("{post}X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            400,
        ),
        (
            "TE in HTTP/1.0",
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(),
            400,
        ),
        (
            "CL twice, same",
            format!("{post}Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde"),
            400,
        ),
        (
            "CL twice, differing",
            format!("{post}Content-Length: 0\r\nContent-Length: 44\r\n\r\n{SMUGGLED}"),
            400,
        ),
        ("CL list", format!("{post}Content-Length: 5, 5\r\n\r\nabcde"), 400),
        ("CL signed", format!("{post}Content-Length: +5\r\n\r\nabcde"), 400),
        ("CL hex", format!("{post}Content-Length: 0x5\r\n\r\nabcde"), 400),
        ("CL negative", format!("{post}Content-Length: -1\r\n\r\nabcde"), 400),
        ("CL overflow", format!("{post}Content-Length: 18446744073709551621\r\n\r\nabcde"), 400),
        ("bare LF head", "GET / HTTP/1.1\nHost: a.test\n\n".into(), 400),
        ("bare LF end", "GET / HTTP/1.1\r\nHost: a.test\r\n\n".into(), 400),
        ("bare CR value", "GET / HTTP/1.1\r\nHost: a.test\r\nX: a\rb\r\n\r\n".into(), 400),
        ("NUL value", "GET / HTTP/1.1\r\nHost: a.test\r\nX: a\0b\r\n\r\n".into(), 400),
        ("NUL name", "GET / HTTP/1.1\r\nHost: a.test\r\nX\0: b\r\n\r\n".into(), 400),
        ("empty name", "GET / HTTP/1.1\r\nHost: a.test\r\n: b\r\n\r\n".into(), 400),
        ("folded first", "GET / HTTP/1.1\r\n Host: a.test\r\n\r\n".into(), 400),
        ("two hosts", "GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n".into(), 400),
        ("no host", "GET / HTTP/1.1\r\n\r\n".into(), 400),
        ("host with path", "GET / HTTP/1.1\r\nHost: a.test/x\r\n\r\n".into(), 400),
        ("host with user", "GET / HTTP/1.1\r\nHost: x@a.test\r\n\r\n".into(), 400),
        ("host mismatch", "GET http://b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n".into(), 400),
        ("space in target", "GET / x HTTP/1.1\r\nHost: a.test\r\n\r\n".into(), 400),
        ("tab for space", "GET\t/\tHTTP/1.1\r\nHost: a.test\r\n\r\n".into(), 400),
        ("fragment", "GET /#x HTTP/1.1\r\nHost: a.test\r\n\r\n".into(), 400),
        ("no version", "GET /\r\nHost: a.test\r\n\r\n".into(), 400),
        ("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 505),
        ("method", "G@T / HTTP/1.1\r\nHost: a.test\r\n\r\n".into(), 400),
    ] {
        // Were the head accepted, what follows would be answered too.
        let bytes = bytes + SMUGGLED;
        assert_eq!(statuses(&gateway, bytes.as_bytes()), [status], "{name}");
    }
    assert_eq!(backend.received_text(), "", "something reached the backend");
}

#[test]
fn malformed_chunks_are_refused_and_the_backend_sees_no_end_of_body() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    for chunks in [
        "x\r\n",
        "-1\r\n",
        "+5\r\nabcde\r\n0\r\n\r\n",
        "0x5\r\nabcde\r\n0\r\n\r\n",
        "5 \r\nabcde\r\n0\r\n\r\n",
        "5\nabcde\r\n0\r\n\r\n",
        "5\r\nabcdeXX0\r\n\r\n",
        "5\r\nabcde\n0\r\n\r\n",
        "5;a\nb\r\nabcde\r\n0\r\n\r\n",
        "5;a\rb\r\nabcde\r\n0\r\n\r\n",
        "10000000000000005\r\nabcde\r\n0\r\n\r\n",
        "5\r\nabcde\r\n0\r\nX : y\r\n\r\n",
        "5\r\nabcde\r\n0\r\nX: y\n\r\n",
        "5\r\nabcde\r\n0\r\n\n",
    ] {
        let bytes = format!(
            "POST /chunks HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n\
             {chunks}{SMUGGLED}"
        );
        assert_eq!(statuses(&gateway, bytes.as_bytes()), [400], "{chunks:?}");
    }
    let seen = backend.received_text();
    assert!(!seen.contains("\r\n0\r\n"), "a body was ended: {seen:?}");
    assert!(!seen.contains("/smuggled"), "{seen:?}");
}

#[test]
fn chunked_body_reaches_the_backend_in_plain_chunks_without_extensions() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send(
        "POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: CHUNKED\r\n\r\n\
         0003;ext=\"1\r\n",
    );
    client.send("abc\r\nA;x\r\n0123456789\r\n0;last\r\nX-Sum: 1\r\n\r\n");
    let seen = client.response().text();
    let (head, body) = seen.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("\r\nTransfer-Encoding: chunked"), "{head}");
    assert!(!head.to_lowercase().contains("content-length"), "{head}");
    assert!(!body.contains(';'), "{body}");
    // However the pieces are cut, the chunks' data is what was sent.
    let mut data = String::new();
    let mut rest = body;
    loop {
        let (size, tail) = rest.split_once("\r\n").unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            assert_eq!(tail, "X-Sum: 1\r\n\r\n");
            break;
        }
        data.push_str(&tail[..size]);
        assert_eq!(&tail[size..size + 2], "\r\n");
        rest = &tail[size + 2..];
    }
    assert_eq!(data, "abc0123456789");
}

#[test]
fn content_length_reaches_the_backend_as_one_plain_number() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("POST /x HTTP/1.1\r\nHost: a.test\r\ncontent-LENGTH:  \t0005 \t\r\n\r\nabcde");
    let seen = client.response().text();
    assert!(seen.contains("\r\nContent-Length: 5\r\n"), "{seen}");
    assert_eq!(seen.to_lowercase().matches("content-length").count(), 1, "{seen}");
    assert!(seen.ends_with("\r\n\r\nabcde"), "{seen}");
}

#[test]
fn body_of_a_get_is_not_taken_for_the_next_request() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    let length = SMUGGLED.len();
    client.send(format!(
        "GET /outer HTTP/1.1\r\nHost: a.test\r\nContent-Length: {length}\r\n\r\n{SMUGGLED}"
    ));
    let first = client.response().text();
    assert!(first.starts_with("GET /outer ") && first.ends_with(SMUGGLED), "{first}");
    let second = client.get("a.test", "/next").text();
    assert!(second.starts_with("GET /next "), "{second}");
}

#[test]
fn connection_options_can_not_remove_framing_or_the_clients_address() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send(
        "POST /x HTTP/1.1\r\nHost: a.test\r\nConnection: content-length, host, x-forwarded-for, \
         transfer-encoding\r\nContent-Length: 3\r\n\r\nabc",
    );
    let seen = client.response().text();
    assert!(seen.contains("\r\nContent-Length: 3\r\n") && seen.contains("\r\nHost: a.test\r\n"));
    assert!(seen.contains("\r\nX-Forwarded-For: 127.0.0.1\r\n"), "{seen}");
}

#[test]
fn early_bytes_behind_an_upgrade_that_is_refused_are_the_gateways_next_request() {
    let backend = Backend::start(|connection| {
        while let Some(request) = connection.request() {
            let text = String::from_utf8_lossy(&request.raw).into_owned();
            connection.send_ok(&text);
        }
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send(format!(
        "GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\
         {SMUGGLED}"
    ));
    let first = client.response();
    assert_eq!(first.status, 200);
    assert!(first.text().contains("Upgrade: websocket"), "{}", first.text());
    let second = client.response().text();
    // It went through the gateway: it carries what the gateway adds.
    assert!(second.starts_with("GET /smuggled ") && second.contains("X-Request-ID"), "{second}");
}

#[test]
fn h2c_upgrade_is_not_passed_on() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    for upgrade in ["h2c", "H2C", "websocket, h2c", "h2c, websocket"] {
        let mut client = gateway.client();
        client.send(format!(
            "GET /h2 HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade, HTTP2-Settings\r\n\
             Upgrade: {upgrade}\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"
        ));
        let seen = client.response().text().to_lowercase();
        assert!(!seen.contains("h2c") && !seen.contains("http2-settings"), "{upgrade}: {seen}");
    }
}

#[test]
fn unasked_101_from_a_backend_does_not_open_a_tunnel() {
    let backend = Backend::start(|connection| {
        connection.head();
        connection
            .send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
        connection.read_some();
    });
    let gateway = gateway_to(&backend);
    assert_eq!(gateway.get("a.test", "/").status, 502);
}

#[test]
fn ambiguous_responses_of_a_backend_become_502() {
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\r\nX : y\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "garbage\r\n\r\n",
    ] {
        let backend = Backend::answering(response);
        let gateway = gateway_to(&backend);
        assert_eq!(gateway.get("a.test", "/").status, 502, "{response:?}");
    }
}

#[test]
fn bytes_a_backend_sends_behind_its_response_are_never_the_next_response() {
    for first in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\
         HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong",
        "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nwrong",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nwrong",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong",
    ] {
        let backend = Backend::start(move |connection| {
            if connection.number() == 0 && connection.request().is_some() {
                connection.send(first);
            }
            while connection.request().is_some() {
                connection.send_ok("right");
            }
        });
        let gateway = crate::builder()
            .workers(1)
            .manifest("all.yaml", crate::everything_to(&[&backend]))
            .start();
        let mut client = gateway.client();
        client.get("a.test", "/");
        for _ in 0..3 {
            assert_eq!(client.get("a.test", "/").text(), "right", "{first:?}");
        }
    }
}

#[test]
fn refused_client_gets_its_answer_and_then_the_end() {
    let backend = Backend::named("x");
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\nX : y\r\n\r\n");
    let response = client.response();
    assert_eq!(response.status, 400);
    assert_eq!(response.header("connection"), Some("close"));
    assert_eq!(client.expect_end(), End::Closed);
}

#[test]
fn heads_beyond_the_limits_are_answered_with_414_and_431() {
    let backend = Backend::named("x");
    let gateway = crate::builder()
        .alb("limits: {headBytes: 2048, targetBytes: 512, headers: 20}")
        .manifest("all.yaml", crate::everything_to(&[&backend]))
        .start();
    let long = |n| "x".repeat(n);
    assert_eq!(gateway.get("a.test", &format!("/{}", long(511))).status, 200);
    assert_eq!(gateway.get("a.test", &format!("/{}", long(512))).status, 414);
    let with = |fields: &str| {
        let mut client = gateway.client();
        client.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n"));
        client.response().status
    };
    assert_eq!(with(&format!("X: {}\r\n", long(1900))), 200);
    assert_eq!(with(&format!("X: {}\r\n", long(2100))), 431);
    assert_eq!(with(&"X: y\r\n".repeat(19)), 200);
    assert_eq!(with(&"X: y\r\n".repeat(20)), 431);
    // Without ever an end of line.
    let mut client = gateway.client();
    client.send(format!("GET /{}", long(100_000)));
    assert_eq!(client.response().status, 414);
}

#[test]
fn body_behind_an_answer_of_the_gateway_is_not_the_next_request() {
    let backend = Backend::echo();
    let ingress = testkit::manifest::Ingress::new("i").host("a.test").prefix("/", "app").yaml();
    let gateway = crate::gateway(&[&testkit::manifest::service("app", &[&backend]), &ingress]);
    let length = SMUGGLED.len();
    for framing in [
        format!("Content-Length: {length}\r\n\r\n{SMUGGLED}"),
        format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{SMUGGLED}\r\n0\r\n\r\n"),
    ] {
        let bytes = format!("POST / HTTP/1.1\r\nHost: unknown.test\r\n{framing}");
        assert_eq!(statuses(&gateway, bytes.as_bytes()), [404], "{framing:?}");
    }
    assert_eq!(backend.received_text(), "");
}

#[test]
fn body_that_the_backend_did_not_wait_for_is_not_the_next_request() {
    let backend = Backend::start(|connection| {
        while connection.head().is_some() {
            connection.send_ok("early");
        }
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("POST /early HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000\r\n\r\n");
    assert_eq!(client.response().text(), "early");
    // The gateway may have closed by now.
    _ = client.try_send(SMUGGLED);
    let (rest, _) = client.read_to_end();
    assert_eq!(rest, b"", "{}", rest.escape_ascii());
    let mut other = gateway.client();
    assert_eq!(other.get("a.test", "/other").text(), "early");
    for received in backend.received() {
        let text = String::from_utf8_lossy(&received).into_owned();
        assert!(!(text.contains("/early") && text.contains("/other")), "{text}");
    }
}

/// Reads a backend's connection as strictly as can be: heads that the gateway wrote, bodies by
/// their framing, nothing between them. Answers the number of whole requests.
#[track_caller]
fn assert_plain_requests(stream: &[u8]) -> usize {
    let shown = || stream.escape_ascii().to_string();
    let mut rest = stream;
    let mut requests = 0;
    while let Some(end) = rest.windows(4).position(|w| w == b"\r\n\r\n") {
        let (head, body) = rest.split_at(end + 4);
        let text = head.escape_ascii().to_string();
        let head = testkit::Head::parse(head);
        assert!(head.line.ends_with(" HTTP/1.1"), "{text} in {}", shown());
        // The gateway adds one of each to every request; a smuggled one would have none.
        for name in ["x-request-id", "x-forwarded-for", "host", "forwarded"] {
            assert_eq!(head.values(name).len(), 1, "{name} in {text} in {}", shown());
        }
        assert!(!text.contains("\\x00") && !text.replace("\\r\\n", "").contains("\\r"), "{text}");
        rest = body;
        if head.is_chunked() {
            assert_eq!(head.content_length(), None, "{text}");
            loop {
                let Some(line) = rest.windows(2).position(|w| w == b"\r\n") else {
                    return requests;
                };
                let size = std::str::from_utf8(&rest[..line]).unwrap();
                let size = usize::from_str_radix(size, 16)
                    .unwrap_or_else(|_| panic!("chunk size {size:?} in {}", shown()));
                rest = &rest[line + 2..];
                if size == 0 {
                    break;
                }
                let Some(behind) = rest.get(size..) else { return requests };
                if behind.len() < 2 {
                    return requests;
                }
                assert!(behind.starts_with(b"\r\n"), "{}", shown());
                rest = &behind[2..];
            }
            while !rest.starts_with(b"\r\n") {
                let Some(line) = rest.windows(2).position(|w| w == b"\r\n") else {
                    return requests;
                };
                rest = &rest[line + 2..];
            }
            rest = &rest[2..];
        } else {
            assert!(head.values("transfer-encoding").is_empty(), "{text}");
            let Some(behind) = rest.get(head.content_length().unwrap_or(0)..) else {
                return requests;
            };
            rest = behind;
        }
        requests += 1;
    }
    requests
}

#[test]
fn whatever_clients_send_the_backend_sees_whole_requests_written_by_the_gateway() {
    const SEEDS: [&str; 7] = [
        "POST /a HTTP/1.1\r\nHost: a.test\r\nContent-Length: 6\r\n\r\nabcdef",
        "POST /b HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n0\r\n\r\n",
        "POST /c HTTP/1.1\r\nHost: a.test\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n1;e\r\na\r\n0\r\nT: u\r\n\r\n",
        "GET /d HTTP/1.1\r\nHost: a.test\r\nConnection: close, x\r\nX: y\r\n\r\n",
        "PUT /e HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\nExpect: x\r\n\r\n",
        "GET http://a.test/f HTTP/1.1\r\nHost: a.test\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        "POST /g HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc",
    ];
    const PIECES: [&str; 22] = [
        "\r\n",
        "\n",
        "\r",
        "\0",
        " ",
        "\t",
        ":",
        ";",
        ",",
        "0",
        "1",
        "+",
        "-",
        "\u{b}",
        "\u{e9}",
        "\r\nContent-Length: 5",
        "\r\nTransfer-Encoding: chunked",
        "\r\nTransfer-Encoding: x",
        "\r\n X: folded",
        "\r\nConnection: content-length",
        "0\r\n\r\n",
        "\r\nHost: b.test",
    ];
    let backend = Backend::start(|connection| {
        while connection.head().is_some() {
            // Whatever the body is, it is not waited for: that is the harder case.
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let careful = Backend::start(|connection| {
        while connection.request().is_some() {
            connection.send_ok("ok");
        }
    });
    let gateways = [gateway_to(&backend), gateway_to(&careful)];
    // xorshift64*: the same requests on every run.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |bound: usize| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    };
    for round in 0..1500 {
        let mut bytes = Vec::new();
        for _ in 0..=below(2) {
            let mut request = SEEDS[below(SEEDS.len())].as_bytes().to_vec();
            for _ in 0..below(3) {
                let at = below(request.len());
                let piece = PIECES[below(PIECES.len())].as_bytes();
                let removed = below(3).min(request.len() - at);
                request.splice(at..at + removed, piece.iter().copied());
            }
            bytes.extend(request);
        }
        bytes.extend_from_slice(SMUGGLED.as_bytes());
        let mut client = gateways[round % 2].client();
        for piece in bytes.chunks(1 + below(bytes.len())) {
            if client.try_send(piece).is_err() {
                break;
            }
        }
        // Answered, refused or cut off, it has an end.
        client.finish_sending_if_open();
        client.read_to_end();
    }
    let whole: usize = [&backend, &careful]
        .iter()
        .flat_map(|backend| backend.received())
        .map(|stream| assert_plain_requests(&stream))
        .sum();
    assert!(whole > 500, "only {whole} requests came through: the test tests nothing");
    for gateway in &gateways {
        assert!(!gateway.stderr().contains("panicked"), "{}", gateway.stderr());
        assert_eq!(gateway.get("a.test", "/").status, 200);
    }
}
