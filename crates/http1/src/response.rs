//! Response heads (RFC 9112, 4).

use crate::bytes::is_field_value;
use crate::error::HeadError;
use crate::field::{Field, Span, interpret, line, parse_fields};
use crate::request::Method;
use crate::{Framing, Limits, Version};

/// A response's head, as positions in the buffer that it was read from.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead {
    /// The status code, 100 to 999.
    pub status: u16,
    /// The reason phrase, which may be empty.
    pub reason: Span,
    /// The version.
    pub version: Version,
    /// The body, given the request's method.
    pub framing: Framing,
    /// Content-Length as sent: also where no body follows, as after HEAD.
    pub content_length: Option<u64>,
    /// Whether the sender keeps the connection open.
    pub keep_alive: bool,
    /// The Upgrade field, where the Connection options list it too.
    pub upgrade: Option<Span>,
    /// Length of the head in bytes, with the empty line.
    pub len: usize,
}

/// Reads the head of a response to a request with `method` at the start of `buf`.
///
/// Answers none while it is incomplete.
///
/// # Errors
/// [`HeadError`] where the head can't be read in just one way, or passes a limit.
pub fn parse_response(
    buf: &[u8],
    method: Method,
    limits: &Limits,
    fields: &mut Vec<Field>,
) -> Result<Option<ResponseHead>, HeadError> {
    let buf = limits.window(buf);
    let Some((status_line, fields_at)) = line(buf, 0)? else {
        return limits.incomplete(buf);
    };
    let (version, status, reason_len) = split_status_line(status_line)?;
    let reason_end = fields_at - 2;
    let Some(len) = parse_fields(buf, fields_at, limits, fields)? else {
        return limits.incomplete(buf);
    };
    let meaning = interpret(buf, version, fields)?;
    // RFC 9112, 6.1: neither has a place in a response that ends with its head.
    if meaning.chunked && (status < 200 || status == 204) {
        return Err(HeadError::Coding);
    }
    let bodiless = method == Method::Head || status < 200 || matches!(status, 204 | 304);
    let framing =
        if bodiless { Framing::Empty } else { meaning.framing().unwrap_or(Framing::UntilClose) };
    Ok(Some(ResponseHead {
        status,
        reason: Span::new(reason_end - reason_len, reason_end),
        version,
        framing,
        content_length: meaning.length,
        keep_alive: meaning.persistent(version),
        upgrade: meaning.upgrade.filter(|_| meaning.upgrade_option),
        len,
    }))
}

/// Version, status code and the reason's length.
fn split_status_line(line: &[u8]) -> Result<(Version, u16, usize), HeadError> {
    let (version, rest) = line.split_at_checked(8).ok_or(HeadError::StatusLine)?;
    let version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor] if minor.is_ascii_digit() => {
            Version::Http11
        }
        [b'H', b'T', b'T', b'P', b'/', ..] => return Err(HeadError::Version),
        _ => return Err(HeadError::StatusLine),
    };
    let [b' ', a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', reason @ ..] = rest else {
        return Err(HeadError::StatusLine);
    };
    let status = [a, b, c].iter().fold(0u16, |n, d| n * 10 + u16::from(**d - b'0'));
    match reason {
        // Some senders leave out the space before an empty reason.
        [] => Ok((version, status, 0)),
        [b' ', reason @ ..] if is_field_value(reason) => Ok((version, status, reason.len())),
        _ => Err(HeadError::StatusLine),
    }
}
