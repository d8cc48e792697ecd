//! Request heads (RFC 9112, 3).

use crate::bytes::{is_target, is_token};
use crate::error::HeadError;
use crate::field::{Field, Span, interpret, line, parse_fields};
use crate::host::{Authority, authority};
use crate::{Framing, Limits, Version};

/// The request methods that forwarding distinguishes (RFC 9110, 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the variants are the names
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Patch,
    Options,
    Trace,
    Connect,
    Other,
}

impl Method {
    fn of(name: &[u8]) -> Self {
        match name {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"PATCH" => Self::Patch,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }

    /// Whether a repetition has the same effect as one request (RFC 9110, 9.2.2).
    pub fn is_idempotent(self) -> bool {
        matches!(
            self,
            Self::Get | Self::Head | Self::Put | Self::Delete | Self::Options | Self::Trace
        )
    }
}

/// The scheme of an absolute-form target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the variants are the names
pub enum Scheme {
    Http,
    Https,
}

/// The form of a target (RFC 9112, 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetForm {
    /// `/path?query`
    Origin,
    /// `http://host/path?query`
    Absolute(Scheme),
    /// `host:port`, CONNECT only
    Authority,
    /// `*`, OPTIONS only
    Asterisk,
}

/// A request's head, as positions in the buffer that it was read from.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The method as sent.
    pub method_span: Span,
    /// The version.
    pub version: Version,
    /// The target's form.
    pub form: TargetForm,
    /// The path, without query; empty where an absolute form has none (read: `/`).
    pub path: Span,
    /// Path and query as the next hop should see them; empty as above.
    pub path_and_query: Span,
    /// The host without port: from the target where that has one, else from Host. Empty in
    /// HTTP/1.0 without either.
    pub host: Span,
    /// The authority as sent, with port.
    pub authority: Span,
    /// The port in the authority.
    pub port: Option<u16>,
    /// The body.
    pub framing: Framing,
    /// Whether the client wants the connection to stay open.
    pub keep_alive: bool,
    /// The Upgrade field, where the Connection options list it too (never in HTTP/1.0).
    pub upgrade: Option<Span>,
    /// `Expect: 100-continue` in HTTP/1.1.
    pub expect_continue: bool,
    /// `TE: trailers`
    pub te_trailers: bool,
    /// Length of the head in bytes, with the empty line.
    pub len: usize,
}

/// Reads a request head at the start of `buf` into `fields`.
///
/// Answers none while it is incomplete; call again with more bytes, best when a further line has
/// ended, since reading starts over.
///
/// # Errors
/// [`HeadError`] where the head can't be read in just one way, or passes a limit; its
/// [`HeadError::status`] is the answer that the client deserves, and nothing more of the
/// connection can be read.
pub fn parse_request(
    buf: &[u8],
    limits: &Limits,
    fields: &mut Vec<Field>,
) -> Result<Option<RequestHead>, HeadError> {
    let buf = limits.window(buf);
    // RFC 9112, 2.2: an empty line before a request is ignored.
    let start = if buf.starts_with(b"\r\n") { 2 } else { 0 };
    let Some((request_line, fields_at)) = line(buf, start)? else {
        return incomplete_line(buf, start, limits);
    };
    let (method, target, version) = split_request_line(request_line, limits)?;
    let method_span = Span::new(start, start + method.len());
    let target_start = start + method.len() + 1;
    let Some(len) = parse_fields(buf, fields_at, limits, fields)? else {
        return limits.incomplete(buf);
    };
    let method = Method::of(method);
    let meaning = interpret(buf, version, fields)?;
    if meaning.hosts > 1 || (meaning.hosts == 0 && version == Version::Http11) {
        return Err(HeadError::Host);
    }
    let host = match meaning.host {
        Some(span) => Some((span, authority(span.of(buf)).ok_or(HeadError::Host)?)),
        None => None,
    };
    let target = split_target(method, target, target_start)?;
    let (authority_span, parts) = match (target.authority, host) {
        (Some((_, at, form)), Some((_, host))) if !same_authority(form, &at, &host) => {
            return Err(HeadError::HostMismatch);
        }
        (Some((span, at, _)), _) => (span, Some(at)),
        (None, Some((span, host))) => (span, Some(host)),
        (None, None) => (Span::default(), None),
    };
    let host_len = parts.map_or(0, |a| a.host.len());
    let authority_start = authority_span.start as usize;
    Ok(Some(RequestHead {
        method,
        method_span,
        version,
        form: target.form,
        path: target.path,
        path_and_query: target.path_and_query,
        host: Span::new(authority_start, authority_start + host_len),
        authority: authority_span,
        port: parts.and_then(|a| a.port),
        framing: meaning.framing().unwrap_or(Framing::Empty),
        keep_alive: meaning.persistent(version),
        upgrade: meaning.upgrade.filter(|_| meaning.upgrade_option && version == Version::Http11),
        expect_continue: meaning.expect_continue && version == Version::Http11,
        te_trailers: meaning.te_trailers,
        len,
    }))
}

