//! HTTP/1.x heads and body framing, sans-IO.
//!
//! **What it is:** a strict reader of message heads ([`parse_request`], [`parse_response`]), of
//! trailers ([`parse_trailers`]) and of body framing ([`Decoder`]), after RFC 9112 (HTTP/1.1) and
//! RFC 9110 (HTTP semantics). What two parties could read differently is refused: see
//! [`HeadError`] and [`BodyError`] for the list with sections.
//!
//! **What it is not:** a client or server. It has no buffers of its own and does no I/O; it works
//! on the caller's bytes and answers with positions in them ([`Span`]).

#![warn(clippy::indexing_slicing)]

mod body;
mod bytes;
mod encode;
mod error;
mod field;
mod host;
mod request;
mod response;

pub use body::{Decoded, Decoder};
pub use encode::{ChunkHeader, chunk_header};
pub use error::{BodyError, HeadError};
pub use field::{Field, FieldId, Span, parse_trailers, tokens};
pub use host::{Authority, authority};
pub use request::{Method, RequestHead, Scheme, TargetForm, parse_request};
pub use response::{ResponseHead, parse_response};

/// Protocol version of a message. Minor versions above 1 are read as 1.1 (RFC 9110, 2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// How a message's body is delimited (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body at all.
    Empty,
    /// This many bytes. Never 0 in a request without Content-Length.
    Length(u64),
    /// Chunked transfer coding.
    Chunked,
    /// Responses only: all up to the connection's end.
    UntilClose,
}

/// What a head may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a whole head, or of a trailer section, with its empty line.
    pub head_bytes: usize,
    /// Bytes of a request's target.
    pub target_bytes: usize,
    /// Number of field lines.
    pub fields: usize,
}

impl Limits {
    /// The part of the buffer that a head may take up. What stands behind it is not looked at, so
    /// that a head is judged the same however much has been read with it.
    #[inline]
    fn window<'a>(&self, buf: &'a [u8]) -> &'a [u8] {
        // A `Span` has 32 bits.
        buf.get(..self.head_bytes.min(u32::MAX as usize)).unwrap_or(buf)
    }

    /// The answer where the window holds no whole head: none while more bytes can change that.
    #[inline]
    fn incomplete<T>(&self, window: &[u8]) -> Result<Option<T>, HeadError> {
        if window.len() >= self.head_bytes.min(u32::MAX as usize) {
            return Err(HeadError::TooLarge);
        }
        Ok(None)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { head_bytes: 16 * 1024, target_bytes: 8 * 1024, fields: 100 }
    }
}

#[cfg(test)]
mod tests;
