use crate::manifest::{Ingress, service_at};
use crate::{Backend, Client, End, Head, eventually, sockets, unique_address};

#[test]
fn client_and_backend_understand_each_other() {
    let backend = Backend::echo();
    let mut client = Client::connect(backend.address());
    for body in ["", "abc"] {
        let length = body.len();
        let request = format!("POST /x HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{body}");
        client.send(&request);
        let response = client.response();
        assert_eq!((response.status, response.text()), (200, request));
    }
    assert_eq!(backend.connections(), 1);
    assert!(backend.received_text().ends_with("abc"));
}

#[test]
fn chunks_and_trailers_are_read_and_what_follows_is_left() {
    let backend = Backend::answering(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
         3\r\nabc\r\n1\r\nd\r\n0\r\nX: y\r\n\r\nrest",
    );
    let mut client = Client::connect(backend.address());
    client.send("GET / HTTP/1.1\r\n\r\n");
    let response = client.response();
    assert_eq!((response.text().as_str(), response.interim.len()), ("abcd", 1));
    assert_eq!(response.chunks, [3, 1]);
    assert_eq!(response.trailers.value("x"), Some("y"));
    assert_eq!(client.read(4), b"rest");
}

#[test]
fn end_and_reset_are_told_apart() {
    let closing = Backend::start(|connection| {
        connection.request();
    });
    let resetting = Backend::start(|connection| {
        connection.request();
        connection.reset_at_end();
    });
    for (backend, end) in [(closing, End::Closed), (resetting, End::Aborted)] {
        let mut client = Client::connect(backend.address());
        client.send("GET / HTTP/1.1\r\n\r\n");
        assert_eq!(client.expect_end(), end);
    }
}

#[test]
fn cut_response_is_reported_with_what_came_of_it() {
    let backend = Backend::start(|connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart");
    });
    let mut client = Client::connect(backend.address());
    client.send("GET / HTTP/1.1\r\n\r\n");
    let incomplete = client.try_response_to("GET").unwrap_err();
    assert_eq!((incomplete.body.as_slice(), incomplete.end), (b"part".as_slice(), End::Closed));
}

#[test]
fn dropped_backend_listens_no_more_and_another_can_take_its_place() {
    let first = Backend::named("first");
    let address = first.address();
    drop(first);
    let second = Backend::start_at(address, |connection| {
        while connection.request().is_some() {
            connection.send_ok("second");
        }
    });
    assert_eq!(crate::get(second.address(), "a.test", "/").text(), "second");
}

#[test]
fn addresses_are_never_given_twice() {
    let addresses: std::collections::BTreeSet<_> = (0..600).map(|_| unique_address()).collect();
    assert_eq!(addresses.len(), 600);
    assert!(addresses.iter().all(std::net::IpAddr::is_loopback));
}

#[test]
fn heads_are_split_into_line_and_fields() {
    let head = Head::parse(b"HTTP/1.1 204 No Content\r\nA: 1\r\na:2 \r\nB:\r\n\r\n");
    assert_eq!(head.status(), 204);
    assert_eq!(head.values("A"), ["1", "2"]);
    assert_eq!(head.value("b"), Some(""));
    assert_eq!(head.value("c"), None);
}

#[test]
fn manifests_hold_what_they_were_built_from() {
    let address = "127.0.0.9:8000".parse().unwrap();
    let text = service_at("app", &[address]);
    assert!(text.contains("addresses: [127.0.0.9]") && text.contains("targetPort: 8000"));
    assert!(service_at("none", &[]).contains("endpoints: []"));
    let ingress = Ingress::new("i").host("a.test").prefix("/x", "app").tls(&["a.test"], "s").yaml();
    for part in ["name: i", "host: \"a.test\"", "pathType: Prefix", "secretName: s"] {
        assert!(ingress.contains(part), "{part}: {ingress}");
    }
}

#[test]
fn sockets_tell_what_is_not_read_yet() {
    let (go, wait) = std::sync::mpsc::channel();
    let wait = std::sync::Mutex::new(wait);
    let backend = Backend::with_small_window(move |connection| {
        wait.lock().unwrap().recv().unwrap();
        connection.read_some();
    });
    let mut client = Client::connect(backend.address());
    client.send("12345");
    let own = client.local_address();
    let unread = || {
        let end = sockets().into_iter().find(|s| s.remote == own && s.local == backend.address());
        end.map(|socket| socket.unread)
    };
    eventually("it has come", || (unread() == Some(5)).then_some(()));
    go.send(()).unwrap();
    eventually("it is read", || (unread() != Some(5)).then_some(()));
}

#[test]
fn a_strongswan_loads_its_connections() {
    let namespace = crate::lab::Namespace::alone("swan");
    namespace.ip("link set lo up\n");
    let connection = crate::SwanConnection {
        name: "edge".to_owned(),
        lines: "  version = 2\n  local_addrs = 127.0.0.1\n  remote_addrs = 127.0.0.2\n  local {\n    auth = psk\n    id = a.test\n  }\n  remote {\n    auth = psk\n    id = b.test\n  }"
            .to_owned(),
        children: vec![("net".to_owned(), "    local_ts = 10.1.0.0/24\n    remote_ts = 10.2.0.0/24".to_owned())],
    };
    let mut swan = crate::StrongSwan::builder()
        .connection(connection)
        .psk("a.test", "b.test", "not a secret at all")
        .start(&namespace);
    assert!(swan.swanctl(&["--list-conns"]).contains("10.2.0.0/24"));
    assert_eq!(swan.installed(), 0);
    swan.kill();
    assert!(swan.try_swanctl(&["--list-sas"]).is_err());
    swan.start();
    assert!(swan.swanctl(&["--list-conns"]).contains("edge"));
}
