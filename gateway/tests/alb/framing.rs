//! Bodies and their ends, in both directions.

use testkit::{Backend, Client, End};

use crate::gateway_to;

/// A backend that answers every request with this, then closes.
fn closing(response: &'static [u8]) -> Backend {
    Backend::start(move |connection| {
        if connection.request().is_some() {
            connection.send(response);
        }
    })
}

#[test]
fn head_gets_the_gets_fields_and_no_body() {
    let backend = Backend::answering("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nX: y\r\n\r\n");
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    for _ in 0..3 {
        client.send("HEAD /x HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let response = client.response_to("HEAD");
        assert_eq!((response.status, response.header("content-length")), (200, Some("1234")));
        assert_eq!(response.header("x"), Some("y"));
    }
    assert_eq!(backend.connections(), 1, "the connection stays usable behind HEAD");
}

#[test]
fn answers_of_the_gateway_to_head_have_no_body_either() {
    let gateway = crate::gateway(&[]);
    let mut client = gateway.client();
    client.send("HEAD /x HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(client.response_to("HEAD").status, 404);
    client.send("HEAD /x HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(client.response_to("HEAD").status, 404);
}

#[test]
fn no_content_and_not_modified_end_with_their_heads() {
    for (response, status) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", 204),
        ("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n", 304),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n", 304),
    ] {
        let backend = Backend::answering(response);
        let gateway = gateway_to(&backend);
        let mut client = gateway.client();
        for _ in 0..3 {
            let got = client.get("a.test", "/");
            assert_eq!(got.status, status);
            assert_eq!(got.header("transfer-encoding"), None);
        }
    }
}

#[test]
fn interim_responses_pass_before_the_final_one() {
    let backend = Backend::answering(
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </b>\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    for _ in 0..2 {
        let response = client.get("a.test", "/");
        assert_eq!(response.text(), "ok");
        let links: Vec<_> = response.interim.iter().map(|head| head.value("link")).collect();
        assert_eq!(links, [Some("</a>"), Some("</b>")]);
    }
}

#[test]
fn http_1_0_client_sees_no_interim_response() {
    let backend = Backend::answering(
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n");
    let response = client.response();
    assert_eq!((response.status, response.interim.len()), (200, 0));
    assert_eq!(client.expect_end(), End::Closed);
}

#[test]
fn client_that_expects_100_sends_its_body_once_the_backend_asks_for_it() {
    let backend = Backend::start(|connection| {
        let head = connection.head().unwrap();
        assert_eq!(head.value("expect"), Some("100-continue"));
        connection.send("HTTP/1.1 100 Continue\r\n\r\n");
        let body = connection.read(5).unwrap();
        connection.send_ok(&String::from_utf8_lossy(&body));
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    );
    assert_eq!(client.head().status(), 100);
    client.send("abcde");
    assert_eq!(client.response().text(), "abcde");
}

#[test]
fn backend_that_refuses_an_expecting_client_spares_it_the_body() {
    let backend = Backend::start(|connection| {
        connection.head();
        connection.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n");
        connection.read_some();
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    );
    let response = client.response();
    assert_eq!((response.status, response.interim.len()), (417, 0));
}

#[test]
fn chunked_response_with_trailers_passes() {
    let backend = Backend::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
         3;ext\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 5\r\nContent-Length: 99\r\nTransfer-Encoding: x\r\n\
         Set-Cookie: a=b\r\n\r\n",
    );
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\nTE: trailers\r\nConnection: TE\r\n\r\n");
        let response = client.response();
        assert_eq!(response.text(), "abcde");
        let trailers = [("X-Sum".to_owned(), "5".to_owned())];
        assert_eq!(response.trailers.fields, trailers, "framing has no place in trailers");
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn request_trailers_pass_but_for_those_that_mean_something_in_a_head() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
         1\r\na\r\n0\r\nX-Sum: 1\r\nHost: evil\r\nContent-Length: 9\r\nX-Forwarded-For: 1.2.3.4\r\n\
         Authorization: x\r\n\r\n",
    );
    let seen = client.response().text();
    assert!(seen.ends_with("\r\n1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n"), "{seen}");
}

#[test]
fn response_that_ends_with_the_backends_connection_reaches_the_client_in_chunks() {
    let backend = closing(b"HTTP/1.1 200 OK\r\n\r\nuntil the end");
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    for _ in 0..2 {
        let response = client.get("a.test", "/");
        assert_eq!(response.text(), "until the end");
        assert!(response.head.is_chunked());
    }
}

#[test]
fn http_1_0_client_gets_a_chunked_response_without_chunks_and_then_the_end() {
    let backend = Backend::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    );
    let gateway = gateway_to(&backend);
    for connection in ["", "Connection: keep-alive\r\n"] {
        let mut client = gateway.client();
        client.send(format!("GET / HTTP/1.0\r\nHost: a.test\r\n{connection}\r\n"));
        let head = client.head();
        assert_eq!(head.value("transfer-encoding"), None);
        assert_eq!(head.value("connection"), Some("close"), "asked with {connection:?}");
        assert_eq!(client.read_to_end(), (b"abc".to_vec(), End::Closed), "{connection:?}");
    }
}

#[test]
fn http_1_0_client_that_asks_keeps_its_connection() {
    let backend = Backend::named("ok");
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    for _ in 0..3 {
        client.send("GET / HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n");
        let response = client.response();
        assert_eq!(response.text(), "ok");
        assert_eq!(response.header("connection"), Some("keep-alive"));
    }
    client.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n");
    assert_eq!(client.response().text(), "ok");
    assert_eq!(client.expect_end(), End::Closed);
}

#[test]
fn http_1_0_backend_is_understood() {
    let backend = closing(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc");
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    assert_eq!(client.get("a.test", "/").text(), "abc");
    assert_eq!(client.get("a.test", "/").text(), "abc");
    assert_eq!(backend.connections(), 2, "an HTTP/1.0 connection is not used again");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let backend = Backend::start(|connection| {
        while let Some(request) = connection.request() {
            let path = request.head.line.split(' ').nth(1).unwrap().to_owned();
            connection.send_ok(&(path + &String::from_utf8_lossy(&request.body)));
        }
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    let mut bytes = String::new();
    for i in 0..50 {
        match i % 3 {
            0 => bytes += &format!("GET /{i} HTTP/1.1\r\nHost: a.test\r\n\r\n"),
            1 => {
                bytes +=
                    &format!("POST /{i} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\n-p")
            }
            _ => {
                bytes += &format!(
                    "PUT /{i} HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n\
                     1\r\n-\r\n1\r\nc\r\n0\r\n\r\n"
                );
            }
        }
    }
    client.send(bytes);
    for i in 0..50 {
        let expected = format!("/{i}{}", ["", "-p", "-c"][i % 3]);
        assert_eq!(client.response().text(), expected);
    }
}

#[test]
fn request_in_single_bytes_is_the_same_request() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    let request = "POST /slow HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3\r\nabc\r\n0\r\n\r\n";
    for byte in request.as_bytes() {
        client.send([*byte]);
    }
    let seen = client.response().text();
    assert!(seen.starts_with("POST /slow HTTP/1.1\r\n") && seen.ends_with("0\r\n\r\n"), "{seen}");
    let (_, body) = seen.split_once("\r\n\r\n").unwrap();
    let data: String = body.split("\r\n").skip(1).step_by(2).collect();
    assert_eq!(data, "abc");
}

#[test]
fn response_in_single_bytes_is_the_same_response() {
    let backend = Backend::start(|connection| {
        connection.request();
        let response = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\
            Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\nX: y\r\n\r\n";
        for byte in response {
            connection.send([*byte]);
        }
    });
    let gateway = gateway_to(&backend);
    let response = gateway.client().get("a.test", "/");
    assert_eq!((response.text().as_str(), response.interim.len()), ("abcd", 1));
    assert_eq!(response.trailers.value("x"), Some("y"));
}

#[test]
fn response_cut_amid_its_body_is_never_taken_for_whole() {
    for response in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nonly this",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n0\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\nzz\r\n",
    ] {
        let backend = closing(response);
        let gateway = gateway_to(&backend);
        let shown = response.escape_ascii().to_string();
        let mut client = gateway.client();
        client.send_get("a.test", "/");
        let incomplete = client.try_response_to("GET").expect_err(&shown);
        assert!(b"only this".starts_with(&incomplete.body), "{shown}: {incomplete:?}");
        // The end of the connection would be the end of the body to this one: it must be a reset.
        let mut client = gateway.client();
        client.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n");
        let (_, end) = client.read_to_end();
        assert_eq!(end, End::Aborted, "{shown}");
    }
}

#[test]
fn reset_amid_a_response_that_ends_with_the_connection_is_not_its_end() {
    let (seen, may_reset) = std::sync::mpsc::channel();
    let may_reset = std::sync::Mutex::new(may_reset);
    let backend = Backend::start(move |connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\n\r\npart");
        // The reset must not overtake the data: the client has it first.
        may_reset.lock().unwrap().recv().unwrap();
        connection.reset_at_end();
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send_get("a.test", "/");
    assert_eq!(client.head().status(), 200);
    assert_eq!(client.read(9), b"4\r\npart\r\n");
    seen.send(()).unwrap();
    let (rest, _) = client.read_to_end();
    assert_eq!(rest, b"", "the last chunk must not come");
}

#[test]
fn early_answer_to_a_long_upload_reaches_the_client() {
    let backend = Backend::start(|connection| {
        connection.head();
        connection.send(
            "HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nstop",
        );
        connection.finish_sending();
        connection.drain();
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000000\r\n\r\n");
    client.send(vec![b'x'; 10_000]);
    let response = client.response();
    assert_eq!((response.status, response.text().as_str()), (413, "stop"));
}

#[test]
fn request_body_cut_by_the_client_is_not_ended_for_the_backend() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    for framing in
        ["Content-Length: 10\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"]
    {
        let mut client = gateway.client();
        client.send(format!("POST / HTTP/1.1\r\nHost: a.test\r\n{framing}"));
        client.finish_sending();
        assert!(client.try_response_to("POST").map_or(true, |r| r.status >= 400));
    }
    assert!(!backend.received_text().contains("\r\n0\r\n"), "{}", backend.received_text());
}

#[test]
fn body_limit_is_answered_with_413_whatever_the_framing() {
    let backend = Backend::echo();
    let gateway = crate::builder()
        .alb("limits: {bodyBytes: 10}")
        .manifest("all.yaml", crate::everything_to(&[&backend]))
        .start();
    let send = |text: &str| {
        let mut client: Client = gateway.client();
        client.send(format!("POST / HTTP/1.1\r\nHost: a.test\r\n{text}"));
        client.response().status
    };
    assert_eq!(send("Content-Length: 10\r\n\r\n0123456789"), 200);
    assert_eq!(send("Content-Length: 11\r\n\r\n"), 413);
    assert_eq!(send("Transfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n"), 200);
    assert_eq!(send("Transfer-Encoding: chunked\r\n\r\nb\r\n0123456789a\r\n0\r\n\r\n"), 413);
}

#[test]
fn connect_and_trace_are_refused_with_405() {
    let backend = Backend::echo();
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n");
    assert_eq!(client.response().status, 405);
    let mut client = gateway.client();
    client.send("TRACE / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(client.response().status, 405);
    assert_eq!(backend.connections(), 0);
}

#[test]
fn client_that_half_closes_behind_its_request_still_gets_the_response() {
    let backend = Backend::named("late");
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send_get("a.test", "/");
    client.finish_sending();
    assert_eq!(client.response().text(), "late");
    assert_eq!(client.expect_end(), End::Closed);
}

#[test]
fn client_that_asks_to_close_gets_its_response_and_the_end() {
    let backend = Backend::named("last");
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    assert_eq!(client.get("a.test", "/").header("connection"), None);
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
    let response = client.response();
    assert_eq!((response.text().as_str(), response.header("connection")), ("last", Some("close")));
    assert_eq!(client.expect_end(), End::Closed);
    assert_eq!(backend.connections(), 1, "the endpoint's connection is not the client's to close");
    assert!(!backend.received_text().contains("Connection:"));
}

#[test]
fn interim_response_without_a_final_one_becomes_502() {
    let backend = closing(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    let response = client.get("a.test", "/");
    assert_eq!((response.status, response.interim.len()), (502, 1));
    assert_eq!(backend.connections(), 1, "a request that has an answer is not repeated");
}

#[test]
fn endless_interim_responses_become_502() {
    let backend = Backend::start(|connection| {
        connection.request();
        while connection.try_send("HTTP/1.1 102 Processing\r\n\r\n").is_ok() {}
    });
    let gateway = gateway_to(&backend);
    let response = gateway.client().get("a.test", "/");
    assert_eq!(response.status, 502);
    assert!(response.interim.len() < 100, "{}", response.interim.len());
}

#[test]
fn response_head_beyond_the_limit_becomes_502() {
    let backend = Backend::answering(format!(
        "HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n",
        "x".repeat(20_000)
    ));
    let gateway = gateway_to(&backend);
    assert_eq!(gateway.get("a.test", "/").status, 502);
}

#[test]
fn trailers_beyond_the_limit_end_the_message_visibly() {
    let trailer = format!("X: {}\r\n", "x".repeat(200)).repeat(90);
    let chunks = format!("1\r\na\r\n0\r\n{trailer}\r\n");
    let backend = Backend::start({
        let response = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        move |connection| {
            if connection.request().is_some() {
                connection.send(&response);
                connection.read_some();
            }
        }
    });
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send_get("a.test", "/");
    assert!(client.try_response_to("GET").is_err());
    let mut client = gateway.client();
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"
    ));
    assert_eq!(client.response().status, 400);
}

#[test]
fn client_that_closes_amid_its_head_gets_nothing_and_costs_nothing() {
    let backend = Backend::named("x");
    let gateway = gateway_to(&backend);
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a.te");
    client.finish_sending();
    assert_eq!(client.expect_end(), End::Closed);
    assert_eq!(backend.connections(), 0);
}

#[test]
fn request_with_an_empty_body_leaves_the_connection_open_whatever_the_answer() {
    let gateway = crate::gateway(&[]);
    let mut client = gateway.client();
    for _ in 0..2 {
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n");
        let response = client.response();
        assert_eq!((response.status, response.header("connection")), (404, None));
    }
}
