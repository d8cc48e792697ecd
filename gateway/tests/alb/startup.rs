//! What keeps the gateway from starting is said on stderr, with what to do.

use testkit::{Backend, FifoReader, Gateway, eventually};

use crate::{builder, everything_to};

/// The log of a gateway that must not start.
#[track_caller]
fn refusal(mut gateway: Gateway) -> String {
    let status = gateway.wait();
    assert!(!status.success(), "it ended as if all were well");
    gateway.stderr()
}

#[test]
fn a_plane_without_what_it_needs_can_not_be_enabled() {
    let error = refusal(builder().config("l4: {enabled: true}").spawn());
    assert!(error.contains("l4.interfaces"), "{error}");
}

#[test]
fn unknown_key_is_named() {
    let error = refusal(builder().alb("timeouts: {headd: 1s}").spawn());
    assert!(error.contains("headd"), "{error}");
}

#[test]
fn value_out_of_range_is_named_with_its_key() {
    for (yaml, key) in [
        ("limits: {headBytes: 100}", "headBytes"),
        ("timeouts: {head: soon}", "head"),
        ("trustedProxies: [10.0.0.0/33]", "trustedProxies"),
        ("defaultCertificate: no-namespace", "defaultCertificate"),
    ] {
        let error = refusal(builder().alb(yaml).spawn());
        assert!(error.contains(key), "{yaml}: {error}");
    }
}

#[test]
fn connections_beyond_the_limit_are_closed_and_room_is_made_again() {
    let backend = Backend::named("x");
    let gateway = builder()
        .workers(1)
        .alb("limits: {connections: 2}")
        .manifest("all.yaml", everything_to(&[&backend]))
        .start();
    let (mut one, mut two) = (gateway.client(), gateway.client());
    assert_eq!(one.get("a.test", "/").text(), "x");
    assert_eq!(two.get("a.test", "/").text(), "x");
    let mut three = gateway.client();
    let (answer, _) = three.read_to_end();
    assert_eq!(answer, b"");
    assert_eq!(two.get("a.test", "/").text(), "x");
    drop(one);
    eventually("there is room again", || {
        let mut client = gateway.client();
        client.try_send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").ok()?;
        client.try_response_to("GET").ok()
    });
}

#[test]
fn access_log_that_nobody_can_read_is_an_error_with_key_and_value() {
    let error = refusal(builder().log_to_fifo(FifoReader::Missing).spawn());
    assert!(error.contains("accessLog.path") && error.contains("access.log"), "{error}");
}
