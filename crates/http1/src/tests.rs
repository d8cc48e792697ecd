//! What is read, what is refused, and that it makes no difference how the bytes arrive.

use crate::{
    Field, FieldId, HeadError, Limits, Method, RequestHead, ResponseHead, parse_request,
    parse_response,
};

mod body;
mod connection;
mod framing;
mod host;
mod incremental;
mod request;
mod response;

/// A request that reads as complete, with its fields.
#[track_caller]
fn accepted(head: impl AsRef<[u8]>) -> (RequestHead, Vec<Field>) {
    let mut fields = Vec::new();
    let head = head.as_ref();
    match parse_request(head, &Limits::default(), &mut fields) {
        Ok(Some(parsed)) => (parsed, fields),
        other => panic!("{:?} gave {other:?}", String::from_utf8_lossy(head)),
    }
}

/// Why a request is refused.
#[track_caller]
fn refused(head: impl AsRef<[u8]>) -> HeadError {
    refused_within(head, &Limits::default())
}

#[track_caller]
fn refused_within(head: impl AsRef<[u8]>, limits: &Limits) -> HeadError {
    let head = head.as_ref();
    match parse_request(head, limits, &mut Vec::new()) {
        Err(error) => error,
        other => panic!("{:?} gave {other:?}", String::from_utf8_lossy(head)),
    }
}

/// A GET to example.test with further field lines, each with its CRLF.
fn get_with(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: example.test\r\n{fields}\r\n")
}

/// A response to a request with `method` that reads as complete, with its fields.
#[track_caller]
fn answered(method: Method, head: impl AsRef<[u8]>) -> (ResponseHead, Vec<Field>) {
    let mut fields = Vec::new();
    let head = head.as_ref();
    match parse_response(head, method, &Limits::default(), &mut fields) {
        Ok(Some(parsed)) => (parsed, fields),
        other => panic!("{:?} gave {other:?}", String::from_utf8_lossy(head)),
    }
}

/// Why a response to GET is refused.
#[track_caller]
fn answer_refused(head: impl AsRef<[u8]>) -> HeadError {
    let head = head.as_ref();
    match parse_response(head, Method::Get, &Limits::default(), &mut Vec::new()) {
        Err(error) => error,
        other => panic!("{:?} gave {other:?}", String::from_utf8_lossy(head)),
    }
}

fn ids(fields: &[Field]) -> Vec<FieldId> {
    fields.iter().map(|f| f.id).collect()
}

/// Small deterministic pseudo-random numbers (xorshift64*), so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}
