use super::{accepted, get_with, ids, refused};
use crate::{FieldId, Framing, HeadError, tokens};

#[test]
fn http_1_1_stays_open_unless_close_is_asked_for() {
    assert!(accepted(get_with("")).0.keep_alive);
    assert!(accepted(get_with("Connection: keep-alive\r\n")).0.keep_alive);
    assert!(accepted(get_with("Connection: closed\r\n")).0.keep_alive);
    for fields in [
        "Connection: close\r\n",
        "Connection: Close\r\n",
        "Connection: x,close\r\n",
        "Connection: ,, close ,\r\n",
        "Connection: keep-alive\r\nConnection: close\r\n",
        "Connection: close\r\nConnection: keep-alive\r\n",
    ] {
        assert!(!accepted(get_with(fields)).0.keep_alive, "{fields:?}");
    }
}

#[test]
fn http_1_0_closes_unless_keep_alive_is_asked_for() {
    let keep_alive =
        |fields: &str| accepted(format!("GET / HTTP/1.0\r\n{fields}\r\n")).0.keep_alive;
    assert!(!keep_alive(""));
    assert!(keep_alive("Connection: Keep-Alive\r\n"));
    assert!(!keep_alive("Connection: keep-alive, close\r\n"));
    assert!(!keep_alive("Proxy-Connection: keep-alive\r\n"));
    assert!(!keep_alive("Keep-Alive: timeout=5\r\n"));
}

#[test]
fn connection_options_nominate_fields_before_and_behind_them() {
    let (_, fields) = accepted(get_with(
        "X-One: 1\r\nConnection: x-one, X-TWO\r\nx-two: 2\r\nX-Three: 3\r\nx-one: again\r\n",
    ));
    assert_eq!(
        ids(&fields),
        [
            FieldId::Host,
            FieldId::Nominated,
            FieldId::Connection,
            FieldId::Nominated,
            FieldId::Other,
            FieldId::Nominated,
        ]
    );
}

#[test]
fn several_connection_fields_all_nominate() {
    let (_, fields) = accepted(get_with(
        "Connection: close\r\nConnection: x-a\r\nConnection: x-b\r\nX-A: 1\r\nX-B: 2\r\n",
    ));
    assert_eq!(ids(&fields)[4..], [FieldId::Nominated, FieldId::Nominated]);
}

#[test]
fn framing_routing_and_client_address_fields_can_not_be_nominated_away() {
    let (head, fields) = accepted(get_with(
        "Connection: host, content-length, x-forwarded-for, x-forwarded-proto, forwarded, expect\r\n\
         Connection: x-forwarded-host, x-forwarded-port, x-request-id, connection\r\n\
         Content-Length: 3\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\n\
         Forwarded: for=x\r\nExpect: 100-continue\r\nX-Forwarded-Host: h\r\n\
         X-Forwarded-Port: 1\r\nX-Request-ID: r\r\n",
    ));
    assert_eq!(head.framing, Framing::Length(3));
    assert!(head.expect_continue);
    assert!(!ids(&fields).contains(&FieldId::Nominated), "{:?}", ids(&fields));
}

#[test]
fn user_agent_and_the_like_can_be_nominated() {
    let (_, fields) = accepted(get_with(
        "Connection: user-agent, x-real-ip, max-forwards\r\nUser-Agent: x\r\nX-Real-IP: y\r\n\
         Max-Forwards: 3\r\n",
    ));
    assert_eq!(ids(&fields)[2..], [FieldId::Nominated; 3]);
}

#[test]
fn endless_connection_options_are_refused() {
    accepted(get_with(&format!("Connection: {}\r\n", vec!["x"; 32].join(","))));
    let over = get_with(&format!("Connection: {}\r\n", vec!["x"; 33].join(",")));
    assert_eq!(refused(over), HeadError::Connection);
    let spread = get_with(&"Connection: a, b\r\n".repeat(17));
    assert_eq!(refused(spread), HeadError::Connection);
}

#[test]
fn upgrade_needs_the_connection_option_and_http_1_1() {
    let text = get_with("Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n");
    let (head, _) = accepted(&text);
    assert_eq!(head.upgrade.unwrap().of(text.as_bytes()), b"websocket");
    assert!(accepted(get_with("Upgrade: websocket\r\n")).0.upgrade.is_none());
    assert!(accepted(get_with("Connection: upgrade\r\n")).0.upgrade.is_none());
    let old = "GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert!(accepted(old).0.upgrade.is_none());
}

#[test]
fn list_members_are_trimmed_and_empty_ones_left_out() {
    let members: Vec<&[u8]> = tokens(b" a ,, b\t,c d,").collect();
    assert_eq!(members, [b"a".as_slice(), b"b", b"c d"]);
    assert_eq!(tokens(b"").count(), 0);
    assert_eq!(tokens(b" , ").count(), 0);
}
