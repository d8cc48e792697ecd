//! Writing response heads, the endpoints' and the gateway's own.

use std::io::Write;

use http1::{Field, FieldId, Framing, ResponseHead, Version};

use super::buffer::Buf;
use super::date;

/// An answer that the gateway gives itself.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) location: Option<String>,
    /// For the log, where it is the gateway's or the cluster's fault.
    pub(crate) error: &'static str,
}

impl Answer {
    pub(crate) fn status(status: u16) -> Self {
        Self { status, location: None, error: "" }
    }

    pub(crate) fn failed(status: u16, error: &'static str) -> Self {
        Self { status, location: None, error }
    }

    pub(crate) fn redirect(status: u16, location: String) -> Self {
        Self { status, location: Some(location), error: "" }
    }
}

/// How a response goes on to the client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Onward {
    /// The client's version.
    pub(crate) version: Version,
    /// The body leaves in chunks.
    pub(crate) chunked: bool,
    /// The connection stays open behind it.
    pub(crate) keep_alive: bool,
}

/// Writes an endpoint's head for the client: the status line and all fields but those of the hop.
pub(crate) fn write_head(
    buf: &[u8],
    head: &ResponseHead,
    fields: &[Field],
    onward: Onward,
    out: &mut Buf,
) {
    out.reserve(head.len + 128);
    put_status_line(buf, head, out);
    let upgrade = head.status == 101;
    let mut has_date = head.status < 200;
    let mut run: Option<usize> = None;
    for field in fields {
        has_date |= field.id == FieldId::Date;
        let keep = match field.id {
            FieldId::Connection
            | FieldId::KeepAlive
            | FieldId::ProxyConnection
            | FieldId::TransferEncoding
            | FieldId::Te
            | FieldId::Http2Settings
            | FieldId::Nominated => false,
            FieldId::Upgrade => upgrade,
            // RFC 9110, 8.6: not where no body can follow, whatever the method.
            FieldId::ContentLength => head.status >= 200 && head.status != 204,
            _ => true,
        };
        if keep {
            run.get_or_insert(field.name.start as usize);
        } else if let Some(from) = run.take() {
            out.put(&buf[from..field.name.start as usize]);
        }
    }
    if let Some(from) = run {
        // Up to the empty line.
        out.put(&buf[from..head.len - 2]);
    }
    if !has_date {
        date::with_header(|line| out.put(line));
    }
    if onward.chunked {
        out.put(b"Transfer-Encoding: chunked\r\n");
    }
    if upgrade {
        out.put(b"Connection: Upgrade\r\n");
    } else if head.status >= 200 {
        put_connection(onward, out);
    }
    out.put(b"\r\n");
}

fn put_status_line(buf: &[u8], head: &ResponseHead, out: &mut Buf) {
    out.put(b"HTTP/1.1 ");
    out.put(&digits(head.status));
    out.put(b" ");
    out.put(head.reason.of(buf));
    out.put(b"\r\n");
}

fn digits(status: u16) -> [u8; 3] {
    [100, 10, 1].map(|unit| b'0' + (status / unit % 10) as u8)
}

fn put_connection(onward: Onward, out: &mut Buf) {
    match (onward.keep_alive, onward.version) {
        (false, _) => out.put(b"Connection: close\r\n"),
        (true, Version::Http10) => out.put(b"Connection: keep-alive\r\n"),
        (true, Version::Http11) => {}
    }
}

/// Writes one of the gateway's own answers, body included. Answers the body's length.
pub(crate) fn write_answer(answer: &Answer, onward: Onward, is_head: bool, out: &mut Buf) -> u64 {
    let reason = reason(answer.status);
    out.put(b"HTTP/1.1 ");
    out.put(&digits(answer.status));
    out.put(b" ");
    out.put(reason.as_bytes());
    out.put(b"\r\n");
    date::with_header(|line| out.put(line));
    if let Some(location) = &answer.location {
        out.put(b"Location: ");
        out.put(location.as_bytes());
        out.put(b"\r\n");
    }
    match answer.status {
        405 => out.put(b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"),
        503 => out.put(b"Retry-After: 1\r\n"),
        _ => {}
    }
    let mut body = [0u8; 64];
    let len = if answer.status == 204 {
        0
    } else {
        let mut rest = &mut body[..];
        // The longest reason leaves room.
        let _ = writeln!(rest, "{} {reason}", answer.status);
        64 - rest.len()
    };
    if answer.status != 204 {
        let mut line = [0u8; 96];
        let mut rest = &mut line[..];
        let _ =
            write!(rest, "Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len}\r\n");
        let left = rest.len();
        out.put(&line[..96 - left]);
    }
    put_connection(onward, out);
    out.put(b"\r\n");
    if is_head {
        return 0;
    }
    out.put(&body[..len]);
    len as u64
}

/// How a response's body leaves, given how it comes.
pub(crate) fn onward_framing(framing: Framing, version: Version) -> (bool, bool) {
    let unbounded = matches!(framing, Framing::Chunked | Framing::UntilClose);
    let chunked = unbounded && version == Version::Http11;
    // Without chunks only the connection's end can tell where the body ends.
    (chunked, unbounded && !chunked)
}

/// The standard reason phrase (RFC 9110, 15) of the statuses that the gateway itself sends.
fn reason(status: u16) -> &'static str {
    match status {
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}
