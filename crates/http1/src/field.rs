//! Field lines: reading, and knowing the few names that framing and forwarding depend on.

use crate::bytes::{is_field_value, is_token, trim};
use crate::error::HeadError;
use crate::{Framing, Limits, Version};

/// A range of the caller's buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Offset behind the last byte.
    pub end: u32,
}

impl Span {
    pub(crate) fn new(start: usize, end: usize) -> Self {
        // `Limits::window` keeps every offset below 4 GiB.
        Self { start: start as u32, end: end as u32 }
    }

    /// The bytes in the buffer that was parsed; empty in a shorter one.
    #[inline]
    pub fn of(self, buf: &[u8]) -> &[u8] {
        buf.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// Length in bytes.
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether there is nothing in it.
    pub fn is_empty(self) -> bool {
        self.end == self.start
    }
}

/// Names that forwarding treats specially; all others are [`FieldId::Other`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the variants are the names
pub enum FieldId {
    Other,
    Connection,
    ContentLength,
    Date,
    Expect,
    Forwarded,
    Host,
    Http2Settings,
    KeepAlive,
    MaxForwards,
    ProxyConnection,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    UserAgent,
    XForwardedFor,
    XForwardedHost,
    XForwardedPort,
    XForwardedProto,
    XRealIp,
    XRequestId,
    /// Named by a Connection option, so meant for this hop only (RFC 9110, 7.6.1).
    Nominated,
    /// One of the names above with underscores for hyphens: servers that put fields into
    /// variables can't tell the two apart (RFC 3875, 4.1.18).
    Alias,
}

impl FieldId {
    #[inline]
    fn of(name: &[u8]) -> Self {
        let (candidate, id): (&[u8], Self) = match name.len() {
            2 => (b"te", Self::Te),
            4 if matches!(name.first(), Some(b'd' | b'D')) => (b"date", Self::Date),
            4 => (b"host", Self::Host),
            6 => (b"expect", Self::Expect),
            7 if matches!(name.first(), Some(b't' | b'T')) => (b"trailer", Self::Trailer),
            7 => (b"upgrade", Self::Upgrade),
            9 if matches!(name.first(), Some(b'x' | b'X')) => (b"x-real-ip", Self::XRealIp),
            9 => (b"forwarded", Self::Forwarded),
            10 if matches!(name.first(), Some(b'c' | b'C')) => (b"connection", Self::Connection),
            10 if matches!(name.first(), Some(b'k' | b'K')) => (b"keep-alive", Self::KeepAlive),
            10 => (b"user-agent", Self::UserAgent),
            12 if matches!(name.first(), Some(b'm' | b'M')) => (b"max-forwards", Self::MaxForwards),
            12 => (b"x-request-id", Self::XRequestId),
            14 if matches!(name.first(), Some(b'h' | b'H')) => {
                (b"http2-settings", Self::Http2Settings)
            }
            14 => (b"content-length", Self::ContentLength),
            15 => (b"x-forwarded-for", Self::XForwardedFor),
            16 if matches!(name.first(), Some(b'p' | b'P')) => {
                (b"proxy-connection", Self::ProxyConnection)
            }
            16 if matches!(name.last(), Some(b't' | b'T'))
                && matches!(name.get(12), Some(b'h' | b'H')) =>
            {
                (b"x-forwarded-host", Self::XForwardedHost)
            }
            16 => (b"x-forwarded-port", Self::XForwardedPort),
            17 if matches!(name.first(), Some(b't' | b'T')) => {
                (b"transfer-encoding", Self::TransferEncoding)
            }
            17 => (b"x-forwarded-proto", Self::XForwardedProto),
            _ => return Self::Other,
        };
        if name.eq_ignore_ascii_case(candidate) {
            id
        } else if is_alias(name, candidate) {
            Self::Alias
        } else {
            Self::Other
        }
    }
}

fn is_alias(name: &[u8], candidate: &[u8]) -> bool {
    name.iter()
        .zip(candidate)
        .all(|(&b, &c)| b.to_ascii_lowercase() == c || (b == b'_' && c == b'-'))
}

/// One field line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Which one, where it matters.
    pub id: FieldId,
    /// The name as sent.
    pub name: Span,
    /// The value without white space around it.
    pub value: Span,
}

/// What the fields of a head mean for its connection and body.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Meaning {
    pub(crate) length: Option<u64>,
    pub(crate) chunked: bool,
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    pub(crate) upgrade_option: bool,
    pub(crate) upgrade: Option<Span>,
    pub(crate) expect_continue: bool,
    pub(crate) te_trailers: bool,
    pub(crate) host: Option<Span>,
    pub(crate) hosts: u32,
}

/// The most Connection options that are read.
const CONNECTION_OPTIONS: usize = 32;

/// Reads the field lines that start at `start`, up to and with the empty line.
///
/// Answers the offset behind the empty line, or none while it isn't there.
pub(crate) fn parse_fields(
    buf: &[u8],
    start: usize,
    limits: &Limits,
    fields: &mut Vec<Field>,
) -> Result<Option<usize>, HeadError> {
    fields.clear();
    let mut at = start;
    loop {
        let Some((line, next)) = line(buf, at)? else { return Ok(None) };
        match line {
            [] => return Ok(Some(next)),
            [b' ' | b'\t', ..] => return Err(HeadError::ObsFold),
            _ => {}
        }
        if fields.len() >= limits.fields {
            return Err(HeadError::TooManyFields);
        }
        let colon = line.iter().position(|&b| !is_token(b)).ok_or(HeadError::FieldName)?;
        let (name, rest) = line.split_at_checked(colon).ok_or(HeadError::FieldName)?;
        let [b':', raw @ ..] = rest else { return Err(HeadError::FieldName) };
        if name.is_empty() {
            return Err(HeadError::FieldName);
        }
        let value = trim(raw);
        if !is_field_value(value) {
            return Err(HeadError::FieldValue);
        }
        let lead = raw.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
        let value_start = at + colon + 1 + lead;
        fields.push(Field {
            id: FieldId::of(name),
            name: Span::new(at, at + colon),
            value: Span::new(value_start, value_start + value.len()),
        });
        at = next;
    }
}