/// A request line that has not ended: refused as soon as it can't become valid.
fn incomplete_line<T>(buf: &[u8], start: usize, limits: &Limits) -> Result<Option<T>, HeadError> {
    let rest = buf.get(start..).unwrap_or_default();
    if rest.first().is_some_and(|&b| !is_token(b) && b != b'\r') {
        return Err(HeadError::Method);
    }
    // "VERSION" and a method of fair length beside the target.
    if rest.len() > limits.target_bytes + 64 {
        return Err(HeadError::TargetTooLong);
    }
    limits.incomplete(buf)
}

fn split_request_line<'a>(
    line: &'a [u8],
    limits: &Limits,
) -> Result<(&'a [u8], &'a [u8], Version), HeadError> {
    let method_len = line.iter().position(|&b| !is_token(b)).ok_or(HeadError::RequestLine)?;
    let (method, rest) = line.split_at_checked(method_len).ok_or(HeadError::RequestLine)?;
    if method.is_empty() || method.len() > 32 {
        return Err(HeadError::Method);
    }
    let [b' ', rest @ ..] = rest else { return Err(HeadError::Method) };
    let space = memchr::memchr(b' ', rest).ok_or(HeadError::RequestLine)?;
    let (target, version) = rest.split_at_checked(space).ok_or(HeadError::RequestLine)?;
    if target.len() > limits.target_bytes {
        return Err(HeadError::TargetTooLong);
    }
    if target.is_empty() || !is_target(target) {
        return Err(HeadError::Target);
    }
    let version = match version {
        b" HTTP/1.1" => Version::Http11,
        b" HTTP/1.0" => Version::Http10,
        [b' ', b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor] if minor.is_ascii_digit() => {
            Version::Http11
        }
        [b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(HeadError::Version);
        }
        _ => return Err(HeadError::RequestLine),
    };
    Ok((method, target, version))
}

struct Target<'a> {
    form: TargetForm,
    path: Span,
    path_and_query: Span,
    authority: Option<(Span, Authority<'a>, TargetForm)>,
}

fn split_target(method: Method, target: &[u8], at: usize) -> Result<Target<'_>, HeadError> {
    let end = at + target.len();
    if method == Method::Connect {
        let parts = authority(target).filter(|a| a.port.is_some()).ok_or(HeadError::Target)?;
        return Ok(Target {
            form: TargetForm::Authority,
            path: Span::new(end, end),
            path_and_query: Span::new(end, end),
            authority: Some((Span::new(at, end), parts, TargetForm::Authority)),
        });
    }
    match target {
        [b'/', ..] => {
            let path_len = memchr::memchr(b'?', target).unwrap_or(target.len());
            Ok(Target {
                form: TargetForm::Origin,
                path: Span::new(at, at + path_len),
                path_and_query: Span::new(at, end),
                authority: None,
            })
        }
        b"*" if method == Method::Options => Ok(Target {
            form: TargetForm::Asterisk,
            path: Span::new(at, end),
            path_and_query: Span::new(at, end),
            authority: None,
        }),
        _ => split_absolute(target, at),
    }
}

fn split_absolute(target: &[u8], at: usize) -> Result<Target<'_>, HeadError> {
    let scheme_end =
        target.windows(3).take(9).position(|w| w == b"://").ok_or(HeadError::Target)?;
    let scheme = match target.get(..scheme_end) {
        Some(s) if s.eq_ignore_ascii_case(b"http") => Scheme::Http,
        Some(s) if s.eq_ignore_ascii_case(b"https") => Scheme::Https,
        _ => return Err(HeadError::Target),
    };
    let rest = target.get(scheme_end + 3..).unwrap_or_default();
    let authority_len = rest.iter().position(|&b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
    let value = rest.get(..authority_len).unwrap_or_default();
    let parts = authority(value).ok_or(HeadError::Target)?;
    let authority_at = at + scheme_end + 3;
    let path_at = authority_at + authority_len;
    let behind = rest.get(authority_len..).unwrap_or_default();
    let path_len = memchr::memchr(b'?', behind).unwrap_or(behind.len());
    let form = TargetForm::Absolute(scheme);
    Ok(Target {
        form,
        path: Span::new(path_at, path_at + path_len),
        path_and_query: Span::new(path_at, path_at + behind.len()),
        authority: Some((Span::new(authority_at, path_at), parts, form)),
    })
}

/// Whether target and Host name the same authority, default ports counted in.
fn same_authority(form: TargetForm, target: &Authority<'_>, host: &Authority<'_>) -> bool {
    let default = match form {
        TargetForm::Absolute(Scheme::Http) => Some(80),
        TargetForm::Absolute(Scheme::Https) => Some(443),
        _ => None,
    };
    target.host.eq_ignore_ascii_case(host.host)
        && (target.port.or(default) == host.port.or(default))
}
