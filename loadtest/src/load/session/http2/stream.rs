//! One request and its answer.

use crate::load::session::digest::Digest;
use crate::load::session::{Received, Ticket};

/// What has come of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing, or interim answers.
    Waiting,
    /// The head; content follows.
    Content,
}

/// A request and its answer, while they are under way.
#[derive(Debug)]
pub(super) struct Stream {
    /// The operation.
    pub(super) ticket: Ticket,
    /// Whether the answer has no content by definition of the request.
    pub(super) is_head: bool,
    /// Which of the session's names is the field to note.
    pub(super) counted_name: Option<usize>,
    /// What has come of the answer.
    pub(super) phase: Phase,
    /// Interim answers so far.
    pub(super) interim: u32,
    /// What the answer was so far.
    pub(super) received: Received,
    /// What `content-length` promises.
    pub(super) promised: Option<u64>,
    /// The content's digest.
    pub(super) digest: Digest,
    /// Bytes of content for which the peer has not got its window back.
    pub(super) unreturned: i64,
    /// Bytes that may be sent.
    pub(super) window: i64,
    /// The request's content that has not been sent.
    pub(super) upload: Option<Upload>,
}

/// Content on its way out.
#[derive(Debug)]
pub(super) struct Upload {
    /// All of it.
    pub(super) body: Vec<u8>,
    /// Bytes of it that have been sent.
    pub(super) sent: usize,
}

/// The fields that matter of one block.
#[derive(Debug, Default)]
pub(super) struct Fields {
    /// `:status`.
    pub(super) status: Option<u16>,
    /// `content-length`.
    pub(super) content_length: Option<u64>,
    /// The field by which answers are counted.
    pub(super) counted: Option<Box<str>>,
    /// What is wrong with them.
    pub(super) wrong: Option<&'static str>,
}

impl Fields {
    /// Takes one field; `wanted` is the name of the one to note.
    pub(super) fn take(&mut self, name: &[u8], value: &[u8], wanted: Option<&str>) {
        if name == b":status" {
            let status = match value {
                [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9'] => digits(value),
                _ => None,
            };
            match status {
                Some(status) if self.status.is_none() => self.status = Some(status as u16),
                Some(_) => self.wrong = Some("two :status fields"),
                None => self.wrong = Some(":status is no number of three digits"),
            }
        } else if name == b"content-length" {
            let length = digits(value);
            if length.is_none() || self.content_length.is_some_and(|other| Some(other) != length) {
                self.wrong = Some("content-length is no number, or two");
            }
            self.content_length = length;
        }
        if self.counted.is_none() && wanted.is_some_and(|wanted| wanted.as_bytes() == name) {
            self.counted = Some(String::from_utf8_lossy(value).into());
        }
    }
}

/// A decimal number, and nothing but digits.
fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}
