use super::{accepted, get_with, refused};
use crate::{Framing, HeadError, Version};

fn post_with(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

#[test]
fn request_without_framing_fields_has_no_body() {
    assert_eq!(accepted(get_with("")).0.framing, Framing::Empty);
    assert_eq!(accepted(post_with("")).0.framing, Framing::Empty);
    assert_eq!(accepted("POST / HTTP/1.0\r\n\r\n").0.framing, Framing::Empty);
}

#[test]
fn content_length_frames_the_body_of_any_method() {
    for (value, length) in [
        ("0", 0),
        ("5", 5),
        ("005", 5),
        (" \t5\t ", 5),
        ("9223372036854775807", 9_223_372_036_854_775_807),
    ] {
        let text = post_with(&format!("Content-Length: {value}\r\n"));
        assert_eq!(accepted(text).0.framing, Framing::Length(length), "{value:?}");
    }
    let get = accepted(get_with("Content-Length: 7\r\n")).0;
    assert_eq!(get.framing, Framing::Length(7));
}

#[test]
fn content_length_that_is_no_plain_number_is_refused() {
    for value in [
        "",
        " ",
        "+5",
        "-5",
        "-0",
        "0x5",
        "5a",
        "a5",
        "5,5",
        "5, 5",
        "5;5",
        "5 5",
        "5.0",
        "1e3",
        "99999999999999999999",
        "18446744073709551621",
        "\u{665}",
        "5_0",
        "\"5\"",
    ] {
        let text = post_with(&format!("Content-Length: {value}\r\n"));
        assert_eq!(refused(text), HeadError::ContentLength, "{value:?}");
    }
}

#[test]
fn several_content_lengths_are_refused_even_where_they_agree() {
    let same = post_with("Content-Length: 5\r\nContent-Length: 5\r\n");
    assert_eq!(refused(same), HeadError::ContentLength);
    let differ = post_with("Content-Length: 5\r\nX: y\r\ncontent-length: 6\r\n");
    assert_eq!(refused(differ), HeadError::ContentLength);
}

#[test]
fn chunked_alone_frames_the_body() {
    for value in ["chunked", "Chunked", "CHUNKED", "\t chunked \t"] {
        let text = post_with(&format!("Transfer-Encoding: {value}\r\n"));
        assert_eq!(accepted(text).0.framing, Framing::Chunked, "{value:?}");
    }
}

#[test]
fn length_and_coding_together_are_refused_in_either_order() {
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
        "transfer-encoding: CHUNKED\r\ncontent-length: 5\r\n",
        "Transfer-Encoding: identity\r\nContent-Length: 5\r\n",
    ] {
        let error = refused(post_with(fields));
        assert_eq!((error, error.status()), (HeadError::LengthWithCoding, 400), "{fields:?}");
    }
}

#[test]
fn codings_that_do_not_end_in_one_chunked_are_refused() {
    for fields in [
        "Transfer-Encoding: \r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunkedx\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: 'chunked'\r\n",
        "Transfer-Encoding: chunked gzip\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: chunked,\r\n",
        "Transfer-Encoding: ,\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
        "Transfer-Encoding: chunked\u{a0}\r\n",
    ] {
        let error = refused(post_with(fields));
        assert_eq!((error, error.status()), (HeadError::Coding, 400), "{fields:?}");
    }
}

#[test]
fn other_codings_before_chunked_are_answered_with_501() {
    for fields in [
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity, chunked\r\n",
        "Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let error = refused(post_with(fields));
        assert_eq!((error, error.status()), (HeadError::UnknownCoding, 501), "{fields:?}");
    }
}

#[test]
fn disguised_coding_fields_are_refused_not_passed_on() {
    for (fields, error) in [
        ("Transfer-Encoding : chunked\r\n", HeadError::FieldName),
        (" Transfer-Encoding: chunked\r\n", HeadError::ObsFold),
        ("X: y\r\n Transfer-Encoding: chunked\r\n", HeadError::ObsFold),
        ("Transfer-Encoding:\u{b}chunked\r\n", HeadError::FieldValue),
        ("Transfer-Encoding:\u{c}chunked\r\n", HeadError::FieldValue),
        ("Transfer-Encoding:\0chunked\r\n", HeadError::FieldValue),
        ("Transfer-Encoding: chunked\0\r\n", HeadError::FieldValue),
        ("X: y\rTransfer-Encoding: chunked\r\n", HeadError::FieldValue),
        ("X: y\nTransfer-Encoding: chunked\r\n", HeadError::BareLf),
        ("Transfer-Encoding\r\n : chunked\r\n", HeadError::FieldName),
        ("Transfer-Encoding\r\n: chunked\r\n", HeadError::FieldName),
        ("\u{a0}Transfer-Encoding: chunked\r\n", HeadError::FieldName),
        ("Content-Length\0: 5\r\n", HeadError::FieldName),
    ] {
        assert_eq!(refused(post_with(fields)), error, "{fields:?}");
    }
}

#[test]
fn transfer_encoding_in_http_1_0_is_refused() {
    let text = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(refused(text), HeadError::CodingInHttp10);
    assert_eq!(HeadError::CodingInHttp10.status(), 400);
}

#[test]
fn http_1_0_body_is_framed_by_content_length() {
    let (head, _) = accepted("POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!((head.version, head.framing), (Version::Http10, Framing::Length(3)));
}

#[test]
fn expectation_is_recognised_in_http_1_1_only() {
    assert!(accepted(post_with("Expect: 100-continue\r\n")).0.expect_continue);
    assert!(accepted(post_with("Expect: 100-Continue\r\n")).0.expect_continue);
    assert!(!accepted(post_with("Expect: something\r\n")).0.expect_continue);
    assert!(!accepted("POST / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n").0.expect_continue);
}

#[test]
fn te_trailers_is_recognised_among_other_codings() {
    assert!(accepted(get_with("TE: trailers\r\n")).0.te_trailers);
    assert!(accepted(get_with("TE: gzip;q=0.5, Trailers\r\n")).0.te_trailers);
    assert!(accepted(get_with("TE: gzip\r\nTE: trailers\r\n")).0.te_trailers);
    assert!(!accepted(get_with("TE: gzip\r\n")).0.te_trailers);
    assert!(!accepted(get_with("")).0.te_trailers);
}