/// The line at `at` without its CRLF, and the offset behind it; none while it is incomplete.
#[inline]
pub(crate) fn line(buf: &[u8], at: usize) -> Result<Option<(&[u8], usize)>, HeadError> {
    let rest = buf.get(at..).unwrap_or_default();
    let Some(lf) = memchr::memchr(b'\n', rest) else { return Ok(None) };
    match rest.get(..lf) {
        Some([line @ .., b'\r']) => Ok(Some((line, at + lf + 1))),
        _ => Err(HeadError::BareLf),
    }
}

/// Draws the meaning for framing and connection out of the fields, and marks those that the
/// Connection options nominate.
pub(crate) fn interpret(
    buf: &[u8],
    version: Version,
    fields: &mut [Field],
) -> Result<Meaning, HeadError> {
    let mut meaning = Meaning::default();
    let mut codings = 0u32;
    let mut other_coding = false;
    let mut last_is_chunked = false;
    let mut nominated = 0usize;
    for field in fields.iter() {
        match field.id {
            FieldId::ContentLength => {
                if meaning.length.is_some() {
                    return Err(HeadError::ContentLength);
                }
                let length = crate::bytes::decimal(field.value.of(buf));
                meaning.length = Some(length.ok_or(HeadError::ContentLength)?);
            }
            FieldId::TransferEncoding => {
                for coding in field.value.of(buf).split(|&b| b == b',').map(trim) {
                    codings += 1;
                    last_is_chunked = coding.eq_ignore_ascii_case(b"chunked");
                    other_coding |= !last_is_chunked;
                }
            }
            FieldId::Connection => {
                for option in tokens(field.value.of(buf)) {
                    nominated += 1;
                    if nominated > CONNECTION_OPTIONS {
                        return Err(HeadError::Connection);
                    }
                    match option.len() {
                        5 if option.eq_ignore_ascii_case(b"close") => meaning.close = true,
                        7 if option.eq_ignore_ascii_case(b"upgrade") => {
                            meaning.upgrade_option = true;
                        }
                        10 if option.eq_ignore_ascii_case(b"keep-alive") => {
                            meaning.keep_alive = true;
                        }
                        _ => {}
                    }
                }
            }
            FieldId::Host => {
                meaning.hosts += 1;
                meaning.host = Some(field.value);
            }
            FieldId::Upgrade => meaning.upgrade = Some(field.value),
            FieldId::Expect => {
                meaning.expect_continue |=
                    field.value.of(buf).eq_ignore_ascii_case(b"100-continue");
            }
            FieldId::Te => {
                meaning.te_trailers |=
                    tokens(field.value.of(buf)).any(|t| t.eq_ignore_ascii_case(b"trailers"));
            }
            _ => {}
        }
    }
    if codings > 0 {
        if meaning.length.is_some() {
            return Err(HeadError::LengthWithCoding);
        }
        if version == Version::Http10 {
            return Err(HeadError::CodingInHttp10);
        }
        meaning.chunked = last_is_chunked && codings == 1;
        if !meaning.chunked {
            let one_chunked_last = last_is_chunked && other_coding;
            return Err(if one_chunked_last {
                HeadError::UnknownCoding
            } else {
                HeadError::Coding
            });
        }
    }
    if nominated > 0 {
        nominate(buf, fields);
    }
    Ok(meaning)
}

impl Meaning {
    /// A body's framing where the fields alone decide.
    pub(crate) fn framing(&self) -> Option<Framing> {
        match (self.chunked, self.length) {
            (true, _) => Some(Framing::Chunked),
            (false, Some(length)) => Some(Framing::Length(length)),
            (false, None) => None,
        }
    }

    /// Whether the connection stays open behind this message.
    pub(crate) fn persistent(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }
}

/// Marks fields that a Connection option names. Fields that forwarding knows keep their own
/// meaning: framing, Host and the like can't be taken away this way.
fn nominate(buf: &[u8], fields: &mut [Field]) {
    for i in 0..fields.len() {
        let Some(Field { id: FieldId::Connection, value, .. }) = fields.get(i).copied() else {
            continue;
        };
        for option in tokens(value.of(buf)) {
            for field in fields.iter_mut() {
                let may = matches!(
                    field.id,
                    FieldId::Other | FieldId::UserAgent | FieldId::XRealIp | FieldId::MaxForwards
                );
                if may && field.name.of(buf).eq_ignore_ascii_case(option) {
                    field.id = FieldId::Nominated;
                }
            }
        }
    }
}

/// The non-empty members of a comma-separated list (RFC 9110, 5.6.1).
pub fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(trim).filter(|t| !t.is_empty())
}

/// Reads a trailer section (RFC 9112, 7.1.2) at the start of `buf`.
///
/// Answers its length with the closing empty line, or none while it is incomplete.
///
/// # Errors
/// As for a head's fields; [`HeadError::TooLarge`] once the limit is reached without an end.
pub fn parse_trailers(
    buf: &[u8],
    limits: &Limits,
    fields: &mut Vec<Field>,
) -> Result<Option<usize>, HeadError> {
    let buf = limits.window(buf);
    match parse_fields(buf, 0, limits, fields)? {
        None => limits.incomplete(buf),
        end => Ok(end),
    }
}
